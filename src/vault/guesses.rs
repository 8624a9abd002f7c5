//! Who may compare a value with the stored one.
//!
//! A document whose value stands as it is needs no right. So whoever can tell "nothing changes" from
//! "you may not" can try values of secrets that it may not read. It may be wrong a few times; after
//! that it must be a reader or a writer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often one UID may be wrong about values that it may not read, within [`WINDOW`].
const WRONG_GUESSES: u32 = 16;
/// When wrong guesses are forgotten.
const WINDOW: Duration = Duration::from_secs(3600);
/// Of how many UIDs guesses are counted; beyond that nobody new may guess.
const UIDS: usize = 65_536;

/// Wrong guesses by UID. The lock is a leaf.
#[derive(Default)]
pub(super) struct Guesses(Mutex<HashMap<u32, Wrong>>);

struct Wrong {
    count: u32,
    since: Instant,
}

impl Guesses {
    /// Whether this UID may still guess.
    pub(super) fn has_left(&self, uid: u32) -> bool {
        let mut wrong = self.0.lock();
        if wrong.len() >= UIDS {
            wrong.retain(|_, one| one.is_fresh());
        }
        match wrong.get(&uid) {
            Some(own) => !own.is_fresh() || own.count < WRONG_GUESSES,
            None => wrong.len() < UIDS,
        }
    }

    /// This UID was wrong.
    pub(super) fn add(&self, uid: u32) {
        let now = Instant::now();
        let mut wrong = self.0.lock();
        let own = wrong.entry(uid).or_insert(Wrong { count: 0, since: now });
        if !own.is_fresh() {
            *own = Wrong { count: 0, since: now };
        }
        own.count += 1;
    }
}

impl Wrong {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < WINDOW
    }
}
