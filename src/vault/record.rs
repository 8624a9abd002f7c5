//! How secrets lie in the store: addresses, sealing, and the form of a head.
//!
//! | address | content |
//! | --- | --- |
//! | `m` | format and id of the store, in the clear |
//! | `k` | the ids of all keys that records may be sealed with; sealed with the current one |
//! | `h` record | a head: key, id, lists, version, times; sealed |
//! | `v` node chunk | up to 32 KiB of the value with that node number; sealed |
//! | `a` | the number of the newest line that the audit log must have; sealed |
//! | `g` node | a mark: this value is superseded and goes once nobody reads it |
//! | `j` journal pack | heads of a large change on their way to their places; sealed |
//! | `c` journal | a mark: this large change holds; sealed |
//! | `e` | on a replica: what is known of the shared store, in the clear |
//! | `e` record | on a replica: where that secret's record is there, in the clear |
//! | `r` number | a receipt: what a request changed; sealed; the last few thousand are kept |
//!
//! Numbers are 8 bytes (chunks: 2), big-endian. A record is sealed to its address in its store. A mark
//! is in the clear: node, size and time of the value.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::RwLock;
use postcard::{from_bytes, take_from_bytes};
use serde::{Deserialize, Serialize};

use crate::crypto::{KeyId, Keyring, OpenError, SealedValue, record_key_id};
use crate::model::{Key, MAX_VALUE_BYTES, Plaintext, SecretId, Slug, Timestamp};
use crate::store::{Batch, MAX_RECORD_BYTES, Space, Store, StoreError};

use super::NODE_LIMIT;
use super::common::{Common, EncodedLists, PassedOver, names_of};
use super::error::OpenVaultError;
use super::garbage::{Dead, Garbage};
use super::secret::{RecordId, Secret, Value};

/// The largest piece of a value in one record: what the store takes, less what sealing adds.
pub(super) const CHUNK_BYTES: usize = MAX_RECORD_BYTES - 64;

const FORMAT: u8 = 1;
/// In the place of the format: see [`Meta::Unfinished`].
const UNFINISHED: u8 = 0x80;

/// How many chunks a value of `size` bytes has.
pub(super) fn chunk_count(size: usize) -> u16 {
    u16::try_from(size.div_ceil(CHUNK_BYTES)).expect("a value has few chunks")
}

/// Where a record lies.
pub(super) struct Address {
    bytes: [u8; 19],
    length: usize,
}

impl Address {
    pub(super) const META: Self = Self::single(b'm');
    pub(super) const KEYS: Self = Self::single(b'k');
    pub(super) const HEADS: Self = Self::single(b'h');
    pub(super) const AUDIT: Self = Self::single(b'a');
    pub(super) const GARBAGE: Self = Self::single(b'g');
    pub(super) const PACKS: Self = Self::single(b'j');
    pub(super) const JOURNALS: Self = Self::single(b'c');
    pub(super) const RECEIPTS: Self = Self::single(b'r');
    pub(super) const REPLICA: Self = Self::single(b'e');

    const fn single(kind: u8) -> Self {
        let mut bytes = [0; 19];
        bytes[0] = kind;
        Self { bytes, length: 1 }
    }

    fn with(mut self, number: &[u8]) -> Self {
        self.bytes[self.length..self.length + number.len()].copy_from_slice(number);
        self.length += number.len();
        self
    }

    pub(super) fn head(record: RecordId) -> Self {
        Self::HEADS.with(&record.0.to_be_bytes())
    }

    /// A value lies under its node number, which no other version of any secret has: it can be
    /// stored before it is settled whose value it becomes.
    pub(super) fn chunk(node: u64, chunk: u16) -> Self {
        Self::single(b'v').with(&node.to_be_bytes()).with(&chunk.to_be_bytes())
    }

    pub(super) fn garbage(node: u64) -> Self {
        Self::GARBAGE.with(&node.to_be_bytes())
    }

    pub(super) fn pack(journal: u64, number: u32) -> Self {
        Self::PACKS.with(&journal.to_be_bytes()).with(&number.to_be_bytes())
    }

    pub(super) fn holds(journal: u64) -> Self {
        Self::JOURNALS.with(&journal.to_be_bytes())
    }

    pub(super) fn receipt(number: u64) -> Self {
        Self::RECEIPTS.with(&number.to_be_bytes())
    }

    pub(super) fn replicated(record: RecordId) -> Self {
        Self::REPLICA.with(&record.0.to_be_bytes())
    }

    pub(super) fn parse_replicated(address: &[u8]) -> Option<RecordId> {
        let number = address.strip_prefix(b"e")?.try_into().ok()?;
        Some(RecordId(u64::from_be_bytes(number)))
    }

