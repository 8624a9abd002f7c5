//! Checksums over the plaintext of a value.

use std::fmt::{self, Write};

use blake2::Blake2s256;
use sha2::{Digest, Sha256, Sha512};

use crate::model::Plaintext;

/// How a checksum is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumAlgorithm {
    /// CRC-32 as in IEEE 802.3, 8 digits.
    #[default]
    Crc32,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// BLAKE2s with 256 bits.
    Blake2s,
}

impl ChecksumAlgorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Crc32, Self::Sha256, Self::Sha512, Self::Blake2s];

    /// The name as it stands in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
            Self::Blake2s => "BLAKE2s",
        }
    }

    /// The algorithm of that name, if there is one.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// How many hexadecimal digits its checksums have.
    pub fn digits(self) -> usize {
        match self {
            Self::Crc32 => 8,
            Self::Sha256 | Self::Blake2s => 64,
            Self::Sha512 => 128,
        }
    }

    fn of(self, bytes: &[u8]) -> String {
        match self {
            Self::Crc32 => hexadecimal(&crc32fast::hash(bytes).to_be_bytes()),
            Self::Sha256 => hexadecimal(&Sha256::digest(bytes)),
            Self::Sha512 => hexadecimal(&Sha512::digest(bytes)),
            Self::Blake2s => hexadecimal(&Blake2s256::digest(bytes)),
        }
    }
}

impl fmt::Display for ChecksumAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A checksum of a value, in lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    algorithm: ChecksumAlgorithm,
    digits: Box<str>,
}

impl Checksum {
    /// Parses a checksum; upper-case digits are accepted. None if `digits` has not the form that the
    /// algorithm gives.
    pub fn parse(algorithm: ChecksumAlgorithm, digits: &str) -> Option<Self> {
        let valid = digits.len() == algorithm.digits()
            && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        valid.then(|| Self { algorithm, digits: digits.to_ascii_lowercase().into() })
    }

    /// The checksum of a value.
    pub fn of(algorithm: ChecksumAlgorithm, value: &Plaintext) -> Self {
        Self { algorithm, digits: algorithm.of(value.expose()).into() }
    }

    /// Whether this is the checksum of `value`.
    pub fn matches(&self, value: &Plaintext) -> bool {
        *self == Self::of(self.algorithm, value)
    }

    /// How it was computed.
    pub fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    /// The digits, in lower case.
    pub fn as_str(&self) -> &str {
        &self.digits
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("writing to a string does not fail");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first is the contract's; the others are what `sha256sum`, `sha512sum` and BLAKE2's
    /// reference program print.
    const KNOWN: [(ChecksumAlgorithm, &str); 4] = [
        (ChecksumAlgorithm::Crc32, "45a3b25f"),
        (
            ChecksumAlgorithm::Sha256,
            "818e58a60e89a101edc08fc72f666d4e10706c74fb208c60b95c25b927aa16bc",
        ),
        (
            ChecksumAlgorithm::Sha512,
            "5332053ed6619eebe8bc3de837ff69cbf273210496ed0b8ddead02e18239e753a8bff0d60298e55a093b7451a282ecd9ece4101446c99a43ea7ff6114e90ce7b",
        ),
        (
            ChecksumAlgorithm::Blake2s,
            "2c6ac429815cad283bede3b8ec563a172bdc0ec80b81dbb4b0a89e60511b9032",
        ),
    ];

    #[test]
    fn known_answers() {
        let value = Plaintext::copy_of(b"example-value");
        for (algorithm, digits) in KNOWN {
            let checksum = Checksum::parse(algorithm, digits).unwrap();
            assert_eq!(Checksum::of(algorithm, &value).as_str(), digits);
            assert!(checksum.matches(&value));
            assert!(!checksum.matches(&Plaintext::copy_of(b"example-valuf")));
            assert_eq!(Checksum::parse(algorithm, &digits.to_uppercase()), Some(checksum));
            assert_eq!(ChecksumAlgorithm::parse(algorithm.as_str()), Some(algorithm));
        }
    }

    #[test]
    fn refuses_other_forms() {
        for bad in ["", "45a3b25", "45a3b25f0", "45a3b25g", "+5a3b25f", "45a3b2é"] {
            assert_eq!(Checksum::parse(ChecksumAlgorithm::Crc32, bad), None, "{bad}");
        }
        for bad in ["crc32", "SHA256", "BLAKE2b", ""] {
            assert_eq!(ChecksumAlgorithm::parse(bad), None, "{bad}");
        }
    }
}
