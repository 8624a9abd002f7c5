//! A request of the kernel, and how one is executed.

mod run;
pub(super) mod task;

pub use run::Started;

use std::sync::Arc;

use crate::identity::Answer;
use crate::model::Caller;

use super::audit::Decision;
use super::{Fs, FsError};

/// A request that is being executed: its sender, as the kernel reports it, and what is known of it so far.
#[derive(Clone, Default)]
pub struct Request {
    /// The UID that decides.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The thread; 0 if it lives in a PID namespace that the daemon does not see.
    pub task: u32,
    /// The request's number in its mount.
    pub unique: u64,
    /// Whether it was sent before, to a process that died before it answered.
    pub is_resent: bool,
    /// Tells the process's table of open files from others, where the kernel says so: when a file is
    /// written or a descriptor is closed. 0 elsewhere.
    pub files: u64,
    /// What the UID was found to stand for, if the operation needs it: it was looked up before the operation
    /// began, and stays the same until it has ended.
    pub caller: Option<Answer>,
    /// What goes on record before the answer, if this layer decides it.
    pub(super) decision: Option<Decision>,
}

impl Request {
    /// The same request without its caller and decision.
    pub(super) fn sender(&self) -> Self {
        self.as_of(self.task)
    }

    /// As [`Request::sender`], as if this thread had sent it.
    pub(super) fn as_of(&self, task: u32) -> Self {
        let &Self { uid, gid, unique, is_resent, files, .. } = self;
        Self { uid, gid, task, unique, is_resent, files, caller: None, decision: None }
    }
}

impl Fs {
    /// The caller of a request. Waits for a name service only if the request does not have it: that is on threads
    /// that serve no requests.
    pub(super) fn caller(&self, request: &Request) -> Result<Arc<Caller>, FsError> {
        let answer = request.caller.clone();
        Ok(answer.unwrap_or_else(|| self.identities.resolve(request.uid))?)
    }

    /// The same, if it is known.
    pub(super) fn caller_if_known(&self, request: &Request) -> Option<Arc<Caller>> {
        request.caller.clone().or_else(|| self.identities.known(request.uid))?.ok()
    }
}
