//! Why a caller's own operations failed.

use std::collections::{HashMap, VecDeque};
use std::fmt::{Display, Write};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::model::{Timestamp, printable};

/// How many failures are kept of one UID.
const PER_UID: usize = 16;
/// Of how many UIDs failures are kept. Whoever failed longest ago goes first.
const UIDS: usize = 4096;

/// The last failures by UID, newest last.
#[derive(Default)]
pub(super) struct Failures(Mutex<HashMap<u32, VecDeque<Failure>>>);

struct Failure {
    at: Timestamp,
    sentence: String,
}

impl Failures {
    pub(super) fn add(&self, uid: u32, operation: &str, why: &impl Display) {
        let at = SystemTime::now().into();
        let mut failures = self.0.lock();
        if failures.len() >= UIDS && !failures.contains_key(&uid) {
            let oldest =
                failures.iter().min_by_key(|(_, of_uid)| of_uid.back().map(|last| last.at));
            if let Some(oldest) = oldest.map(|(&uid, _)| uid) {
                failures.remove(&oldest);
            }
        }
        let of_uid = failures.entry(uid).or_default();
        if of_uid.len() >= PER_UID {
            of_uid.pop_front();
        }
        of_uid.push_back(Failure { at, sentence: format!("{operation} {why}") });
    }

    /// A line for each failure, newest last: time, operation, path, reason.
    pub(super) fn of(&self, uid: u32) -> String {
        let failures = self.0.lock();
        let mut text = String::new();
        for failure in failures.get(&uid).into_iter().flatten() {
            let one_line = printable(&failure.sentence.replace(['\n', '\r'], "; "));
            writeln!(text, "{} {one_line}", failure.at.to_rfc3339()).expect("a string takes all");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_sixteen_of_each() {
        let failures = Failures::default();
        for number in 0..20 {
            failures.add(7, "open", &format!("K{number}: no"));
        }
        failures.add(8, "unlink", &"K: no\nno");
        let text = failures.of(7);
        assert_eq!(text.lines().count(), 16);
        assert!(text.lines().next().unwrap().ends_with("open K4: no"));
        assert!(text.lines().last().unwrap().ends_with("open K19: no"));
        assert!(failures.of(8).ends_with("unlink K: no; no\n"));
        assert_eq!(failures.of(9), "");
    }

    #[test]
    fn stays_bounded() {
        let failures = Failures::default();
        for uid in 0..5000 {
            failures.add(uid, "open", &"K: no");
        }
        assert!(failures.0.lock().len() <= UIDS);
        assert!(!failures.of(4999).is_empty());
    }
}
