//! From a host's own store to a shared one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::{
    Cluster, ClusterError, MAX_OPERATIONS, MAX_TRANSACTION_BYTES, Outcome, Transaction,
};
use crate::crypto::{KeyId, Keyring};
use crate::model::SecretId;
use crate::vault::records::secret::{RecordId, Secret};
use crate::vault::records::{Meta, StoreId};
use crate::vault::replica::connect::prove_keys;
use crate::vault::replica::wire::{self, Wire};
use crate::vault::{Vault, keys};

use super::{BORN, MigrateError, Moved, Snapshot, difference, new_name};

/// How long a transaction is tried again that etcd does not answer ...
const PATIENCE: Duration = Duration::from_secs(30);
/// ... and after what time.
const RETRY: Duration = Duration::from_millis(200);
/// A transaction takes so many secrets, and has a few operations of its own.
const SECRETS: usize = MAX_OPERATIONS - 8;
/// Or so many bytes, with what is around them.
const BYTES: usize = MAX_TRANSACTION_BYTES - 4096;

impl Vault {
    /// Moves all secrets to a shared store, which is made, and compares them there. They stay here as well. Calls
    /// `progress` with the number that was moved or compared.
    ///
    /// # Errors
    /// The destination holds something else, or something failed: it can be run again then.
    pub fn migrate_to(
        &self,
        cluster: &dyn Cluster,
        progress: &dyn Fn(u64),
    ) -> Result<Moved, MigrateError> {
        let keyring = self.keyring();
        let source = self.shared.records.store_id();
        loop {
            let page = cluster.read(wire::META, &[wire::META, b"\0"].concat(), None)?;
            let Some(record) = page.records.first() else {
                make(cluster, &keyring, source)?;
                continue;
            };
            let (id, is_whole) = match Meta::parse(&record.sealed) {
                Some(Meta::Whole(id)) => (id, true),
                Some(Meta::Unfinished { id, source: of }) if of == source => (id, false),
                Some(Meta::Unfinished { .. }) => return Err(MigrateError::OthersUnfinished),
                None => return Err(MigrateError::PrefixInUse),
            };
            let wire = Wire(id);
            let to = To { vault: self, cluster, wire, keyring: &keyring, progress };
            let keys_in_use = to.prove()?;
            if is_whole {
                // An earlier run reached the end, perhaps without reporting it; anything else is a store in use.
                let moved = to.compare().map_err(|error| match error {
                    MigrateError::Differs { .. } | MigrateError::Count { .. } => {
                        MigrateError::PrefixInUse
                    }
                    other => other,
                })?;
                return Ok(Moved { was_there: true, ..moved });
            }
            let unfinished = Meta::Unfinished { id, source };
            let Some(meta) = to.mark(record.revision, unfinished, &keys_in_use)? else { continue };
            to.fill(meta)?;
            let moved = to.compare()?;
            match to.mark(meta, Meta::Whole(id), &keys_in_use)? {
                Some(_) => return Ok(moved),
                // Perhaps the answer was lost.
                None => continue,
            }
        }
    }
}

/// Makes an unfinished store where there is nothing.
fn make(cluster: &dyn Cluster, keyring: &Keyring, source: StoreId) -> Result<(), MigrateError> {
    if !cluster.list(b"", b"\xff")?.records.is_empty() {
        return Err(MigrateError::PrefixInUse);
    }
    let id = StoreId::random();
    let wire = Wire(id);
    let mut transaction = Transaction::default();
    for name in [wire::META, wire::KEYS, wire::NAMES] {
        transaction.expect(name, 0);
    }
    transaction.put(wire::META, Meta::Unfinished { id, source }.to_bytes());
    let ids = keys::encode(&[keyring.current_id()]);
    transaction.put(wire::KEYS, wire.seal(keyring, wire::KEYS, &ids));
    let born = wire::encode_number(BORN);
    transaction.put(wire::NAMES, wire.seal(keyring, wire::NAMES, &born));
    // A conflict means that it exists already.
    commit(cluster, &transaction)?;
    Ok(())
}

/// Carries out what may be carried out twice.
fn commit(cluster: &dyn Cluster, transaction: &Transaction) -> Result<Outcome, MigrateError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match cluster.commit(transaction) {
            Err(ClusterError::Unknown { .. } | ClusterError::Unreachable { .. })
                if Instant::now() + RETRY < until =>
            {
                std::thread::sleep(RETRY);
            }
            outcome => return Ok(outcome?),
        }
    }
}

struct To<'a> {
    vault: &'a Vault,
    cluster: &'a dyn Cluster,
    wire: Wire,
    keyring: &'a Keyring,
    progress: &'a dyn Fn(u64),
}

