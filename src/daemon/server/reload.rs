//! What SIGHUP reads again: the identities and the encryption keys.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::audit::Event;
use crate::crypto::Weakness;
use crate::identity::Resolver;
use crate::telemetry::Part;
use crate::vault::Vault;

use super::administration;
use crate::daemon::error::DaemonError;
use crate::daemon::ipc::{Control, KeyTexts, Report};
use crate::daemon::key::KeyFiles;

/// Everything that can be read again while it runs.
pub(in crate::daemon) struct Reload {
    pub(in crate::daemon) identities: Arc<Resolver>,
    pub(in crate::daemon) vault: Arc<Vault>,
    pub(in crate::daemon) key_files: KeyFiles,
    /// The supervisor keeps the keys for the next server.
    pub(in crate::daemon) supervisor: Arc<Control>,
    /// Of the current key.
    pub(in crate::daemon) weaknesses: Mutex<Vec<Weakness>>,
    /// Held while files are read, so that two signals follow each other.
    pub(in crate::daemon) busy: Mutex<()>,
}

impl Reload {
    /// Reads all again. What is wrong is logged and stays as it was.
    ///
    /// # Errors
    /// Files were refused, for these reasons.
    pub(in crate::daemon) fn run(&self) -> Result<(), Vec<String>> {
        let _busy = self.busy.lock();
        let health = &self.vault.telemetry().health;
        let keys = self.reload_keys();
        // Before it is logged: a reader of the log line may look at health next.
        health.report(Part::Keys, keys.as_ref().copied());
        if let Err(error) = &keys {
            tracing::error!(%error, "the encryption keys stay as they were");
        }
        // Last, because a line about the identities is logged in any case: after that line, all files have been read.
        let record = |changes: &_| {
            let events = administration::events_of(changes);
            self.vault.record_administration(events).map_err(|error| error.to_string())
        };
        let identities = self.identities.reload(record);
        let refused = [("keys", keys.is_err()), ("identities", identities.is_err())];
        let refused = refused.into_iter().filter(|(_, is_refused)| *is_refused);
        let refused = refused.map(|(what, _)| Event::reload_refused(what)).collect();
        if let Err(error) = self.vault.record_administration(refused) {
            tracing::error!(%error, "that files were refused is not on the audit log");
        }
        match &identities {
            Ok(()) => tracing::info!("the identities were read again"),
            Err(error) => tracing::error!(%error, "the identities stay as they were"),
        }
        let faults = [
            keys.err().map(|error| error.to_string()),
            identities.as_ref().err().map(ToString::to_string),
        ];
        health.report(Part::Identities, identities);
        let faults: Vec<_> = faults.into_iter().flatten().collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// What makes the current key easy to guess, a phrase each.
    pub(in crate::daemon) fn key_weaknesses(&self) -> Vec<String> {
        self.weaknesses.lock().iter().map(ToString::to_string).collect()
    }

    /// The files that decide about access.
    pub(in crate::daemon) fn files(&self) -> impl Iterator<Item = &Path> {
        self.identities.file().into_iter().chain(self.key_files.paths())
    }

    fn reload_keys(&self) -> Result<(), DaemonError> {
        let now = self.vault.keyring();
        let weaknesses = self.weaknesses.lock().clone();
        let keys = self.key_files.load_again(&now, &weaknesses)?;
        if keys.keyring.ids().eq(now.ids()) {
            return Ok(());
        }
        let current = keys.keyring.current_id();
        let [before, after] = [&now, &keys.keyring].map(administration::key_ids);
        self.vault
            .record_administration(vec![Event::keys_changed(&before, &after)])
            .map_err(|error| DaemonError::Rekey(Box::new(error.into())))?;
        self.vault.replace_keyring(keys.keyring).map_err(Box::new).map_err(DaemonError::Rekey)?;
        *self.weaknesses.lock() = keys.weaknesses;
        keep(&self.supervisor, keys.texts);
        tracing::info!(%current, "the encryption keys were read again");
        Ok(())
    }
}

/// Lets the supervisor keep what the keys were made of, now that they have opened the store.
pub(in crate::daemon) fn keep(supervisor: &Control, texts: KeyTexts) {
    if !texts.fit() {
        tracing::warn!("the key files are too long to be kept: the next server reads them again");
    } else if let Err(error) = supervisor.tell(&Report::Keys(texts), &[]) {
        tracing::debug!(%error, "the supervisor ended");
    }
}
