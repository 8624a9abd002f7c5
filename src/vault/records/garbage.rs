//! Values that can no longer be reached and are still in the store.

use foldhash::HashMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::secret::Value;
use super::{Address, chunk_count};
use crate::model::{Key, MAX_VALUE_BYTES};
use crate::store::Batch;
use crate::vault::NODE_LIMIT;
use crate::vault::quota::{namespace_of, stored_bytes};

/// How many values one group of changes takes along: more would make its writers wait.
const PER_GROUP: usize = 64;

/// One value to remove, and what is needed to serve it to handles that still have it open.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(in crate::vault) struct Tombstone {
    pub(in crate::vault) node: u64,
    pub(in crate::vault) record: u64,
    pub(in crate::vault) version: u64,
    pub(in crate::vault) size: u32,
    /// In nanoseconds since 1970.
    pub(in crate::vault) updated: u64,
}

impl Tombstone {
    /// What a mark names, if it is one.
    pub(in crate::vault) fn of_mark(address: &[u8], mark: &[u8]) -> Option<Self> {
        // It is in the clear: an attacker who can write to the store can write anything here.
        let tombstone = postcard::from_bytes(mark).ok().filter(Self::is_possible)?;
        (Address::garbage(tombstone.node).as_bytes() == address).then_some(tombstone)
    }

    /// Whether there can be a value with these numbers.
    pub(in crate::vault) fn is_possible(&self) -> bool {
        self.node < NODE_LIMIT && self.size as usize <= MAX_VALUE_BYTES
    }

    /// Adds to `batch` that this value is garbage from now on.
    pub(in crate::vault) fn mark(self, batch: &mut Batch) {
        let mark = postcard::to_stdvec(&self).expect("numbers always encode");
        batch.put(Address::garbage(self.node).as_bytes(), mark);
    }

    /// Adds the removal of the value's bytes to `batch`.
    pub(in crate::vault) fn remove(self, batch: &mut Batch) {
        for chunk in 0..chunk_count(self.size as usize) {
            batch.remove(Address::chunk(self.node, chunk).as_bytes());
        }
    }
}

/// A list of stored values to remove. Each has a mark in the store since the change that superseded
/// it, so that a restart finds what a crash left behind.
#[derive(Default)]
pub(in crate::vault) struct Garbage {
    waiting: Mutex<Vec<Tombstone>>,
    held: Mutex<Held>,
}

/// Superseded values that are not garbage yet, because a handle may have them open.
#[derive(Default)]
struct Held {
    /// Namespace and bytes by the node number of the value.
    values: HashMap<u64, (Box<str>, i64)>,
    bytes: HashMap<Box<str>, i64>,
}

impl Garbage {
    pub(in crate::vault) fn add(&self, tombstone: Tombstone) {
        self.held.lock().let_go(tombstone.node);
        self.waiting.lock().push(tombstone);
    }

    pub(in crate::vault) fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    /// Counts a value against the namespace of its secret from now on, until it is garbage. To be called
    /// before it is marked as superseded.
    pub(in crate::vault) fn hold(&self, key: &Key, value: &Value) {
        let Some(namespace) = namespace_of(key) else { return };
        let bytes = stored_bytes(value);
        let mut held = self.held.lock();
        held.let_go(value.node());
        held.values.insert(value.node(), (namespace.into(), bytes));
        match held.bytes.get_mut(namespace) {
            Some(sum) => *sum += bytes,
            None => drop(held.bytes.insert(namespace.into(), bytes)),
        }
    }

    /// The bytes of values that are counted against a namespace.
    pub(in crate::vault) fn held_bytes(&self, namespace: &str) -> i64 {
        self.held.lock().bytes.get(namespace).copied().unwrap_or(0)
    }

    /// Adds the removal of some values to `batch` and gives them, for the case that it fails.
    pub(in crate::vault) fn take_into(&self, batch: &mut Batch) -> Vec<Tombstone> {
        let mut waiting = self.waiting.lock();
        let rest = waiting.len().saturating_sub(PER_GROUP);
        let taken = waiting.split_off(rest);
        drop(waiting);
        for tombstone in &taken {
            tombstone.remove(batch);
            batch.remove(Address::garbage(tombstone.node).as_bytes());
        }
        taken
    }

    /// Gives back what could not be removed.
    pub(in crate::vault) fn give_back(&self, taken: Vec<Tombstone>) {
        self.waiting.lock().extend(taken);
    }
}

impl Held {
    fn let_go(&mut self, node: u64) {
        let Some((namespace, bytes)) = self.values.remove(&node) else { return };
        if let Some(sum) = self.bytes.get_mut(&namespace) {
            *sum -= bytes;
            if *sum <= 0 {
                self.bytes.remove(&namespace);
            }
        }
    }
}
