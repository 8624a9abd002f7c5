//! Sizes as people write them.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A number of bytes: `67108864`, `64M` or `64MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Size(u64);

/// The text is not a size.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a size; write a number of bytes, or a number with K, M or G, such as 64M")]
pub struct SizeError(String);

/// As a configuration file has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl Size {
    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl TryFrom<Written> for Size {
    type Error = SizeError;

    fn try_from(written: Written) -> Result<Self, SizeError> {
        match written {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim_start() {
            "" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            _ => return Err(SizeError(text.to_owned())),
        };
        let number = number.parse::<u64>().ok();
        let bytes = number.and_then(|number| number.checked_mul(1 << shift));
        bytes.map(Self).ok_or_else(|| SizeError(text.to_owned()))
    }
}

/// The number of bytes.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        let sizes = [("0", 0), ("7", 7), ("3K", 3 << 10), ("64M", 64 << 20), ("2 GiB", 2 << 30)];
        for (text, bytes) in sizes {
            assert_eq!(text.parse::<Size>().unwrap().bytes(), bytes, "{text}");
        }
        for text in ["", "M", "-1", "1.5M", "64MB", "99999999999G"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        let read = |text: &str| serde_yaml::from_str::<Size>(text).map(Size::bytes);
        assert_eq!((read("4096").unwrap(), read("64MiB").unwrap()), (4096, 64 << 20));
        assert!(read("many").unwrap_err().to_string().contains("such as 64M"));
    }
}
