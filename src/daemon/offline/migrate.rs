//! Moving a state directory that no daemon uses to etcd, and back.

use std::sync::Arc;

use crate::store::SledStore;
use crate::vault::{MigrateError, Moved, migrate_from};

use super::{Offline, OfflineWork, open, open_vault, resolve};
use crate::daemon::error::DaemonError;
use crate::daemon::etcd_proxy::EtcdProxy;
use crate::daemon::settings::MountSettings;

/// Which way secrets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the state directory to the store of the settings.
    ToShared,
    /// From there to the state directory.
    FromShared,
}

/// Moves all secrets between the state directory and the shared store of these settings. They stay where they were as
/// well. Calls `progress` with the number that was moved or compared.
///
/// # Errors
/// The settings are wrong, no key is given, one of the two is not there or is something else, or the
/// move did not come to its end: then it can be run again.
pub fn migrate(
    settings: MountSettings,
    direction: Direction,
    progress: &dyn Fn(u64),
) -> Result<Moved, DaemonError> {
    let settings = resolve(settings)?;
    let shared = settings.store.as_ref().ok_or(DaemonError::NoSharedStore)?;
    let has_store = SledStore::exists(&settings.state_dir);
    if direction == Direction::ToShared && !has_store {
        return Err(DaemonError::NoStore(settings.state_dir.clone()));
    }
    // As for a daemon: a process that has the key has no sockets.
    let cluster = EtcdProxy::start(None, &shared.address, &shared.credentials)?;
    let (store, keyring) = open(&settings, OfflineWork::Seal)?;
    match direction {
        Direction::ToShared => {
            let Offline { vault, owner } =
                open_vault(&settings, store, keyring, OfflineWork::Seal)?;
            let export = vault.export(&owner.caller, "");
            vault.record_export(&owner, &export).map_err(failed)?;
            Ok(vault.migrate_to(&cluster, progress).map_err(failed)?)
        }
        Direction::FromShared => {
            let again = keyring.share();
            let moved = migrate_from(&cluster, Arc::<SledStore>::clone(&store), keyring, progress)
                .map_err(failed)?;
            let Offline { vault, owner } = open_vault(&settings, store, again, OfflineWork::Seal)?;
            vault.record_arrival(&owner).map_err(failed)?;
            Ok(moved)
        }
    }
}

fn failed(error: impl Into<MigrateError>) -> DaemonError {
    DaemonError::Migrate(Box::new(error.into()))
}
