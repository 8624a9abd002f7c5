//! The keyed hash that ties each line to the one before.
//!
//! BLAKE2b-256 (RFC 7693) in keyed mode: with the personalisation `line` over the line's text up to its
//! own hash and the hash of the line before (32 bytes); with `head` over the head. The salt is the id of
//! the store that the log belongs to, so that the log of another store under the same key is none of this
//! one. In the first format there was no salt.

use std::fmt;

use blake2b_simd::{Params, State};

/// The key of the chain, with the id by which files name it. No `Debug`.
#[derive(Clone)]
pub struct ChainKey {
    id: KeyName,
    store: StoreTag,
    lines: [Start; 2],
    heads: [Start; 2],
}

/// The id of the store that a log belongs to.
pub type StoreTag = [u8; 16];

/// The form of a file or head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// It is not bound to a store. It is read, and never written.
    Unbound,
    /// It is bound to a store.
    Bound,
}

impl Format {
    /// As it is written in a file's first line, from the second format on.
    pub(super) const CURRENT: u32 = 2;

    /// How every head begins.
    pub(super) fn head_start(self) -> &'static [u8; 8] {
        match self {
            Self::Unbound => b"sfsaudh1",
            Self::Bound => b"sfsaudh2",
        }
    }
}

/// The id of a key: 16 hexadecimal digits.
pub(super) type KeyName = [u8; 16];

/// How the text of every line begins.
pub(super) const LINE_START: &str = "{\"seq\":";
/// What a line's hash is over, besides itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash([u8; 32]);

impl ChainKey {
    /// The key of a store's log, with the id of the master key that it was derived from, in 16
    /// hexadecimal digits.
    pub fn new(id: &str, key: &[u8; 32], store: &StoreTag) -> Self {
        let mut name = [b'0'; 16];
        for (to, from) in name.iter_mut().zip(id.bytes()) {
            *to = from;
        }
        let salts: [&[u8]; 2] = [&[], store];
        let lines = salts.map(|salt| Start::new(key, salt, b"line", LINE_START.as_bytes()));
        let head =
            |format: Format| Start::new(key, salts[format as usize], b"head", format.head_start());
        let heads = [Format::Unbound, Format::Bound].map(head);
        Self { id: name, store: *store, lines, heads }
    }

    /// The store that the log belongs to.
    pub(super) fn store(&self) -> &StoreTag {
        &self.store
    }

    pub(super) fn name(&self) -> &KeyName {
        &self.id
    }

    pub(super) fn id(&self) -> &str {
        str::from_utf8(&self.id).expect("hexadecimal digits")
    }

    /// Of a line whose text, after [`LINE_START`], is `rest`.
    pub(super) fn of_line(&self, before: &Hash, rest: &[u8]) -> Hash {
        self.of_line_in(Format::Bound, before, rest)
    }

    pub(super) fn of_line_in(&self, format: Format, before: &Hash, rest: &[u8]) -> Hash {
        self.lines[format as usize].hash(&[rest, &before.0])
    }

    /// Of a head whose bytes, after [`Format::head_start`], are `rest`.
    pub(super) fn of_head(&self, format: Format, rest: &[u8]) -> Hash {
        self.heads[format as usize].hash(&[rest])
    }
}

/// A hash that has begun: the key takes a block of its own, which would be the fourth for a line, and is
/// hashed as soon as a byte follows it. So what is hashed begins with bytes that are always the same.
#[derive(Clone)]
struct Start(Box<State>);

impl Start {
    fn new(key: &[u8; 32], salt: &[u8], purpose: &[u8], start: &[u8]) -> Self {
        let mut params = Params::new();
        let mut state = params.hash_length(32).key(key).salt(salt).personal(purpose).to_state();
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

    /// Computed with Python: `hashlib.blake2b(text + before, digest_size=32, key=key, salt=store, person=b"line")`.
    #[test]
    fn follows_the_standard() {
        let key: [u8; 32] = std::array::from_fn(|index| index as u8);
        let key = ChainKey::new("0123456789abcdef", &key, b"0123456789abcdef");
        for (format, line, head) in [
            (
                Format::Unbound,
                "14476a1f4f77b599acd4654a13ae4c0f4530b24d0c28886e2279ce68734acd2e",
                "83a9cd56d872acd669d3f8443dac637edc48e30935ff3fd91ac75ac8c55572e6",
            ),
            (
                Format::Bound,
                "e6feb47c9724298d63be9523a6405e6583e4e0e081e81c923a534268ecec3fa5",
                "5557fa4bf327690c84f6b038676a940cff8c6fb900c46883742ffcf9a5271e67",
            ),
        ] {
            assert_eq!(key.of_line_in(format, &Hash::NONE, b"1").to_string(), line);
            assert_eq!(key.of_head(format, b"head").to_string(), head);
        }
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
