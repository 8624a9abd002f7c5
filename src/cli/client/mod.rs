//! The mount as its users have it: plain file operations, with the caller's own rights.

mod documents;
mod draft;
mod error;
mod listing;
mod secret;
mod sidecar;
mod status;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::daemon::{is_secretfs, mount_of_user};
use crate::model::Key;

pub(super) use error::ClientError;
pub(super) use listing::Entry;
pub(super) use secret::read_value;

/// A mounted secretfs.
pub(super) struct Client {
    mount: PathBuf,
}

impl Client {
    /// The mount at `mount`.
    ///
    /// # Errors
    /// Nothing is mounted there, something else is, or its daemon is gone.
    pub(super) fn connect(mount: &Path) -> Result<Self, ClientError> {
        let mounted = |path: &Path| {
            is_secretfs(path)
                .map_err(|source| ClientError::Unknown { path: mount.to_owned(), source })
        };
        // Only a mount that answers can be looked at to resolve its path.
        match fs::canonicalize(mount) {
            Ok(path) if mounted(&path)? => Ok(Self { mount: path }),
            Err(_) if mounted(mount)? => Err(ClientError::Dead(mount.to_owned())),
            _ => {
                let own = mount_of_user()
                    .map_err(|source| ClientError::Unknown { path: mount.to_owned(), source })?;
                Err(ClientError::NotMounted { path: mount.to_owned(), own })
            }
        }
    }

    /// Where a secret is.
    pub(super) fn path(&self, key: &Key) -> PathBuf {
        self.mount.join(key.as_str())
    }

    /// Turns a failed operation into an error, with the daemon's own sentence where it has one.
    fn refused<'a>(
        &'a self,
        action: &'static str,
        name: &'a str,
    ) -> impl Fn(io::Error) -> ClientError + 'a {
        move |source| {
            if matches!(source.kind(), ErrorKind::NotConnected | ErrorKind::ConnectionAborted) {
                return ClientError::Dead(self.mount.clone());
            }
            let reason = self.last_error(&source, name);
            ClientError::Refused { action, name: name.to_owned(), source, reason }
        }
    }
}

/// Closes a file and hears what became of it: the daemon answers a commit there, and dropping a
/// [`File`] throws that answer away.
fn close(file: File) -> io::Result<()> {
    nix::unistd::close(OwnedFd::from(file)).map_err(io::Error::from)
}
