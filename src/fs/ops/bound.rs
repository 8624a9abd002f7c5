//! Nodes that are opened without a lookup: bind mounts of a single file, `/proc/self/fd/N`.
//!
//! The kernel sends no lookup for them, so it cannot learn of a new version's node. A second attempt on a
//! node without a lookup in between identifies one. From then on the node is *bound*: it follows the current
//! value. Each open gets a handle with the version, or the draft, of that moment, with direct I/O.
//!
//! The kernel keeps one size for the node. Other processes may still have the node's own version open, with
//! cached pages that this size limits. So that size changes only if there are none of these:
//!
//! - The kernel must not keep the attributes of a bound node. Before an fstat(2) is answered, the kernel is
//!   made to forget them: it then passes the answer on and does not take the size from it.
//! - A writer never shares the node with readers of the version. If the version is current, the value gets a
//!   new node first, and later opens of the name get that one.
//! - A mapping shares pages between handles, so bytes are never read for one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::model::{Caller, Operation};
use crate::telemetry::request_watchdog;
use crate::vault::{Change, Secret, Value};

use crate::fs::attr::SECRET_MODE;
use crate::fs::budget::{Account, HANDLE_BYTES};
use crate::fs::caller::proc::process_of;
use crate::fs::files::draft::Draft;
use crate::fs::files::draft::publishing::PATIENCE;
use crate::fs::kernel::handles::{Handle, is_version};
use crate::fs::kernel::nodes::Node;
use crate::fs::kernel::prefill::Filling;
use crate::fs::ops::close::stored;
use crate::fs::saved::SLOT_BYTES;
use crate::fs::{Attr, Caching, Fs, FsError, NEVER, Opened, Request};

/// All bound nodes with their handles. The lock is a leaf.
#[derive(Default)]
pub(in crate::fs) struct Bound {
    inner: Mutex<Inner>,
    /// How many nodes there are. It is nearly always 0, and then the lock is not taken.
    count: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    nodes: HashMap<u64, Vec<BoundHandle>>,
    by_handle: HashMap<u64, u64>,
}

/// An open of a bound node.
pub(in crate::fs) struct BoundHandle {
    pub(in crate::fs) handle: u64,
    pub(in crate::fs) by: BoundBy,
    pub(in crate::fs) shown: Shown,
}

/// Which open of a bound node gave a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::fs) struct BoundBy {
    pub(in crate::fs) node: u64,
    /// The thread that opened it.
    pub(in crate::fs) task: u32,
    /// Its process, if it is known.
    pub(in crate::fs) process: Option<u32>,
    /// The request.
    pub(in crate::fs) unique: u64,
}

impl BoundBy {
    fn new(node: u64, request: &Request) -> Self {
        let (task, unique) = (request.task, request.unique);
        Self { node, task, process: process_of(task), unique }
    }
}

/// What a handle on a bound node shows.
#[derive(Clone)]
pub(in crate::fs) enum Shown {
    Version(Arc<Value>),
    Draft(Arc<Draft>),
}

impl Bound {
    pub(in crate::fs) fn contains(&self, node: u64) -> bool {
        self.count.load(Ordering::SeqCst) > 0 && self.inner.lock().nodes.contains_key(&node)
    }

    /// The node is bound from now on.
    pub(in crate::fs) fn bind(&self, node: u64) {
        let mut inner = self.inner.lock();
        inner.nodes.entry(node).or_default();
        self.count.store(inner.nodes.len(), Ordering::SeqCst);
    }

    /// A node was opened, and is bound.
    pub(in crate::fs) fn opened(&self, open: BoundHandle) {
        let mut inner = self.inner.lock();
        inner.by_handle.insert(open.handle, open.by.node);
        inner.nodes.entry(open.by.node).or_default().push(open);
        self.count.store(inner.nodes.len(), Ordering::SeqCst);
    }

