//! From the store to the index, at the start.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::thread::{self, Builder, ScopedJoinHandle};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::crypto::{SetKey, SetSum};
use crate::model::Timestamp;
use crate::store::SCAN_STEP;

use super::memory;
use crate::vault::error::OpenVaultError;
use crate::vault::index::Index;
use crate::vault::records::garbage::Garbage;
use crate::vault::records::interner::{Interner, Lists};
use crate::vault::records::secret::{RecordId, Secret, Value};
use crate::vault::records::{Address, RecordKind, Records, parse_mark};

/// More threads than this wait for each other in the store.
const MOST_THREADS: usize = 8;

/// How many threads load what is stored.
pub(in crate::vault) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}

/// The index of all that is stored, the superseded values that are, and the sum of the heads under `key`.
pub(in crate::vault) fn load(
    records: &Records,
    garbage: &Arc<Garbage>,
    key: &SetKey,
) -> Result<(Index, Vec<Arc<Value>>, SetSum), OpenVaultError> {
    let (secrets, lists, sum) = metadata_records(records, garbage, key, threads())?;
    let now = Timestamp::from(SystemTime::now());
    let mut index = Index::of(secrets, lists, now).map_err(OpenVaultError::NoThread)?;
    let mut superseded = Vec::new();
    records.scan(&Address::GARBAGE, &mut |address, mark| {
        superseded.extend(parse_mark(address, mark, garbage).map(Arc::new));
        ControlFlow::Continue(())
    })?;
    for value in &superseded {
        index.is_taken(value.node());
        // The name of a removed secret is no longer known.
        if let Some(secret) = index.by_record(value.record()) {
            garbage.hold(secret.key(), value);
        }
    }
    memory::give_back();
    Ok((index, superseded, sum))
}

type Loaded = (Vec<Arc<Secret>>, Lists, SetSum);

/// All secrets, read and unsealed by so many threads.
fn metadata_records(
    records: &Records,
    garbage: &Arc<Garbage>,
    key: &SetKey,
    threads: usize,
) -> Result<Loaded, OpenVaultError> {
    let shares = &Shares::new(threads);
    thread::scope(|scope| {
        let loaders: Vec<ScopedJoinHandle<'_, _>> = (0..threads)
            .map(|which| {
                let load = move || Loader::new(which, records, garbage, key, shares).run();
                Builder::new().name("loader".to_owned()).spawn_scoped(scope, load)
            })
            .collect::<Result<_, _>>()
            .map_err(OpenVaultError::NoThread)?;
        let (mut secrets, mut lists, mut sum) = Loaded::default();
        for loader in loaders {
            let (more, other_lists, other_sum) = loader.join().expect("it does not panic")?;
            secrets.extend(more);
            lists.extend(other_lists);
            sum = sum.with(other_sum);
        }
        Ok((secrets, lists, sum))
    })
}

/// Which thread loads which records. Their numbers come in clusters that are not known beforehand, so the work is not
/// divided at the start: a thread that has done its share takes half of the largest remaining one.
struct Shares(Mutex<Vec<Range<u128>>>);

/// A share of fewer numbers is not worth halving: its owner has almost done it.
const SMALLEST_SHARE: u128 = 8 * SCAN_STEP as u128;

impl Shares {
    /// All possible numbers for the first thread.
    fn new(count: usize) -> Self {
        let mut shares = vec![0..0; count];
        shares[0] = 0..1 << 64;
        Self(Mutex::new(shares))
    }

    /// Where that thread goes on; nothing if all is done, or soon will be.
    fn next(&self, which: usize) -> Option<u64> {
        let mut shares = self.0.lock();
        if shares[which].is_empty() {
            let length = |share: &Range<u128>| share.end.saturating_sub(share.start);
            let largest = shares.iter_mut().max_by_key(|share| length(share))?;
            if length(largest) < SMALLEST_SHARE {
                return None;
            }
            let middle = largest.start + length(largest) / 2;
            let half = middle..largest.end;
            largest.end = middle;
            shares[which] = half;
        }
        u64::try_from(shares[which].start).ok()
    }

    /// Notes that the thread has read all before `next`. Gives the end of its share, which other threads may have
    /// lowered since.
    fn advance(&self, which: usize, next: u128) -> u128 {
        let share = &mut self.0.lock()[which];
        share.start = next;
        share.end
    }
}

/// One thread's work.
struct Loader<'a> {
    which: usize,
    records: &'a Records,
    garbage: &'a Arc<Garbage>,
    key: &'a SetKey,
    shares: &'a Shares,
    common: Interner,
    secrets: Vec<Arc<Secret>>,
    /// The digests of the last secrets that were loaded.
    digests: Vec<SetSum>,
    sum: SetSum,
}

impl<'a> Loader<'a> {
    fn new(
        which: usize,
        records: &'a Records,
        garbage: &'a Arc<Garbage>,
        key: &'a SetKey,
        shares: &'a Shares,
    ) -> Self {
        let (common, secrets, digests) = Default::default();
        let sum = SetSum::default();
        Self { which, records, garbage, key, shares, common, secrets, digests, sum }
    }

