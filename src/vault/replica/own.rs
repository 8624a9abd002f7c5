//! This host's own record in the shared store: what its last transaction was, and for which requests.
//!
//! Every transaction replaces it, and expects the one before. So when an answer is lost, the record tells
//! whether the transaction was carried out, and replacing it sees to it that it is not carried out later.
//! It tells the next process as well: one that dies between the commit there and the one here leaves
//! requests that the kernel sends again, and that must not be made twice.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cluster::{ClusterError, Outcome, Record, Transaction};
use crate::telemetry::request_watchdog;
use crate::vault::{Vault, VaultError};

use super::Replica;
use super::error::ReplicaError;
use super::send::RETRY;
use super::state::State;
use super::wire::{self, Random, random};

/// Which request asked for a change: the mount's number, and the request's in it.
pub(in crate::vault) type Asked = (u64, u64);

/// So long the requests of the process before stay in the record: it may take another death until they
/// are answered.
const CARRIED: Duration = Duration::from_secs(60);
/// And so many.
const MOST_CARRIED: usize = 256;
/// More than the record takes in a transaction, in bytes: it names the requests of a group and those that
/// are carried.
pub(super) const OWN_BYTES: usize = 16 << 10;

/// The record.
#[derive(Default, Serialize, Deserialize)]
struct Own {
    /// No two are the same.
    token: Random,
    /// The requests that it was for.
    asked: Vec<Asked>,
    /// The revision since which that holds, if it is not the record's own.
    since: Option<u64>,
}

/// What the process before this one was asked, and did.
#[derive(Default)]
pub(super) struct Inherited {
    asked: HashSet<Asked>,
    /// All of it holds at this revision.
    since: u64,
    /// Since when it is known.
    known: Option<Instant>,
}

impl Vault {
    /// Whether every host has the change that this request of a mount asked the previous process for. That process
    /// may have died before the change was stored here. Returns within seconds, and once it is here; without a shared
    /// store it never is more than what the [cached replies](crate::vault::CachedReply) tell.
    ///
    /// # Errors
    /// The shared store cannot be reached: the answer is unknown.
    pub fn was_carried_out(&self, mount: u64, unique: u64) -> Result<bool, VaultError> {
        let replica = self.shared.replica.as_ref();
        replica.map_or(Ok(false), |replica| Ok(replica.was_carried_out((mount, unique))?))
    }
}

impl Replica {
    /// Makes a transaction record that it was carried out, and for which requests. Until [`Replica::settled`] it is
    /// not known whether it was.
    pub(super) fn mark(&self, asked: &[Asked], transaction: &mut Transaction) {
        let sealed = self.replace_own(asked, transaction);
        self.state.lock().unresolved = Some(sealed);
    }

    /// The marked transaction was carried out, at that revision, or certainly will not be.
    pub(super) fn settled(&self, revision: Option<u64>) {
        let mut state = self.state.lock();
        state.unresolved = None;
        state.host_revision = revision.unwrap_or(state.host_revision);
    }

    /// If it is not known whether the last transaction was carried out: settles that, and gives its
    /// revision if it was. What takes its place is what the transaction expects of this host's own record,
    /// so that it cannot be carried out later either.
    pub(super) fn settle_last(&self, until: Instant) -> Result<Option<u64>, ReplicaError> {
        loop {
            let Some(sealed) = self.state.lock().unresolved.clone() else { return Ok(None) };
            let mut fence = Transaction::default();
            self.replace_own(&[], &mut fence);
            let found = match self.cluster.commit(&fence) {
                Ok(Outcome::Committed(revision)) => {
                    self.settled(Some(revision));
                    return Ok(None);
                }
                // An earlier fence may have been carried out: then the record is that one's, and the transaction was
                // not. A fence that uses up the last space is carried out, and still gets this error.
                Ok(Outcome::Conflict(_)) | Err(ClusterError::Full { .. }) => self.read_host(),
                Err(error) => Err(error.into()),
            };
            match found {
                Ok(record) => {
                    self.settled(Some(record.as_ref().map_or(0, |record| record.revision)));
                    let own = record.filter(|record| record.sealed == sealed);
                    return Ok(own.map(|record| record.revision));
                }
                Err(error) if Instant::now() + RETRY >= until => {
                    let why = error.to_string();
                    return Err(ClusterError::Unknown { why }.into());
                }
                Err(_) => self.link.pause(RETRY),
            }
        }
    }

