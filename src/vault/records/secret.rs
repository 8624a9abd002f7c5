//! A secret as the index holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::{Acl, Key, SecretId, Slug, Timestamp};

use super::garbage::{Garbage, Tombstone};

/// The number of a secret's record in the store. It stays the same through renames, rotations and
/// restarts, and is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(pub(in crate::vault) u64);

impl RecordId {
    /// The number, for node numbers derived from it.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The record of that number, if there is one: see [`crate::vault::Vault::secret_of`].
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

/// One secret at one moment: immutable, replaced whole by every change.
pub struct Secret {
    pub(in crate::vault) key: Key,
    pub(in crate::vault) id: SecretId,
    pub(in crate::vault) acl: Arc<Acl>,
    pub(in crate::vault) created: Timestamp,
    pub(in crate::vault) value: Arc<Value>,
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

/// One version of a secret's value: where it is stored, never the bytes. As long as it is held it can be read, even
/// after a newer version has replaced it: the stored bytes are removed after the last reference is dropped.
pub struct Value {
    pub(in crate::vault) record: RecordId,
    pub(in crate::vault) version: u64,
    pub(in crate::vault) node: u64,
    pub(in crate::vault) size: u32,
    pub(in crate::vault) updated: Timestamp,
    pub(in crate::vault) updated_by: Slug,
    pub(in crate::vault) superseded: AtomicBool,
    pub(in crate::vault) garbage: Arc<Garbage>,
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

    /// The own slug of its writer, or `uid:N`.
    pub fn updated_by(&self) -> &Slug {
        &self.updated_by
    }
}

impl Value {
    /// Whether a newer version took its place, or the secret is gone.
    pub fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// What is to be removed once this version is no longer held.
    pub(in crate::vault) fn tombstone(&self) -> Tombstone {
        Tombstone {
            node: self.node,
            record: self.record.0,
            version: self.version,
            size: self.size,
            updated: self.updated.as_nanos(),
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        if self.superseded.load(Ordering::Acquire) {
            self.garbage.add(self.tombstone());
        }
    }
}
