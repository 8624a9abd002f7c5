//! Where the encryption key comes from: a file, the environment, systemd, or nowhere.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::crypto::{KeyTextError, Keyring, MasterKey, Weakness};

use super::clerk::Clerk;
use super::error::DaemonError;
use super::hardening::take_encryption_key;
use super::settings::Resolved;

/// The name of the systemd credential.
const CREDENTIAL: &str = "encryption-key";
/// More than a file of keys takes, so that reading it leaves no copy behind.
const ROOM: usize = 64 << 10;

/// The places that keys are read from, at the start and on SIGHUP.
pub(super) struct KeyFiles {
    /// None if it came from the environment or is the built-in one: it stays what it is.
    current: Option<PathBuf>,
    previous: Option<PathBuf>,
    from_environment: Option<Zeroizing<String>>,
    /// Who opens them, if this process may not.
    clerk: Option<Clerk>,
}

/// What was read.
pub(super) struct Keys {
    pub(super) keyring: Keyring,
    /// Of the current key.
    pub(super) weaknesses: Vec<Weakness>,
}

impl KeyFiles {
    /// Finds out where the keys are.
    pub(super) fn find(settings: &Resolved) -> Self {
        // Taken in any case: it must not stay in the environment.
        let from_environment = take_encryption_key();
        let (current, from_environment) = match (&settings.encryption_key_file, from_environment) {
            (Some(path), _) => (Some(path.clone()), None),
            (None, Some(text)) => (None, Some(text)),
            (None, None) => (credential(), None),
        };
        let previous = settings.previous_encryption_key_file.clone();
        Self { current, previous, from_environment, clerk: None }
    }

    /// Lets somebody else open the files.
    pub(super) fn opened_by(self, clerk: Clerk) -> Self {
        Self { clerk: Some(clerk), ..self }
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.current, &self.previous].into_iter().filter_map(|path| path.as_deref())
    }

    /// Reads the keys for the first time.
    pub(super) fn load(&mut self) -> Result<Keys, DaemonError> {
        let current = match (&self.current, self.from_environment.take()) {
            (Some(path), _) => self.key_of_file(path)?,
            (None, Some(text)) => {
                let error = |source| error("OB_ENCRYPTION_KEY".as_ref(), source);
                MasterKey::parse(&text).map_err(error)?
            }
            (None, None) => MasterKey::built_in(),
        };
        let weaknesses = current.weaknesses().to_vec();
        let keyring = Keyring::new(current, self.read_previous()?);
        Ok(Keys { keyring, weaknesses })
    }

    /// Reads them again. A key that can be read only once is taken over from `keyring`, which has
    /// these weaknesses.
    pub(super) fn load_again(
        &self,
        keyring: &Keyring,
        weaknesses: &[Weakness],
    ) -> Result<Keys, DaemonError> {
        let previous = self.read_previous()?;
        Ok(match &self.current {
            Some(path) => {
                let current = self.key_of_file(path)?;
                let weaknesses = current.weaknesses().to_vec();
                Keys { keyring: Keyring::new(current, previous), weaknesses }
            }
            None => {
                Keys { keyring: keyring.with_previous(previous), weaknesses: weaknesses.to_vec() }
            }
        })
    }

    /// The files that others than their owner can read.
    pub(super) fn readable_by_others(&self) -> impl Iterator<Item = &Path> {
        let readable = |path: &&Path| {
            std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0)
        };
        self.paths().filter(readable)
    }

    fn read_previous(&self) -> Result<Vec<MasterKey>, DaemonError> {
        let Some(path) = &self.previous else { return Ok(Vec::new()) };
        MasterKey::parse_lines(&self.read(path)?).map_err(|source| error(path, source))
    }

    fn key_of_file(&self, path: &Path) -> Result<MasterKey, DaemonError> {
        MasterKey::parse_file(&self.read(path)?).map_err(|source| error(path, source))
    }

    fn read(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, DaemonError> {
        let unreadable = |source| DaemonError::Unreadable { path: path.to_owned(), source };
        let opened = match &self.clerk {
            Some(clerk) => clerk.open(path),
            None => File::open(path),
        };
        let mut file = opened.map_err(unreadable)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(ROOM));
        file.read_to_end(&mut bytes).map_err(unreadable)?;
        Ok(bytes)
    }
}

fn credential() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
    path.exists().then_some(path)
}

fn error(from: &Path, source: KeyTextError) -> DaemonError {
    DaemonError::Key { from: from.display().to_string(), source }
}
