//! How far the log has come, for those who do not have it in hand: what is on the disk already, and
//! what is only in the kernel's memory.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Anchor;
use super::chain::Hash;
use super::files;

/// Told by who appends, read by who syncs. The lock is held for a moment, never while the disk is
/// waited for.
pub(super) struct Progress {
    directory: PathBuf,
    /// Whether the directory holds a name that may not be on the disk.
    unnamed: AtomicBool,
    /// The files that may hold lines that are not on the disk; the newest last.
    unsynced: Mutex<Vec<Arc<File>>>,
    appended: AtomicU64,
    synced: AtomicU64,
    end: Mutex<(Anchor, Place)>,
}

/// Where the log ends.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The oldest file that is kept.
    pub(super) first: u64,
    /// The newest file.
    pub(super) file: u64,
    /// Its length in bytes.
    pub(super) size: u64,
}

impl Progress {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            unnamed: AtomicBool::new(false),
            unsynced: Mutex::default(),
            appended: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            end: Mutex::default(),
        }
    }

    /// Lines go to this file from now on.
    pub(super) fn add(&self, file: Arc<File>) {
        self.unsynced.lock().push(file);
        self.unnamed.store(true, Ordering::Release);
    }

    /// The line `seq` was appended; the log ends at `place` now.
    pub(super) fn appended(&self, seq: u64, hash: Hash, place: Place) {
        *self.end.lock() = (Anchor { seq, hash: Some(*hash.as_bytes()) }, place);
        self.appended.store(seq, Ordering::Release);
    }

    /// Where the log ends.
    pub(super) fn place(&self) -> Place {
        self.end().1
    }

    /// Its last line, and where that ends.
    pub(super) fn end(&self) -> (Anchor, Place) {
        *self.end.lock()
    }

    /// The file that is appended to.
    pub(super) fn newest(&self) -> Option<Arc<File>> {
        self.unsynced.lock().last().cloned()
    }

    /// The newest line that is known to be on the disk.
    pub(super) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// All lines up to `seq` are on the disk.
    pub(super) fn set_synced(&self, seq: u64) {
        self.synced.fetch_max(seq, Ordering::AcqRel);
    }

    /// Whether something was appended that may not be on the disk.
    pub(super) fn is_behind(&self) -> bool {
        self.synced() < self.appended.load(Ordering::Acquire)
    }

    /// Waits until every line that was appended before is on the disk, and tells the last of them.
    pub(super) fn sync(&self) -> io::Result<Anchor> {
        let anchor = self.end.lock().0;
        let appended = anchor.seq;
        if appended <= self.synced() {
            return Ok(anchor);
        }
        let files = self.unsynced.lock().clone();
        for file in &files {
            file.sync_data()?;
        }
        if self.unnamed.swap(false, Ordering::AcqRel) {
            files::sync_directory(&self.directory)
                .inspect_err(|_| self.unnamed.store(true, Ordering::Release))?;
        }
        self.set_synced(appended);
        // The last one is still appended to; those before it were full when this began.
        let full = &files[..files.len().saturating_sub(1)];
        self.unsynced.lock().retain(|file| !full.iter().any(|other| Arc::ptr_eq(file, other)));
        Ok(anchor)
    }
}
