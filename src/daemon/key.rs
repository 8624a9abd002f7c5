//! Where the encryption key comes from: a file, the environment, systemd, or nowhere.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::crypto::{KeyTextError, Keyring, LockedText, MasterKey, Weakness};
use crate::identity::Trust;

use super::error::DaemonError;
use super::ipc::KeyTexts;
use super::lookup_helper::LookupHelper;
use super::sandbox::hardening::take_encryption_key;
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
    /// Opens them, if this process may not.
    lookup_helper: Option<LookupHelper>,
}

/// What was read.
pub(super) struct Keys {
    pub(super) keyring: Keyring,
    /// Of the current key.
    pub(super) weaknesses: Vec<Weakness>,
    /// What they were made of.
    pub(super) texts: KeyTexts,
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
        Self { current, previous, from_environment, lookup_helper: None }
    }

    /// Lets the lookup helper open the files.
    pub(super) fn opened_by(self, lookup_helper: LookupHelper) -> Self {
        Self { lookup_helper: Some(lookup_helper), ..self }
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.current, &self.previous].into_iter().filter_map(|path| path.as_deref())
    }

    /// Reads the keys for the first time, or takes those that were kept.
    pub(super) fn load(&mut self, kept: Option<KeyTexts>) -> Result<Keys, DaemonError> {
        let texts = kept.map_or_else(|| self.read_all(), Ok)?;
        let current = match (self.current_of(&texts)?, self.from_environment.take()) {
            (Some(current), _) => current,
            (None, Some(text)) => {
                let error = |source| error("OB_ENCRYPTION_KEY".as_ref(), source);
                MasterKey::parse(&text).map_err(error)?
            }
            (None, None) => MasterKey::built_in(),
        };
        let weaknesses = current.weaknesses().to_vec();
        let keyring = Keyring::new(current, self.previous_of(&texts)?);
        Ok(Keys { keyring, weaknesses, texts })
    }

    /// Reads them again. A key that can be read only once is taken over from `keyring`, which has
    /// these weaknesses.
    pub(super) fn load_again(
        &self,
        keyring: &Keyring,
        weaknesses: &[Weakness],
    ) -> Result<Keys, DaemonError> {
        let texts = self.read_all()?;
        let previous = self.previous_of(&texts)?;
        Ok(match self.current_of(&texts)? {
            Some(current) => {
                let weaknesses = current.weaknesses().to_vec();
                Keys { keyring: Keyring::new(current, previous), weaknesses, texts }
            }
            None => Keys {
                keyring: keyring.with_previous(previous),
                weaknesses: weaknesses.to_vec(),
                texts,
            },
        })
    }

    /// The files that others than their owner can read.
    pub(super) fn readable_by_others(&self) -> impl Iterator<Item = &Path> {
        let readable = |path: &&Path| {
            std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0)
        };
        self.paths().filter(readable)
    }

    fn open(&self, path: &Path) -> std::io::Result<std::fs::File> {
        match &self.lookup_helper {
            Some(lookup_helper) => lookup_helper.open(path),
            None => Trust::in_this_user().open(path),
        }
    }

    fn read_all(&self) -> Result<KeyTexts, DaemonError> {
        let read = |path: &Option<PathBuf>| {
            let text = path.as_deref().map(|path| self.read(path)).transpose()?;
            Ok::<_, DaemonError>(text.map(|text| LockedText::copy_of(&text)))
        };
        Ok(KeyTexts { current: read(&self.current)?, previous: read(&self.previous)? })
    }

    fn current_of(&self, texts: &KeyTexts) -> Result<Option<MasterKey>, DaemonError> {
        let Some((path, text)) = self.current.as_ref().zip(texts.current.as_ref()) else {
            return Ok(None);
        };
        MasterKey::parse_file(text).map(Some).map_err(|source| error(path, source))
    }

    fn previous_of(&self, texts: &KeyTexts) -> Result<Vec<MasterKey>, DaemonError> {
        let Some((path, text)) = self.previous.as_ref().zip(texts.previous.as_ref()) else {
            return Ok(Vec::new());
        };
        MasterKey::parse_lines(text).map_err(|source| error(path, source))
    }

    fn read(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, DaemonError> {
        let unreadable = |source| DaemonError::Unreadable { path: path.to_owned(), source };
        let mut file = self.open(path).map_err(unreadable)?;
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
