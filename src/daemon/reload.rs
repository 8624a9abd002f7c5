//! What SIGHUP reads again: who is who, and the encryption keys.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::crypto::Weakness;
use crate::identity::Resolver;
use crate::vault::Vault;

use super::key::KeyFiles;

/// Everything that can be read again while it runs.
pub(super) struct Reload {
    pub(super) identities: Arc<Resolver>,
    pub(super) vault: Arc<Vault>,
    pub(super) key_files: KeyFiles,
    /// Of the current key. Held while the keys are read, so that two signals follow each other.
    pub(super) weaknesses: Mutex<Vec<Weakness>>,
}

impl Reload {
    /// Reads all again. What is wrong is logged and stays as it was.
    pub(super) fn run(&self) {
        match self.identities.reload() {
            Ok(()) => tracing::info!("the identities were read again"),
            Err(error) => tracing::error!(%error, "the identities stay as they were"),
        }
        self.reload_keys();
    }

    fn reload_keys(&self) {
        let mut weaknesses = self.weaknesses.lock();
        let now = self.vault.keyring();
        let keys = match self.key_files.load_again(&now, &weaknesses) {
            Ok(keys) => keys,
            Err(error) => return tracing::error!(%error, "the encryption keys stay as they were"),
        };
        if keys.keyring.ids().eq(now.ids()) {
            return;
        }
        let current = keys.keyring.current_id();
        match self.vault.replace_keyring(keys.keyring) {
            Ok(()) => {
                *weaknesses = keys.weaknesses;
                tracing::info!(%current, "the encryption keys were read again");
            }
            Err(error) => tracing::error!(%error, "the encryption keys stay as they were"),
        }
    }
}
