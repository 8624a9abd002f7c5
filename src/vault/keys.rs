//! Which keys the store's records are sealed with, and changing the current one while it runs.
//!
//! The record `k` holds the ids of all keys that any record may be sealed with, and is itself sealed with the current
//! one. A key's id is written there, durably, before anything is sealed with it, and taken out only by a rekey that
//! found nothing under it. So opening the store shows at once whether a key is missing.

pub(super) mod rekey;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use parking_lot::Mutex;

use crate::crypto::{KeyId, Keyring};
use crate::store::Batch;

use super::audit::chain_keys;
use super::error::{OpenVaultError, VaultError};
use super::records::{Address, Records};
use super::writer::transaction::{Touched, Transaction};
use super::{Shared, Vault};

/// The ids in the record `k`, as it is stored. Changed on the writer thread alone.
pub(super) struct KeysInUse(Mutex<Vec<KeyId>>);

impl KeysInUse {
    pub(super) fn ids(&self) -> Vec<KeyId> {
        self.0.lock().clone()
    }
}

/// Proves that the keyring opens everything in this store, or makes an empty store its own.
/// Tells whether the store has a sum: see `integrity.rs`.
pub(super) fn claim(records: &Records) -> Result<(KeysInUse, bool), OpenVaultError> {
    let current = records.keyring().current_id();
    let mut batch = Batch::default();
    let (ids, is_bound) = match prove(records)? {
        Some(Proof { ids, sealed_with, is_bound }) => {
            if ids.contains(&current) && sealed_with == Some(current) {
                records.note_keys(&ids);
                return Ok((KeysInUse(Mutex::new(ids)), is_bound));
            }
            (with(ids, current), is_bound)
        }
        None => {
            batch.put(Address::META.as_bytes(), records.store_id().to_meta());
            (vec![current], false)
        }
    };
    let list = if is_bound { encode_bound(&ids) } else { encode(&ids) };
    batch.put(Address::KEYS.as_bytes(), records.seal(&Address::KEYS, &list));
    records.commit(&batch)?;
    records.note_keys(&ids);
    Ok((KeysInUse(Mutex::new(ids)), is_bound))
}

/// Has the store say from now on that it has a sum.
///
/// # Errors
/// It cannot be read.
pub(super) fn bind(records: &Records, batch: &mut Batch) -> Result<(), OpenVaultError> {
    let ids = prove(records)?.map(|proof| proof.ids).ok_or(OpenVaultError::BrokenRecord)?;
    batch.put(Address::META.as_bytes(), records.store_id().to_bound_meta());
    batch.put(Address::KEYS.as_bytes(), records.seal(&Address::KEYS, &encode_bound(&ids)));
    Ok(())
}

/// Proves that the keyring opens everything in this store; gives the ids of the keys that it needs,
/// and the one that they are sealed with. Nothing if the store is empty.
pub(super) fn prove(records: &Records) -> Result<Option<Proof>, OpenVaultError> {
    let keyring = records.keyring();
    let Some(sealed) = records.read_raw(&Address::KEYS)? else { return Ok(None) };
    let sealed_with = records.key_id_of(&sealed);
    let other = || OpenVaultError::OtherKey { store: sealed_with, given: keyring.current_id() };
    let text = records.unseal(&Address::KEYS, &sealed).map_err(|_| other())?;
    let (list, is_bound) = match text.expose().split_last() {
        Some((&BOUND, list)) if list.len().is_multiple_of(ID_BYTES) => (list, true),
        _ => (text.expose(), false),
    };
    let mut ids = parse(list).ok_or(OpenVaultError::BrokenRecord)?;
    // Before there were several, the record was empty.
    if ids.is_empty() {
        ids.extend(sealed_with);
    }
    let missing = missing(&ids, &keyring);
    if !missing.is_empty() {
        return Err(OpenVaultError::MissingKeys { missing });
    }
    Ok(Some(Proof { ids, sealed_with, is_bound }))
}

/// What the list of keys says.
pub(super) struct Proof {
    /// The keys that the store needs.
    pub(super) ids: Vec<KeyId>,
    /// The one that the list is sealed with.
    pub(super) sealed_with: Option<KeyId>,
    /// Whether the store has a sum.
    pub(super) is_bound: bool,
}

