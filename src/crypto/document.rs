//! Sealed values in documents. Version 1 of the envelope is base64 of magic and version (4 bytes), key id
//! (8), salt (16), nonce (12), text, tag (16); version 2 is in `recipient.rs`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput, KeyInit, Update};
use zeroize::Zeroizing;

use crate::model::{Key, Plaintext};

use super::aead::{self, NONCE, TAG};
use super::derive::expand;
use super::master::KeyId;
use super::recipient;

/// Bytes of magic and version.
pub(super) const MAGIC_BYTES: usize = 4;
/// `sfs` and the version of the envelope.
const MAGIC: [u8; MAGIC_BYTES] = *b"sfs\x01";
/// Bytes of a key id, which follows in every version.
pub(super) const KEY_ID: usize = 8;
const SALT: usize = 16;
const HEADER: usize = MAGIC_BYTES + KEY_ID + SALT;
/// Bytes of an envelope around an empty value.
const OVERHEAD: usize = HEADER + NONCE + TAG;
/// Upstream's values are a 16-byte IV and at least one 16-byte block of AES-CBC.
const BLOCK: usize = 16;

/// A value as it stands in a document with `encrypted: true`: base64 of an envelope that can be
/// opened only with the key that sealed it, and only under the name that it was sealed for.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedValue(Vec<u8>);

/// Why a text is not a sealed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedValueError {
    /// Not base64.
    #[error("the sealed value is not base64; seal it with `secretfs encrypt`")]
    NotBase64,
    /// It has the form of what upstream's own tool writes.
    #[error(
        "the value was encrypted by upstream's own tool; turn the file into a sealed one with `secretfs convert`"
    )]
    Upstream,
    /// The envelope is of a version that is not known here.
    #[error(
        "the sealed value has version {0} of the envelope, which this version of secretfs does not know; use the version that sealed it"
    )]
    UnknownVersion(u8),
    /// It is not an envelope, or cut off.
    #[error(
        "the sealed value is not an envelope of secretfs, or is cut off; seal it with `secretfs encrypt`"
    )]
    Malformed,
}

impl SealedValue {
    /// Checks the form of a sealed value. Needs no key.
    ///
    /// # Errors
    /// The text is not one; what upstream's own tool wrote is told apart.
    pub fn parse(text: &str) -> Result<Self, SealedValueError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| SealedValueError::NotBase64)?;
        let whole = |overhead| bytes.len() >= overhead;
        match bytes.first_chunk() {
            Some(&MAGIC) if whole(OVERHEAD) => Ok(Self(bytes)),
            Some(&recipient::MAGIC) if whole(recipient::OVERHEAD) => Ok(Self(bytes)),
            Some(&MAGIC | &recipient::MAGIC) => Err(SealedValueError::Malformed),
            Some(&[b's', b'f', b's', version]) => Err(SealedValueError::UnknownVersion(version)),
            _ if bytes.len() >= 2 * BLOCK && bytes.len() % BLOCK == 0 => {
                Err(SealedValueError::Upstream)
            }
            _ => Err(SealedValueError::Malformed),
        }
    }

    /// An envelope that was just made.
    pub(super) fn from_parts(parts: &[&[u8]]) -> Self {
        Self(parts.concat())
    }

    /// How long the text of a value of `size` bytes that the daemon sealed is, in bytes.
    pub fn text_length(size: usize) -> usize {
        (OVERHEAD + size).div_ceil(3) * 4
    }

    /// The id of the encryption key that opens it: the one that sealed it, or the one whose recipient
    /// it is sealed for.
    pub fn key_id(&self) -> KeyId {
        let id = self.0[MAGIC_BYTES..].first_chunk();
        KeyId(*id.expect("the length was checked when it was parsed"))
    }

    /// Whether it was sealed for a recipient, with the public key alone.
    pub fn is_for_recipient(&self) -> bool {
        self.0.starts_with(&recipient::MAGIC)
    }

    /// The bytes of the envelope.
    pub(super) fn envelope(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SealedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(&self.0))
    }
}

/// The randomness of many sealed values: with the same seed the same value under the same name gives
/// the same envelope, any other value or name one with a salt and a nonce of its own. So a text that
/// holds sealed values can be made again piece by piece, and no nonce is used for two messages.
pub struct SealingSeed([u8; 32]);

impl SealingSeed {
    /// A seed that nobody has had.
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        aead::random(&mut bytes);
        Self(bytes)
    }

    fn salt_and_nonce(&self, name: &Key, value: &Plaintext) -> [u8; SALT + NONCE] {
        let mut mac = <Blake2sMac256 as KeyInit>::new(&self.0.into());
        mac.update(&(name.as_str().len() as u64).to_be_bytes());
        mac.update(name.as_str().as_bytes());
        mac.update(value.expose());
        let digest: [u8; 32] = mac.finalize_fixed().into();
        *digest.first_chunk().expect("28 of 32 bytes")
    }
}

pub(super) fn seal(key: &[u8; 32], id: KeyId, name: &Key, value: &Plaintext) -> SealedValue {
    let mut random = [0; SALT + NONCE];
    aead::random(&mut random);
    seal_with(random, key, id, name, value)
}

pub(super) fn seal_seeded(
    seed: &SealingSeed,
    key: &[u8; 32],
    id: KeyId,
    name: &Key,
    value: &Plaintext,
) -> SealedValue {
    seal_with(seed.salt_and_nonce(name, value), key, id, name, value)
}

fn seal_with(
    random: [u8; SALT + NONCE],
    key: &[u8; 32],
    id: KeyId,
    name: &Key,
    value: &Plaintext,
) -> SealedValue {
    let (salt, nonce) = random.split_first_chunk::<SALT>().expect("it is longer");
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&MAGIC);
    header[4..12].copy_from_slice(&id.0);
    header[12..].copy_from_slice(salt);
    let key = message_key(key, &header);
    let nonce = nonce.try_into().expect("the rest is the nonce");
    let name = name.as_str().as_bytes();
    SealedValue(aead::seal_with(nonce, &key, &header, name, value.expose()))
}

/// The plaintext of an envelope of version 1; none if anything about it was changed.
pub(super) fn open(key: &[u8; 32], name: &Key, envelope: &[u8]) -> Option<Plaintext> {
    let key = message_key(key, envelope.get(..HEADER)?);
    aead::open(&key, HEADER, name.as_str().as_bytes(), envelope)
}

/// Each envelope has a key of its own, from its random salt.
fn message_key(key: &[u8; 32], header: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut derived = Zeroizing::new([0; 32]);
    let info = [&b"secretfs v1 envelope "[..], &header[HEADER - SALT..]].concat();
    expand(key, &info, &mut derived[..]);
    derived
}