    /// A handle is gone.
    pub(in crate::fs) fn closed(&self, handle: u64) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut inner = self.inner.lock();
        let Some(node) = inner.by_handle.remove(&handle) else { return };
        let opens = inner.nodes.get_mut(&node);
        let gone = opens.and_then(|opens| {
            let position = opens.iter().position(|open| open.handle == handle)?;
            Some(opens.remove(position))
        });
        drop(inner);
        // Dropped without the lock: it may be the last holder of a version.
        drop(gone);
    }

    /// The kernel does not know the node any more.
    pub(in crate::fs) fn forget(&self, node: u64) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut inner = self.inner.lock();
        let gone = inner.nodes.remove(&node);
        for open in gone.iter().flatten() {
            inner.by_handle.remove(&open.handle);
        }
        self.count.store(inner.nodes.len(), Ordering::SeqCst);
        drop(inner);
        drop(gone);
    }

    /// If the handle is on a bound node, it shows this version from now on. How it was opened.
    pub(in crate::fs) fn show(&self, handle: u64, value: &Arc<Value>) -> Option<BoundBy> {
        let mut inner = self.inner.lock();
        let node = *inner.by_handle.get(&handle)?;
        let open = inner.nodes.get_mut(&node)?.iter_mut().find(|open| open.handle == handle)?;
        let before = std::mem::replace(&mut open.shown, Shown::Version(Arc::clone(value)));
        let by = open.by;
        drop(inner);
        // Dropped without the lock: it may be the last holder of a version.
        drop(before);
        Some(by)
    }

    /// What the handle shows, if it is on a bound node.
    fn shown_by(&self, handle: u64) -> Option<Shown> {
        let inner = self.inner.lock();
        let node = inner.by_handle.get(&handle)?;
        let open = inner.nodes.get(node)?.iter().find(|open| open.handle == handle)?;
        Some(open.shown.clone())
    }

    /// The handle that the process before this one gave for the same request, and perhaps did not say so.
    fn given_for(&self, node: u64, request: &Request) -> Option<u64> {
        let inner = self.inner.lock();
        let mut opens = inner.nodes.get(&node).filter(|_| request.is_resent)?.iter();
        opens.find(|open| open.by.unique == request.unique).map(|open| open.handle)
    }

    /// What the process that sends fstat(2) has opened last. Those that are not known share that.
    fn shown_to(&self, node: u64, process: Option<u32>) -> Option<Shown> {
        self.last_open(node, |by| by.process == process)
    }

    /// The draft that this thread opened last, if nothing was done with it: if it was opened with O_TRUNC, the
    /// truncation comes next. A truncation that is sent again may have been carried out.
    fn draft_to_empty(&self, node: u64, request: &Request) -> Result<Option<Arc<Draft>>, FsError> {
        if request.task == 0 {
            return self.only_untouched(node, request.uid);
        }
        Ok(match self.last_open(node, |by| by.task == request.task) {
            Some(Shown::Draft(draft)) if draft.is_untouched() => Some(draft),
            Some(Shown::Draft(draft)) if request.is_resent && draft.is_emptied() => Some(draft),
            _ => None,
        })
    }

    /// The draft that a thread that is not known may have opened and done nothing with.
    ///
    /// # Errors
    /// There are several.
    fn only_untouched(&self, node: u64, uid: u32) -> Result<Option<Arc<Draft>>, FsError> {
        let inner = self.inner.lock();
        let mut untouched =
            inner.nodes.get(&node).into_iter().flatten().filter_map(|open| match &open.shown {
                Shown::Draft(draft) if draft.uid() == uid && draft.is_untouched() => Some(draft),
                _ => None,
            });
        match (untouched.next().cloned(), untouched.next()) {
            (only, None) => Ok(only),
            (_, Some(_)) => Err(FsError::Stale),
        }
    }

    /// Opens that the process before this one gave come in any order, so the request's number tells which is
    /// the last one.
    fn last_open(&self, node: u64, is_meant: impl Fn(&BoundBy) -> bool) -> Option<Shown> {
        let inner = self.inner.lock();
        let opens = inner.nodes.get(&node)?.iter().filter(|open| is_meant(&open.by));
        opens.max_by_key(|open| open.by.unique).map(|open| open.shown.clone())
    }
}

