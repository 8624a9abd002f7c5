//! The identities file: which UIDs have which slugs and teams, and who is an admin.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use crate::model::{Slug, SlugError};

/// The largest identities file, in bytes: 1 MiB.
pub const MAX_IDENTITIES_BYTES: usize = 1 << 20;

/// What an identities file says. The default, also of an empty file: `root` is the only admin and no user has a slug
/// beyond those that come from the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identities {
    admins: Vec<Slug>,
    by_uid: HashMap<u32, Identity>,
    uid_by_slug: HashMap<Slug, u32>,
    /// All teams of all entries.
    teams: HashSet<Slug>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    slug: Slug,
    teams: Vec<Slug>,
}

/// Why an identities file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// Over [`MAX_IDENTITIES_BYTES`].
    #[error("it is larger than {MAX_IDENTITIES_BYTES} bytes; shorten it")]
    TooLarge,
    /// Not YAML, an unknown field, a wrong type or a bad slug; the text tells the line.
    #[error("{0}; correct it")]
    Syntax(#[from] serde_yaml::Error),
    /// A UID that stands twice.
    #[error("uid {uid} is given to both `{first}` and `{second}`; keep one of them")]
    DuplicateUid {
        /// The UID.
        uid: u32,
        /// Its slug where it stands first.
        first: Slug,
        /// Its slug where it stands again.
        second: Slug,
    },
    /// A slug that two UIDs would have.
    #[error("slug `{slug}` is given to both uid {first} and uid {second}; keep one of them")]
    DuplicateSlug {
        /// The slug.
        slug: Slug,
        /// The UID where it stands first.
        first: u32,
        /// The UID where it stands again.
        second: u32,
    },
    /// `uid:N` or `gid:N` as the slug of an identity.
    #[error("`{0}` cannot be the slug of an identity, it stands for a number; choose a name")]
    NumberAsName(Slug),
}

impl Identities {
    /// Reads an identities file.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, FileFault> {
        if bytes.len() > MAX_IDENTITIES_BYTES {
            return Err(FileFault::TooLarge);
        }
        let raw: RawFile = serde_yaml::from_slice::<Option<RawFile>>(bytes)?.unwrap_or_default();
        let admins = raw.admins.unwrap_or_else(|| vec![RawSlug(root())]);
        let mut identities = Self { admins: slugs(admins), ..Self::nobody() };
        for entry in raw.identities {
            identities.add(entry)?;
        }
        Ok(identities)
    }

    fn add(
        &mut self,
        RawIdentity { slug: RawSlug(slug), uid, teams }: RawIdentity,
    ) -> Result<(), FileFault> {
        if slug.as_str().contains(':') {
            return Err(FileFault::NumberAsName(slug));
        }
        let teams = slugs(teams);
        self.teams.extend(teams.iter().cloned());
        match self.by_uid.entry(uid) {
            Entry::Occupied(first) => {
                let first = first.get().slug.clone();
                return Err(FileFault::DuplicateUid { uid, first, second: slug });
            }
            Entry::Vacant(vacant) => {
                vacant.insert(Identity { slug: slug.clone(), teams });
            }
        }
        match self.uid_by_slug.insert(slug.clone(), uid) {
            Some(first) => Err(FileFault::DuplicateSlug { slug, first, second: uid }),
            None => Ok(()),
        }
    }

    fn nobody() -> Self {
        Self {
            admins: Vec::new(),
            by_uid: HashMap::new(),
            uid_by_slug: HashMap::new(),
            teams: HashSet::new(),
        }
    }

    /// The slug that the file gives to a UID.
    pub fn slug_of(&self, uid: u32) -> Option<&Slug> {
        self.by_uid.get(&uid).map(|identity| &identity.slug)
    }

    /// The teams that the file gives to a UID.
    pub fn teams_of(&self, uid: u32) -> &[Slug] {
        self.by_uid.get(&uid).map_or(&[], |identity| &identity.teams)
    }

    /// Whether the file has a team of this name.
    pub fn is_team(&self, slug: &Slug) -> bool {
        self.teams.contains(slug)
    }

    /// Whether the slug is one of an entry, a team, an admin, or stands for a number.
    pub fn names(&self, slug: &Slug) -> bool {
        self.uid_by_slug.contains_key(slug)
            || self.is_team(slug)
            || self.is_admin(slug)
            || slug.as_str().contains(':')
    }

    /// The UID that has this slug by the file.
    pub fn uid_of(&self, slug: &Slug) -> Option<u32> {
        self.uid_by_slug.get(slug).copied()
    }

    /// The slugs that make their bearers admins.
    pub fn admins(&self) -> &[Slug] {
        &self.admins
    }

    /// The UIDs that have an entry.
    pub fn uids(&self) -> impl Iterator<Item = u32> {
        self.by_uid.keys().copied()
    }

    /// Whether this slug makes its bearer an admin.
    pub fn is_admin(&self, slug: &Slug) -> bool {
        self.admins.contains(slug)
    }
}

