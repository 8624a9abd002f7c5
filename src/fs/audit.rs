//! What goes on record of the decisions that are made here: opening and creating. Everything else is
//! decided, and recorded, by the vault.

use std::sync::Arc;

use crate::audit::{Action, Actor, Attempt, NewDecision, Process, Subject};
use crate::model::{Caller, Grant, Operation};
use crate::vault::{Secret, VaultError};

use super::budget::Account;
use super::files::draft::{Draft, Opener};
use super::files::export::OpenExport;
use super::kernel::handles::Handle;
use super::{Fs, FsError, Opened, Request};

/// A decision about a secret.
#[derive(Clone)]
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

/// What has to be written before the answer.
pub(super) enum ToRecord {
    Line(NewDecision),
    Export(Actor, Arc<OpenExport>),
}

impl Fs {
    /// Decides about a secret, and takes note of it for the record.
    pub(super) fn decide(
        &self,
        request: &mut Request,
        action: Action,
        caller: &Caller,
        operation: Operation,
        secret: &Secret,
    ) -> Result<(), FsError> {
        let decision = request.decision.get_or_insert_with(|| Decision::about(action, secret));
        decision.granted(self.vault.check(caller, operation, secret)?);
        Ok(())
    }

    /// The sender of a request, for the record.
    pub(super) fn actor(&self, request: &Request, caller: Arc<Caller>) -> Actor {
        Actor { caller, process: self.process(request) }
    }

    /// The opener of a draft of what is at that path. The process is needed without an audit log, too: its
    /// close commits.
    ///
    /// # Errors
    /// [`FsError::OutOfMemory`].
    pub(super) fn opener(
        &self,
        request: &Request,
        caller: &Caller,
        path: &str,
    ) -> Result<Opener, FsError> {
        let charge = self.budget.charge(Account::of(caller), Draft::BYTES, path)?;
        Ok(Opener { uid: request.uid, process: self.programs.process(request), charge })
    }

    /// The name of the program is looked up only if there is an audit log.
    fn process(&self, request: &Request) -> Process {
        if self.vault.is_audited() {
            return self.programs.process(request);
        }
        Process { gid: request.gid, pid: request.task, program: None, request: request.unique }
    }

    /// Puts the decision of a request on record, with the error if it failed. Where nothing was decided, or the
    /// kernel is about to ask again, there is nothing to record.
    ///
    /// # Errors
    /// It is not on record and must be.
    pub(super) async fn record(
        &self,
        request: &mut Request,
        error: Option<&FsError>,
    ) -> Result<(), FsError> {
        match self.to_record(request, error)? {
            Some(to_record) => Box::pin(self.record_now(to_record)).await,
            None => Ok(()),
        }
    }

    /// What [`Fs::record`] has to write; none where it has nothing to wait for.
    pub(super) fn to_record(
        &self,
        request: &mut Request,
        error: Option<&FsError>,
    ) -> Result<Option<ToRecord>, FsError> {
        let is_final = !matches!(error, Some(FsError::Stale));
        let Some(decision) = request.decision.take().filter(|_| is_final) else { return Ok(None) };
        let actor = self.actor(request, self.caller(request)?);
        let Decision { action, subject, export } = decision;
        if let (None, Some(open)) = (error, export) {
            return Ok(Some(ToRecord::Export(actor, open)));
        }
        let attempt = Attempt { actor, action, subject, error: error.map(self.name_error) };
        Ok(self.vault.admit(attempt).map(ToRecord::Line))
    }

    pub(super) async fn record_now(&self, to_record: ToRecord) -> Result<(), FsError> {
        match to_record {
            ToRecord::Line(new) => Ok(self.vault.record(new).await?),
            ToRecord::Export(actor, open) => self.record_export(&actor, &open).await,
        }
    }

    /// Puts the secrets of an export on record, some at a time, so that the lines of others come in between.
    async fn record_export(&self, actor: &Actor, open: &OpenExport) -> Result<(), FsError> {
        let mut next = 0;
        while self.vault.is_audited() {
            let subjects = open.subjects(actor, next);
            if subjects.is_empty() {
                break;
            }
            next += subjects.len();
            self.vault.record_each(actor, Action::Export, subjects).await?;
        }
        Ok(())
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
