//! A secret's identity and limits.

use std::cmp::Ordering;
use std::fmt;

/// The largest value, in bytes: 1 MiB.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// The longest id, in bytes.
const MAX_ID_BYTES: usize = 64;
/// What an id that the store gives starts with.
const GIVEN_ID_PREFIX: &str = "secr_";
/// How many characters an id that the store gives has after its prefix.
const GIVEN_ID_RANDOM: usize = 10;

/// How many bytes an id that the store gives has.
const GIVEN_ID_BYTES: usize = GIVEN_ID_PREFIX.len() + GIVEN_ID_RANDOM;

/// The id of a secret: 1 to 64 of `A-Z a-z 0-9 _ -`, unique in a store.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SecretId(Form);

/// Most ids are given by the store: those take 16 bytes in all. An id has one form, its length tells
/// which, so ids can be compared and hashed by their forms.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    /// As long as the store's own.
    Given([u8; GIVEN_ID_BYTES]),
    /// In a box of its own, so that the pointer is one word.
    Other(Box<Box<str>>),
}

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
        if valid { Ok(Self::of(text)) } else { Err(IdError) }
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
        let text: String =
            GIVEN_ID_PREFIX.chars().chain(characters.take(GIVEN_ID_RANDOM)).collect();
        Self::of(&text)
    }

    /// Whether it begins as the store's own ids do. No key of a secret at the top is meant by it.
    pub fn has_given_prefix(&self) -> bool {
        self.as_str().starts_with(GIVEN_ID_PREFIX)
    }

    fn of(text: &str) -> Self {
        Self(match text.as_bytes().try_into() {
            Ok(bytes) => Form::Given(bytes),
            Err(_) => Form::Other(Box::new(text.into())),
        })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Form::Given(bytes) => std::str::from_utf8(bytes).expect("an id is ASCII"),
            Form::Other(text) => text,
        }
    }
}

impl PartialOrd for SecretId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SecretId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl fmt::Debug for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
    fn ids_of_all_lengths_are_told_apart_and_ordered_as_text() {
        assert_eq!(size_of::<SecretId>(), 16, "a million of them are held");
        let texts = ["a", "secr_", "secr_eG8IvKwB0A", "secr_eG8IvKwB0A1", "secr_eG8IvKwB0B", "t"];
        let ids = texts.map(|text| SecretId::parse(text).unwrap());
        assert!(ids.is_sorted());
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(id.as_str(), texts[at]);
            assert_eq!(ids.iter().position(|other| other == id), Some(at));
        }
    }

    #[test]
    fn given_ids_have_their_form() {
        let id = SecretId::from_random([255, 0, 1, 61, 62, 247, 248, 9, 10, 35, 36, 61, 61, 61]);
        assert_eq!(id.as_str(), "secr_01z0z9AZaz");
    }
}
