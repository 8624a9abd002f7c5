//! What many secrets have in common, held once.

use std::borrow::Cow;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use blake2::{Blake2s256, Digest};
use foldhash::fast::RandomState;
use foldhash::{HashMap, HashSet};
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use crate::model::{Acl, ListName, Slug};

/// The names in six lists, as they are encoded (postcard).
pub(in crate::vault) type EncodedLists<'a> = [Vec<&'a str>; 6];

/// The names in the lists.
pub(in crate::vault) fn names_of(acl: &Acl) -> EncodedLists<'_> {
    ListName::ALL.map(|name| acl.list(name).iter().map(Slug::as_str).collect())
}

/// What heads that are decoded one after the other have in common.
#[derive(Default)]
pub(in crate::vault) struct Interner {
    pub(in crate::vault) lists: Lists,
}

impl Interner {
    /// The slug of that text, if it is one.
    pub(in crate::vault) fn slug(&mut self, text: &str) -> Option<Slug> {
        self.lists.slugs.parse(text)
    }
}

/// Slugs shared by reference. Where every secret has lists of its own, they still name the same users.
///
/// Many sets, since one that grows moves all that it has: with a million slugs that takes a tenth of a second, and
/// all other threads that intern lists wait for it.
struct Slugs {
    sets: [HashSet<Slug>; SETS],
    chooser: RandomState,
}

const SETS: usize = 64;

impl Default for Slugs {
    fn default() -> Self {
        Self { sets: std::array::from_fn(|_| HashSet::default()), chooser: RandomState::default() }
    }
}

impl Slugs {
    fn parse(&mut self, text: &str) -> Option<Slug> {
        match self.set_of(text).get(text) {
            Some(shared) => Some(shared.clone()),
            None => Slug::parse(text).ok().map(|slug| self.keep(slug)),
        }
    }

    fn share(&mut self, slug: &Slug) -> Slug {
        match self.set_of(slug.as_str()).get(slug) {
            Some(shared) => shared.clone(),
            None => self.keep(slug.clone()),
        }
    }

    fn keep(&mut self, slug: Slug) -> Slug {
        let set = self.set_of(slug.as_str());
        if set.len() >= FIRST_PRUNE / SETS && set.len().is_power_of_two() {
            set.retain(Slug::is_shared);
        }
        set.insert(slug.clone());
        slug
    }

    fn set_of(&mut self, text: &str) -> &mut HashSet<Slug> {
        &mut self.sets[self.chooser.hash_one(text) as usize % SETS]
    }
}

/// Lists shared by reference: a million secrets have a few hundred different sets of lists.
#[derive(Default)]
pub(in crate::vault) struct Lists {
    lists: HashMap<Box<[u8]>, Arc<Acl>>,
    slugs: Slugs,
}

/// Unused lists and slugs are looked for when there are more than this, and then at every doubling.
const FIRST_PRUNE: usize = 1024;
/// Longer encoded lists are found by a hash, so that their names are not held a second time.
const MAX_PLAIN_BYTES: usize = 200;
/// Begins a hash. Encoded lists that begin so are longer than [`MAX_PLAIN_BYTES`]: the first has over 126
/// names of at least two bytes each.
const HASH_MARK: u8 = 0xff;

/// Under what lists that are encoded so are found.
fn place_of(encoded: &[u8]) -> Cow<'_, [u8]> {
    if encoded.len() <= MAX_PLAIN_BYTES {
        return Cow::Borrowed(encoded);
    }
    let mut place = vec![HASH_MARK];
    place.extend_from_slice(&Blake2s256::digest(encoded));
    Cow::Owned(place)
}

impl Lists {
    /// The one shared copy of these lists.
    pub(in crate::vault) fn intern(&mut self, acl: Acl) -> Arc<Acl> {
        let encoded = postcard::to_stdvec(&names_of(&acl)).expect("strings always encode");
        let place = place_of(&encoded);
        if let Some(shared) = self.lists.get(&*place) {
            return Arc::clone(shared);
        }
        let mut shared = Acl::default();
        for name in ListName::ALL {
            let list = acl.list(name).iter().map(|slug| self.slugs.share(slug));
            shared.set(name, list.collect());
        }
        self.keep(place.into(), shared)
    }

    /// The one shared copy of the lists that are encoded so; none if these are no lists.
    pub(in crate::vault) fn decode(&mut self, encoded: &[u8]) -> Option<Arc<Acl>> {
        let place = place_of(encoded);
        if let Some(shared) = self.lists.get(&*place) {
            return Some(Arc::clone(shared));
        }
        let names: EncodedLists<'_> = postcard::from_bytes(encoded).ok()?;
        let mut acl = Acl::default();
        for (name, names) in ListName::ALL.into_iter().zip(names) {
            let list = names.into_iter().map(|name| self.slugs.parse(name));
            acl.set(name, list.collect::<Option<_>>()?);
        }
        Some(self.keep(place.into(), acl))
    }

    /// Takes over what others hold. Lists that are here already stay two copies where they are used.
    pub(in crate::vault) fn extend(&mut self, others: Self) {
        for (place, acl) in others.lists {
            self.lists.entry(place).or_insert(acl);
        }
        for slug in others.slugs.sets.into_iter().flatten() {
            self.slugs.set_of(slug.as_str()).insert(slug);
        }
    }

    fn keep(&mut self, place: Box<[u8]>, acl: Acl) -> Arc<Acl> {
        if self.lists.len() >= FIRST_PRUNE && self.lists.len().is_power_of_two() {
            self.lists.retain(|_, shared| Arc::strong_count(shared) > 1);
        }
        let shared = Arc::new(acl);
        self.lists.insert(place, Arc::clone(&shared));
        shared
    }
}

/// One of [`EncodedLists`] of which only the end is looked for.
pub(in crate::vault) struct PassedOver;

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
    fn long_lists_share_their_slugs_and_hold_each_once() {
        let names: Vec<_> = (0..300).map(|number| format!("team-{number}")).collect();
        let mut names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut lists = Lists::default();
        let stored = lists.intern(acl(&names));
        let encoded = postcard::to_stdvec(&names_of(&stored)).unwrap();
        assert!(lists.lists.keys().all(|place| place.len() <= MAX_PLAIN_BYTES));
        names.pop();
        let (one, other) = (lists.decode(&encoded).unwrap(), lists.intern(acl(&names)));
        assert!(Arc::ptr_eq(&stored, &one) && !Arc::ptr_eq(&one, &other));
        let mut loaded = Lists::default();
        let encoded = [&stored, &other].map(|acl| postcard::to_stdvec(&names_of(acl)).unwrap());
        let [one, other] = encoded.map(|encoded| loaded.decode(&encoded).unwrap());
        let texts = |acl: &Acl| -> Vec<*const u8> {
            acl.list(ListName::Readers).iter().map(|slug| slug.as_str().as_ptr()).collect()
        };
        assert_eq!(texts(&one)[..299], texts(&other)[..], "loaded slugs are shared as well");
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
        assert_eq!(lists.lists.len(), 2);
        let slugs: usize = lists.slugs.sets.iter().map(HashSet::len).sum();
        assert!(slugs < 2 * FIRST_PRUNE, "their slugs go too");
        assert!(Arc::ptr_eq(&held, &lists.intern(acl(&["held"]))));
    }
}
