//! A secret's identity and limits.

use std::fmt;

/// The largest value, in bytes: 1 MiB.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// The longest id, in bytes.
const MAX_ID_BYTES: usize = 64;
/// What an id that the store gives starts with.
const GIVEN_ID_PREFIX: &str = "secr_";
/// How many characters an id that the store gives has after its prefix.
const GIVEN_ID_RANDOM: usize = 10;

/// The id of a secret: 1 to 64 of `A-Z a-z 0-9 _ -`, unique in a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretId(Box<str>);

/// The text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to {MAX_ID_BYTES} of A-Z a-z 0-9 _ -; correct it or leave it out")]
pub struct IdError;

impl SecretId {
    /// Parses an id.
    ///
    /// # Errors
    /// The text breaks the rule of section 1.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let valid = (1..=MAX_ID_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if valid { Ok(Self(text.into())) } else { Err(IdError) }
    }

    /// An id as the store gives it: `secr_` and 10 of `0-9 A-Z a-z`, from random bytes. The bytes
    /// are an endless source; those that would make some characters likelier are passed over.
    pub fn from_random(random: impl IntoIterator<Item = u8>) -> Self {
        const ALPHABET: &[u8; 62] =
            b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let unbiased =
            u8::try_from(256 / ALPHABET.len() * ALPHABET.len()).expect("248 fits a byte");
        let characters = random
            .into_iter()
            .filter(|&byte| byte < unbiased)
            .map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
        Self(
            GIVEN_ID_PREFIX
                .chars()
                .chain(characters.take(GIVEN_ID_RANDOM))
                .collect::<String>()
                .into(),
        )
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_contract() {
        let longest = "x".repeat(64);
        for good in ["secr_eG8IvKwB0A", "a", "prod-db_1", &longest] {
            assert_eq!(SecretId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "a.b", "é", &"x".repeat(65)] {
            assert_eq!(SecretId::parse(bad), Err(IdError));
        }
    }

    #[test]
    fn given_ids_have_their_form() {
        let id = SecretId::from_random([255, 0, 1, 61, 62, 247, 248, 9, 10, 35, 36, 61, 61, 61]);
        assert_eq!(id.as_str(), "secr_01z0z9AZaz");
    }
}
