//! flock(2) and fcntl(2) locks.
//!
//! They apply to a secret, not to one version of it: the kernel's own locks are per node, and each version and
//! each writer has its own node. The kernel remembers nothing of a lock, so the table is part of the saved
//! state. A request that waits has no thread. It is not saved: the kernel sends it to the next process again.
//! A request that was granted and not answered is granted again, because it has the same owner.

mod current;
mod ranges;
mod readers;
mod saved;
mod signals;
mod table;

pub use ranges::LockMode;
pub(super) use readers::LockingReaders;
pub(super) use saved::SavedLocks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::vault::WriteTarget;

use super::budget::{Account, Budget};
use super::files::draft::{Draft, Target};
use super::kernel::handles::{Handle, is_version, is_writer};
use super::kernel::nodes::{Clue, Node, path_number};
use super::saved::Slot;
use super::{Fs, FsError, Request};
use ranges::LockedRange;
use saved::LockedFile;
use table::{Family, Keeping, LockRequest, Outcome, Owner, Table, Waited};

/// A lock that a caller asks for or about.
#[derive(Clone, Copy, Debug)]
pub struct Lock {
    /// Whose it is: the kernel's number for an open file, or for the open files of a process.
    pub owner: u64,
    /// The process.
    pub process: u32,
    /// The first byte.
    pub start: u64,
    /// The last byte.
    pub end: u64,
    /// None to unlock.
    pub mode: Option<LockMode>,
    /// Whether it is a lock of flock(2), which does not know of those of fcntl(2).
    pub is_flock: bool,
}

impl Lock {
    fn family(&self) -> Family {
        if self.is_flock { Family::Flock } else { Family::Posix }
    }

    fn owner(&self, handle: u64) -> Owner {
        Owner { number: if self.is_flock { handle } else { self.owner }, handle }
    }
}

/// All locks. The lock of the table is held while the saved state and budgets are, and while no operation goes on.
#[derive(Default)]
pub(super) struct Locks {
    table: Mutex<Table>,
    /// Whether there may be any. Callers that do not lock pay nothing else.
    is_used: AtomicBool,
    /// Whether a thread looks for signals of those that wait.
    is_watched: AtomicBool,
}

impl Locks {
    /// Locks of the process before this one.
    pub(super) fn inherit(&self, saved: SavedLocks, slot: Slot, budget: &Budget) {
        self.is_used.store(true, Ordering::SeqCst);
        self.table.lock().restore(saved, slot, budget);
    }

    fn is_used(&self) -> bool {
        self.is_used.load(Ordering::SeqCst)
    }

    /// Changes the table. Those that need not wait any more are to be told.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Table, &mut Vec<Waited>) -> T,
    ) -> (T, Vec<Waited>) {
        let (mut table, mut waited) = (self.table.lock(), Vec::new());
        let outcome = change(&mut table, &mut waited);
        self.is_used.store(!table.is_empty(), Ordering::SeqCst);
        (outcome, waited)
    }
}

impl Fs {
    /// Locks or unlocks. If `waits`, waits until the lock is granted.
    ///
    /// # Errors
    /// [`FsError::Locked`], [`FsError::Deadlock`]; [`FsError::Interrupted`] if a signal ends the wait. Or
    /// what was written cannot be stored before others get the lock.
    pub async fn set_lock(
        self: Arc<Self>,
        request: Request,
        node: u64,
        handle: u64,
        lock: Lock,
        waits: bool,
    ) -> Result<(), FsError> {
        // The next holder of the lock must see what was written under it.
        let is_writer = matches!(self.handles.find(handle), Ok(Handle::Draft(_)));
        if is_writer && lock.mode != Some(LockMode::Exclusive) && self.holds_lock(handle, &lock) {
            self.store_now(&request, handle).await?;
        }
        let Some(mode) = lock.mode else { return self.unlock(node, handle, &lock) };
        let wanted = self.lock_request(&request, node, handle, &lock, mode)?;
        let (outcome, waited) = self.locks.change(|table, waited| {
            let file = self.one_name(table, handle, wanted.file);
            table.lock(self.keeping(), LockRequest { file, ..wanted }, waits, waited)
        });
        wake(waited);
        let granted = match outcome {
            Outcome::Granted(granted) => granted,
            Outcome::Refused(error) => return Err(error),
            Outcome::Waits(granted) => {
                // A wait can last for hours: it is no sign of a request that ends the server.
                self.quarantine.end(request.unique);
                self.watch_for_signals();
                granted.await??
            }
        };
        self.show_current(&request, &granted).await
    }

    fn holds_lock(&self, handle: u64, lock: &Lock) -> bool {
        if !self.locks.is_used() {
            return false;
        }
        let table = self.locks.table.lock();
        let owner = lock.owner(handle);
        table.file_of(handle).is_some_and(|file| table.holds((file, lock.family()), owner.number))
    }

    fn unlock(&self, node: u64, handle: u64, lock: &Lock) -> Result<(), FsError> {
        let resolved = self.locked_file(node, handle).ok();
        let (outcome, waited) = self.locks.change(|table, waited| {
            match table.file_of(handle).or(resolved).map(|file| (file, lock.family())) {
                Some(place) => {
                    let (number, range) = (lock.owner(handle).number, (lock.start, lock.end));
                    table.unlock(self.keeping(), place, number, range, waited)
                }
                None => Ok(()),
            }
        });
        wake(waited);
        outcome
    }

