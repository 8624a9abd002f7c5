//! The caller of a request, found without waiting for a name service on a request thread.
//!
//! A request whose caller is known runs at once. Any other one waits, as a commit waits for the disk: its
//! operation is kept until the UID is looked up ([`Resolver::ask`]), and then runs on a thread of the
//! [`Executor`]. Either way the request has its caller before the operation begins.
//!
//! [`Resolver::ask`]: crate::identity::Resolver::ask

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::identity::Answer;
use crate::model::Caller;

use crate::fs::executor::{Executor, Limits};
use crate::fs::{Fs, FsError, Request};

/// How many operations are carried out at once that had to wait, and how many of one UID.
const THREADS: usize = 8;
const THREADS_PER_UID: usize = 2;

impl Fs {
    /// What a UID stands for, if it is known.
    pub fn known(&self, uid: u32) -> Option<Answer> {
        self.identities.known(uid)
    }

    /// Runs an operation of this UID once its caller is known, or once the lookup has failed: then the
    /// operation fails by itself. Runs it on this thread if the caller is known already, or if too many
    /// operations wait, and on another one otherwise.
    pub fn once_known(self: &Arc<Self>, uid: u32, operation: impl FnOnce(Answer) + Send + 'static) {
        let (fs, this) = (Arc::clone(self), std::thread::current().id());
        let then = move |answer: Answer| {
            if std::thread::current().id() == this {
                operation(answer);
            } else {
                // The thread that looks up is needed by others.
                fs.executor.submit(uid.into(), Box::new(move || operation(answer)));
            }
        };
        self.identities.ask(uid, Box::new(then));
    }

    /// The caller behind a UID, which need not be that of the request.
    pub(in crate::fs) async fn caller_of(
        self: &Arc<Self>,
        request: &Request,
        uid: u32,
    ) -> Result<Arc<Caller>, FsError> {
        Ok(self.answer_of(request, uid).await??)
    }

    /// As [`Fs::caller_of`]; or why the lookup failed.
    pub(in crate::fs) async fn answer_of(
        self: &Arc<Self>,
        request: &Request,
        uid: u32,
    ) -> Result<Answer, FsError> {
        let of_request = request.caller.as_ref().filter(|_| request.uid == uid);
        if let Some(answer) = of_request.cloned().or_else(|| self.identities.known(uid)) {
            return Ok(answer);
        }
        let (tell, told) = oneshot::channel();
        // The receiver waits below. What follows waits for nothing on the thread that looked the caller up, and so
        // is not behind operations that wait for it.
        self.identities.ask(uid, Box::new(move |answer| drop(tell.send(answer))));
        Ok(told.await?)
    }

    /// Has the callers behind these UIDs looked up, all at once, and waits for at most that long. Those that
    /// are still being looked up then.
    pub fn still_unknown(&self, uids: BTreeSet<u32>, patience: Duration) -> BTreeSet<u32> {
        let end = Instant::now() + patience;
        let (told, known) = channel();
        let mut unknown = BTreeSet::new();
        for uid in uids.into_iter().filter(|uid| self.identities.known(*uid).is_none()) {
            let told = told.clone();
            // The receiver is gone after that time.
            self.identities.ask(uid, Box::new(move |_| told.send(uid).unwrap_or_default()));
            unknown.insert(uid);
        }
        while !unknown.is_empty()
            && let Ok(uid) = known.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            unknown.remove(&uid);
        }
        unknown
    }
}

/// Threads for operations that had to wait. One UID with thousands of them delays no other one.
pub(in crate::fs) fn executor() -> Executor {
    Executor::new("late", Limits { threads: THREADS, per_key: THREADS_PER_UID, kept: 0 })
}
