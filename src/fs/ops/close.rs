//! From a draft to a new version: at close, at fsync, or when the last handle is gone.

use std::sync::Arc;

use crate::audit::Actor;
use crate::telemetry::request_watchdog;
use crate::vault::{Change, Done, RequestId, Secret, VaultError, WriteTarget};

use crate::fs::caller::closing::{Close, Judged};
use crate::fs::files::draft::{Commit, Draft, Next, Occasion, Target, Waiter};
use crate::fs::files::import::ImportFile;
use crate::fs::kernel::handles::{Handle, is_version, is_writer};
use crate::fs::kernel::invalidator::{Invalidation, StaleName};
use crate::fs::{Answer, Fs, FsError, Requester};

/// What a handle has to store at a close or a sync.
enum ToStore {
    Draft(Arc<Draft>),
    ImportFile(Arc<ImportFile>),
    /// The process before this one stored it, and may not have answered.
    IsDone,
    Nothing,
    Failed(FsError),
}

impl Fs {
    /// A descriptor of the file was closed. What was written since the last commit is stored before
    /// the answer, unless a signal is killing the writer, or a child closes what it inherited.
    /// Locks of fcntl(2) that the closing process has go once it is stored.
    pub fn flush(self: &Arc<Self>, who: &Requester, node: u64, handle: u64, answer: Answer<()>) {
        let answer = self.unlocking_closed(node, handle, who.files, answer);
        let answer = self.noting(who, "close", answer);
        match self.to_store(who, handle) {
            ToStore::Draft(draft) => self.judge(who, move |fs, who, judged| {
                let close = Close::by(who, draft.finisher(), draft.openers_files(), judged);
                fs.close_draft(who, draft, close, answer);
            }),
            ToStore::ImportFile(file) => self.judge(who, move |fs, who, judged| {
                let close = file.close_by(who, judged);
                fs.close_dropped(who, file, close, answer);
            }),
            ToStore::IsDone => self.answer_done(who, Occasion::Close, answer),
            ToStore::Nothing => answer(Ok(())),
            ToStore::Failed(error) => answer(Err(error)),
        }
    }

    /// Runs what finds out which process closes a descriptor. If the process is not known, that takes a
    /// while, so it runs on another thread.
    fn judge(
        self: &Arc<Self>,
        who: &Requester,
        close: impl FnOnce(&Arc<Self>, &Requester, Option<Judged>) + Send + 'static,
    ) {
        if who.task != 0 {
            return close(self, who, None);
        }
        let (fs, who, judged) = (Arc::clone(self), *who, self.unknown_closers.add(who.uid));
        let close = Box::new(move || close(&fs, &who, Some(judged)));
        self.executor.submit(who.uid.into(), close);
    }

    fn close_draft(
        self: &Arc<Self>,
        who: &Requester,
        draft: Arc<Draft>,
        close: Close,
        answer: Answer<()>,
    ) {
        match close {
            Close::Finished => self.commit(draft, Occasion::Close, self.origin(who), answer),
            Close::Inherited => {
                // This may be the last descriptor, so the next lookup of the name waits for a release.
                if draft.is_published_when_released() {
                    self.settling.closing(&draft.path());
                }
                answer(Ok(()));
            }
            Close::Killed(closer) => {
                draft.abandon(closer);
                answer(closed_by_killed(who));
            }
        }
    }

    /// The caller wants it stored now.
    pub fn sync(self: &Arc<Self>, who: &Requester, handle: u64, answer: Answer<()>) {
        self.store_now(who, handle, self.noting(who, "fsync", answer));
    }

    pub(in crate::fs) fn store_now(
        self: &Arc<Self>,
        who: &Requester,
        handle: u64,
        answer: Answer<()>,
    ) {
        match self.to_store(who, handle) {
            ToStore::Draft(draft) => {
                self.commit(draft, Occasion::Sync, self.origin(who), answer);
            }
            ToStore::ImportFile(file) => self.sync_dropped(who, file, answer),
            ToStore::IsDone => self.answer_done(who, Occasion::Sync, answer),
            ToStore::Nothing => answer(Ok(())),
            ToStore::Failed(error) => answer(Err(error)),
        }
    }

    fn to_store(&self, who: &Requester, handle: u64) -> ToStore {
        let found = self.handles.find(handle);
        if !is_writer(handle) && !matches!(found, Ok(Handle::Draft(_) | Handle::ImportFile(_))) {
            // A reader has nothing to store.
            return ToStore::Nothing;
        }
        match (self.was_done(who), found) {
            (Err(error), _) => ToStore::Failed(error),
            (Ok(true), found) => {
                if let Ok(Handle::Draft(draft)) = found {
                    draft.is_stored();
                }
                ToStore::IsDone
            }
            (Ok(false), Ok(Handle::Draft(draft))) => match self.settle_append(&draft) {
                Ok(()) => ToStore::Draft(draft),
                Err(error) => ToStore::Failed(error),
            },
            (Ok(false), Ok(Handle::ImportFile(file))) => ToStore::ImportFile(file),
            (Ok(false), Ok(_)) => ToStore::Nothing,
            (Ok(false), Err(_)) => ToStore::Failed(FsError::Lost),
        }
    }

