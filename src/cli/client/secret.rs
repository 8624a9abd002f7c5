//! One secret: its value.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use nix::fcntl::OFlag;
use nix::unistd::{AccessFlags, access};
use zeroize::Zeroizing;

use crate::model::{Key, MAX_VALUE_BYTES, Plaintext};

use super::{Client, ClientError, close};

/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

impl Client {
    /// The value of a secret.
    ///
    /// # Errors
    /// It is not there, the caller may not read it, or the mount failed.
    pub(in super::super) fn read(&self, key: &Key) -> Result<Plaintext, ClientError> {
        File::open(self.path(key))
            .and_then(|mut file| read_value(&mut file))
            .map_err(self.refused("read", key.as_str()))
    }

    /// What differs between the committed values of a secret; none if no secret of that name is there for the caller.
    ///
    /// # Errors
    /// The mount failed.
    pub(in super::super) fn version(&self, key: &Key) -> Result<Option<u64>, ClientError> {
        match fs::symlink_metadata(self.path(key)) {
            Ok(metadata) => Ok(metadata.is_file().then(|| metadata.ino())),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.refused("find", key.as_str())(error)),
        }
    }

    /// Creates a secret or replaces its value; durable when this returns.
    ///
    /// # Errors
    /// The caller may not, or the mount failed; the old value stands.
    pub(in super::super) fn write(&self, key: &Key, value: &Plaintext) -> Result<(), ClientError> {
        let path = self.path(key);
        let written = (|| {
            if let Some(directory) = path.parent().filter(|_| !key.directory().is_empty()) {
                make_directories(directory)?;
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o400)
                .open(&path)?;
            file.write_all(value.expose())?;
            // `close` alone commits only what was written; an empty value needs this.
            file.sync_all()?;
            close(file)
        })();
        written.map_err(self.refused("save", key.as_str()))
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// It is not there, the caller may not, or the mount failed.
    pub(in super::super) fn remove(&self, key: &Key) -> Result<(), ClientError> {
        fs::remove_file(self.path(key)).map_err(self.refused("remove", key.as_str()))
    }

    /// Whether a secret of that name is there for the caller.
    ///
    /// # Errors
    /// The mount failed.
    pub(in super::super) fn exists(&self, key: &Key) -> Result<bool, ClientError> {
        Ok(self.version(key)?.is_some())
    }

    /// Whether the key is that of a secret which the caller may write.
    pub(in super::super) fn may_write(&self, key: &Key) -> bool {
        let path = self.path(key);
        fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file())
            && access(&path, AccessFlags::W_OK).is_ok()
    }

    /// The sealed YAML document for a value; needs no right.
    ///
    /// # Errors
    /// The mount failed.
    pub(in super::super) fn encrypt(
        &self,
        key: &Key,
        value: &Plaintext,
    ) -> Result<String, ClientError> {
        self.document_of(".encrypt", key, value.expose(), "encrypt")
    }

    /// The document of a value that is sealed already, sealed with the current key of the mount.
    ///
    /// # Errors
    /// The mount failed, or does not open the value.
    pub(in super::super) fn reseal(&self, key: &Key, sealed: &str) -> Result<String, ClientError> {
        self.document_of(".encrypt/.reseal", key, sealed.as_bytes(), "re-encrypt")
    }

    fn document_of(
        &self,
        directory: &str,
        key: &Key,
        written: &[u8],
        action: &'static str,
    ) -> Result<String, ClientError> {
        // Directories are marked as such: the daemon need not know them.
        let mut path = self.mount.join(directory);
        path.extend(key.directory().split('/').filter(|name| !name.is_empty()).map(in_directory));
        path.push(key.name());
        let sealed = (|| {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(OFlag::O_CLOEXEC.bits())
                .open(&path)?;
            file.write_all(written)?;
            read_text_at_start(&file)
        })();
        sealed.map_err(|source| {
            // A value that does not open is a failure of the key, everything else one of the file.
            let of_file = self.last_error(&source, &format!("{directory}/{key}"));
            let reason = of_file.or_else(|| self.last_error(&source, key.as_str()));
            ClientError::Refused { action, name: key.to_string(), source, reason }
        })
    }
}

/// Reads to the end, into memory that is wiped. Beyond the largest value there is an error, before
/// the rest is taken in.
///
/// # Errors
/// The source's own, or [`ErrorKind::FileTooLarge`].
pub(in super::super) fn read_value(source: &mut impl Read) -> io::Result<Plaintext> {
    let mut value = Plaintext::default();
    let mut chunk = Zeroizing::new(vec![0; CHUNK]);
    loop {
        match source.read(&mut chunk) {
            Ok(0) => return Ok(value),
            Ok(length) if value.len() + length > MAX_VALUE_BYTES => {
                return Err(ErrorKind::FileTooLarge.into());
            }
            Ok(length) => value.push(&chunk[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Makes the directories of a key. Those that are there, seen or unseen, are left alone; whether the
/// secret may be created is for the daemon to say when it is.
fn make_directories(directory: &std::path::Path) -> io::Result<()> {
    match fs::symlink_metadata(directory) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(directory),
        Err(error) => Err(error),
    }
}

/// A directory of `.encrypt` under the name that always means one.
fn in_directory(name: &str) -> String {
    format!(".in:{name}")
}

fn read_text_at_start(file: &File) -> io::Result<String> {
    let mut text = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read_at(&mut chunk, text.len() as u64)? {
            0 => return String::from_utf8(text).map_err(|_| ErrorKind::InvalidData.into()),
            length => text.extend_from_slice(&chunk[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_exactly_up_to_the_limit() {
        let largest = vec![7; MAX_VALUE_BYTES];
        assert_eq!(read_value(&mut &*largest).unwrap().expose(), largest);
        let error = read_value(&mut io::repeat(7)).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert!(read_value(&mut io::empty()).unwrap().is_empty());
    }
}
