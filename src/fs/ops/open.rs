//! Opening files: where every access is checked, whatever the kernel has cached.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::audit::{Access, Action, Subject};
use crate::document::emit_lists;
use crate::model::{Caller, Operation, Plaintext};
use crate::vault::{RecordId, Secret, Value, WriteTarget};

use super::lookup::STATUS_NAME;
use crate::fs::attr::SECRET_MODE;
use crate::fs::audit::{Decision, ToRecord};
use crate::fs::budget::{Account, HANDLE_BYTES};
use crate::fs::files::draft::{Draft, Target};
use crate::fs::files::encrypt::Encrypt;
use crate::fs::files::export::Exported;
use crate::fs::files::scratch::Scratch;
use crate::fs::files::status::StatusFile;
use crate::fs::kernel::handles::Handle;
use crate::fs::kernel::nodes::Node;
use crate::fs::kernel::prefill::{Filling, LARGEST};
use crate::fs::kernel::retries::Note;
use crate::fs::saved::SLOT_BYTES;
use crate::fs::{Caching, Fs, FsError, Opened, Request, Started, join, nothing_is_made_in};

/// How a file is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    read: bool,
    write: bool,
}

impl Wish {
    fn access(self) -> Access {
        match (self.read, self.write) {
            (_, false) => Access::Read,
            (false, true) => Access::Write,
            (true, true) => Access::ReadWrite,
        }
    }
}

impl Fs {
    /// Opens a file. The open of a version that was opened before has ended when this returns, without an
    /// allocation for what may wait. The first open of a small version waits until the kernel has its bytes.
    ///
    /// # Errors
    /// The caller may not; or [`FsError::Stale`], upon which the kernel looks the path up again and
    /// gets the node to open.
    pub fn open(
        self: &Arc<Self>,
        mut request: Request,
        node: u64,
        read: bool,
        write: bool,
    ) -> Started<Opened> {
        let (started, metrics) = (Instant::now(), &self.vault.telemetry().metrics);
        let (opened, bytes) = self.open_unrecorded(&mut request, node, Wish { read, write });
        let to_record = self.to_record(&mut request, opened.as_ref().err());
        let is_bound = opened.as_ref().is_ok_and(|opened| opened.caching == Caching::Bound);
        if let (Ok(None), None, false) = (&to_record, &bytes, is_bound) {
            metrics.open.record(started.elapsed());
            return Started::Ended(opened);
        }
        let fs = Arc::clone(self);
        Started::Waits(Box::pin(async move {
            let opened = fs.finish_open(node, opened, to_record, bytes).await;
            fs.vault.telemetry().metrics.open.record(started.elapsed());
            opened
        }))
    }

    /// What is opened, and the bytes that the kernel is to be given.
    fn open_unrecorded(
        &self,
        request: &mut Request,
        node: u64,
        wish: Wish,
    ) -> (Result<Opened, FsError>, Option<Plaintext>) {
        if request.task == 0 {
            self.has_unknown_callers.store(true, Ordering::Relaxed);
        }
        let opened =
            self.caller(request).and_then(|caller| self.open_node(request, &caller, node, wish));
        if let Some(decision) = &mut request.decision {
            decision.subject.access = Some(wish.access());
        }
        match opened {
            Ok(opened) if opened.caching == Caching::Immutable => self.open_version(node, opened),
            opened => (opened, None),
        }
    }

