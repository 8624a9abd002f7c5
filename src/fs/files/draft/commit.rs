//! When a draft is stored, and how requests for that are answered.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::fs::FsError;
use crate::fs::caller::closing::Closer;
use crate::model::Plaintext;
use crate::vault::{Value, Vault, WriteTarget};

use super::{Changed, Content, Dirty, Draft, State, Target, Waiter};

/// When a commit is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) enum Occasion {
    /// The process that opened the file closed a descriptor of it.
    Close,
    /// The writer asked for it to be stored, or it was truncated by path.
    Sync,
    /// It was created without being opened.
    Create,
    /// The last handle is gone.
    Release,
}

impl Occasion {
    /// Whether the answer may wait until the kernel has forgotten what is stale. A creation must not: its
    /// caller holds the kernel's lock on the directory. A release must not either: the only request that
    /// waits for it is the next open of the name, and its caller may hold such a lock.
    pub(in crate::fs) fn may_wait_for_caches(self) -> bool {
        matches!(self, Self::Close | Self::Sync)
    }
}

/// What to do about a request for a commit.
pub(in crate::fs) enum Next {
    /// Nothing has to be stored.
    Nothing,
    /// What was written is not whole.
    Refuse(FsError),
    /// A commit is under way: ask again when it has ended.
    Queued(oneshot::Receiver<Result<(), FsError>>),
    /// Store this.
    Commit(Target, Commit),
}

/// What is to be stored.
pub(in crate::fs) enum Commit {
    /// These are all bytes.
    Whole(Plaintext),
    /// These go to the end of the current value.
    Append(Plaintext),
}

/// The first bytes of what was appended, while they are being stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appending {
    /// The request that wants them stored. What it appended must not be appended again.
    pub(super) unique: u64,
    pub(super) length: usize,
}

impl Draft {
    /// A signal is killing a process that closes the file.
    pub(in crate::fs) fn abandon(&self, closer: Closer) {
        let mut state = self.state.lock();
        state.abandoned.killed(closer);
        if state.slot.is_some() {
            self.shelve(&mut state);
        }
    }

    /// What a request for a commit comes to.
    pub(in crate::fs) fn next(&self, occasion: Occasion, unique: u64) -> Next {
        let mut state = self.state.lock();
        if state.committing {
            let (waiter, committed) = oneshot::channel();
            state.waiting.push(waiter);
            return Next::Queued(committed);
        }
        let due = match (occasion, state.dirty) {
            (_, Dirty::Clean) | (Occasion::Close, Dirty::Emptied) => false,
            (Occasion::Release, Dirty::Emptied) => state.flushed && !state.abandoned.is_abandoned(),
            (Occasion::Release, Dirty::Written) => !state.abandoned.is_abandoned(),
            (Occasion::Close | Occasion::Sync | Occasion::Create, _) => true,
        };
        if occasion != Occasion::Release {
            state.abandoned.resumed();
        }
        if occasion == Occasion::Close && !state.flushed {
            state.flushed = true;
            if state.dirty == Dirty::Emptied {
                self.shelve(&mut state);
            }
        }
        if let Some(why) = &state.cut_off {
            return Next::Refuse(why.clone());
        }
        if !due || state.ended {
            return Next::Nothing;
        }
        let commit = match &state.content {
            Content::Own(bytes) => Commit::Whole(Plaintext::copy_of(bytes.expose())),
            Content::Appended { tail, .. } => Commit::Append(Plaintext::copy_of(tail.expose())),
            Content::Base(_) => return Next::Nothing,
        };
        let mut target = state.target.clone();
        if let (Dirty::Emptied, Target::Value(WriteTarget::New { exclusive, .. })) =
            (state.dirty, &mut target)
        {
            // The file only has to exist. If another process has created it since, that one stays.
            *exclusive = true;
        }
        state.dirty = Dirty::Clean;
        state.committing = true;
        if let Commit::Append(tail) = &commit {
            state.appending = Some(Appending { unique, length: tail.len() });
            self.shelve(&mut state);
        }
        Next::Commit(target, commit)
    }

