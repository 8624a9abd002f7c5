//! Re-sealing every record of the shared store under the current key, while all hosts go on.
//!
//! A record is replaced only if it still is what was re-sealed, and keeps its generation: to the other hosts it is
//! the same. The other keys are taken off the list `k` before the last walk, not after it: every transaction compares
//! that list, so a host that still seals with another key puts it back first, and is noticed.

use crate::cluster::{Outcome, Record, Transaction};
use crate::crypto::{KeyId, Keyring, record_key_id};
use crate::vault::keys;

use super::Replica;
use super::error::ReplicaError;
use super::wire;

/// A transaction takes so many records ...
const RECORDS: usize = 100;
/// ... or this many bytes, and no other record may bring more than a large value.
const BYTES: usize = 256 << 10;

/// What a walk found.
#[derive(Default)]
struct Walk {
    /// Records under other keys that were sealed anew, or that a host changed during that.
    stale: u64,
    /// The keys of records that do not unseal.
    needed: Vec<KeyId>,
}

impl Replica {
    /// Seals everything with the current key of this keyring; calls `resealed` with the number of records.
    ///
    /// # Errors
    /// The shared store cannot be reached, or `stop` ended it: it can be run again.
    pub(in crate::vault) fn reseal(
        &self,
        keyring: &Keyring,
        stop: &dyn Fn() -> bool,
        resealed: &dyn Fn(u64),
    ) -> Result<(), ReplicaError> {
        loop {
            let mut walk = self.walk(keyring, stop, resealed)?;
            while walk.stale > 0 {
                walk = self.walk(keyring, stop, resealed)?;
            }
            let mut ids = vec![keyring.current_id()];
            ids.extend(walk.needed);
            let Some(revision) = self.replace_keys(keyring, &ids)? else { continue };
            let last = self.walk(keyring, stop, resealed)?;
            self.announce(keyring)?;
            let is_unchanged = self.state.lock().keys_revision == revision;
            if last.stale == 0 && is_unchanged {
                return Ok(());
            }
            if !is_unchanged && last.stale == 0 {
                tracing::warn!(
                    "another host still seals with another key, which stays needed: give it the current one, then rekey again"
                );
                return Ok(());
            }
        }
    }

    /// The list of keys as it is to be, under the current one. Its revision; none if another host was
    /// quicker.
    fn replace_keys(&self, keyring: &Keyring, ids: &[KeyId]) -> Result<Option<u64>, ReplicaError> {
        self.announce(keyring)?;
        let mut transaction = Transaction::default();
        transaction.expect(wire::KEYS, self.state.lock().keys_revision);
        let sealed = self.wire.seal(keyring, wire::KEYS, &keys::encode(ids));
        transaction.put(wire::KEYS, sealed);
        match self.cluster.commit(&transaction)? {
            Outcome::Committed(revision) => {
                let mut state = self.state.lock();
                (state.keys_revision, state.key_ids) = (revision, ids.to_vec());
                Ok(Some(revision))
            }
            Outcome::Conflict(_) => Ok(None),
        }
    }

    fn walk(
        &self,
        keyring: &Keyring,
        stop: &dyn Fn() -> bool,
        resealed: &dyn Fn(u64),
    ) -> Result<Walk, ReplicaError> {
        let mut walk = Walk::default();
        let mut transaction = Transaction::default();
        let mut from = wire::NAMES.to_vec();
        loop {
            let page = self.cluster.read(&from, wire::LAST, None)?;
            let Some(end) = page.records.last() else { break };
            from = [&end.name[..], b"\0"].concat();
            for record in page.records {
                if stop() {
                    return Err(ReplicaError::Stopping);
                }
                self.look_at(keyring, &mut walk, &mut transaction, &record);
                if transaction.changes.len() >= RECORDS || transaction.bytes() >= BYTES {
                    self.store(std::mem::take(&mut transaction), resealed)?;
                }
            }
            if !page.more {
                break;
            }
        }
        self.store(transaction, resealed)?;
        Ok(walk)
    }

    fn look_at(
        &self,
        keyring: &Keyring,
        walk: &mut Walk,
        transaction: &mut Transaction,
        Record { name, sealed, revision }: &Record,
    ) {
        let id = record_key_id(sealed);
        if id == Some(keyring.current_id()) {
            return;
        }
        match self.wire.open(keyring, name, sealed) {
            Ok(plaintext) => {
                walk.stale += 1;
                transaction.expect(name, *revision);
                transaction.put(name, self.wire.seal(keyring, name, plaintext.expose()));
            }
            Err(error) => {
                tracing::warn!(%error, "a record on etcd does not unseal, and keeps its key from being removed");
                walk.needed.extend(id.filter(|id| !walk.needed.contains(id)));
            }
        }
    }

    /// Stores all of it or, if some records have changed since, only the others.
    fn store(&self, transaction: Transaction, resealed: &dyn Fn(u64)) -> Result<(), ReplicaError> {
        let count = transaction.changes.len();
        if count == 0 {
            return Ok(());
        }
        match self.cluster.commit(&transaction)? {
            Outcome::Committed(_) => resealed(count as u64),
            Outcome::Conflict(_) if count > 1 => {
                for (expected, change) in transaction.expected.into_iter().zip(transaction.changes)
                {
                    let (expected, changes) = (vec![expected], vec![change]);
                    self.store(Transaction { expected, changes }, resealed)?;
                }
            }
            // The next walk finds what it is now.
            Outcome::Conflict(_) => {}
        }
        Ok(())
    }
}
