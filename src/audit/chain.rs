//! The keyed hash that ties each line to the one before.
//!
//! BLAKE2b-256 (RFC 7693) in keyed mode, with the personalisation `line` over the hash of the line
//! before (32 bytes) and the line's text up to its own hash; with `head` over the head.

use std::fmt;

use blake2b_simd::Params;
use zeroize::Zeroizing;

/// The key of the chain, with the id by which files name it. No `Debug`.
#[derive(Clone)]
pub struct ChainKey {
    id: KeyName,
    key: Box<Zeroizing<[u8; 32]>>,
}

/// The id of a key: 16 hexadecimal digits.
pub(super) type KeyName = [u8; 16];

/// What a line's hash is over, besides itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash([u8; 32]);

impl ChainKey {
    /// A key with the id of the master key that it was derived from, in 16 hexadecimal digits.
    pub fn new(id: &str, key: &[u8; 32]) -> Self {
        let mut name = [b'0'; 16];
        for (to, from) in name.iter_mut().zip(id.bytes()) {
            *to = from;
        }
        Self { id: name, key: Box::new(Zeroizing::new(*key)) }
    }

    pub(super) fn name(&self) -> &KeyName {
        &self.id
    }

    pub(super) fn id(&self) -> &str {
        str::from_utf8(&self.id).expect("hexadecimal digits")
    }

    pub(super) fn of_line(&self, before: &Hash, text: &[u8]) -> Hash {
        self.keyed(b"line", &[&before.0, text])
    }

    pub(super) fn of_head(&self, head: &[u8]) -> Hash {
        self.keyed(b"head", &[head])
    }

    fn keyed(&self, purpose: &[u8], parts: &[&[u8]]) -> Hash {
        let mut mac = Params::new().hash_length(32).key(&self.key[..]).personal(purpose).to_state();
        for part in parts {
            mac.update(part);
        }
        Hash(mac.finalize().as_bytes().try_into().expect("it has 32 bytes"))
    }
}

impl Hash {
    /// Before the first line.
    pub(super) const NONE: Self = Self([0; 32]);

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 64 lower-case hexadecimal digits.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        let (pairs, []) = text.as_chunks::<2>() else { return None };
        if pairs.len() != bytes.len() {
            return None;
        }
        for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Some(Self(bytes))
    }

    pub(super) fn to_hex(self) -> [u8; 64] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        text
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.to_hex()).expect("hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python: `hashlib.blake2b(before + text, digest_size=32, key=key, person=b"line")`.
    #[test]
    fn follows_the_standard() {
        let key = ChainKey::new("0123456789abcdef", &std::array::from_fn(|index| index as u8));
        assert_eq!(
            key.of_line(&Hash::NONE, b"{\"seq\":1").to_string(),
            "4c621cf3c6d17a35dfc011168b067a2c66998c7f3ddd508a9f32adffdf6f428a"
        );
        assert_eq!(
            key.of_head(b"head").to_string(),
            "c0e433ab19e713e159e5a33632fbeb9571dfc219a5a838887a2ea4b3ad27df68"
        );
    }

    #[test]
    fn text_and_back() {
        let hash = Hash(std::array::from_fn(|index| (index * 9) as u8));
        assert!(Hash::parse(hash.to_string().as_bytes()) == Some(hash));
        for bad in ["", "00", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64), &"A".repeat(64)] {
            assert!(Hash::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
