//! Where the encryption key comes from: a file, the environment, systemd, or nowhere.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::crypto::{Keyring, MasterKey};

use super::error::DaemonError;
use super::hardening::take_encryption_key;
use super::settings::Resolved;

/// The name of the systemd credential.
const CREDENTIAL: &str = "encryption-key";

/// The keyring, and why its key is not secure.
pub(super) fn load(settings: &Resolved) -> Result<(Keyring, Vec<String>), DaemonError> {
    // Taken in any case: it must not stay in the environment.
    let from_environment = take_encryption_key();
    let mut insecure = Vec::new();
    let current = if let Some(path) = &settings.encryption_key_file {
        insecure.extend(readable_by_others(path));
        from_file(path)?
    } else if let Some(text) = from_environment {
        MasterKey::parse(&text)
            .map_err(|source| DaemonError::Key { from: "OB_ENCRYPTION_KEY".to_owned(), source })?
    } else if let Some(path) = credential() {
        from_file(&path)?
    } else {
        MasterKey::built_in()
    };
    insecure.extend(current.weaknesses().iter().map(ToString::to_string));
    let previous = match &settings.previous_encryption_key_file {
        Some(path) => {
            insecure.extend(readable_by_others(path));
            MasterKey::parse_lines(&read(path)?).map_err(|source| error(path, source))?
        }
        None => Vec::new(),
    };
    Ok((Keyring::new(current, previous), insecure))
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

fn error(path: &Path, source: crate::crypto::KeyTextError) -> DaemonError {
    DaemonError::Key { from: path.display().to_string(), source }
}

fn readable_by_others(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.mode();
    (mode & 0o077 != 0).then(|| {
        format!("its key file {} can be read by others; give it mode 0600", path.display())
    })
}
