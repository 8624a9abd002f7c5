//! The one writer: plans of many callers become one durable batch.

mod audit;
mod replicate;
pub(super) mod reply_cache;
pub(super) mod staging;
mod thread;
pub(super) mod transaction;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use crate::audit::Anchor;

use super::Shared;
use super::audit::AuditContext;
use super::error::VaultError;
use super::integrity::Integrity;
use reply_cache::{ReplyCache, RequestId};
use transaction::{Change, Transaction};

use thread::Writer;

/// Called on the writer thread with what changed, once that is durable and visible. It must not
/// block: every other writer waits behind it.
pub type Done = Box<dyn FnOnce(Result<Vec<Change>, VaultError>) + Send>;

/// Decides, on the writer thread, what a request changes. It may run more than once: when the first
/// attempt touches what an earlier request of the same group changes, it is made again after it.
pub(super) type Plan = Box<dyn Fn(&mut Transaction<'_>) -> Result<(), VaultError> + Send>;

struct Request {
    /// The caller; none for the daemon's own work, which is not recorded.
    context: Option<AuditContext>,
    /// The request of the mount that asked, for its cached reply.
    origin: Option<RequestId>,
    plan: Plan,
    done: Done,
    /// It shares its group with no other request.
    alone: bool,
    /// Another host did it: it is stored here alone.
    foreign: bool,
}

impl Request {
    /// Work of the daemon itself, which may share a group with others.
    fn new(plan: Plan, done: Done) -> Self {
        Self { context: None, origin: None, plan, done, alone: false, foreign: false }
    }
}

/// The handle on the writer thread; dropping it finishes what was handed in and ends the thread.
pub(super) struct WriterHandle {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl WriterHandle {
    /// `anchor` is the end of the audit log as recorded in the store.
    pub(super) fn start(
        shared: Arc<Shared>,
        reply_cache: ReplyCache,
        anchor: Anchor,
        integrity: Integrity,
    ) -> io::Result<Self> {
        let (requests, incoming) = channel();
        let thread = std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || Writer::new(shared, reply_cache, anchor, integrity).run(&incoming))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Submits work of the daemon itself.
    pub(super) fn submit(&self, plan: Plan, done: Done) {
        submit(self.requests(), Request::new(plan, done));
    }

    /// Hands in what a caller asked for: it goes on record, and its request gets a cached reply.
    pub(super) fn submit_for(
        &self,
        context: AuditContext,
        origin: Option<RequestId>,
        plan: Plan,
        done: Done,
    ) {
        let request = Request { context: Some(context), origin, ..Request::new(plan, done) };
        submit(self.requests(), request);
    }

    /// As [`WriterHandle::submit_for`], for a plan that touches so much that it shares no group: it
    /// need not tell what it touches, and it runs once.
    pub(super) fn submit_alone(
        &self,
        context: AuditContext,
        origin: Option<RequestId>,
        plan: Plan,
        done: Done,
    ) {
        let request =
            Request { context: Some(context), origin, alone: true, ..Request::new(plan, done) };
        submit(self.requests(), request);
    }

    /// For a thread that goes on handing in. It must end before this is dropped.
    pub(super) fn submitter(&self) -> Submitter {
        Submitter(self.requests().clone())
    }

    fn requests(&self) -> &Sender<Request> {
        self.requests.as_ref().expect("present until drop")
    }
}

/// Hands in requests from another thread.
pub(super) struct Submitter(Sender<Request>);

impl Submitter {
    pub(super) fn submit(&self, plan: Plan, done: Done) {
        submit(&self.0, Request::new(plan, done));
    }

    /// Hands in what another host did.
    pub(super) fn submit_foreign(&self, plan: Plan, done: Done) {
        submit(&self.0, Request { alone: true, foreign: true, ..Request::new(plan, done) });
    }
}

fn submit(requests: &Sender<Request>, request: Request) {
    if let Err(refused) = requests.send(request) {
        (refused.0.done)(Err(VaultError::Stopping));
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // The thread's panic has aborted the process already, or a test reports it.
            let _ = thread.join();
        }
    }
}
