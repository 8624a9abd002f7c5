//! Whether the shared store can be reached.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::audit::Revision;

/// So long after the connection was lost a change still waits for it; after that it fails at once.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Set by the follower thread, read by writers.
pub(super) struct Link {
    state: Mutex<State>,
    changed: Condvar,
    /// For the audit log.
    revision: Revision,
}

struct State {
    is_up: bool,
    /// Whether it ever was.
    was_up: bool,
    since: Instant,
    why: String,
    /// The newest revision that is here, for threads that wait for it.
    seen: u64,
    is_stopping: bool,
}

impl Link {
    pub(super) fn new(seen: u64, revision: Revision) -> Self {
        revision.set(seen);
        let why = "it was not reached since the start".to_owned();
        let (is_up, since) = (false, Instant::now());
        let state = State { is_up, was_up: false, since, why, seen, is_stopping: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), revision }
    }

    pub(super) fn set_up(&self) {
        self.change(|state| {
            (state.is_up, state.was_up, state.since) = (true, true, Instant::now());
        });
    }

    pub(super) fn set_down(&self, why: String) {
        self.change(|state| {
            if std::mem::replace(&mut state.is_up, false) {
                state.since = Instant::now();
            }
            state.why = why;
        });
    }

    pub(super) fn set_seen(&self, revision: u64) {
        self.revision.set(revision);
        self.change(|state| state.seen = revision);
    }

    pub(super) fn stop(&self) {
        self.change(|state| state.is_stopping = true);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state.lock().is_stopping
    }

    pub(super) fn is_up(&self) -> bool {
        self.state.lock().is_up
    }

    /// For how long it has been down, zero if it is up; none if it was never up since the start.
    pub(super) fn down_for(&self) -> Option<Duration> {
        let state = self.state.lock();
        state.was_up.then(|| if state.is_up { Duration::ZERO } else { state.since.elapsed() })
    }

    /// Whether this reason is the one that was reported last.
    pub(super) fn was_told(&self, why: &str) -> bool {
        self.state.lock().why == why
    }

    pub(super) fn seen(&self) -> u64 {
        self.state.lock().seen
    }

    /// Waits until it is up, while that may still be soon.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn wait_up(&self) -> Result<(), String> {
        let mut state = self.state.lock();
        while !state.is_up {
            let until = state.since + GRACE;
            if state.is_stopping || self.changed.wait_until(&mut state, until).timed_out() {
                return if state.is_up { Ok(()) } else { Err(state.why.clone()) };
            }
        }
        Ok(())
    }

    /// Waits until all up to this revision is here, for [`GRACE`] at most.
    pub(super) fn wait_seen(&self, revision: u64) {
        let until = Instant::now() + GRACE;
        let mut state = self.state.lock();
        while state.seen < revision && !state.is_stopping {
            if self.changed.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
    }

    /// Waits until it is up, for that long at most. Whether it is.
    pub(super) fn wait_up_for(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.is_up && !state.is_stopping {
            if self.changed.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.is_up
    }

    /// Waits that long, or until the end.
    pub(super) fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.is_stopping && !self.changed.wait_until(&mut state, until).timed_out() {}
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }
}
