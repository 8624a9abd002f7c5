//! What a descriptor that was opened only for reading shows once it has a lock.
//!
//! Such a descriptor belongs to one version, and the kernel keeps one size and one set of pages for that
//! version's node. If the version is superseded when the lock is granted, the node shows the current value
//! from then on. That must not change what others read. So the answer waits until every handle that has the
//! version open through this node has asked for a lock. If that takes too long, the lock is not granted.
//! Handles that were opened before this process began, and have not asked since, are not known: their readers
//! see the change.

use std::collections::hash_map::{Entry, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::fs::budget::{Account, Budget, Charge};
use crate::fs::files::draft::publishing::PATIENCE;
use crate::fs::kernel::handles::{Handle, is_version};
use crate::fs::kernel::prefill::{Filling, Prefill};
use crate::fs::saved::table::{Entry as SavedEntry, Saved};
use crate::fs::saved::{Record, SLOT_BYTES, SavedState, Slot};
use crate::fs::{Fs, FsError};
use crate::vault::{RecordId, Value};

use super::saved::LockedFile;
use super::table::LockRequest;

/// What an open file takes that asks for a lock, and what its node shows.
const READER_BYTES: usize = 256 + SLOT_BYTES;

/// Readers that ask for locks, and the nodes that show another version than their own. The lock is held while
/// budgets are.
#[derive(Default)]
pub(in crate::fs) struct LockingReaders {
    inner: Mutex<Inner>,
    /// An open was released, or a lock granted.
    changed: Condvar,
    /// How many handles and nodes there are. Callers that do not lock only check this.
    count: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    /// The node of each handle, until it is released.
    handles: HashMap<u64, (u64, Charge)>,
    /// How many handles each node has.
    handles_of: HashMap<u64, u64>,
    /// By node, until the kernel forgets it. None while one is to show another version as soon as it may: it is
    /// not opened any more.
    shown: Saved<u64, Shown>,
    /// Those that are granted and not answered.
    granted: Vec<Granted>,
    /// Whether a thread answers them.
    is_served: bool,
    /// Counts releases and grants.
    changes: u64,
}

struct Shown {
    value: Option<Arc<Value>>,
    account: Account,
}

impl SavedEntry<u64> for Shown {
    fn record(&self, node: &u64) -> Option<(Account, Record)> {
        let version = self.value.as_ref()?.node();
        Some((self.account, Record::Shown { node: *node, version }))
    }
}

/// Is told that the descriptor shows the current value, or why it cannot.
type Shower = oneshot::Sender<Result<(), FsError>>;

struct Granted {
    request: LockRequest,
    tell: Shower,
    /// When it is given up.
    end: Instant,
}

impl LockingReaders {
    /// What the node shows, if that is not its own version.
    pub(in crate::fs) fn shown_on(&self, node: u64) -> Option<Arc<Value>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        self.inner.lock().shown.get(&node)?.value.value.clone()
    }

    /// Whether the node shows another version than its own, or is about to. Then it is not opened any more.
    pub(in crate::fs) fn have(&self, node: u64) -> bool {
        self.count.load(Ordering::SeqCst) > 0 && self.inner.lock().shown.contains_key(&node)
    }

    /// An open of a version asks for a lock.
    ///
    /// # Errors
    /// The account has no memory left.
    pub(super) fn ask(
        &self,
        budget: &Budget,
        account: Account,
        handle: u64,
        node: u64,
    ) -> Result<(), FsError> {
        self.change(|inner| {
            // Older programs gave all opens of versions the same number.
            if handle != 0 && !inner.handles.contains_key(&handle) {
                let charge = budget.charge(account, READER_BYTES, "a lock")?;
                inner.handles.insert(handle, (node, charge));
                *inner.handles_of.entry(node).or_default() += 1;
            }
            Ok(())
        })
    }

    /// The handle was released.
    pub(in crate::fs) fn closed(&self, handle: u64) {
        if self.count.load(Ordering::SeqCst) > 0 {
            self.change(|inner| {
                let Some((node, _)) = inner.handles.remove(&handle) else { return };
                if let Entry::Occupied(mut count) = inner.handles_of.entry(node) {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                }
            });
            self.changed.notify_all();
        }
    }

    /// The kernel does not know the node any more.
    pub(in crate::fs) fn forget(&self, node: u64) {
        if self.count.load(Ordering::SeqCst) > 0 {
            // Dropped without the lock: it may be the last holder of a version.
            drop(self.change(|inner| inner.shown.remove(&node)));
        }
    }

    /// The node shows this version from now on.
    fn show(&self, saved_state: &SavedState, account: Account, node: u64, value: Arc<Value>) {
        let shown = Shown { value: Some(value), account };
        drop(self.change(|inner| inner.shown.put(saved_state, node, shown)));
    }

    /// The node showed this version when another process served the mount.
    pub(in crate::fs) fn restore(&self, node: u64, value: Arc<Value>, slot: Slot) {
        let shown = Shown { value: Some(value), account: Account::Nameless };
        self.change(|inner| inner.shown.restore(node, shown, slot));
    }

    /// The node is not opened any more. Whether it shows another version already.
    fn reserve(&self, saved_state: &SavedState, account: Account, node: u64) -> bool {
        let mut inner = self.inner.lock();
        if !inner.shown.contains_key(&node) {
            inner.shown.put(saved_state, node, Shown { value: None, account });
        }
        self.recount(&inner);
        inner.shown[&node].value.value.is_some()
    }

    /// The node does not show another version after all.
    fn release(&self, node: u64) {
        self.change(|inner| {
            if inner.shown.get(&node).is_some_and(|shown| shown.value.value.is_none()) {
                inner.shown.remove(&node);
            }
        });
    }

    /// How many opens of a node have asked for a lock.
    fn on(&self, node: u64) -> u64 {
        self.inner.lock().handles_of.get(&node).copied().unwrap_or(0)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock();
        let outcome = change(&mut inner);
        inner.changes += 1;
        self.recount(&inner);
        outcome
    }

    fn recount(&self, inner: &Inner) {
        self.count.store(inner.handles.len() + inner.shown.len(), Ordering::SeqCst);
    }
}

