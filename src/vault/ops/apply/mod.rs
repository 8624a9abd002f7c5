//! Applying a file of documents: whole or not at all.
//!
//! On the caller's thread every document is evaluated and its value sealed; a large change is staged
//! (`writer/staging.rs`). The writer thread compares the results with the current secrets, and evaluates a document
//! again if another caller has changed its secret. Then one small batch makes all of it valid.

mod evaluate;
pub(in crate::vault) mod guess_limiter;
mod refusal;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::mpsc::channel;

use parking_lot::Mutex;

use crate::audit::{Action, Actor, Attempt, Subject};
use crate::crypto::KeyId;
use crate::document::Document;
use crate::model::{Caller, Key, SecretId};
use crate::store::{Batch, StoreError};

use crate::vault::audit::AuditContext;
use crate::vault::error::VaultError;
use crate::vault::open::memory;
use crate::vault::quota::Usages;
use crate::vault::records::secret::{RecordId, Value};
use crate::vault::writer::Plan;
use crate::vault::writer::staging::{Journal, Staged, Stager};
use crate::vault::writer::transaction::{Change, Transaction};
use crate::vault::{Shared, Vault};

pub use refusal::{Refusal, Refusals};

use evaluate::{DocumentPlan, Evaluator, PreparedDocument};

/// A file that changes at most this many secrets...
const SMALL_SECRETS: usize = 128;
/// ... and whose values have at most this many bytes, sealed, is stored in one batch.
const SMALL_BYTES: usize = 512 << 10;

/// What became of a file.
pub struct Applied {
    /// What became of each document, in their order.
    pub documents: Vec<AppliedDocument>,
    /// What changed.
    pub changes: Vec<Change>,
}

impl Applied {
    /// How many documents came to what, in a few words.
    pub fn summary(&self) -> String {
        let count = |outcomes: &[Outcome]| {
            self.documents.iter().filter(|one| outcomes.contains(&one.outcome)).count()
        };
        let created = count(&[Outcome::Created, Outcome::CreatedEmpty]);
        let (updated, unchanged) = (count(&[Outcome::Updated]), count(&[Outcome::Unchanged]));
        format!("{created} created, {updated} updated, {unchanged} unchanged")
    }
}

/// What became of a document.
pub struct AppliedDocument {
    /// The line where it begins, the first being 1.
    pub line: usize,
    /// Its key.
    pub key: Key,
    /// What became of it.
    pub outcome: Outcome,
    /// The id that the secret has, where the document gives another one.
    pub keeps_id: Option<SecretId>,
}

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was no such secret.
    Created,
    /// There was none, and the document gives no value: it is empty.
    CreatedEmpty,
    /// Its value or its lists are new.
    Updated,
    /// It was so already.
    Unchanged,
}

impl Vault {
    /// Applies documents with the rights of `actor`: all of them or none. Returns when that is
    /// durable and visible; it may take seconds, so it is not for a thread that serves requests.
    ///
    /// A secret that exists takes the value and the lists that its document names; only what really changes needs a
    /// right. It keeps its id. A new secret has the document's id. Lists that the document does not name have the
    /// creator's own slug; those of an admin are empty.
    ///
    /// # Errors
    /// [`VaultError::Refused`] with everything that stands against it; or the store failed.
    pub fn apply(&self, actor: &Actor, documents: Vec<Document>) -> Result<Applied, VaultError> {
        let is_large = documents.len() > SMALL_SECRETS;
        let outcome = self.apply_all(actor, documents);
        // Here, where all that was needed for it is free.
        if is_large {
            memory::give_back();
        }
        outcome
    }

