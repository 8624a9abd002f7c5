//! What is known without asking the store.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::thread::{self, Builder};

use foldhash::HashSet;
use parking_lot::Mutex;

use crate::model::{Acl, Caller, Key, SIDECAR_SUFFIX, SecretId, Timestamp, may_see};

use super::FIRST_NODE;
use super::error::VaultError;
use super::quota::Usages;
use super::records::chunk_count;
use super::records::interner::Lists;
use super::records::secret::{RecordId, Secret, Value};

/// All secrets by key, record and id. Keys are sorted, so that a directory is a range of them. A million
/// secrets are to fit: each is in every map as a pointer, and what it is found by is its own.
pub(super) struct Index {
    by_key: BTreeMap<Key, Arc<Secret>>,
    by_record: HashSet<ByRecord>,
    by_id: HashSet<ById>,
    lists: Arc<Mutex<Lists>>,
    next_node: u64,
    last_change: Timestamp,
    changes: u64,
    totals: Totals,
    usages: Usages,
}

/// What all current values take together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Their bytes.
    pub bytes: u64,
    /// The records that hold them.
    pub chunks: u64,
}

/// One entry of a directory.
pub struct Child {
    /// The last component of its path.
    pub name: Box<str>,
    /// What it is.
    pub kind: ChildKind,
}

/// What an entry of a directory is.
pub enum ChildKind {
    /// A directory of secrets.
    Directory,
    /// A secret.
    Secret(Arc<Secret>),
}

