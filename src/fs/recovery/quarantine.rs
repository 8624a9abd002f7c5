//! Requests that were sent again, one of which may have crashed the process that served the mount before.
//!
//! The kernel sends each next process the requests that were not answered. A request that always crashes its
//! process would crash all of them, and end the mount with the last one. So each repeated request is in
//! quarantine: it is in the saved state while it is executed, and a crash in that time counts against it. A
//! request with [`CRASHES`] crashes gets an error and is not executed any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::fs::saved::{Record, SavedRequest, SavedState, Slot};
use crate::fs::{Fs, FsError, Request};

/// How many processes a request may crash before it is refused, in addition to the one that got it first:
/// which requests were in execution when that one died is not known.
const CRASHES: u32 = 2;

/// How long a suspect waits for its turn. The suspect before it may be waiting for the answer to this one:
/// the kernel forgets no name in a directory as long as another request there waits for its answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many suspects have a thread of their own to wait in.
const THREADS: usize = 8;

/// Those that are known. The locks are leaves.
pub(in crate::fs) struct Quarantine {
    saved_state: SavedState,
    /// Requests that did not come again yet: their crashes, and their slots in the saved state.
    awaited: Mutex<HashMap<u64, (u32, Slot)>>,
    /// Those that are worked on.
    running: Mutex<HashMap<u64, Running>>,
    turns: Arc<Turns>,
}

struct Running {
    _slot: Option<Slot>,
    _turn: Option<Turn>,
}

/// Suspects are executed one at a time, so that the next crash shows which one caused it.
#[derive(Default)]
struct Turns {
    is_taken: Mutex<bool>,
    is_free: Condvar,
}

struct Turn(Arc<Turns>);

/// A request is worked on, until this is dropped: before it is answered, or at once if one thread does
/// both.
#[must_use]
pub struct Trial(Option<(Arc<Quarantine>, u64)>);

impl Quarantine {
    pub(in crate::fs) fn new(saved_state: SavedState) -> Arc<Self> {
        let (awaited, running) = Default::default();
        Arc::new(Self { saved_state, awaited, running, turns: Arc::default() })
    }

    /// What the process before this one was working on; `by_crash` if that was its end.
    pub(in crate::fs) fn inherit(&self, kept: SavedRequest, slot: Slot, by_crash: bool) {
        let SavedRequest { unique, crashes, is_running } = kept;
        let crashes = crashes + u32::from(by_crash && is_running);
        let kept = Record::Trial(SavedRequest { unique, crashes, is_running: false });
        if let Some(slot) = slot.replace(&kept) {
            self.awaited.lock().insert(unique, (crashes, slot));
        }
    }

    fn begin(self: &Arc<Self>, unique: u64) -> Result<Trial, FsError> {
        let awaited = self.awaited.lock().remove(&unique);
        let crashes = awaited.as_ref().map_or(0, |(crashes, _)| *crashes);
        if crashes >= CRASHES {
            return Err(FsError::Fatal { crashes: crashes + 1 });
        }
        let turn = if crashes > 0 { self.turns.take() } else { None };
        let kept = Record::Trial(SavedRequest { unique, crashes, is_running: true });
        let slot = match awaited {
            Some((_, slot)) => slot.replace(&kept),
            None => self.saved_state.put_own(&kept),
        };
        self.running.lock().insert(unique, Running { _slot: slot, _turn: turn });
        Ok(Trial(Some((Arc::clone(self), unique))))
    }

    /// The request is executed, and only its answer waits for the kernel, which may be waiting for the answer
    /// to another suspect.
    pub(in crate::fs) fn end(&self, unique: u64) {
        // The locks of what is dropped are not taken within this one.
        let ended = self.running.lock().remove(&unique);
        drop(ended);
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Some((quarantine, unique)) = &self.0 {
            quarantine.end(*unique);
        }
    }
}

