//! How secrets are stored: addresses, sealing, and the form of a head.
//!
//! | address | content |
//! | --- | --- |
//! | `m` | format and id of the store, in the clear |
//! | `k` | the ids of all keys that records may be sealed with; sealed with the current one |
//! | `h` record | a head: key, id, lists, version, times; sealed |
//! | `v` node chunk | up to 32 KiB of the value with that node number; sealed |
//! | `a` | number and hash of the newest line that the audit log must have; sealed |
//! | `s` | a keyed sum over all heads; sealed |
//! | `g` node | a mark: this value is superseded and is removed once it is no longer read |
//! | `j` journal pack | heads of a large change on their way to their places; sealed |
//! | `c` journal | a mark: this large change holds; sealed |
//! | `e` | on a replica: what is known of the shared store, in the clear |
//! | `e` record | on a replica: where that secret's record is there, in the clear |
//! | `r` number | a cached reply: what a request changed; sealed; the last few thousand are kept |
//!
//! Numbers are 8 bytes (chunks: 2), big-endian. A record is sealed to its address in its store. A mark
//! is in the clear: node, size and time of the value.

mod address;
pub(super) mod garbage;
pub(super) mod interner;
mod meta;
mod metadata;
pub(super) mod secret;

pub(super) use address::{Address, RecordKind};
pub(super) use meta::{Meta, StoreId};
pub(super) use metadata::{decode_metadata, encode_metadata, parse_mark};

use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::audit::Anchor;
use crate::crypto::{KeyId, Keyring, OpenError, SealedValue, SetKey, SetSum, record_key_id};
use crate::model::{Key, Plaintext};
use crate::store::{Batch, MAX_RECORD_BYTES, Space, Store, StoreError};

use super::error::OpenVaultError;
use garbage::Garbage;
use interner::Interner;
use secret::{RecordId, Secret};

/// The largest piece of a value in one record: what the store takes, less what sealing adds.
pub(super) const CHUNK_BYTES: usize = MAX_RECORD_BYTES - 64;

/// How many chunks a value of `size` bytes has.
pub(super) fn chunk_count(size: usize) -> u16 {
    u16::try_from(size.div_ceil(CHUNK_BYTES)).expect("a value has few chunks")
}

/// The store with everything sealed on the way in and unsealed on the way out.
pub(super) struct Records {
    store: Arc<dyn Store>,
    keyring: RwLock<Arc<Keyring>>,
    id: StoreId,
}

impl Records {
    pub(super) fn new(store: Arc<dyn Store>, keyring: Keyring, id: StoreId) -> Self {
        Self { store, keyring: RwLock::new(Arc::new(keyring)), id }
    }

    pub(super) fn store_id(&self) -> StoreId {
        self.id
    }

