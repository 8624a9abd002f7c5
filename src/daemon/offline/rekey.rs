//! Rekeying a state directory that no daemon uses.

use crate::vault::{RekeyTask, Vault};

use super::{Offline, OfflineWork, open_offline};
use crate::daemon::error::DaemonError;
use crate::daemon::settings::MountSettings;

/// Opens the store of these settings and starts to re-seal it, or to count. The walk ends when the
/// vault is dropped.
///
/// # Errors
/// The settings are wrong, no key is given, or the store is in use or does not open.
pub fn rekey_offline(settings: MountSettings, task: RekeyTask) -> Result<Vault, DaemonError> {
    let work = match task {
        RekeyTask::Reseal => OfflineWork::Seal,
        RekeyTask::Count => OfflineWork::Read,
    };
    let Offline { vault, owner } = open_offline(settings, work)?;
    vault.start_rekey(&owner, task).map_err(|source| DaemonError::Rekey(Box::new(source)))?;
    Ok(vault)
}