impl Turns {
    fn take(self: &Arc<Self>) -> Option<Turn> {
        let mut is_taken = self.is_taken.lock();
        let wait = self.is_free.wait_while_for(&mut is_taken, |is_taken| *is_taken, PATIENCE);
        (!wait.timed_out()).then(|| {
            *is_taken = true;
            Turn(Arc::clone(self))
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.is_taken.lock() = false;
        self.0.is_free.notify_one();
    }
}

impl Fs {
    /// How many more threads than usual are to serve requests: those in which suspects wait for their
    /// turn.
    pub fn threads_for_suspects(&self) -> usize {
        let awaited = self.quarantine.awaited.lock();
        awaited.values().filter(|(crashes, _)| *crashes > 0).count().min(THREADS)
    }

    /// To be asked before a request is worked on.
    ///
    /// # Errors
    /// It has ended several processes, and is not to be tried once more.
    pub fn begin_trial(&self, request: &Request) -> Result<Trial, FsError> {
        if !request.is_resent {
            return Ok(Trial(None));
        }
        let outcome = self.quarantine.begin(request.unique);
        if let Err(error) = &outcome {
            tracing::error!(request = request.unique, uid = request.uid, %error, "given up");
            self.failures.add(request.uid, "request", error);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::thread;

    use super::*;

    /// The process before died, by a crash or otherwise; this is the next one.
    fn next(file: &File, by_crash: bool) -> Arc<Quarantine> {
        let saved_state = SavedState::new(file.try_clone().unwrap()).unwrap();
        let quarantine = Quarantine::new(saved_state.clone());
        for (slot, kept) in saved_state.inherit().unwrap() {
            let Record::Trial(kept) = kept else { panic!("{kept:?}") };
            quarantine.inherit(kept, slot, by_crash);
        }
        quarantine
    }

    fn has_turn(quarantine: &Quarantine, unique: u64) -> bool {
        quarantine.running.lock()[&unique]._turn.is_some()
    }

    /// Leaves everything as it is, as a killed process does.
    fn dies<T>(what: T) {
        std::mem::forget(what);
    }

    /// 1 and 2 were worked on when the process before crashed.
    fn two_suspects() -> Arc<Quarantine> {
        let file = tempfile::tempfile().unwrap();
        let quarantine = next(&file, false);
        dies((quarantine.begin(1).unwrap(), quarantine.begin(2).unwrap(), quarantine));
        next(&file, true)
    }

    #[test]
    fn the_third_crash_is_the_last_one() {
        let file = tempfile::tempfile().unwrap();
        for _ in 0..CRASHES {
            let quarantine = next(&file, true);
            dies((quarantine.begin(7).unwrap(), quarantine));
        }
        let quarantine = next(&file, true);
        assert!(matches!(quarantine.begin(7), Err(FsError::Fatal { crashes: 3 })));
        assert!(quarantine.begin(8).is_ok());
        // It was said, and is forgotten.
        dies(quarantine);
        assert!(next(&file, true).awaited.lock().is_empty());
    }

    #[test]
    fn only_crashes_count_and_only_of_who_was_worked_on() {
        let file = tempfile::tempfile().unwrap();
        for _ in 0..9 {
            let quarantine = next(&file, false);
            dies((quarantine.begin(7).unwrap(), quarantine));
        }
        let quarantine = next(&file, true);
        dies((quarantine.begin(8).unwrap(), quarantine));
        // 7 has one, and did not come yet when this one crashed.
        let quarantine = next(&file, true);
        drop(quarantine.begin(8).unwrap());
        dies((quarantine.begin(7).unwrap(), quarantine));
        let quarantine = next(&file, true);
        assert!(matches!(quarantine.begin(7), Err(FsError::Fatal { .. })));
        assert!(quarantine.begin(8).is_ok(), "it was answered");
    }

    #[test]
    fn suspects_take_turns_and_others_do_not() {
        let quarantine = two_suspects();
        let first = quarantine.begin(1).unwrap();
        let other = quarantine.begin(3).unwrap();
        assert_eq!((has_turn(&quarantine, 1), has_turn(&quarantine, 3)), (true, false));
        thread::scope(|scope| {
            let second = scope.spawn(|| {
                let second = quarantine.begin(2).unwrap();
                assert!(has_turn(&quarantine, 2));
                drop(second);
            });
            quarantine.end(1);
            second.join().unwrap();
        });
        drop((first, other));
        assert!(quarantine.running.lock().is_empty());
    }

    #[test]
    fn nobody_waits_for_a_turn_for_ever() {
        let quarantine = two_suspects();
        let _first = quarantine.begin(1).unwrap();
        let _second = quarantine.begin(2).unwrap();
        assert!(!has_turn(&quarantine, 2));
    }
}
