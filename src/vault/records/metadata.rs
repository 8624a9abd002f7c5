//! The form of a head, and of the mark of a superseded value.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use postcard::{from_bytes, take_from_bytes};
use serde::{Deserialize, Serialize};

use super::garbage::{Garbage, Tombstone};
use super::interner::{EncodedLists, Interner, PassedOver, names_of};
use super::secret::{RecordId, Secret, Value};
use crate::model::{Key, MAX_VALUE_BYTES, Plaintext, SecretId, Slug, Timestamp};
use crate::vault::NODE_LIMIT;

/// The secret that a head in the clear describes.
pub(in crate::vault) fn decode_metadata(
    record: RecordId,
    head: &[u8],
    garbage: &Arc<Garbage>,
    common: &mut Interner,
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
pub(in crate::vault) fn encode_metadata(secret: &Secret) -> Plaintext {
    let head = Metadata::of(secret);
    postcard::to_stdvec(&head).expect("strings and numbers always encode").into()
}

/// The superseded value that a tombstone names, if it is one: handles that still have it open are served.
pub(in crate::vault) fn parse_mark(
    address: &[u8],
    mark: &[u8],
    garbage: &Arc<Garbage>,
) -> Option<Value> {
    Tombstone::of_mark(address, mark).map(|tombstone| Value {
        record: RecordId(tombstone.record),
        version: tombstone.version,
        node: tombstone.node,
        size: tombstone.size,
        updated: Timestamp::from_nanos(tombstone.updated),
        // Only the writer of a current value is ever needed.
        updated_by: Slug::of_uid(0),
        superseded: AtomicBool::new(true),
        garbage: Arc::clone(garbage),
    })
}

/// A head as it is encoded (postcard), before it is sealed. Fields are only ever added, with a new
/// format of the store.
#[derive(Serialize)]
struct Metadata<'a> {
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

impl<'a> Metadata<'a> {
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
