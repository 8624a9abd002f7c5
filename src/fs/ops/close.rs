//! From a draft to a new version: at close, at fsync, or when the last handle is gone.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::audit::Actor;
use crate::telemetry::request_watchdog;
use crate::vault::{Change, Done, Secret, VaultError, WriteTarget};

use crate::fs::caller::closing::{Close, Judged};
use crate::fs::files::draft::{Commit, Draft, Next, Occasion, Target, Waiter};
use crate::fs::files::import::ImportFile;
use crate::fs::files::status::requests::Opcode;
use crate::fs::kernel::handles::{Handle, is_version, is_writer};
use crate::fs::kernel::invalidator::StaleName;
use crate::fs::{Fs, FsError, Request};

/// What a handle has to store at a close or a sync.
enum ToStore {
    Draft(Arc<Draft>),
    ImportFile(Arc<ImportFile>),
    /// The process before this one stored it, and may not have answered.
    IsDone,
    Nothing,
}

/// Starts a change of the vault, and waits for it. `publish` runs on the writer's thread: for one change after the
/// other, in the order in which they are stored.
///
/// # Errors
/// Why the change was not stored.
pub(in crate::fs) async fn stored<T: Send + 'static>(
    start: impl FnOnce(Done),
    publish: impl FnOnce(&[Change]) -> T + Send + 'static,
) -> Result<T, VaultError> {
    let (tell, told) = oneshot::channel();
    // The receiver waits below.
    start(Box::new(move |outcome| drop(tell.send(outcome.map(|changes| publish(&changes))))));
    told.await.unwrap_or(Err(VaultError::Stopping))
}

impl Fs {
    /// A descriptor of the file was closed. What was written since the last commit is stored before
    /// the answer, unless a signal is killing the writer, or a child closes what it inherited.
    /// Locks of fcntl(2) that the closing process has go once it is stored.
    ///
    /// # Errors
    /// It cannot be stored.
    pub async fn flush(
        self: Arc<Self>,
        request: Request,
        node: u64,
        handle: u64,
    ) -> Result<(), FsError> {
        let closed = self.close(&request, handle).await;
        self.unlock_closed(node, handle, request.files);
        closed
    }

    async fn close(self: &Arc<Self>, request: &Request, handle: u64) -> Result<(), FsError> {
        match self.to_store(request, handle)? {
            ToStore::Draft(draft) => {
                let of = Arc::clone(&draft);
                let close = self.judge(request, move |request, judged| {
                    Close::by(request, of.finisher(), of.openers_files(), judged)
                });
                self.close_draft(request, &draft, close.await?).await
            }
            ToStore::ImportFile(file) => {
                let of = Arc::clone(&file);
                let close =
                    self.judge(request, move |request, judged| of.close_by(request, judged));
                self.close_dropped(request, &file, close.await?).await
            }
            ToStore::IsDone => self.wait_for_done(request, Occasion::Close).await,
            ToStore::Nothing => Ok(()),
        }
    }

    /// Finds out which process closes a descriptor. If the process is not known, that takes a while, so it runs on
    /// another thread.
    async fn judge(
        &self,
        request: &Request,
        close: impl FnOnce(&Request, Option<Judged>) -> Close + Send + 'static,
    ) -> Result<Close, FsError> {
        if request.task != 0 {
            return Ok(close(request, None));
        }
        let (judged, uid) = (self.unknown_closers.add(request.uid), request.uid);
        let request = request.clone();
        Ok(self.executor.done(uid.into(), move || close(&request, Some(judged))).await?)
    }

    async fn close_draft(
        self: &Arc<Self>,
        request: &Request,
        draft: &Arc<Draft>,
        close: Close,
    ) -> Result<(), FsError> {
        match close {
            Close::Finished => self.commit(request, draft, Occasion::Close).await,
            Close::Inherited => {
                // This may be the last descriptor, so the next lookup of the name waits for a release.
                if draft.is_published_when_released() {
                    self.settling.closing(&draft.path());
                }
                Ok(())
            }
            Close::Killed(closer) => {
                draft.abandon(closer);
                closed_by_killed(request)
            }
        }
    }