impl Default for Identities {
    fn default() -> Self {
        Self { admins: vec![root()], ..Self::nobody() }
    }
}

fn root() -> Slug {
    Slug::parse("root").expect("`root` follows the rule for slugs")
}

fn slugs(raw: Vec<RawSlug>) -> Vec<Slug> {
    raw.into_iter().map(|RawSlug(slug)| slug).collect()
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `admins` and `identities`")]
struct RawFile {
    admins: Option<Vec<RawSlug>>,
    #[serde(default)]
    identities: Vec<RawIdentity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `slug`, `uid` and perhaps `teams`")]
struct RawIdentity {
    slug: RawSlug,
    uid: u32,
    #[serde(default)]
    teams: Vec<RawSlug>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct RawSlug(Slug);

impl TryFrom<String> for RawSlug {
    type Error = SlugError;

    fn try_from(text: String) -> Result<Self, SlugError> {
        Slug::parse(&text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slug(text: &str) -> Slug {
        Slug::parse(text).unwrap()
    }

    #[test]
    fn reads_the_file_of_the_contract() {
        let text = "admins: [root, secret-admins]\nidentities:\n  - slug: payment-svc\n    uid: 2001\n  - slug: alice\n    uid: 2100\n    teams: [devops-team]\n";
        let identities = Identities::parse(text.as_bytes()).unwrap();
        assert!(identities.is_admin(&slug("root")) && identities.is_admin(&slug("secret-admins")));
        assert!(!identities.is_admin(&slug("alice")));
        assert_eq!(identities.slug_of(2001), Some(&slug("payment-svc")));
        assert_eq!(identities.teams_of(2100), [slug("devops-team")]);
        assert_eq!(identities.uid_of(&slug("alice")), Some(2100));
        assert_eq!((identities.slug_of(7), identities.teams_of(7)), (None, &[][..]));
    }

    #[test]
    fn root_is_the_admin_unless_the_file_names_admins() {
        for text in ["", "# nothing yet\n", "---\n", "{}", "identities: []", "admins: [root]"] {
            assert_eq!(
                Identities::parse(text.as_bytes()).unwrap(),
                Identities::default(),
                "{text:?}"
            );
        }
        for text in ["admins: []", "admins: [uid:5]"] {
            assert!(!Identities::parse(text.as_bytes()).unwrap().is_admin(&slug("root")), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let entry = |slug: &str, uid: &str| format!("- slug: {slug}\n  uid: {uid}\n");
        let two = |a: String, b: String| format!("identities:\n{a}{b}");
        for (text, expected) in [
            ("admin: [root]".to_owned(), "unknown field `admin`"),
            ("admins: [root]\nidentities:\n- slug: a b\n  uid: 1".to_owned(), "line 3"),
            ("identities:\n- slug: a".to_owned(), "missing field `uid`"),
            ("identities:\n- uid: 1".to_owned(), "missing field `slug`"),
            (two(entry("a", "-1"), String::new()), "line 3"),
            (two(entry("a", "4294967296"), String::new()), "line 3"),
            (two(entry("a", "1\n  gid: 1"), String::new()), "unknown field `gid`"),
            (two(entry("uid:2", "1"), String::new()), "`uid:2` cannot be the slug of an identity"),
            (two(entry("a", "1"), entry("b", "1")), "uid 1 is given to both `a` and `b`"),
            (two(entry("a", "1"), entry("a", "2")), "`a` is given to both uid 1 and uid 2"),
            ("admins: [root]\nadmins: [root]".to_owned(), "duplicate field `admins`"),
            ("admins: root".to_owned(), "line 1"),
            ("admins: [root".to_owned(), "line"),
            ("- a".to_owned(), "expected a mapping with `admins` and `identities`"),
            ("identities: [a]".to_owned(), "expected a mapping with `slug`"),
        ] {
            let error = Identities::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        assert!(Identities::parse(b"admins: [\"\xff\"]").is_err());
        let large = vec![b'\n'; MAX_IDENTITIES_BYTES + 1];
        assert!(matches!(Identities::parse(&large), Err(FileFault::TooLarge)));
    }
}
