//! A key for each purpose.

use hkdf::Hkdf;
use sha2::Sha256;

use super::locked::KeyBytes;

/// What a derived key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Records in the store.
    Records,
    /// Sealed values in documents.
    Documents,
    /// The chain of the audit log.
    Audit,
    /// Names in indexes outside the store.
    Index,
}

impl Purpose {
    fn info(self) -> &'static [u8] {
        match self {
            Self::Records => b"secretfs v1 records",
            Self::Documents => b"secretfs v1 documents",
            Self::Audit => b"secretfs v1 audit",
            Self::Index => b"secretfs v1 index",
        }
    }
}

pub(super) fn derive(master: &[u8; 32], purpose: Purpose) -> KeyBytes {
    let mut key = KeyBytes::zeros();
    expand(master, purpose.info(), &mut key[..]);
    key
}

/// The id of a key: tells keys apart, tells nothing of the key.
pub(super) fn key_id(master: &[u8; 32]) -> [u8; 8] {
    let mut id = [0; 8];
    expand(master, b"secretfs v1 key id", &mut id);
    id
}

pub(super) fn expand(input: &[u8], info: &[u8], output: &mut [u8]) {
    Hkdf::<Sha256>::new(None, input).expand(info, output).expect("32 bytes are a valid length");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Computed with Python's `hmac`: `prk = HMAC(b"\0" * 32, master)`,
    /// `key = HMAC(prk, info + b"\x01")`.
    #[test]
    fn follows_the_documented_derivation() {
        let master: [u8; 32] = std::array::from_fn(|index| index as u8);
        for (purpose, expected) in [
            (Purpose::Records, "68584bf3ce08294d7e1fe6bafea0e261a609792962fb9fb05dd031938a3e4f67"),
            (
                Purpose::Documents,
                "d8c377e0d2a94dd957628f62cc47f035d749df20d18414510239667b6c9f077d",
            ),
            (Purpose::Audit, "cabf536ee2ce557db680e1f4169bf6f5f2c3c600ba7fc82b64f3a18b4acc8cea"),
            (Purpose::Index, "6c1710c89dc6ebb58c642b74ac18260914bb4493691ec92de4f0dd79e781ad02"),
        ] {
            assert_eq!(hex(&derive(&master, purpose)[..]), expected);
        }
        assert_eq!(hex(&key_id(&master)), "6df7e814b5b1376d");
    }
}
