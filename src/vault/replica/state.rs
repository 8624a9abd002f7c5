//! What this host knows of the shared store, and keeps beside its secrets.
//!
//! Of each secret: the id and the revision of its record in the shared store. Of the whole: the
//! newest revision that was taken over. All of it is written in the batches whose changes it
//! describes, so a crash leaves both or none.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::crypto::KeyId;
use crate::model::Timestamp;
use crate::store::{Batch, StoreError};
use crate::vault::records::secret::RecordId;
use crate::vault::records::{Address, Records};

use super::large::Order;
use super::own::Inherited;
use super::wire::Random;

/// Distinguishes sealed records, even those that an attacker has made.
pub(super) type Digest = [u8; 32];

pub(super) fn digest_of(sealed: &[u8]) -> Digest {
    Sha256::digest(sealed).into()
}

/// What is known of the whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) store: [u8; 16],
    /// This host's number in the shared store.
    pub(super) host: Random,
    /// All changes up to this one are here; 0 if not everything has come yet.
    pub(super) revision: u64,
    /// When that was so, in nanoseconds since 1970.
    pub(super) at: u64,
    /// The number of the newest creation or renaming that is here.
    pub(super) names: u64,
    /// The revision of the record that holds it.
    pub(super) names_revision: u64,
}

/// What is known of one secret's record.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) id: Random,
    pub(super) revision: u64,
    pub(super) generation: u64,
    pub(super) born: u64,
}

/// Changed by the writer thread alone, but for what is of this host's transactions.
pub(super) struct State {
    pub(super) seen: Seen,
    places: HashMap<RecordId, Place>,
    records: HashMap<Random, RecordId>,
    /// The record `k`, as it was read last.
    pub(super) keys_revision: u64,
    pub(super) key_ids: Vec<KeyId>,
    /// The revision of this host's own record.
    pub(super) host_revision: u64,
    /// This host's own record as the transaction leaves it that is on its way, or of which it is not
    /// known whether it was carried out.
    pub(super) unresolved: Option<Vec<u8>>,
    /// What the process before this one did last; none as long as that is not known.
    pub(super) inherited: Option<Inherited>,
    /// A large change of some host that is on its way: no other is possible. With its revision, and
    /// since when it is known.
    pub(super) order: Option<(Order, u64, Instant)>,
    /// What the large change that is on its way has brought already, by its seal: put in its place it
    /// is the same, and is not unsealed once more.
    ahead: HashMap<Random, Digest>,
    /// The revision of this host's own last large change, once that is stored here.
    pub(super) own_large: u64,
    /// What was refused of what came, a sentence each, by record.
    pub(super) refused: HashMap<Random, String>,
}

impl Seen {
    pub(super) fn read(records: &Records) -> Result<Option<Self>, StoreError> {
        let stored = records.read_raw(&Address::REPLICA)?;
        Ok(stored.and_then(|bytes| postcard::from_bytes(&bytes).ok()))
    }

    pub(super) fn put(&self, batch: &mut Batch) {
        let bytes = postcard::to_stdvec(self).expect("numbers always encode");
        batch.put(Address::REPLICA.as_bytes(), bytes);
    }

    pub(super) fn when(&self) -> Timestamp {
        Timestamp::from_nanos(self.at)
    }
}

/// Adds to `batch` where the record of a secret is; none if it is gone.
pub(super) fn put_place(record: RecordId, place: Option<&Place>, batch: &mut Batch) {
    let address = Address::replicated(record);
    match place {
        Some(place) => {
            let bytes = postcard::to_stdvec(place).expect("numbers always encode");
            batch.put(address.as_bytes(), bytes);
        }
        None => batch.remove(address.as_bytes()),
    }
}

impl State {
    pub(super) fn load(records: &Records, seen: Seen) -> Result<Self, StoreError> {
        let mut state = Self {
            seen,
            places: HashMap::new(),
            records: HashMap::new(),
            keys_revision: 0,
            key_ids: Vec::new(),
            host_revision: 0,
            unresolved: None,
            inherited: None,
            order: None,
            ahead: HashMap::new(),
            own_large: 0,
            refused: HashMap::new(),
        };
        records.scan(&Address::REPLICA, &mut |address, bytes| {
            let place = postcard::from_bytes(bytes).ok();
            if let Some((record, place)) = Address::parse_replicated(address).zip(place) {
                state.set(record, Some(place));
            }
            ControlFlow::Continue(())
        })?;
        Ok(state)
    }

    pub(super) fn place(&self, record: RecordId) -> Option<Place> {
        self.places.get(&record).copied()
    }

    pub(super) fn record(&self, id: &Random) -> Option<RecordId> {
        self.records.get(id).copied()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (RecordId, &Place)> {
        self.places.iter().map(|(record, place)| (*record, place))
    }

    /// Whether that record is what a large change has brought already.
    pub(super) fn came_ahead(&self, id: &Random, sealed: &[u8]) -> bool {
        self.ahead.get(id).is_some_and(|digest| *digest == digest_of(sealed))
    }

    /// A large change has brought that, and it is stored here.
    pub(super) fn add_ahead(&mut self, id: Random, digest: Digest) {
        self.ahead.insert(id, digest);
    }

    /// A large change is on its way, or no more.
    pub(super) fn set_order(&mut self, order: Option<(Order, u64)>) {
        self.order = order.map(|(order, revision)| (order, revision, Instant::now()));
        if self.order.is_none() {
            self.ahead = HashMap::new();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// To be called once that is stored.
    pub(super) fn set(&mut self, record: RecordId, place: Option<Place>) {
        let before = match place {
            Some(place) => {
                self.records.insert(place.id, record);
                self.places.insert(record, place)
            }
            None => self.places.remove(&record),
        };
        if let Some(before) = before.filter(|before| Some(before.id) != place.map(|now| now.id)) {
            self.records.remove(&before.id);
            self.ahead.remove(&before.id);
        }
    }
}