impl Index {
    /// An empty index at the time `now`. Node numbers go on from the microseconds of the clock: they
    /// stay ahead of all that were ever given, even to secrets that are gone.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            by_key: BTreeMap::new(),
            by_record: HashSet::default(),
            by_id: HashSet::default(),
            lists: Arc::default(),
            next_node: FIRST_NODE.max(now.as_nanos() / 1000),
            last_change: now,
            changes: 0,
            totals: Totals::default(),
            usages: Usages::default(),
        }
    }

    /// An index of many secrets: each map is filled at once, on a thread of its own.
    ///
    /// # Errors
    /// The system gives no thread.
    #[allow(clippy::mutable_key_type)] // what a secret is found by never changes
    pub(super) fn of(secrets: Vec<Arc<Secret>>, lists: Lists, now: Timestamp) -> io::Result<Self> {
        let mut index = Self { lists: Arc::new(Mutex::new(lists)), ..Self::new(now) };
        secrets.iter().for_each(|secret| index.count(secret));
        let clones = || secrets.iter().map(Arc::clone);
        thread::scope(|scope| {
            let by_record = Builder::new().spawn_scoped(scope, || {
                let mut by_record = with_room(secrets.len());
                by_record.extend(clones().map(ByRecord));
                by_record
            })?;
            let by_id = Builder::new().spawn_scoped(scope, || {
                let mut by_id = with_room(secrets.len());
                by_id.extend(clones().map(ById));
                by_id
            })?;
            index.by_key = sorted(clones());
            index.by_record = by_record.join().expect("it does not panic");
            index.by_id = by_id.join().expect("it does not panic");
            Ok(index)
        })
    }

    pub(super) fn by_key(&self, key: &str) -> Option<&Arc<Secret>> {
        self.by_key.get(key)
    }

    pub(super) fn by_record(&self, record: RecordId) -> Option<&Arc<Secret>> {
        self.by_record.get(&record).map(|found| &found.0)
    }

    /// The secret whose value has that node number. Looks at all of them: for messages alone.
    pub(super) fn by_node(&self, node: u64) -> Option<&Arc<Secret>> {
        self.by_key.values().find(|secret| secret.value.node == node)
    }

    pub(super) fn by_id(&self, id: &SecretId) -> Option<&Arc<Secret>> {
        self.by_id.get(id).map(|found| &found.0)
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn last_change(&self) -> Timestamp {
        self.last_change
    }

    /// A number that is another after every change.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// What each namespace takes.
    pub(super) fn usages(&self) -> &Usages {
        &self.usages
    }

    /// The lists that secrets share. They have a lock of their own, which is not taken while the index is locked:
    /// interning long lists takes a while.
    pub(super) fn lists(&self) -> Arc<Mutex<Lists>> {
        Arc::clone(&self.lists)
    }

    /// A number that no version has had.
    pub(super) fn next_node(&mut self) -> u64 {
        self.next_nodes(1)
    }

    /// The first of `count` numbers in a row that no version has had.
    pub(super) fn next_nodes(&mut self, count: usize) -> u64 {
        let node = self.next_node;
        self.next_node += count as u64;
        node
    }

    /// That number has been given to a version, so it is not given again.
    pub(super) fn is_taken(&mut self, node: u64) {
        self.next_node = self.next_node.max(node + 1);
    }

    /// The current versions of all secrets.
    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<Value>> {
        self.by_record.iter().map(|one| &one.0.value)
    }

    pub(super) fn secrets(&self) -> impl Iterator<Item = &Arc<Secret>> {
        self.by_key.values()
    }

    /// Adds a secret of whose record, key and id there is none.
    pub(super) fn insert(&mut self, secret: Arc<Secret>) {
        self.count(&secret);
        self.by_id.insert(ById(Arc::clone(&secret)));
        self.by_record.insert(ByRecord(Arc::clone(&secret)));
        self.by_key.insert(secret.key.clone(), secret);
    }

    fn count(&mut self, secret: &Secret) {
        self.is_taken(secret.value.node.max(secret.record().0));
        self.last_change = self.last_change.max(secret.value.updated);
        self.changes += 1;
        self.totals.bytes += u64::from(secret.value.size);
        self.totals.chunks += u64::from(chunk_count(secret.value.size as usize));
        self.usages.add(secret);
    }

    pub(super) fn remove(&mut self, secret: &Secret, now: Timestamp) {
        self.by_key.remove(&secret.key);
        self.by_record.remove(&secret.record());
        self.by_id.remove(&secret.id);
        self.last_change = self.last_change.max(now);
        self.changes += 1;
        self.totals.bytes -= u64::from(secret.value.size);
        self.totals.chunks -= u64::from(chunk_count(secret.value.size as usize));
        self.usages.remove(secret);
    }

    pub(super) fn is_directory(&self, path: &str) -> bool {
        path.is_empty() || self.below(path).next().is_some()
    }

    /// Whether a new secret of this name would stand in the way of others, or they in its.
    pub(super) fn check_free(&self, key: &Key) -> Result<(), VaultError> {
        if self.is_directory(key.as_str()) {
            return Err(VaultError::IsDirectory { key: key.to_string() });
        }
        // A directory `x.acl` and the sidecar of a secret `x` would have one path.
        if self.is_directory(&format!("{key}{SIDECAR_SUFFIX}")) {
            return Err(VaultError::IsDirectory { key: format!("{key}{SIDECAR_SUFFIX}") });
        }
        for directory in key.ancestors() {
            let in_the_way = |path: &str| self.by_key.contains_key(path);
            if in_the_way(directory)
                || directory.strip_suffix(SIDECAR_SUFFIX).is_some_and(in_the_way)
            {
                return Err(VaultError::NotDirectory { path: directory.to_owned() });
            }
        }
        Ok(())
    }

    /// The secrets below a directory, in the order of their keys.
    pub(super) fn below<'a>(
        &'a self,
        directory: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Secret>)> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        self.by_key
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(move |(key, _)| key.as_str().starts_with(&prefix))
    }

    /// The secrets of one caller's interest at a path and below it, in the order of their keys.
    pub(super) fn at_and_below<'a>(
        &'a self,
        caller: &'a Caller,
        path: &'a str,
        may: fn(&Caller, &Acl) -> bool,
    ) -> impl Iterator<Item = &'a Arc<Secret>> {
        let mut sees = Visibility::new(caller, may);
        let below = self.below(path).map(|(_, secret)| secret);
        self.by_key.get(path).into_iter().chain(below).filter(move |secret| sees.secret(secret))
    }

    pub(super) fn sees_below(&self, caller: &Caller, directory: &str) -> bool {
        let mut sees = Visibility::new(caller, may_see);
        self.below(directory).any(|(_, secret)| sees.secret(secret))
    }

    pub(super) fn children(&self, caller: &Caller, directory: &str) -> Vec<Child> {
        let prefix_length = if directory.is_empty() { 0 } else { directory.len() + 1 };
        let mut sees = Visibility::new(caller, may_see);
        let mut children: Vec<Child> = Vec::new();
        for (key, secret) in self.below(directory) {
            let rest = &key.as_str()[prefix_length..];
            let (name, kind) = match rest.split_once('/') {
                None => (rest, ChildKind::Secret(Arc::clone(secret))),
                Some((name, _)) if children.last().is_some_and(|last| &*last.name == name) => {
                    continue;
                }
                Some((name, _)) => (name, ChildKind::Directory),
            };
            if sees.secret(secret) {
                children.push(Child { name: name.into(), kind });
            }
        }
        children
    }
}

/// A table with room from the start: one that grows is copied.
fn with_room<T>(count: usize) -> HashSet<T> {
    HashSet::with_capacity_and_hasher(count, Default::default())
}

