//! The vault's side of the audit log: what goes on record, and under which key.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use crate::audit::{
    Action, Actor, Anchor, Attempt, AuditStatus, ChainKey, ErrorCode, Event, NewDecision,
    NotRecorded, Report, StoreTag, Subject, VerifyError, verify,
};
use crate::crypto::{Keyring, Purpose};
use crate::model::Grant;
use crate::store::Store;
use crate::telemetry::request_watchdog;

use super::Vault;
use super::error::{OpenVaultError, VaultError};
use super::ops::export::Export;
use super::records::{Address, StoreId, parse_audit_anchor};
use super::writer::transaction::{Change, Transaction};

/// Gives an error the number that the caller sees.
pub type NameError = fn(&VaultError) -> ErrorCode;

/// The caller and the purpose of a change, as far as they are known before it is planned.
pub(super) struct AuditContext {
    pub(super) actor: Actor,
    pub(super) action: Action,
    pub(super) subject: Subject,
}

impl AuditContext {
    pub(super) fn new(actor: Actor, action: Action, key: Option<String>) -> Self {
        Self { actor, action, subject: Subject { key, ..Subject::default() } }
    }

    /// The line of a change that was planned.
    pub(super) fn allowed(&self, subject: &Subject) -> Event {
        Event::new(&self.actor, self.action, subject, Ok(()))
    }

    /// What is recorded of a request that failed; none if it was about nothing that exists.
    pub(super) fn failed(&self, error: &VaultError, code: ErrorCode) -> Option<Attempt> {
        if matches!(error, VaultError::NotFound { .. }) {
            return None;
        }
        let mut subject = self.subject.clone();
        subject.key = subject.key.or_else(|| error.key().map(str::to_owned));
        let (actor, action, error) = (self.actor.clone(), self.action, Some(code));
        Some(Attempt { actor, action, subject, error })
    }
}

/// What a change was done to.
pub(super) fn subject_of(change: &Change) -> Subject {
    let secret = change.after.as_ref().or(change.before.as_ref());
    Subject {
        key: secret.map(|secret| secret.key().to_string()),
        version: secret.map(|secret| secret.value().version()),
        ..Subject::default()
    }
}

/// What a document of a file was applied to, with what allowed it.
pub(super) fn imported(change: &Change, grant: Option<&Grant>) -> Subject {
    let lists = match (&change.before, &change.after) {
        (Some(before), Some(after)) => before.acl().differing(after.acl()).collect(),
        _ => Vec::new(),
    };
    Subject { lists, grant: grant.cloned(), ..subject_of(change) }
}

impl Vault {
    /// Begins to write an attempt and its outcome to the audit log. None if there is nothing to write.
    pub fn admit(&self, attempt: Attempt) -> Option<NewDecision> {
        self.shared.audit.admit(attempt)
    }

    /// Writes what was [admitted](Vault::admit).
    ///
    /// # Errors
    /// [`VaultError::NotRecorded`]
    pub async fn record(&self, new: NewDecision) -> Result<(), VaultError> {
        let _waiting = request_watchdog::waiting();
        Ok(self.shared.audit.record_new(new).await?)
    }

    /// As [`Vault::record`], for what `actor` was allowed to do to several subjects: a line each.
    ///
    /// # Errors
    /// [`VaultError::NotRecorded`]
    pub async fn record_each(
        &self,
        actor: &Actor,
        action: Action,
        subjects: Vec<Subject>,
    ) -> Result<(), VaultError> {
        let audit = &self.shared.audit;
        if !audit.is_on() {
            return Ok(());
        }
        let attempt = |subject| Attempt { actor: actor.clone(), action, subject, error: None };
        let attempts = subjects.into_iter().map(attempt).collect();
        let _waiting = request_watchdog::waiting();
        Ok(audit.decide_all(attempts).await?)
    }

    /// Puts on record that `actor` is given all of an export, and returns when that is done.
    ///
    /// # Errors
    /// [`VaultError::NotRecorded`]
    pub fn record_export(&self, actor: &Actor, export: &Export) -> Result<(), VaultError> {
        self.record_all_of(actor, Action::Export, export)
    }