    /// Not in the store: a page of a buffer that lies in memory.
    pub(super) fn aside(node: u64, page: u64) -> Self {
        Self::single(b'b').with(&node.to_be_bytes()).with(&page.to_be_bytes())
    }

    /// An address as it was read from the store.
    pub(super) fn parse(address: &[u8]) -> Option<Self> {
        let mut bytes = [0; 19];
        bytes.get_mut(..address.len())?.copy_from_slice(address);
        Some(Self { bytes, length: address.len() })
    }

    pub(super) fn parse_receipt(address: &[u8]) -> Option<u64> {
        let number = u64::from_be_bytes(address.strip_prefix(b"r")?.try_into().ok()?);
        // What is in the place of one that nobody wrote is none: there must be numbers after it.
        (number < NODE_LIMIT).then_some(number)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// What lies at an address, as far as re-sealing is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// Not sealed; or a receipt, which is of use for seconds, and passed over when its key is gone.
    Clear,
    Head(RecordId),
    /// Of the value with that node number.
    Chunk(u64),
    /// On its way: it goes by itself.
    Journal,
    /// Sealed, and never changed but by its own plans.
    Other,
}

impl RecordKind {
    pub(super) fn of(address: &[u8]) -> Self {
        let number = || Some(u64::from_be_bytes(address.get(1..9)?.try_into().ok()?));
        match (address.first(), number()) {
            (Some(b'm' | b'g' | b'r' | b'e'), _) => Self::Clear,
            (Some(b'h'), Some(record)) => Self::Head(RecordId(record)),
            (Some(b'v'), Some(node)) => Self::Chunk(node),
            (Some(b'j' | b'c'), _) => Self::Journal,
            _ => Self::Other,
        }
    }
}

/// Tells stores apart, so that a record cannot be carried from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoreId([u8; 16]);

impl StoreId {
    pub(super) fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the kernel's random source answers once it is seeded");
        Self(bytes)
    }

    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(super) fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// What a record of that name is sealed to in a shared store.
    pub(super) fn place(self, name: &[u8]) -> Vec<u8> {
        [&self.0, name].concat()
    }

    pub(super) fn to_meta(self) -> Vec<u8> {
        [&[FORMAT][..], &self.0].concat()
    }

    /// The id of a store that is whole.
    ///
    /// # Errors
    /// It is not, or it is another version's.
    pub(super) fn of_whole(meta: &[u8]) -> Result<Self, OpenVaultError> {
        match Meta::parse(meta) {
            Some(Meta::Whole(id)) => Ok(id),
            Some(Meta::Unfinished { .. }) => Err(OpenVaultError::Unfinished),
            None => Err(OpenVaultError::UnknownFormat),
        }
    }
}

/// What the record `m` says, here and in a shared store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meta {
    /// Its records are all there.
    Whole(StoreId),
    /// Secrets are being moved into it from another store. Nobody but who moves them opens it.
    Unfinished { id: StoreId, source: StoreId },
}

impl Meta {
    pub(super) fn parse(meta: &[u8]) -> Option<Self> {
        let (&format, ids) = meta.split_first()?;
        let id = |bytes: &[u8]| Some(StoreId(bytes.try_into().ok()?));
        match format {
            FORMAT => Some(Self::Whole(id(ids)?)),
            UNFINISHED => {
                let (own, source) = ids.split_at_checked(16)?;
                Some(Self::Unfinished { id: id(own)?, source: id(source)? })
            }
            _ => None,
        }
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Whole(id) => id.to_meta(),
            Self::Unfinished { id, source } => [&[UNFINISHED][..], &id.0, &source.0].concat(),
        }
    }
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

    /// The number of the newest line that the audit log must have.
    pub(super) fn read_audit_anchor(&self) -> Result<u64, OpenVaultError> {
        self.read_raw(&Address::AUDIT)?.map_or(Ok(0), |sealed| self.unseal_audit_anchor(&sealed))
    }

    pub(super) fn unseal_audit_anchor(&self, sealed: &[u8]) -> Result<u64, OpenVaultError> {
        let opened = self.unseal(&Address::AUDIT, sealed).map_err(OpenVaultError::Unseal)?;
        let seq = opened.expose().try_into().map_err(|_| OpenVaultError::BrokenRecord)?;
        Ok(u64::from_be_bytes(seq))
    }

    /// Has the store remember that the audit log has the line `seq`.
    pub(super) fn put_audit_anchor(&self, batch: &mut Batch, seq: u64) {
        let sealed = self.seal(&Address::AUDIT, &seq.to_be_bytes());
        batch.put(Address::AUDIT.as_bytes(), sealed);
    }

    /// What a record is sealed to: the store and the address in it.
    fn place(&self, address: &[u8]) -> Place {
        let mut place = Place { bytes: [0; 16 + 19], length: 16 + address.len() };
        place.bytes[..16].copy_from_slice(&self.id.0);
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
    pub(super) fn seal_head(&self, secret: &Secret) -> (Address, Vec<u8>) {
        let address = Address::head(secret.record());
        let sealed = self.seal(&address, encode_head(secret).expose());
        (address, sealed)
    }

    pub(super) fn unseal_head(
        &self,
        address: &[u8],
        sealed: &[u8],
        garbage: &Arc<Garbage>,
        common: &mut Common,
    ) -> Result<Secret, OpenVaultError> {
        self.unseal_head_with(&self.keyring(), address, sealed, garbage, common)
    }

    /// For many heads: threads that unseal at once do not meet at the keyring's lock.
    pub(super) fn unseal_head_with(
        &self,
        keyring: &Keyring,
        address: &[u8],
        sealed: &[u8],
        garbage: &Arc<Garbage>,
        common: &mut Common,
    ) -> Result<Secret, OpenVaultError> {
        let broken = || OpenVaultError::BrokenRecord;
        if address.len() != 9 {
            return Err(broken());
        }
        let head = keyring
            .open_record(self.place(address).as_slice(), sealed)
            .map_err(OpenVaultError::Unseal)?;
        let record = RecordId(u64::from_be_bytes(address[1..].try_into().map_err(|_| broken())?));
        decode_head(record, head.expose(), garbage, common).ok_or_else(broken)
    }
}

