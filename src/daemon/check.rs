//! Whether a start would be refused because of its settings, without one: nothing is mounted, made, locked or
//! changed, and a service that runs does not notice.

use std::path::Path;

use crate::identity::{Resolver, Trust};
use crate::store::SledStore;

use super::error::DaemonError;
use super::key::KeyFiles;
use super::sandbox::Account;
use super::sandbox::hardening;
use super::settings::{MountSettings, Resolved};

/// Everything for which [`super::mount`] would refuse these settings: configuration, user, keys (also whether they
/// open the store, as far as is noted beside it), identities and other files that it reads. Empty if there is
/// nothing. The mountpoint is not looked at, because a mount without a server does not answer.
pub fn check(settings: MountSettings) -> Vec<DaemonError> {
    hardening::wipe_environment();
    if let Err(error) = hardening::protect_memory() {
        return vec![error];
    }
    match Resolved::from(settings) {
        Ok(settings) => faults(&settings),
        Err(error) => vec![error],
    }
}

fn check_keys(settings: &Resolved) -> Result<(), DaemonError> {
    let mut key_files = KeyFiles::find(settings);
    match key_files.are_to_be_made() && settings.store.is_none() {
        true => Ok(()),
        false => key_files.load(None)?.check_all_for(&settings.state_dir),
    }
}

fn faults(settings: &Resolved) -> Vec<DaemonError> {
    let trust = Trust::in_this_user();
    let state_dir = &settings.state_dir;
    let checks = [
        Account::choose(settings.user.as_deref()).err(),
        SledStore::look_at(state_dir).err().map(DaemonError::from),
        check_keys(settings).err(),
        Resolver::new(settings.identities.clone()).err().map(DaemonError::from),
        settings.import_dir.as_deref().and_then(|path| {
            let error = trust.check_directory(path).err();
            error.map(|source| DaemonError::ImportDir { path: path.to_owned(), source })
        }),
    ];
    let unreadable = |path: &Path| {
        let error = trust.open(path).err();
        error.map(|source| DaemonError::Unreadable { path: path.to_owned(), source })
    };
    checks.into_iter().flatten().chain(settings.credential_files().filter_map(unreadable)).collect()
}