    fn apply_all(&self, actor: &Actor, documents: Vec<Document>) -> Result<Applied, VaultError> {
        let (shared, caller) = (&self.shared, &actor.caller);
        let first = shared.index.write().next_nodes(2 * documents.len() + 1);
        let mut evaluator = Evaluator::new(shared, caller);
        let mut all_prepared = Vec::with_capacity(documents.len());
        let mut plans = Vec::with_capacity(documents.len());
        for (number, document) in (first + 1..).step_by(2).zip(documents) {
            if let Some(prepared) = PreparedDocument::new(document, number, &mut evaluator) {
                plans.extend(evaluator.evaluate(&prepared));
                all_prepared.push(prepared);
            }
        }
        // Before anything is stored ahead; the writer compares again, together with what other requests have added.
        let usages = Usages::of_changes(plans.iter().map(DocumentPlan::change));
        let has_room = || match caller.is_admin() || shared.audit.has_room() {
            true => Ok(()),
            false => Err(VaultError::from(StoreError::Full)),
        };
        let within_limits = || shared.check_limits(caller, &usages, &Usages::default());
        if let Err(error) =
            evaluator.finish().and_then(|()| within_limits()).and_then(|()| has_room())
        {
            shared.record_refusals(actor, &error)?;
            return Err(error);
        }
        let file = File::prepare(shared, all_prepared, plans, first)?;
        let alone = matches!(file.ahead, Ahead::Journal(_));
        let file = Arc::new(Mutex::new(file));
        let (done, outcome) = channel();
        let done = Box::new(move |outcome| {
            // The receiver waits until it gets this.
            let _ = done.send(outcome);
        });
        let plan: Plan = {
            let (file, caller) = (Arc::clone(&file), Arc::clone(caller));
            Box::new(move |transaction| file.lock().plan(transaction, &caller))
        };
        let context = AuditContext::new(actor.clone(), Action::Import, None);
        if alone {
            self.writer.submit_alone(context, None, plan, done);
        } else {
            self.writer.submit_for(context, None, plan, done);
        }
        let outcome = outcome.recv().unwrap_or(Err(VaultError::Stopping));
        let mut file = file.lock();
        match outcome {
            Ok(changes) => {
                let mut documents = std::mem::take(&mut file.applied);
                documents.extend(file.take_documents());
                Ok(Applied { documents, changes })
            }
            Err(error) => {
                if let Ahead::Journal(journal) = &mut file.ahead {
                    journal.take().into_iter().for_each(|one| one.abandon(&shared.records));
                }
                Err(error)
            }
        }
    }
}

impl Shared {
    /// Puts on record what stands against a file, a line each.
    fn record_refusals(&self, actor: &Actor, error: &VaultError) -> Result<(), VaultError> {
        let attempt = |error: &VaultError| {
            let subject = Subject { key: error.key().map(str::to_owned), ..Subject::default() };
            let error = Some((self.name_error)(error));
            Attempt { actor: actor.clone(), action: Action::Import, subject, error }
        };
        let attempts = match error {
            VaultError::Refused(refusals) => {
                refusals.iter().map(|one| attempt(&one.error)).collect()
            }
            other => vec![attempt(other)],
        };
        Ok(self.audit.decide_now(attempts)?)
    }
}

/// A file that is evaluated and waits for the writer.
struct File {
    documents: Vec<PreparedDocument>,
    plans: Vec<DocumentPlan>,
    ahead: Ahead,
    /// The values in `ahead`, by document.
    sealed: Vec<Option<Arc<Value>>>,
    /// The key that they are sealed with.
    key: KeyId,
    /// What became of the documents, once there is nothing left to do with them.
    applied: Vec<AppliedDocument>,
}

/// The new values of a file, sealed.
enum Ahead {
    /// To be stored with everything else.
    Batch(Batch),
    /// Stored, with the heads, until the writer has taken it.
    Journal(Option<Journal>),
}

impl File {
    /// Seals the new values, and stores them if they are many.
    fn prepare(
        shared: &Shared,
        mut documents: Vec<PreparedDocument>,
        plans: Vec<DocumentPlan>,
        journal: u64,
    ) -> Result<Self, VaultError> {
        let key = shared.records.keyring().current_id();
        let sealed: Vec<_> = plans.iter().map(|plan| plan.new_value().cloned()).collect();
        let changed = plans.iter().filter(|plan| plan.after.is_some()).count();
        let bytes: usize =
            plans.iter().filter_map(DocumentPlan::new_value).map(|new| new.size() as usize).sum();
        let ahead = if changed <= SMALL_SECRETS && bytes <= SMALL_BYTES {
            let mut batch = Batch::new();
            for (prepared, plan) in documents.iter().zip(&plans) {
                prepared.seal(shared, plan, &mut batch)?;
            }
            Ahead::Batch(batch)
        } else {
            let mut stager = Stager::new(&shared.records, journal);
            let staged = documents.iter_mut().zip(&plans).try_for_each(|(prepared, plan)| {
                let Some(after) = &plan.after else { return Ok(()) };
                let head = Staged::new(plan.before.as_deref(), Arc::clone(after));
                let bytes = plan.new_value().map(|value| (value.node(), prepared.hand_out(value)));
                stager.add(head, |batch| {
                    if let Some((node, bytes)) = &bytes {
                        shared.records.seal_chunks(*node, bytes, batch);
                    }
                })
            });
            Ahead::Journal(Some(stager.finish(staged)?))
        };
        Ok(Self { documents, plans, ahead, sealed, key, applied: Vec::new() })
    }

