//! A shared store in memory, for the tests of this layer and of those above.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Change, Cluster, ClusterError, News, Outcome, Page, Record, Transaction};

/// How many records one page holds.
const PAGE: usize = 64;
/// How often a watch looks whether it is to end although nothing happens.
const LOOK: Duration = Duration::from_millis(20);

/// Keeps records and all that ever happened to them, and fails when it is told to.
#[derive(Debug, Default)]
pub struct MemoryCluster {
    state: Mutex<State>,
    changed: Condvar,
}

/// What a transaction comes to instead.
#[derive(Debug)]
enum Fate {
    /// It is carried out, as if nothing had been said.
    Succeeds,
    /// It is not carried out, and fails.
    Fails(ClusterError),
    /// It is carried out, and the answer is lost.
    IsLost,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    history: Vec<(u64, Change)>,
    /// What all of the history comes to.
    now: BTreeMap<Vec<u8>, Record>,
    compacted: u64,
    conflicts: u64,
    fates: VecDeque<Fate>,
    /// Nobody gets through, and watches break.
    is_away: bool,
    /// Watches hear nothing, though they stand.
    is_slow: bool,
}

impl MemoryCluster {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next transaction fail, and change nothing.
    pub fn fail_next(&self, error: ClusterError) {
        self.state.lock().fates.push_back(Fate::Fails(error));
    }

    /// As [`MemoryCluster::fail_next`], once so many more have been carried out.
    pub fn fail_after(&self, transactions: usize, error: ClusterError) {
        let fates = &mut self.state.lock().fates;
        fates.extend((0..transactions).map(|_| Fate::Succeeds));
        fates.push_back(Fate::Fails(error));
    }

    /// Carries out the next transaction, and loses the answer.
    pub fn lose_next_answer(&self) {
        self.lose_answer_after(0);
    }

    /// As [`MemoryCluster::lose_next_answer`], once so many more have been carried out.
    pub fn lose_answer_after(&self, transactions: usize) {
        let fates = &mut self.state.lock().fates;
        fates.extend((0..transactions).map(|_| Fate::Succeeds));
        fates.push_back(Fate::IsLost);
    }

    /// Whether nobody gets through from now on.
    pub fn set_away(&self, is_away: bool) {
        self.state.lock().is_away = is_away;
        self.changed.notify_all();
    }

    /// Whether watches stand still from now on, and nobody hears of what others do.
    pub fn set_slow(&self, is_slow: bool) {
        self.state.lock().is_slow = is_slow;
        self.changed.notify_all();
    }

    /// How many transactions were not carried out because something was not as expected.
    pub fn conflicts(&self) -> u64 {
        self.state.lock().conflicts
    }

    /// Forgets what happened up to now.
    pub fn compact(&self) {
        let mut state = self.state.lock();
        state.compacted = state.revision;
    }

    /// Writes `sealed` under `name` (or removes it) as an attacker who can write to it would.
    pub fn tamper(&self, name: &[u8], sealed: Option<Vec<u8>>) {
        self.state.lock().change(&[Change { name: name.to_vec(), sealed }]);
        self.changed.notify_all();
    }

    /// All records.
    pub fn records(&self) -> Vec<Record> {
        self.state.lock().now.values().cloned().collect()
    }
}

impl State {
    fn at(&self, revision: u64) -> Cow<'_, BTreeMap<Vec<u8>, Record>> {
        if revision == self.revision {
            return Cow::Borrowed(&self.now);
        }
        let mut records = BTreeMap::new();
        let until = self.history.partition_point(|(at, _)| *at <= revision);
        self.history[..until].iter().for_each(|(at, change)| apply(&mut records, *at, change));
        Cow::Owned(records)
    }

    /// Makes changes, all at one new revision.
    fn change(&mut self, changes: &[Change]) -> u64 {
        self.revision += 1;
        for change in changes {
            apply(&mut self.now, self.revision, change);
            self.history.push((self.revision, change.clone()));
        }
        self.revision
    }

    fn is_there(&self) -> Result<(), ClusterError> {
        match self.is_away {
            true => Err(ClusterError::Unreachable { why: "it is away".into() }),
            false => Ok(()),
        }
    }

    fn carry_out(&mut self, transaction: &Transaction) -> Outcome {
        let revision_of = |name: &Vec<u8>| self.now.get(name).map_or(0, |record| record.revision);
        if transaction.expected.iter().any(|(name, revision)| revision_of(name) != *revision) {
            self.conflicts += 1;
            let expected = transaction.expected.iter();
            return Outcome::Conflict(expected.map(|(name, _)| revision_of(name)).collect());
        }
        Outcome::Committed(self.change(&transaction.changes))
    }
}

