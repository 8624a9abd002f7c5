//! One secret's lists.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access};

use crate::document::parse_lists;
use crate::model::{Acl, Key, SIDECAR_SUFFIX};

use super::{Client, ClientError, close};

/// How long a change waits for another program's. Anyone in a list can hold the lock, so it is a
/// courtesy between changes and must not be able to prevent one.
const PATIENCE: Duration = Duration::from_secs(2);

impl Client {
    /// The six lists of a secret.
    ///
    /// # Errors
    /// The secret is not there, the caller is in none of its lists, or the mount failed.
    pub(in super::super) fn lists(&self, key: &Key) -> Result<Acl, ClientError> {
        let text = fs::read(self.sidecar_path(key))
            .map_err(self.refused("read the lists of", key.as_str()))?;
        let lists = parse_lists(&text)
            .map_err(|_| ClientError::not_understood(&format!("{key}{SIDECAR_SUFFIX}")))?;
        Ok(Acl::default().patched(&lists))
    }

    /// Replaces the lists that `document` names.
    ///
    /// # Errors
    /// The caller may not change one of them, or the mount failed; nothing has changed.
    pub(in super::super) fn write_sidecar(
        &self,
        key: &Key,
        document: &str,
    ) -> Result<(), ClientError> {
        let written = (|| {
            let mut file =
                OpenOptions::new().write(true).truncate(true).open(self.sidecar_path(key))?;
            file.write_all(document.as_bytes())?;
            close(file)
        })();
        written.map_err(self.refused("change the lists of", key.as_str()))
    }

    /// Keeps other changes by this program away from a sidecar until what it gives is dropped: a
    /// list is read, changed and written, and of two such changes at once one would be lost.
    pub(in super::super) fn lock_sidecar(&self, key: &Key) -> Option<impl Drop + use<>> {
        let path = self.sidecar_path(key);
        let deadline = Instant::now() + PATIENCE;
        let mut file = File::open(&path).ok()?;
        while Instant::now() < deadline {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // Whoever held the lock may have put a new version in this one's place.
                Ok(locked) if is_current(&locked, &path).unwrap_or(true) => return Some(locked),
                Ok(_superseded) => file = File::open(&path).ok()?,
                Err((waiting, _)) => {
                    file = waiting;
                    sleep(Duration::from_millis(10));
                }
            }
        }
        None
    }

    /// Whether the key is that of a secret in one of whose lists the caller is.
    pub(in super::super) fn may_see(&self, key: &Key) -> bool {
        access(&self.sidecar_path(key), AccessFlags::R_OK).is_ok()
    }

    fn sidecar_path(&self, key: &Key) -> PathBuf {
        self.mount.join(format!("{key}{SIDECAR_SUFFIX}"))
    }
}

fn is_current(file: &File, path: &std::path::Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.ino() == fs::symlink_metadata(path)?.ino())
}
