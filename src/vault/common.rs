//! What many secrets have in common, held once.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use foldhash::HashMap;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use crate::model::{Acl, ListName, Slug};

/// The names in six lists, as they are encoded (postcard).
pub(super) type EncodedLists<'a> = [Vec<&'a str>; 6];

/// The names in the lists.
pub(super) fn names_of(acl: &Acl) -> EncodedLists<'_> {
    ListName::ALL.map(|name| acl.list(name).iter().map(Slug::as_str).collect())
}

/// What heads that are decoded one after the other have in common.
#[derive(Default)]
pub(super) struct Common {
    pub(super) lists: Lists,
    slugs: HashSet<Slug>,
}

impl Common {
    /// The slug of that text, if it is one.
    pub(super) fn slug(&mut self, text: &str) -> Option<Slug> {
        shared_slug(&mut self.slugs, text)
    }
}

fn shared_slug(slugs: &mut HashSet<Slug>, text: &str) -> Option<Slug> {
    if let Some(slug) = slugs.get(text) {
        return Some(slug.clone());
    }
    let slug = Slug::parse(text).ok()?;
    slugs.insert(slug.clone());
    Some(slug)
}

/// Lists shared by reference: a million secrets have a few hundred different sets of lists.
#[derive(Default)]
pub(super) struct Lists(HashMap<Box<[u8]>, Arc<Acl>>);

/// Unused lists are looked for when there are more than this, and then at every doubling.
const FIRST_PRUNE: usize = 1024;

impl Lists {
    /// The one shared copy of these lists.
    pub(super) fn intern(&mut self, acl: Acl) -> Arc<Acl> {
        let encoded = postcard::to_stdvec(&names_of(&acl)).expect("strings always encode");
        match self.0.get(encoded.as_slice()) {
            Some(shared) => Arc::clone(shared),
            None => self.keep(encoded.into(), acl),
        }
    }

    /// The one shared copy of the lists that are encoded so; none if these are no lists.
    pub(super) fn decode(&mut self, encoded: &[u8]) -> Option<Arc<Acl>> {
        if let Some(shared) = self.0.get(encoded) {
            return Some(Arc::clone(shared));
        }
        let names: EncodedLists<'_> = postcard::from_bytes(encoded).ok()?;
        let (mut acl, mut slugs) = (Acl::default(), HashSet::new());
        for (name, names) in ListName::ALL.into_iter().zip(names) {
            let list = names.into_iter().map(|name| shared_slug(&mut slugs, name));
            acl.set(name, list.collect::<Option<_>>()?);
        }
        Some(self.keep(encoded.into(), acl))
    }

    /// Takes over what others hold. Lists that are here already stay two copies where they are used.
    pub(super) fn extend(&mut self, others: Self) {
        for (encoded, acl) in others.0 {
            self.0.entry(encoded).or_insert(acl);
        }
    }

    fn keep(&mut self, encoded: Box<[u8]>, acl: Acl) -> Arc<Acl> {
        if self.0.len() >= FIRST_PRUNE && self.0.len().is_power_of_two() {
            self.0.retain(|_, shared| Arc::strong_count(shared) > 1);
        }
        let shared = Arc::new(acl);
        self.0.insert(encoded, Arc::clone(&shared));
        shared
    }
}

/// One of [`EncodedLists`] of which only the end is looked for.
pub(super) struct PassedOver;

impl<'de> Deserialize<'de> for PassedOver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PassOver)
    }
}

struct PassOver;

impl<'de> Visitor<'de> for PassOver {
    type Value = PassedOver;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<PassedOver, A::Error> {
        while names.next_element::<&str>()?.is_some() {}
        Ok(PassedOver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(names: &[&str]) -> Acl {
        let mut acl = Acl::all_of(&Slug::parse("alice").unwrap());
        let readers = names.iter().map(|name| Slug::parse(name).unwrap()).collect();
        acl.set(ListName::Readers, readers);
        acl
    }

    #[test]
    fn equal_lists_are_one_however_they_came() {
        let mut lists = Lists::default();
        let shared = lists.intern(acl(&["alice", "bob"]));
        let encoded = postcard::to_stdvec(&names_of(&shared)).unwrap();
        assert!(Arc::ptr_eq(&shared, &lists.decode(&encoded).unwrap()));
        assert!(Arc::ptr_eq(&shared, &lists.intern(acl(&["alice", "bob"]))));
        let mut others = Lists::default();
        let decoded = others.decode(&encoded).unwrap();
        assert_eq!(decoded, shared);
        // The order is what the user wrote, and is kept.
        assert!(!Arc::ptr_eq(&shared, &lists.intern(acl(&["bob", "alice"]))));
        lists.extend(others);
        assert!(Arc::ptr_eq(&shared, &lists.decode(&encoded).unwrap()));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let mut lists = Lists::default();
        let bad =
            postcard::to_stdvec(&[vec!["not a slug"], vec![], vec![], vec![], vec![], vec![]]);
        assert!(lists.decode(&bad.unwrap()).is_none());
        assert!(lists.decode(&[1, 200]).is_none());
    }

    #[test]
    fn lists_that_nobody_has_go() {
        let mut lists = Lists::default();
        let held = lists.intern(acl(&["held"]));
        (0..FIRST_PRUNE).for_each(|number| drop(lists.intern(acl(&[&format!("team-{number}")]))));
        assert_eq!(lists.0.len(), 2);
        assert!(Arc::ptr_eq(&held, &lists.intern(acl(&["held"]))));
    }
}
