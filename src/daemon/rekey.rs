//! Rekeying a state folder that no daemon uses.

use std::sync::Arc;

use crate::crypto::Weakness;
use crate::store::SledStore;
use crate::vault::{RekeyTask, Vault};

use super::error::DaemonError;
use super::hardening;
use super::key::KeyFiles;
use super::settings::{MountSettings, Resolved};

/// Opens the store of these settings and starts to re-seal it, or to count. The walk ends when the
/// vault is dropped.
///
/// # Errors
/// The settings are wrong, no key is given, or the store is in use or does not open.
pub fn rekey_offline(settings: MountSettings, task: RekeyTask) -> Result<Vault, DaemonError> {
    hardening::wipe_environment();
    hardening::protect_memory()?;
    let settings = Resolved::from(settings)?;
    let (_, keys) = KeyFiles::load(&settings)?;
    // A forgotten setting must not re-seal everything with a key that everybody knows.
    if task == RekeyTask::Reseal && keys.weaknesses.contains(&Weakness::BuiltIn) {
        return Err(DaemonError::NoKey);
    }
    let store = Arc::new(SledStore::open(&settings.state_dir)?);
    let vault = Vault::open(store, keys.keyring)?;
    let failed = |source| DaemonError::Rekey(Box::new(source));
    vault.start_rekey(task).map_err(failed)?;
    Ok(vault)
}
