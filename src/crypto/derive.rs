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
    /// The private key of the recipient that others seal values for.
    Recipient,
}

impl Purpose {
    fn info(self) -> &'static [u8] {
        match self {
            Self::Records => b"secretfs v1 records",
            Self::Documents => b"secretfs v1 documents",
            Self::Audit => b"secretfs v1 audit",
            Self::Index => b"secretfs v1 index",
            Self::Recipient => b"secretfs v1 recipient",
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
