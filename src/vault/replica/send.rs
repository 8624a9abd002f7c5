//! From a change of this host to one transaction of the shared store.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::cluster::{ClusterError, MAX_OPERATIONS, MAX_TRANSACTION_BYTES, Outcome, Transaction};
use crate::model::Plaintext;
use crate::store::{Batch, Change as Stored};
use crate::telemetry::request_watchdog;
use crate::vault::error::VaultError;
use crate::vault::records::secret::{RecordId, Secret, Value};
use crate::vault::records::{Address, CHUNK_BYTES, Records};
use crate::vault::writer::transaction::Change;

use super::Replica;
use super::error::ReplicaError;
use super::link::GRACE;
use super::own::{Asked, OWN_BYTES};
use super::state::{Place, digest_of, put_place};
use super::wire::{self, random};

/// Operations that every transaction has beside those of its secrets: the keys, the names, large
/// changes, the host.
const OWN_OPERATIONS: usize = 4;
/// After what time a lost transaction is asked for again.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// A transaction that was not carried out yet.
pub(in crate::vault) struct Sending {
    transaction: Transaction,
    /// Where the records of its secrets are once it is; their revision is that of the transaction.
    places: Vec<(RecordId, Option<Place>)>,
    /// The number of the newest creation or renaming, if it is one.
    names: Option<u64>,
    /// The requests that it is for.
    asked: Vec<Asked>,
}

/// What became of it.
pub(in crate::vault) enum Sent {
    /// It holds, from this revision on.
    Committed(u64),
    /// A large change is on its way.
    Busy,
    /// Another host was quicker. What it did is here once this revision is, unless it removed
    /// something.
    Conflict(u64),
}

impl Replica {
    /// The transaction that makes these changes everywhere. `batch` holds what is not stored yet, `asked`
    /// the requests of the mount that ask for them.
    ///
    /// # Errors
    /// A value cannot be read.
    pub(in crate::vault) fn plan<'a>(
        &self,
        records: &Records,
        changes: impl Iterator<Item = &'a Change>,
        batch: &Batch,
        asked: Vec<Asked>,
    ) -> Result<Sending, VaultError> {
        let state = self.state.lock();
        let keyring = records.keyring();
        let values = Values::new(records, batch);
        let mut sending =
            Sending { transaction: Transaction::default(), places: Vec::new(), names: None, asked };
        for change in changes {
            let secret = change.after.as_ref().or(change.before.as_ref());
            let Some(record) = secret.map(|secret| secret.record()) else { continue };
            let place = match &change.before {
                Some(_) => state.place(record).ok_or_else(|| lost(record))?,
                None => {
                    Place { id: random(), revision: 0, generation: 0, born: state.seen.names + 1 }
                }
            };
            let name = wire::secret_name(&place.id);
            sending.transaction.expect(&name, place.revision);
            let Some(after) = &change.after else {
                sending.transaction.remove(&name);
                sending.places.push((record, None));
                continue;
            };
            if change.before.as_ref().is_none_or(|before| before.key() != after.key()) {
                sending.names = Some(state.seen.names + 1);
            }
            let place = Place { generation: place.generation + 1, ..place };
            let value = values.read(after.value()).map_err(|error| error.of(after))?;
            let bytes = wire::encode(after, place.generation, place.born, &value);
            let sealed = self.wire.seal(&keyring, &name, bytes.expose());
            sending.transaction.put(&name, sealed);
            sending.places.push((record, Some(place)));
        }
        if let Some(names) = sending.names {
            sending.transaction.expect(wire::NAMES, state.seen.names_revision);
            let number = wire::encode_number(names);
            sending.transaction.put(wire::NAMES, self.wire.seal(&keyring, wire::NAMES, &number));
        }
        Ok(sending)
    }

    /// Carries it out. Returns within [`GRACE`] and the time of a transaction.
    ///
    /// # Errors
    /// [`ClusterError::Unknown`] if it may have been carried out; with any other error it was not.
    pub(in crate::vault) fn send(&self, sending: &Sending) -> Result<Sent, ReplicaError> {
        if self.is_busy() {
            return Ok(Sent::Busy);
        }
        match sending.is_large() {
            true => self.send_large(sending),
            false => self.send_one(&sending.transaction, 0, &sending.asked),
        }
    }

    /// Whether a large change is known to be on its way.
    pub(in crate::vault) fn is_busy(&self) -> bool {
        self.state.lock().order.is_some()
    }

    /// Carries out one transaction, if the record of large changes has that revision.
    pub(super) fn send_one(
        &self,
        transaction: &Transaction,
        order: u64,
        asked: &[Asked],
    ) -> Result<Sent, ReplicaError> {
        let _waiting = request_watchdog::waiting();
        let until = Instant::now() + GRACE;
        self.link.wait_up().map_err(|why| ClusterError::Unreachable { why })?;
        self.settle_last(until)?;
        loop {
            match self.cluster.commit(&self.complete(transaction, order, asked)) {
                Ok(Outcome::Committed(revision)) => {
                    self.settled(Some(revision));
                    return Ok(Sent::Committed(revision));
                }
                Ok(Outcome::Conflict(found)) => {
                    self.settled(None);
                    match self.read_own() {
                        Err(error) if error.may_pass() && Instant::now() + RETRY < until => {
                            self.link.pause(RETRY);
                            continue;
                        }
                        outcome => outcome?,
                    }
                    if found.get(transaction.expected.len()) != Some(&order) {
                        return Ok(Sent::Busy);
                    }
                    let mut expected = transaction.expected.iter().zip(&found);
                    // What comes after them is of the keys and of this host: known again now.
                    if expected.any(|((_, revision), found)| revision != found) {
                        let newest = found.iter().take(transaction.expected.len()).max();
                        return Ok(Sent::Conflict(newest.copied().unwrap_or(0)));
                    }
                    if Instant::now() >= until {
                        let why = "its keys are being changed".to_owned();
                        return Err(ClusterError::Unreachable { why }.into());
                    }
                }
                Err(error @ (ClusterError::Full { .. } | ClusterError::Unknown { .. })) => {
                    if let Some(revision) = self.settle_last(until)? {
                        return Ok(Sent::Committed(revision));
                    }
                    if matches!(error, ClusterError::Full { .. }) {
                        return Err(error.into());
                    }
                }
                Err(error) => {
                    self.settled(None);
                    // One node is gone, and the others are there.
                    let is_away = matches!(error, ClusterError::Unreachable { .. });
                    if !is_away || Instant::now() + RETRY >= until {
                        return Err(error.into());
                    }
                    self.link.pause(RETRY);
                }
            }
        }
    }

    /// What is stored here with the change, and to be called before it is.
    pub(in crate::vault) fn note(&self, sending: &Sending, revision: u64, batch: &mut Batch) {
        for (record, place) in &sending.places {
            let place = place.map(|place| Place { revision, ..place });
            put_place(*record, place.as_ref(), batch);
        }
        if let Some(names) = sending.names {
            let mut seen = self.state.lock().seen.clone();
            (seen.names, seen.names_revision) = (names, revision);
            seen.put(batch);
        }
    }

    /// To be called once that is stored.
    pub(in crate::vault) fn noted(&self, sending: Sending, revision: u64) {
        let mut state = self.state.lock();
        if sending.is_large() {
            state.own_large = revision;
            for change in &sending.transaction.changes {
                let id = wire::parse_secret_name(&change.name);
                if let Some((id, sealed)) = id.zip(change.sealed.as_deref()) {
                    state.add_ahead(id, digest_of(sealed));
                }
            }
        }
        for (record, place) in sending.places {
            state.set(record, place.map(|place| Place { revision, ..place }));
        }
        if let Some(names) = sending.names {
            (state.seen.names, state.seen.names_revision) = (names, revision);
        }
    }

    /// What every transaction of this host has: it fails while a large change is on its way, and if the keys were
    /// changed, and it records the requests that it is for.
    fn complete(&self, transaction: &Transaction, order: u64, asked: &[Asked]) -> Transaction {
        let mut transaction = transaction.clone();
        transaction.expect(wire::ORDER, order);
        let keys = self.state.lock().keys_revision;
        transaction.expect(wire::KEYS, keys);
        self.mark(asked, &mut transaction);
        transaction
    }
}

