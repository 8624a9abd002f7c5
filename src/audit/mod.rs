//! The audit log: who did what to which secret, and was it allowed. Never a value.
//!
//! Lines of JSON in files of their own (`audit-00000001.jsonl`, …), each with a keyed hash over the
//! one before, so that nobody without the key can change, remove, insert or reorder one unnoticed
//! ([`verify`]). A sealed head beside the directory says how far the log goes, so that nobody can cut
//! off its end either.
//!
//! # What is promised
//!
//! - A line is written (write(2) has taken it whole) before the caller gets its answer: it survives
//!   a `kill -9` of the daemon.
//! - The line of a change (commit, delete, rename, lists, import) is also on the disk before the
//!   change is: there is no change without its line, not even after a power loss.
//! - Other lines are on the disk a second later at most. A power loss may take those of the last
//!   second; the daemon finds out at its next start and puts the gap on record.
//! - A decision that equals one of the last second is counted ([`repeats`]), in memory that outlives a
//!   `kill -9` of the daemon. A power loss may take the counts of the last second.
//! - Room for lines is allocated ahead ([`RESERVE_BYTES`]): on a full disk callers still read and remove
//!   secrets, and that is recorded.
//! - A line tells what was decided. If the store then fails, a second line with `"of"` tells so.

mod administration;
mod chain;
mod copy;
mod event;
mod files;
mod head;
mod item;
mod json;
mod line;
mod log;
mod progress;
mod queue;
mod read;
mod recover;
mod repeats;
mod reserve;
mod status;
#[cfg(test)]
mod tests;
mod verify;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use administration::{Configuration, Entry};
pub use chain::{ChainKey, StoreTag};
pub use copy::CopyTarget;
pub use event::{Access, Action, Actor, ErrorCode, Event, Process, Subject};
pub use files::log_bytes;
pub use item::NotRecorded;
pub use queue::{Audit, NewDecision};
pub use read::{Record, RecordedGrant, Tail};
pub use recover::OpenAuditError;
pub use repeats::{Attempt, CountMemory, Repeats};
pub use reserve::RESERVE_BYTES;
pub use status::AuditStatus;
pub use verify::{Report, VerifyError, verify};

/// Where the lines are, in the state directory `state`.
pub fn directory_in(state: &Path) -> PathBuf {
    state.join("audit")
}

/// Where the head is: not among the lines, so that a reader of all files there reads lines alone.
fn head_of(directory: &Path) -> PathBuf {
    directory.with_extension("head")
}

/// What happens to an operation whose line cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It fails.
    #[default]
    Required,
    /// It goes on; the missing line is counted.
    BestEffort,
    /// There are no lines.
    Off,
}

/// A line that the store knows of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anchor {
    /// Its number; 0 if the store knows of none.
    pub seq: u64,
    /// Its hash. None where the store was written by a version whose log is not bound to it.
    pub hash: Option<[u8; 32]>,
}

/// What a store knows of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// The store is new: a log that is there is another one's.
    New,
    /// It has that line, at least.
    Line(Anchor),
}

impl Known {
    /// The number of a line that must be there.
    fn seq(self) -> u64 {
        match self {
            Self::New => 0,
            Self::Line(anchor) => anchor.seq,
        }
    }

    /// Whether a log that is not bound to any store may be this one's.
    fn allows_unbound(self) -> bool {
        matches!(self, Self::Line(Anchor { hash: None, .. }))
    }
}

impl Mode {
    /// As it is written in a line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::BestEffort => "best-effort",
            Self::Off => "off",
        }
    }
}

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// What happens to an operation whose line cannot be written.
    pub mode: Mode,
    /// The directory of the lines.
    pub directory: PathBuf,
    /// A file that has this many bytes is followed by a new one.
    pub file_bytes: u64,
    /// How many files are kept, the oldest go first; 0 keeps all.
    pub keep_files: u64,
    /// Where each line also goes.
    pub copy: Option<CopyTarget>,
    /// The socket for that, where none can be opened later.
    pub copy_socket: Option<Arc<UnixDatagram>>,
    /// Whether equal decisions are counted.
    pub repeats: Repeats,
    /// Where they are counted; memory of this process if there is none.
    pub counts: Option<Arc<CountMemory>>,
    /// What stands in each line of the store that many hosts share.
    pub revision: Revision,
}

/// The revision of the shared store that this host has reached, if there is one: what it decided, it
/// decided by that. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Revision(Arc<AtomicU64>);

impl Revision {
    /// It has reached this one.
    pub fn set(&self, revision: u64) {
        self.0.store(revision, Ordering::Relaxed);
    }

    fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&revision| revision > 0)
    }
}

impl Options {
    /// No log at all.
    pub fn off() -> Self {
        let (file_bytes, keep_files) = (DEFAULT_FILE_BYTES, DEFAULT_KEEP_FILES);
        Self {
            mode: Mode::Off,
            directory: PathBuf::new(),
            file_bytes,
            keep_files,
            copy: None,
            copy_socket: None,
            repeats: Repeats::default(),
            counts: None,
            revision: Revision::default(),
        }
    }
}

/// The size of a file unless something else is set.
pub const DEFAULT_FILE_BYTES: u64 = 256 << 20;
/// How many files are kept unless something else is set: 10 GiB in all.
pub const DEFAULT_KEEP_FILES: u64 = 40;