    /// Puts on record that `actor` has brought all that there is into this store.
    ///
    /// # Errors
    /// [`VaultError::NotRecorded`]
    pub fn record_arrival(&self, actor: &Actor) -> Result<(), VaultError> {
        self.record_all_of(actor, Action::Import, &self.export(&actor.caller, ""))
    }

    fn record_all_of(
        &self,
        actor: &Actor,
        action: Action,
        export: &Export,
    ) -> Result<(), VaultError> {
        let mut first = 0;
        loop {
            let subjects = export.subjects(&actor.caller, first);
            if subjects.is_empty() || !self.is_audited() {
                return Ok(());
            }
            first += subjects.len();
            let event = |subject| Event::new(actor, action, subject, Ok(()));
            self.shared.audit.record_now(subjects.iter().map(event).collect())?;
        }
    }

    /// Whether there is an audit log.
    pub fn is_audited(&self) -> bool {
        self.shared.audit.is_on()
    }

    /// How the audit log is doing.
    pub fn audit_status(&self) -> AuditStatus {
        self.shared.audit.status()
    }

    /// Ends the audit log: writes what was counted, syncs it, and records its end in the store.
    pub fn finish_audit(&self) {
        self.shared.audit.finish();
        // A log that cannot be synced is reported by its own status.
        let Ok(Some(anchor)) = self.shared.audit.sync() else { return };
        let shared = Arc::clone(&self.shared);
        let (answer, answered) = sync_channel(1);
        let plan = Box::new(move |transaction: &mut Transaction<'_>| {
            shared.records.put_audit_anchor(&mut transaction.batch, anchor);
            Ok(())
        });
        let done = Box::new(move |outcome: Result<_, VaultError>| {
            // The receiver waits just below.
            let _ = answer.send(outcome.map(drop));
        });
        self.writer.submit(plan, done);
        if let Ok(Err(error)) = answered.recv() {
            tracing::warn!(%error, "the store does not know how far the audit log goes");
        }
    }

    /// Puts changes by the administrator on record, and waits until they are on the disk.
    ///
    /// # Errors
    /// They are not on record and must be.
    pub fn record_administration(&self, events: Vec<Event>) -> Result<(), NotRecorded> {
        if events.is_empty() {
            return Ok(());
        }
        self.shared.audit.record_now(events)?;
        self.shared.audit.sync().map(drop)
    }

    /// The audit log goes on in a new file.
    pub fn rotate_audit(&self) {
        self.shared.audit.rotate();
    }
}

/// The keys of the chain, the current one first.
pub(super) fn chain_keys(keyring: &Keyring, store: &StoreTag) -> Vec<ChainKey> {
    keyring
        .all_derived(Purpose::Audit)
        .map(|(id, key)| ChainKey::new(&id.to_string(), &key, store))
        .collect()
}

/// The end of the audit log as recorded in its store; none if there is no store yet.
///
/// # Errors
/// The store cannot be read, or its record of that does not unseal.
pub fn audit_anchor(
    store: &dyn Store,
    keyring: &Keyring,
) -> Result<Option<(StoreTag, Anchor)>, OpenVaultError> {
    let Some(meta) = store.read(Address::META.as_bytes())? else { return Ok(None) };
    let id = StoreId::of_whole(&meta)?;
    let anchor = match store.read(Address::AUDIT.as_bytes())? {
        Some(sealed) => {
            let opened = keyring.open_record(&id.place(Address::AUDIT.as_bytes()), &sealed);
            parse_audit_anchor(&opened.map_err(OpenVaultError::Unseal)?)?
        }
        None => Anchor::default(),
    };
    Ok(Some((id.to_bytes(), anchor)))
}

/// Checks the audit log in `directory`, whether a daemon is writing it or not. `known` is its end as recorded in the
/// store, if the store could be read. `progress` is called now and then with the number of bytes that were read.
///
/// # Errors
/// A file cannot be read. What is wrong with the log is in the report.
pub fn verify_audit(
    directory: &Path,
    keyring: &Keyring,
    known: Option<(StoreTag, Anchor)>,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, VerifyError> {
    verify(directory, known, &|store| chain_keys(keyring, store), progress)
}
