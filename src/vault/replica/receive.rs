//! From a change of another host to a change of this one.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::cluster::Change as Sealed;
use crate::crypto::{Keyring, OpenError};
use crate::model::Timestamp;
use crate::vault::records::secret::{RecordId, Secret, Value};
use crate::vault::writer::transaction::{Change, Transaction, now};

use super::Replica;
use super::error::ReplicaError;
use super::large::Order;
use super::state::{Digest, Place, Seen, digest_of, put_place};
use super::wire::{self, Random};

/// What came: of each record the newest alone.
#[derive(Default)]
pub(super) struct Received {
    secrets: BTreeMap<Random, Came>,
    names: Option<(u64, u64)>,
    /// A large change that is on its way since, or is not any more.
    pub(super) order: Option<Option<(Order, u64)>>,
    /// All up to this revision is here with it; none if there is more of it to come.
    pub(super) revision: Option<u64>,
    /// Whether it is all that there is: a secret that is not in it is gone.
    is_all: bool,
}

struct Came {
    revision: u64,
    what: What,
    /// Of what has not been put in its place yet.
    digest: Option<Digest>,
}

enum What {
    Secret(Box<wire::Sent>),
    Nothing,
    /// What came ahead is in its place now.
    Same,
    /// It does not unseal, and why.
    Damaged(String),
}

/// What the writer makes of it, to be taken note of once it is stored.
#[derive(Default)]
pub(super) struct Taken {
    places: Vec<(RecordId, Option<Place>)>,
    refused: Vec<(Random, Option<String>)>,
    ahead: Vec<(Random, Digest)>,
    order: Option<Option<(Order, u64)>>,
    seen: Option<Seen>,
}

impl Received {
    /// With it, all up to this revision is here.
    pub(super) fn up_to(revision: u64) -> Self {
        Self { revision: Some(revision), ..Self::default() }
    }

    /// The beginning of what was read at one moment: of all that there is, or of what is added.
    pub(super) fn snapshot(is_all: bool) -> Self {
        Self { is_all, ..Self::default() }
    }

