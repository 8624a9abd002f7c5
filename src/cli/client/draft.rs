//! A value that is being edited: a temporary file of the mount, which is never stored.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::secret::read_value;
use super::{Client, ClientError, close};
use crate::model::{Key, Plaintext};

/// The file. Only the user can see it. It is removed when this is dropped.
pub(in super::super) struct Draft<'a> {
    client: &'a Client,
    path: PathBuf,
    is_kept: bool,
}

impl Client {
    /// A draft of a secret with this value. Its name ends as that of the secret, by which editors tell formats.
    ///
    /// # Errors
    /// The mount failed, or the caller has too many temporary files.
    pub(in super::super) fn draft(
        &self,
        key: &Key,
        value: Option<&Plaintext>,
    ) -> Result<Draft<'_>, ClientError> {
        // The name has the form of a temporary file (contract, section 4), and is short enough for any key.
        let name = key.name();
        let end =
            name.rfind('.').filter(|&dot| name.len() - dot <= 16).map_or("", |dot| &name[dot..]);
        let caller = self.caller()?;
        let directory = match caller.own_slug() {
            _ if caller.is_admin() => "",
            Some(own) => own.as_str(),
            None => key.directory(),
        };
        let path =
            self.mount.join(directory).join(format!(".tmp-edit-{}{end}", std::process::id()));
        let made = (|| {
            // What a process with the same number left is the same user's.
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&path)?;
            file.write_all(value.map_or(&[], Plaintext::expose))?;
            close(file)
        })();
        made.map_err(self.refused("edit", key.as_str()))?;
        Ok(Draft { client: self, path, is_kept: false })
    }
}

impl Draft<'_> {
    pub(in super::super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in the file.
    ///
    /// # Errors
    /// It is longer than a value, or is not there any more.
    pub(in super::super) fn read(&self) -> Result<Plaintext, ClientError> {
        let read = File::open(&self.path).and_then(|mut file| read_value(&mut file));
        read.map_err(self.client.refused("read", &self.path.to_string_lossy()))
    }

    /// Leaves the file where it is, and gives its path.
    pub(in super::super) fn keep(mut self) -> PathBuf {
        self.is_kept = true;
        self.path.clone()
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            // It may have been removed by the editor. Otherwise it is gone at the latest when the mount is.
            let _ = fs::remove_file(&self.path);
        }
    }
}