    fn run(mut self) -> Result<Loaded, OpenVaultError> {
        while let Some(start) = self.shares.next(self.which) {
            let before = self.secrets.len();
            let next = self.step(start)?;
            let end = self.shares.advance(self.which, next);
            // The thread that took the other half reads what is beyond the end. The secrets up to `before` are of
            // other shares.
            let new = &self.secrets[before..];
            let kept = new.partition_point(|secret| u128::from(secret.record().0) < end);
            self.secrets.truncate(before + kept);
            let kept = self.digests.drain(..).take(kept);
            self.sum = kept.fold(self.sum, SetSum::with);
        }
        Ok((self.secrets, self.common.lists, self.sum))
    }

    /// Loads some secrets, beginning with the record of the number `start`. Gives the number before
    /// which there are no others.
    fn step(&mut self, start: u64) -> Result<u128, OpenVaultError> {
        let Self { records, garbage, key, common, secrets, digests, .. } = self;
        let keyring = records.keyring();
        let (mut next, mut outcome, mut left) = (1 << 64, Ok(()), SCAN_STEP);
        let from = if start == 0 { Address::HEADS } else { Address::metadata(RecordId(start)) };
        records.scan_from(&Address::HEADS, &from, &mut |address, sealed| {
            let key = Some(*key);
            match records.unseal_summed_metadata(&keyring, key, address, sealed, garbage, common) {
                Ok((secret, digest)) => {
                    secrets.push(Arc::new(secret));
                    digests.push(digest);
                }
                Err(error) => {
                    outcome = Err(error);
                    return ControlFlow::Break(());
                }
            }
            left -= 1;
            match RecordKind::of(address) {
                RecordKind::Metadata(last) if left == 0 => {
                    next = u128::from(last.0) + 1;
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        })?;
        outcome.map(|()| next)
    }
}

#[cfg(test)]
mod tests {
    use crate::audit::{Actor, Process};
    use crate::crypto::{Keyring, MasterKey};
    use crate::model::{Caller, Key, Plaintext};
    use crate::store::MemoryStore;
    use crate::vault::{Vault, WriteTarget};

    use super::*;

    fn open(store: &Arc<MemoryStore>) -> Vault {
        let master = MasterKey::parse(&"07".repeat(32)).unwrap();
        Vault::open(Arc::<MemoryStore>::clone(store), Keyring::new(master, vec![])).unwrap()
    }

    #[test]
    fn every_secret_is_loaded_once_whoever_reads_it() {
        const SECRETS: usize = 3000;
        let store = Arc::new(MemoryStore::new());
        let vault = open(&store);
        let caller = Arc::new(Caller::new(0, None, [], true));
        let root = Actor { caller, process: Process::default() };
        let (answer, answers) = std::sync::mpsc::channel();
        for number in 0..SECRETS {
            let key = Key::parse(&format!("a/K{number}")).unwrap();
            let target = WriteTarget::New { key, exclusive: true, inherited_lists: None };
            let answer = answer.clone();
            let done = Box::new(move |outcome: Result<_, _>| {
                answer.send(outcome.map(drop)).unwrap();
            });
            vault.write(root.clone(), target, Plaintext::copy_of(b"v"), None, done);
        }
        answers.iter().take(SECRETS).for_each(|outcome| outcome.unwrap());
        drop(vault);
        let vault = open(&store);
        for threads in 1..=4 {
            let records = &vault.shared.records;
            let integrity = records.read_sum().unwrap().unwrap();
            let (secrets, _, sum) =
                metadata_records(records, &Arc::default(), &integrity.key, threads).unwrap();
            assert_eq!(sum, integrity.sum);
            let mut numbers: Vec<_> = secrets.iter().map(|secret| secret.record()).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!((secrets.len(), numbers.len()), (SECRETS, SECRETS), "{threads} threads");
        }
        assert_eq!(vault.len(), SECRETS);
    }

    #[test]
    fn shares_cover_every_number_once() {
        let shares = Shares::new(3);
        let records: Vec<u64> = (0..5000).map(|n| (1 << 50) + n * 3).chain([7, u64::MAX]).collect();
        let mut seen = vec![0; records.len()];
        let mut idle = [false; 3];
        // The threads take turns, each reading up to ten records at a time.
        while idle.contains(&false) {
            for (which, idle) in idle.iter_mut().enumerate() {
                let Some(start) = shares.next(which) else {
                    *idle = true;
                    continue;
                };
                let mut found: Vec<usize> =
                    (0..records.len()).filter(|&at| records[at] >= start).collect();
                found.sort_by_key(|&at| records[at]);
                let next = found.get(9).map_or(1 << 64, |&at| u128::from(records[at]) + 1);
                found.truncate(10);
                let end = shares.advance(which, next);
                found.retain(|&at| u128::from(records[at]) < end);
                found.into_iter().for_each(|at| seen[at] += 1);
            }
        }
        assert!(seen.iter().all(|&times| times == 1));
    }
}