impl Fs {
    /// Opens the current value through a bound node.
    ///
    /// # Errors
    /// [`FsError::OutOfMemory`].
    pub(in crate::fs) fn read_bound(
        &self,
        request: &Request,
        caller: &Caller,
        node: u64,
        value: &Arc<Value>,
    ) -> Result<Opened, FsError> {
        self.bound.bind(node);
        if let Some(handle) = self.bound.given_for(node, request) {
            return Ok(Opened { handle, caching: Caching::Bound });
        }
        let (value, by) = (Arc::clone(value), BoundBy::new(node, request));
        let bytes = 2 * HANDLE_BYTES + SLOT_BYTES;
        let charge = self.budget.charge(Account::of(caller), bytes, "the file")?;
        let handle_of = Handle::Version { value: Arc::clone(&value), by: Some(by) };
        let handle = self.handles.add(handle_of, charge);
        self.bound.opened(BoundHandle { handle, by, shown: Shown::Version(value) });
        Ok(Opened { handle, caching: Caching::Bound })
    }

    /// Opens a draft through a bound node.
    ///
    /// # Errors
    /// The version that the node once was is still open. Or too many files are.
    pub(in crate::fs) fn write_bound(
        &self,
        request: &Request,
        caller: &Caller,
        node: u64,
        draft: Draft,
    ) -> Result<Opened, FsError> {
        self.bound.bind(node);
        if let Some(handle) = self.bound.given_for(node, request) {
            return Ok(Opened { handle, caching: Caching::Bound });
        }
        let is_current = self.current_of(node).is_some();
        if !is_current && self.has_readers(node) {
            return Err(FsError::Stale);
        }
        let by = BoundBy::new(node, request);
        draft.bind(by);
        let draft = Arc::new(draft);
        let opened = self.start(caller, Arc::clone(&draft))?;
        let (handle, shown) = (opened.handle, Shown::Draft(draft));
        self.bound.opened(BoundHandle { handle, by, shown });
        Ok(Opened { caching: Caching::Bound, ..opened })
    }

    /// The secret whose current version that node is.
    fn current_of(&self, node: u64) -> Option<Arc<Secret>> {
        let Some(Node::Value(value)) = self.nodes.find(node) else { return None };
        let secret = self.vault.secret_of(value.record())?;
        (secret.value().node() == node).then_some(secret)
    }

    /// Whether a handle has the version open whose node this is. Waits first for a release that was sent earlier.
    fn has_readers(&self, node: u64) -> bool {
        if self.nodes.readers(node) > 0 {
            request_watchdog::wait_for_earlier_requests(PATIENCE);
        }
        self.nodes.readers(node) > 0
    }