/// The secret that a head in the clear describes.
pub(super) fn decode_head(
    record: RecordId,
    head: &[u8],
    garbage: &Arc<Garbage>,
    common: &mut Common,
) -> Option<Secret> {
    let ((key, id), rest) = take_from_bytes::<(&str, &str)>(head).ok()?;
    // The lists are looked up as they are encoded: most heads have the lists of another one.
    let (_, last) = take_from_bytes::<[PassedOver; 6]>(rest).ok()?;
    let lists = &rest[..rest.len() - last.len()];
    let last: HeadEnd<'_> = from_bytes(last).ok().filter(HeadEnd::is_possible)?;
    if record.0 >= NODE_LIMIT {
        return None;
    }
    Some(Secret {
        key: Key::parse(key).ok()?,
        id: SecretId::parse(id).ok()?,
        acl: common.lists.decode(lists)?,
        created: Timestamp::from_nanos(last.created),
        value: Arc::new(Value {
            record,
            version: last.version,
            node: last.node,
            size: last.size,
            updated: Timestamp::from_nanos(last.updated),
            updated_by: common.slug(last.updated_by)?,
            superseded: AtomicBool::new(false),
            garbage: Arc::clone(garbage),
        }),
    })
}

/// A head in the clear.
pub(super) fn encode_head(secret: &Secret) -> Plaintext {
    let head = Head::of(secret);
    postcard::to_stdvec(&head).expect("strings and numbers always encode").into()
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

/// The superseded value that a mark names, if it is one: who still has it open is served.
pub(super) fn parse_mark(address: &[u8], mark: &[u8], garbage: &Arc<Garbage>) -> Option<Value> {
    Dead::of_mark(address, mark).map(|dead| Value {
        record: RecordId(dead.record),
        version: dead.version,
        node: dead.node,
        size: dead.size,
        updated: Timestamp::from_nanos(dead.updated),
        // Who wrote it is asked of current values alone.
        updated_by: Slug::of_uid(0),
        superseded: AtomicBool::new(true),
        garbage: Arc::clone(garbage),
    })
}

/// A head as it is encoded (postcard), before it is sealed. Fields are only ever added, with a new
/// [`FORMAT`].
#[derive(Serialize)]
struct Head<'a> {
    key: &'a str,
    id: &'a str,
    lists: EncodedLists<'a>,
    end: HeadEnd<'a>,
}

/// What follows the lists.
#[derive(Serialize, Deserialize)]
struct HeadEnd<'a> {
    created: u64,
    version: u64,
    node: u64,
    size: u32,
    updated: u64,
    updated_by: &'a str,
}

impl HeadEnd<'_> {
    /// Whether numbers that go on from these have room to.
    fn is_possible(&self) -> bool {
        self.node < NODE_LIMIT && self.version < NODE_LIMIT && self.size as usize <= MAX_VALUE_BYTES
    }
}

impl<'a> Head<'a> {
    fn of(secret: &'a Secret) -> Self {
        let value = &secret.value;
        Self {
            key: secret.key.as_str(),
            id: secret.id.as_str(),
            lists: names_of(&secret.acl),
            end: HeadEnd {
                created: secret.created.as_nanos(),
                version: value.version,
                node: value.node,
                size: value.size,
                updated: value.updated.as_nanos(),
                updated_by: value.updated_by.as_str(),
            },
        }
    }
}
