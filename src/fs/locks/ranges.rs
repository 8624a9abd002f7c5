//! The byte ranges of one file that one owner has locked: pure.

use serde::{Deserialize, Serialize};

/// What a lock excludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockMode {
    /// Exclusive locks of others.
    Shared,
    /// All locks of others.
    Exclusive,
}

impl LockMode {
    /// Whether two owners can hold these at the same bytes.
    fn allows(self, other: Self) -> bool {
        self == Self::Shared && other == Self::Shared
    }
}

/// Bytes of a file, both ends included, with the mode of the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LockedRange {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) mode: LockMode,
}

impl LockedRange {
    pub(super) fn conflicts_with(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end && !self.mode.allows(other.mode)
    }
}

/// Sorted, without overlaps; neighbours of the same mode are one range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ranges(Vec<LockedRange>);

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first range that keeps another owner from a lock.
    pub(super) fn conflict_with(&self, wanted: &LockedRange) -> Option<LockedRange> {
        self.0.iter().find(|held| held.conflicts_with(wanted)).copied()
    }

    /// Locks the range, whatever was locked there.
    pub(super) fn lock(&mut self, new: LockedRange) {
        self.unlock(new.start, new.end);
        let at = self.0.partition_point(|held| held.start < new.start);
        self.0.insert(at, new);
        self.0.dedup_by(|next, held| {
            let is_one = held.mode == next.mode && held.end.checked_add(1) == Some(next.start);
            if is_one {
                held.end = next.end;
            }
            is_one
        });
    }

    /// Unlocks the range. What was locked around it stays.
    pub(super) fn unlock(&mut self, start: u64, end: u64) {
        let mut left = Vec::with_capacity(self.0.len() + 1);
        for held in self.0.drain(..) {
            if held.end < start || held.start > end {
                left.push(held);
                continue;
            }
            if held.start < start {
                left.push(LockedRange { end: start - 1, ..held });
            }
            if held.end > end {
                left.push(LockedRange { start: end + 1, ..held });
            }
        }
        self.0 = left;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES: u64 = 24;

    fn mode() -> impl Strategy<Value = LockMode> {
        prop_oneof![Just(LockMode::Shared), Just(LockMode::Exclusive)]
    }

    proptest! {
        /// The same as a mode for each byte.
        #[test]
        fn ranges_are_what_each_byte_is(
            steps in prop::collection::vec(
                (0..BYTES, 0..BYTES, prop::option::of(mode())), 1..40,
            ),
            wanted in (0..BYTES, 0..BYTES, mode()),
        ) {
            let mut ranges = Ranges::default();
            let mut bytes = [None; BYTES as usize];
            for (a, b, mode) in steps {
                let (start, end) = (a.min(b), a.max(b));
                match mode {
                    Some(mode) => ranges.lock(LockedRange { start, end, mode }),
                    None => ranges.unlock(start, end),
                }
                bytes[start as usize..=end as usize].fill(mode);
                let mut shown = [None; BYTES as usize];
                for held in &ranges.0 {
                    shown[held.start as usize..=held.end as usize].fill(Some(held.mode));
                }
                prop_assert_eq!(shown, bytes);
                for pair in ranges.0.windows(2) {
                    prop_assert!(pair[0].end < pair[1].start);
                    prop_assert!(pair[0].end + 1 < pair[1].start || pair[0].mode != pair[1].mode);
                }
                let (start, end) = (wanted.0.min(wanted.1), wanted.0.max(wanted.1));
                let wanted = LockedRange { start, end, mode: wanted.2 };
                let is_free = bytes[start as usize..=end as usize]
                    .iter()
                    .flatten()
                    .all(|held: &LockMode| held.allows(wanted.mode));
                prop_assert_eq!(ranges.conflict_with(&wanted).is_none(), is_free);
            }
        }
    }

    #[test]
    fn the_last_byte_can_be_locked() {
        let mut ranges = Ranges::default();
        let whole = LockedRange { start: 0, end: u64::MAX, mode: LockMode::Exclusive };
        ranges.lock(whole);
        ranges.unlock(5, 5);
        assert_eq!(ranges.len(), 2);
        ranges.lock(LockedRange { start: 5, end: 5, mode: LockMode::Exclusive });
        assert_eq!(ranges.0, [whole]);
        ranges.unlock(0, u64::MAX);
        assert!(ranges.is_empty());
    }
}
