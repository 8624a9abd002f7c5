//! Going on where the process left off that served the mount before and was killed.
//!
//! The kernel remembers nodes, handles and unanswered requests, and sends the latter again. What it
//! means by them comes from the store (versions, cached replies) and from the saved state (the rest).

use std::collections::HashSet;
use std::io;
use std::iter::repeat;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::document::emit_lists;
use crate::model::{Caller, SIDECAR_SUFFIX, Timestamp};
use crate::vault::{CachedReply, Inheritance, RequestId, Secret, Value, WriteTarget};

use crate::fs::attr::SECRET_MODE;
use crate::fs::budget::{Account, HANDLE_BYTES, OBJECT_BYTES};
use crate::fs::caller::proc::{now_since_boot, start_of};
use crate::fs::caller::replaced::of_process;
use crate::fs::files::draft::{Draft, Occasion, Target};
use crate::fs::files::encrypt::Encrypt;
use crate::fs::files::export::Exported;
use crate::fs::files::import::Import;
use crate::fs::files::texts::Text;
use crate::fs::kernel::directory_ids;
use crate::fs::kernel::handles::Handle;
use crate::fs::kernel::nodes::{Clue, Node, Review};
use crate::fs::kernel::retries::Note;
use crate::fs::ops::bound::{BoundBy, Shown};
use crate::fs::ops::close::stale_name;
use crate::fs::saved::pages::Aside;
use crate::fs::saved::{
    Record, SLOT_BYTES, SavedDraft, SavedRetry, SavedScratch, SavedState, Slot,
};
use crate::fs::{Fs, FsError, KernelCache, Request};

/// How often the kernel is asked whether a superseded version is still open.
const REVIEW: Duration = Duration::from_secs(60);
/// When it is asked a second time.
const SOON: Duration = Duration::from_secs(10);

/// What is particular to one process that serves a mount.
#[derive(Default)]
pub struct RestoredState {
    /// A number for the mount.
    pub mount: u64,
    /// What this process leaves to the next one.
    pub saved_state: SavedState,
    /// What the one before it left in the store; none if this is the first.
    pub inheritance: Option<Inheritance>,
    /// The time without a server before this one.
    pub outage: Outage,
}

/// A time in which no server serves a mount.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Outage {
    /// When it began, by the clock that runs since boot. What is remembered only for a moment does not age
    /// during it.
    pub since: Duration,
    /// Whether the process before ended by its own fault: it crashed or hung, and was not killed for another
    /// reason.
    pub by_crash: bool,
}

impl Fs {
    /// Whether the request was carried out by a process that died before it answered.
    ///
    /// # Errors
    /// It may have been, on a shared store that cannot be reached.
    pub(in crate::fs) fn was_done(&self, request: &Request) -> Result<bool, FsError> {
        if !request.is_resent || self.done.contains_key(&request.unique) {
            return Ok(request.is_resent);
        }
        Ok(self.vault.was_carried_out(self.mount, request.unique)?)
    }

    /// Finds out whether the process before this one appended what a draft has to append: it must not be
    /// appended twice.
    ///
    /// # Errors
    /// It may have been, on a shared store that cannot be reached.
    pub(in crate::fs) fn settle_append(&self, draft: &Draft) -> Result<(), FsError> {
        let Some(unique) = draft.unsettled() else { return Ok(()) };
        let was_done =
            self.done.contains_key(&unique) || self.vault.was_carried_out(self.mount, unique)?;
        let current = || match draft.target() {
            Target::Value(WriteTarget::Existing(record)) => self.vault.secret_of(record),
            Target::Value(WriteTarget::New { key, .. }) => self.vault.secret(key.as_str()),
            Target::Lists(_) => None,
        };
        match was_done.then(current) {
            None => draft.settle(&self.vault, None),
            Some(Some(secret)) => draft.settle(&self.vault, Some(secret.value())),
            // It was stored, and was removed since.
            Some(None) => draft.end(),
        }
        Ok(())
    }

    /// Waits until the kernel has forgotten what the change made stale.
    pub(in crate::fs) async fn wait_for_done(
        &self,
        request: &Request,
        occasion: Occasion,
    ) -> Result<(), FsError> {
        match self.done.get(&request.unique) {
            None if occasion.may_wait_for_caches() => {
                self.quarantine.end(request.unique);
                self.invalidator.all_forgotten().await;
            }
            keys => {
                let stale = keys.into_iter().flatten().map(|key| stale_name(key)).collect();
                self.forget_stale(request.unique, occasion, stale).await;
            }
        }
        Ok(())
    }