    /// Adds a record that has not been put in its place yet, if what is there is not newer.
    ///
    /// # Errors
    /// As for [`Received::add`].
    pub(super) fn add_ahead(
        &mut self,
        replica: &Replica,
        keyring: &Keyring,
        revision: u64,
        change: &Sealed,
    ) -> Result<(), ReplicaError> {
        let mut ahead = Self::default();
        ahead.add(replica, keyring, revision, change)?;
        let generation = |came: &Came| match &came.what {
            What::Secret(sent) => sent.generation,
            What::Nothing | What::Same | What::Damaged(_) => 0,
        };
        for (id, came) in ahead.secrets {
            let known = self.secrets.get(&id).map(generation);
            if known.is_none_or(|known| known < generation(&came)) {
                let digest = change.sealed.as_deref().map(digest_of);
                self.secrets.insert(id, Came { digest, ..came });
            }
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.secrets.len()
    }

    /// Adds a change, unsealed.
    ///
    /// # Errors
    /// The key is not here, or it is one of the store itself and does not unseal.
    pub(super) fn add(
        &mut self,
        replica: &Replica,
        keyring: &Keyring,
        revision: u64,
        change: &Sealed,
    ) -> Result<(), ReplicaError> {
        let open = |sealed: &[u8]| match replica.wire.open(keyring, &change.name, sealed) {
            Err(OpenError::UnknownKey(id)) => Err(ReplicaError::MissingKeys { missing: vec![id] }),
            outcome => Ok(outcome),
        };
        if let Some(id) = wire::parse_secret_name(&change.name) {
            // Once the large change is over, what it brought is like anything else.
            let same = |sealed: &[u8]| {
                self.order != Some(None) && replica.state.lock().came_ahead(&id, sealed)
            };
            let what = match &change.sealed {
                None => What::Nothing,
                Some(sealed) if same(sealed) => What::Same,
                Some(sealed) => match open(sealed)? {
                    Ok(bytes) => wire::decode(&bytes).map_or_else(
                        || What::Damaged("it is not a secret's".to_owned()),
                        |sent| What::Secret(Box::new(sent)),
                    ),
                    Err(error) => What::Damaged(error.to_string()),
                },
            };
            self.secrets.insert(id, Came { revision, what, digest: None });
        } else if change.name == wire::ORDER {
            let order = change
                .sealed
                .as_deref()
                .map(|bytes| Order::parse(bytes).ok_or(ReplicaError::UnknownFormat));
            self.order = Some(order.transpose()?.map(|order| (order, revision)));
        } else if change.name == wire::NAMES
            && let Some(sealed) = &change.sealed
        {
            let bytes = open(sealed)?.map_err(ReplicaError::Unseal)?;
            let number = wire::decode_number(bytes.expose()).ok_or(ReplicaError::UnknownFormat)?;
            self.names = Some((number, revision));
        }
        Ok(())
    }

    /// Runs on the writer thread.
    pub(super) fn plan(
        &self,
        replica: &Replica,
        transaction: &mut Transaction<'_>,
    ) -> Result<Taken, ReplicaError> {
        let mut taken = Taken::default();
        for (id, came) in &self.secrets {
            self.plan_one(replica, transaction, &mut taken, id, came);
        }
        let state = replica.state.lock();
        if self.is_all {
            // What this host itself has added since is not in it.
            let until = self.revision.unwrap_or(0);
            let gone = state.all().filter(|(_, place)| {
                place.revision <= until && !self.secrets.contains_key(&place.id)
            });
            gone.for_each(|(record, _)| remove(transaction, &mut taken, record));
        }
        let mut seen = state.seen.clone();
        drop(state);
        if let Some((number, revision)) = self.names
            && revision > seen.names_revision
        {
            // An older number would let removed records come back.
            if number < seen.names {
                return Err(ReplicaError::RolledBack { seen: seen.names, now: number });
            }
            (seen.names, seen.names_revision) = (number, revision);
        }
        if let Some(revision) = self.revision {
            seen.revision = seen.revision.max(revision);
            seen.at = Timestamp::from(std::time::SystemTime::now()).as_nanos();
        }
        check_names(transaction)?;
        seen.put(&mut transaction.batch);
        taken.seen = Some(seen);
        taken.order = self.order;
        Ok(taken)
    }

    fn plan_one(
        &self,
        replica: &Replica,
        transaction: &mut Transaction<'_>,
        taken: &mut Taken,
        id: &Random,
        came: &Came,
    ) {
        let state = replica.state.lock();
        let record = state.record(id);
        let place = record.and_then(|record| state.place(record));
        let names = state.seen.names;
        drop(state);
        if place.is_some_and(|place| came.revision <= place.revision) {
            return;
        }
        let sent = match &came.what {
            What::Secret(sent) => sent,
            What::Nothing => {
                if let Some(record) = record {
                    remove(transaction, taken, record);
                }
                return taken.refused.push((*id, None));
            }
            What::Same => {
                if let Some((record, place)) = record.zip(place) {
                    keep(
                        transaction,
                        taken,
                        id,
                        record,
                        Place { revision: came.revision, ..place },
                    );
                }
                return;
            }
            What::Damaged(why) => {
                return refuse(transaction, taken, id, record.zip(place), came.revision, why);
            }
        };
        match (record.zip(place), transaction.with_record(record)) {
            (Some((record, place)), before) if sent.generation <= place.generation => {
                // Sealed anew with another key, it is the same; an older one is not taken.
                let is_same = sent.generation == place.generation && before.is_some();
                if is_same {
                    taken.ahead.extend(came.digest.map(|digest| (*id, digest)));
                    let place = Place { revision: came.revision, ..place };
                    return keep(transaction, taken, id, record, place);
                }
                let why = "it is older than what was here before";
                refuse(transaction, taken, id, Some((record, place)), came.revision, why);
            }
            (None, _) if sent.born <= names => {
                let why = "it was removed before, and came back";
                refuse(transaction, taken, id, None, came.revision, why);
            }
            (known, before) => {
                let record = known.map(|(record, _)| record);
                let record = record.unwrap_or_else(|| transaction.new_record());
                let place = Place {
                    id: *id,
                    revision: came.revision,
                    generation: sent.generation,
                    born: sent.born,
                };
                transaction.take_over(record, before, sent);
                taken.ahead.extend(came.digest.map(|digest| (*id, digest)));
                keep(transaction, taken, id, record, place);
            }
        }
    }
}

/// It is what is at that place.
fn keep(
    transaction: &mut Transaction<'_>,
    taken: &mut Taken,
    id: &Random,
    record: RecordId,
    place: Place,
) {
    put_place(record, Some(&place), &mut transaction.batch);
    taken.places.push((record, Some(place)));
    taken.refused.push((*id, None));
}

fn remove(transaction: &mut Transaction<'_>, taken: &mut Taken, record: RecordId) {
    if let Some(before) = transaction.by_record(record) {
        transaction.remove(before);
    }
    put_place(record, None, &mut transaction.batch);
    taken.places.push((record, None));
}

/// What was here stays, and the next change of it that this host makes takes the place of the other.
fn refuse(
    transaction: &mut Transaction<'_>,
    taken: &mut Taken,
    id: &Random,
    known: Option<(RecordId, Place)>,
    revision: u64,
    why: &str,
) {
    let mut what = "a secret that is not here".to_owned();
    if let Some((record, place)) = known {
        let place = Place { revision, ..place };
        put_place(record, Some(&place), &mut transaction.batch);
        taken.places.push((record, Some(place)));
        if let Some(secret) = transaction.by_record(record) {
            what = secret.key().to_string();
        }
    }
    let why = format!("{what}: a record on etcd is not taken over ({why}); write the secret again");
    taken.refused.push((*id, Some(why)));
}

/// A name or id that two records have would leave one of them without.
fn check_names(transaction: &Transaction<'_>) -> Result<(), ReplicaError> {
    let changed: HashSet<RecordId> = transaction
        .changes
        .iter()
        .filter_map(|change| change.before.as_ref().map(|before| before.record()))
        .collect();
    let (mut keys, mut ids) = (HashSet::new(), HashSet::new());
    let afters = || transaction.changes.iter().filter_map(|change| change.after.as_ref());
    for after in afters() {
        let stays = |other: Option<Arc<Secret>>| {
            other.is_some_and(|other| !changed.contains(&other.record()))
        };
        let is_taken = stays(transaction.by_key(after.key().as_str()))
            || stays(transaction.by_id(after.id()))
            || !keys.insert(after.key())
            || !ids.insert(after.id());
        if is_taken {
            return Err(ReplicaError::Clash { key: after.key().to_string() });
        }
    }
    Ok(())
}

impl Replica {
    /// To be called once what was taken is stored. Gives what is refused now, if that is another
    /// thing than before.
    pub(super) fn took(&self, taken: Taken) -> Option<Vec<String>> {
        let mut state = self.state.lock();
        for (record, place) in taken.places {
            state.set(record, place);
        }
        let mut differs = false;
        for (id, why) in taken.refused {
            let before = match &why {
                Some(why) => state.refused.insert(id, why.clone()),
                None => state.refused.remove(&id),
            };
            differs |= before != why;
        }
        if let Some(order) = taken.order {
            state.set_order(order);
        }
        if state.order.is_some() {
            taken.ahead.into_iter().for_each(|(id, digest)| state.add_ahead(id, digest));
        }
        if let Some(seen) = taken.seen {
            self.link.set_seen(seen.revision);
            state.seen = seen;
        }
        differs.then(|| state.refused.values().cloned().collect())
    }
}

impl Transaction<'_> {
    fn with_record(&self, record: Option<RecordId>) -> Option<Arc<Secret>> {
        self.by_record(record?)
    }

