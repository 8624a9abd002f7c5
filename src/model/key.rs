//! The name of a secret.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::is_temporary_name;

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// The longest component of a key, in bytes.
pub const MAX_COMPONENT_BYTES: usize = 255;
/// What a sidecar's name adds to its secret's.
pub const SIDECAR_SUFFIX: &str = ".acl";

/// The name of a secret: components of 1 to 255 bytes joined by `/`, at most 1,024 bytes in all
/// (contract, section 1). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// Why a string is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing, or nothing between two slashes.
    #[error("a key has an empty component; write it without a leading, trailing or double `/`")]
    EmptyComponent,
    /// A component over 255 bytes.
    #[error("a component of the key is longer than {MAX_COMPONENT_BYTES} bytes; shorten it")]
    ComponentTooLong,
    /// Over 1,024 bytes in all.
    #[error("the key is longer than {MAX_KEY_BYTES} bytes; shorten it")]
    TooLong,
    /// The first component starts with a dot.
    #[error(
        "the key starts with `.`, which is reserved for the filesystem; choose another name, or put a directory before it"
    )]
    LeadingDot,
    /// A component is `.` or `..`.
    #[error("a component of the key is `.` or `..`; write the key without it")]
    DotComponent,
    /// A component has the form of a temporary file.
    #[error(
        "a component of the key has the form of a temporary file, which is not stored; choose another name"
    )]
    TemporaryName,
    /// The last component ends in `.acl`.
    #[error(
        "the key ends in `{SIDECAR_SUFFIX}`, which is the name of a sidecar; choose another name"
    )]
    SidecarName,
    /// A control character.
    #[error("the key contains a control character; remove it")]
    ControlCharacter,
    /// Not UTF-8.
    #[error("the key is not UTF-8; write it in UTF-8")]
    NotUtf8,
}

impl Key {
    /// Parses a key from text.
    ///
    /// # Errors
    /// The first rule of section 1 that the text breaks.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong);
        }
        check_path(text)?;
        if text.ends_with(SIDECAR_SUFFIX) {
            return Err(KeyError::SidecarName);
        }
        Ok(Self(text.into()))
    }

    /// Parses a key from the bytes of a path.
    ///
    /// # Errors
    /// As [`Key::parse`], or [`KeyError::NotUtf8`].
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::parse(std::str::from_utf8(bytes).map_err(|_| KeyError::NotUtf8)?)
    }

    /// Checks a directory's path: as a key, but its last component may end in `.acl`.
    ///
    /// # Errors
    /// As [`Key::parse`].
    pub fn check_directory(path: &str) -> Result<(), KeyError> {
        if path.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong);
        }
        check_path(path)
    }

    /// The same key in memory of its own: for one that stays when what lies beside this one goes.
    pub fn copy(&self) -> Self {
        Self(self.as_str().into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory that holds the key: everything before the last `/`, empty for the root.
    pub fn directory(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(directory, _)| directory)
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }

    /// Every directory above the key, nearest first, without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.directory()), |path| {
            Some(path.rsplit_once('/').map_or("", |(directory, _)| directory))
        })
        .take_while(|path| !path.is_empty())
    }
}

fn check_path(path: &str) -> Result<(), KeyError> {
    path.split('/').try_for_each(check_component)?;
    if path.starts_with('.') { Err(KeyError::LeadingDot) } else { Ok(()) }
}

fn check_component(component: &str) -> Result<(), KeyError> {
    if component.is_empty() {
        Err(KeyError::EmptyComponent)
    } else if component.len() > MAX_COMPONENT_BYTES {
        Err(KeyError::ComponentTooLong)
    } else if matches!(component, "." | "..") {
        Err(KeyError::DotComponent)
    } else if is_temporary_name(component) {
        Err(KeyError::TemporaryName)
    } else if component.chars().any(char::is_control) {
        Err(KeyError::ControlCharacter)
    } else {
        Ok(())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// So that a map by key can be asked with a plain path.
impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_contract_accepts() {
        let longest_component = "x".repeat(255);
        let longest = [&*longest_component; 4].join("/");
        for text in [
            "K",
            "a/b/c",
            "payment-svc/STRIPE KEY",
            "ключ/值",
            "x.acl/y",
            "a.",
            "a..b",
            "a/.env",
            "a/.b/.c",
            "a/...",
            &longest,
        ] {
            assert_eq!(Key::parse(text).map(|key| key.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refuses_what_the_contract_refuses() {
        let long_component = "x".repeat(256);
        let too_long = ["x".repeat(255).as_str(); 5].join("/");
        for (text, error) in [
            ("", KeyError::EmptyComponent),
            ("/a", KeyError::EmptyComponent),
            ("a/", KeyError::EmptyComponent),
            ("a//b", KeyError::EmptyComponent),
            (".a", KeyError::LeadingDot),
            (".a/b", KeyError::LeadingDot),
            ("a/..", KeyError::DotComponent),
            ("./a", KeyError::DotComponent),
            ("a/.K.swp", KeyError::TemporaryName),
            ("a/.K.swp/c", KeyError::TemporaryName),
            (".K.swp", KeyError::TemporaryName),
            ("a/.env.acl", KeyError::SidecarName),
            ("a.acl", KeyError::SidecarName),
            ("a/b.acl", KeyError::SidecarName),
            ("a\nb", KeyError::ControlCharacter),
            ("a\u{7f}", KeyError::ControlCharacter),
            ("a\u{85}", KeyError::ControlCharacter),
            (&long_component, KeyError::ComponentTooLong),
            (&too_long, KeyError::TooLong),
        ] {
            assert_eq!(Key::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Key::parse_bytes(b"a\xff"), Err(KeyError::NotUtf8));
    }

    #[test]
    fn takes_paths_apart() {
        let key = Key::parse("a/b/c").unwrap();
        assert_eq!((key.directory(), key.name()), ("a/b", "c"));
        assert_eq!(key.ancestors().collect::<Vec<_>>(), ["a/b", "a"]);
        let top = Key::parse("top").unwrap();
        assert_eq!((top.directory(), top.name(), top.ancestors().count()), ("", "top", 0));
    }
}