    fn keeping(&self) -> Keeping<'_> {
        Keeping { saved_state: &self.saved_state, budget: &self.budget }
    }

    /// The lock that keeps the caller from one, if any does.
    ///
    /// # Errors
    /// The file is not known.
    pub fn find_lock(
        &self,
        request: &Request,
        node: u64,
        handle: u64,
        lock: Lock,
    ) -> Result<Option<Lock>, FsError> {
        let mode = lock.mode.unwrap_or(LockMode::Shared);
        let wanted = self.lock_request(request, node, handle, &lock, mode)?;
        let (conflict, _none) = self.locks.change(|table, _| {
            let file = self.one_name(table, handle, wanted.file);
            table.conflict(&LockRequest { file, ..wanted })
        });
        Ok(conflict.map(|(LockedRange { start, end, mode }, process)| Lock {
            process,
            start,
            end,
            mode: Some(mode),
            ..lock
        }))
    }

    /// A process closed a descriptor of the file: it loses all its fcntl(2) locks on it.
    pub(super) fn unlock_closed(&self, node: u64, handle: u64, owner: u64) {
        if !self.locks.is_used() {
            return;
        }
        let file = self.locked_file(node, handle).ok();
        let ((), waited) = self.locks.change(|table, waited| {
            let known = table.file_of(handle).filter(|known| Some(*known) != file);
            for file in known.into_iter().chain(file) {
                let place = (file, Family::Posix);
                // Nothing is left of it.
                let _ = table.unlock(self.keeping(), place, owner, (0, u64::MAX), waited);
            }
        });
        wake(waited);
    }

    /// The last descriptor of a handle was closed.
    pub(super) fn unlock_released(&self, handle: u64) {
        if !self.locks.is_used() {
            return;
        }
        let change =
            |table: &mut Table, waited: &mut Vec<_>| table.released(self.keeping(), handle, waited);
        let ((), waited) = self.locks.change(change);
        wake(waited);
    }

    fn lock_request(
        &self,
        request: &Request,
        node: u64,
        handle: u64,
        lock: &Lock,
        mode: LockMode,
    ) -> Result<LockRequest, FsError> {
        let account = Account::of(&*self.caller(request)?);
        if is_version(handle) {
            self.locking_readers.ask(&self.budget, account, handle, node)?;
        }
        Ok(LockRequest {
            node,
            file: self.locked_file(node, handle)?,
            family: lock.family(),
            owner: lock.owner(handle),
            process: lock.process,
            range: LockedRange { start: lock.start, end: lock.end, mode },
            uid: request.uid,
            account,
            task: request.task,
            unique: request.unique,
        })
    }

    /// What a lock through this handle applies to.
    fn locked_file(&self, node: u64, handle: u64) -> Result<LockedFile, FsError> {
        match self.handles.find(handle) {
            Ok(Handle::Draft(draft) | Handle::View(draft)) => Ok(self.locked_by_writer(&draft)),
            Ok(Handle::Version { value, .. }) => Ok(LockedFile::Secret(value.record().as_u64())),
            Err(_) if is_writer(handle) => Err(FsError::Lost),
            Ok(_) | Err(_) => Ok(match (self.nodes.find(node), Clue::of(node)) {
                (Some(Node::Value(value)), _) => LockedFile::Secret(value.record().as_u64()),
                // After a restart it may not be known yet.
                (_, Clue::Sidecar(record)) => LockedFile::Sidecar(record.as_u64()),
                _ => LockedFile::Node(node),
            }),
        }
    }

    fn locked_by_writer(&self, draft: &Draft) -> LockedFile {
        match draft.target() {
            Target::Value(WriteTarget::Existing(record)) => LockedFile::Secret(record.as_u64()),
            Target::Value(WriteTarget::New { key, .. }) => match self.vault.secret(key.as_str()) {
                Some(secret) => LockedFile::Secret(secret.record().as_u64()),
                None => new_file(key.as_str()),
            },
            Target::Lists(record) => LockedFile::Sidecar(record.as_u64()),
        }
    }

    /// The file that a handle locks. A secret that was being created when it was locked is the one that has
    /// been created.
    fn one_name(&self, table: &mut Table, handle: u64, file: LockedFile) -> LockedFile {
        let file = match (table.file_of(handle), file) {
            (Some(before @ LockedFile::New(_)), LockedFile::Secret(_)) => {
                table.unify(&self.saved_state, before, file);
                file
            }
            (Some(before), _) => before,
            (None, _) => file,
        };
        if let LockedFile::Secret(record) = file
            && let Some(secret) = self.vault.secret_of(crate::vault::RecordId::from_u64(record))
        {
            table.unify(&self.saved_state, new_file(secret.key().as_str()), file);
        }
        file
    }
}

/// Goes on with those that need not wait any more. No lock may be held.
fn wake(waited: Vec<Waited>) {
    waited.into_iter().for_each(Waited::wake);
}

/// A file that is being created at that path.
fn new_file(path: &str) -> LockedFile {
    LockedFile::New(path_number("lock", path))
}