    /// The last descriptor of a handle is gone. No process waits for the answer. It says that a server that
    /// takes over has nothing left to do about the handle.
    pub fn release(
        self: &Arc<Self>,
        who: &Requester,
        node: u64,
        handle: u64,
        answer: impl FnOnce() + Send + 'static,
    ) {
        if is_version(handle) {
            self.close_version(node);
            self.locking_readers.closed(handle);
            self.unlock_released(handle);
            return answer();
        }
        self.bound.closed(handle);
        let fs = Arc::clone(self);
        // The next holder of the lock sees what is stored now.
        let answer = move || {
            fs.unlock_released(handle);
            answer();
        };
        let draft = match self.handles.remove(handle) {
            Some(Handle::Draft(draft)) => draft,
            Some(Handle::ImportFile(file)) => {
                self.release_dropped(who, file);
                return answer();
            }
            Some(Handle::Scratch(scratch)) => {
                scratch.closed(handle);
                return answer();
            }
            _ => return answer(),
        };
        // If this cannot be found out, the commit decides: the version that the draft began with is
        // superseded if the request was carried out.
        if matches!(self.was_done(who), Ok(true)) {
            draft.is_stored();
        }
        if self.settle_append(&draft).is_err() {
            draft.end();
        }
        if !draft.closed(handle) {
            return answer();
        }
        self.drafts.closed(&draft);
        // Begins before the writer is looked up, which a server that has just taken over has to do: requests that
        // come later must not overtake it.
        let settling = self.settling.begin(draft.path());
        request_watchdog::has_begun();
        let (fs, who) = (Arc::clone(self), *who);
        self.as_soon_as_known(draft.uid(), move || {
            fs.publish_released(&who, draft, settling, answer)
        });
    }

    fn publish_released(
        self: &Arc<Self>,
        who: &Requester,
        draft: Arc<Draft>,
        settling: u64,
        answer: impl FnOnce() + Send + 'static,
    ) {
        let (fs, settled) = (Arc::clone(self), Arc::clone(&draft));
        let settled = self.noting(
            who,
            "close",
            Box::new(move |_| {
                fs.drafts.remove(&settled);
                fs.settling.end(settling);
                answer();
            }),
        );
        self.commit(draft, Occasion::Release, self.origin(who), settled);
    }

    pub(in crate::fs) fn commit(
        self: &Arc<Self>,
        draft: Arc<Draft>,
        occasion: Occasion,
        origin: Option<RequestId>,
        waiter: Waiter,
    ) {
        let fs = Arc::clone(self);
        let again = move |draft, waiter| fs.commit(draft, occasion, origin, waiter);
        let unique = origin.as_ref().map_or(0, |origin| origin.unique);
        let (target, commit, waiter) = match draft.next(occasion, unique, waiter, again) {
            Next::Answer(waiter) => {
                if draft.is_published_when_released() {
                    self.settling.closing(&draft.path());
                }
                return waiter(Ok(()));
            }
            Next::Refuse(error, waiter) => {
                self.not_stored(&draft);
                return waiter(Err(error));
            }
            Next::Queued => return,
            Next::Commit(target, commit, waiter) => (target, commit, waiter),
        };
        let process = draft.process().clone();
        let fs = Arc::clone(self);
        // The UID that opened the file may differ from the one that closes it.
        self.with_caller(draft.uid(), move |caller| match caller {
            Ok(caller) => {
                let actor = Actor { caller, process };
                fs.store(actor, draft, (target, commit), occasion, origin, waiter);
            }
            Err(error) => fs.committed(&draft, waiter, Err(error)),
        });
    }