    pub(in crate::fs) fn origin(&self, request: &Request) -> Option<RequestId> {
        let (mount, unique, task, uid) = (self.mount, request.unique, request.task, request.uid);
        Some(RequestId { mount, unique, task, started: None, uid })
    }

    /// As [`Fs::origin`], for what the process may follow up by a second request.
    pub(in crate::fs) fn origin_with_process(&self, request: &Request) -> Option<RequestId> {
        let process = of_process(request);
        let started = start_of(process.task);
        self.origin(&process).map(|origin| RequestId { started, ..origin })
    }

    /// A node that is not known, by what its number tells.
    pub(in crate::fs) fn recall(&self, request: &Request, number: u64) -> Result<Node, FsError> {
        match Clue::of(number) {
            Clue::Sidecar(record) if self.vault.secret_of(record).is_some() => {
                Ok(Node::Sidecar(record))
            }
            Clue::Status(file) => Ok(Node::Status(file, request.uid)),
            Clue::Private => Err(FsError::Lost),
            Clue::Sidecar(_) | Clue::Other => {
                // A caller's own directory exists without a secret in it.
                // Where the caller is not known, the request is not about a directory.
                let caller = self.caller_if_known(request).ok_or(FsError::Stale)?;
                let own = caller
                    .own_slug()
                    .filter(|own| directory_ids::directory_id(own.as_str()) == number);
                own.map(|own| Node::Directory(own.as_str().into())).ok_or(FsError::Stale)
            }
        }
    }

    /// As [`Fs::any_node`], for an open or a truncation. Makes the draft again that the process before this
    /// one made for the thread, if nothing was written to it. If that draft was opened, only the request that
    /// opened it gets it again (`opens`): any other request comes with a handle that is not known, and what
    /// follows would be lost without an error.
    pub(in crate::fs) fn node_or_draft(
        &self,
        request: &Request,
        number: u64,
        opens: bool,
    ) -> Result<Node, FsError> {
        match self.any_node(request, number) {
            Err(FsError::Lost) => {
                let caller = self.caller(request)?;
                let draft =
                    self.draft_again(request, &caller, number, opens).ok_or(FsError::Lost)?;
                let node = Node::Draft(draft);
                self.nodes.look_up(&node);
                Ok(node)
            }
            node => node,
        }
    }

    fn draft_again(
        &self,
        request: &Request,
        caller: &Caller,
        number: u64,
        opens: bool,
    ) -> Option<Arc<Draft>> {
        let (stale, path) = self.tasks.find(request, |note| match note {
            Note::Rewrite { node, path: Some(path), draft: None, only }
                if only.is_none_or(|only| only == number && opens) =>
            {
                Some((*node, path.clone()))
            }
            _ => None,
        })?;
        let secret = self.secret_behind(stale)?;
        let opener = self.opener(request, caller, &path).ok()?;
        let draft = Arc::new(match Clue::of(stale) {
            Clue::Sidecar(record) => {
                Draft::of_lists(number, opener, &path, record, &emit_lists(secret.acl())).ok()?
            }
            _ => Draft::of_value(number, opener, &path, Arc::clone(secret.value()), SECRET_MODE),
        });
        self.tasks.find(request, |note| match note {
            Note::Rewrite { node, draft: made @ None, .. } if *node == stale => {
                *made = Some(Arc::clone(&draft));
                Some(())
            }
            _ => None,
        })?;
        Some(draft)
    }

    /// The secret whose version or lists a node shows.
    fn secret_behind(&self, node: u64) -> Option<Arc<Secret>> {
        match (Clue::of(node), self.nodes.find(node)) {
            (Clue::Sidecar(record), _) => self.vault.secret_of(record),
            (_, Some(Node::Value(value))) => self.vault.secret_of(value.record()),
            _ => None,
        }
    }

