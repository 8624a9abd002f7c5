//! A store that many hosts share: sealed records under opaque names, changed in transactions that
//! compare revisions, and watched. Ciphertext only: nothing here knows a key, a value or a cipher.
//!
//! [`Cluster`] is the whole interface; [`EtcdCluster`] speaks to etcd, [`MemoryCluster`] keeps
//! records in a map for the tests of the layers above. Both run the same suite (`contract.rs`).
//! A revision is a number of the whole store that grows with every transaction; a record's revision
//! is that of the transaction which wrote it last.

mod address;
#[cfg(test)]
mod contract;
mod error;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(not(feature = "etcd"))]
#[path = "without_etcd.rs"]
mod etcd;
mod memory;

use std::ops::ControlFlow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use address::{ClusterAddress, Credentials};
pub use error::ClusterError;
pub use etcd::EtcdCluster;
pub use memory::MemoryCluster;

/// The most operations, or comparisons, of one transaction: etcd's own default limit.
pub const MAX_OPERATIONS: usize = 128;

/// The most bytes of one transaction: etcd's default limit is 1.5 MiB, with all that is around them.
pub const MAX_TRANSACTION_BYTES: usize = 1_400 << 10;

/// How long one transaction or read may take before it counts as lost.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Where records are kept that many hosts share.
///
/// Any thread may call these; each call ends in bounded time, but for a watch.
pub trait Cluster: Send + Sync {
    /// Carries out the transaction whole, or not at all.
    ///
    /// # Errors
    /// [`ClusterError::Unknown`] if it may or may not have been, or may yet be, carried out; with any
    /// other error it is not and will not be.
    fn commit(&self, transaction: &Transaction) -> Result<Outcome, ClusterError>;

    /// Records from the name `from` on and before `until`, in order of name, as they were at the
    /// revision `at` (now, if that is none): as many as one message holds.
    ///
    /// # Errors
    /// [`ClusterError::Compacted`] if the revision is too old to be known.
    fn read(&self, from: &[u8], until: &[u8], at: Option<u64>) -> Result<Page, ClusterError>;

    /// As [`Cluster::read`], of now and without what is there: what is sealed is left empty.
    ///
    /// # Errors
    /// It cannot be reached.
    fn list(&self, from: &[u8], until: &[u8]) -> Result<Page, ClusterError>;

    /// Tells `hear` of all that happens between these names from the revision `since` on, in order,
    /// until it breaks.
    ///
    /// # Errors
    /// [`ClusterError::Compacted`] if the revision is too old to be known; others if the connection
    /// is lost.
    fn watch(
        &self,
        from: &[u8],
        until: &[u8],
        since: u64,
        hear: &mut dyn FnMut(News) -> ControlFlow<()>,
    ) -> Result<(), ClusterError>;
}

/// Changes that are made together if nothing that they rely on has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Names, and the revision that each must have; 0 if there must be no such record.
    pub expected: Vec<(Vec<u8>, u64)>,
    /// What is written or removed; each name once.
    pub changes: Vec<Change>,
}

/// One change of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its name.
    pub name: Vec<u8>,
    /// What is there from now on; nothing if the record is removed.
    pub sealed: Option<Vec<u8>>,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was carried out, at this revision.
    Committed(u64),
    /// Something was not as expected, and nothing was changed. The revisions of all that was
    /// expected, in its order; 0 where there is no record.
    Conflict(Vec<u64>),
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub name: Vec<u8>,
    /// What is there.
    pub sealed: Vec<u8>,
    /// Its revision.
    pub revision: u64,
}

/// Some records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// In order of their names.
    pub records: Vec<Record>,
    /// Whether there are more behind them.
    pub more: bool,
    /// The revision of the store when they were read.
    pub revision: u64,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum News {
    /// All changes of one or more whole transactions; none is told twice.
    Changes {
        /// The revision of the last.
        revision: u64,
        /// In their order, each with its revision.
        changes: Vec<(u64, Change)>,
    },
    /// Nothing else happened up to this revision.
    Nothing {
        /// The revision of the store.
        revision: u64,
    },
}

impl Transaction {
    /// Adds: the record must have that revision, or not be there if that is 0.
    pub fn expect(&mut self, name: &[u8], revision: u64) {
        self.expected.push((name.to_vec(), revision));
    }

    /// Adds: write `sealed` under `name`.
    pub fn put(&mut self, name: &[u8], sealed: Vec<u8>) {
        self.changes.push(Change { name: name.to_vec(), sealed: Some(sealed) });
    }

    /// Adds: remove what is under `name`.
    pub fn remove(&mut self, name: &[u8]) {
        self.changes.push(Change { name: name.to_vec(), sealed: None });
    }

    /// The bytes of all names and records in it.
    pub fn bytes(&self) -> usize {
        let sizes = self
            .changes
            .iter()
            .map(|change| change.name.len() + change.sealed.as_ref().map_or(0, Vec::len));
        sizes.sum()
    }

    /// Refuses what is over the limits.
    fn check(&self) -> Result<(), ClusterError> {
        let operations = self.expected.len().max(self.changes.len());
        if operations > MAX_OPERATIONS || self.bytes() > MAX_TRANSACTION_BYTES {
            return Err(ClusterError::TooLarge { operations, bytes: self.bytes() });
        }
        Ok(())
    }
}