impl Fs {
    /// A lock of a reader was granted: waits until its descriptor shows the current value.
    pub(super) async fn show_current_to_reader(
        self: &Arc<Self>,
        granted: &LockRequest,
    ) -> Result<(), FsError> {
        let LockedFile::Secret(record) = granted.file else { return Ok(()) };
        let Some(secret) = self.vault.secret_of(RecordId::from_u64(record)) else { return Ok(()) };
        let (current, &LockRequest { node, owner, .. }) = (secret.value(), granted);
        if !is_version(owner.handle) {
            self.show_to_one(granted, current);
            return Ok(());
        }
        if node == current.node() {
            return Ok(());
        }
        // If the node shows the current value already, the kernel may be yet to forget the one before.
        // A read that was sent again may have to come to its end first: it keeps a page locked.
        self.quarantine.end(granted.unique);
        let (tell, told) = oneshot::channel();
        let (request, end) = (granted.clone(), Instant::now() + PATIENCE);
        let readers = &self.locking_readers;
        let is_served = readers.change(|inner| {
            inner.granted.push(Granted { request, tell, end });
            std::mem::replace(&mut inner.is_served, true)
        });
        readers.changed.notify_all();
        if !is_served {
            let fs = Arc::clone(self);
            let thread = std::thread::Builder::new().name("readers".to_owned());
            if let Err(error) = thread.spawn(move || fs.show_granted()) {
                tracing::error!(%error, "a thread for locks of readers cannot be started");
                let granted = readers.change(|inner| {
                    inner.is_served = false;
                    std::mem::take(&mut inner.granted)
                });
                granted.into_iter().for_each(|granted| self.refuse_granted(granted));
            }
        }
        told.await?
    }

    /// Shows the current value to those that are granted, until there are none.
    fn show_granted(self: &Arc<Self>) {
        let readers = &self.locking_readers;
        let (mut changes, mut left) = (0, Vec::new());
        loop {
            let due = {
                let mut inner = readers.inner.lock();
                inner.granted.append(&mut left);
                let Some(end) = inner.granted.iter().map(|granted| granted.end).min() else {
                    inner.is_served = false;
                    return;
                };
                if inner.changes == changes {
                    readers.changed.wait_until(&mut inner, end);
                }
                changes = inner.changes;
                std::mem::take(&mut inner.granted)
            };
            // The kernel is notified once of each node, however many locks it has.
            let mut shown = HashMap::<u64, Vec<Shower>>::new();
            for granted in due {
                if self.show_on_node(&granted.request) {
                    shown.entry(granted.request.node).or_default().push(granted.tell);
                } else if Instant::now() < granted.end {
                    left.push(granted);
                } else {
                    self.refuse_granted(granted);
                }
            }
            for (node, waiting) in shown {
                let answer =
                    Box::new(move || waiting.into_iter().for_each(|tell| drop(tell.send(Ok(())))));
                self.prefiller.send(Prefill { node, filling: Filling::Nothing, answer });
            }
        }
    }

    /// A handle on a version that shares no pages with others shows this one from now on.
    fn show_to_one(&self, granted: &LockRequest, current: &Arc<Value>) {
        let handle = granted.owner.handle;
        let (value, by) = (Arc::clone(current), self.bound.show(handle, current));
        self.handles.replace(handle, Handle::Version { value, by });
    }

    /// Makes the node show the current value. False while handles that did not ask for a lock read its own version.
    fn show_on_node(&self, granted: &LockRequest) -> bool {
        let LockRequest { file: LockedFile::Secret(record), node, account, .. } = *granted else {
            return true;
        };
        let Some(secret) = self.vault.secret_of(RecordId::from_u64(record)) else { return true };
        // Reserve first, then check. An open of the node counts its reader first and then checks for this.
        let is_shown = self.locking_readers.reserve(&self.saved_state, account, node);
        if !is_shown && self.nodes.readers(node) > self.locking_readers.on(node) {
            return false;
        }
        let current = Arc::clone(secret.value());
        self.locking_readers.show(&self.saved_state, account, node, current);
        true
    }

    /// Unlocks what was granted, since its descriptor cannot show the current value.
    fn refuse_granted(&self, granted: Granted) {
        let Granted { request: LockRequest { node, file, family, owner, range, .. }, tell, .. } =
            granted;
        let ((), waited) = self.locks.change(|table, waited| {
            let range = (range.start, range.end);
            // What cannot be unlocked for want of room goes with the descriptor.
            let _ = table.unlock(self.keeping(), (file, family), owner.number, range, waited);
        });
        self.locking_readers.release(node);
        // The request waits for it.
        let _ = tell.send(Err(FsError::Stale));
        super::wake(waited);
    }
}
