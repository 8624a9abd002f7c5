//! The audit log of a state directory, for readers with or without a running daemon.

use std::path::PathBuf;

use crate::audit;
use crate::audit::{Anchor, StoreTag};
use crate::crypto::Keyring;
use crate::store::SledStore;
use crate::vault::audit_anchor;

use crate::daemon::error::DaemonError;
use crate::daemon::key::KeyFiles;
use crate::daemon::sandbox::hardening;
use crate::daemon::settings::{MountSettings, Resolved};

/// Where the log of these settings is.
///
/// # Errors
/// The settings are wrong.
pub fn audit_directory(settings: MountSettings) -> Result<PathBuf, DaemonError> {
    Ok(audit::directory_in(&Resolved::from(settings)?.state_dir))
}

/// An audit log and what it is checked with.
pub struct AuditLog {
    /// The directory of its lines.
    pub directory: PathBuf,
    /// The keys.
    pub keyring: Keyring,
    /// Its end as recorded in the store, if the store can be read.
    pub known: Option<(StoreTag, Anchor)>,
    /// Why it cannot.
    pub unknown: Option<String>,
}

/// The log of these settings.
///
/// # Errors
/// The settings are wrong, or a key cannot be read.
pub fn audit_log(settings: MountSettings) -> Result<AuditLog, DaemonError> {
    hardening::wipe_environment();
    hardening::protect_memory()?;
    let settings = Resolved::from(settings)?;
    let keys = KeyFiles::find(&settings).load(None)?;
    keys.check_for(&settings.state_dir)?;
    let keyring = keys.keyring;
    let (known, unknown) = match what_the_store_knows(&settings, &keyring) {
        Ok(known) => (known, None),
        Err(why) => (None, Some(why)),
    };
    Ok(AuditLog { directory: audit::directory_in(&settings.state_dir), keyring, known, unknown })
}

/// What the store says of its log; nothing if there is no store. Or why it cannot be asked.
fn what_the_store_knows(
    settings: &Resolved,
    keyring: &Keyring,
) -> Result<Option<(StoreTag, Anchor)>, String> {
    let state = &settings.state_dir;
    if !SledStore::exists(state) {
        return Ok(None);
    }
    if SledStore::is_in_use(state) {
        return Err("the store is in use; the daemon compares them when it starts".to_owned());
    }
    let store = SledStore::open(state).map_err(|error| error.to_string())?;
    audit_anchor(&store, keyring).map_err(|error| error.to_string())
}
