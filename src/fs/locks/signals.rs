//! Signals that end the wait for a lock.
//!
//! The kernel tells of a signal by FUSE_INTERRUPT. The library answers that this is not known, upon which the
//! kernel sends none any more, and a caller with a signal waits until its request is answered, a killed one
//! too. So a thread reads what signals are pending for those that wait, as long as some do.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::fs::caller::proc::{Pending, pending_signals};
use crate::fs::{Fs, FsError};

/// How often those that wait are looked at.
const INTERVAL: Duration = Duration::from_millis(30);
/// How much of one processor that may take.
const SHARE: u32 = 20;

impl Fs {
    /// Starts the thread if there is none.
    pub(super) fn watch_for_signals(self: &Arc<Self>) {
        if self.locks.is_watched.swap(true, Ordering::SeqCst) {
            return;
        }
        let fs = Arc::downgrade(self);
        let watch = move || {
            let (mut before, mut pause) = (HashSet::new(), INTERVAL);
            loop {
                std::thread::sleep(pause);
                let Some(fs) = fs.upgrade() else { return };
                let start = Instant::now();
                if !fs.interrupt_waiters(&mut before) {
                    return;
                }
                pause = INTERVAL.max(start.elapsed() * SHARE);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("locks".to_owned()).spawn(watch) {
            self.locks.is_watched.store(false, Ordering::SeqCst);
            tracing::error!(%error, "callers that wait for locks cannot be interrupted");
        }
    }

    /// Answers those that have a signal. False if none is left, and the thread ends.
    fn interrupt_waiters(self: &Arc<Self>, before: &mut HashSet<u64>) -> bool {
        let waiting = self.locks.table.lock().waiting();
        if waiting.is_empty() {
            self.locks.is_watched.store(false, Ordering::SeqCst);
            // One may have come before that was stored.
            let is_empty = self.locks.table.lock().waiting().is_empty();
            return !is_empty && !self.locks.is_watched.swap(true, Ordering::SeqCst);
        }
        let mut signalled = HashSet::new();
        let mut processes = HashSet::new();
        let mut shared = Vec::new();
        for (unique, task) in waiting {
            match pending_signals(task) {
                Some(Pending::ForThread) => self.interrupt(unique),
                Some(Pending::ForProcess { process }) => {
                    signalled.insert(unique);
                    shared.push((process != task, process, unique));
                }
                Some(Pending::Nothing) | None => {}
            }
        }
        // A signal of a process with several threads interrupts one of them: the first one if it can. One
        // that runs would have taken it.
        shared.sort_unstable();
        for (_, process, unique) in shared {
            if before.contains(&unique) && processes.insert(process) {
                self.interrupt(unique);
            }
        }
        *before = signalled;
        true
    }

    fn interrupt(self: &Arc<Self>, unique: u64) {
        let give_up =
            |table: &mut super::Table, _: &mut Vec<_>| table.give_up(unique, FsError::Interrupted);
        let (waited, _none) = self.locks.change(give_up);
        super::wake(waited.into_iter().collect());
    }
}
