//! Why secrets were not moved.

use crate::cluster::ClusterError;
use crate::crypto::OpenError;
use crate::store::StoreError;
use crate::vault::error::{OpenVaultError, VaultError};
use crate::vault::replica::ReplicaError;

/// Why a move did not come to its end. Nothing of the source was changed.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The prefix holds something else.
    #[error(
        "there is something else at the prefix already, and it was left as it is: name another prefix, or remove what is there with etcdctl if nobody needs it"
    )]
    PrefixInUse,
    /// The state directory holds something else.
    #[error(
        "the state directory holds another store already, and it was left as it is: name an empty one with --state-dir"
    )]
    DirectoryInUse,
    /// The destination is the unfinished one of another source.
    #[error(
        "another store's secrets are being moved there, and not all have arrived: finish that with the same `secretfs migrate` where it was begun, or name another destination"
    )]
    OthersUnfinished,
    /// What was read back is not what was moved.
    #[error(
        "{key}: its {what} is not the same on both sides; nobody may change either while secrets are moved: see to that, then run it again"
    )]
    Differs {
        /// The secret.
        key: String,
        /// What differs.
        what: &'static str,
    },
    /// There are more, or fewer, than there should be.
    #[error(
        "{there} secrets arrived of {here}; nobody may change either side while secrets are moved: see to that, then run it again"
    )]
    Count {
        /// In the source.
        here: u64,
        /// In the destination.
        there: u64,
    },
    /// A record does not unseal.
    #[error(
        "a record on etcd does not unseal, and `.status/health` of its hosts tells whose it is; write that secret again there, then run this again: {0}"
    )]
    Unseal(#[source] OpenError),
    /// A record unseals to something that is not a secret.
    #[error(
        "a record on etcd is no secret's, and `.status/health` of its hosts tells whose it is; write that secret again there, then run this again"
    )]
    NoSecret,
    /// Another process moves the same secrets to the same place.
    #[error(
        "another `secretfs migrate` has gone on with this one; wait for its end, then run this again to see whether all is there"
    )]
    Conflict,
    /// etcd could not do it.
    #[error("{0}; then run it again, it goes on where it was")]
    Cluster(#[from] ClusterError),
    /// The shared store is not what it should be.
    #[error("{0}")]
    Replica(ReplicaError),
    /// The store of the state directory could not do it.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A secret cannot be read.
    #[error("{0}")]
    Vault(#[from] VaultError),
    /// The store of the state directory cannot be opened.
    #[error("{0}")]
    Open(#[from] OpenVaultError),
}

impl MigrateError {
    /// Whether what was asked for is at fault, not the system.
    pub fn is_bad_input(&self) -> bool {
        matches!(self, Self::PrefixInUse | Self::DirectoryInUse | Self::OthersUnfinished)
    }
}

impl From<ReplicaError> for MigrateError {
    fn from(error: ReplicaError) -> Self {
        match error {
            ReplicaError::Cluster(error) => Self::Cluster(error),
            error => Self::Replica(error),
        }
    }
}
