//! Sealed records under opaque addresses, kept durably. Ciphertext only: nothing here knows a key,
//! a value or a cipher.
//!
//! [`Store`] is the whole interface; [`SledStore`] keeps records on disk, [`MemoryStore`] in a map
//! for the tests of the layers above. Both run the same suite (`contract.rs`).

mod batch;
#[cfg(test)]
mod contract;
mod directory;
mod error;
mod exclusive;
mod handover;
mod key_note;
mod memory;
mod pieces;
mod room;
mod sled;
mod sparse;

use std::ops::ControlFlow;

pub use batch::{Batch, Change};
pub use error::StoreError;
pub use memory::MemoryStore;
pub use sled::SledStore;
pub use sparse::next_data;

/// The largest sealed record, in bytes. Larger values are cut into chunks by the caller: sled would
/// put them into files of their own that it never gives back.
pub const MAX_RECORD_BYTES: usize = 32 * 1024;

/// The longest address, in bytes.
pub const MAX_ADDRESS_BYTES: usize = 80;

/// How many records a scan reads at once; a commit waits for no more than that.
pub const SCAN_STEP: usize = 256;

/// Where sealed records are kept.
///
/// Readers and writers may run on any thread; commits happen one after the other.
pub trait Store: Send + Sync {
    /// The record at `address`, if there is one.
    fn read(&self, address: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Shows every record whose address starts with `prefix`, in order of address, until `visit` breaks. It is not a
    /// snapshot: a concurrent commit may or may not be visible. No lock is held while `visit` runs: it may read the
    /// store and commit to it.
    #[allow(clippy::type_complexity)] // an alias would hide the one thing to know
    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.scan_from(prefix, prefix, visit)
    }

    /// As [`Store::scan`], beginning with the address `start`. Records are read [`SCAN_STEP`] at a time: a `visit`
    /// that breaks after that many wastes no read.
    #[allow(clippy::type_complexity)] // as above
    fn scan_from(
        &self,
        prefix: &[u8],
        start: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// Applies the batch whole or not at all; when it returns `Ok`, the batch survives a power loss.
    /// An error means that the batch is not visible; after [`StoreError::Io`] it may be found
    /// applied, whole, by the next open.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] if there is no room (later commits succeed once there is),
    /// [`StoreError::TooLarge`] for a record over [`MAX_RECORD_BYTES`].
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Total and free bytes of the file system below.
    fn space(&self) -> Result<Space, StoreError>;

    /// Notes the ids of the keys that the store needs where they can be read while the store is open
    /// elsewhere, if there is such a place ([`SledStore::noted_keys`]).
    fn note_keys(&self, _ids: &[String]) {}
}

/// The size of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What can still be written.
    pub free: u64,
}
