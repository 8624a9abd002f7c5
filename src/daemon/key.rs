//! Where the encryption key comes from: a file, the environment, systemd, or nowhere.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::crypto::{KeyTextError, Keyring, MasterKey, Weakness};

use super::error::DaemonError;
use super::hardening::take_encryption_key;
use super::settings::Resolved;

/// The name of the systemd credential.
const CREDENTIAL: &str = "encryption-key";

/// The places that keys are read from, at the start and on SIGHUP.
pub(super) struct KeyFiles {
    /// None if it came from the environment or is the built-in one: it stays what it is.
    current: Option<PathBuf>,
    previous: Option<PathBuf>,
}

/// What was read.
pub(super) struct Keys {
    pub(super) keyring: Keyring,
    /// Of the current key.
    pub(super) weaknesses: Vec<Weakness>,
}

impl KeyFiles {
    /// Reads the keys for the first time.
    pub(super) fn load(settings: &Resolved) -> Result<(Self, Keys), DaemonError> {
        // Taken in any case: it must not stay in the environment.
        let from_environment = take_encryption_key();
        let (path, current) = match (&settings.encryption_key_file, from_environment) {
            (Some(path), _) => (Some(path.clone()), from_file(path)?),
            (None, Some(text)) => {
                let error = |source| error("OB_ENCRYPTION_KEY".as_ref(), source);
                (None, MasterKey::parse(&text).map_err(error)?)
            }
            (None, None) => match credential() {
                Some(path) => {
                    let key = from_file(&path)?;
                    (Some(path), key)
                }
                None => (None, MasterKey::built_in()),
            },
        };
        let previous = settings.previous_encryption_key_file.clone();
        let files = Self { current: path, previous };
        let weaknesses = current.weaknesses().to_vec();
        let keyring = Keyring::new(current, files.read_previous()?);
        Ok((files, Keys { keyring, weaknesses }))
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
                let current = from_file(path)?;
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
        [&self.current, &self.previous]
            .into_iter()
            .filter_map(|path| path.as_deref())
            .filter(readable)
    }

    fn read_previous(&self) -> Result<Vec<MasterKey>, DaemonError> {
        let Some(path) = &self.previous else { return Ok(Vec::new()) };
        MasterKey::parse_lines(&read(path)?).map_err(|source| error(path, source))
    }
}

fn credential() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
    path.exists().then_some(path)
}

fn from_file(path: &Path) -> Result<MasterKey, DaemonError> {
    MasterKey::parse_file(&read(path)?).map_err(|source| error(path, source))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, DaemonError> {
    std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|source| DaemonError::Unreadable { path: path.to_owned(), source })
}

fn error(from: &Path, source: KeyTextError) -> DaemonError {
    DaemonError::Key { from: from.display().to_string(), source }
}
