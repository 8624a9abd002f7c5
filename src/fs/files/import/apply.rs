//! From a file that is closed to secrets and a report.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::audit::{Actor, Process};
use crate::document::{DocumentError, DocumentErrors, parse};
use crate::fs::files::draft::Occasion;
use crate::fs::kernel::invalidator::StaleName;
use crate::fs::kernel::retries::Note;
use crate::fs::{Fs, FsError, Request};
use crate::identity::{Answer, ResolveError};
use crate::model::{Plaintext, printable};
use crate::telemetry::ImportResult;
use crate::vault::{Applied, AppliedDocument, Outcome, VaultError};

use super::file::{ImportFile, Next};
use super::full_path;
use super::reports::Report;

/// How many lines of a report `.status/last-error` repeats.
const LINES_IN_ERROR: usize = 5;

/// Why nothing of a file was applied.
#[derive(Debug)]
pub enum NotApplied {
    /// It is not a file of documents.
    Documents(DocumentErrors),
    /// The vault said no.
    Vault(VaultError),
    /// The importer cannot be resolved.
    Identity(ResolveError),
}

impl NotApplied {
    /// A line for each thing that is wrong.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Documents(errors) => errors.iter().map(ToString::to_string).collect(),
            Self::Vault(VaultError::Refused(refusals)) => refusals.lines().collect(),
            Self::Vault(error) => vec![error.to_string()],
            Self::Identity(error) => vec![error.to_string()],
        }
    }

    /// As [`NotApplied::lines`], for the log: without text of the file that was not understood.
    pub fn lines_for_log(&self) -> Vec<String> {
        match self {
            Self::Documents(errors) => errors.iter().map(DocumentError::for_log).collect(),
            _ => self.lines(),
        }
    }
}

/// The first few lines.
impl fmt::Display for NotApplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        f.write_str(&lines[..lines.len().min(LINES_IN_ERROR)].join("; "))?;
        match lines.len().saturating_sub(LINES_IN_ERROR) {
            0 => Ok(()),
            more => write!(f, "; {more} more in the report"),
        }
    }
}

/// A line of a report.
pub(in crate::fs) fn line_of(document: &AppliedDocument) -> String {
    let what = match document.outcome {
        Outcome::Created => "created",
        Outcome::CreatedEmpty => "created, empty: the document gives no value",
        Outcome::Updated => "updated",
        Outcome::Unchanged => "unchanged",
    };
    let id = document.keeps_id.as_ref().map(|id| format!("; it keeps its id {id}"));
    format!("line {}: {}: {what}{}", document.line, document.key, id.unwrap_or_default())
}

/// A line for each document, or for each thing that is wrong.
fn report_of(outcome: &Result<Applied, NotApplied>) -> String {
    match outcome {
        Ok(applied) => {
            applied.documents.iter().map(|one| printable(&line_of(one)) + "\n").collect()
        }
        Err(error) => {
            let mut lines = error.lines();
            lines.insert(0, "nothing of this file was applied:".to_owned());
            lines.into_iter().map(|line| printable(&line) + "\n").collect()
        }
    }
}

impl Fs {
    /// Applies the text of a file with the rights of `importer`; `process` is for the record. It writes to
    /// the disk, so it must not run on a request thread. The caller still has to notify the kernel of what
    /// [`Fs::stale_after`] gives.
    pub(in crate::fs) fn apply(
        &self,
        importer: Answer,
        process: Process,
        text: &[u8],
    ) -> Result<Applied, NotApplied> {
        let outcome = importer.map_err(NotApplied::Identity).and_then(|caller| {
            let documents = parse(text).map_err(NotApplied::Documents)?;
            self.vault.apply(&Actor { caller, process }, documents).map_err(NotApplied::Vault)
        });
        self.count_imported(&outcome);
        outcome
    }

    fn count_imported(&self, outcome: &Result<Applied, NotApplied>) {
        let metrics = &self.vault.telemetry().metrics;
        let Ok(applied) = outcome else { return metrics.imported(ImportResult::Refused, 1) };
        for document in &applied.documents {
            let result = match document.outcome {
                Outcome::Created | Outcome::CreatedEmpty => ImportResult::Created,
                Outcome::Updated => ImportResult::Updated,
                Outcome::Unchanged => ImportResult::Unchanged,
            };
            metrics.imported(result, 1);
        }
    }

