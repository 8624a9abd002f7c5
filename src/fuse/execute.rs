//! How the handler executes the operation of a request: on the thread that read it, unless the caller must be looked
//! up first.

use std::borrow::Borrow;
use std::future::Future;
use std::sync::Arc;

use fuser::{Errno, INodeNo, ReplyEmpty, Request as Sent};

use crate::fs::{Fs, FsError, Opcode, Request};
use crate::telemetry::request_watchdog;

use super::convert::request;
use super::reply::reply_empty;

/// Serves requests on several threads. An operation that waits for the disk or for the kernel leaves the thread, and so
/// does a request whose caller must be looked up. A request thread waits for pending publications, and for its turn in
/// quarantine.
pub(super) struct Handler {
    pub(super) fs: Arc<Fs>,
}

impl Handler {
    pub(super) fn new(fs: Arc<Fs>) -> Self {
        Self { fs }
    }

    /// Executes an operation that waits for nothing and needs no caller.
    pub(super) fn answer<T>(
        &self,
        sent: &Sent,
        opcode: Opcode,
        operation: impl FnOnce(&Arc<Fs>, &mut Request) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        self.fs.requests.count(opcode);
        let _working = request_watchdog::working();
        self.fs.run_now(&mut request(sent), opcode, operation)
    }

    /// As [`Handler::answer`], for an operation that needs its caller: on another thread if the caller must be
    /// looked up, with a copy of `input`.
    pub(super) fn answer_caller<R: Send + 'static, T, I: ToOwned + ?Sized>(
        &self,
        sent: &Sent,
        opcode: Opcode,
        reply: R,
        input: &I,
        operation: impl FnOnce(&Arc<Fs>, &mut Request, &I) -> Result<T, FsError> + Send + 'static,
        answer: impl FnOnce(R, Result<T, FsError>) + Send + 'static,
    ) where
        I::Owned: Send + 'static,
    {
        self.with_caller(sent, opcode, input, move |fs, mut request, input| {
            let operation = |fs: &_, request: &mut _| operation(fs, request, input);
            answer(reply, fs.run_now(&mut request, opcode, operation));
        });
    }

    /// Executes an operation that may wait, and answers with its outcome.
    pub(super) fn start<R, T, F>(
        &self,
        sent: &Sent,
        opcode: Opcode,
        reply: R,
        answer: fn(R, Result<T, FsError>),
        operation: impl FnOnce(Arc<Fs>, Request) -> F + Send + 'static,
    ) where
        R: Send + 'static,
        T: 'static,
        F: Future<Output = Result<T, FsError>> + Send + 'static,
    {
        self.with_caller(sent, opcode, &(), move |fs, request, ()| {
            fs.run(request, opcode, operation, move |outcome| answer(reply, outcome));
        });
    }

    /// Goes on with a request once its caller is known: here and without an allocation if it is, otherwise on
    /// another thread with a copy of `input`.
    pub(super) fn with_caller<I: ToOwned + ?Sized>(
        &self,
        sent: &Sent,
        opcode: Opcode,
        input: &I,
        then: impl FnOnce(&Arc<Fs>, Request, &I) + Send + 'static,
    ) where
        I::Owned: Send + 'static,
    {
        self.fs.requests.count(opcode);
        let mut request = request(sent);
        let run = move |fs: &Arc<Fs>, caller, input: &I| {
            let _working = request_watchdog::working();
            request.caller = Some(caller);
            then(fs, request, input);
        };
        match self.fs.known(sent.uid()) {
            Some(caller) => run(&self.fs, caller, input),
            None => {
                let (fs, input) = (Arc::clone(&self.fs), input.to_owned());
                self.fs.once_known(sent.uid(), move |caller| run(&fs, caller, input.borrow()));
            }
        }
    }

    /// Counts a request that is refused whatever it asks for.
    pub(super) fn refuse(&self, opcode: Opcode, errno: Errno) -> Errno {
        self.fs.requests.count(opcode);
        errno
    }

    /// Attributes can neither be set nor removed.
    pub(super) fn refuse_attribute(
        &self,
        sent: &Sent,
        opcode: Opcode,
        node: INodeNo,
        reply: ReplyEmpty,
    ) {
        let refused = self.answer(sent, opcode, |fs, request| fs.refuse_attribute(request, node.0));
        reply_empty(reply, refused);
    }
}