    /// The caller wants it stored now.
    ///
    /// # Errors
    /// It cannot be stored.
    pub async fn sync(self: Arc<Self>, request: Request, handle: u64) -> Result<(), FsError> {
        self.store_now(&request, handle).await
    }

    pub(in crate::fs) async fn store_now(
        self: &Arc<Self>,
        request: &Request,
        handle: u64,
    ) -> Result<(), FsError> {
        match self.to_store(request, handle)? {
            ToStore::Draft(draft) => self.commit(request, &draft, Occasion::Sync).await,
            ToStore::ImportFile(file) => self.apply_dropped(request, &file, Occasion::Sync).await,
            ToStore::IsDone => self.wait_for_done(request, Occasion::Sync).await,
            ToStore::Nothing => Ok(()),
        }
    }

    fn to_store(&self, request: &Request, handle: u64) -> Result<ToStore, FsError> {
        let found = self.handles.find(handle);
        if !is_writer(handle) && !matches!(found, Ok(Handle::Draft(_) | Handle::ImportFile(_))) {
            // A reader has nothing to store.
            return Ok(ToStore::Nothing);
        }
        let is_done = self.was_done(request)?;
        Ok(match found {
            Ok(Handle::Draft(draft)) if is_done => {
                draft.is_stored();
                ToStore::IsDone
            }
            _ if is_done => ToStore::IsDone,
            Ok(Handle::Draft(draft)) => {
                self.settle_append(&draft)?;
                ToStore::Draft(draft)
            }
            Ok(Handle::ImportFile(file)) => ToStore::ImportFile(file),
            Ok(_) => ToStore::Nothing,
            Err(_) => return Err(FsError::Lost),
        })
    }

    /// The last descriptor of a handle is gone. No process waits for the answer. It says that a server that
    /// takes over has nothing left to do about the handle.
    ///
    /// # Errors
    /// None: what cannot be stored is counted, and `.status/last-error` has it.
    pub async fn release(
        self: Arc<Self>,
        request: Request,
        node: u64,
        handle: u64,
    ) -> Result<(), FsError> {
        if is_version(handle) {
            self.close_version(node);
            self.locking_readers.closed(handle);
            self.unlock_released(handle);
            return Ok(());
        }
        self.bound.closed(handle);
        match self.handles.remove(handle) {
            Some(Handle::Draft(draft)) => self.release_draft(&request, &draft, handle).await,
            Some(Handle::ImportFile(file)) => self.release_dropped(&request, file),
            Some(Handle::Scratch(scratch)) => scratch.closed(handle),
            _ => {}
        }
        // The next holder of the lock sees what is stored now.
        self.unlock_released(handle);
        Ok(())
    }

    async fn release_draft(self: &Arc<Self>, request: &Request, draft: &Arc<Draft>, handle: u64) {
        // If this cannot be found out, the commit decides: the version that the draft began with is
        // superseded if the request was carried out.
        if matches!(self.was_done(request), Ok(true)) {
            draft.is_stored();
        }
        if self.settle_append(draft).is_err() {
            draft.end();
        }
        if !draft.closed(handle) {
            return;
        }
        self.drafts.closed(draft);
        // Begins before the writer is looked up, which a server that has just taken over has to do: requests that
        // come later must not overtake it.
        let pending = self.settling.begin(draft.path());
        request_watchdog::has_begun();
        // Before the commit begins: until then the file can be removed. If the lookup fails, so does the commit.
        let _ = self.answer_of(request, draft.uid()).await;
        let stored = self.commit(request, draft, Occasion::Release).await;
        // No process gets the error.
        let _ = self.counted(request, Opcode::Flush.operation(), stored);
        self.drafts.remove(draft);
        self.settling.end(pending);
    }

