//! A secret as the index holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::{Acl, Key, SecretId, Slug, Timestamp};

use super::garbage::{Dead, Garbage};
use super::record::chunk_count;

/// The number of a secret's record in the store. It stays the same through renames, rotations and
/// restarts, and is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(pub(super) u64);

impl RecordId {
    /// The number, for node numbers derived from it.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// For tests of what is filed by record.
    #[cfg(test)]
    pub(crate) fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

/// One secret at one moment: immutable, replaced whole by every change.
pub struct Secret {
    pub(super) key: Key,
    pub(super) id: SecretId,
    pub(super) acl: Arc<Acl>,
    pub(super) created: Timestamp,
    pub(super) value: Arc<Value>,
}

impl Secret {
    /// Its name.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its id.
    pub fn id(&self) -> &SecretId {
        &self.id
    }

    /// Its six lists.
    pub fn acl(&self) -> &Arc<Acl> {
        &self.acl
    }

    /// When it was created.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// Its current value.
    pub fn value(&self) -> &Arc<Value> {
        &self.value
    }

    /// The record that holds it.
    pub fn record(&self) -> RecordId {
        self.value.record
    }
}

/// One version of a secret's value: where it is stored, never the bytes. Whoever holds one can read
/// it, even after a newer version took its place: the stored bytes go when the last holder does.
pub struct Value {
    pub(super) record: RecordId,
    pub(super) version: u64,
    pub(super) node: u64,
    pub(super) size: u32,
    pub(super) updated: Timestamp,
    pub(super) updated_by: Slug,
    pub(super) superseded: AtomicBool,
    pub(super) garbage: Arc<Garbage>,
}

impl Value {
    /// The record that it belongs to.
    pub fn record(&self) -> RecordId {
        self.record
    }

    /// 1 for the first value of a secret, one more for each that follows.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A number that no other version of any secret has.
    pub fn node(&self) -> u64 {
        self.node
    }

    /// Its length in bytes, at most [`crate::model::MAX_VALUE_BYTES`].
    pub fn size(&self) -> u32 {
        self.size
    }

    /// When it was written: a full second after the version before, at least.
    pub fn updated(&self) -> Timestamp {
        self.updated
    }

    /// The own slug of who wrote it, or `uid:N`.
    pub fn updated_by(&self) -> &Slug {
        &self.updated_by
    }
}

impl Value {
    /// What is left to remove once nobody holds this version.
    pub(super) fn dead(&self) -> Dead {
        Dead { node: self.node, chunks: chunk_count(self.size as usize) }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        if self.superseded.load(Ordering::Acquire) {
            self.garbage.add(self.dead());
        }
    }
}
