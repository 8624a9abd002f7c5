//! How the log is doing.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Mode;

/// How the log is doing, for health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditStatus {
    /// What happens to an operation whose line cannot be written.
    pub mode: Mode,
    /// Lines written since the start.
    pub lines: u64,
    /// Decisions since the start that were counted instead of written one by one.
    pub repeats: u64,
    /// Events since the start that could not be written.
    pub failures: u64,
    /// Lines since the start whose copy (journald, syslog) was dropped.
    pub copies_dropped: u64,
    /// What is wrong now, a sentence each; empty if nothing is.
    pub problems: Vec<String>,
    /// Whether lines are missing or changed without a reason that is known.
    pub is_tampered_with: bool,
}

/// What can be wrong, each for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A line could not be written.
    Write,
    /// The head could not be written.
    Head,
    /// Lines could not be brought to the disk.
    Sync,
    /// Files that are no longer kept could not be removed.
    Remove,
    /// Somebody else changes the files.
    Meddled,
    /// Lines were missing at the start.
    Lost,
    /// The disk has no room but the reserve.
    Room,
}

const TROUBLES: usize = 7;

/// Counts and troubles as they come and go.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) lines: AtomicU64,
    pub(super) failures: AtomicU64,
    troubled: AtomicU64,
    problems: Mutex<[Option<String>; TROUBLES]>,
}

impl Counters {
    /// Something went wrong; told in the log when it begins.
    pub(super) fn trouble(&self, which: Trouble, what: String) {
        let bit = 1 << which as u64;
        if self.troubled.fetch_or(bit, Ordering::AcqRel) & bit == 0 {
            tracing::error!("{what}");
        }
        self.problems.lock()[which as usize] = Some(what);
    }

    /// It goes well (again).
    pub(super) fn well(&self, which: Trouble) {
        let bit = 1 << which as u64;
        if self.troubled.load(Ordering::Acquire) & bit != 0 {
            self.problems.lock()[which as usize] = None;
            self.troubled.fetch_and(!bit, Ordering::AcqRel);
            tracing::info!("the audit log is written again");
        }
    }

    /// Whether that is so now.
    pub(super) fn is_troubled(&self, which: Trouble) -> bool {
        self.troubled.load(Ordering::Acquire) & 1 << which as u64 != 0
    }

    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.lock().iter().flatten().cloned().collect()
    }
}
