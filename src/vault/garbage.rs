//! Values that nobody can reach any more and that are still in the store.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::NODE_LIMIT;
use super::record::{Address, chunk_count};
use crate::model::MAX_VALUE_BYTES;
use crate::store::Batch;

/// How many values one group of changes takes along: more would make its writers wait.
const PER_GROUP: usize = 64;

/// One value to remove, and what is needed to serve it to whoever still has it open.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Dead {
    pub(super) node: u64,
    pub(super) record: u64,
    pub(super) version: u64,
    pub(super) size: u32,
    /// In nanoseconds since 1970.
    pub(super) updated: u64,
}

impl Dead {
    /// What a mark names, if it is one.
    pub(super) fn of_mark(address: &[u8], mark: &[u8]) -> Option<Self> {
        // It is in the clear: whoever can write to the store can write anything here.
        let dead = postcard::from_bytes(mark).ok().filter(Self::is_possible)?;
        (Address::garbage(dead.node).as_bytes() == address).then_some(dead)
    }

    /// Whether there can be a value with these numbers.
    pub(super) fn is_possible(&self) -> bool {
        self.node < NODE_LIMIT && self.size as usize <= MAX_VALUE_BYTES
    }

    /// Adds to `batch` that this value is garbage from now on.
    pub(super) fn mark(self, batch: &mut Batch) {
        let mark = postcard::to_stdvec(&self).expect("numbers always encode");
        batch.put(Address::garbage(self.node).as_bytes(), mark);
    }

    /// Adds the removal of the value's bytes to `batch`.
    pub(super) fn remove(self, batch: &mut Batch) {
        for chunk in 0..chunk_count(self.size as usize) {
            batch.remove(Address::chunk(self.node, chunk).as_bytes());
        }
    }
}

/// A list of stored values to remove. Each has a mark in the store since the change that superseded
/// it, so that a restart finds what a crash left behind.
#[derive(Default)]
pub(super) struct Garbage(Mutex<Vec<Dead>>);

impl Garbage {
    pub(super) fn add(&self, dead: Dead) {
        self.0.lock().push(dead);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Adds the removal of some values to `batch` and gives them, for the case that it fails.
    pub(super) fn take_into(&self, batch: &mut Batch) -> Vec<Dead> {
        let mut waiting = self.0.lock();
        let rest = waiting.len().saturating_sub(PER_GROUP);
        let taken = waiting.split_off(rest);
        drop(waiting);
        for dead in &taken {
            dead.remove(batch);
            batch.remove(Address::garbage(dead.node).as_bytes());
        }
        taken
    }

    /// Gives back what could not be removed.
    pub(super) fn give_back(&self, taken: Vec<Dead>) {
        self.0.lock().extend(taken);
    }
}
