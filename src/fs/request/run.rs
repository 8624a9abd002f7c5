//! Executes requests: quarantine, the operation, which records its decision, count, answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::fs::files::status::requests::Opcode;
use crate::fs::{Fs, FsError};

use super::{Request, task};

/// An operation that has begun.
pub enum Started<T> {
    /// It has waited for nothing.
    Ended(Result<T, FsError>),
    /// It may have to wait.
    Waits(Pin<Box<dyn Future<Output = Result<T, FsError>> + Send>>),
}

impl Fs {
    /// Executes an operation, and gives its outcome to `answer`: on this thread if the operation waits for nothing,
    /// or else on the thread that completes what it waits for.
    pub fn run<T: 'static, F>(
        self: &Arc<Self>,
        request: Request,
        opcode: Opcode,
        operation: impl FnOnce(Arc<Self>, Request) -> F,
        answer: impl FnOnce(Result<T, FsError>) + Send + 'static,
    ) where
        F: Future<Output = Result<T, FsError>> + Send + 'static,
    {
        let start =
            |fs: &Arc<Self>, request| Started::Waits(Box::pin(operation(Arc::clone(fs), request)));
        self.run_started(request, opcode, start, answer);
    }

    /// As [`Fs::run`], for an operation that may have ended when it has begun.
    pub fn run_started<T: 'static>(
        self: &Arc<Self>,
        request: Request,
        opcode: Opcode,
        operation: impl FnOnce(&Arc<Self>, Request) -> Started<T>,
        answer: impl FnOnce(Result<T, FsError>) + Send + 'static,
    ) {
        let trial = match self.begin_trial(&request) {
            Ok(trial) => trial,
            Err(error) => return answer(Err(error)),
        };
        let sender = request.sender();
        let end = move |fs: &Self, outcome| {
            let outcome = fs.counted(&sender, opcode.operation(), outcome);
            drop(trial);
            answer(outcome);
        };
        match operation(self, request) {
            Started::Ended(outcome) => end(self, outcome),
            Started::Waits(operation) => {
                let fs = Arc::clone(self);
                task::run(operation, move |outcome| end(&fs, outcome));
            }
        }
    }

    /// As [`Fs::run`], for an operation that never waits and does not change what is stored.
    pub fn run_now<T>(
        self: &Arc<Self>,
        request: &mut Request,
        opcode: Opcode,
        operation: impl FnOnce(&Arc<Self>, &mut Request) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        let _trial = self.begin_trial(request)?;
        let outcome = operation(self, request);
        self.counted(request, opcode.operation(), outcome)
    }

    /// Counts the outcome of an operation, and remembers why it failed, for `.status/last-error`.
    pub(in crate::fs) fn counted<T>(
        &self,
        request: &Request,
        operation: Option<&'static str>,
        outcome: Result<T, FsError>,
    ) -> Result<T, FsError> {
        let Some(operation) = operation else { return outcome };
        self.operations.count(operation, &outcome);
        self.tasks.sweep_if_due();
        self.processes.sweep_if_due();
        if let Err(error) = &outcome
            && error.is_failure()
        {
            tracing::debug!(request = request.unique, uid = request.uid, operation, %error, "refused");
            self.failures.add(request.uid, operation, error);
            if matches!(error, FsError::OutOfMemory { .. }) {
                // What expired must not be in the way of the next attempt.
                self.tasks.sweep();
                self.processes.sweep();
            }
        }
        outcome
    }
}
