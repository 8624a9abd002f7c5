//! Names whose last writer has closed and whose commit is under way.
//!
//! A file that was only created or truncated is published when its last handle is released, and the kernel
//! does not wait for that: `close` has returned already. The next request for the name must see the new value
//! all the same, so it waits here until the commit is visible. Between the close and the release it is not
//! known whether a release comes: another descriptor may be open. Then the request waits until all requests
//! that were read before it have been begun on, the release among them.
//!
//! After a takeover the kernel sends unanswered requests again, in any order and before all others. So such a
//! request first waits until all of them have been read.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::model::SIDECAR_SUFFIX;
use crate::telemetry::request_watchdog;

use crate::fs::KernelCache;
use crate::fs::ops::lookup::is_below;

/// A disk or name service that takes longer than this has other problems; the old value is served then.
pub(in crate::fs) const PATIENCE: Duration = Duration::from_secs(5);

/// How long after the start of a server requests that the kernel sends again may take to be read.
const RESENT: Duration = Duration::from_secs(1);

/// A release that follows a close has been read after this time.
const CLOSING: Duration = Duration::from_secs(5);

/// Paths with a commit under way. Request threads wait for them. The writer thread ends them and must not wait here:
/// what follows a commit runs on it.
#[derive(Default)]
pub(in crate::fs) struct PendingPublications {
    names: Mutex<Names>,
    /// How many there are.
    count: AtomicUsize,
    settled: Condvar,
    /// The kernel, and since when it is served.
    kernel: OnceLock<(Arc<dyn KernelCache>, Instant)>,
    /// Set once all requests that the kernel sent again have been read.
    resent_are_read: OnceLock<()>,
}

#[derive(Default)]
struct Names {
    /// By their numbers, which grow; and since when.
    under_way: BTreeMap<u64, (String, Instant)>,
    next: u64,
    /// A descriptor was closed, perhaps the last one.
    closing: HashMap<String, Instant>,
}

impl PendingPublications {
    /// Requests of that kernel come from now on.
    pub(in crate::fs) fn serve(&self, kernel: Arc<dyn KernelCache>) {
        // It is called once.
        let _ = self.kernel.set((kernel, Instant::now()));
    }

    /// A descriptor of a file that is published when the last one is gone was closed.
    pub(in crate::fs) fn closing(&self, path: &str) {
        let mut names = self.names.lock();
        names.closing.insert(path.to_owned(), Instant::now());
        self.recount(&names);
    }

    /// A commit is under way until its number is [ended](Self::end).
    pub(in crate::fs) fn begin(&self, path: String) -> u64 {
        let mut names = self.names.lock();
        names.closing.remove(&path);
        let number = names.next;
        names.next += 1;
        names.under_way.insert(number, (path, Instant::now()));
        self.recount(&names);
        number
    }

    pub(in crate::fs) fn end(&self, number: u64) {
        let mut names = self.names.lock();
        names.under_way.remove(&number);
        self.recount(&names);
        self.settled.notify_all();
    }

    /// Waits until no commit of that path, or of its lists, is under way. Whether there was one.
    pub(in crate::fs) fn wait_for(&self, path: &str) -> bool {
        self.wait_while(|key| {
            key.strip_suffix(SIDECAR_SUFFIX).unwrap_or(key) == path || key == path
        })
    }

    /// Waits until no commit of what would make that path a directory or a sidecar is under way.
    pub(in crate::fs) fn wait_for_around(&self, path: &str) {
        let secret = path.strip_suffix(SIDECAR_SUFFIX);
        self.wait_while(|key| is_below(key, path) || Some(key) == secret);
    }

    /// Waits until no commit is under way of what that directory shows; not for those that follow.
    pub(in crate::fs) fn wait_for_below(&self, directory: &str) {
        self.wait_while(|key| is_below(key, directory));
    }

    fn wait_while(&self, matters: impl Fn(&str) -> bool) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut names = self.names.lock();
        names.closing.retain(|_, since| since.elapsed() < CLOSING);
        self.recount(&names);
        let mut waited = names.closing.keys().any(|key| matters(key));
        if waited {
            drop(names);

            self.wait_for_resent();
            request_watchdog::wait_for_earlier_requests(PATIENCE);
            names = self.names.lock();
        }
        let next = names.next;
        // Of those that began before now; a publication is waited for no longer than PATIENCE in all.
        let latest = |names: &Names| {
            let under_way = names.under_way.range(..next).filter(|(_, (key, _))| matters(key));
            under_way.map(|(_, &(_, since))| since + PATIENCE).max()
        };
        while let Some(end) = latest(&names)
            && Instant::now() < end
        {
            let _waiting = request_watchdog::waiting();
            self.settled.wait_until(&mut names, end);
            waited = true;
        }
        waited
    }

    /// Waits until every request that the kernel sent again at the takeover has been read.
    fn wait_for_resent(&self) {
        let Some((kernel, since)) = self.kernel.get() else { return };
        let is_read = || since.elapsed() >= RESENT || !kernel.has_unread();
        while self.resent_are_read.get().is_none() {
            match is_read() {
                true => drop(self.resent_are_read.set(())),
                false => std::thread::yield_now(),
            }
        }
    }

    fn recount(&self, names: &Names) {
        self.count.store(names.under_way.len() + names.closing.len(), Ordering::Release);
    }
}