    /// What the next transaction is to expect of this host's own record.
    pub(super) fn look_at_own_record(&self) -> Result<(), ReplicaError> {
        self.find_inherited()?;
        let revision = self.read_host()?.map_or(0, |record| record.revision);
        let mut state = self.state.lock();
        // For an unresolved transaction, the old revision shows whether it was carried out.
        if state.unresolved.is_none() {
            state.host_revision = revision;
        }
        Ok(())
    }

    /// Whether the process before this one carried out what that request asked for. Returns within
    /// [`GRACE`](super::link::GRACE) and once that is here; at once for the first process of a mount.
    ///
    /// # Errors
    /// [`ClusterError::Unknown`]: the shared store cannot be asked.
    pub(in crate::vault) fn was_carried_out(&self, asked: Asked) -> Result<bool, ReplicaError> {
        let _waiting = request_watchdog::waiting();
        let since = |state: &State| {
            let inherited = state.inherited.as_ref()?;
            Some(inherited.asked.contains(&asked).then_some(inherited.since))
        };
        let known = since(&self.state.lock());
        let known = match known {
            Some(known) => Some(known),
            None => {
                self.link.wait_up().map_err(|why| ClusterError::Unknown { why })?;
                since(&self.state.lock())
            }
        };
        match known {
            Some(Some(revision)) => {
                self.link.wait_seen(revision);
                Ok(true)
            }
            Some(None) => Ok(false),
            None => Err(ClusterError::Unknown { why: "the daemon is stopping".to_owned() }.into()),
        }
    }

    /// Finds out what the process before this one did last, if that is not known, and sees to it that
    /// nothing of it follows.
    fn find_inherited(&self) -> Result<(), ReplicaError> {
        while self.state.lock().inherited.is_none() {
            let record = self.read_host()?;
            let revision = record.as_ref().map_or(0, |record| record.revision);
            let own = record.and_then(|record| self.open_own(&record)).unwrap_or_default();
            let since = own.since.unwrap_or(revision);
            let kept = Own { token: random(), since: Some(since), asked: own.asked };
            let mut fence = Transaction::default();
            self.put_own(&kept, revision, &mut fence);
            match self.cluster.commit(&fence) {
                // As long as there is no space, nothing is carried out later either.
                Ok(Outcome::Committed(_)) | Err(ClusterError::Full { .. }) => {
                    let asked = kept.asked.into_iter().collect();
                    let inherited = Inherited { asked, since, known: Some(Instant::now()) };
                    self.state.lock().inherited = Some(inherited);
                }
                // What was on its way has arrived.
                Ok(Outcome::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Adds the next own record to a transaction, and gives it.
    fn replace_own(&self, asked: &[Asked], transaction: &mut Transaction) -> Vec<u8> {
        let (own, expected) = {
            let state = self.state.lock();
            let inherited = state.inherited.as_ref();
            let carried = inherited.filter(|it| it.known.is_some_and(|at| at.elapsed() < CARRIED));
            let carried = carried.into_iter().flat_map(|it| &it.asked).take(MOST_CARRIED);
            // What changes no secret is not waited for.
            let since = inherited.filter(|_| asked.is_empty()).map(|it| it.since);
            let asked = asked.iter().chain(carried).copied().collect();
            (Own { token: random(), asked, since }, state.host_revision)
        };
        self.put_own(&own, expected, transaction)
    }

    fn put_own(&self, own: &Own, expected: u64, transaction: &mut Transaction) -> Vec<u8> {
        let name = self.own_name();
        let keyring = self.keyring.read().clone();
        let bytes = postcard::to_stdvec(own).expect("numbers always encode");
        let sealed = self.wire.seal(&keyring, &name, &bytes);
        transaction.expect(&name, expected);
        transaction.put(&name, sealed.clone());
        sealed
    }

    /// None if its key is gone, or an older version left it: nothing follows from it any more.
    fn open_own(&self, record: &Record) -> Option<Own> {
        let keyring = self.keyring.read().clone();
        let bytes = self.wire.open(&keyring, &record.name, &record.sealed).ok()?;
        postcard::from_bytes(bytes.expose()).ok()
    }

    fn read_host(&self) -> Result<Option<Record>, ReplicaError> {
        let name = self.own_name();
        let after = [&name[..], b"\0"].concat();
        Ok(self.cluster.read(&name, &after, None)?.records.pop())
    }

    fn own_name(&self) -> Vec<u8> {
        wire::host_name(&self.state.lock().seen.host)
    }
}