    async fn finish_open(
        self: &Arc<Self>,
        node: u64,
        opened: Result<Opened, FsError>,
        to_record: Result<Option<ToRecord>, FsError>,
        bytes: Option<Plaintext>,
    ) -> Result<Opened, FsError> {
        let recorded = match to_record {
            Ok(Some(to_record)) => self.record_now(to_record).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        // Without a record nothing is opened.
        if let Err(unrecorded) = recorded {
            match &opened {
                Ok(opened) if opened.caching == Caching::Immutable => self.close_version(node),
                Ok(opened) => self.undo_open(opened),
                Err(_) => {}
            }
            return Err(unrecorded);
        }
        let opened = opened?;
        match bytes {
            Some(bytes) => self.prefiller.fill(node, Filling::Bytes(bytes)).await,
            None if opened.caching == Caching::Bound => return self.show_bound(node, opened).await,
            None => {}
        }
        Ok(opened)
    }

    /// Counts the open of a version through its own node, and gives what the kernel is to be given. If it
    /// cannot be read now, the reader's own READ says why.
    fn open_version(
        &self,
        node: u64,
        opened: Opened,
    ) -> (Result<Opened, FsError>, Option<Plaintext>) {
        let value = self.nodes.open(node);
        // Count first, then check. Code that binds the node, or makes it show another version, records that
        // first and then checks the count.
        if self.bound.contains(node) || self.locking_readers.have(node) {
            self.nodes.close(node);
            return (Err(FsError::Stale), None);
        }
        let value = value.filter(|value| (1..=LARGEST).contains(&value.size()));
        (Ok(opened), value.and_then(|value| self.vault.read_all(&value).ok()))
    }

    /// A version that was opened through its own node is closed.
    pub(in crate::fs) fn close_version(&self, node: u64) {
        self.nodes.close(node);
    }

    fn open_node(
        &self,
        request: &mut Request,
        caller: &Caller,
        number: u64,
        wish: Wish,
    ) -> Result<Opened, FsError> {
        let node = match self.node_or_draft(request, number, true) {
            Err(FsError::Stale) => return Err(self.retry_unknown(request, caller, number, wish)),
            node => node?,
        };
        match node {
            Node::Value(value) if wish.write => self.open_to_write(request, caller, &value, wish),
            Node::Value(value) => self.open_to_read(request, caller, &value),
            Node::Sidecar(record) => self.open_sidecar(request, caller, number, record, wish),
            Node::Draft(draft) if draft.uid() != request.uid => {
                self.open_behind_draft(request, caller, &draft, wish)
            }
            Node::Draft(draft) => self.open_draft(request, caller, draft, wish),
            Node::Scratch(scratch) => {
                self.check_reachable(request, &Node::Scratch(Arc::clone(&scratch)))?;
                self.start_scratch(request, caller, scratch)
            }
            Node::Status(StatusFile::Rekey, _) => {
                let opened = self.open_control(caller);
                if opened.is_err() {
                    request.decision = Some(Decision::new(Action::Rekey, Subject::default()));
                }
                opened
            }
            Node::Status(..) if wish.write => Err(nothing_is_made_in(".status")),
            Node::Status(file, _) => {
                let path = join(STATUS_NAME, file.name());
                self.text(caller, number, &path, self.status_text(file, caller))
            }
            Node::Directory(path) => Err(FsError::IsDirectory(path.to_string())),
            Node::StatusDirectory => Err(FsError::IsDirectory(".status".to_owned())),
            Node::Encrypt(Encrypt::File(file)) => {
                let opened = self.open_to_encrypt(request, caller, &file, (wish.read, wish.write));
                let subject = Subject::of(file.key().as_str());
                request.decision = Some(Decision::new(Action::Encrypt, subject));
                opened
            }
            Node::Import(node) => {
                self.check_reachable(request, &Node::Import(node.clone()))?;
                self.open_in_drop_box(request, caller, &node, wish.write)
            }
            Node::Exported(Exported::File(file)) => {
                self.open_export(request, caller, &file, wish.write)
            }
            node @ (Node::Encrypt(Encrypt::Directory(_))
            | Node::Exported(Exported::Directory(_))) => {
                Err(FsError::IsDirectory(self.path_of(&node)))
            }
        }
    }

    /// The warm path: one request, no handle, no store access.
    fn open_to_read(
        &self,
        request: &mut Request,
        caller: &Caller,
        value: &Value,
    ) -> Result<Opened, FsError> {
        let immutable =
            || Opened { handle: self.handles.next_version(), caching: Caching::Immutable };
        let current = self.settled_secret(value.record());
        if let Some(secret) = &current {
            self.decide(request, Action::Open, caller, Operation::Read, secret)?;
        }
        if let Some(secret) = &current
            && (self.bound.contains(value.node()) || self.locking_readers.have(value.node()))
        {
            return self.read_bound(request, caller, value.node(), secret.value());
        }
        if current.as_ref().is_some_and(|secret| secret.value().node() == value.node()) {
            self.tasks.settle(request, value.node());
            return Ok(immutable());
        }
        if request.task == 0 {
            // Its next lookup gets a node of its own, with the version of that moment.
            let (secret, node) = (current.ok_or(FsError::Stale)?, value.node());
            if self.is_second_try(request, node) {
                return self.read_bound(request, caller, node, secret.value());
            }
            return Err(self.retry_as_draft(request, caller, node, Some(secret.key().to_string())));
        }
        // Superseded or removed. The kernel repeats the lookup once, and only once: the version that it finds
        // is opened, even if it has been superseded since. Without a lookup in between, the caller has only
        // the node (a bind mount of the file), and the current value is served through it.
        let retry = self.tasks.take(request, Some(value.node()), |note| match note {
            Note::Reopen { node, served } => Some((*node, *served)),
            Note::Reopened { served } if request.is_resent && *served == value.node() => {
                Some((*served, Some(*served)))
            }
            _ => None,
        });
        match (retry, current) {
            (Some((_, Some(served))), Some(_)) if served == value.node() => {
                if let Some(decision) = &mut request.decision {
                    decision.subject.version = Some(value.version());
                }
                Ok(immutable())
            }
            (Some((_, Some(served))), None) if served == value.node() => {
                Err(FsError::NotFound("the file".to_owned()))
            }
            (Some((node, None)), Some(secret)) if node == value.node() => {
                self.read_bound(request, caller, node, secret.value())
            }
            _ => {
                Err(self.retry(request, caller, Note::Reopen { node: value.node(), served: None }))
            }
        }
    }

    /// A secret as it is once the commits of it and of its lists that are under way have ended.
    fn settled_secret(&self, record: RecordId) -> Option<Arc<Secret>> {
        let secret = self.vault.secret_of(record)?;
        match self.settling.wait_for(secret.key().as_str()) {
            true => self.vault.secret_of(record),
            false => Some(secret),
        }
    }

    fn open_to_write(
        &self,
        request: &mut Request,
        caller: &Caller,
        value: &Arc<Value>,
        wish: Wish,
    ) -> Result<Opened, FsError> {
        let Some(secret) = self.settled_secret(value.record()) else {
            return Err(self.retry_as_draft(request, caller, value.node(), None));
        };
        self.check_write(request, caller, &secret, wish)?;
        if self.bound.contains(value.node()) || self.is_second_try(request, value.node()) {
            let (node, path) = (self.nodes.next_private(), secret.key().as_str());
            let current = Arc::clone(secret.value());
            let opener = self.opener(request, caller, path)?;
            let draft = Draft::of_value(node, opener, path, current, SECRET_MODE);
            return self.write_bound(request, caller, value.node(), draft);
        }
        Err(self.retry_as_draft(request, caller, value.node(), Some(secret.key().to_string())))
    }

    fn open_sidecar(
        &self,
        request: &mut Request,
        caller: &Caller,
        node: u64,
        record: RecordId,
        wish: Wish,
    ) -> Result<Opened, FsError> {
        let secret = self.vault.secret_of(record).ok_or(FsError::Stale)?;
        self.decide(request, Action::OpenLists, caller, Operation::ReadLists, &secret)?;
        let (path, text) = (format!("{}.acl", secret.key()), emit_lists(secret.acl()));
        if !wish.write {
            return self.text(caller, node, &path, text);
        }
        if self.bound.contains(node) || self.is_second_try(request, node) {
            let private = self.nodes.next_private();
            let opener = self.opener(request, caller, &path)?;
            let draft = Draft::of_lists(private, opener, &path, record, &text)?;
            return self.write_bound(request, caller, node, draft);
        }
        Err(self.retry_as_draft(request, caller, node, Some(path)))
    }

    /// A version that is not known any more. The kernel looks the path up again once, and only once.
    fn retry_unknown(&self, request: &Request, caller: &Caller, node: u64, wish: Wish) -> FsError {
        match (wish.write, request.task) {
            (true, _) => self.retry_as_draft(request, caller, node, None),
            (false, 0) => FsError::Stale,
            (false, _) => self.retry(request, caller, Note::Reopen { node, served: None }),
        }
    }

    /// Remembers what the thread is to look up again, and gives what makes it do so.
    fn retry(&self, request: &Request, caller: &Caller, note: Note) -> FsError {
        match self.budget.charge(Account::of(caller), Note::BYTES, "the file") {
            Ok(charge) => {
                self.tasks.remember(request, note, charge);
                FsError::Stale
            }
            Err(error) => error,
        }
    }

    /// The thread's next lookup of the path gives it a draft.
    pub(in crate::fs) fn retry_as_draft(
        &self,
        request: &Request,
        caller: &Caller,
        node: u64,
        path: Option<String>,
    ) -> FsError {
        let note = match request.task {
            0 => Note::Shared { node, path, unanswered: 1 },
            _ => Note::Rewrite { node, path, draft: None, only: None },
        };
        self.retry(request, caller, note)
    }

    /// Whether this thread got ESTALE and then opens the same node again: it has no path to look up (a bind
    /// mount of the file, `/proc/self/fd`).
    pub(in crate::fs) fn is_second_try(&self, request: &Request, opened: u64) -> bool {
        if request.task == 0 {
            return self.has_come_back(request, |node, _| node == opened);
        }
        let is_it = |note: &Note| match note {
            Note::Rewrite { node, draft: None, only: None, .. } if *node == opened => Some(()),
            _ => None,
        };
        self.tasks.take(request, None, is_it).is_some()
    }

    /// One of the threads that share a note opens the result of its repeated lookup, or the node itself
    /// again. False if all of them have come back.
    fn has_come_back(
        &self,
        request: &Request,
        is_meant: impl Fn(u64, Option<&str>) -> bool,
    ) -> bool {
        let count = |note: &mut Note| match note {
            Note::Shared { node, path, unanswered }
                if *unanswered > 0 && is_meant(*node, path.as_deref()) =>
            {
                *unanswered -= 1;
                Some(())
            }
            _ => None,
        };
        self.tasks.find(request, count).is_some()
    }

    fn open_draft(
        &self,
        request: &mut Request,
        caller: &Caller,
        draft: Arc<Draft>,
        wish: Wish,
    ) -> Result<Opened, FsError> {
        if request.task == 0 {
            let path = draft.path();
            self.has_come_back(request, |_, of| of.is_none_or(|of| of == path));
        }
        self.tasks.take(request, Some(draft.node()), |note| match note {
            Note::Rewrite { draft: Some(own), .. } if Arc::ptr_eq(own, &draft) => Some(()),
            _ => None,
        });
        match draft.target() {
            Target::Lists(record) => {
                let secret = self.vault.secret_of(record).ok_or(FsError::Stale)?;
                self.decide(request, Action::OpenLists, caller, Operation::ReadLists, &secret)?;
            }
            Target::Value(WriteTarget::Existing(record)) => {
                let secret = self.vault.secret_of(record).ok_or(FsError::Stale)?;
                // A caller that does not write gets the value as it is.
                if !wish.write {
                    self.decide(request, Action::Open, caller, Operation::Read, &secret)?;
                    let looked_up = draft.base().filter(|_| request.task == 0);
                    let value = looked_up.unwrap_or_else(|| Arc::clone(secret.value()));
                    return self.version(caller, value);
                }
                self.check_write(request, caller, &secret, wish)?;
            }
            Target::Value(target @ WriteTarget::New { .. }) if wish.write => {
                // It may be another process that creates the same file.
                if request.task == 0 && draft.is_open() && !request.is_resent {
                    let path = draft.path();
                    let opener = self.opener(request, caller, &path)?;
                    let (node, (_, mode, _)) = (self.nodes.next_private(), draft.shown());
                    let own = Draft::of_new(node, opener, None, &path, target, mode);
                    return self.start(caller, Arc::new(own));
                }
            }
            Target::Value(WriteTarget::New { .. }) => {
                return self.private(caller, &draft.path(), Handle::View(Arc::clone(&draft)));
            }
        }
        self.start_once(request, caller, draft)
    }

    /// A draft that a descriptor of another UID leads to: what the path means to this caller. What it
    /// would write cannot be in the buffer of another one, and there is no path to look up.
    fn open_behind_draft(
        &self,
        request: &mut Request,
        caller: &Caller,
        draft: &Draft,
        wish: Wish,
    ) -> Result<Opened, FsError> {
        let nothing = || FsError::NotFound("the file".to_owned());
        match draft.target() {
            Target::Value(WriteTarget::New { .. }) => Err(nothing()),
            Target::Value(WriteTarget::Existing(record)) => {
                let secret = self.vault.secret_of(record).ok_or_else(nothing)?;
                if wish.write {
                    self.check_write(request, caller, &secret, wish)?;
                    return Err(FsError::Stale);
                }
                self.decide(request, Action::Open, caller, Operation::Read, &secret)?;
                self.version(caller, Arc::clone(secret.value()))
            }
            Target::Lists(record) => {
                let secret = self.vault.secret_of(record).ok_or_else(nothing)?;
                self.decide(request, Action::OpenLists, caller, Operation::ReadLists, &secret)?;
                if wish.write {
                    return Err(FsError::Stale);
                }
                self.text(caller, draft.node(), &draft.path(), emit_lists(secret.acl()))
            }
        }
    }

    /// As [`Fs::start`]; if the process before this one gave a handle and died before it answered, that one
    /// is given.
    pub(in crate::fs) fn start_once(
        &self,
        request: &Request,
        caller: &Caller,
        draft: Arc<Draft>,
    ) -> Result<Opened, FsError> {
        match draft.last_handle() {
            Some(handle) if request.is_resent => Ok(Opened { handle, caching: Caching::Private }),
            _ => self.start(caller, draft),
        }
    }

    fn check_write(
        &self,
        request: &mut Request,
        caller: &Caller,
        secret: &Secret,
        wish: Wish,
    ) -> Result<(), FsError> {
        self.decide(request, Action::Open, caller, Operation::Write, secret)?;
        if wish.read {
            self.decide(request, Action::Open, caller, Operation::Read, secret)?;
        }
        Ok(())
    }

    /// Gives a handle on a draft.
    pub(in crate::fs) fn start(
        &self,
        caller: &Caller,
        draft: Arc<Draft>,
    ) -> Result<Opened, FsError> {
        let charge = self.budget.charge(Account::of(caller), HANDLE_BYTES, &draft.path())?;
        if !draft.is_open() {
            self.drafts.add(&draft)?;
        }
        let handle = self.handles.add(Handle::Draft(Arc::clone(&draft)), charge);
        draft.opened(handle, &self.saved_state);
        Ok(Opened { handle, caching: Caching::Private })
    }

    /// Gives a handle on a scratch file, as [`Fs::start_once`] does on a draft.
    pub(in crate::fs) fn start_scratch(
        &self,
        request: &Request,
        caller: &Caller,
        scratch: Arc<Scratch>,
    ) -> Result<Opened, FsError> {
        let handle = match scratch.last_handle().filter(|_| request.is_resent) {
            Some(given) => given,
            None => {
                let account = Account::of(caller);
                let charge = self.budget.charge(account, HANDLE_BYTES, "a scratch file")?;
                let handle = self.handles.add(Handle::Scratch(Arc::clone(&scratch)), charge);
                scratch.opened(handle);
                handle
            }
        };
        Ok(Opened { handle, caching: Caching::Private })
    }

    /// A version, through a node that is not its own.
    fn version(&self, caller: &Caller, value: Arc<Value>) -> Result<Opened, FsError> {
        let bytes = HANDLE_BYTES + SLOT_BYTES;
        let charge = self.budget.charge(Account::of(caller), bytes, "the file")?;
        let handle = self.handles.add(Handle::Version { value, by: None }, charge);
        Ok(Opened { handle, caching: Caching::Private })
    }

    pub(in crate::fs) fn private(
        &self,
        caller: &Caller,
        path: &str,
        handle: Handle,
    ) -> Result<Opened, FsError> {
        let charge = self.budget.charge(Account::of(caller), HANDLE_BYTES, path)?;
        Ok(Opened { handle: self.handles.add(handle, charge), caching: Caching::Private })
    }
}
