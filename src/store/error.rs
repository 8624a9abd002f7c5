//! Why the store could not do it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{MAX_ADDRESS_BYTES, MAX_RECORD_BYTES};

/// What went wrong in the store. It names paths, never what a record holds.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No room for this batch; readers go on, and later commits succeed once there is room.
    #[error("the file system of the state directory is full: free some space there and try again")]
    Full,
    /// Another process has the store open.
    #[error("another daemon uses the state directory {}: stop it, or choose another --state-dir", .path.display())]
    Locked {
        /// The state directory.
        path: PathBuf,
    },
    /// Others than the owner may enter the state directory.
    #[error("others may enter the state directory {path} (mode {mode:04o}): run chmod 0700 {path}", path = .path.display())]
    Unsafe {
        /// The state directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The state directory belongs to another user.
    #[error("the state directory {path} belongs to UID {owner}, and this runs as UID {user}: run chown {user} {path}, or choose another --state-dir", path = .path.display())]
    Owner {
        /// The state directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// The effective UID of this process.
        user: u32,
    },
    /// Root does not work in a directory where another user could lead it elsewhere.
    #[error("root does not work in a state directory with {path} in it, since {what}, which the directory's user may have made to lead root elsewhere: look at it and remove it", path = .path.display())]
    Planted {
        /// What lies there.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The state directory is a file, a symbolic link or something else.
    #[error("{} is not a directory: choose another --state-dir", .path.display())]
    NotADirectory {
        /// What was given as the state directory.
        path: PathBuf,
    },
    /// A record that the caller should have cut into chunks.
    #[error(
        "a record of {bytes} bytes is over the {MAX_RECORD_BYTES} that the store takes: cut it into chunks"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// An address that the caller should have hashed.
    #[error(
        "an address of {bytes} bytes is over the {MAX_ADDRESS_BYTES} that the store takes: hash it"
    )]
    AddressTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The files are damaged, or another version made them.
    #[error("the store in {} cannot be used ({reason}): restore a backup into an empty state directory", .path.display())]
    Corrupt {
        /// The state directory.
        path: PathBuf,
        /// What the backend says.
        reason: String,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}; check the disk and the directory's permissions", .path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
}

impl StoreError {
    /// Whether the same commit can succeed later without anyone repairing the store.
    pub fn is_full(&self) -> bool {
        matches!(self, StoreError::Full)
    }

    /// ENOSPC and EDQUOT are [`StoreError::Full`], the rest is [`StoreError::Io`].
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
            _ => StoreError::Io { action, path: path.to_owned(), source: Arc::new(source) },
        }
    }
}
