//! A change that is too large for one transaction, and holds whole or not at all.
//!
//! The record `o` is put first: as long as it is there, no other transaction is carried out, since
//! each expects that it is not. The new records are stored ahead, in packs, sealed to the names that
//! they will have. Then one transaction turns `o` from a claim to an order: with it the whole change
//! holds, at one revision, and every host takes it over whole. After that the records are put in
//! their places, a pack at a time, and `o` is removed. All that takes no key: where the host that
//! began it does not go on, another one does.
//!
//! | name | content |
//! | --- | --- |
//! | `o` | a large change on its way, in the clear |
//! | `t/` change pack | records with their names, sealed |

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::cluster::{
    Change, Cluster, ClusterError, MAX_OPERATIONS, MAX_TRANSACTION_BYTES, Outcome, Transaction,
};
use crate::telemetry::request_watchdog;

use super::Replica;
use super::error::ReplicaError;
use super::send::{Sending, Sent};
use super::wire::{self, Random, random};

/// A pack has at most so many records: moving it takes an operation for each and a few others.
const PACK_RECORDS: usize = MAX_OPERATIONS - 8;
/// Or this many bytes, unless one record has more.
const PACK_BYTES: usize = MAX_TRANSACTION_BYTES / 3;

/// The record `o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    /// The host that gave it.
    pub(super) host: Random,
    /// The number of the change.
    change: Random,
    /// Whether the change holds.
    pub(super) holds: bool,
}

impl Order {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    fn to_bytes(self) -> Vec<u8> {
        postcard::to_stdvec(&self).expect("numbers always encode")
    }

    /// The packs lie from the first of these names on and before the second.
    fn packs(&self) -> (Vec<u8>, Vec<u8>) {
        let first = wire::pack_name(&self.change, 0);
        let last = wire::pack_name(&self.change, u32::MAX);
        (first, last)
    }
}

/// A record in a pack.
#[derive(Serialize, Deserialize)]
struct Packed {
    name: Vec<u8>,
    sealed: Option<Vec<u8>>,
}

impl Replica {
    /// Carries out what is too large for one transaction.
    ///
    /// # Errors
    /// As [`Replica::send`]. What was staged is removed by the next large change.
    pub(super) fn send_large(&self, sending: &Sending) -> Result<Sent, ReplicaError> {
        let _waiting = request_watchdog::waiting();
        let host = self.state.lock().seen.host;
        let order = Order { host, change: random(), holds: false };
        let mut claim = Transaction::default();
        claim.put(wire::ORDER, order.to_bytes());
        let claimed = match self.send_one(&claim, 0, &[])? {
            Sent::Committed(revision) => revision,
            other => return Ok(other),
        };
        let outcome = self.stage(sending, order, claimed);
        if !matches!(
            outcome,
            Ok(Sent::Committed(_)) | Err(ReplicaError::Cluster(ClusterError::Unknown { .. }))
        ) {
            self.withdraw(claimed);
        }
        outcome
    }

