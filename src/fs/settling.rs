//! Names whose last writer has closed and whose commit is under way.
//!
//! A file that was only created or truncated is published when its last handle is released, and the
//! kernel does not wait for that: `close` has returned already. Whoever opens the name next must see
//! the new value all the same, so it waits here until the commit is visible.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::model::SIDECAR_SUFFIX;
use crate::telemetry::pulse;

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
        self.wait_while(|paths| paths.contains_key(path));
    }

    /// Waits until no commit of what would make that path a folder or a sidecar is under way.
    pub(super) fn wait_for_around(&self, path: &str) {
        let below = |key: &str| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        let secret = path.strip_suffix(SIDECAR_SUFFIX);
        self.wait_while(|paths| paths.keys().any(|key| below(key) || Some(key.as_str()) == secret));
    }

    fn wait_while(&self, mut under_way: impl FnMut(&HashMap<String, usize>) -> bool) {
        if self.count.load(Ordering::Acquire) > 0 {
            let _waiting = pulse::waiting();
            let mut paths = self.paths.lock();
            self.settled.wait_while_for(&mut paths, |paths| under_way(paths), PATIENCE);
        }
    }
}
