//! The key that an operator gives.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::derive::key_id;
use super::locked::KeyBytes;

/// The key of stores that were made when no key was configured. It is public.
pub const BUILT_IN_KEY: &str = "changeMeToSomethingSecureForReal";

/// Every passphrase is hashed with this salt: the same passphrase must open the same sealed
/// documents on every machine. The price is that one table of guesses serves against all
/// installations, so a passphrase has to be long; `secretfs keygen` makes a key that needs no hash.
const PASSWORD_SALT: &[u8] = b"secretfs v1 password";
/// Argon2id with 19 MiB and two passes (OWASP Password Storage Cheat Sheet).
const PASSWORD_MEMORY_KIB: u32 = 19 * 1024;
const PASSWORD_PASSES: u32 = 2;

/// A passphrase below this many characters is told as weak.
const SHORT: usize = 12;
/// A key with fewer different characters than this is told as weak.
const FEW_DIFFERENT: usize = 6;

/// The id of a master key: 8 bytes derived from it that tell nothing about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(super) [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl KeyId {
    /// Its bytes, to be stored.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    /// An id as it is displayed.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten()?;
        Some(Self(number.to_be_bytes()))
    }

    /// An id that was stored.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key from which all others are derived. Wiped when dropped; no `Debug`.
pub struct MasterKey {
    bytes: KeyBytes,
    weaknesses: Vec<Weakness>,
}

/// Why a key is easy to guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// The built-in one.
    #[error("it is using the default encryption key")]
    BuiltIn,
    /// A passphrase under 12 characters.
    #[error(
        "its encryption key is a passphrase of less than {SHORT} characters; make one with `secretfs keygen`"
    )]
    Short,
    /// Few different characters.
    #[error("its encryption key repeats a few characters; make one with `secretfs keygen`")]
    Repeated,
}

/// The text cannot be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// Nothing in it.
    #[error("the encryption key is empty; make one with `secretfs keygen`")]
    Empty,
    /// Not text.
    #[error("the encryption key is not UTF-8 text; make one with `secretfs keygen`")]
    NotText,
}

impl MasterKey {
    /// A key from any text: 32 bytes of base64 or hex are used as they are, anything else goes
    /// through a password hash (Argon2id), which takes some 30 ms and 19 MiB.
    ///
    /// # Errors
    /// The text is empty.
    pub fn parse(text: &str) -> Result<Self, KeyTextError> {
        if text.is_empty() {
            return Err(KeyTextError::Empty);
        }
        let raw = from_hex(text).or_else(|| from_base64(text));
        let weaknesses = weaknesses(text, raw.is_some());
        Ok(Self { bytes: raw.unwrap_or_else(|| from_password(text)), weaknesses })
    }

    /// A key from the content of a file: one final line end is not part of it.
    ///
    /// # Errors
    /// The file is empty or not text.
    pub fn parse_file(content: &[u8]) -> Result<Self, KeyTextError> {
        let text = std::str::from_utf8(content).map_err(|_| KeyTextError::NotText)?;
        Self::parse(text.strip_suffix('\n').map_or(text, |line| line.trim_end_matches('\r')))
    }

    /// Keys from the content of a file with one on each line; empty lines and those that start with
    /// `#` are passed over.
    ///
    /// # Errors
    /// The file is not text.
    pub fn parse_lines(content: &[u8]) -> Result<Vec<Self>, KeyTextError> {
        let text = std::str::from_utf8(content).map_err(|_| KeyTextError::NotText)?;
        let keys = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        keys.map(Self::parse).collect()
    }

    /// The text of a new key: 32 random bytes as base64, and an end of line.
    pub fn new_text() -> Zeroizing<String> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).expect("the kernel's random source answers once it is seeded");
        let mut text = Zeroizing::new(String::with_capacity(45));
        STANDARD.encode_string(*key, &mut text);
        text.push('\n');
        text
    }

    /// The key of a store that was made when no key was configured.
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN_KEY).expect("it is not empty")
    }

    /// What tells this key from others.
    pub fn id(&self) -> KeyId {
        KeyId(key_id(&self.bytes))
    }

    /// Why this key is easy to guess; nothing if it is not.
    pub fn weaknesses(&self) -> &[Weakness] {
        &self.weaknesses
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        &self.bytes
    }
}

