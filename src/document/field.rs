//! The fields of a document.

use std::fmt;

use crate::model::ListName;

/// A field of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `id`
    Id,
    /// `key`
    Key,
    /// `value`
    Value,
    /// `encrypted`
    Encrypted,
    /// `checksum`
    Checksum,
    /// `checksumAlgorithm`
    ChecksumAlgorithm,
    /// One of the six lists.
    List(ListName),
}

impl Field {
    /// How many fields there are.
    pub(super) const COUNT: usize = 6 + ListName::ALL.len();

    /// All fields, in the order in which they are written.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Id, Self::Key, Self::Value, Self::Encrypted, Self::Checksum, Self::ChecksumAlgorithm]
            .into_iter()
            .chain(Self::lists())
    }

    /// The six lists.
    pub(super) fn lists() -> impl Iterator<Item = Self> {
        ListName::ALL.into_iter().map(Self::List)
    }

    /// The name as it stands in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Key => "key",
            Self::Value => "value",
            Self::Encrypted => "encrypted",
            Self::Checksum => "checksum",
            Self::ChecksumAlgorithm => "checksumAlgorithm",
            Self::List(list) => list.as_str(),
        }
    }

    /// Where the field stands in [`Field::all`].
    pub(super) fn index(self) -> usize {
        match self {
            Self::Id => 0,
            Self::Key => 1,
            Self::Value => 2,
            Self::Encrypted => 3,
            Self::Checksum => 4,
            Self::ChecksumAlgorithm => 5,
            Self::List(list) => 6 + list as usize,
        }
    }

    /// The one of `fields` that somebody who wrote `name` may have meant.
    pub(super) fn nearest(name: &str, fields: impl Iterator<Item = Self>) -> Option<Self> {
        const LONGEST: usize = 32;
        if name.len() > LONGEST {
            return None;
        }
        let allowed = name.len().div_ceil(3);
        fields
            .map(|field| (distance(&bare(name), &bare(field.as_str())), field))
            .filter(|&(distance, _)| distance <= allowed)
            .min_by_key(|&(distance, _)| distance)
            .map(|(_, field)| field)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name in lower case and without what joins words.
fn bare(name: &str) -> Vec<char> {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// How many characters must be added, removed or replaced to make `b` of `a` (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_where_its_fields_are() {
        for (at, field) in Field::all().enumerate() {
            assert_eq!(field.index(), at, "{field}");
        }
        assert_eq!(Field::all().count(), Field::COUNT);
    }

    #[test]
    fn finds_what_was_meant() {
        for (name, expected) in [
            ("readrs", Some("readers")),
            ("Readers", Some("readers")),
            ("reader", Some("readers")),
            ("can_change_readers", Some("canChangeReaders")),
            ("canChangeRaeders", Some("canChangeReaders")),
            ("checksum-algorithm", Some("checksumAlgorithm")),
            ("chekcsum", Some("checksum")),
            ("vaule", Some("value")),
            ("valu", Some("value")),
            ("keys", Some("key")),
            ("description", None),
            ("password", None),
            ("", None),
        ] {
            let found = Field::nearest(name, Field::all()).map(Field::as_str);
            assert_eq!(found, expected, "{name}");
        }
    }
}
