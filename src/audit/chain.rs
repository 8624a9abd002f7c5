//! The keyed hash that ties each line to the one before.
//!
//! BLAKE2b-256 (RFC 7693) in keyed mode: with the personalisation `line` over the line's text up to its
//! own hash and the hash of the line before (32 bytes); with `head` over the head.

use std::fmt;

use blake2b_simd::{Params, State};

/// The key of the chain, with the id by which files name it. No `Debug`.
#[derive(Clone)]
pub struct ChainKey {
    id: KeyName,
    lines: Start,
    heads: Start,
}

/// The id of a key: 16 hexadecimal digits.
pub(super) type KeyName = [u8; 16];

/// How the text of every line begins.
pub(super) const LINE_START: &str = "{\"seq\":";
/// How every head begins.
pub(super) const HEAD_START: &[u8; 8] = b"sfsaudh1";

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
        let lines = Start::new(key, b"line", LINE_START.as_bytes());
        Self { id: name, lines, heads: Start::new(key, b"head", HEAD_START) }
    }

    pub(super) fn name(&self) -> &KeyName {
        &self.id
    }

    pub(super) fn id(&self) -> &str {
        str::from_utf8(&self.id).expect("hexadecimal digits")
    }

    /// Of a line whose text, after [`LINE_START`], is `rest`.
    pub(super) fn of_line(&self, before: &Hash, rest: &[u8]) -> Hash {
        self.lines.hash(&[rest, &before.0])
    }

    /// Of a head whose bytes, after [`HEAD_START`], are `rest`.
    pub(super) fn of_head(&self, rest: &[u8]) -> Hash {
        self.heads.hash(&[rest])
    }
}

/// A hash that has begun: the key takes a block of its own, which would be the fourth for a line, and is
/// hashed as soon as a byte follows it. So what is hashed begins with bytes that are always the same.
#[derive(Clone)]
struct Start(Box<State>);

impl Start {
    fn new(key: &[u8; 32], purpose: &[u8], start: &[u8]) -> Self {
        let mut state = Params::new().hash_length(32).key(key).personal(purpose).to_state();
        state.update(start);
        Self(Box::new(state))
    }

    fn hash(&self, parts: &[&[u8]]) -> Hash {
        let mut state = (*self.0).clone();
        for part in parts {
            state.update(part);
        }
        Hash(state.finalize().as_bytes().try_into().expect("it has 32 bytes"))
    }
}

/// It is as good as the key.
impl Drop for Start {
    fn drop(&mut self) {
        *self.0 = State::new();
        // Or it would not be written, for nobody reads it.
        std::hint::black_box(&mut self.0);
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

    /// Computed with Python: `hashlib.blake2b(text + before, digest_size=32, key=key, person=b"line")`.
    #[test]
    fn follows_the_standard() {
        let key = ChainKey::new("0123456789abcdef", &std::array::from_fn(|index| index as u8));
        assert_eq!(
            key.of_line(&Hash::NONE, b"1").to_string(),
            "14476a1f4f77b599acd4654a13ae4c0f4530b24d0c28886e2279ce68734acd2e"
        );
        assert_eq!(
            key.of_head(b"head").to_string(),
            "83a9cd56d872acd669d3f8443dac637edc48e30935ff3fd91ac75ac8c55572e6"
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
