//! Why the shared store could not do it.

use serde::{Deserialize, Serialize};

use super::{MAX_OPERATIONS, MAX_TRANSACTION_BYTES};

/// What went wrong with the shared store. It names hosts, never what a record holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ClusterError {
    /// Nobody answers. Nothing was changed.
    #[error(
        "etcd cannot be reached ({why}): check the network and the addresses of --store; what is stored here is served meanwhile"
    )]
    Unreachable {
        /// What the connection says.
        why: String,
    },
    /// The answer to a transaction was lost: it may have been carried out.
    #[error(
        "etcd did not answer in time ({why}), so it is not known whether the change was stored: look whether it is there once etcd answers, or make it again"
    )]
    Unknown {
        /// What the connection says.
        why: String,
    },
    /// It does not let this host in, or not to this prefix.
    #[error(
        "etcd refuses this host ({why}): check --etcd-user, its password file and its rights to the prefix of --store, and the certificates"
    )]
    Denied {
        /// What it says.
        why: String,
    },
    /// Its quota is used up.
    #[error(
        "etcd has no space left ({why}): compact and defragment it or raise its quota, then clear its alarm"
    )]
    Full {
        /// What it says.
        why: String,
    },
    /// The change is larger than one transaction may be.
    #[error(
        "a change of {operations} operations and {bytes} bytes is over the {MAX_OPERATIONS} operations and {MAX_TRANSACTION_BYTES} bytes that etcd takes at once: make it in parts"
    )]
    TooLarge {
        /// Its operations.
        operations: usize,
        /// Its bytes.
        bytes: usize,
    },
    /// What happened that long ago is not known any more.
    #[error(
        "etcd does not know any more what happened before revision {revision}: everything is read anew"
    )]
    Compacted {
        /// The oldest that it knows.
        revision: u64,
    },
    /// A file with a certificate, a key or a password cannot be used.
    #[error("{path} cannot be used ({why}): name the right file")]
    File {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// The address is not one.
    #[error(
        "`{address}` is not the address of a store ({why}): write etcd://HOST[:PORT][,HOST…]/PREFIX"
    )]
    Address {
        /// What was given.
        address: String,
        /// What is wrong.
        why: String,
    },
    /// This program was built without it.
    #[error(
        "this program was built without etcd: build it with `cargo build --features etcd`, or leave --store out"
    )]
    NotBuilt,
    /// It answers what makes no sense.
    #[error("etcd answers with an error ({why}): look into its log")]
    Other {
        /// What it says.
        why: String,
    },
}

impl ClusterError {
    /// Whether the same may succeed later without anybody changing a setting.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Unknown { .. }
            | Self::Full { .. }
            | Self::Compacted { .. }
            | Self::Other { .. } => true,
            Self::Denied { .. }
            | Self::TooLarge { .. }
            | Self::File { .. }
            | Self::Address { .. }
            | Self::NotBuilt => false,
        }
    }
}
