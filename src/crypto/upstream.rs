//! Values that upstream's own tool encrypted.

use aes::Aes256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockDecryptMut, KeyIvInit};

use crate::model::Plaintext;

const IV: usize = 16;

/// Why upstream's value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Upstream takes keys of 32 bytes only.
    #[error(
        "upstream's tool takes encryption keys of exactly 32 bytes; give the one that it was used with"
    )]
    KeyLength,
    /// Not base64 of an IV and whole blocks.
    #[error("the value is not what upstream's tool writes; give a file that it encrypted")]
    Malformed,
    /// Another key, or damaged: AES-CBC cannot tell which.
    #[error(
        "the value does not decrypt; give the encryption key that upstream's tool was used with"
    )]
    WrongKey,
}

/// Opens base64 of a 16-byte IV and AES-256-CBC with PKCS#7 under the 32 raw bytes of `key`. This
/// scheme does not tell tampering: what it gives is to be compared with a checksum.
///
/// # Errors
/// The key has not 32 bytes, or the value does not decrypt.
pub fn open_upstream(key: &str, value: &str) -> Result<Plaintext, UpstreamError> {
    let key: &[u8; 32] = key.as_bytes().try_into().map_err(|_| UpstreamError::KeyLength)?;
    let bytes = STANDARD.decode(value.trim()).map_err(|_| UpstreamError::Malformed)?;
    let (iv, text) = bytes.split_at_checked(IV).ok_or(UpstreamError::Malformed)?;
    if text.is_empty() || text.len() % IV != 0 {
        return Err(UpstreamError::Malformed);
    }
    let iv: &[u8; IV] = iv.try_into().expect("split there");
    let mut plaintext = Plaintext::copy_of(text);
    let length = cbc::Decryptor::<Aes256>::new(key.into(), iv.into())
        .decrypt_padded_mut::<Pkcs7>(plaintext.expose_mut())
        .map_err(|_| UpstreamError::WrongKey)?
        .len();
    plaintext.resize(length);
    Ok(plaintext)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::BUILT_IN_KEY;

    const PUBLISHED: &str = "a37/KUAr4SOYi6Xw9i9T8qo3QCk8WvnzONo47jHAkwk=";

    #[test]
    fn opens_the_published_value() {
        assert_eq!(open_upstream(BUILT_IN_KEY, PUBLISHED).unwrap().expose(), b"example");
    }

    #[test]
    fn refuses_everything_else() {
        let error = |key, value| open_upstream(key, value).err();
        assert_eq!(error("short", PUBLISHED), Some(UpstreamError::KeyLength));
        assert_eq!(
            error("changeMeToSomethingSecureForFake", PUBLISHED),
            Some(UpstreamError::WrongKey)
        );
        for value in [
            "",
            "a37/",
            "!",
            "a37/KUAr4SOYi6Xw9i9T8g==",
            "a37/KUAr4SOYi6Xw9i9T8qo3QCk8WvnzONo47jHA",
        ] {
            assert_eq!(error(BUILT_IN_KEY, value), Some(UpstreamError::Malformed), "{value}");
        }
    }
}
