//! Where the encryption key comes from: a file that is configured, the environment, systemd, or the usual file.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::crypto::{KeyTextError, Keyring, LockedText, MasterKey, Weakness};
use crate::identity::Trust;
use crate::store::SledStore;

use super::error::DaemonError;
use super::host::durable::NewFile;
use super::ipc::KeyTexts;
use super::key_fit::not_given;
use super::lookup_helper::LookupHelper;
use super::sandbox::hardening::take_encryption_key;
use super::settings::{Resolved, home_directory};

/// The name of the systemd credential.
const CREDENTIAL: &str = "encryption-key";
/// Where the key is if root mounts and none is configured.
const ROOT_KEY_FILE: &str = "/etc/secretfs/encryption-key";
/// The same for other users, below `$XDG_CONFIG_HOME`.
const USER_KEY_FILE: &str = "secretfs/encryption-key";
/// More than a file of keys takes, so that reading it leaves no copy behind.
const ROOM: usize = 64 << 10;

/// The places that keys are read from, at the start and on SIGHUP.
pub(super) struct KeyFiles {
    /// None if it came from the environment or is the built-in one: it stays what it is.
    current: Option<PathBuf>,
    /// Whether a key is configured. Otherwise `current` is the usual file.
    is_configured: bool,
    previous: Option<PathBuf>,
    from_environment: Option<Zeroizing<String>>,
    state_dir: PathBuf,
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
        let is_configured = current.is_some() || from_environment.is_some();
        Self {
            current: current.or_else(|| usual_place().filter(|_| !is_configured)),
            is_configured,
            previous: settings.previous_encryption_key_file.clone(),
            from_environment,
            state_dir: settings.state_dir.clone(),
            lookup_helper: None,
        }
    }

    /// Whether no key is configured, and the usual file is not there.
    pub(super) fn are_missing(&self) -> bool {
        let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
        !self.is_configured && !self.current.as_ref().is_some_and(is_there)
    }

    /// Whether the next mount makes a key: there is none, and no store that needs one.
    pub(super) fn are_to_be_made(&self) -> bool {
        self.are_missing() && SledStore::stored_bytes(&self.state_dir) == 0
    }

    /// Makes the usual file with a new key, if one is to be made.
    ///
    /// # Errors
    /// The file cannot be made, or the store will be one that other hosts have already made with their key.
    pub(super) fn make_missing(&self, settings: &Resolved) -> Result<(), DaemonError> {
        if !self.are_to_be_made() {
            return Ok(());
        }
        let path = self.current.as_deref().ok_or(DaemonError::NoKeyPlace)?;
        if settings.store.is_some() {
            return Err(DaemonError::NoSharedKey(path.to_owned()));
        }
        // Refused before a key is made for nothing.
        SledStore::look_at(&self.state_dir)?;
        if make(path).map_err(|source| DaemonError::NewKey { path: path.to_owned(), source })? {
            let path = path.display();
            // For people, whatever the form of the log. Standard error may be closed: then the line is not wanted.
            let _ = writeln!(
                io::stderr(),
                "made the encryption key {path}; keep a copy elsewhere: without it the secrets are lost"
            );
        }
        Ok(())
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
        if !self.is_configured && self.needs_built_in(kept.as_ref())? {
            self.current = None;
        }
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

    /// Where no key is configured: whether the built-in key is used instead of the usual file.
    ///
    /// # Errors
    /// Neither is what the store needs.
    fn needs_built_in(&self, kept: Option<&KeyTexts>) -> Result<bool, DaemonError> {
        if let Some(kept) = kept {
            return Ok(kept.current.is_none());
        }
        let has_usual_file = match self.current.as_deref().map(|path| (path, self.open(path))) {
            Some((path, Err(error))) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DaemonError::Unreadable { path: path.to_owned(), source: error });
            }
            opened => matches!(opened, Some((_, Ok(_)))),
        };
        let built_in = MasterKey::built_in().id();
        let noted = SledStore::noted_keys(&self.state_dir);
        if noted.as_ref().is_some_and(|ids| ids.iter().all(|id| *id == built_in.to_string())) {
            // With the built-in key among the previous ones, the store is on its way to the key in the file.
            let previous = self.previous_of(&self.read_previous()?)?;
            return Ok(!has_usual_file || !previous.iter().any(|key| key.id() == built_in));
        }
        match (has_usual_file, noted, &self.current) {
            (true, _, _) => Ok(false),
            (false, Some(needed), place) => {
                Err(not_given(&self.state_dir, &needed, place.as_deref()))
            }
            // A store without a note is an old one, and opens with no other key.
            (false, None, _) if SledStore::stored_bytes(&self.state_dir) > 0 => Ok(true),
            (false, None, Some(place)) => Err(DaemonError::MissingKey(place.clone())),
            (false, None, None) => Err(DaemonError::NoKeyPlace),
        }
    }

    fn open(&self, path: &Path) -> std::io::Result<std::fs::File> {
        match &self.lookup_helper {
            Some(lookup_helper) => lookup_helper.open(path),
            None => Trust::in_this_user().open(path),
        }
    }

    fn read_all(&self) -> Result<KeyTexts, DaemonError> {
        let current = self.current.as_deref().map(|path| self.read(path)).transpose()?;
        Ok(KeyTexts { current, ..self.read_previous()? })
    }

    fn read_previous(&self) -> Result<KeyTexts, DaemonError> {
        let previous = self.previous.as_deref().map(|path| self.read(path)).transpose()?;
        Ok(KeyTexts { current: None, previous })
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

    fn read(&self, path: &Path) -> Result<LockedText, DaemonError> {
        let unreadable = |source| DaemonError::Unreadable { path: path.to_owned(), source };
        let mut file = self.open(path).map_err(unreadable)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(ROOM));
        file.read_to_end(&mut bytes).map_err(unreadable)?;
        Ok(LockedText::copy_of(&bytes))
    }
}

fn credential() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
    path.exists().then_some(path)
}

/// Where the key is if none is configured. None for a user without a home directory.
fn usual_place() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some(ROOT_KEY_FILE.into());
    }
    home_directory("XDG_CONFIG_HOME", ".config").map(|config| config.join(USER_KEY_FILE))
}

/// Makes a file with a new key, and missing directories above it. False if another process was faster.
fn make(path: &Path) -> io::Result<bool> {
    let directory = path.parent().expect("it is below a directory");
    let mode = if nix::unistd::geteuid().is_root() { 0o755 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(directory)?;
    // A key that would be refused is not made.
    Trust::in_this_user().check_directory(directory)?;
    let made = NewFile::create(path, false).and_then(|mut file| {
        file.write_all(MasterKey::new_text().as_bytes())?;
        file.finish()
    });
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        made => made?,
    }
    // The directories may be new, too.
    for above in directory.ancestors().skip(1) {
        match File::open(above).and_then(|above| above.sync_all()) {
            // One that this user cannot open is not new.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            synced => synced?,
        }
    }
    Ok(true)
}

fn error(from: &Path, source: KeyTextError) -> DaemonError {
    DaemonError::Key { from: from.display().to_string(), source }
}
