//! Names whose last writer has closed and whose commit is under way.
//!
//! A file that was only created or truncated is published when its last handle is released, and the
//! kernel does not wait for that: `close` has returned already. Whoever opens the name next must see
//! the new value all the same, so it waits here until the commit is visible.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A disk that takes longer than this has other problems; the old value is served then.
const PATIENCE: Duration = Duration::from_secs(5);

/// Paths with a commit under way. Waited for by request threads, ended by the writer thread, which
/// waits for nobody: so this cannot hang.
#[derive(Default)]
pub(super) struct Settling {
    paths: Mutex<HashMap<String, usize>>,
    count: AtomicUsize,
    settled: Condvar,
}

impl Settling {
    pub(super) fn begin(&self, path: &str) {
        *self.paths.lock().entry(path.to_owned()).or_default() += 1;
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn end(&self, path: &str) {
        let mut paths = self.paths.lock();
        if let Some(count) = paths.get_mut(path) {
            *count -= 1;
            if *count == 0 {
                paths.remove(path);
            }
        }
        self.count.fetch_sub(1, Ordering::AcqRel);
        self.settled.notify_all();
    }

    /// Waits until no commit of that path is under way.
    pub(super) fn wait_for(&self, path: &str) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut paths = self.paths.lock();
            self.settled.wait_while_for(&mut paths, |paths| paths.contains_key(path), PATIENCE);
        }
    }
}
