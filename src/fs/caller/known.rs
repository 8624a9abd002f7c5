//! The caller of a request, found without waiting for a name service on a request thread.
//!
//! A request whose caller is known runs at once. Any other one waits, as a commit waits for the disk: its
//! operation is kept until the UID is looked up ([`Resolver::ask`]), and then runs on a thread of the
//! [`Executor`]. Either way the caller is settled before the operation begins, and stays the same until it
//! has ended, even if the cache drops it before that ([`KnownCaller`]).
//!
//! [`Resolver::ask`]: crate::identity::Resolver::ask

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::identity::Answer;
use crate::model::Caller;

use crate::fs::executor::{Executor, Limits};
use crate::fs::{Fs, FsError, Requester};

/// How many operations are carried out at once that had to wait, and how many of one UID.
const THREADS: usize = 8;
const THREADS_PER_UID: usize = 2;

thread_local! {
    static KNOWN: RefCell<Option<(u32, Answer)>> = const { RefCell::new(None) };
}

/// A thread works on a request of this caller, until this is dropped.
#[must_use]
pub struct KnownCaller(Option<(u32, Answer)>);

impl KnownCaller {
    pub(in crate::fs) fn new(uid: u32, answer: Answer) -> Self {
        Self(KNOWN.replace(Some((uid, answer))))
    }
}

impl Drop for KnownCaller {
    fn drop(&mut self) {
        drop(KNOWN.replace(self.0.take()));
    }
}

/// The caller that this thread works for, if it is this UID.
fn working_for(uid: u32) -> Option<Answer> {
    KNOWN.with_borrow(|known| match known {
        Some((known, answer)) if *known == uid => Some(answer.clone()),
        _ => None,
    })
}

impl Fs {
    /// The caller behind a UID if it is known, for the operation that this thread begins now. Or else the
    /// operation must wait ([`Fs::once_known`]).
    pub fn known_caller(&self, uid: u32) -> Option<KnownCaller> {
        Some(KnownCaller::new(uid, self.identities.known(uid)?))
    }

    /// Runs an operation of this UID once its caller is known, or once the lookup has failed: then the
    /// operation fails by itself. Runs it on this thread if the caller is known already, or if too many
    /// operations wait, and on another one otherwise.
    pub fn once_known(self: &Arc<Self>, uid: u32, operation: impl FnOnce() + Send + 'static) {
        let (fs, this) = (Arc::clone(self), std::thread::current().id());
        let then = move |answer: Answer| {
            let run = move || {
                let _known = KnownCaller::new(uid, answer);
                operation();
            };
            if std::thread::current().id() == this {
                run();
            } else {
                fs.executor.submit(uid.into(), Box::new(run));
            }
        };
        self.identities.ask(uid, Box::new(then));
    }

    /// As [`Fs::once_known`], for an operation that waits for nothing: it runs on the thread that looked the
    /// caller up, and so is not behind operations that wait for it.
    pub(in crate::fs) fn as_soon_as_known(
        &self,
        uid: u32,
        operation: impl FnOnce() + Send + 'static,
    ) {
        let then = move |answer| {
            let _known = KnownCaller::new(uid, answer);
            operation();
        };
        self.identities.ask(uid, Box::new(then));
    }

    /// Gives the caller behind a UID to `then`: at once if it is known, or later on another thread.
    pub(in crate::fs) fn with_caller(
        self: &Arc<Self>,
        uid: u32,
        then: impl FnOnce(Result<Arc<Caller>, FsError>) + Send + 'static,
    ) {
        match working_for(uid).or_else(|| self.identities.known(uid)) {
            Some(answer) => then(answer.map_err(FsError::from)),
            None => self.once_known(uid, move || {
                let answer = working_for(uid).expect("it was settled before");
                then(answer.map_err(FsError::from));
            }),
        }
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

    /// The caller of a request. Waits for a name service only on threads that neither serve requests nor
    /// belong to several UIDs: all others know the caller before they begin.
    pub(in crate::fs) fn caller(&self, who: &Requester) -> Result<Arc<Caller>, FsError> {
        let answer = working_for(who.uid).unwrap_or_else(|| self.identities.resolve(who.uid));
        Ok(answer?)
    }

    /// The same, if it is known.
    pub(in crate::fs) fn caller_if_known(&self, who: &Requester) -> Option<Arc<Caller>> {
        working_for(who.uid).or_else(|| self.identities.known(who.uid))?.ok()
    }
}

/// Threads for operations that had to wait. One UID with thousands of them delays no other one.
pub(in crate::fs) fn executor() -> Executor {
    Executor::new("late", Limits { threads: THREADS, per_key: THREADS_PER_UID, kept: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_knows_whom_it_works_for() {
        let caller = Arc::new(Caller::new(7, None, [], false));
        assert!(working_for(7).is_none());
        let known = KnownCaller::new(7, Ok(Arc::clone(&caller)));
        assert!(working_for(8).is_none());
        {
            let _other = KnownCaller::new(8, Ok(caller));
            assert!(working_for(7).is_none() && working_for(8).is_some());
        }
        assert!(working_for(7).is_some());
        drop(known);
        assert!(working_for(7).is_none());
    }
}
