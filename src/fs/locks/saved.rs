//! Locks in the saved state.

use serde::{Deserialize, Serialize};

use super::ranges::Ranges;
use super::table::{Family, Owner};

/// What a lock applies to, whichever node or handle it was set through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::fs) enum LockedFile {
    /// A secret, by its record.
    Secret(u64),
    /// A secret that is being created, by a hash of its key.
    New(u64),
    /// The lists of a secret, by its record.
    Sidecar(u64),
    /// Anything else, by its node.
    Node(u64),
}

/// The locks that one owner has of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::fs) struct SavedLocks {
    pub(super) file: LockedFile,
    pub(super) family: Family,
    pub(super) owner: Owner,
    pub(super) process: u32,
    pub(super) uid: u32,
    pub(super) ranges: Ranges,
}

impl SavedLocks {
    /// The UID to which they are charged.
    pub(in crate::fs) fn uid(&self) -> u32 {
        self.uid
    }
}