fn from_hex(text: &str) -> Option<KeyBytes> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut key = KeyBytes::zeros();
    for (index, byte) in key.iter_mut().enumerate() {
        let digits = &text[2 * index..2 * index + 2];
        let all_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = u8::from_str_radix(digits, 16).ok().filter(|_| all_digits)?;
    }
    Some(key)
}

fn from_base64(text: &str) -> Option<KeyBytes> {
    // Without this, 32 characters of base64 look-alike would be decoded to be thrown away.
    if !matches!(text.len(), 43 | 44) {
        return None;
    }
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [alphabet::STANDARD, alphabet::URL_SAFE].iter().find_map(|alphabet| {
        let decoded = Zeroizing::new(GeneralPurpose::new(alphabet, config).decode(text).ok()?);
        let mut key = KeyBytes::zeros();
        (decoded.len() == 32).then(|| key.copy_from_slice(&decoded))?;
        Some(key)
    })
}

fn from_password(text: &str) -> KeyBytes {
    let params = Params::new(PASSWORD_MEMORY_KIB, PASSWORD_PASSES, 1, Some(32))
        .expect("the parameters are within Argon2's bounds");
    let mut key = KeyBytes::zeros();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(text.as_bytes(), PASSWORD_SALT, &mut key[..])
        .expect("salt and output have valid lengths");
    key
}

fn weaknesses(text: &str, raw: bool) -> Vec<Weakness> {
    let different = text.chars().collect::<std::collections::HashSet<_>>().len();
    [
        (text == BUILT_IN_KEY, Weakness::BuiltIn),
        (!raw && text.chars().count() < SHORT, Weakness::Short),
        (different < FEW_DIFFERENT, Weakness::Repeated),
    ]
    .into_iter()
    .filter_map(|(is_weak, weakness)| is_weak.then_some(weakness))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_32_bytes_as_they_are() {
        let bytes: Vec<u8> = (200..232).collect();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let standard = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes);
        for text in [&hex, &hex.to_uppercase(), &standard, &url] {
            assert_eq!(MasterKey::parse(text).unwrap().expose()[..], bytes, "{text}");
        }
    }

    #[test]
    fn hashes_everything_else() {
        let one = MasterKey::parse("correct horse battery staple").unwrap();
        let same = MasterKey::parse("correct horse battery staple").unwrap();
        let other = MasterKey::parse("correct horse battery stapla").unwrap();
        assert_eq!(one.id(), same.id());
        assert_ne!(one.id(), other.id());
        assert!(MasterKey::parse(&"+".repeat(64)).is_ok(), "not hex, however long");
        assert_eq!(MasterKey::parse("").err(), Some(KeyTextError::Empty));
    }

    #[test]
    fn reads_files() {
        let id = MasterKey::parse("some passphrase").unwrap().id();
        for content in ["some passphrase", "some passphrase\n", "some passphrase\r\n"] {
            assert_eq!(MasterKey::parse_file(content.as_bytes()).unwrap().id(), id);
        }
        let (one, other) = (MasterKey::new_text(), MasterKey::new_text());
        assert!(one.len() == 45 && *one != *other && one.ends_with('\n'));
        assert!(MasterKey::parse_file(one.as_bytes()).unwrap().weaknesses().is_empty());
        assert_eq!(MasterKey::parse_file(b"\n").err(), Some(KeyTextError::Empty));
        assert_eq!(MasterKey::parse_file(b"\xff").err(), Some(KeyTextError::NotText));
        let keys = MasterKey::parse_lines(b"# old\nsome passphrase\n\nanother one\n").unwrap();
        assert_eq!((keys.len(), keys[0].id()), (2, id));
    }

    #[test]
    fn tells_weak_keys() {
        assert_eq!(MasterKey::built_in().weaknesses(), [Weakness::BuiltIn]);
        assert_eq!(
            MasterKey::parse("short").unwrap().weaknesses(),
            [Weakness::Short, Weakness::Repeated]
        );
        assert_eq!(MasterKey::parse(&"00".repeat(32)).unwrap().weaknesses(), [Weakness::Repeated]);
        assert_eq!(MasterKey::parse("correct horse battery staple").unwrap().weaknesses(), []);
    }
}
