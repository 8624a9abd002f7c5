//! Why this host is not what the shared store is.

use crate::cluster::ClusterError;
use crate::crypto::{KeyId, OpenError};
use crate::store::StoreError;
use crate::vault::error::needed;

/// Why a replica does not open, does not go on, or does not take a change.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReplicaError {
    /// etcd could not do it.
    #[error("{0}")]
    Cluster(#[from] ClusterError),
    /// The local store could not do it.
    #[error("what came from etcd cannot be stored: {0}")]
    Store(#[from] StoreError),
    /// Nothing is at the prefix.
    #[error(
        "there is no store at the prefix of --store: correct the prefix, or make a store there with --create-store"
    )]
    NoStore,
    /// A move there was interrupted.
    #[error(
        "a host's secrets are being moved to the prefix of --store, and not all are there: run the same `secretfs migrate` on that host again until it says that it is done"
    )]
    Unfinished,
    /// Another store is at the prefix.
    #[error(
        "the state directory is the replica of another store than the one at the prefix of --store: correct the prefix, or choose another --state-dir"
    )]
    OtherStore,
    /// The state directory holds secrets of its own.
    #[error(
        "the state directory has secrets that are on this host alone: move them to etcd with `secretfs migrate --to`, then choose an empty --state-dir"
    )]
    HasItsOwn,
    /// The state directory is a replica, and is opened without its store.
    #[error(
        "the state directory is the replica of a store on etcd, which a change here would not reach: name it with --store, or choose another --state-dir"
    )]
    IsReplica,
    /// Another key made the store.
    #[error(
        "the store on etcd was made with another encryption key (its key id is {}, the given one's {given}); give the key that made it, or put it into --previous-encryption-key-file",
        .store.map_or_else(|| "unreadable".to_owned(), |id| id.to_string())
    )]
    OtherKey {
        /// The id of the key that made it, as far as it can be read.
        store: Option<KeyId>,
        /// The id of the key that was given.
        given: KeyId,
    },
    /// Records are sealed with keys that are not given.
    #[error("etcd: {}", needed(missing))]
    MissingKeys {
        /// The ids of these keys.
        missing: Vec<KeyId>,
    },
    /// Another version made the store.
    #[error(
        "the store on etcd has a format that this version does not know; use the version that wrote it on every host"
    )]
    UnknownFormat,
    /// A record of the shared store itself is no such record.
    #[error(
        "a record of the store on etcd does not unseal ({0}); put it back from a snapshot of etcd"
    )]
    Unseal(OpenError),
    /// What is in etcd is older than what this host has seen.
    #[error(
        "etcd is at revision {now}, and this host has seen {seen}: an older state was put in its place. Nothing of it is taken over; if it was restored on purpose, start with an empty state directory"
    )]
    RolledBack {
        /// The newest that was seen.
        seen: u64,
        /// Where it is.
        now: u64,
    },
    /// Two records claim one name or id.
    #[error("two records on etcd have the name {key}; remove one of them")]
    Clash {
        /// The name.
        key: String,
    },
    /// A large change met another one.
    #[error(
        "a large file and changes of another host came at the same moment; try again in a moment"
    )]
    Busy,
    /// The daemon is stopping.
    #[error("the daemon is stopping; try again once it is back")]
    Stopping,
}

impl ReplicaError {
    /// Whether the same may succeed later without a change of settings.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Cluster(error) => error.may_pass(),
            Self::Store(_) | Self::Busy | Self::Stopping => true,
            _ => false,
        }
    }
}
