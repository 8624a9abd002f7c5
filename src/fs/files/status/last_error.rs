//! Why a caller's own operations failed.

use std::collections::{HashMap, VecDeque};
use std::fmt::{Display, Write};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::model::{Timestamp, printable};

/// How many failures are kept of one UID.
const PER_UID: usize = 16;
/// Of how many UIDs failures are kept. Those of the UID that failed longest ago go first.
const UIDS: usize = 4096;
/// How much of a sentence is kept.
const SENTENCE_BYTES: usize = 2048;
/// How many bytes all sentences may have together.
const BYTES: usize = 8 << 20;

/// The last failures by UID, newest last.
#[derive(Default)]
pub(in crate::fs) struct Failures(Mutex<Saved>);

#[derive(Default)]
struct Saved {
    by_uid: HashMap<u32, VecDeque<Failure>>,
    bytes: usize,
}

struct Failure {
    at: Timestamp,
    sentence: String,
}

impl Failures {
    pub(in crate::fs) fn add(&self, uid: u32, operation: &str, why: &impl Display) {
        let at = SystemTime::now().into();
        let mut sentence = format!("{operation} {why}");
        if sentence.len() > SENTENCE_BYTES {
            let is_end = |&at: &usize| sentence.is_char_boundary(at);
            let end = (0..=SENTENCE_BYTES).rev().find(is_end).unwrap_or(0);
            sentence.truncate(end);
            sentence.push('…');
        }
        sentence.shrink_to_fit();
        let mut kept = self.0.lock();
        while kept.bytes + sentence.len() > BYTES
            || kept.by_uid.len() >= UIDS && !kept.by_uid.contains_key(&uid)
        {
            kept.forget_oldest();
        }
        kept.bytes += sentence.len();
        let of_uid = kept.by_uid.entry(uid).or_default();
        let oldest = if of_uid.len() >= PER_UID { of_uid.pop_front() } else { None };
        of_uid.push_back(Failure { at, sentence });
        kept.bytes -= oldest.map_or(0, |oldest| oldest.sentence.len());
    }

    /// A line for each failure, newest last: time, operation, path, reason.
    pub(in crate::fs) fn of(&self, uid: u32) -> String {
        let kept = self.0.lock();
        let mut text = String::new();
        for failure in kept.by_uid.get(&uid).into_iter().flatten() {
            let one_line = printable(&failure.sentence.replace(['\n', '\r'], "; "));
            writeln!(text, "{} {one_line}", failure.at.to_rfc3339()).expect("a string takes all");
        }
        text
    }
}

impl Saved {
    /// Forgets all of the UID that failed longest ago.
    fn forget_oldest(&mut self) {
        let last = |of_uid: &VecDeque<Failure>| of_uid.back().map(|last| last.at);
        let oldest = self.by_uid.iter().min_by_key(|(_, of_uid)| last(of_uid));
        if let Some(oldest) = oldest.map(|(&uid, _)| uid) {
            let gone = self.by_uid.remove(&oldest).unwrap_or_default();
            self.bytes -= gone.iter().map(|one| one.sentence.len()).sum::<usize>();
        }
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
        assert!(failures.0.lock().by_uid.len() <= UIDS);
        assert!(!failures.of(4999).is_empty());
        for uid in 0..10_000 {
            failures.add(uid, "open", &"x".repeat(5000));
        }
        let kept = failures.0.lock();
        let sentences = kept.by_uid.values().flatten().map(|one| one.sentence.len());
        assert_eq!(sentences.sum::<usize>(), kept.bytes);
        assert!(kept.bytes <= BYTES);
    }
}