fn apply(records: &mut BTreeMap<Vec<u8>, Record>, revision: u64, change: &Change) {
    let Change { name, sealed } = change;
    match sealed.clone() {
        Some(sealed) => {
            drop(records.insert(name.clone(), Record { name: name.clone(), sealed, revision }))
        }
        None => drop(records.remove(name)),
    }
}

impl Cluster for MemoryCluster {
    fn commit(&self, transaction: &Transaction) -> Result<Outcome, ClusterError> {
        transaction.check()?;
        let mut state = self.state.lock();
        state.is_there()?;
        let fate = state.fates.pop_front();
        if let Some(Fate::Fails(error)) = fate {
            return Err(error);
        }
        let outcome = state.carry_out(transaction);
        self.changed.notify_all();
        match fate {
            Some(Fate::IsLost) => Err(ClusterError::Unknown { why: "the answer was lost".into() }),
            _ => Ok(outcome),
        }
    }

    fn read(&self, from: &[u8], until: &[u8], at: Option<u64>) -> Result<Page, ClusterError> {
        let state = self.state.lock();
        state.is_there()?;
        let revision = at.unwrap_or(state.revision);
        if revision < state.compacted {
            return Err(ClusterError::Compacted { revision: state.compacted });
        }
        let found = state.at(revision);
        let mut found = found.range(from.to_vec()..until.to_vec());
        let records = found.by_ref().take(PAGE).map(|(_, record)| record.clone()).collect();
        Ok(Page { records, more: found.next().is_some(), revision: state.revision })
    }

    fn list(&self, from: &[u8], until: &[u8]) -> Result<Page, ClusterError> {
        let mut page = self.read(from, until, None)?;
        page.records.iter_mut().for_each(|record| record.sealed.clear());
        Ok(page)
    }

    fn watch(
        &self,
        from: &[u8],
        until: &[u8],
        since: u64,
        hear: &mut dyn FnMut(News) -> ControlFlow<()>,
    ) -> Result<(), ClusterError> {
        let mut since = since;
        loop {
            let news = {
                let mut state = self.state.lock();
                state.is_there()?;
                if since <= state.compacted && since <= state.revision {
                    return Err(ClusterError::Compacted { revision: state.compacted });
                }
                let watched =
                    |(_, change): &&(u64, Change)| *change.name >= *from && *change.name < *until;
                let first = state.history.partition_point(|(at, _)| *at < since);
                let changes: Vec<_> = match state.is_slow {
                    true => Vec::new(),
                    false => state.history[first..].iter().filter(watched).cloned().collect(),
                };
                // Of a watch that stands still nobody learns how far it is.
                let revision = if state.is_slow { since.saturating_sub(1) } else { state.revision };
                if changes.is_empty() {
                    self.changed.wait_for(&mut state, LOOK);
                    News::Nothing { revision }
                } else {
                    since = revision + 1;
                    News::Changes { revision, changes }
                }
            };
            if hear(news).is_break() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::contract;

    #[test]
    fn keeps_the_contract() {
        contract::run(MemoryCluster::new);
    }

    #[test]
    fn a_lost_answer_is_carried_out_and_a_failure_is_not() {
        let cluster = MemoryCluster::new();
        let mut put = Transaction::default();
        put.put(b"a", vec![1]);
        cluster.fail_next(ClusterError::NotBuilt);
        assert_eq!(cluster.commit(&put), Err(ClusterError::NotBuilt));
        assert!(cluster.records().is_empty());
        cluster.lose_next_answer();
        assert!(matches!(cluster.commit(&put), Err(ClusterError::Unknown { .. })));
        assert_eq!(cluster.records().len(), 1);
    }
}