impl To<'_> {
    /// Proves that the keyring opens what is there. Gives the ids of the keys that it needs.
    ///
    /// # Errors
    /// It is not.
    fn prove(&self) -> Result<Vec<KeyId>, MigrateError> {
        let page = self.cluster.read(wire::KEYS, &[wire::KEYS, b"\0"].concat(), None)?;
        let keys = page.records.first().ok_or(MigrateError::PrefixInUse)?;
        Ok(prove_keys(self.wire, &keys.sealed, self.keyring)?)
    }

    /// Has the record `m` say that, if it still is that of `revision`. Gives its new revision; none if it was
    /// changed. A transaction that an earlier process has sent and that is not yet executed expects the old one, and
    /// fails.
    fn mark(
        &self,
        revision: u64,
        meta: Meta,
        keys_in_use: &[KeyId],
    ) -> Result<Option<u64>, MigrateError> {
        let mut transaction = Transaction::default();
        transaction.expect(wire::META, revision);
        transaction.put(wire::META, meta.to_bytes());
        // The key that seals is on the list from now on: another one may have begun.
        let ids = keys::encode(&keys::with(keys_in_use.to_vec(), self.keyring.current_id()));
        transaction.put(wire::KEYS, self.wire.seal(self.keyring, wire::KEYS, &ids));
        match commit(self.cluster, &transaction)? {
            Outcome::Committed(revision) => Ok(Some(revision)),
            Outcome::Conflict(_) => Ok(None),
        }
    }

    /// Puts there what is missing, and removes what does not belong there.
    fn fill(&self, meta: u64) -> Result<(), MigrateError> {
        let kept = self.tidy(meta)?;
        let mut count = kept.len() as u64;
        let mut transaction = begin(meta);
        for secret in self.secrets().iter().filter(|secret| !kept.contains(&secret.record())) {
            let value = self.vault.read_all(secret.value())?;
            let name = new_name();
            let bytes = wire::encode(secret, 1, BORN, &value);
            let sealed = self.wire.seal(self.keyring, &name, bytes.expose());
            let is_full = transaction.changes.len() >= SECRETS
                || transaction.bytes() + name.len() + sealed.len() > BYTES;
            if is_full && !transaction.changes.is_empty() {
                self.send(std::mem::replace(&mut transaction, begin(meta)))?;
            }
            transaction.put(&name, sealed);
            count += 1;
            (self.progress)(count);
        }
        self.send(transaction)
    }

    /// The secrets that an earlier attempt has brought, as they are here. Removes all others.
    fn tidy(&self, meta: u64) -> Result<HashSet<RecordId>, MigrateError> {
        let mut kept = HashSet::new();
        let (first, until) = wire::secrets();
        let mut from = first.to_vec();
        loop {
            let page = self.cluster.read(&from, until, None)?;
            let Some(end) = page.records.last() else { break };
            from = [&end.name[..], b"\0"].concat();
            let mut removal = begin(meta);
            for record in &page.records {
                let secret = self.same(&record.name, &record.sealed)?;
                if !secret.is_some_and(|secret| kept.insert(secret.record())) {
                    removal.remove(&record.name);
                }
                if removal.changes.len() >= SECRETS {
                    self.send(std::mem::replace(&mut removal, begin(meta)))?;
                }
            }
            self.send(removal)?;
            if !page.more {
                break;
            }
        }
        Ok(kept)
    }

    /// The secret that this record holds exactly as it is here.
    fn same(&self, name: &[u8], sealed: &[u8]) -> Result<Option<Arc<Secret>>, MigrateError> {
        let opened = self.wire.open(self.keyring, name, sealed).ok();
        let Some(sent) = opened.as_ref().and_then(wire::decode) else { return Ok(None) };
        let Some(secret) = self.vault.secret_by_id(&sent.id) else { return Ok(None) };
        let value = self.vault.read_all(secret.value())?;
        let is_same = sent.born == BORN && difference(&secret, &value, &sent).is_none();
        Ok(is_same.then_some(secret))
    }

    /// Compares everything there with everything here.
    fn compare(&self) -> Result<Moved, MigrateError> {
        let page = self.cluster.list(wire::META, &[wire::META, b"\0"].concat())?;
        let (cluster, wire, keyring) = (self.cluster, self.wire, self.keyring);
        let snapshot = Snapshot { cluster, wire, keyring, revision: page.revision };
        let find = |id: &SecretId| self.vault.secret_by_id(id);
        let read = |secret: &Secret| Ok(self.vault.read_all(secret.value())?);
        let (moved, found) = snapshot.compare(find, read, self.progress)?;
        let here = self.vault.len() as u64;
        if (moved.secrets, found) != (here, here) {
            return Err(MigrateError::Count { here, there: moved.secrets });
        }
        Ok(moved)
    }

    fn send(&self, transaction: Transaction) -> Result<(), MigrateError> {
        if transaction.changes.is_empty() {
            return Ok(());
        }
        match commit(self.cluster, &transaction)? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Conflict(_) => Err(MigrateError::Conflict),
        }
    }

    fn secrets(&self) -> Vec<Arc<Secret>> {
        self.vault.shared.index.read().secrets().cloned().collect()
    }
}

/// A transaction that succeeds only if no other process has continued this migration.
fn begin(meta: u64) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.expect(wire::META, meta);
    transaction
}