/// The length of a key's id.
const ID_BYTES: usize = 8;
/// Behind the ids where the store has a sum. It is here because this record is sealed, and because the
/// format of the store, which says the same to older versions, is not.
const BOUND: u8 = 1;

impl Vault {
    /// The id of the key that seals, and those of all keys that the store still needs.
    pub fn key_ids(&self) -> (KeyId, Vec<KeyId>) {
        (self.shared.records.keyring().current_id(), self.shared.keys_in_use.ids())
    }

    /// The keyring as it is now.
    pub fn keyring(&self) -> Arc<Keyring> {
        self.shared.records.keyring()
    }

    /// Seals with another keyring from now on. Returns when that is durable; requests continue during the change, and
    /// none fails because of it.
    ///
    /// # Errors
    /// A key that the store still needs is not in it, or the store failed: the old one stays.
    pub fn replace_keyring(&self, keyring: Keyring) -> Result<(), VaultError> {
        let keyring = Arc::new(keyring);
        if let Some(replica) = &self.shared.replica {
            replica.announce(&keyring)?;
        }
        let planned = Arc::clone(&keyring);
        let plan = move |transaction: &mut Transaction<'_>| {
            let ids = transaction.keys_in_use();
            let missing = missing(&ids, &planned);
            if !missing.is_empty() {
                return Err(VaultError::MissingKeys { missing });
            }
            transaction.put_keys(&with(ids, planned.current_id()), &planned);
            Ok(())
        };
        let (answer, answered) = sync_channel(1);
        let shared = Arc::clone(&self.shared);
        let done = Box::new(move |outcome: Result<_, VaultError>| {
            let outcome = outcome.map(|_| {
                let mut ids = shared.keys_in_use.0.lock();
                *ids = with(std::mem::take(&mut ids), keyring.current_id());
                shared.records.note_keys(&ids);
                chain_keys(&keyring, &shared.records.store_id().to_bytes())
                    .into_iter()
                    .take(1)
                    .for_each(|key| shared.audit.set_key(key));
                if let Some(replica) = &shared.replica {
                    replica.set_keyring(Arc::clone(&keyring));
                }
                shared.records.set_keyring(keyring);
            });
            // If the caller no longer waits, the keyring is replaced all the same.
            let _ = answer.send(outcome);
        });
        self.writer.submit(Box::new(plan), done);
        answered.recv().unwrap_or(Err(VaultError::Stopping))
    }
}

impl Transaction<'_> {
    pub(super) fn keys_in_use(&self) -> Vec<KeyId> {
        self.shared.keys_in_use.ids()
    }

    /// Stores which keys are in use, sealed with `keyring`.
    pub(super) fn put_keys(&mut self, ids: &[KeyId], keyring: &Keyring) {
        self.touched.insert(Touched::Keys);
        let sealed = self.shared.records.seal_with(keyring, &Address::KEYS, &encode_bound(ids));
        self.batch.put(Address::KEYS.as_bytes(), sealed);
    }
}

impl Shared {
    /// To be called once that list is stored.
    pub(super) fn set_keys_in_use(&self, ids: Vec<KeyId>) {
        self.records.note_keys(&ids);
        *self.keys_in_use.0.lock() = ids;
    }
}

pub(super) fn missing(ids: &[KeyId], keyring: &Keyring) -> Vec<KeyId> {
    ids.iter().copied().filter(|&id| !keyring.holds(id)).collect()
}

pub(super) fn with(mut ids: Vec<KeyId>, id: KeyId) -> Vec<KeyId> {
    if !ids.contains(&id) {
        ids.push(id);
    }
    ids
}

pub(super) fn encode(ids: &[KeyId]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_bytes()).collect()
}

fn encode_bound(ids: &[KeyId]) -> Vec<u8> {
    [encode(ids), vec![BOUND]].concat()
}

pub(super) fn parse(bytes: &[u8]) -> Option<Vec<KeyId>> {
    let (ids, rest) = bytes.as_chunks();
    rest.is_empty().then(|| ids.iter().map(|&id| KeyId::from_bytes(id)).collect())
}
