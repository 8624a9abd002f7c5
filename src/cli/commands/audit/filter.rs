//! Which lines are wanted.

use std::time::{Duration, SystemTime};

use clap::ValueEnum;

use crate::audit::Record;
use crate::cli::pattern::Pattern;
use crate::model::Timestamp;

#[derive(clap::Args)]
pub(super) struct Conditions {
    /// Only about keys like this: a part of the key, or a pattern with * ? [ ]. Counts of attempts that are not about one key are shown too.
    #[arg(long, value_name = "PATTERN")]
    key: Option<String>,
    /// Only by callers with this own slug.
    #[arg(long, value_name = "SLUG")]
    slug: Option<String>,
    /// Only what ended so.
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<Outcome>,
    /// Only since then: a time in UTC (2026-11-24T03:52:00Z, or its beginning), or an age (90s, 10m, 2h, 3d).
    #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
    since: Option<Since>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Outcome {
    /// It was done.
    Allowed,
    /// The caller might not.
    Denied,
    /// The caller might, but it was not possible.
    Failed,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// The beginning of an RFC 3339 time in UTC, without `Z`: what is not before it in the order of
/// letters is not before it in time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Since(String);

impl Since {
    fn parse(text: &str) -> Result<Self, String> {
        Self::age(text).or_else(|| Self::time(text)).ok_or_else(|| {
            "write a time in UTC like 2026-11-24T03:52:00Z, or an age like 90s, 10m, 2h, 3d"
                .to_owned()
        })
    }

    fn age(text: &str) -> Option<Self> {
        let seconds = match text.as_bytes().last()? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            _ => return None,
        };
        let number: u64 = text[..text.len() - 1].parse().ok()?;
        let age = Duration::from_secs(number.checked_mul(seconds)?);
        let then = SystemTime::now().checked_sub(age)?;
        Some(Self(Timestamp::from(then).to_rfc3339().trim_end_matches('Z').to_owned()))
    }

    fn time(text: &str) -> Option<Self> {
        const FORM: &str = "0000-00-00T00:00:00.000000";
        let text = text.strip_suffix('Z').unwrap_or(text).replacen(' ', "T", 1);
        let fits = text.len() >= 4
            && text.len() <= FORM.len()
            && text.bytes().zip(FORM.bytes()).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                _ => byte == form,
            });
        fits.then_some(Self(text))
    }
}

/// The wanted lines.
pub(super) struct Filter {
    key: Option<Pattern>,
    slug: Option<String>,
    outcome: Option<Outcome>,
    since: Option<Since>,
}

impl From<Conditions> for Filter {
    fn from(args: Conditions) -> Self {
        let key = args.key.as_deref().map(Pattern::parse);
        Self { key, slug: args.slug, outcome: args.outcome, since: args.since }
    }
}

impl Filter {
    /// Whether this line is older than all that are wanted.
    pub(super) fn is_before(&self, record: &Record) -> bool {
        self.since.as_ref().is_some_and(|since| record.time.as_str() < since.0.as_str())
    }

    pub(super) fn wants(&self, record: &Record) -> bool {
        let key = |pattern: &Pattern| {
            [&record.key, &record.to].into_iter().flatten().any(|key| pattern.matches(key))
        };
        // A sum of attempts names no key: it may be about any.
        let is_sum = record.repeats.is_some() && record.key.is_none();
        (is_sum || self.key.as_ref().is_none_or(key))
            && self.slug.as_ref().is_none_or(|slug| record.slug.as_ref() == Some(slug))
            && self.outcome.is_none_or(|outcome| record.outcome == outcome.as_str())
            && !self.is_before(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(key: Option<&str>, outcome: Option<Outcome>, since: Option<&str>) -> Filter {
        Conditions {
            key: key.map(str::to_owned),
            slug: None,
            outcome,
            since: since.map(|since| Since::parse(since).unwrap()),
        }
        .into()
    }

    #[test]
    fn every_condition_must_hold() {
        let record = Record {
            time: "2026-11-24T03:52:00.500000Z".into(),
            outcome: "denied".into(),
            key: Some("a/K".into()),
            to: Some("b/L".into()),
            slug: Some("bob".into()),
            ..Record::default()
        };
        for (key, outcome, since, wanted) in [
            (None, None, None, true),
            (Some("a/*"), None, None, true),
            (Some("b/"), Some(Outcome::Denied), None, true),
            (Some("c"), None, None, false),
            (None, Some(Outcome::Allowed), None, false),
            (None, None, Some("2026-11-24T03:52:00Z"), true),
            (None, None, Some("2026-11-24 03:52"), true),
            (None, None, Some("2026-11-24T03:52:00.500001Z"), false),
            (None, None, Some("2026-11-25"), false),
        ] {
            assert_eq!(filter(key, outcome, since).wants(&record), wanted, "{key:?} {since:?}");
        }
        let sum = Record { key: None, to: None, repeats: Some(7), ..record.clone() };
        assert!(filter(Some("a/K"), Some(Outcome::Denied), None).wants(&sum));
        assert!(!filter(Some("a/K"), Some(Outcome::Allowed), None).wants(&sum));
        let of = |slug: &str| Filter { slug: Some(slug.into()), ..filter(None, None, None) };
        assert!(of("bob").wants(&record) && !of("bo").wants(&record));
    }

    #[test]
    fn times_and_ages() {
        for bad in ["", "yesterday", "10", "10w", "2026-11-24T03:52:00+01:00", "-5m", "é"] {
            assert!(Since::parse(bad).is_err(), "{bad}");
        }
        let hour = Since::parse("1h").unwrap();
        assert!(hour > Since::parse("2h").unwrap() && hour < Since::parse("0s").unwrap());
    }
}