/// A map by key. Comparing keys of secrets that lie all over the memory is slow, and names begin
/// alike: most comparisons are decided by a piece that is copied beside each other.
fn sorted(secrets: impl Iterator<Item = Arc<Secret>>) -> BTreeMap<Key, Arc<Secret>> {
    const PIECE: usize = 32;
    let mut sorted: Vec<([u8; PIECE], Arc<Secret>)> = secrets
        .map(|secret| {
            let key = secret.key.as_str().as_bytes();
            let mut piece = [0; PIECE];
            let length = key.len().min(PIECE);
            piece[..length].copy_from_slice(&key[..length]);
            (piece, secret)
        })
        .collect();
    // No key has a byte 0: one that is a piece of another comes first.
    sorted.sort_unstable_by(|(left_piece, left), (right_piece, right)| {
        left_piece.cmp(right_piece).then_with(|| left.key.cmp(&right.key))
    });
    sorted.into_iter().map(|(_, secret)| (secret.key.clone(), secret)).collect()
}

/// A secret that is found by its record.
struct ByRecord(Arc<Secret>);

/// A secret that is found by its id.
struct ById(Arc<Secret>);

/// Found by a part of what is held, a map needs no copy of that part. The rule of [`Borrow`] is that
/// the whole is hashed and compared as the part is.
macro_rules! found_by {
    ($holder:ident, $part:ty, $of:expr) => {
        impl Borrow<$part> for $holder {
            fn borrow(&self) -> &$part {
                let of: fn(&Secret) -> &$part = $of;
                of(&self.0)
            }
        }

        impl Hash for $holder {
            fn hash<H: Hasher>(&self, state: &mut H) {
                Borrow::<$part>::borrow(self).hash(state);
            }
        }

        impl PartialEq for $holder {
            fn eq(&self, other: &Self) -> bool {
                Borrow::<$part>::borrow(self) == other.borrow()
            }
        }

        impl Eq for $holder {}
    };
}

found_by!(ByRecord, RecordId, |secret| &secret.value.record);
found_by!(ById, SecretId, |secret| &secret.id);

/// What one caller sees: each set of lists is looked at once, however many secrets share it.
struct Visibility<'a> {
    caller: &'a Caller,
    may: fn(&Caller, &Acl) -> bool,
    decided: HashMap<*const Acl, bool>,
}

impl<'a> Visibility<'a> {
    fn new(caller: &'a Caller, may: fn(&Caller, &Acl) -> bool) -> Self {
        Self { caller, may, decided: HashMap::new() }
    }

    fn secret(&mut self, secret: &Secret) -> bool {
        self.caller.is_admin()
            || *self
                .decided
                .entry(Arc::as_ptr(&secret.acl))
                .or_insert_with(|| (self.may)(self.caller, &secret.acl))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::model::Slug;
    use crate::vault::records::secret::Value;

    fn secret(number: u64, key: &str) -> Arc<Secret> {
        let updated_by = Slug::parse("alice").unwrap();
        Arc::new(Secret {
            key: Key::parse(key).unwrap(),
            id: SecretId::parse(&format!("id-{number}")).unwrap(),
            acl: Arc::default(),
            created: Timestamp::from_nanos(1),
            value: Arc::new(Value {
                record: crate::vault::records::secret::RecordId(number),
                version: 1,
                node: number + 1,
                size: 40_000,
                updated: Timestamp::from_nanos(number),
                updated_by,
                superseded: AtomicBool::new(false),
                garbage: Arc::default(),
            }),
        })
    }

    #[test]
    fn built_at_once_it_is_as_built_one_by_one() {
        let long = "team-with-a-long-name/service-with-a-long-name/";
        let keys: Vec<String> = ["a", "a-b/c", "a/b", "b", "ab", "ключ"]
            .into_iter()
            .map(str::to_owned)
            .chain((0..300).map(|number| format!("{long}{}", (number * 7919) % 1000)))
            .collect();
        let secrets: Vec<_> =
            (2000..).step_by(2).zip(&keys).map(|(n, key)| secret(n, key)).collect();
        let now = Timestamp::from_nanos(5);
        let at_once = Index::of(secrets.clone(), Lists::default(), now).unwrap();
        let mut one_by_one = Index::new(now);
        secrets.iter().cloned().for_each(|secret| one_by_one.insert(secret));
        for index in [&at_once, &one_by_one] {
            assert!(index.by_key.keys().is_sorted());
            assert_eq!(index.len(), secrets.len());
            for secret in &secrets {
                let found = [
                    index.by_key(secret.key.as_str()),
                    index.by_id(&secret.id),
                    index.by_record(secret.record()),
                ];
                assert!(found.iter().all(|found| Arc::ptr_eq(found.unwrap(), secret)));
            }
        }
        assert_eq!(at_once.totals(), one_by_one.totals());
        assert_eq!(at_once.usages, one_by_one.usages);
        assert_eq!(at_once.next_node, one_by_one.next_node);
        assert_eq!(at_once.last_change(), one_by_one.last_change());
    }
}
