//! Whether the store still holds the secrets that were stored last.
//!
//! Each record is sealed for itself, so an old copy of one still opens. Therefore the record `s` holds a
//! keyed sum over the heads of all secrets ([`SetSum`]). It changes in the same batch as they do, and a start
//! compares it with what it has loaded. The sum is over the content of the heads: to move one to its place
//! or to seal it with another key does not change it. Values are bound by the heads: no two versions have the
//! same node number. The record `k` says whether the sum has to be there.

use std::sync::Arc;

use crate::crypto::{SET_KEY_BYTES, SetKey, SetSum};
use crate::store::Batch;

use super::error::OpenVaultError;
use super::records::secret::Secret;
use super::records::{Address, Records, encode_metadata};
use super::writer::transaction::Change;

/// Why a store is not taken for what was left.
pub(super) const NOT_AS_LEFT: &str = "the records of its secrets are not those that were stored last: some were replaced by older copies, added or removed; compare the secrets and their lists with a backup, correct them, stop the daemon, and run `secretfs fsck --accept`";

/// The sum of a store.
#[derive(Clone)]
pub(super) struct Integrity {
    pub(super) key: Arc<SetKey>,
    pub(super) sum: SetSum,
    /// How many changes of secrets were stored since there is a sum.
    pub(super) changes: u64,
}

impl Integrity {
    /// The sum of a store that has none yet.
    fn new(key: Arc<SetKey>, sum: SetSum) -> Self {
        Self { key, sum, changes: 0 }
    }

    /// That of a store that has lost its own.
    pub(super) fn without() -> Self {
        Self::new(Arc::new(SetKey::random()), SetSum::default())
    }

    /// The record in the clear, if it is one.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (changes, rest) = bytes.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let key = <[u8; SET_KEY_BYTES]>::try_from(rest).ok()?;
        Some(Self {
            key: Arc::new(SetKey::from_bytes(key)),
            sum: SetSum::from_bytes(*sum),
            changes: u64::from_be_bytes(*changes),
        })
    }

    /// Adds the record to `batch`.
    pub(super) fn put(&self, records: &Records, batch: &mut Batch) {
        let Self { key, sum, changes } = self;
        let bytes = [&changes.to_be_bytes()[..], &sum.to_bytes(), key.as_bytes()].concat();
        batch.put(Address::SUM.as_bytes(), records.seal(&Address::SUM, &bytes));
    }

    /// As it is once `changes` are stored.
    pub(super) fn after<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> Self {
        let mut next = self.clone();
        for change in changes {
            for secret in change.before.iter().chain(&change.after) {
                next.sum = next.sum.with(self.digest(secret));
            }
            next.changes += 1;
        }
        next
    }

    fn digest(&self, secret: &Secret) -> SetSum {
        self.key.digest(secret.record().0, encode_metadata(secret).expose())
    }

    /// The sum that these secrets have.
    pub(super) fn sum_of<'a>(&self, secrets: impl Iterator<Item = &'a Secret>) -> SetSum {
        secrets.fold(SetSum::default(), |sum, secret| sum.with(self.digest(secret)))
    }
}

impl Records {
    /// The sum, if the store has one.
    ///
    /// # Errors
    /// It cannot be read or does not unseal.
    pub(super) fn read_sum(&self) -> Result<Option<Integrity>, OpenVaultError> {
        self.read_raw(&Address::SUM)?.map(|sealed| self.unseal_sum(&sealed)).transpose()
    }

    /// The record `s` as it was read.
    ///
    /// # Errors
    /// It does not unseal.
    pub(super) fn unseal_sum(&self, sealed: &[u8]) -> Result<Integrity, OpenVaultError> {
        let opened = self.unseal(&Address::SUM, sealed).map_err(OpenVaultError::Unseal)?;
        Integrity::parse(opened.expose()).ok_or(OpenVaultError::BrokenRecord)
    }
}