    fn store(
        self: &Arc<Self>,
        actor: Actor,
        draft: Arc<Draft>,
        (target, commit): (Target, Commit),
        occasion: Occasion,
        origin: Option<RequestId>,
        waiter: Waiter,
    ) {
        let fs = Arc::clone(self);
        let creates = matches!(target, Target::Value(WriteTarget::New { exclusive: true, .. }));
        let may_be_there = creates && !draft.must_create();
        let done: Done = Box::new(move |outcome| match outcome {
            Ok(changes) => {
                let stale = fs.stale_after(&changes);
                let waiting = fs.drafts_committed(&draft, &changes);
                let answer = move || {
                    waiter(Ok(()));
                    waiting.into_iter().for_each(|waiter| waiter(Ok(())));
                };
                fs.answer_stored(origin.map(|origin| origin.unique), occasion, stale, answer);
            }
            // It was to exist, and nothing was written to it.
            Err(VaultError::Exists { .. }) if may_be_there => {
                let (for_answer, opened) = (Arc::clone(&fs), Arc::clone(&draft));
                let waiter = Box::new(move |outcome: Result<(), FsError>| match outcome {
                    Ok(()) => for_answer.open_created(opened, waiter),
                    Err(error) => waiter(Err(error)),
                });
                fs.committed(&draft, waiter, Ok(()));
            }
            Err(error) => fs.committed(&draft, waiter, Err(error.into())),
        });
        match (target, commit) {
            (Target::Value(target), Commit::Whole(bytes)) => {
                self.vault.write(actor, target, bytes, origin, done);
            }
            (Target::Value(target), Commit::Append(bytes)) => {
                self.vault.append(actor, target, bytes, origin, done);
            }
            (Target::Lists(record), Commit::Whole(bytes) | Commit::Append(bytes)) => {
                self.vault.change_lists(actor, record, &bytes, origin, done);
            }
        }
    }

    /// Tells the kernel what is stale, and answers: afterwards, where that may be waited for. All that
    /// was to be done for the request `unique` is done.
    pub(in crate::fs) fn answer_stored(
        &self,
        unique: Option<u64>,
        occasion: Occasion,
        stale: Vec<StaleName>,
        answer: impl FnOnce() + Send + 'static,
    ) {
        if occasion.may_wait_for_caches() {
            unique.into_iter().for_each(|unique| self.quarantine.end(unique));
            self.invalidator.send(Invalidation { stale, answer: Some(Box::new(answer)) });
        } else {
            answer();
            self.invalidator.send(Invalidation { stale, answer: None });
        }
    }

    /// The commit of a draft failed.
    fn committed(&self, draft: &Arc<Draft>, waiter: Waiter, outcome: Result<(), FsError>) {
        let waiting = draft.committed(&self.vault, None);
        if outcome.is_err() {
            self.not_stored(draft);
        }
        waiter(outcome.clone());
        waiting.into_iter().for_each(|waiter| waiter(outcome.clone()));
    }

    /// A close is about to fail. The process that creates the file sees it until its last handle is released,
    /// so the next lookup of the name waits for that.
    fn not_stored(&self, draft: &Draft) {
        if draft.is_open() {
            self.settling.closing(&draft.path());
        }
    }

    /// A new file exists now: what its writer does next is a change of it.
    fn drafts_committed(&self, draft: &Arc<Draft>, changes: &[Change]) -> Vec<Waiter> {
        let new = changes.last().and_then(|change| change.after.as_ref());
        self.drafts.refile(draft, || draft.committed(&self.vault, new.map(|new| new.value())))
    }

    /// What the kernel must forget after these changes.
    pub(in crate::fs) fn stale_after(&self, changes: &[Change]) -> Vec<StaleName> {
        self.watchers.changed(changes);
        let mut stale = Vec::new();
        self.directories_give_way(changes, &mut stale);
        for change in changes {
            let Some(before) = &change.before else { continue };
            let after = change.after.as_deref();
            let same_value = after.is_some_and(|new| new.value().node() == before.value().node());
            let same_key = after.is_some_and(|new| new.key() == before.key());
            if !(same_value && same_key) {
                let name = stale_name(before.key().as_str());
                // Where the kernel is yet to forget what was there before, the answer waits for that.
                if self.nodes.knows(before.value().node())
                    || self.invalidator.is_busy_in(name.parent)
                {
                    let version = (!same_value).then(|| before.value().node());
                    stale.push(StaleName { version, ..name });
                }
            }
            if !same_key {
                self.vanished(before, &mut stale);
            }
        }
        stale
    }

    /// The directories that existed because of a secret. (The kernel does not cache sidecars' names.)
    pub(in crate::fs) fn vanished(&self, secret: &Secret, stale: &mut Vec<StaleName>) {
        for directory in secret.key().ancestors() {
            if self.vault.is_directory(directory) || self.directories.holds_below(directory) {
                break;
            }
            self.directories.remove(directory);
            // A caller's own directory is always there for it. Of directories below it a caller could make any
            // number, which the kernel would keep until it has no memory left.
            let expires = !directory.contains('/');
            stale.push(StaleName { expires, ..stale_name(directory) });
        }
    }
}

/// The answer to a process that a signal is killing. If the process is not known, it may be another one than
/// the one that is being killed: then the answer must say that nothing was stored.
pub(in crate::fs) fn closed_by_killed(who: &Requester) -> Result<(), FsError> {
    if who.task == 0 { Err(FsError::Lost) } else { Ok(()) }
}

pub(in crate::fs) fn stale_name(path: &str) -> StaleName {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    StaleName {
        parent: Fs::directory_node(directory),
        name: name.to_owned(),
        top: StaleName::top_of(path),
        version: None,
        expires: false,
    }
}