    fn stage(&self, sending: &Sending, order: Order, claimed: u64) -> Result<Sent, ReplicaError> {
        // From here on no host changes anything: the expected revisions are checked only once.
        if let Some(newest) = self.newest_unexpected(sending)? {
            return Ok(Sent::Conflict(newest));
        }
        self.remove_leftovers()?;
        let (names, records): (Vec<_>, Vec<_>) =
            sending.transaction().changes.iter().partition(|change| change.name == wire::NAMES);
        for (number, pack) in (0..).zip(packs(&records)) {
            let bytes = postcard::to_stdvec(&pack).expect("bytes always encode");
            let mut transaction = Transaction::default();
            transaction.expect(wire::ORDER, claimed);
            transaction.put(&wire::pack_name(&order.change, number), bytes);
            match self.cluster.commit(&transaction) {
                Ok(Outcome::Committed(_)) => {}
                Ok(Outcome::Conflict(_)) => return Err(taken_for_dead()),
                // Whether the pack is there or not: nothing holds yet.
                Err(ClusterError::Unknown { why }) => {
                    return Err(ClusterError::Unreachable { why }.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut switch = Transaction::default();
        switch.put(wire::ORDER, Order { holds: true, ..order }.to_bytes());
        switch.changes.extend(names.into_iter().cloned());
        match self.send_one(&switch, claimed, sending.asked())? {
            Sent::Conflict(_) | Sent::Busy => Err(taken_for_dead()),
            committed => Ok(committed),
        }
    }

    /// The newest revision of what is not as expected, if something is not.
    fn newest_unexpected(&self, sending: &Sending) -> Result<Option<u64>, ReplicaError> {
        let mut now: HashMap<Vec<u8>, u64> = HashMap::new();
        let mut from = wire::NAMES.to_vec();
        loop {
            let page = self.cluster.list(&from, wire::LAST)?;
            let Some(end) = page.records.last() else { break };
            from = [&end.name[..], b"\0"].concat();
            now.extend(page.records.into_iter().map(|record| (record.name, record.revision)));
            if !page.more {
                break;
            }
        }
        let expected = sending.transaction().expected.iter();
        let found = expected.map(|(name, wanted)| (now.get(name).copied().unwrap_or(0), *wanted));
        let wrong = found.filter(|(found, wanted)| found != wanted);
        Ok(wrong.map(|(found, _)| found).max())
    }

    /// Removes packs that an earlier change has left.
    fn remove_leftovers(&self) -> Result<(), ReplicaError> {
        let (first, last) = wire::packs();
        loop {
            let page = self.cluster.list(first, last)?;
            for some in page.records.chunks(PACK_RECORDS) {
                let mut removal = Transaction::default();
                some.iter().for_each(|record| removal.remove(&record.name));
                self.cluster.commit(&removal)?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Takes a claim back. Where that fails, another host does it after a while.
    pub(super) fn withdraw(&self, claimed: u64) {
        let mut removal = Transaction::default();
        removal.expect(wire::ORDER, claimed);
        removal.remove(wire::ORDER);
        if let Err(error) = self.cluster.commit(&removal) {
            tracing::warn!(%error, "a large change was given up, and holds up others for a moment");
        }
    }

    /// Puts all that an order brings in its places, and removes the order. Several hosts may do it at
    /// once.
    pub(super) fn settle(&self, order: &Order, revision: u64) -> Result<(), ReplicaError> {
        let (first, until) = order.packs();
        loop {
            let page = self.cluster.read(&first, &until, None)?;
            for record in &page.records {
                let mut transaction = Transaction::default();
                transaction.expect(&record.name, record.revision);
                transaction.remove(&record.name);
                for Packed { name, sealed } in unpack(&record.sealed)? {
                    transaction.changes.push(Change { name, sealed });
                }
                // A conflict: another host has put it in its place.
                self.cluster.commit(&transaction)?;
            }
            if !page.more {
                break;
            }
        }
        let mut done = Transaction::default();
        done.expect(wire::ORDER, revision);
        done.remove(wire::ORDER);
        self.cluster.commit(&done)?;
        Ok(())
    }
}

/// All that an order brings, as it was at that revision.
pub(super) fn read_order(
    cluster: &dyn Cluster,
    order: &Order,
    revision: u64,
    show: &mut dyn FnMut(Change) -> Result<(), ReplicaError>,
) -> Result<(), ReplicaError> {
    let (mut from, until) = order.packs();
    loop {
        let page = cluster.read(&from, &until, Some(revision))?;
        let Some(end) = page.records.last() else { return Ok(()) };
        from = [&end.name[..], b"\0"].concat();
        for record in page.records {
            for Packed { name, sealed } in unpack(&record.sealed)? {
                show(Change { name, sealed })?;
            }
        }
        if !page.more {
            return Ok(());
        }
    }
}

/// Another host has taken the claim away.
fn taken_for_dead() -> ReplicaError {
    let why = "storing a large file took so long that another host gave it up".to_owned();
    ClusterError::Unreachable { why }.into()
}

fn packs(records: &[&Change]) -> Vec<Vec<Packed>> {
    let (mut packs, mut bytes) = (vec![Vec::new()], 0);
    for record in records {
        let size = record.name.len() + record.sealed.as_ref().map_or(0, Vec::len);
        let last = packs.last().map_or(0, Vec::len);
        if last >= PACK_RECORDS || (last > 0 && bytes + size > PACK_BYTES) {
            packs.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        let (name, sealed) = (record.name.clone(), record.sealed.clone());
        packs.last_mut().expect("there is one").push(Packed { name, sealed });
    }
    packs
}

fn unpack(bytes: &[u8]) -> Result<Vec<Packed>, ReplicaError> {
    postcard::from_bytes(bytes).map_err(|_| ReplicaError::UnknownFormat)
}
