//! Open files and folders that have a state of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::model::Plaintext;

use super::draft::Draft;
use super::error::FsError;
use super::export::OpenExport;
use super::import::Dropped;
use super::listing::Listed;
use super::scratch::Scratch;
use super::sealing::Sealing;

/// What a handle stands for. Readers of a version need none: its node says everything.
#[derive(Clone)]
pub(super) enum Handle {
    /// A write handle.
    Draft(Arc<Draft>),
    /// A scratch file.
    Scratch(Arc<Scratch>),
    /// Bytes as they were at the open.
    Snapshot(Arc<Plaintext>),
    /// A file in the drop box.
    Dropped(Arc<Dropped>),
    /// A file of `.encrypt`.
    Sealing(Arc<Sealing>),
    /// A control file: takes commands, and gives its text as it was at the open.
    Control(Arc<Plaintext>),
    /// A text of the export.
    Export(Arc<OpenExport>),
    /// A folder being listed; the listing is made at its first read, and anew when it is rewound.
    Folder(Arc<Mutex<Option<Arc<[Listed]>>>>),
}

/// All handles, by number. Numbers are never used again; 0 is none.
pub(super) struct Handles {
    open: RwLock<HashMap<u64, Handle>>,
    next: AtomicU64,
}

impl Handles {
    pub(super) fn new() -> Self {
        Self { open: RwLock::new(HashMap::new()), next: AtomicU64::new(1) }
    }

    pub(super) fn add(&self, handle: Handle) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(number, handle);
        number
    }

    /// # Errors
    /// There is no such handle.
    pub(super) fn find(&self, number: u64) -> Result<Handle, FsError> {
        self.open.read().get(&number).cloned().ok_or(FsError::BadHandle)
    }

    pub(super) fn remove(&self, number: u64) -> Option<Handle> {
        self.open.write().remove(&number)
    }
}