    /// Runs on the writer thread; where `ahead` is a batch, perhaps more than once.
    fn plan(
        &mut self,
        transaction: &mut Transaction<'_>,
        caller: &Arc<Caller>,
    ) -> Result<(), VaultError> {
        let shared = transaction.shared;
        if shared.records.keyring().current_id() != self.key {
            // A rekey may be past these values, and count on nothing being under the old key.
            return Err(VaultError::KeyReplaced);
        }
        let conflicting = self.evaluate_again(shared, caller)?;
        for ((prepared, plan), sealed) in self.documents.iter().zip(&self.plans).zip(&self.sealed) {
            match (plan.new_value(), sealed) {
                (Some(_), None) => prepared.seal(shared, plan, &mut transaction.batch)?,
                (None, Some(unwanted)) => {
                    unwanted.tombstone().mark(&mut transaction.batch);
                    shared.garbage.add(unwanted.tombstone());
                }
                _ => {}
            }
        }
        match &mut self.ahead {
            Ahead::Batch(values) => {
                transaction.batch.append(values.clone());
                for (prepared, plan) in self.documents.iter().zip(&self.plans) {
                    // What stays as it is must not be changed in the same group either.
                    let id = plan.after.as_ref().or(plan.before.as_ref()).map(|secret| secret.id());
                    id.into_iter().for_each(|id| transaction.touch(prepared.key(), id));
                    plan.put_metadata(shared, &mut transaction.batch);
                }
            }
            Ahead::Journal(journal) => {
                let mut journal = journal.take().expect("it is planned alone, and so once");
                let planned = conflicting.iter().map(|(_, record)| *record).collect();
                journal.hold(&shared.records, &planned, &mut transaction.batch);
                for &(at, _) in &conflicting {
                    self.plans[at].put_metadata(shared, &mut transaction.batch);
                }
                transaction.journal = Some(journal);
            }
        }
        let changed = || self.plans.iter().filter(|plan| plan.after.is_some());
        transaction.changes.extend(changed().map(DocumentPlan::change));
        transaction.grants.extend(changed().map(|plan| plan.grant.clone()));
        if transaction.journal.is_some() {
            // Thousands of documents are not kept while the change is published.
            self.applied = self.take_documents();
            (self.plans, self.sealed) = (Vec::new(), Vec::new());
            memory::give_back();
        }
        Ok(())
    }

    /// Evaluates the documents again whose secrets are not what they were. Gives their numbers, with
    /// the records that they were to change.
    fn evaluate_again(
        &mut self,
        shared: &Shared,
        caller: &Caller,
    ) -> Result<Vec<(usize, RecordId)>, VaultError> {
        let mut evaluator = Evaluator::new(shared, caller);
        let all = self.documents.iter().zip(&self.plans);
        let holds = all.map(|(prepared, plan)| evaluator.still_holds(prepared, plan));
        let conflicting: Vec<_> =
            (0..).zip(holds).filter(|(_, holds)| !holds).map(|(at, _)| at).collect();
        if conflicting.is_empty() {
            return Ok(Vec::new());
        }
        evaluator.ids = self.plans.iter().filter_map(DocumentPlan::new_id).cloned().collect();
        let mut planned = Vec::with_capacity(conflicting.len());
        for at in conflicting {
            let plan = &mut self.plans[at];
            let records = plan.after.iter().map(|after| (at, after.record()));
            planned.extend(records);
            if let Some(again) = evaluator.evaluate(&self.documents[at]) {
                *plan = again;
            }
        }
        evaluator.finish()?;
        Ok(planned)
    }

    /// What became of the documents, each of which is freed for it.
    fn take_documents(&mut self) -> Vec<AppliedDocument> {
        let all = std::mem::take(&mut self.documents).into_iter().zip(&self.plans);
        let documents = all.map(|(prepared, plan)| AppliedDocument {
            line: prepared.line(),
            key: plan.key(&prepared),
            outcome: plan.outcome(&prepared),
            keeps_id: plan.kept_id(&prepared),
        });
        documents.collect()
    }
}
