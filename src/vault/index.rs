//! What is known without asking the store.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::model::{Acl, Caller, Key, SIDECAR_SUFFIX, SecretId, Timestamp, may_see};

use super::FIRST_NODE;
use super::error::VaultError;
use super::record::{Lists, chunk_count};
use super::secret::{RecordId, Secret, Value};

/// All secrets by key, record and id. Keys are sorted, so that a folder is a range of them.
pub(super) struct Index {
    by_key: BTreeMap<Key, Arc<Secret>>,
    by_record: HashMap<RecordId, Arc<Secret>>,
    by_id: HashMap<SecretId, RecordId>,
    lists: Lists,
    next_node: u64,
    last_change: Timestamp,
    changes: u64,
    totals: Totals,
}

/// What all current values take together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Their bytes.
    pub bytes: u64,
    /// The records that hold them.
    pub chunks: u64,
}

/// One entry of a folder.
pub struct Child {
    /// The last component of its path.
    pub name: Box<str>,
    /// What it is.
    pub kind: ChildKind,
}

/// What an entry of a folder is.
pub enum ChildKind {
    /// A folder of secrets.
    Folder,
    /// A secret.
    Secret(Arc<Secret>),
}

impl Index {
    /// An empty index at the time `now`. Node numbers go on from the microseconds of the clock: they
    /// stay ahead of all that were ever given, even to secrets that are gone.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            by_key: BTreeMap::new(),
            by_record: HashMap::new(),
            by_id: HashMap::new(),
            lists: Lists::default(),
            next_node: FIRST_NODE.max(now.as_nanos() / 1000),
            last_change: now,
            changes: 0,
            totals: Totals::default(),
        }
    }

    pub(super) fn by_key(&self, key: &str) -> Option<&Arc<Secret>> {
        self.by_key.get(key)
    }

    pub(super) fn by_record(&self, record: RecordId) -> Option<&Arc<Secret>> {
        self.by_record.get(&record)
    }

    /// The secret whose value has that node number. Looks at all of them: for messages alone.
    pub(super) fn by_node(&self, node: u64) -> Option<&Arc<Secret>> {
        self.by_record.values().find(|secret| secret.value.node == node)
    }

    pub(super) fn by_id(&self, id: &SecretId) -> Option<&Arc<Secret>> {
        self.by_record(*self.by_id.get(id)?)
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

    pub(super) fn lists_mut(&mut self) -> &mut Lists {
        &mut self.lists
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
        self.by_record.values().map(|secret| &secret.value)
    }

    pub(super) fn insert(&mut self, secret: Arc<Secret>) {
        self.is_taken(secret.value.node.max(secret.record().0));
        self.last_change = self.last_change.max(secret.value.updated);
        self.changes += 1;
        self.totals.bytes += u64::from(secret.value.size);
        self.totals.chunks += u64::from(chunk_count(secret.value.size as usize));
        self.by_id.insert(secret.id.clone(), secret.record());
        self.by_record.insert(secret.record(), Arc::clone(&secret));
        self.by_key.insert(secret.key.clone(), secret);
    }

    pub(super) fn remove(&mut self, secret: &Secret, now: Timestamp) {
        self.by_key.remove(&secret.key);
        self.by_record.remove(&secret.record());
        self.by_id.remove(&secret.id);
        self.last_change = self.last_change.max(now);
        self.changes += 1;
        self.totals.bytes -= u64::from(secret.value.size);
        self.totals.chunks -= u64::from(chunk_count(secret.value.size as usize));
    }

    pub(super) fn is_folder(&self, path: &str) -> bool {
        path.is_empty() || self.below(path).next().is_some()
    }

    /// Whether a new secret of this name would stand in the way of others, or they in its.
    pub(super) fn check_free(&self, key: &Key) -> Result<(), VaultError> {
        if self.is_folder(key.as_str()) {
            return Err(VaultError::IsFolder { key: key.to_string() });
        }
        // A folder `x.acl` and the sidecar of a secret `x` would have one path.
        if self.is_folder(&format!("{key}{SIDECAR_SUFFIX}")) {
            return Err(VaultError::IsFolder { key: format!("{key}{SIDECAR_SUFFIX}") });
        }
        for folder in key.ancestors() {
            let in_the_way = |path: &str| self.by_key.contains_key(path);
            if in_the_way(folder) || folder.strip_suffix(SIDECAR_SUFFIX).is_some_and(in_the_way) {
                return Err(VaultError::NotFolder { path: folder.to_owned() });
            }
        }
        Ok(())
    }

    /// The secrets below a folder, in the order of their keys.
    fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a Key, &'a Arc<Secret>)> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
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

    pub(super) fn children(&self, caller: &Caller, folder: &str) -> Vec<Child> {
        let prefix_length = if folder.is_empty() { 0 } else { folder.len() + 1 };
        let mut sees = Visibility::new(caller, may_see);
        let mut children: Vec<Child> = Vec::new();
        for (key, secret) in self.below(folder) {
            let rest = &key.as_str()[prefix_length..];
            let (name, kind) = match rest.split_once('/') {
                None => (rest, ChildKind::Secret(Arc::clone(secret))),
                Some((name, _)) if children.last().is_some_and(|last| &*last.name == name) => {
                    continue;
                }
                Some((name, _)) => (name, ChildKind::Folder),
            };
            if sees.secret(secret) {
                children.push(Child { name: name.into(), kind });
            }
        }
        children
    }
}

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