    /// Applies a dropped file if that is due.
    pub(in crate::fs) async fn apply_dropped(
        self: &Arc<Self>,
        request: &Request,
        file: &Arc<ImportFile>,
        occasion: Occasion,
    ) -> Result<(), FsError> {
        let (bytes, zeros) = loop {
            match file.next(occasion) {
                Next::Nothing => return Ok(()),
                Next::Refuse(error) => {
                    self.report(file, format!("nothing of this file was applied:\n{error}\n"));
                    return Err(error);
                }
                // If the one under way fails, this one has its error.
                Next::Queued(applied) => applied.await??,
                Next::Apply(bytes, zeros) => break (bytes, zeros),
            }
        };
        if occasion != Occasion::Release {
            // Forgotten in a moment, and the process cannot have many.
            let charge = self.budget.restore(file.account(), Note::BYTES);
            self.remember_of_process(request, Note::Applied(Arc::clone(file)), charge);
        }
        let (outcome, stale) = self
            .apply_in_turn(request, file, bytes, zeros)
            .await
            .unwrap_or_else(|error| (Err(error), Vec::new()));
        let waiting = file.applied();
        self.forget_stale(request.unique, occasion, stale).await;
        waiting.into_iter().for_each(|waiter| drop(waiter.send(outcome.clone())));
        outcome
    }

    /// Applies the bytes of a file on a thread for that, after the other files of its UID.
    async fn apply_in_turn(
        self: &Arc<Self>,
        request: &Request,
        file: &Arc<ImportFile>,
        bytes: Arc<Plaintext>,
        zeros: usize,
    ) -> Result<(Result<(), FsError>, Vec<StaleName>), FsError> {
        let (process, uid) = (self.programs.process(request), file.uid());
        // The threads that apply files serve all UIDs: none of them waits for a name service.
        let importer = self.answer_of(request, uid).await?;
        let (fs, of, size) = (Arc::clone(self), Arc::clone(file), bytes.len());
        let work = move || {
            // It may have waited for others of the UID.
            let importer = fs.identities.known(uid).unwrap_or(importer);
            let outcome = match zeros {
                0 => fs.apply(importer, process, bytes.expose()),
                _ => fs.apply(importer, process, with_a_zero(&bytes).expose()),
            };
            // Here, so that reports of one UID come in the order of its files.
            fs.dropped_applied(&of, outcome)
        };
        self.import.queue.run(uid, size, work).await.map_err(|error| {
            tracing::error!(%error, "no thread could be started to apply a file");
            FsError::BadHandle
        })
    }

    /// Reports how it went. Gives what the closer is told, and what the kernel must forget.
    fn dropped_applied(
        &self,
        file: &ImportFile,
        outcome: Result<Applied, NotApplied>,
    ) -> (Result<(), FsError>, Vec<StaleName>) {
        self.report(file, report_of(&outcome));
        match outcome {
            Ok(applied) => {
                self.watchers.imported(&applied.changes);
                (Ok(()), self.stale_after(&applied.changes))
            }
            Err(why) => {
                let path = full_path(&file.path());
                (Err(FsError::NotApplied { path, why: Arc::new(why) }), Vec::new())
            }
        }
    }

    fn report(&self, file: &ImportFile, text: String) {
        let (node, at) = (self.nodes.next_private(), SystemTime::now());
        let (uid, path) = (file.uid(), file.path());
        let text = self.import.reports.text(&self.budget, (uid, file.account()), &path, text);
        self.import.reports.add(Report { node, uid, path, text, at });
    }
}

/// One zero stands for all zeros at the end that were never written: the text is as wrong with one.
fn with_a_zero(bytes: &Plaintext) -> Plaintext {
    let mut longer = Plaintext::with_capacity(bytes.len() + 1);
    longer.push(bytes.expose());
    longer.push(b"\0");
    longer
}
