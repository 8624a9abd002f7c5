//! poll(2) on an open secret: POLLPRI says that there is a newer version, or that it is gone.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::fs::budget::{Account, Budget, Charge};
use crate::fs::kernel::nodes::Node;
use crate::fs::saved::table::{Entry, Saved};
use crate::fs::saved::{Record, SLOT_BYTES, SavedState, Slot};
use crate::fs::{Fs, Request};

/// What an open file is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// As every regular file: always.
    Always,
    /// A version: to be read. `superseded` if it is not the current one any more.
    Version {
        /// Whether there is a newer version, or none.
        superseded: bool,
    },
}

impl Fs {
    /// What the file is ready for. `waiter` is the kernel's number for the open file whose poll is to be
    /// woken when that changes.
    pub fn poll(&self, request: &Request, node: u64, waiter: Option<u64>) -> Readiness {
        let Ok(node @ Node::Value(_)) = self.node(request, node) else { return Readiness::Always };
        // First noted, then looked at: a change in between wakes it.
        if let Some(waiter) = waiter {
            let caller = self.caller_if_known(request);
            let account = caller.map_or(Account::User(request.uid), |caller| Account::of(&caller));
            self.pollers.add(node.number(), waiter, &self.budget, account);
        }
        Readiness::Version { superseded: self.is_outdated(&node) }
    }
}

/// Waiters on one version beyond this many are not woken. Otherwise a caller that opens and polls again and
/// again, while a process holds the version, would fill the memory.
const MOST_ON_A_VERSION: usize = 4096;

/// Polls that wait for a newer version, by the node of the version that is open.
#[derive(Default)]
pub(in crate::fs) struct Pollers {
    by_node: Mutex<HashMap<u64, Saved<u64, Waiter>>>,
    /// They waited when the process before this one died. What they wait for may have happened since.
    inherited: Mutex<Vec<(u64, Slot)>>,
    saved_state: SavedState,
}

struct Waiter(Charge);

impl Entry<u64> for Waiter {
    fn record(&self, waiter: &u64) -> Option<(Account, Record)> {
        Some((self.0.account(), Record::Waiter(*waiter)))
    }
}

impl Waiter {
    /// What a waiter takes, its slot included.
    const BYTES: usize = 256 + SLOT_BYTES;
}

impl Pollers {
    pub(in crate::fs) fn new(saved_state: SavedState) -> Self {
        Self { saved_state, ..Self::default() }
    }

    fn add(&self, node: u64, waiter: u64, budget: &Budget, account: Account) {
        let mut by_node = self.by_node.lock();
        let waiters = by_node.entry(node).or_default();
        if waiters.contains_key(&waiter) {
            return;
        }
        // The kernel numbers open files upwards: the oldest has most likely been closed.
        if waiters.len() >= MOST_ON_A_VERSION {
            waiters.pop_first();
        }
        let charge = || budget.charge(account, Waiter::BYTES, "");
        let charge = charge().or_else(|error| match waiters.pop_first() {
            Some(_) => charge(),
            None => Err(error),
        });
        // A caller without memory left is not woken.
        if let Ok(charge) = charge {
            waiters.put(&self.saved_state, waiter, Waiter(charge));
        } else if waiters.is_empty() {
            by_node.remove(&node);
        }
    }

    /// The polls to wake because a version was superseded. They ask again. Each stays in the saved state
    /// until its slot is dropped: if the server is killed before it wakes them, the next one does.
    pub(in crate::fs) fn take(
        &self,
        node: u64,
    ) -> impl Iterator<Item = (u64, Option<Slot>)> + use<> {
        let waiters = self.by_node.lock().remove(&node).unwrap_or_default();
        waiters.0.into_iter().map(|(waiter, kept)| (waiter, kept.slot))
    }

    /// It waited for a process before this one.
    pub(in crate::fs) fn inherit(&self, waiter: u64, slot: Slot) {
        self.inherited.lock().push((waiter, slot));
    }

    /// The restored polls to wake, since it is not known for what they wait. They ask again.
    pub(in crate::fs) fn take_inherited(&self) -> Vec<(u64, Slot)> {
        std::mem::take(&mut *self.inherited.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::budget::MemoryLimits;

    #[test]
    fn waiters_are_woken_once_and_bounded() {
        let pollers = Pollers::default();
        let budget = Budget::new(MemoryLimits::default());
        let add = |node, waiter| pollers.add(node, waiter, &budget, Account::User(7));
        add(1, 7);
        add(1, 7);
        add(2, 8);
        let take = |node| pollers.take(node).map(|(waiter, _)| waiter).collect::<Vec<_>>();
        assert_eq!(take(1), [7]);
        assert!(take(1).is_empty());
        let many = MOST_ON_A_VERSION as u64;
        (0..2 * many).for_each(|waiter| add(3, waiter));
        assert_eq!(take(3), (many..2 * many).collect::<Vec<_>>());
        assert_eq!(take(2), [8]);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_waiter_is_the_next_process_s_until_it_is_woken() {
        let file = tempfile::tempfile().unwrap();
        let saved_state = || SavedState::new(file.try_clone().unwrap()).unwrap();
        let left = || {
            let found = saved_state().inherit().unwrap();
            let kept = found.into_iter().map(|(slot, kept)| (std::mem::forget(slot), kept).1);
            kept.collect::<Vec<_>>()
        };
        let pollers = Pollers::new(saved_state());
        let budget = Budget::new(MemoryLimits::default());
        pollers.add(1, 7, &budget, Account::User(7));
        let taken: Vec<_> = pollers.take(1).collect();
        assert_eq!(left(), [Record::Waiter(7)]);
        drop(taken);
        assert_eq!(left(), []);
    }
}
