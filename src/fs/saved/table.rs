//! Tables whose entries the next server restores.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use super::{Record, SavedState, Slot};
use crate::fs::budget::Account;

/// A value in a [`Saved`] table.
pub(in crate::fs) trait Entry<K> {
    /// What the next server restores it from, and the account that its slot is charged to; none if it ends with
    /// this server.
    fn record(&self, key: &K) -> Option<(Account, Record)>;
}

/// A map that writes each change through to the saved state.
pub(in crate::fs) struct Saved<K, V>(pub(in crate::fs) BTreeMap<K, Kept<V>>);

/// A value, and its slot. It is in the saved state until the slot is dropped.
pub(in crate::fs) struct Kept<V> {
    pub(in crate::fs) value: V,
    pub(in crate::fs) slot: Option<Slot>,
}

impl<K, V> Default for Saved<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, V: Entry<K>> Saved<K, V> {
    /// Puts a value there, in the place and the slot of the one that has the key, which it gives back.
    pub(in crate::fs) fn put(&mut self, saved_state: &SavedState, key: K, value: V) -> Option<V> {
        let before = self.0.remove(&key).map(|kept| (kept.value, kept.slot));
        let (before, slot) = before.unzip();
        let mut slot = slot.flatten();
        saved_state.write(&mut slot, value.record(&key));
        self.0.insert(key, Kept { value, slot });
        before
    }

    /// Puts a value there that the server before this one left in a slot.
    pub(in crate::fs) fn restore(&mut self, key: K, value: V, slot: Slot) {
        self.0.insert(key, Kept { value, slot: Some(slot) });
    }
}

impl<K, V> Deref for Saved<K, V> {
    type Target = BTreeMap<K, Kept<V>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<K, V> DerefMut for Saved<K, V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<V> Deref for Kept<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}
