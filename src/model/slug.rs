//! The name of a user, service or team.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest slug, in bytes.
const MAX_SLUG_BYTES: usize = 64;

/// The name of a user, service or team, or `uid:N` / `gid:N` for those that have none (contract,
/// section 1). Cheap to clone, and one word: a million secrets name who wrote them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slug(Arc<Box<str>>);

/// What a slug is, for errors.
pub const SLUG_RULE: &str =
    "use 1 to 64 of a-z A-Z 0-9 . _ - starting with a letter or digit, or uid:N, or gid:N";
const _: () = assert!(MAX_SLUG_BYTES == 64);

/// The text is not a slug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a slug; {SLUG_RULE}")]
pub struct SlugError(String);

impl Slug {
    /// Parses a slug.
    ///
    /// # Errors
    /// The text breaks the rule of section 1; the error quotes at most its first 64 characters.
    pub fn parse(text: &str) -> Result<Self, SlugError> {
        if is_name(text) || is_number(text) {
            Ok(Self(Arc::new(text.into())))
        } else {
            Err(SlugError(text.chars().take(MAX_SLUG_BYTES).collect()))
        }
    }

    /// The slug of a user that has no name.
    pub fn of_uid(uid: u32) -> Self {
        Self(Arc::new(format!("uid:{uid}").into()))
    }

    /// The slug of a group, whatever its name.
    pub fn of_gid(gid: u32) -> Self {
        Self(Arc::new(format!("gid:{gid}").into()))
    }

    /// Whether anybody else holds the same copy.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= MAX_SLUG_BYTES
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// `uid:N` or `gid:N` in the one spelling that the system's own number has.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix("uid:").or_else(|| text.strip_prefix("gid:"));
    digits.is_some_and(|digits| digits.parse::<u32>().is_ok_and(|n| n.to_string() == digits))
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// So that a set of slugs can be asked with plain text.
impl Borrow<str> for Slug {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_contract() {
        let longest = "a".repeat(64);
        for good in ["a", "payment-svc", "0day", "A.b_c-d", &longest, "uid:0", "gid:4294967295"] {
            assert!(Slug::parse(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(65);
        for bad in [
            "",
            "-a",
            ".a",
            "_a",
            "a b",
            "a/b",
            "é",
            &too_long,
            "uid:",
            "uid:-1",
            "uid:01",
            "uid:4294967296",
            "pid:1",
            "a:b",
            "uid:+1",
        ] {
            assert!(Slug::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_error_quotes_a_bounded_part() {
        let error = Slug::parse(&"/".repeat(10_000)).unwrap_err();
        assert!(error.to_string().len() < 300);
    }
}