    fn new_record(&self) -> RecordId {
        RecordId(self.shared.index.write().next_node())
    }

    /// What another host made of a secret. The value that is here stays if it is the same version.
    fn take_over(&mut self, record: RecordId, before: Option<Arc<Secret>>, sent: &wire::Sent) {
        let kept = before.as_ref().map(|before| before.value());
        let kept = kept.filter(|value| value.version() == sent.version).map(Arc::clone);
        let value = kept.unwrap_or_else(|| {
            let node = self.shared.index.write().next_node();
            self.shared.records.seal_chunks(node, &sent.value, &mut self.batch);
            if let Some(before) = &before {
                before.value().tombstone().mark(&mut self.batch);
            }
            Arc::new(Value {
                record,
                version: sent.version,
                node,
                size: u32::try_from(sent.value.len()).expect("a value has at most 1 MiB"),
                updated: sent.updated,
                updated_by: sent.updated_by.clone(),
                superseded: AtomicBool::new(false),
                garbage: Arc::clone(&self.shared.garbage),
            })
        });
        let acl = self.shared.intern(sent.acl.clone());
        let (key, id) = (sent.key.clone(), sent.id.clone());
        let secret = Secret { key, id, acl, created: sent.created, value };
        let (address, sealed) = self.shared.records.seal_metadata(&secret);
        self.batch.put(address.as_bytes(), sealed);
        self.changes.push(Change { before, after: Some(Arc::new(secret)) });
    }
}

/// When that was, for a sentence.
pub(super) fn age(at: Timestamp) -> String {
    let seconds = now().as_nanos().saturating_sub(at.as_nanos()) / 1_000_000_000;
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
