//! Coming to the shared store: whether it is the right one, with the right keys.

use crate::cluster::{Cluster, Outcome, Record, Transaction};
use crate::crypto::{KeyId, Keyring, record_key_id};
use crate::vault::keys;
use crate::vault::records::{Meta, StoreId};

use super::error::ReplicaError;
use super::wire::{self, Wire};
use super::{Replica, SharedStore};

/// The shared store's own records.
pub(super) struct Own {
    pub(super) store: StoreId,
    keys: Record,
    /// That of the whole when they were read.
    pub(super) revision: u64,
}

/// The id of the store at the prefix, which the keyring opens; it is made if that is wanted.
///
/// # Errors
/// It is not there, or another key's.
pub(super) fn find(shared: &SharedStore, keyring: &Keyring) -> Result<StoreId, ReplicaError> {
    loop {
        if let Some(own) = read(&*shared.cluster)? {
            prove(&own, keyring)?;
            return Ok(own.store);
        }
        if !shared.create {
            return Err(ReplicaError::NoStore);
        }
        let store = StoreId::random();
        let wire = Wire(store);
        let mut transaction = Transaction::default();
        for name in [wire::META, wire::KEYS, wire::NAMES] {
            transaction.expect(name, 0);
        }
        transaction.put(wire::META, store.to_meta());
        let ids = keys::encode(&[keyring.current_id()]);
        transaction.put(wire::KEYS, wire.seal(keyring, wire::KEYS, &ids));
        let names = wire::encode_number(0);
        transaction.put(wire::NAMES, wire.seal(keyring, wire::NAMES, &names));
        // If another host has made it first, it exists as well.
        shared.cluster.commit(&transaction)?;
    }
}

impl Replica {
    /// Proves that the store is still the same, newer than what is here, and opened by the keyring.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn connect(&self) -> Result<(), ReplicaError> {
        let own = read(&*self.cluster)?.ok_or(ReplicaError::NoStore)?;
        if own.store.to_bytes() != self.wire.0.to_bytes() {
            return Err(ReplicaError::OtherStore);
        }
        let seen = self.link.seen();
        if own.revision < seen {
            return Err(ReplicaError::RolledBack { seen, now: own.revision });
        }
        self.announce_own()?;
        self.look_at_own_record()
    }

    /// Makes known that records may be sealed with the current key of this keyring, before any is.
    ///
    /// # Errors
    /// The store cannot be reached, or needs a key that is not in the keyring.
    pub(in crate::vault) fn announce(&self, keyring: &Keyring) -> Result<(), ReplicaError> {
        loop {
            let own = read(&*self.cluster)?.ok_or(ReplicaError::NoStore)?;
            let mut ids = prove(&own, keyring)?;
            if ids.contains(&keyring.current_id()) {
                let mut state = self.state.lock();
                (state.keys_revision, state.key_ids) = (own.keys.revision, ids);
                return Ok(());
            }
            ids.push(keyring.current_id());
            let mut transaction = Transaction::default();
            transaction.expect(wire::KEYS, own.keys.revision);
            let sealed = self.wire.seal(keyring, wire::KEYS, &keys::encode(&ids));
            transaction.put(wire::KEYS, sealed);
            if let Outcome::Committed(revision) = self.cluster.commit(&transaction)? {
                let mut state = self.state.lock();
                (state.keys_revision, state.key_ids) = (revision, ids);
                return Ok(());
            }
        }
    }

    /// As [`Replica::announce`], of the keyring that seals. The keyring is locked during this: otherwise a key that a
    /// rekey has taken off the list would be put back on it.
    ///
    /// # Errors
    /// As [`Replica::announce`].
    pub(super) fn announce_own(&self) -> Result<(), ReplicaError> {
        self.announce(&self.keyring.read())
    }

    /// After a conflict: what of it was about the keys or this host is known again.
    pub(super) fn read_own(&self) -> Result<(), ReplicaError> {
        self.announce_own()?;
        self.look_at_own_record()
    }
}

pub(super) fn read(cluster: &dyn Cluster) -> Result<Option<Own>, ReplicaError> {
    let page = cluster.read(wire::KEYS, b"m\0", None)?;
    let (mut meta, mut keys) = (None, None);
    for record in page.records {
        match record.name.as_slice() {
            wire::META => meta = Some(record),
            wire::KEYS => keys = Some(record),
            _ => {}
        }
    }
    let Some(meta) = meta else { return Ok(None) };
    let store = match Meta::parse(&meta.sealed) {
        Some(Meta::Whole(store)) => store,
        Some(Meta::Unfinished { .. }) => return Err(ReplicaError::Unfinished),
        None => return Err(ReplicaError::UnknownFormat),
    };
    let keys = keys.ok_or(ReplicaError::UnknownFormat)?;
    Ok(Some(Own { store, keys, revision: page.revision }))
}

/// The ids of the keys that the store needs, all of which are here.
pub(super) fn prove(own: &Own, keyring: &Keyring) -> Result<Vec<KeyId>, ReplicaError> {
    prove_keys(Wire(own.store), &own.keys.sealed, keyring)
}

/// As [`prove`], of the record `k`.
pub(super) fn prove_keys(
    wire: Wire,
    sealed: &[u8],
    keyring: &Keyring,
) -> Result<Vec<KeyId>, ReplicaError> {
    let store = record_key_id(sealed);
    let other = || ReplicaError::OtherKey { store, given: keyring.current_id() };
    let ids = wire.open(keyring, wire::KEYS, sealed).map_err(|_| other())?;
    let ids = keys::parse(ids.expose()).ok_or(ReplicaError::UnknownFormat)?;
    let missing = keys::missing(&ids, keyring);
    if missing.is_empty() { Ok(ids) } else { Err(ReplicaError::MissingKeys { missing }) }
}
