//! How many operations callers asked for, and what became of them.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cluster::ClusterError;
use crate::fs::{FsError, NotApplied};
use crate::vault::{ReplicaError, VaultError};

/// The operations that are counted separately; the last stands for all others.
const OPERATIONS: [&str; 16] = [
    "open", "read", "write", "close", "create", "fsync", "setattr", "unlink", "rename", "mkdir",
    "rmdir", "getxattr", "encrypt", "export", "import", "other",
];

/// What can become of one.
#[derive(Clone, Copy)]
enum Outcome {
    Done,
    Denied,
    NotFound,
    /// The kernel is to look the name up once more.
    Retry,
    /// It cannot be done as it was asked for.
    Refused,
    /// The daemon, the store or a name service is at fault.
    Failed,
}

const OUTCOMES: [&str; 6] = ["ok", "denied", "not_found", "retry", "refused", "failed"];

impl Outcome {
    /// Exhaustive, so that a new error is given its class here: it is [`Outcome::Failed`] if the caller sees EIO,
    /// ENOSPC or ENETUNREACH.
    fn of(error: &FsError) -> Self {
        match error {
            FsError::Vault(error) => Self::of_vault(error),
            FsError::NotApplied { why, .. } => match &**why {
                NotApplied::Documents(_) => Self::Refused,
                NotApplied::Vault(error) => Self::of_vault(error),
                NotApplied::Identity(_) => Self::Failed,
            },
            FsError::Denied { .. } | FsError::NoAccess { .. } => Self::Denied,
            FsError::NotFound(_) | FsError::NoAttribute => Self::NotFound,
            FsError::Stale => Self::Retry,
            FsError::Lost | FsError::Fatal { .. } | FsError::BadHandle | FsError::Identity(_) => {
                Self::Failed
            }
            FsError::Forbidden { .. }
            | FsError::BadCommand { .. }
            | FsError::Exists(_)
            | FsError::NotDirectory(_)
            | FsError::IsDirectory(_)
            | FsError::NotEmpty(_)
            | FsError::BadName { .. }
            | FsError::TooLarge(_)
            | FsError::DropTooLarge(_)
            | FsError::TooMany { .. }
            | FsError::OutOfMemory { .. }
            | FsError::CrossDevice(_)
            | FsError::Busy(_)
            | FsError::Unsupported(_)
            | FsError::Locked
            | FsError::Deadlock
            | FsError::Interrupted => Self::Refused,
        }
    }

    fn of_vault(error: &VaultError) -> Self {
        match error {
            VaultError::Denied { .. }
            | VaultError::AdminOnly { .. }
            | VaultError::IdOfAdmins { .. } => Self::Denied,
            VaultError::NotFound { .. } => Self::NotFound,
            VaultError::Refused(refusals) => {
                refusals.first().map_or(Self::Failed, |first| Self::of_vault(&first.error))
            }
            VaultError::Replica(
                ReplicaError::Busy | ReplicaError::Cluster(ClusterError::TooLarge { .. }),
            ) => Self::Refused,
            VaultError::Store(_)
            | VaultError::NotRecorded(_)
            | VaultError::Replica(_)
            | VaultError::Unseal { .. }
            | VaultError::Incomplete { .. }
            | VaultError::MissingKeys { .. }
            | VaultError::NoThread(_)
            | VaultError::KeyReplaced
            | VaultError::Stopping => Self::Failed,
            VaultError::Exists { .. }
            | VaultError::IsDirectory { .. }
            | VaultError::NotDirectory { .. }
            | VaultError::NotEmpty { .. }
            | VaultError::TooManyToMove { .. }
            | VaultError::BadKey { .. }
            | VaultError::IdTaken { .. }
            | VaultError::Lists { .. }
            | VaultError::ListsTooLong { .. }
            | VaultError::TooManySecrets { .. }
            | VaultError::TooManyBytes { .. }
            | VaultError::NotSealed { .. }
            | VaultError::NotOpened { .. }
            | VaultError::TooLarge { .. }
            | VaultError::Checksum { .. }
            | VaultError::Conflict { .. } => Self::Refused,
        }
    }
}

/// A counter for each operation and outcome.
pub(in crate::fs) struct Operations([[AtomicU64; OUTCOMES.len()]; OPERATIONS.len()]);

impl Default for Operations {
    fn default() -> Self {
        Self(std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))))
    }
}

impl Operations {
    pub(in crate::fs) fn count<T>(&self, operation: &str, outcome: &Result<T, FsError>) {
        let operation = OPERATIONS.iter().position(|name| *name == operation);
        let outcome = outcome.as_ref().map_or_else(Outcome::of, |_| Outcome::Done);
        let counters = &self.0[operation.unwrap_or(OPERATIONS.len() - 1)];
        counters[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counters in the Prometheus text format.
    pub(in crate::fs) fn write_to(&self, text: &mut String) {
        text.push_str(
            "# HELP secretfs_operations_total Operations that callers asked for, by outcome.\n\
             # TYPE secretfs_operations_total counter\n",
        );
        for (operation, counters) in OPERATIONS.iter().zip(&self.0) {
            for (outcome, count) in OUTCOMES.iter().zip(counters) {
                let count = count.load(Ordering::Relaxed);
                writeln!(
                    text,
                    "secretfs_operations_total{{operation=\"{operation}\",outcome=\"{outcome}\"}} {count}"
                )
                .expect("a string takes all");
            }
        }
    }
}
