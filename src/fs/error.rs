//! Why a file operation failed.

use std::sync::Arc;

use tokio::sync::oneshot::error::RecvError;

use crate::identity::ResolveError;
use crate::model::{Denial, KeyError};
use crate::vault::VaultError;

use super::files::import::NotApplied;

/// Why a file operation failed. Its text is what `.status/last-error` shows: it names paths and
/// lists, never a value.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FsError {
    /// The vault said no.
    #[error("{0}")]
    Vault(#[from] Arc<VaultError>),
    /// The rules about creating say no.
    #[error("{path}: {denial}")]
    Denied {
        /// The path that was to be created.
        path: String,
        /// What was missing.
        #[source]
        denial: Denial,
    },
    /// Nothing is there.
    #[error("{0}: there is nothing of that name; check the spelling")]
    NotFound(String),
    /// Something that no caller may do.
    #[error("{path}: {what}")]
    Forbidden {
        /// The path.
        path: String,
        /// What is not possible, and what is instead.
        what: &'static str,
    },
    /// access(2) asked for something that no caller has here.
    #[error("{path}: {what}")]
    NoAccess {
        /// The path.
        path: String,
        /// What is not possible, and what is instead.
        what: &'static str,
    },
    /// What was written to a control file is no command of it.
    #[error("{path}: there is no such command; {what}")]
    BadCommand {
        /// The control file.
        path: &'static str,
        /// The commands that there are.
        what: &'static str,
    },
    /// Something is there already.
    #[error("{0}: this exists already; choose another name")]
    Exists(String),
    /// A directory was wanted.
    #[error("{0}: this is not a directory; name a directory")]
    NotDirectory(String),
    /// A directory was not wanted.
    #[error("{0}: this is a directory; name a file in it")]
    IsDirectory(String),
    /// The directory still holds something.
    #[error("{0}: the directory is not empty; remove what is in it first")]
    NotEmpty(String),
    /// The name cannot be a key.
    #[error("{path}: {error}")]
    BadName {
        /// The path as it was written.
        path: String,
        /// The rule that it breaks.
        #[source]
        error: KeyError,
    },
    /// Over 1 MiB.
    #[error("{0}: a value has at most 1 MiB; make it smaller")]
    TooLarge(String),
    /// Over 64 MiB.
    #[error("{0}: a file of documents has at most 64 MiB; split it")]
    DropTooLarge(String),
    /// A file of documents was refused.
    #[error("{path}: nothing was applied: {why}")]
    NotApplied {
        /// The file.
        path: String,
        /// Everything that is wrong.
        why: Arc<NotApplied>,
    },
    /// Too much of something at once.
    #[error("{path}: {what}")]
    TooMany {
        /// The path.
        path: String,
        /// The limit and what to do.
        what: &'static str,
    },
    /// The daemon keeps no more in memory for the user, or for all users together.
    #[error(
        "{path}: {} may hold {limit} MiB of the daemon's memory, and that is in use; \
         close files that you have open and finish what you are writing, then try again",
        if *own { "one user" } else { "all users together" }
    )]
    OutOfMemory {
        /// The path.
        path: String,
        /// The limit that is reached, in MiB.
        limit: usize,
        /// Whether it is that of the user alone.
        own: bool,
    },
    /// This cannot be moved by renaming.
    #[error("{0}: this cannot be moved by renaming; copy it and remove the original")]
    CrossDevice(String),
    /// A directory in which a file is being created.
    #[error("{0}: a new file in this directory is not closed yet; close it, then try again")]
    Busy(String),
    /// There is no such attribute, or it is not supported.
    #[error("there is no such attribute")]
    NoAttribute,
    /// Attributes of this kind are not kept.
    #[error("{0}: attributes of this kind are not supported; leave them out")]
    Unsupported(String),
    /// Another owner has a lock, and the caller does not wait.
    #[error("another process has a lock on the file; try again later")]
    Locked,
    /// Those that have the lock wait for the caller.
    #[error("the processes that have this lock wait for a lock of the caller; release that first")]
    Deadlock,
    /// A signal ended a wait.
    #[error("a signal ended the wait for a lock")]
    Interrupted,
    /// The node was replaced: the kernel looks the path up once more.
    #[error("the file was replaced meanwhile; open it again")]
    Stale,
    /// The process that held what was written was killed.
    #[error(
        "what was written and not yet closed was lost when the daemon was restarted; write it again"
    )]
    Lost,
    /// Every process that worked on the request crashed.
    #[error(
        "the daemon crashed {crashes} times on this request, and does not try it again; \
         please report what its log says of it"
    )]
    Fatal {
        /// How often.
        crashes: u32,
    },
    /// A handle that is not (or no longer) known.
    #[error("the file handle is not known; open the file again")]
    BadHandle,
    /// The caller cannot be resolved.
    #[error("{0}")]
    Identity(#[from] Arc<ResolveError>),
}

/// What an operation waits for is dropped only when the daemon stops.
impl From<RecvError> for FsError {
    fn from(_: RecvError) -> Self {
        VaultError::Stopping.into()
    }
}

impl From<VaultError> for FsError {
    fn from(error: VaultError) -> Self {
        Self::Vault(Arc::new(error))
    }
}

impl From<ResolveError> for FsError {
    fn from(error: ResolveError) -> Self {
        Self::Identity(Arc::new(error))
    }
}

impl FsError {
    /// Whether `.status/last-error` shows the error to the caller. Lookups of what is not there, and the
    /// kernel's own retries, are part of normal operation.
    pub(super) fn is_failure(&self) -> bool {
        !matches!(
            self,
            Self::NotFound(_) | Self::NoAttribute | Self::Stale | Self::Locked | Self::Interrupted
        )
    }
}