impl Sending {
    pub(super) fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    pub(super) fn asked(&self) -> &[Asked] {
        &self.asked
    }

    /// Whether it does not fit one transaction.
    pub(in crate::vault) fn is_large(&self) -> bool {
        let Transaction { expected, changes } = &self.transaction;
        let operations = expected.len().max(changes.len()) + OWN_OPERATIONS;
        operations > MAX_OPERATIONS || self.transaction.bytes() > MAX_TRANSACTION_BYTES - OWN_BYTES
    }
}

/// Reads values, of which some are in a batch that is not stored yet.
struct Values<'a> {
    records: &'a Records,
    fresh: HashMap<&'a [u8], &'a [u8]>,
}

impl<'a> Values<'a> {
    fn new(records: &'a Records, batch: &'a Batch) -> Self {
        let fresh = batch.changes().iter().filter_map(|change| match change {
            Stored::Put { address, sealed } => Some((address.as_slice(), sealed.as_slice())),
            Stored::Remove { .. } => None,
        });
        Self { records, fresh: fresh.collect() }
    }

    fn read(&self, value: &Value) -> Result<Plaintext, VaultError> {
        let size = value.size() as usize;
        let first = Address::chunk(value.node(), 0);
        if !self.fresh.contains_key(first.as_bytes()) {
            return self.records.read_value(value, 0, size);
        }
        let incomplete = || VaultError::Incomplete { key: String::new() };
        let mut bytes = Plaintext::with_capacity(size);
        for number in 0..size.div_ceil(CHUNK_BYTES) {
            let number = u16::try_from(number).map_err(|_| incomplete())?;
            let address = Address::chunk(value.node(), number);
            let sealed = self.fresh.get(address.as_bytes()).ok_or_else(incomplete)?;
            let chunk = self.records.unseal(&address, sealed);
            let chunk =
                chunk.map_err(|source| VaultError::Unseal { key: String::new(), source })?;
            bytes.push(chunk.expose());
        }
        Ok(bytes)
    }
}

fn lost(record: RecordId) -> VaultError {
    VaultError::Incomplete { key: format!("record {}", record.as_u64()) }
}

/// Whether a secret is what a plan saw.
pub(in crate::vault) fn is_current(
    now: Option<&std::sync::Arc<Secret>>,
    then: &std::sync::Arc<Secret>,
) -> bool {
    now.is_some_and(|now| std::sync::Arc::ptr_eq(now, then))
}