    /// Waits until the kernel has forgotten the attributes of a bound node that was opened; before a write
    /// also until the node is not that of the current version any more, and has no readers.
    ///
    /// # Errors
    /// The current value cannot get another node, or the node has readers. The open is undone.
    pub(in crate::fs) async fn show_bound(
        self: &Arc<Self>,
        node: u64,
        opened: Opened,
    ) -> Result<Opened, FsError> {
        let is_draft = matches!(self.handles.find(opened.handle), Ok(Handle::Draft(_)));
        if let Some(secret) = self.current_of(node).filter(|_| is_draft) {
            let fs = Arc::clone(self);
            let publish =
                move |changes: &[Change]| fs.invalidator.forgotten(fs.stale_after(changes));
            let renumber = |done| self.vault.renumber(secret.record(), node, done);
            let shown = match stored(renumber, publish).await {
                Ok(forgotten) => {
                    forgotten.await;
                    if self.nodes.readers(node) > 0 { Err(FsError::Stale) } else { Ok(()) }
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = shown {
                self.undo_open(&opened);
                return Err(error);
            }
        }
        self.prefiller.fill(node, Filling::NoAttributes).await;
        Ok(opened)
    }

    /// Whether the attributes of a node are those of one version, which the kernel may keep.
    pub fn has_lasting_attributes(&self, node: u64) -> bool {
        // A version that is not the current one may be asked for through a bind mount, before any open.
        let is_outdated = || self.nodes.find(node).is_some_and(|node| self.is_outdated(&node));
        !self.bound.contains(node) && !is_outdated()
    }

    /// As [`Fs::attributes`], for stat(2) of any node; with `handle` where the kernel needs the size of an open file
    /// for itself (to seek to its end).
    ///
    /// # Errors
    /// As [`Fs::attributes`], or [`FsError::Stale`] if readers of the node need another size.
    pub async fn passing_attributes(
        self: Arc<Self>,
        request: Request,
        node: u64,
        handle: Option<u64>,
    ) -> Result<Attr, FsError> {
        let of_node = self.attributes(&request, node)?;
        match handle {
            // The version that the node is.
            Some(handle) if is_version(handle) => Ok(of_node),
            Some(handle) => {
                let attr = match self.bound.shown_by(handle) {
                    Some(shown) => shown.attr(&of_node),
                    None => of_node.clone(),
                };
                match attr.size == of_node.size || self.nodes.readers(node) == 0 {
                    true => Ok(attr),
                    false => Err(FsError::Stale),
                }
            }
            None => {
                let attr = self.bound_attributes(&request, node, of_node);
                self.prefiller.fill(node, Filling::NoAttributes).await;
                Ok(attr)
            }
        }
    }

    fn bound_attributes(&self, request: &Request, node: u64, of_node: Attr) -> Attr {
        if let Some(shown) = self.bound.shown_to(node, process_of(request.task)) {
            return shown.attr(&of_node);
        }
        // It may be asked of the version that the node is.
        let Some(Node::Value(value)) = self.nodes.find(node) else { return of_node };
        match self.vault.secret_of(value.record()) {
            Some(secret) if self.is_unread(node) => {
                Shown::Version(Arc::clone(secret.value())).attr(&of_node)
            }
            _ => of_node,
        }
    }

    /// Whether no handle has the node's version open. Opens from before this process were not counted. So the
    /// count decides only for a newer node, or for a bound one, whose version is not opened through it any
    /// more.
    fn is_unread(&self, node: u64) -> bool {
        let counts = self.bound.contains(node) || !self.nodes.is_inherited(node);
        counts && self.nodes.readers(node) == 0
    }

    /// A truncation of a bound node: of what was opened with O_TRUNC just now, or by path. The draft that is to be
    /// stored, in that case. Nothing if the node is not bound.
    pub(in crate::fs) fn truncate_bound(
        &self,
        request: &Request,
        node: u64,
        size: u64,
        make: impl FnOnce() -> Result<Draft, FsError>,
    ) -> Result<Option<Option<Arc<Draft>>>, FsError> {
        if !self.bound.contains(node) {
            if !self.is_second_try(request, node) {
                return Ok(None);
            }
            self.bound.bind(node);
        }
        if size == 0
            && let Some(draft) = self.bound.draft_to_empty(node, request)?
        {
            draft.resize(&self.vault, 0)?;
            return Ok(Some(None));
        }
        let draft = Arc::new(make()?);
        draft.resize(&self.vault, size)?;
        Ok(Some(Some(draft)))
    }

    /// A draft of a secret that is truncated by path.
    pub(in crate::fs) fn draft_to_truncate(
        &self,
        request: &Request,
        secret: &Secret,
    ) -> Result<Draft, FsError> {
        let caller = self.caller(request)?;
        self.vault.check(&caller, Operation::Write, secret)?;
        let (node, path) = (self.nodes.next_private(), secret.key().as_str());
        let current = Arc::clone(secret.value());
        let opener = self.opener(request, &caller, path)?;
        Ok(Draft::of_value(node, opener, path, current, SECRET_MODE))
    }

    /// What the process before this one gave.
    pub(in crate::fs) fn inherit_bound(&self, handle: u64, by: BoundBy, shown: Shown) {
        self.bound.opened(BoundHandle { handle, by, shown });
    }
}

impl Shown {
    /// Attributes of a node that shows this.
    fn attr(&self, of_node: &Attr) -> Attr {
        match self {
            Self::Version(value) => Attr {
                inode: value.node(),
                size: u64::from(value.size()),
                modified: value.updated().into(),
                lifetime: NEVER,
                ..of_node.clone()
            },
            Self::Draft(draft) => {
                let (size, _, modified) = draft.shown();
                Attr { size, modified, lifetime: NEVER, ..of_node.clone() }
            }
        }
    }
}
