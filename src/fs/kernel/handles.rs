//! Open files and directories that have a state of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::model::Plaintext;
use crate::vault::Value;

use crate::fs::budget::{Account, Charge};
use crate::fs::caller::proc::now_since_boot;
use crate::fs::error::FsError;
use crate::fs::files::draft::Draft;
use crate::fs::files::encrypt::session::EncryptSession;
use crate::fs::files::export::OpenExport;
use crate::fs::files::import::ImportFile;
use crate::fs::files::scratch::Scratch;
use crate::fs::files::texts::Text;
use crate::fs::ops::bound::BoundBy;
use crate::fs::ops::readdir::Listing;
use crate::fs::saved::table::{Entry, Kept, Saved};
use crate::fs::saved::{Record, SLOT_BYTES, SavedState, Slot};

/// What a handle stands for. Nothing is kept of those of readers of a version: its node says everything.
#[derive(Clone)]
pub(in crate::fs) enum Handle {
    /// A write handle.
    Draft(Arc<Draft>),
    /// A scratch file.
    Scratch(Arc<Scratch>),
    /// A version, where the node is not that of one. `by` is the open, if others see another one through that node.
    Version { value: Arc<Value>, by: Option<BoundBy> },
    /// What one writer is writing, as it is when it is read.
    View(Arc<Draft>),
    /// A text as it was at the open.
    Text(Arc<Text>),
    /// A file in the drop directory.
    ImportFile(Arc<ImportFile>),
    /// A file of `.encrypt`.
    EncryptSession(Arc<EncryptSession>),
    /// A control file: takes commands, and gives its text as it was at the open.
    Control(Arc<Plaintext>),
    /// A text of the export.
    Export(Arc<OpenExport>),
    /// A directory being listed; the listing is made at its first read, and anew when it is rewound.
    Directory(Arc<Listing>),
}

/// Numbers with this bit are handles that take writes: if such a handle is not known when it is closed, what
/// was written is lost.
const WRITER: u64 = 1 << 62;

/// Whether a handle of that number takes writes.
pub(in crate::fs) fn is_writer(number: u64) -> bool {
    number & WRITER != 0
}

/// Numbers with this bit stand for opens of a version through its own node. Nothing is kept of them; the number
/// tells them apart, for locks. Older programs gave all of them the number 0.
const VERSION: u64 = 1 << 61;

/// Whether a handle of that number is an open of a version through its own node.
pub(in crate::fs) fn is_version(number: u64) -> bool {
    number == 0 || number & VERSION != 0
}

/// All handles, by number. Numbers are never used again, not by the next process either; 0 is none.
pub(in crate::fs) struct Handles {
    open: RwLock<Saved<u64, Open>>,
    next: AtomicU64,
    saved_state: SavedState,
}

struct Open {
    handle: Handle,
    charge: Charge,
}

impl Entry<u64> for Open {
    /// Drafts and scratch files have records of their own.
    fn record(&self, &handle: &u64) -> Option<(Account, Record)> {
        let record = match &self.handle {
            Handle::Version { value, by: None } => Record::Version { handle, node: value.node() },
            Handle::Version { value, by: Some(by) } => {
                Record::Followed { handle, node: value.node(), by: *by }
            }
            Handle::Text(text) if text.bytes.len() < SLOT_BYTES => {
                Record::Text { handle, text: text.bytes.expose().to_vec() }
            }
            _ => return None,
        };
        Some((self.charge.account(), record))
    }
}

impl Handles {
    pub(in crate::fs) fn new(saved_state: SavedState) -> Self {
        // The numbers of earlier processes are below this, unless a million files were opened in each second.
        let start = u64::try_from(now_since_boot().as_micros()).expect("a uptime of centuries");
        Self { open: RwLock::default(), next: AtomicU64::new(start.max(1)), saved_state }
    }

    /// A handle that the process before this one gave, and that has this slot.
    pub(in crate::fs) fn restore(&self, number: u64, handle: Handle, charge: Charge, slot: Slot) {
        self.open.write().restore(number, Open { handle, charge }, slot);
    }

    /// A handle of that number. `charge` is for the handle, without what others share with it.
    pub(in crate::fs) fn inherit(&self, number: u64, handle: Handle, charge: Charge) {
        let before = self.open.write().put(&self.saved_state, number, Open { handle, charge });
        drop(before);
    }

    /// As [`Handles::inherit`], with a number of its own.
    pub(in crate::fs) fn add(&self, handle: Handle, charge: Charge) -> u64 {
        let number = self.number(&handle);
        self.inherit(number, handle, charge);
        number
    }

    /// A number for an open of a version through its own node.
    pub(in crate::fs) fn next_version(&self) -> u64 {
        VERSION | self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn number(&self, handle: &Handle) -> u64 {
        let kind = match handle {
            Handle::Draft(_)
            | Handle::Scratch(_)
            | Handle::ImportFile(_)
            | Handle::EncryptSession(_) => WRITER,
            Handle::Version { .. }
            | Handle::View(_)
            | Handle::Text(_)
            | Handle::Control(_)
            | Handle::Export(_)
            | Handle::Directory(_) => 0,
        };
        kind | self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// # Errors
    /// There is no such handle.
    pub(in crate::fs) fn find(&self, number: u64) -> Result<Handle, FsError> {
        let open = self.open.read();
        open.get(&number).map(|open| open.handle.clone()).ok_or(FsError::BadHandle)
    }

    /// What that handle stands for from now on, if it is still there.
    pub(in crate::fs) fn replace(&self, number: u64, handle: Handle) {
        let mut open = self.open.write();
        let before = open.remove(&number).map(|Kept { value, slot }| {
            let mut kept = Kept { value: Open { handle, charge: value.charge }, slot };
            self.saved_state.write(&mut kept.slot, kept.value.record(&number));
            open.insert(number, kept);
            value.handle
        });
        drop(open);
        // Dropped without the lock: it may be the last holder of a version.
        drop(before);
    }

    pub(in crate::fs) fn remove(&self, number: u64) -> Option<Handle> {
        self.open.write().remove(&number).map(|open| open.value.handle)
    }
}
