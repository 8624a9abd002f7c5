//! Cached replies: what a request changed, stored in the same batch as the change.
//!
//! When the process that serves a mount dies, the kernel sends the requests it had not answered to
//! the next one. A change that was stored must not be made twice, so its cached reply is looked for first.
//! A cached reply also tells the names whose meaning changed, which the kernel may not have been told.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::model::{Acl, ListName, SecretId, Slug, Timestamp};
use crate::store::{Batch, MAX_RECORD_BYTES, StoreError};

use super::transaction::Change;
use crate::vault::ops::write::InheritedLists;
use crate::vault::records::secret::Value;
use crate::vault::records::{Address, Records};

/// How many cached replies are kept: more than requests can be under way or names waiting to be forgotten.
const KEPT: usize = 2048;
/// What sealing and the store's limit leave for one cached reply.
const LARGEST: usize = MAX_RECORD_BYTES - 64;

/// Which request of which mount wants a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// A number for the mount, since each begins to number its requests anew.
    pub mount: u64,
    /// The request's number in it.
    pub unique: u64,
    /// The thread that sent it.
    pub task: u32,
    /// When that thread started, as `/proc` tells it.
    pub started: Option<u64>,
    /// Its UID.
    pub uid: u32,
}

/// What the process before this one stored for one request.
pub struct CachedReply {
    /// The request; none for a change that no request asked for.
    pub origin: Option<RequestId>,
    /// When.
    pub at: Timestamp,
    /// The keys that mean something else since.
    pub keys: Vec<String>,
    /// What was removed or moved away, and what it left.
    pub left: Vec<(String, InheritedLists)>,
}

#[derive(Serialize, Deserialize)]
struct Encoded {
    origin: Option<RequestId>,
    at: u64,
    keys: Vec<String>,
    left: Vec<Left>,
}

#[derive(Serialize, Deserialize)]
struct Left {
    key: String,
    id: Option<String>,
    lists: [Vec<String>; 6],
}

/// Writes cached replies and removes old ones.
pub(in crate::vault) struct ReplyCache {
    kept: VecDeque<u64>,
    next: u64,
}

impl ReplyCache {
    /// Goes on after those that are stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(in crate::vault) fn load(records: &Records) -> Result<Self, StoreError> {
        let mut kept = VecDeque::new();
        records.scan(&Address::REPLY_CACHE, &mut |address, _| {
            kept.extend(Address::parse_cached_reply(address));
            ControlFlow::Continue(())
        })?;
        let next = kept.back().map_or(0, |last| last + 1);
        Ok(Self { kept, next })
    }

    /// Adds the cached reply of `changes` to their batch.
    pub(in crate::vault) fn add(
        &mut self,
        records: &Records,
        batch: &mut Batch,
        origin: Option<RequestId>,
        changes: &[Change],
    ) {
        if changes.is_empty() {
            return;
        }
        let address = Address::cached_reply(self.next);
        let sealed = records.seal(&address, &encode(origin, changes));
        batch.put(address.as_bytes(), sealed);
        self.kept.push_back(self.next);
        self.next += 1;
        if self.kept.len() > KEPT
            && let Some(oldest) = self.kept.pop_front()
        {
            batch.remove(Address::cached_reply(oldest).as_bytes());
        }
    }
}

/// All cached replies that are stored. One that does not open is of no use any more: its key is gone.
pub(in crate::vault) fn read_all(records: &Records) -> Result<Vec<CachedReply>, StoreError> {
    let mut reply_cache = Vec::new();
    records.scan(&Address::REPLY_CACHE, &mut |address, sealed| {
        let plain = Address::parse_cached_reply(address)
            .and_then(|number| records.unseal(&Address::cached_reply(number), sealed).ok());
        reply_cache.extend(plain.and_then(|plain| decode(plain.expose())));
        ControlFlow::Continue(())
    })?;
    Ok(reply_cache)
}

fn encode(origin: Option<RequestId>, changes: &[Change]) -> Vec<u8> {
    let secrets = changes.iter().flat_map(|one| [&one.before, &one.after]).flatten();
    let mut keys: Vec<_> = secrets.map(|secret| secret.key().to_string()).collect();
    keys.dedup();
    let at = Timestamp::from(SystemTime::now()).as_nanos();
    let left = changes.iter().filter_map(Left::of).collect();
    let mut cached_reply = Encoded { origin, at, keys, left };
    let to_bytes = |cached_reply: &Encoded| {
        postcard::to_stdvec(cached_reply).expect("strings and numbers encode")
    };
    let mut bytes = to_bytes(&cached_reply);
    // What does not fit are lists, or the keys of a large import: the kernel asks for the names again
    // as soon as it opens them.
    if bytes.len() > LARGEST {
        cached_reply.left.clear();
        bytes = to_bytes(&cached_reply);
    }
    if bytes.len() > LARGEST {
        cached_reply.keys.clear();
        bytes = to_bytes(&cached_reply);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<CachedReply> {
    let Encoded { origin, at, keys, left } = postcard::from_bytes(bytes).ok()?;
    let left = left.into_iter().map(Left::into_inherited_lists).collect::<Option<_>>()?;
    Some(CachedReply { origin, at: Timestamp::from_nanos(at), keys, left })
}

impl Left {
    fn of(change: &Change) -> Option<Self> {
        let (key, inherited_lists) = InheritedLists::of(change)?;
        let names = |name| inherited_lists.acl().list(name).iter().map(Slug::to_string).collect();
        let id = inherited_lists.free_id().map(ToString::to_string);
        Some(Self { key: key.to_string(), id, lists: ListName::ALL.map(names) })
    }

    fn into_inherited_lists(self) -> Option<(String, InheritedLists)> {
        let mut acl = Acl::default();
        for (name, slugs) in ListName::ALL.into_iter().zip(&self.lists) {
            acl.set(name, slugs.iter().map(|slug| Slug::parse(slug).ok()).collect::<Option<_>>()?);
        }
        let id = self.id.map(|id| SecretId::parse(&id)).transpose().ok()?;
        Some((self.key, InheritedLists::new(id, acl)))
    }
}

/// What a new process learns from the one that served the mount before it.
pub struct Inheritance {
    /// Every version that a handle may still have open: the current ones and those superseded ones that were not
    /// removed yet. Once dropped, a superseded one is removed.
    pub versions: Vec<Arc<Value>>,
    /// The last changes, oldest first.
    pub reply_cache: Vec<CachedReply>,
}

impl Inheritance {
    /// The requests of a mount for which a change was stored, and the keys that they changed.
    pub fn done_for(&self, mount: u64) -> HashMap<u64, Vec<String>> {
        let mut done = HashMap::<_, Vec<_>>::new();
        for cached_reply in &self.reply_cache {
            if let Some(origin) = cached_reply.origin.filter(|of| of.mount == mount) {
                done.entry(origin.unique).or_default().extend(cached_reply.keys.iter().cloned());
            }
        }
        done
    }
}