    pub(in crate::fs) async fn commit(
        self: &Arc<Self>,
        request: &Request,
        draft: &Arc<Draft>,
        occasion: Occasion,
    ) -> Result<(), FsError> {
        let (target, commit) = loop {
            match draft.next(occasion, request.unique) {
                Next::Nothing => {
                    if draft.is_published_when_released() {
                        self.settling.closing(&draft.path());
                    }
                    return Ok(());
                }
                Next::Refuse(error) => {
                    self.not_stored(draft);
                    return Err(error);
                }
                // If the one under way fails, this one has its error.
                Next::Queued(committed) => committed.await??,
                Next::Commit(target, commit) => break (target, commit),
            }
        };
        // The UID that opened the file may differ from the one that closes it.
        match self.caller_of(request, draft.uid()).await {
            Ok(caller) => {
                let actor = Actor { caller, process: draft.process().clone() };
                self.store(request, actor, draft, (target, commit), occasion).await
            }
            Err(error) => self.committed(draft, Err(error)),
        }
    }

    async fn store(
        self: &Arc<Self>,
        request: &Request,
        actor: Actor,
        draft: &Arc<Draft>,
        (target, commit): (Target, Commit),
        occasion: Occasion,
    ) -> Result<(), FsError> {
        let creates = matches!(target, Target::Value(WriteTarget::New { exclusive: true, .. }));
        let may_be_there = creates && !draft.must_create();
        let origin = self.origin(request);
        let start = |done| match (target, commit) {
            (Target::Value(target), Commit::Whole(bytes)) => {
                self.vault.write(actor, target, bytes, origin, done);
            }
            (Target::Value(target), Commit::Append(bytes)) => {
                self.vault.append(actor, target, bytes, origin, done);
            }
            (Target::Lists(record), Commit::Whole(bytes) | Commit::Append(bytes)) => {
                self.vault.change_lists(actor, record, &bytes, origin, done);
            }
        };
        let (fs, of, unique) = (Arc::clone(self), Arc::clone(draft), request.unique);
        let publish = move |changes: &[Change]| {
            let stale = fs.stale_after(changes);
            let waiting = fs.drafts_committed(&of, changes);
            (fs.forget_stale(unique, occasion, stale), waiting)
        };
        match stored(start, publish).await {
            Ok((forgotten, waiting)) => {
                forgotten.await;
                waiting.into_iter().for_each(|waiter| drop(waiter.send(Ok(()))));
                Ok(())
            }
            // It was to exist, and nothing was written to it.
            Err(VaultError::Exists { .. }) if may_be_there => {
                self.committed(draft, Ok(()))?;
                self.open_created(request, draft).await;
                Ok(())
            }
            Err(error) => self.committed(draft, Err(error.into())),
        }
    }

    /// Tells the kernel what is stale. All else that was to be done for the request `unique` is done. Gives what
    /// the answer waits for, where it may.
    pub(in crate::fs) fn forget_stale(
        &self,
        unique: u64,
        occasion: Occasion,
        stale: Vec<StaleName>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let forgotten = if occasion.may_wait_for_caches() {
            self.quarantine.end(unique);
            Some(self.invalidator.forgotten(stale))
        } else {
            self.invalidator.forget(stale);
            None
        };
        async move {
            if let Some(forgotten) = forgotten {
                forgotten.await;
            }
        }
    }

    /// The commit of a draft made no version. Gives how it went to those that wait for it.
    fn committed(&self, draft: &Arc<Draft>, outcome: Result<(), FsError>) -> Result<(), FsError> {
        let waiting = draft.committed(&self.vault, None);
        if outcome.is_err() {
            self.not_stored(draft);
        }
        waiting.into_iter().for_each(|waiter| drop(waiter.send(outcome.clone())));
        outcome
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
pub(in crate::fs) fn closed_by_killed(request: &Request) -> Result<(), FsError> {
    if request.task == 0 { Err(FsError::Lost) } else { Ok(()) }
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