    pub(in crate::fs) fn inherit(&self, inheritance: Inheritance) {
        let Inheritance { versions, reply_cache } = inheritance;
        // The kernel may not have been notified of the last changes. Answers that the invalidator gives wait
        // for this.
        let keys: HashSet<&str> = reply_cache
            .iter()
            .flat_map(|cached_reply| &cached_reply.keys)
            .map(String::as_str)
            .collect();
        let stale = keys.iter().map(|key| stale_name(key)).collect();
        self.invalidator.forget(stale);

        let mut left = self.saved_state.inherit().unwrap_or_else(|error| {
            tracing::error!(%error, "what the process before this one left cannot be read");
            Vec::new()
        });
        // The newest note of a thread is the one that counts.
        left.sort_by_key(|(_, kept)| if let Record::Note(note) = kept { note.at } else { 0 });
        // Before anything has an id.
        let is_left_path = |(_, kept): &mut (Slot, Record)| matches!(kept, Record::LeftPath { .. });
        for (slot, kept) in left.extract_if(.., is_left_path) {
            if let Record::LeftPath { path, generation } = kept {
                directory_ids::restore(path, generation, slot);
            }
        }
        self.inherit_nodes(versions, &keys, &left);
        reply_cache.into_iter().for_each(|cached_reply| self.inherit_cached_reply(cached_reply));
        for (slot, kept) in left {
            match kept {
                Record::LeftPath { .. } => {}
                Record::Note(note) => self.inherit_note(note, slot),
                Record::Draft(draft) => self.inherit_draft(draft, slot),
                Record::Scratch(scratch) => self.inherit_scratch(scratch, slot),
                Record::Directory { path, uid } => {
                    let bytes = OBJECT_BYTES + SLOT_BYTES;
                    let charge = self.budget.restore(Account::User(uid), bytes);
                    self.directories.inherit(path, uid, slot, charge);
                }
                Record::Waiter(waiter) => self.pollers.inherit(waiter, slot),
                Record::Locks(locks) => self.locks.inherit(locks, slot, &self.budget),
                Record::Trial(trial) => self.quarantine.inherit(trial, slot, self.outage.by_crash),
                Record::Text { handle, text } => {
                    // Whose it is was not kept.
                    let text = Text::restored(&self.budget, Account::Nameless, text);
                    self.restore_handle(handle, Handle::Text(Arc::new(text)), slot);
                }
                Record::Version { handle, node } => {
                    self.restore_reader(handle, node, None, slot);
                }
                Record::Followed { handle, node, by } => {
                    self.restore_reader(handle, node, Some(by), slot);
                }
                Record::Shown { node, version } => {
                    if let Some(value) = self.version_of(version) {
                        self.locking_readers.restore(node, value, slot);
                    }
                }
            }
        }
    }

    /// A handle of a reader that shows this version.
    fn restore_reader(&self, handle: u64, node: u64, by: Option<BoundBy>, slot: Slot) {
        let Some(value) = self.version_of(node) else { return };
        if let Some(by) = by {
            self.inherit_bound(handle, by, Shown::Version(Arc::clone(&value)));
        }
        self.restore_handle(handle, Handle::Version { value, by }, slot);
    }

    fn version_of(&self, node: u64) -> Option<Arc<Value>> {
        match self.nodes.find(node) {
            Some(Node::Value(value)) => Some(value),
            _ => None,
        }
    }

    fn restore_handle(&self, number: u64, handle: Handle, slot: Slot) {
        let charge = self.budget.restore(Account::Nameless, HANDLE_BYTES + SLOT_BYTES);
        self.handles.restore(number, handle, charge, slot);
    }

    fn inherit_nodes(
        &self,
        versions: Vec<Arc<Value>>,
        keys: &HashSet<&str>,
        left: &[(Slot, Record)],
    ) {
        let mut directories = HashSet::new();
        let mut add = |path: &str| {
            let mut directory = path;
            while let Some((above, _)) = directory.rsplit_once('/')
                && !directories.contains(above)
            {
                directories.insert(above.to_owned());
                directory = above;
            }
        };
        let secrets = versions.iter().filter_map(|value| self.vault.secret_of(value.record()));
        secrets.for_each(|secret| add(secret.key().as_str()));
        keys.iter().for_each(|key| add(key));
        for (_, kept) in left {
            match kept {
                Record::Directory { path, .. } => add(&format!("{path}/")),
                Record::Draft(draft) => add(&draft.path),
                Record::Scratch(SavedScratch { place: Some((directory, _)), .. }) => {
                    add(&format!("{directory}/"));
                }
                _ => {}
            }
        }
        let directories = directories.into_iter().map(|path| Node::Directory(path.into()));
        let tops = [Encrypt::top().into(), Exported::top().into(), Import::top().into()];
        self.nodes.inherit(versions.into_iter().map(Node::Value).chain(directories).chain(tops));
    }

