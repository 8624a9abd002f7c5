//! How records are stored in the shared store: names, sealing, and their forms.
//!
//! | name | content |
//! | --- | --- |
//! | `m` | format and id of the shared store, in the clear |
//! | `k` | the ids of all keys that any record may be sealed with; sealed with one of them |
//! | `n` | the number of the newest creation or renaming; sealed |
//! | `o`, `t/` | a large change on its way: see `large.rs` |
//! | `s/` id | a secret, whole: name, id, lists, times and value; sealed. The id is random |
//! | `w/` host | what that host's last transaction was: see `own.rs`; sealed |
//!
//! A record is sealed to its name in its store. A reader of the whole store learns how many secrets there are, how
//! large they are, and which record changed when.

use postcard::take_from_bytes;
use serde::{Deserialize, Serialize};

use crate::crypto::{Keyring, OpenError};
use crate::model::{Acl, Key, ListName, Plaintext, SecretId, Slug, Timestamp};
use crate::vault::records::StoreId;
use crate::vault::records::interner::{EncodedLists, names_of};
use crate::vault::records::secret::Secret;

pub(super) const META: &[u8] = b"m";
pub(super) const KEYS: &[u8] = b"k";
pub(super) const NAMES: &[u8] = b"n";
pub(super) const ORDER: &[u8] = b"o";
const SECRETS: &[u8] = b"s/";
const PACKS: &[u8] = b"t/";
const HOSTS: &[u8] = b"w/";
/// The range of names that is watched.
pub(super) const FIRST: &[u8] = KEYS;
pub(super) const LAST: &[u8] = b"t";

/// A random number: of a record, of a host, of a transaction.
pub(super) type Random = [u8; 16];

pub(super) fn random() -> Random {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel's random source answers once it is seeded");
    bytes
}

pub(super) fn secret_name(id: &Random) -> Vec<u8> {
    [SECRETS, id].concat()
}

pub(super) fn host_name(host: &Random) -> Vec<u8> {
    [HOSTS, host].concat()
}

/// A pack of a large change.
pub(super) fn pack_name(change: &Random, number: u32) -> Vec<u8> {
    [PACKS, change, &number.to_be_bytes()].concat()
}

/// All packs lie from the first of these names on and before the second.
pub(super) fn packs() -> (&'static [u8], &'static [u8]) {
    (PACKS, b"t0")
}

/// All secrets lie from the first of these names on and before the second.
pub(super) fn secrets() -> (&'static [u8], &'static [u8]) {
    (SECRETS, b"s0")
}

/// The name of a secret's record.
pub(super) fn parse_secret_name(name: &[u8]) -> Option<Random> {
    name.strip_prefix(SECRETS)?.try_into().ok()
}

/// Seals and opens records of one shared store.
#[derive(Clone, Copy)]
pub(super) struct Wire(pub(super) StoreId);

impl Wire {
    pub(super) fn seal(self, keyring: &Keyring, name: &[u8], plaintext: &[u8]) -> Vec<u8> {
        keyring.seal_record(&self.0.place(name), plaintext)
    }

    pub(super) fn open(
        self,
        keyring: &Keyring,
        name: &[u8],
        sealed: &[u8],
    ) -> Result<Plaintext, OpenError> {
        keyring.open_record(&self.0.place(name), sealed)
    }
}

/// What stands before the value (postcard). Fields are only ever added, with a new format.
#[derive(Serialize, Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    lists: EncodedLists<'a>,
    key: &'a str,
    id: &'a str,
    /// One more with every change: an older record in the place of a newer one is noticed.
    generation: u64,
    /// What `n` was when it was created: a record that was removed does not come back unnoticed.
    born: u64,
    created: u64,
    version: u64,
    updated: u64,
    updated_by: &'a str,
}

/// A secret as hosts send it to each other. Numbers of nodes and records are each host's own.
pub(super) struct Sent {
    pub(super) generation: u64,
    pub(super) born: u64,
    pub(super) key: Key,
    pub(super) id: SecretId,
    pub(super) acl: Acl,
    pub(super) created: Timestamp,
    pub(super) version: u64,
    pub(super) updated: Timestamp,
    pub(super) updated_by: Slug,
    pub(super) value: Plaintext,
}

pub(super) fn encode(secret: &Secret, generation: u64, born: u64, value: &Plaintext) -> Plaintext {
    let header = Header {
        lists: names_of(secret.acl()),
        key: secret.key().as_str(),
        id: secret.id().as_str(),
        generation,
        born,
        created: secret.created().as_nanos(),
        version: secret.value().version(),
        updated: secret.value().updated().as_nanos(),
        updated_by: secret.value().updated_by().as_str(),
    };
    let header: Plaintext =
        postcard::to_stdvec(&header).expect("strings and numbers always encode").into();
    let mut bytes = Plaintext::with_capacity(header.len() + value.len());
    bytes.push(header.expose());
    bytes.push(value.expose());
    bytes
}

pub(super) fn decode(bytes: &Plaintext) -> Option<Sent> {
    let (header, value): (Header<'_>, _) = take_from_bytes(bytes.expose()).ok()?;
    let mut acl = Acl::default();
    for (name, slugs) in ListName::ALL.into_iter().zip(&header.lists) {
        acl.set(name, slugs.iter().map(|slug| Slug::parse(slug).ok()).collect::<Option<_>>()?);
    }
    (value.len() <= crate::model::MAX_VALUE_BYTES).then_some(())?;
    Some(Sent {
        generation: header.generation,
        born: header.born,
        key: Key::parse(header.key).ok()?,
        id: SecretId::parse(header.id).ok()?,
        acl,
        created: Timestamp::from_nanos(header.created),
        version: header.version,
        updated: Timestamp::from_nanos(header.updated),
        updated_by: Slug::parse(header.updated_by).ok()?,
        value: Plaintext::copy_of(value),
    })
}

/// The number in the record `n`.
pub(super) fn encode_number(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

pub(super) fn decode_number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}
