//! Receipts: what a request changed, stored in the same batch as the change.
//!
//! When the process that serves a mount dies, the kernel sends the requests it had not answered to
//! the next one. A change that was stored must not be made twice, so its receipt is looked for first.
//! A receipt also tells the names whose meaning changed, which the kernel may not have been told.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::model::{Acl, ListName, SecretId, Slug, Timestamp};
use crate::store::{Batch, MAX_RECORD_BYTES, StoreError};

use super::transaction::Change;
use crate::vault::ops::write::Heritage;
use crate::vault::records::secret::Value;
use crate::vault::records::{Address, Records};

/// How many receipts are kept: more than requests can be under way or names waiting to be forgotten.
const KEPT: usize = 2048;
/// What sealing and the store's limit leave for one receipt.
const LARGEST: usize = MAX_RECORD_BYTES - 64;

/// Which request of which mount wants a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
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
pub struct Receipt {
    /// The request; none for a change that no request asked for.
    pub origin: Option<Origin>,
    /// When.
    pub at: Timestamp,
    /// The keys that mean something else since.
    pub keys: Vec<String>,
    /// What was removed or moved away, and what it left.
    pub left: Vec<(String, Heritage)>,
}

#[derive(Serialize, Deserialize)]
struct Encoded {
    origin: Option<Origin>,
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

/// Writes receipts and removes old ones.
pub(in crate::vault) struct Receipts {
    kept: VecDeque<u64>,
    next: u64,
}

impl Receipts {
    /// Goes on after those that are stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(in crate::vault) fn load(records: &Records) -> Result<Self, StoreError> {
        let mut kept = VecDeque::new();
        records.scan(&Address::RECEIPTS, &mut |address, _| {
            kept.extend(Address::parse_receipt(address));
            ControlFlow::Continue(())
        })?;
        let next = kept.back().map_or(0, |last| last + 1);
        Ok(Self { kept, next })
    }

    /// Adds the receipt of `changes` to their batch.
    pub(in crate::vault) fn add(
        &mut self,
        records: &Records,
        batch: &mut Batch,
        origin: Option<Origin>,
        changes: &[Change],
    ) {
        if changes.is_empty() {
            return;
        }
        let address = Address::receipt(self.next);
        let sealed = records.seal(&address, &encode(origin, changes));
        batch.put(address.as_bytes(), sealed);
        self.kept.push_back(self.next);
        self.next += 1;
        if self.kept.len() > KEPT
            && let Some(oldest) = self.kept.pop_front()
        {
            batch.remove(Address::receipt(oldest).as_bytes());
        }
    }
}

/// All receipts that are stored. One that does not open is of no use any more: its key is gone.
pub(in crate::vault) fn read_all(records: &Records) -> Result<Vec<Receipt>, StoreError> {
    let mut receipts = Vec::new();
    records.scan(&Address::RECEIPTS, &mut |address, sealed| {
        let plain = Address::parse_receipt(address)
            .and_then(|number| records.unseal(&Address::receipt(number), sealed).ok());
        receipts.extend(plain.and_then(|plain| decode(plain.expose())));
        ControlFlow::Continue(())
    })?;
    Ok(receipts)
}

fn encode(origin: Option<Origin>, changes: &[Change]) -> Vec<u8> {
    let secrets = changes.iter().flat_map(|one| [&one.before, &one.after]).flatten();
    let mut keys: Vec<_> = secrets.map(|secret| secret.key().to_string()).collect();
    keys.dedup();
    let at = Timestamp::from(SystemTime::now()).as_nanos();
    let left = changes.iter().filter_map(Left::of).collect();
    let mut receipt = Encoded { origin, at, keys, left };
    let to_bytes =
        |receipt: &Encoded| postcard::to_stdvec(receipt).expect("strings and numbers encode");
    let mut bytes = to_bytes(&receipt);
    // What does not fit are lists, or the keys of a large import: the kernel asks for the names again
    // as soon as it opens them.
    if bytes.len() > LARGEST {
        receipt.left.clear();
        bytes = to_bytes(&receipt);
    }
    if bytes.len() > LARGEST {
        receipt.keys.clear();
        bytes = to_bytes(&receipt);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Receipt> {
    let Encoded { origin, at, keys, left } = postcard::from_bytes(bytes).ok()?;
    let left = left.into_iter().map(Left::into_heritage).collect::<Option<_>>()?;
    Some(Receipt { origin, at: Timestamp::from_nanos(at), keys, left })
}

impl Left {
    fn of(change: &Change) -> Option<Self> {
        let (key, heritage) = Heritage::of(change)?;
        let names = |name| heritage.acl().list(name).iter().map(Slug::to_string).collect();
        let id = heritage.free_id().map(ToString::to_string);
        Some(Self { key: key.to_string(), id, lists: ListName::ALL.map(names) })
    }

    fn into_heritage(self) -> Option<(String, Heritage)> {
        let mut acl = Acl::default();
        for (name, slugs) in ListName::ALL.into_iter().zip(&self.lists) {
            acl.set(name, slugs.iter().map(|slug| Slug::parse(slug).ok()).collect::<Option<_>>()?);
        }
        let id = self.id.map(|id| SecretId::parse(&id)).transpose().ok()?;
        Some((self.key, Heritage::new(id, acl)))
    }
}

/// What a new process learns from the one that served the mount before it.
pub struct Inheritance {
    /// Every version that somebody may still have open: the current ones and those superseded ones
    /// that were not removed yet. Once dropped, a superseded one is removed.
    pub versions: Vec<Arc<Value>>,
    /// The last changes, oldest first.
    pub receipts: Vec<Receipt>,
}

impl Inheritance {
    /// The requests of a mount for which a change was stored, and the keys that they changed.
    pub fn done_for(&self, mount: u64) -> HashMap<u64, Vec<String>> {
        let mut done = HashMap::<_, Vec<_>>::new();
        for receipt in &self.receipts {
            if let Some(origin) = receipt.origin.filter(|of| of.mount == mount) {
                done.entry(origin.unique).or_default().extend(receipt.keys.iter().cloned());
            }
        }
        done
    }
}