    fn inherit_cached_reply(&self, cached_reply: CachedReply) {
        let Some(origin) = cached_reply.origin.filter(|origin| origin.mount == self.mount) else {
            return;
        };
        let now = Timestamp::from(SystemTime::now()).as_nanos();
        let down = now_since_boot().saturating_sub(self.outage.since);
        let age = Duration::from_nanos(now.saturating_sub(cached_reply.at.as_nanos()));
        let age = age.saturating_sub(down);
        for (key, inherited_lists) in cached_reply.left {
            let note = Note::Replaced { key, inherited_lists, by_child: false };
            let charge = self.budget.restore(Account::User(origin.uid), Note::BYTES);
            self.processes.inherit(&origin, age, note, None, charge);
        }
    }

    fn inherit_note(&self, kept: SavedRetry, slot: Slot) {
        let SavedRetry { task, started, uid, unique, node, served, .. } = kept;
        let note = match kept {
            SavedRetry { to_write: true, .. } => {
                let path = self.secret_behind(node).map(|secret| match Clue::of(node) {
                    Clue::Sidecar(_) => format!("{}{SIDECAR_SUFFIX}", secret.key()),
                    _ => secret.key().to_string(),
                });
                match task {
                    0 => Note::Shared { node, path, unanswered: 1 },
                    _ => Note::Rewrite { node, path, draft: None, only: served },
                }
            }
            SavedRetry { served: Some(served), is_spent: true, .. } => Note::Reopened { served },
            _ => Note::Reopen { node, served },
        };
        let age = self.outage.since.saturating_sub(Duration::from_nanos(kept.at));
        let origin = RequestId { mount: self.mount, unique, task, started, uid };
        let charge = self.budget.restore(Account::User(uid), Note::BYTES);
        self.tasks.inherit(&origin, age, note, Some(slot), charge);
    }

    fn inherit_draft(&self, kept: SavedDraft, slot: Slot) {
        let handles = kept.handles.clone();
        let with = (&*self.vault, &self.saved_state, &self.budget);
        let restored = Draft::restored(kept, slot, with, |node| self.version_of(node));
        let Some(draft) = restored.map(Arc::new) else { return };
        if let Err(error) = self.drafts.add(&draft) {
            tracing::warn!(%error, "a file that was being written cannot be taken over");
            return;
        }
        if draft.is_published_when_released() {
            self.settling.closing(&draft.path());
        }
        self.nodes.look_up(&Node::Draft(Arc::clone(&draft)));
        for handle in handles {
            let charge = self.budget.restore(Account::User(draft.uid()), HANDLE_BYTES);
            self.handles.inherit(handle, Handle::Draft(Arc::clone(&draft)), charge);
            if let Some(by) = draft.bound() {
                self.inherit_bound(handle, by, Shown::Draft(Arc::clone(&draft)));
            }
        }
    }

    fn inherit_scratch(&self, kept: SavedScratch, slot: Slot) {
        let found = kept.bytes.as_ref().and_then(|bytes| {
            Aside::inherit(&self.saved_state, &self.vault, (kept.node, kept.uid), bytes)
        });
        let handles = kept.handles.clone();
        let file = self.scratch.inherit(kept, found, slot, &self.budget);
        self.nodes.look_up(&Node::Scratch(Arc::clone(&file)));
        for handle in handles {
            let charge = self.budget.restore(Account::User(file.owner().0), HANDLE_BYTES);
            self.handles.inherit(handle, Handle::Scratch(Arc::clone(&file)), charge);
        }
    }

    /// Drops, in a thread of its own, inherited nodes that the kernel does not know any more.
    pub(in crate::fs) fn review_inheritance(
        self: &Arc<Self>,
        cache: Arc<dyn KernelCache>,
    ) -> io::Result<()> {
        if !self.nodes.is_heir() {
            return Ok(());
        }
        let fs = Arc::downgrade(self);
        std::thread::Builder::new().name("reviewer".to_owned()).spawn(move || {
            let mut unknown = HashSet::new();
            let first = [(Review::All, SOON), (Review::All, REVIEW)];
            let mut turns = first.into_iter().chain(repeat((Review::Superseded, REVIEW)));
            while let (Some(fs), Some((which, pause))) = (fs.upgrade(), turns.next()) {
                fs.nodes.review(which, &mut unknown, |node| cache.knows(node));
                drop(fs);
                std::thread::sleep(pause);
            }
        })?;
        Ok(())
    }
}
