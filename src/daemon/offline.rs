//! Work on a state directory that no daemon uses.

pub(super) mod audit;
pub(super) mod migrate;
pub(super) mod rekey;

use std::sync::Arc;

use crate::audit::{Actor, Process};
use crate::crypto::{Keyring, Weakness};
use crate::fuse;
use crate::model::Caller;
use crate::store::SledStore;
use crate::vault::{Fsck, Opening, Sharing, Vault};

use super::error::DaemonError;
use super::key::KeyFiles;
use super::sandbox::hardening;
use super::settings::{MountSettings, Resolved};

/// What an offline command is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineWork {
    /// Read what is there. A store is not made.
    Read,
    /// Seal with the current key: it must not be the publicly known one, which applies if a setting was forgotten.
    Seal,
}

/// An open store, and the caller that works on it.
pub struct Offline {
    /// The secrets.
    pub vault: Vault,
    /// An admin: a user with the state directory and its key has access to everything.
    pub owner: Actor,
}

/// Opens the store of these settings, to be looked at and mended.
///
/// # Errors
/// The settings are wrong, there is no store, or it is in use or not this key's.
pub fn open_for_fsck(settings: MountSettings) -> Result<Fsck, DaemonError> {
    let (store, keyring) = open(&resolve(settings)?, OfflineWork::Read)?;
    Ok(Fsck::open(store, keyring)?)
}

/// Opens the store of these settings.
///
/// # Errors
/// The settings are wrong, there is no store to read or no key to seal with, or the store is in use
/// or does not open.
pub fn open_offline(settings: MountSettings, work: OfflineWork) -> Result<Offline, DaemonError> {
    let settings = resolve(settings)?;
    let (store, keyring) = open(&settings, work)?;
    open_vault(&settings, store, keyring, work)
}

pub(super) fn open_vault(
    settings: &Resolved,
    store: Arc<SledStore>,
    keyring: Keyring,
    work: OfflineWork,
) -> Result<Offline, DaemonError> {
    let sharing = match work {
        OfflineWork::Read => Sharing::OnlyRead,
        OfflineWork::Seal => Sharing::Alone,
    };
    let (audit, name_error) = (settings.audit.clone(), fuse::vault_code);
    let limits = settings.limits;
    let vault = Opening { store, keyring, sharing, audit, limits, name_error }.open()?;
    Ok(Offline { vault, owner: owner() })
}

/// The user who runs this command, as the audit log names it.
fn owner() -> Actor {
    let caller = Arc::new(Caller::new(nix::unistd::geteuid().as_raw(), None, [], true));
    let program = std::fs::read_to_string("/proc/self/comm").ok();
    let process = Process {
        gid: nix::unistd::getegid().as_raw(),
        pid: std::process::id(),
        program: program.map(|name| name.trim_end().into()),
        request: 0,
    };
    Actor { caller, process }
}

pub(super) fn resolve(settings: MountSettings) -> Result<Resolved, DaemonError> {
    hardening::wipe_environment();
    hardening::protect_memory()?;
    Resolved::from(settings)
}

pub(super) fn open(
    settings: &Resolved,
    work: OfflineWork,
) -> Result<(Arc<SledStore>, Keyring), DaemonError> {
    if work == OfflineWork::Read && !SledStore::exists(&settings.state_dir) {
        return Err(DaemonError::NoStore(settings.state_dir.clone()));
    }
    let mut key_files = KeyFiles::find(settings);
    if work == OfflineWork::Seal && key_files.are_missing() {
        return Err(DaemonError::NoKey);
    }
    let keys = key_files.load(None)?;
    // Before the store is opened: opening changes files, and the message says more.
    keys.check_for(&settings.state_dir)?;
    if work == OfflineWork::Seal && keys.weaknesses.contains(&Weakness::BuiltIn) {
        return Err(DaemonError::NoKey);
    }
    Ok((Arc::new(SledStore::open(&settings.state_dir)?), keys.keyring))
}
