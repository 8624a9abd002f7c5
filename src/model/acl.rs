//! The six lists that every secret carries.

use std::fmt;

use super::Slug;

/// One of the six lists, in the order in which a sidecar shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum ListName {
    /// May read the value.
    Readers,
    /// May change the value.
    Writers,
    /// May remove the secret.
    Deleters,
    /// May change `readers`.
    CanChangeReaders,
    /// May change `writers`.
    CanChangeWriters,
    /// May change `deleters`.
    CanChangeDeleters,
}

impl ListName {
    /// All six, in the order of the contract.
    pub const ALL: [Self; 6] = [
        Self::Readers,
        Self::Writers,
        Self::Deleters,
        Self::CanChangeReaders,
        Self::CanChangeWriters,
        Self::CanChangeDeleters,
    ];

    /// The name as it stands in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Readers => "readers",
            Self::Writers => "writers",
            Self::Deleters => "deleters",
            Self::CanChangeReaders => "canChangeReaders",
            Self::CanChangeWriters => "canChangeWriters",
            Self::CanChangeDeleters => "canChangeDeleters",
        }
    }

    /// The list of that name, if there is one.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|list| list.as_str() == name)
    }

    /// The list whose members may change this one; `None` where only an admin may.
    pub fn guarded_by(self) -> Option<Self> {
        match self {
            Self::Readers => Some(Self::CanChangeReaders),
            Self::Writers => Some(Self::CanChangeWriters),
            Self::Deleters => Some(Self::CanChangeDeleters),
            Self::CanChangeReaders | Self::CanChangeWriters | Self::CanChangeDeleters => None,
        }
    }
}

impl fmt::Display for ListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Slugs without repetition, in the order in which they were written. Two lists are equal when they
/// hold the same slugs, whatever their order: order grants nothing.
#[derive(Clone, Debug, Default)]
pub struct SlugList(Box<[Slug]>);

impl SlugList {
    /// Whether the list holds this slug.
    pub fn contains(&self, slug: &Slug) -> bool {
        self.0.contains(slug)
    }

    /// The slugs, in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Slug> {
        self.0.iter()
    }

    /// How many slugs the list holds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the list holds nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The list with `slugs` added at its end, those that are missing.
    pub fn with(&self, slugs: impl IntoIterator<Item = Slug>) -> Self {
        self.iter().cloned().chain(slugs).collect()
    }

    /// The list without `slugs`.
    pub fn without(&self, slugs: &[Slug]) -> Self {
        self.iter().filter(|slug| !slugs.contains(slug)).cloned().collect()
    }
}

impl FromIterator<Slug> for SlugList {
    fn from_iter<I: IntoIterator<Item = Slug>>(slugs: I) -> Self {
        let mut seen = std::collections::HashSet::new();
        Self(slugs.into_iter().filter(|slug| seen.insert(slug.clone())).collect())
    }
}

impl<'a> IntoIterator for &'a SlugList {
    type Item = &'a Slug;
    type IntoIter = std::slice::Iter<'a, Slug>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for SlugList {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|slug| other.contains(slug))
    }
}

impl Eq for SlugList {}

/// The six lists of one secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl([SlugList; 6]);

impl Acl {
    /// Six lists that all hold just `slug`: what a non-admin's new secret gets.
    pub fn all_of(slug: &Slug) -> Self {
        Self(std::array::from_fn(|_| SlugList::from_iter([slug.clone()])))
    }

    /// One of the lists.
    pub fn list(&self, name: ListName) -> &SlugList {
        &self.0[name as usize]
    }

    /// Puts `list` in the place of the list of that name.
    pub fn set(&mut self, name: ListName, list: SlugList) {
        self.0[name as usize] = list;
    }

    /// The six lists with their names, in the order of the contract.
    pub fn iter(&self) -> impl Iterator<Item = (ListName, &SlugList)> {
        ListName::ALL.into_iter().map(|name| (name, self.list(name)))
    }

    /// These lists with those that `patch` names replaced.
    pub fn patched(&self, patch: &AclPatch) -> Self {
        let mut patched = self.clone();
        for (name, list) in patch.iter() {
            patched.set(name, list.clone());
        }
        patched
    }

    /// The lists in which `other` really differs.
    pub fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = ListName> + 'a {
        ListName::ALL.into_iter().filter(|&name| self.list(name) != other.list(name))
    }
}

/// The lists that a document names, and nothing about the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclPatch([Option<SlugList>; 6]);

impl AclPatch {
    /// Names one list.
    pub fn set(&mut self, name: ListName, list: SlugList) {
        self.0[name as usize] = Some(list);
    }

    /// What the document says of one list.
    pub fn list(&self, name: ListName) -> Option<&SlugList> {
        self.0[name as usize].as_ref()
    }

    /// The named lists, in the order of the contract.
    pub fn iter(&self) -> impl Iterator<Item = (ListName, &SlugList)> {
        ListName::ALL.into_iter().filter_map(|name| Some((name, self.list(name)?)))
    }

    /// Whether no list is named.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl From<&Acl> for AclPatch {
    fn from(acl: &Acl) -> Self {
        Self(std::array::from_fn(|index| Some(acl.0[index].clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slugs(names: &[&str]) -> SlugList {
        names.iter().map(|name| Slug::parse(name).unwrap()).collect()
    }

    #[test]
    fn lists_are_sets_that_remember_their_order() {
        let list = slugs(&["b", "a", "b"]);
        assert_eq!(list.iter().map(Slug::as_str).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(list, slugs(&["a", "b"]));
        assert_ne!(list, slugs(&["a"]));
        assert_eq!(list.without(&[Slug::parse("b").unwrap()]), slugs(&["a"]));
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let before = Acl::all_of(&Slug::parse("alice").unwrap());
        let mut patch = AclPatch::default();
        assert!(patch.is_empty());
        patch.set(ListName::Readers, slugs(&["alice", "bob"]));
        patch.set(ListName::Writers, slugs(&["alice"]));
        let after = before.patched(&patch);
        assert_eq!(before.differing(&after).collect::<Vec<_>>(), [ListName::Readers]);
    }
}