    /// The request that was appending when the process before this one ended: whether it was carried out
    /// must be found out before anything is stored.
    pub(in crate::fs) fn unsettled(&self) -> Option<u64> {
        let state = self.state.lock();
        state.appending.filter(|_| !state.committing).map(|appending| appending.unique)
    }

    /// The request that [`Draft::unsettled`] gave was carried out and made `stored`, or was not.
    pub(in crate::fs) fn settle(&self, vault: &Vault, stored: Option<&Arc<Value>>) {
        let mut state = self.state.lock();
        if state.committing {
            return;
        }
        let Some(appending) = state.appending.take() else { return };
        if let Some(stored) = stored {
            self.settle_append(vault, &mut state, appending, Some(stored));
        }
    }

    fn settle_append(
        &self,
        vault: &Vault,
        state: &mut State,
        appending: Appending,
        stored: Option<&Arc<Value>>,
    ) {
        if let (Some(stored), Target::Value(target)) = (stored, &mut state.target) {
            *target = WriteTarget::Existing(stored.record());
        }
        state.content.append_settled(appending.length, stored);
        if state.content.is_appended() {
            // What is left has moved to the front.
            self.keep_written(vault, state, Changed::All);
        } else {
            state.dirty = Dirty::Clean;
        }
        if state.dirty == Dirty::Clean {
            state.shows = match &state.content {
                Content::Base(base) => Some(base.node()),
                Content::Own(_) | Content::Appended { .. } => None,
            };
            let aside = state.aside.take();
            self.shelve(state);
            drop(aside);
        }
    }

    /// Whether the opener closed a descriptor, and what there is will be stored with the last one's end.
    pub(in crate::fs) fn is_published_when_released(&self) -> bool {
        let state = self.state.lock();
        let may = state.flushed && !state.abandoned.is_abandoned() && !state.ended;
        may && !state.handles.is_empty() && state.dirty != Dirty::Clean
    }

    /// Whether the file was to be created only if it does not exist.
    pub(in crate::fs) fn must_create(&self) -> bool {
        matches!(self.target(), Target::Value(WriteTarget::New { exclusive: true, .. }))
    }

    /// The process before this one stored what there was to store.
    pub(in crate::fs) fn is_stored(&self) {
        let mut state = self.state.lock();
        // What was appended was settled already, and the rest is not stored.
        if state.content.is_appended() || state.dirty == Dirty::Clean {
            return;
        }
        state.dirty = Dirty::Clean;
        state.slot = None;
        state.aside = None;
    }

    /// A commit is over. Gives the requests that wait for it. It made a version, unless it failed. After the
    /// first one the file exists, and what comes next is an update of it.
    pub(in crate::fs) fn committed(
        &self,
        vault: &Vault,
        version: Option<&Arc<Value>>,
    ) -> Vec<Waiter> {
        let mut state = self.state.lock();
        state.committing = false;
        let appending = state.appending.take().filter(|_| state.content.is_appended());
        if let Some(appending) = appending {
            self.settle_append(vault, &mut state, appending, version);
            return std::mem::take(&mut state.waiting);
        }
        if let (Some(version), Target::Value(target @ WriteTarget::New { .. })) =
            (version, &mut state.target)
        {
            *target = WriteTarget::Existing(version.record());
        }
        let mut aside = None;
        if state.dirty == Dirty::Clean {
            state.shows = version.map(|version| version.node());
            aside = state.aside.take();
            if let (Some(version), Target::Value(_)) = (version, &state.target) {
                // What is appended from now on goes to the end of what is current then.
                state.content = Content::Base(Arc::clone(version));
            }
        }
        self.shelve(&mut state);
        drop(aside);
        std::mem::take(&mut state.waiting)
    }
}