    /// What was read from the store before this call opens with it: a keyring is replaced before
    /// anything is sealed with its key.
    pub(super) fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring.read())
    }

    pub(super) fn set_keyring(&self, keyring: Arc<Keyring>) {
        *self.keyring.write() = keyring;
    }

    pub(super) fn key_id_of(&self, sealed: &[u8]) -> Option<KeyId> {
        record_key_id(sealed)
    }

    pub(super) fn space(&self) -> Result<Space, StoreError> {
        self.store.space()
    }

    pub(super) fn note_keys(&self, ids: &[KeyId]) {
        self.store.note_keys(&ids.iter().map(ToString::to_string).collect::<Vec<_>>());
    }

    pub(super) fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.store.commit(batch)
    }

    pub(super) fn read_raw(&self, address: &Address) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.read(address.as_bytes())
    }

    pub(super) fn read_at(&self, address: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.read(address)
    }

    /// Shows every record of the store.
    #[allow(clippy::type_complexity)] // as the store's own
    pub(super) fn scan_all(
        &self,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.store.scan(b"", visit)
    }

    #[allow(clippy::type_complexity)] // as the store's own
    pub(super) fn scan(
        &self,
        prefix: &Address,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.store.scan(prefix.as_bytes(), visit)
    }

    /// Shows the records of that prefix from `start` on.
    #[allow(clippy::type_complexity)] // as the store's own
    pub(super) fn scan_from(
        &self,
        prefix: &Address,
        start: &Address,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.store.scan_from(prefix.as_bytes(), start.as_bytes(), visit)
    }

    pub(super) fn seal(&self, address: &Address, plaintext: &[u8]) -> Vec<u8> {
        self.seal_with(&self.keyring(), address, plaintext)
    }

    pub(super) fn seal_with(
        &self,
        keyring: &Keyring,
        address: &Address,
        plaintext: &[u8],
    ) -> Vec<u8> {
        keyring.seal_record(self.place(address.as_bytes()).as_slice(), plaintext)
    }

    pub(super) fn unseal(&self, address: &Address, sealed: &[u8]) -> Result<Plaintext, OpenError> {
        self.keyring().open_record(self.place(address.as_bytes()).as_slice(), sealed)
    }

    /// The record with a seal of the current key.
    pub(super) fn reseal(&self, address: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (place, keyring) = (self.place(address), self.keyring());
        let plaintext = keyring.open_record(place.as_slice(), sealed)?;
        Ok(keyring.seal_record(place.as_slice(), plaintext.expose()))
    }

    /// A value sealed for a document, to the name of its secret.
    pub(super) fn seal_value(&self, key: &Key, value: &Plaintext) -> SealedValue {
        self.keyring().seal_value(key, value)
    }

    /// The newest line that the audit log must have.
    pub(super) fn read_audit_anchor(&self) -> Result<Anchor, OpenVaultError> {
        let sealed = self.read_raw(&Address::AUDIT)?;
        sealed.map_or(Ok(Anchor::default()), |sealed| self.unseal_audit_anchor(&sealed))
    }

    pub(super) fn unseal_audit_anchor(&self, sealed: &[u8]) -> Result<Anchor, OpenVaultError> {
        let opened = self.unseal(&Address::AUDIT, sealed).map_err(OpenVaultError::Unseal)?;
        parse_audit_anchor(&opened)
    }

    /// Has the store remember a line that the audit log has.
    pub(super) fn put_audit_anchor(&self, batch: &mut Batch, anchor: Anchor) {
        let hash = anchor.hash.unwrap_or_default();
        let plain = [&anchor.seq.to_be_bytes()[..], &hash].concat();
        batch.put(Address::AUDIT.as_bytes(), self.seal(&Address::AUDIT, &plain));
    }

    /// What a record is sealed to: the store and the address in it.
    fn place(&self, address: &[u8]) -> Place {
        let mut place = Place { bytes: [0; 16 + 19], length: 16 + address.len() };
        place.bytes[..16].copy_from_slice(&self.id.to_bytes());
        place.bytes[16..place.length].copy_from_slice(address);
        place
    }

    /// Opens a document's value.
    pub(super) fn open_value(
        &self,
        key: &Key,
        value: &SealedValue,
    ) -> Result<Plaintext, OpenError> {
        self.keyring().open_value(key, value)
    }

    /// Adds a value's sealed chunks to `batch`.
    pub(super) fn seal_chunks(&self, node: u64, value: &Plaintext, batch: &mut Batch) {
        for (number, chunk) in (0u16..).zip(value.expose().chunks(CHUNK_BYTES)) {
            let address = Address::chunk(node, number);
            batch.put(address.as_bytes(), self.seal(&address, chunk));
        }
    }

    /// The sealed head of `secret`, with its address.
    pub(super) fn seal_metadata(&self, secret: &Secret) -> (Address, Vec<u8>) {
        let address = Address::metadata(secret.record());
        let sealed = self.seal(&address, encode_metadata(secret).expose());
        (address, sealed)
    }

    pub(super) fn unseal_metadata(
        &self,
        address: &[u8],
        sealed: &[u8],
        garbage: &Arc<Garbage>,
        common: &mut Interner,
    ) -> Result<Secret, OpenVaultError> {
        let unsealed =
            self.unseal_summed_metadata(&self.keyring(), None, address, sealed, garbage, common);
        unsealed.map(|(secret, _)| secret)
    }

    /// For many heads: threads that unseal at once do not meet at the keyring's lock. With the digest of
    /// the head under `key`.
    pub(super) fn unseal_summed_metadata(
        &self,
        keyring: &Keyring,
        key: Option<&SetKey>,
        address: &[u8],
        sealed: &[u8],
        garbage: &Arc<Garbage>,
        common: &mut Interner,
    ) -> Result<(Secret, SetSum), OpenVaultError> {
        let broken = || OpenVaultError::BrokenRecord;
        if address.len() != 9 {
            return Err(broken());
        }
        let head = keyring
            .open_record(self.place(address).as_slice(), sealed)
            .map_err(OpenVaultError::Unseal)?;
        let record = RecordId(u64::from_be_bytes(address[1..].try_into().map_err(|_| broken())?));
        let digest = key.map_or_else(SetSum::default, |key| key.digest(record.0, head.expose()));
        let secret = decode_metadata(record, head.expose(), garbage, common).ok_or_else(broken)?;
        Ok((secret, digest))
    }
}

struct Place {
    bytes: [u8; 16 + 19],
    length: usize,
}

impl Place {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The number (8 bytes), and since logs are bound to their store the hash of that line (32).
pub(super) fn parse_audit_anchor(plain: &Plaintext) -> Result<Anchor, OpenVaultError> {
    let broken = OpenVaultError::BrokenRecord;
    let Some((seq, hash)) = plain.expose().split_first_chunk() else { return Err(broken) };
    let hash = match hash {
        [] => None,
        hash => Some(hash.try_into().map_err(|_| broken)?),
    };
    Ok(Anchor { seq: u64::from_be_bytes(*seq), hash })
}
