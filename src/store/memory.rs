//! A store in memory, for the tests of this layer and of those above.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use parking_lot::Mutex;

use super::{Batch, Change, Space, Store, StoreError};

/// Keeps records in a map, remembers every commit, and fails when a test asks for that.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    commits: Vec<Batch>,
    /// What the next commits come to; those beyond succeed.
    failures: VecDeque<Option<StoreError>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Makes the next commit fail with `error` and change nothing. Called twice, the next two fail.
    pub fn fail_next(&self, error: StoreError) {
        self.fail_after(0, error);
    }

    /// As [`MemoryStore::fail_next`], once `commits` more have succeeded.
    pub fn fail_after(&self, commits: usize, error: StoreError) {
        let mut state = self.state.lock();
        state.failures.extend(std::iter::repeat_n(None, commits));
        state.failures.push_back(Some(error));
    }

    /// All batches that were committed, in order.
    pub fn commits(&self) -> Vec<Batch> {
        self.state.lock().commits.clone()
    }

    /// Writes `sealed` at `address` (or removes it) behind the owner's back, to play a damaged disk
    /// or an attacker. It is not recorded as a commit.
    pub fn tamper(&self, address: &[u8], sealed: Option<Vec<u8>>) {
        let records = &mut self.state.lock().records;
        match sealed {
            Some(sealed) => records.insert(address.to_vec(), sealed),
            None => records.remove(address),
        };
    }
}

impl Store for MemoryStore {
    fn read(&self, address: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state.lock().records.get(address).cloned())
    }

    fn scan_from(
        &self,
        prefix: &[u8],
        start: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        // `visit` may read the store: it is not called under the lock.
        let found: Vec<_> = self
            .state
            .lock()
            .records
            .range(start.max(prefix).to_vec()..)
            .take_while(|(address, _)| address.starts_with(prefix))
            .map(|(address, sealed)| (address.clone(), sealed.clone()))
            .collect();
        for (address, sealed) in found {
            if visit(&address, &sealed).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        batch.check()?;
        let mut state = self.state.lock();
        if let Some(Some(error)) = state.failures.pop_front() {
            return Err(error);
        }
        for change in batch.changes() {
            match change {
                Change::Put { address, sealed } => {
                    state.records.insert(address.clone(), sealed.clone())
                }
                Change::Remove { address } => state.records.remove(address),
            };
        }
        state.commits.push(batch.clone());
        Ok(())
    }

    /// 1 GiB, less what the records take.
    fn space(&self) -> Result<Space, StoreError> {
        const TOTAL: u64 = 1 << 30;
        let state = self.state.lock();
        let used: usize = state.records.iter().map(|(at, sealed)| at.len() + sealed.len()).sum();
        Ok(Space { total: TOTAL, free: TOTAL.saturating_sub(used as u64) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    #[test]
    fn keeps_the_contract() {
        contract::run(MemoryStore::new);
    }

    #[test]
    fn an_injected_failure_changes_nothing_and_happens_once() {
        let store = MemoryStore::new();
        let mut batch = Batch::new();
        batch.put(b"a", vec![1]);
        store.fail_next(StoreError::Full);
        assert!(store.commit(&batch).is_err_and(|error| error.is_full()));
        assert_eq!(store.read(b"a").unwrap(), None);
        assert!(store.commits().is_empty());
        store.commit(&batch).unwrap();
        assert_eq!(store.commits(), [batch]);
    }
}
