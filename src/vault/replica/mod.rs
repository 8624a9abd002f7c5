//! One tree on many hosts: the shared store is authoritative, and the store of this host is its replica.
//!
//! Reads do not depend on it: the replica is a store like any other, with its own numbers of nodes and records. A
//! change is planned as always. Before it is stored here, it becomes one transaction of the shared store, which holds
//! only if nothing that it changes was changed by another host (`send.rs`). Whether it holds can be told afterwards,
//! whatever failed or died (`own.rs`). What others do comes through a watch and goes through the writer thread as a
//! change of its own, whole (`follow.rs`, `receive.rs`). Only this directory seals for the shared store (`wire.rs`).
//! `migrate/` moves a host's own store there, and back.

mod connect;
mod error;
mod follow;
mod large;
mod link;
mod migrate;
mod own;
mod receive;
mod reseal;
mod send;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};

use crate::audit::Revision;
use crate::cluster::Cluster;
use crate::crypto::Keyring;
use crate::model::Timestamp;
use crate::store::Batch;

use super::error::OpenVaultError;
use super::records::{Address, Records, StoreId};

pub use error::ReplicaError;
pub use follow::Observer;
pub use migrate::{MigrateError, Moved, migrate_from};
pub use status::SharingStatus;

pub(super) use follow::Follower;
pub(super) use send::{Sending, Sent, is_current};

use link::Link;
use own::Inherited;
use state::{Seen, State};
use status::Counts;
use wire::Wire;

/// A store that many hosts share, of which this one keeps a replica.
#[derive(Clone)]
pub struct SharedStore {
    /// Where it is.
    pub cluster: Arc<dyn Cluster>,
    /// Whether one is made where there is none.
    pub create: bool,
    /// Whether to start although it cannot be found out at once whether it is there: another process
    /// has served this replica just before.
    pub at_once: bool,
}

/// Whether a store is shared.
#[derive(Clone)]
pub enum Sharing {
    /// It is this host's alone.
    Alone,
    /// It is this host's replica of that.
    With(SharedStore),
    /// It is read, and nothing else: what it is makes no difference.
    OnlyRead,
}

/// Refuses to change a replica without its shared store.
///
/// # Errors
/// It is one.
pub(super) fn check(records: &Records, sharing: &Sharing) -> Result<(), OpenVaultError> {
    match sharing {
        Sharing::Alone if Seen::read(records)?.is_some() => Err(ReplicaError::IsReplica.into()),
        _ => Ok(()),
    }
}

/// What this host has of the shared store.
pub(super) struct Replica {
    cluster: Arc<dyn Cluster>,
    wire: Wire,
    /// That of the records; set together with theirs.
    keyring: RwLock<Arc<Keyring>>,
    state: Mutex<State>,
    link: Arc<Link>,
    pub(super) counts: Counts,
}

impl Replica {
    /// The replica in these records, or a new one if they have none; none if the store is not to be shared.
    ///
    /// # Errors
    /// The records are something else, or the shared store is not the right one. That it cannot be reached is an
    /// error for a new replica alone.
    pub(super) fn open(
        records: &Records,
        sharing: &Sharing,
        revision: &Revision,
    ) -> Result<Option<Self>, OpenVaultError> {
        check(records, sharing)?;
        let Sharing::With(shared) = sharing else { return Ok(None) };
        let seen = match Seen::read(records)? {
            Some(seen) => seen,
            None => Self::begin(records, shared)?,
        };
        let replica = Self {
            cluster: Arc::clone(&shared.cluster),
            wire: Wire(StoreId::from_bytes(seen.store)),
            keyring: RwLock::new(records.keyring()),
            link: Arc::new(Link::new(seen.revision, revision.clone())),
            state: Mutex::new(State::load(records, seen)?),
            counts: Counts::default(),
        };
        if !shared.at_once {
            // No request to an earlier process is repeated here.
            replica.state.lock().inherited = Some(Inherited::default());
            match replica.connect() {
                Err(error) if !error.may_pass() => return Err(error.into()),
                // The follower thread tries again, and reports it.
                Err(_) | Ok(()) => {}
            }
        }
        Ok(Some(replica))
    }

    /// Makes an empty store a replica.
    fn begin(records: &Records, shared: &SharedStore) -> Result<Seen, OpenVaultError> {
        let mut is_empty = true;
        records.scan(&Address::HEADS, &mut |_, _| {
            is_empty = false;
            std::ops::ControlFlow::Break(())
        })?;
        if !is_empty {
            return Err(ReplicaError::HasItsOwn.into());
        }
        let store = connect::find(shared, &records.keyring())?;
        let seen = Seen {
            store: store.to_bytes(),
            host: wire::random(),
            revision: 0,
            at: Timestamp::from(SystemTime::now()).as_nanos(),
            names: 0,
            names_revision: 0,
        };
        let mut batch = Batch::new();
        seen.put(&mut batch);
        records.commit(&batch)?;
        Ok(seen)
    }

    /// Whether nothing has come yet: it is no copy of anything.
    pub(super) fn is_new(&self) -> bool {
        self.link.seen() == 0
    }

    /// All changes of the shared store up to this revision are here.
    pub(super) fn seen(&self) -> u64 {
        self.link.seen()
    }

    /// Seals with another keyring from now on. It was announced before.
    pub(super) fn set_keyring(&self, keyring: Arc<Keyring>) {
        *self.keyring.write() = keyring;
    }

    /// How old it is, in a sentence.
    fn age(&self) -> String {
        let seen = self.state.lock().seen.clone();
        let (revision, when) = (seen.revision, seen.when());
        let age = receive::age(when);
        format!("what is served is of {} ({age} ago, revision {revision})", when.to_rfc3339())
    }
}
