//! The audit log of a state folder, for those who read it: with the daemon or without.

use std::path::PathBuf;

use crate::audit;
use crate::crypto::Keyring;

use super::error::DaemonError;
use super::hardening;
use super::key::KeyFiles;
use super::settings::{MountSettings, Resolved};

/// Where the log of these settings is.
///
/// # Errors
/// The settings are wrong.
pub fn audit_folder(settings: MountSettings) -> Result<PathBuf, DaemonError> {
    Ok(audit::folder_in(&Resolved::from(settings)?.state_dir))
}

/// Where the log of these settings is, and the keys to check it with.
///
/// # Errors
/// The settings are wrong, or a key cannot be read.
pub fn audit_and_keys(settings: MountSettings) -> Result<(PathBuf, Keyring), DaemonError> {
    hardening::wipe_environment();
    hardening::protect_memory()?;
    let settings = Resolved::from(settings)?;
    let keys = KeyFiles::find(&settings).load(None)?;
    Ok((audit::folder_in(&settings.state_dir), keys.keyring))
}
