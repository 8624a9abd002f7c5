//! Rekeying a state folder that no daemon uses.

use std::sync::Arc;

use crate::audit::{Actor, Process};
use crate::crypto::Weakness;
use crate::fuse;
use crate::identity::Resolver;
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
    let vault = Vault::open_audited(store, keys.keyring, &settings.audit, fuse::vault_code)?;
    let failed = |source| DaemonError::Rekey(Box::new(source));
    vault.start_rekey(&own_actor(&settings)?, task).map_err(failed)?;
    Ok(vault)
}

/// Who runs this, for the record.
fn own_actor(settings: &Resolved) -> Result<Actor, DaemonError> {
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let resolver = Resolver::new(settings.identities.clone())?;
    let caller = resolver.resolve(uid).map_err(|error| DaemonError::System {
        what: "who you are could not be found out",
        source: std::io::Error::other(error),
    })?;
    let program = std::fs::read_to_string("/proc/self/comm").ok();
    let program = program.map(|name| name.trim_end().into());
    Ok(Actor { caller, process: Process { gid, pid: std::process::id(), program } })
}
