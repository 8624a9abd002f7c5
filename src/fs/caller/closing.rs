//! Which close means that a file is finished.
//!
//! A child process that inherits a descriptor closes its copy when it ends, so the kernel sends a FLUSH for
//! each child of `{ cat a; cat b; } > K`. The file is finished only when the process that opened it closes
//! it. A process that a signal is killing has not finished it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::proc::{is_being_killed, may_be_being_killed, process_of};
use crate::fs::Request;

/// What the close of one descriptor means for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fs) enum Close {
    /// The process that opened the file closed it: the file is finished.
    Finished,
    /// A child process closed the descriptor that it inherited: the file is not finished.
    Inherited,
    /// A signal is killing the process that closes it.
    Killed(Closer),
}

/// The process that closes a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fs) enum Closer {
    /// The process that opened the file.
    Opener,
    /// A process that inherited the descriptor.
    Child,
}

/// The table of open files of the process that opened a file. The kernel does not report it at the open, so
/// it is that of the first process that wrote into the file or closed a descriptor of it. A shell closes one
/// before it writes.
#[derive(Debug, Default)]
pub(in crate::fs) struct OpenersFiles(AtomicU64);

impl OpenersFiles {
    pub(in crate::fs) fn new(files: u64) -> Self {
        Self(files.into())
    }

    /// 0 if it is not known.
    pub(in crate::fs) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// A process writes into the file, or closes a descriptor of it.
    pub(in crate::fs) fn are_used_by(&self, request: &Request) {
        // Another one may be the first.
        let _ = self.0.compare_exchange(0, request.files, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(in crate::fs) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// How many closes by threads that are not known are being judged, by UID. The lock is a leaf.
#[derive(Clone, Default)]
pub(in crate::fs) struct UnknownClosers(Arc<Mutex<HashMap<u32, usize>>>);

/// A close is being judged, until this is dropped.
pub(in crate::fs) struct Judged {
    closers: UnknownClosers,
    uid: u32,
}

impl UnknownClosers {
    pub(in crate::fs) fn add(&self, uid: u32) -> Judged {
        *self.0.lock().entry(uid).or_default() += 1;
        Judged { closers: self.clone(), uid }
    }
}

impl Judged {
    /// Whether a signal is killing the process. If several closes run at a time, it cannot be told which one
    /// is that of a process that is being killed, and none of them may be lost.
    fn is_being_killed(&self) -> bool {
        let is_alone = || self.closers.0.lock().get(&self.uid) == Some(&1);
        may_be_being_killed(self.uid, is_alone)
    }
}

impl Drop for Judged {
    fn drop(&mut self) {
        let mut closers = self.closers.0.lock();
        if let Some(count) = closers.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                closers.remove(&self.uid);
            }
        }
    }
}

impl Close {
    /// A close of a file that the process `opener` opened, or the one with these open files. `judged` is for a
    /// thread that is not known.
    pub(in crate::fs) fn by(
        request: &Request,
        opener: Option<u32>,
        files: &OpenersFiles,
        judged: Option<Judged>,
    ) -> Self {
        files.are_used_by(request);
        let closer = Closer::of(request, opener, files.get());
        let is_killed = judged
            .map_or_else(|| is_being_killed(request.task), |unknown| unknown.is_being_killed());
        match closer {
            _ if is_killed => Self::Killed(closer),
            Closer::Opener => Self::Finished,
            Closer::Child => Self::Inherited,
        }
    }
}

impl Closer {
    /// Where the opener is not known (it lives in a PID namespace that the daemon does not see), its open files
    /// tell. A known opener is never a thread that is not known.
    fn of(request: &Request, opener: Option<u32>, files: u64) -> Self {
        let is_opener = match opener {
            Some(process) => process == request.task || process_of(request.task) == Some(process),
            None => request.files == files,
        };
        if is_opener { Self::Opener } else { Self::Child }
    }
}

/// Whether a signal killed a process that had not finished the file. Nothing of such a file is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::fs) enum Abandoned {
    #[default]
    No,
    /// A child was killed, and no process has gone on with the file since.
    ByChild,
    /// The opener was killed. Children that go on cannot finish the file.
    ByOpener,
}

impl Abandoned {
    pub(in crate::fs) fn is_abandoned(self) -> bool {
        self != Self::No
    }

    /// A signal killed this process.
    pub(in crate::fs) fn killed(&mut self, closer: Closer) {
        match closer {
            Closer::Opener => *self = Self::ByOpener,
            Closer::Child if *self == Self::No => *self = Self::ByChild,
            Closer::Child => {}
        }
    }

    /// A process goes on with the file.
    pub(in crate::fs) fn resumed(&mut self) {
        if *self == Self::ByChild {
            *self = Self::No;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(task: u32, files: u64, opener: Option<u32>, of: &OpenersFiles) -> Close {
        Close::by(&Request { task, files, ..Request::default() }, opener, of, None)
    }

    #[test]
    fn only_the_opener_finishes_a_file() {
        let process = std::process::id();
        let thread = std::thread::spawn(|| nix::unistd::gettid().as_raw().cast_unsigned());
        let ended = thread.join().unwrap();
        let own = nix::unistd::gettid().as_raw().cast_unsigned();
        let by = |task| close(task, 0, Some(process), &OpenersFiles::default());
        assert_eq!(by(process), Close::Finished);
        assert_eq!(by(own), Close::Finished, "another thread of it");
        assert_eq!(by(1), Close::Inherited);
        assert_eq!(by(0), Close::Inherited, "of another PID namespace");
        assert_eq!(by(ended), Close::Inherited, "it is gone");
    }

    #[test]
    fn open_files_tell_an_opener_whose_number_is_not_known() {
        let files = OpenersFiles::default();
        assert_eq!(close(0, 7, None, &files), Close::Finished, "a shell closes a duplicate first");
        assert_eq!(close(0, 8, None, &files), Close::Inherited);
        assert_eq!(close(0, 7, None, &files), Close::Finished);
        let written = OpenersFiles::default();
        written.are_used_by(&Request { files: 9, ..Request::default() });
        assert_eq!(close(0, 8, None, &written), Close::Inherited);
        assert_eq!(close(0, 9, None, &written), Close::Finished);
    }

    #[test]
    fn who_goes_on_resumes_what_a_child_abandoned() {
        let mut abandoned = Abandoned::default();
        abandoned.killed(Closer::Child);
        assert!(abandoned.is_abandoned());
        abandoned.resumed();
        assert!(!abandoned.is_abandoned());
        abandoned.killed(Closer::Opener);
        abandoned.killed(Closer::Child);
        abandoned.resumed();
        assert!(abandoned.is_abandoned());
    }
}
