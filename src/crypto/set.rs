//! A keyed sum of a set of records, which changes with each of them at a time.
//!
//! The digest of a record is the tag that AES-256-GCM-SIV (RFC 8452) makes of it without a plaintext:
//! POLYVAL over a block with number and length and over the content, then AES. The sum of a set is the
//! exclusive or of the digests. Nobody who does not know the key learns or predicts a digest, so nobody can
//! make another set of records that has the same sum.

use aes::Aes256;
use aes::cipher::{BlockEncrypt, KeyInit};
use polyval::Polyval;
use polyval::universal_hash::UniversalHash;
use zeroize::Zeroizing;

/// The length of the key, in bytes.
pub const SET_KEY_BYTES: usize = 32;

/// The key of the digests of one set. No `Debug`.
pub struct SetKey {
    bytes: Zeroizing<[u8; SET_KEY_BYTES]>,
    hash: Polyval,
    cipher: Aes256,
}

/// The sum of a set, or the digest of one record. The sum of no record is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetSum(u128);

impl SetKey {
    /// A new key.
    pub fn random() -> Self {
        let mut bytes = [0; SET_KEY_BYTES];
        getrandom::fill(&mut bytes).expect("the kernel's random source answers once it is seeded");
        Self::from_bytes(bytes)
    }

    /// The key of these bytes.
    pub fn from_bytes(bytes: [u8; SET_KEY_BYTES]) -> Self {
        let cipher = Aes256::new(&bytes.into());
        let mut hash_key = aes::Block::default();
        cipher.encrypt_block(&mut hash_key);
        let hash = Polyval::new(&<[u8; 16]>::from(hash_key).into());
        Self { bytes: Zeroizing::new(bytes), hash, cipher }
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8; SET_KEY_BYTES] {
        &self.bytes
    }

    /// The digest of the record of that number.
    pub fn digest(&self, number: u64, content: &[u8]) -> SetSum {
        let mut first = [0; 16];
        first[..8].copy_from_slice(&number.to_be_bytes());
        first[8..].copy_from_slice(&(content.len() as u64).to_be_bytes());
        let mut hash = self.hash.clone();
        hash.update(&[first.into()]);
        hash.update_padded(content);
        let mut block = aes::Block::from(<[u8; 16]>::from(hash.finalize()));
        self.cipher.encrypt_block(&mut block);
        SetSum(u128::from_be_bytes(block.into()))
    }
}

impl SetSum {
    /// The sum of the bytes that [`SetSum::to_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// As it is stored.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The sum with this record or these records added, or without them if they were in it.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }

    /// A sum that the records do not have.
    #[must_use]
    pub fn spoiled(self) -> Self {
        Self(!self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_of_one_number_content_and_key() {
        let key = SetKey::from_bytes([7; 32]);
        let digest = key.digest(1, b"content");
        assert_eq!(SetKey::from_bytes(*key.as_bytes()).digest(1, b"content"), digest);
        let others = [
            key.digest(2, b"content"),
            key.digest(1, b"Content"),
            key.digest(1, b"content\0"),
            key.digest(1, b""),
            SetKey::from_bytes([8; 32]).digest(1, b"content"),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(*other, digest);
            assert!(!others[..at].contains(other));
        }
    }

    #[test]
    fn the_order_of_changes_makes_no_difference() {
        let key = SetKey::random();
        let [a, b, c] = [1, 2, 3].map(|number| key.digest(number, b"x"));
        let sum = SetSum::default().with(a).with(b).with(c);
        assert_eq!(sum.with(b), SetSum::default().with(c).with(a));
        assert_eq!(SetSum::from_bytes(sum.to_bytes()), sum);
        assert_ne!(sum.spoiled(), sum);
    }
}
