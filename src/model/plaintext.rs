//! Plaintext that wipes itself.

use zeroize::Zeroize;

/// The bytes of a value in the clear. Wiped when dropped and whenever it moves to a larger buffer;
/// no `Debug`, no `Display`, no `Clone`; read through [`Plaintext::expose`] alone, so that every
/// place where a value is looked at can be found by that word.
#[derive(Default)]
pub struct Plaintext(Vec<u8>);

impl Plaintext {
    /// An empty value with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The bytes. Whoever calls this answers for where they go.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to be changed in place.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes the value `length` bytes long: what is cut off is wiped, what is added is zero. The
    /// caller has checked `length` against its limit.
    pub fn resize(&mut self, length: usize) {
        if length < self.0.len() {
            self.0[length..].zeroize();
        }
        self.reserve(length);
        self.0.resize(length, 0);
    }

    /// Writes `bytes` at `offset`, filling a gap with zeros. The caller has checked the end against
    /// its limit.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.0.len() {
            self.resize(end);
        }
        self.0[offset..end].copy_from_slice(bytes);
    }

    /// Adds `bytes` at the end.
    pub fn push(&mut self, bytes: &[u8]) {
        self.write_at(self.0.len(), bytes);
    }

    /// At most `length` bytes from `offset` on; nothing beyond the end.
    pub fn slice(&self, offset: u64, length: usize) -> &[u8] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        &self.0[start..start.saturating_add(length).min(self.0.len())]
    }

    /// Room for `length` bytes. `Vec` would free the smaller buffer with its content.
    fn reserve(&mut self, length: usize) {
        if length > self.0.capacity() {
            let mut larger = Vec::with_capacity(length.next_power_of_two());
            larger.extend_from_slice(&self.0);
            std::mem::replace(&mut self.0, larger).zeroize();
        }
    }
}

/// Takes over a buffer that is already in the clear; it is wiped with the value.
impl From<Vec<u8>> for Plaintext {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Constant in time for equal lengths: two values are compared on import.
impl PartialEq for Plaintext {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq;
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Plaintext {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_anywhere_and_fills_gaps() {
        let mut value = Plaintext::default();
        value.write_at(2, b"cd");
        assert_eq!(value.expose(), b"\0\0cd");
        value.write_at(0, b"ab");
        assert_eq!(value.expose(), b"abcd");
        value.resize(1);
        value.resize(3);
        assert_eq!(value.expose(), b"a\0\0", "what was cut off does not come back");
    }

    #[test]
    fn slices_stop_at_the_end() {
        let value = Plaintext::copy_of(b"hello");
        assert_eq!(value.slice(1, 3), b"ell");
        assert_eq!(value.slice(3, 100), b"lo");
        assert_eq!(value.slice(5, 1), b"");
        assert_eq!(value.slice(u64::MAX, usize::MAX), b"");
    }
}
