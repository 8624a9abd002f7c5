//! Decisions that are counted instead of written, so that nobody can flood the log.
//!
//! - A decision that equals one that was recorded within the last second is counted. A line with
//!   `"repeats"` follows within a second, and counts as recorded in turn.
//! - Of decisions that need no right (denied and failed ones, and sealings in `.encrypt`) 100 a second of
//!   one UID are written one by one; those beyond are counted together, by operation and error. All UIDs
//!   without a slug share the 100: a user may have 65,536 of them.
//!
//! A count is in [`CountMemory`] before the caller gets its answer. What does not fit the table is written.

mod attempt;
mod memory;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::{HashMap, fast::RandomState};
use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;

use super::event::Event;
use super::json;

pub use attempt::Attempt;
use attempt::Sum;
pub use memory::CountMemory;

/// For so long a decision that is recorded stands for others.
const WINDOW: Duration = Duration::from_secs(1);
/// So many decisions of one UID that need no right are written one by one in a second.
const EACH: u32 = 100;
/// So many recorded decisions are known in all, and of one UID.
const KNOWN: usize = 4096;
const KNOWN_OF_ONE: usize = 1024;
/// So many slots are left for sums, and of these so many for sums of everybody.
const FOR_SUMS: usize = 512;
const FOR_EVERYBODY: usize = 192;

/// Whether equal decisions are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repeats {
    /// Those of a second have one line.
    #[default]
    Counted,
    /// Each has a line of its own.
    Each,
}

/// What becomes of a decision.
pub(super) enum Admission {
    /// It is recorded: it was counted.
    Counted,
    /// It needs a line, and is known by this hash then.
    Write(u64),
}

/// What is counted. The lock is held for a lookup; nothing is waited for.
pub(super) struct Counter {
    repeats: Repeats,
    memory: Arc<CountMemory>,
    hashes: RandomState,
    table: Mutex<Table>,
    /// Decisions since the start that were counted.
    counted: AtomicU64,
}

#[derive(Default)]
struct Table {
    /// By hash. Where two have the same one, the second is not known.
    known: HashMap<u64, Known>,
    sums: HashMap<Sum, Counting>,
    shares: HashMap<Share, Used>,
    free_small: Vec<u32>,
    free_large: Vec<u32>,
    /// Slots that the process before left.
    left: Vec<u32>,
}

/// A decision that is recorded.
struct Known {
    attempt: Attempt,
    share: Share,
    at: Duration,
    slot: Option<u32>,
}

/// A sum that is counted.
struct Counting {
    at: Duration,
    slot: u32,
}

/// Who shares the limits: a UID, or all without a slug.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Share {
    Uid(u32),
    Nameless,
}

#[derive(Default)]
struct Used {
    /// The second that began then.
    since: Duration,
    /// Decisions that were written one by one in it.
    written: u32,
    known: usize,
}

/// The part of an event that tells of a count.
pub(super) struct Counted {
    memory: Arc<CountMemory>,
    slot: u32,
    total: u64,
}

impl Counted {
    /// The line `seq` is about to be written for it.
    pub(super) fn begin(&self, seq: u64) {
        self.memory.begin_line(self.slot, self.total, seq);
    }

    pub(super) fn end(&self, is_written: bool) {
        self.memory.end_line(self.slot, is_written);
    }
}

impl Counter {
    /// Goes on with what the process before counted; the log ends with the line `last`.
    pub(super) fn new(repeats: Repeats, memory: Arc<CountMemory>, last: u64) -> Self {
        let (left, is_strange) = memory.take_over();
        if is_strange {
            tracing::warn!(
                "counts of repeated decisions that another version left are lost: this one cannot read them"
            );
        }
        left.iter().for_each(|&slot| memory.settle_line(slot, last));
        let free = |slots: std::ops::Range<u32>| {
            slots.rev().filter(|slot| !left.contains(slot)).collect::<Vec<_>>()
        };
        let (free_small, free_large) =
            (free(0..memory::SMALL), free(memory::SMALL..memory::SMALL + memory::LARGE));
        let table = Mutex::new(Table { free_small, free_large, left, ..Table::default() });
        let (hashes, counted) = (RandomState::default(), AtomicU64::new(0));
        Self { repeats, memory, hashes, table, counted }
    }