/// Compares what was loaded with what was left, or gives a store its first sum. `is_bound` tells whether
/// it must have one. Gives the sum, and why the store is not what was left, if it is not.
///
/// # Errors
/// The store failed.
pub(super) fn compare(
    records: &Records,
    stored: Option<Integrity>,
    is_bound: bool,
    key: Arc<SetKey>,
    loaded: SetSum,
) -> Result<(Integrity, Option<&'static str>), OpenVaultError> {
    match stored {
        Some(integrity) if is_bound => {
            let problem = (integrity.sum != loaded).then_some(NOT_AS_LEFT);
            Ok((integrity, problem))
        }
        _ => {
            // The sum existed and is gone: it stays wrong until an administrator has checked the store.
            let sum = if is_bound { loaded.spoiled() } else { loaded };
            let integrity = Integrity::new(key, sum);
            let mut batch = Batch::new();
            integrity.put(records, &mut batch);
            super::keys::bind(records, &mut batch)?;
            records.commit(&batch)?;
            Ok((integrity, is_bound.then_some(NOT_AS_LEFT)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use crate::audit::{Actor, Process};
    use crate::crypto::{Keyring, MasterKey};
    use crate::document::parse;
    use crate::model::Caller;
    use crate::store::{MemoryStore, Store};
    use crate::vault::{Fsck, RekeyState, RekeyTask, Vault};

    use super::*;

    fn master(number: u8) -> MasterKey {
        MasterKey::parse(&format!("{number:02}").repeat(32)).unwrap()
    }

    fn open_with(store: &Arc<MemoryStore>, keyring: Keyring) -> Vault {
        Vault::open(Arc::<MemoryStore>::clone(store), keyring).unwrap()
    }

    fn open(store: &Arc<MemoryStore>) -> Vault {
        open_with(store, Keyring::new(master(7), vec![]))
    }

    fn apply(vault: &Vault, text: &str) {
        let caller = Arc::new(Caller::new(0, None, [], true));
        let root = Actor { caller, process: Process::default() };
        vault.apply(&root, parse(text.as_bytes()).unwrap()).map(drop).unwrap();
    }

    /// Records as they are stored: addresses and what is sealed.
    type Stored = Vec<(Vec<u8>, Vec<u8>)>;

    fn records(store: &MemoryStore, kind: u8) -> Stored {
        let mut found = Vec::new();
        let mut visit = |address: &[u8], sealed: &[u8]| {
            found.push((address.to_vec(), sealed.to_vec()));
            ControlFlow::Continue(())
        };
        store.scan(&[kind], &mut visit).unwrap();
        found
    }

    fn restore(store: &MemoryStore, records: &[(Vec<u8>, Vec<u8>)]) {
        let mut batch = Batch::new();
        records.iter().for_each(|(address, sealed)| batch.put(address, sealed.clone()));
        store.commit(&batch).unwrap();
    }

    fn fsck(store: &Arc<MemoryStore>) -> (Fsck, crate::vault::Findings) {
        let keyring = Keyring::new(master(7), vec![]);
        let fsck = Fsck::open(Arc::<MemoryStore>::clone(store), keyring).unwrap();
        let findings = fsck.check(|_| {}).unwrap();
        (fsck, findings)
    }

    /// A store whose secret `K` bob may no longer read, and the head that let him.
    fn revoked() -> (Arc<MemoryStore>, Stored) {
        let store = Arc::new(MemoryStore::new());
        let vault = open(&store);
        apply(&vault, "[{key: K, value: v, readers: [bob]}, {key: L, value: v}]");
        let old = records(&store, b'h');
        apply(&vault, "{key: K, readers: []}");
        apply(&vault, "{key: M, value: v}");
        (store, old)
    }

    #[test]
    fn an_old_copy_of_a_record_is_told_until_it_is_accepted() {
        let (store, old) = revoked();
        assert_eq!(open(&store).store_problem(), None);
        assert!(fsck(&store).1.problems.is_empty());
        restore(&store, &old);
        // What is changed afterwards does not hide it.
        let vault = open(&store);
        assert_eq!(vault.store_problem(), Some(NOT_AS_LEFT));
        apply(&vault, "{key: K, value: new}");
        drop(vault);
        assert!(open(&store).store_problem().is_some());
        let (fsck_before, findings) = fsck(&store);
        assert_eq!(findings.problems, [crate::vault::Damage::NotAsLeft]);
        fsck_before.repair(&findings).unwrap();
        assert_eq!(fsck(&store).1.problems, findings.problems, "a repair accepts nothing");
        assert!(fsck_before.accept(&findings).unwrap());
        assert!(fsck(&store).1.problems.is_empty());
        let vault = open(&store);
        assert_eq!(vault.store_problem(), None);
        assert!(vault.stored_changes() >= 4);
    }

    #[test]
    fn a_removed_secret_that_comes_back_and_one_that_goes_are_told() {
        let store = Arc::new(MemoryStore::new());
        let vault = open(&store);
        apply(&vault, "[{key: K, value: v}, {key: L, value: v}]");
        drop(vault);
        let metadata_records = records(&store, b'h');
        let mut batch = Batch::new();
        batch.remove(&metadata_records[1].0);
        store.commit(&batch).unwrap();
        assert!(open(&store).store_problem().is_some());
        restore(&store, &metadata_records);
        assert_eq!(open(&store).store_problem(), None);
    }

    #[test]
    fn taking_the_sum_away_is_told() {
        let (store, _) = revoked();
        let mut batch = Batch::new();
        batch.remove(Address::SUM.as_bytes());
        // The format of older versions, which is in the clear.
        let mut meta = store.read(b"m").unwrap().unwrap();
        meta[0] = 1;
        batch.put(b"m", meta);
        store.commit(&batch).unwrap();
        assert_eq!(fsck(&store).1.problems, [crate::vault::Damage::NotAsLeft]);
        assert!(open(&store).store_problem().is_some());
        assert!(open(&store).store_problem().is_some(), "and stays so");
    }

    #[test]
    fn a_store_of_an_older_version_gets_its_sum_at_the_first_start() {
        let (store, old) = revoked();
        // As that wrote it.
        let mut meta = store.read(b"m").unwrap().unwrap();
        let id = crate::vault::records::StoreId::of_whole(&meta).unwrap();
        meta[0] = 1;
        let sealing =
            Records::new(Arc::<MemoryStore>::clone(&store), Keyring::new(master(7), vec![]), id);
        let mut batch = Batch::new();
        batch.put(b"m", meta);
        let ids = crate::vault::keys::encode(&[master(7).id()]);
        batch.put(b"k", sealing.seal(&Address::KEYS, &ids));
        batch.remove(b"s");
        store.commit(&batch).unwrap();
        assert!(fsck(&store).1.problems.is_empty(), "it has none to compare with");
        assert_eq!(open(&store).store_problem(), None);
        assert_eq!(store.read(b"m").unwrap().unwrap()[0], 2, "older versions refuse it now");
        restore(&store, &old);
        assert!(open(&store).store_problem().is_some());
    }

    #[test]
    fn another_key_and_a_large_file_make_no_difference() {
        let (store, _) = revoked();
        let vault = open_with(&store, Keyring::new(master(8), vec![master(7)]));
        let caller = Arc::new(Caller::new(0, None, [], true));
        let root = Actor { caller, process: Process::default() };
        vault.start_rekey(&root, RekeyTask::Reseal).unwrap();
        let file: String = (0..1000).map(|n| format!("- {{key: n/{n}, value: v}}\n")).collect();
        apply(&vault, &file);
        while vault.rekey_status().state != RekeyState::Done(RekeyTask::Reseal) {
            std::thread::yield_now();
        }
        apply(&vault, &file.replace("value: v", "value: w"));
        drop(vault);
        let vault = open_with(&store, Keyring::new(master(8), vec![]));
        assert_eq!((vault.store_problem(), vault.len()), (None, 1003));
    }
}
