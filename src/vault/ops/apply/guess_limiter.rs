//! How often wrong guesses about a value are answered.
//!
//! An import that changes nothing needs no right. The answer to it tells a caller who may not read the
//! secret whether its guess is right. So the wrong guesses about each secret are counted, whichever
//! UIDs make them: a user may have thousands of UIDs. After the limit an import needs the right that a
//! change needs, until the time is over.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::vault::records::secret::RecordId;

/// How many wrong guesses about one secret are answered within [`WINDOW`].
const WRONG_GUESSES: u32 = 16;
/// When wrong guesses are forgotten.
const WINDOW: Duration = Duration::from_secs(3600);
/// Of how many secrets guesses are counted; beyond that no guess about another one is answered.
const SECRETS: usize = 65_536;

/// Wrong guesses by secret. The lock is a leaf.
#[derive(Default)]
pub(in crate::vault) struct GuessLimiter(Mutex<HashMap<RecordId, Wrong>>);

struct Wrong {
    count: u32,
    since: Instant,
}

impl GuessLimiter {
    /// Counts a guess as a wrong one, before it is compared. Whether it may be compared.
    pub(in crate::vault) fn take(&self, of: RecordId) -> bool {
        let now = Instant::now();
        let mut wrong = self.0.lock();
        if wrong.len() >= SECRETS && !wrong.contains_key(&of) {
            wrong.retain(|_, one| one.is_fresh());
            if wrong.len() >= SECRETS {
                return false;
            }
        }
        let one = wrong.entry(of).or_insert(Wrong { count: 0, since: now });
        if !one.is_fresh() {
            *one = Wrong { count: 0, since: now };
        }
        let may = one.count < WRONG_GUESSES;
        one.count += u32::from(may);
        may
    }

    /// The guess that was taken was right.
    pub(in crate::vault) fn was_right(&self, of: RecordId) {
        let mut wrong = self.0.lock();
        if let Some(one) = wrong.get_mut(&of) {
            one.count = one.count.saturating_sub(1);
            if one.count == 0 {
                wrong.remove(&of);
            }
        }
    }
}

impl Wrong {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < WINDOW
    }
}