    /// How many decisions were counted.
    pub(super) fn counted(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    /// Counts a decision if it may; or tells that it needs a line.
    pub(super) fn admit(&self, attempt: &Attempt, may_count: bool) -> Admission {
        let hash = self.hashes.hash_one(attempt);
        if !may_count {
            return Admission::Write(hash);
        }
        let now = now();
        let mut table = self.table.lock();
        let is_counted =
            self.repeats == Repeats::Counted && self.repeat(&mut table, hash, now, attempt);
        if is_counted || attempt.is_free() && self.sum_up(&mut table, now, attempt) {
            self.counted.fetch_add(1, Ordering::Relaxed);
            return Admission::Counted;
        }
        Admission::Write(hash)
    }

    /// Counts it if it equals a recorded one.
    fn repeat(&self, table: &mut Table, hash: u64, now: Duration, attempt: &Attempt) -> bool {
        let Table { known, free_small, free_large, .. } = table;
        let Some(known) = known.get_mut(&hash) else { return false };
        if now.saturating_sub(known.at) >= WINDOW || !known.attempt.equals(attempt) {
            return false;
        }
        if known.slot.is_none() {
            let event = attempt.event_of_many();
            let (is_small, is_large) = CountMemory::fits(event.body());
            known.slot = match (is_small, is_large) {
                (true, _) if free_small.len() > FOR_SUMS => free_small.pop(),
                (_, true) => free_large.pop(),
                _ => None,
            };
            known.slot.iter().for_each(|&slot| self.memory.fill(slot, event.body()));
        }
        known.slot.iter().for_each(|&slot| self.memory.count(slot));
        known.slot.is_some()
    }

    /// Counts one that needs no right, if its UID has had its share of lines in this second.
    fn sum_up(&self, table: &mut Table, now: Duration, attempt: &Attempt) -> bool {
        let used = table.shares.entry(share_of(attempt)).or_default();
        if now.saturating_sub(used.since) >= WINDOW {
            (used.since, used.written) = (now, 0);
        }
        if used.written < EACH {
            used.written += 1;
            return false;
        }
        let Table { sums, free_small, .. } = table;
        // Nothing is lost where there are more UIDs than slots: then all of them have one sum.
        for uid in [Some(attempt.actor.caller.uid()), None] {
            let sum = Sum::of(attempt, uid);
            let slot = match sums.get_mut(&sum) {
                Some(known) => {
                    known.at = now;
                    Some(known.slot)
                }
                None if uid.is_none() || free_small.len() > FOR_EVERYBODY => {
                    let slot = free_small.pop();
                    if let Some(slot) = slot {
                        let event = Event::sum(attempt, uid.is_some());
                        self.memory.fill(slot, event.body());
                        sums.insert(sum, Counting { at: now, slot });
                    }
                    slot
                }
                None => None,
            };
            if let Some(slot) = slot {
                self.memory.count(slot);
                return true;
            }
        }
        false
    }

    /// The line of a decision was written.
    pub(super) fn written(&self, hash: u64, attempt: Attempt) {
        if self.repeats == Repeats::Each {
            return;
        }
        let (now, share) = (now(), share_of(&attempt));
        let mut table = self.table.lock();
        let Table { known, shares, .. } = &mut *table;
        if let Some(known) = known.get_mut(&hash) {
            if known.attempt.equals(&attempt) {
                known.at = now;
            }
            return;
        }
        let used = shares.entry(share).or_default();
        if known.len() < KNOWN && used.known < KNOWN_OF_ONE {
            used.known += 1;
            known.insert(hash, Known { attempt, share, at: now, slot: None });
        }
    }

    /// The lines of what was counted; what is old is forgotten. The lines must be written, or have failed,
    /// before this is asked again.
    pub(super) fn take(&self) -> Vec<Event> {
        let now = now();
        let mut due = Vec::new();
        let mut table = self.table.lock();
        let Table { known, sums, shares, free_small, free_large, left } = &mut *table;
        let mut free = |slot: u32| {
            self.memory.free(slot);
            if slot < memory::SMALL { free_small.push(slot) } else { free_large.push(slot) }
        };
        let mut is_due = |slot: u32| {
            let (total, written) = self.memory.counted(slot);
            if total > written {
                due.push((slot, total, total - written));
            }
            total > written
        };
        known.retain(|_, known| {
            if known.slot.is_some_and(&mut is_due) {
                known.at = now;
            }
            let stays = now.saturating_sub(known.at) < WINDOW;
            if !stays {
                known.slot.iter().for_each(|&slot| free(slot));
                if let Some(used) = shares.get_mut(&known.share) {
                    used.known -= 1;
                }
            }
            stays
        });
        sums.retain(|_, sum| {
            let stays = is_due(sum.slot) || now.saturating_sub(sum.at) < WINDOW;
            if !stays {
                free(sum.slot);
            }
            stays
        });
        left.retain(|&slot| {
            let stays = is_due(slot);
            if !stays {
                free(slot);
            }
            stays
        });
        shares.retain(|_, used| used.known > 0 || now.saturating_sub(used.since) < WINDOW);
        drop(table);
        // A slot that is due is not freed before its line was written.
        let line = |(slot, total, count)| {
            let memory = Arc::clone(&self.memory);
            Event::counted(self.memory.text(slot), count, Counted { memory, slot, total })
        };
        due.into_iter().map(line).collect()
    }
}

impl Event {
    /// The line of a sum: who is left out if it is of everybody.
    fn sum(attempt: &Attempt, is_of_one: bool) -> Self {
        let mut event = Self::outcome(attempt.action, attempt.error.as_ref());
        let caller = &attempt.actor.caller;
        if is_of_one {
            json::number!(event.body_mut(), "uid", caller.uid());
        }
        if let Some(slug) = caller.own_slug() {
            json::word!(event.body_mut(), "slug", slug.as_str());
        }
        event
    }
}

fn share_of(attempt: &Attempt) -> Share {
    let caller = &attempt.actor.caller;
    caller.own_slug().map_or(Share::Nameless, |_| Share::Uid(caller.uid()))
}

/// As of the kernel's last tick: up to 10 ms old, and never set back.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("Linux has this clock").into()
}
