//! What goes on record of the decisions that are made here: opening and creating. Everything else is
//! decided, and recorded, by the vault.

use std::sync::Arc;

use crate::audit::{Action, Actor, Attempt, Process, Subject};
use crate::model::{Caller, Grant, Operation};
use crate::vault::{Secret, VaultError};

use super::budget::Account;
use super::files::draft::{Draft, Opener};
use super::files::export::OpenExport;
use super::kernel::handles::Handle;
use super::{Fs, FsError, Opened, Requester};

/// A decision about a secret.
pub(super) struct Decision {
    pub(super) action: Action,
    pub(super) subject: Subject,
    /// The secrets that were given out; a line each.
    pub(super) export: Option<Arc<OpenExport>>,
}

impl Decision {
    pub(super) fn new(action: Action, subject: Subject) -> Self {
        Self { action, subject, export: None }
    }

    /// About all secrets of an export.
    pub(super) fn export(export: Arc<OpenExport>) -> Self {
        Self { export: Some(export), ..Self::new(Action::Export, Subject::default()) }
    }

    /// About the secret as it is now.
    pub(super) fn about(action: Action, secret: &Secret) -> Self {
        let version = Some(secret.value().version());
        Self::new(action, Subject { version, ..Subject::of(secret.key().as_str()) })
    }

    /// Takes note of what allowed it, the first time.
    pub(super) fn granted(&mut self, grant: Grant) {
        self.subject.grant.get_or_insert(grant);
    }
}

impl Fs {
    /// Decides about a secret, and takes note of it for the record.
    pub(super) fn decide(
        &self,
        decision: &mut Option<Decision>,
        action: Action,
        caller: &Caller,
        operation: Operation,
        secret: &Secret,
    ) -> Result<(), FsError> {
        let decision = decision.get_or_insert_with(|| Decision::about(action, secret));
        decision.granted(self.vault.check(caller, operation, secret)?);
        Ok(())
    }

    /// The sender of a request, for the record.
    pub(super) fn actor(&self, who: &Requester, caller: Arc<Caller>) -> Actor {
        Actor { caller, process: self.process(who) }
    }

    /// The opener of a draft of what is at that path. The process is needed without an audit log, too: its
    /// close commits.
    ///
    /// # Errors
    /// [`FsError::OutOfMemory`].
    pub(super) fn opener(
        &self,
        who: &Requester,
        caller: &Caller,
        path: &str,
    ) -> Result<Opener, FsError> {
        let charge = self.budget.charge(Account::of(caller), Draft::BYTES, path)?;
        Ok(Opener { uid: who.uid, process: self.programs.process(who), charge })
    }

    /// The name of the program is looked up only if there is an audit log.
    fn process(&self, who: &Requester) -> Process {
        if self.vault.is_audited() {
            return self.programs.process(who);
        }
        Process { gid: who.gid, pid: who.task, program: None, request: who.unique }
    }

    /// Puts a decision on record, then calls `then`, perhaps on another thread. Where nothing was
    /// decided, or the kernel is about to ask again, there is nothing to record.
    pub(super) fn record<T>(
        self: &Arc<Self>,
        who: &Requester,
        caller: Arc<Caller>,
        decision: Option<Decision>,
        outcome: Result<T, FsError>,
        then: impl FnOnce(Result<T, FsError>, Result<(), FsError>) + Send + 'static,
    ) where
        T: Send + 'static,
    {
        let Some(decision) = decision.filter(|_| !matches!(outcome, Err(FsError::Stale))) else {
            return then(outcome, Ok(()));
        };
        let error = outcome.as_ref().err().map(self.name_error);
        let actor = self.actor(who, caller);
        if let (Ok(_), Some(open)) = (&outcome, decision.export) {
            return self.record_export(actor, open, 0, Ok(()), move |recorded| {
                then(outcome, recorded);
            });
        }
        let Decision { action, subject, .. } = decision;
        self.vault.record(Attempt { actor, action, subject, error }, move |recorded| {
            then(outcome, recorded.map_err(FsError::from));
        });
    }

    /// Puts the secrets of an export on record from the document `next` on, some at a time, so that
    /// the lines of others come in between.
    fn record_export(
        self: &Arc<Self>,
        actor: Actor,
        open: Arc<OpenExport>,
        next: usize,
        so_far: Result<(), FsError>,
        then: impl FnOnce(Result<(), FsError>) + Send + 'static,
    ) {
        let subjects = open.subjects(&actor, next);
        if subjects.is_empty() || so_far.is_err() || !self.vault.is_audited() {
            return then(so_far);
        }
        let (fs, next, who) = (Arc::clone(self), next + subjects.len(), actor.clone());
        self.vault.record_each(&who, Action::Export, subjects, move |recorded| {
            fs.record_export(actor, open, next, recorded.map_err(FsError::from), then);
        });
    }

    /// Takes an open back that cannot be put on record.
    pub(super) fn undo_open(&self, opened: &Opened) {
        self.bound.closed(opened.handle);
        if let Some(Handle::Draft(draft)) = self.handles.remove(opened.handle)
            && draft.closed(opened.handle)
        {
            draft.end();
            self.drafts.closed(&draft);
            self.drafts.remove(&draft);
        }
    }

    /// What a denial is about, where it is all that is recorded of an operation.
    pub(super) fn denial(action: Action, error: &FsError) -> Option<Decision> {
        match error {
            FsError::Vault(error) => match &**error {
                VaultError::Denied { key, .. } => {
                    Some(Decision::new(action, Subject::of(key.as_str())))
                }
                _ => None,
            },
            _ => None,
        }
    }
}
