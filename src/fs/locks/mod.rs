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
use super::{Fs, FsError, Requester};
use ranges::LockedRange;
use saved::LockedFile;
use table::{Answer, Family, Keeping, Outcome, Owner, Request, Table, Waited};

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

/// All locks. The lock of the table is held while the saved state and budgets are, and across no answer.
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

    /// Changes the table. Those that need not wait any more are to be answered.
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
    /// Locks or unlocks. If `waits`, the answer comes once the lock is granted.
    ///
    /// # Errors
    /// [`FsError::Locked`], [`FsError::Deadlock`]; [`FsError::Interrupted`] if a signal ends the wait. Or
    /// what was written cannot be stored before others get the lock.
    pub fn set_lock(
        self: &Arc<Self>,
        who: &Requester,
        node: u64,
        handle: u64,
        lock: Lock,
        waits: bool,
        answer: impl FnOnce(Result<(), FsError>) + Send + 'static,
    ) {
        let answer = self.noting(who, "lock", Box::new(answer));
        let (fs, who) = (Arc::clone(self), *who);
        let set = move |outcome: Result<(), FsError>| match outcome {
            Ok(()) => fs.set_lock_now(&who, node, handle, lock, waits, answer),
            Err(error) => answer(Err(error)),
        };
        // The next holder of the lock must see what was written under it.
        let is_writer = matches!(self.handles.find(handle), Ok(Handle::Draft(_)));
        if is_writer && lock.mode != Some(LockMode::Exclusive) && self.holds_lock(handle, &lock) {
            return self.store_now(&who, handle, Box::new(set));
        }
        set(Ok(()));
    }

    fn holds_lock(&self, handle: u64, lock: &Lock) -> bool {
        if !self.locks.is_used() {
            return false;
        }
        let table = self.locks.table.lock();
        let owner = lock.owner(handle);
        table.file_of(handle).is_some_and(|file| table.holds((file, lock.family()), owner.number))
    }

    fn set_lock_now(
        self: &Arc<Self>,
        who: &Requester,
        node: u64,
        handle: u64,
        lock: Lock,
        waits: bool,
        answer: Answer,
    ) {
        let keeping = Keeping { saved_state: &self.saved_state, budget: &self.budget };
        let Some(mode) = lock.mode else {
            let resolved = self.locked_file(node, handle).ok();
            let (outcome, waited) = self.locks.change(|table, waited| {
                match table.file_of(handle).or(resolved).map(|file| (file, lock.family())) {
                    Some(place) => {
                        let (number, range) = (lock.owner(handle).number, (lock.start, lock.end));
                        table.unlock(keeping, place, number, range, waited)
                    }
                    None => Ok(()),
                }
            });
            answer(outcome);
            return self.answer_waiters(waited);
        };
        let request = match self.lock_request(who, node, handle, &lock, mode) {
            Ok(request) => request,
            Err(error) => return answer(Err(error)),
        };
        let granted = request.clone();
        let (outcome, waited) = self.locks.change(|table, waited| {
            let file = self.one_name(table, handle, request.file);
            table.lock(keeping, Request { file, ..request }, waits, answer, waited)
        });
        match outcome {
            Outcome::Granted(answer) => self.show_current(&granted, answer),
            Outcome::Refused(error, answer) => answer(Err(error)),
            Outcome::Waits => {
                // A wait can last for hours: it is no sign of a request that ends the server.
                self.quarantine.end(who.unique);
                self.watch_for_signals();
            }
        }
        self.answer_waiters(waited);
    }

    /// The lock that keeps the caller from one, if any does.
    ///
    /// # Errors
    /// The file is not known.
    pub fn find_lock(
        &self,
        who: &Requester,
        node: u64,
        handle: u64,
        lock: Lock,
    ) -> Result<Option<Lock>, FsError> {
        let mode = lock.mode.unwrap_or(LockMode::Shared);
        let request = self.lock_request(who, node, handle, &lock, mode)?;
        let (conflict, _none) = self.locks.change(|table, _| {
            let file = self.one_name(table, handle, request.file);
            table.conflict(&Request { file, ..request })
        });
        Ok(conflict.map(|(LockedRange { start, end, mode }, process)| Lock {
            process,
            start,
            end,
            mode: Some(mode),
            ..lock
        }))
    }

    /// As `answer`, for the close of a descriptor: the process loses all its fcntl(2) locks on the file
    /// before it is answered.
    pub(super) fn unlocking_closed(
        self: &Arc<Self>,
        node: u64,
        handle: u64,
        owner: u64,
        answer: Answer,
    ) -> Answer {
        if !self.locks.is_used() {
            return answer;
        }
        let fs = Arc::clone(self);
        Box::new(move |outcome| {
            fs.unlock_closed(node, handle, owner);
            answer(outcome);
        })
    }

    fn unlock_closed(self: &Arc<Self>, node: u64, handle: u64, owner: u64) {
        let keeping = Keeping { saved_state: &self.saved_state, budget: &self.budget };
        let file = self.locked_file(node, handle).ok();
        let ((), waited) = self.locks.change(|table, waited| {
            let known = table.file_of(handle).filter(|known| Some(*known) != file);
            for file in known.into_iter().chain(file) {
                // Nothing is left of it.
                let _ = table.unlock(keeping, (file, Family::Posix), owner, (0, u64::MAX), waited);
            }
        });
        self.answer_waiters(waited);
    }

    /// The last descriptor of a handle was closed.
    pub(super) fn unlock_released(self: &Arc<Self>, handle: u64) {
        if !self.locks.is_used() {
            return;
        }
        let keeping = Keeping { saved_state: &self.saved_state, budget: &self.budget };
        let change =
            |table: &mut Table, waited: &mut Vec<_>| table.released(keeping, handle, waited);
        let ((), waited) = self.locks.change(change);
        self.answer_waiters(waited);
    }

    fn answer_waiters(self: &Arc<Self>, waited: Vec<Waited>) {
        for Waited { request, outcome, answer } in waited {
            match outcome {
                Ok(()) => self.show_current(&request, answer),
                Err(error) => answer(Err(error)),
            }
        }
    }

    fn lock_request(
        &self,
        who: &Requester,
        node: u64,
        handle: u64,
        lock: &Lock,
        mode: LockMode,
    ) -> Result<Request, FsError> {
        let account = Account::of(&*self.caller(who)?);
        if is_version(handle) {
            self.locking_readers.ask(&self.budget, account, handle, node)?;
        }
        Ok(Request {
            node,
            file: self.locked_file(node, handle)?,
            family: lock.family(),
            owner: lock.owner(handle),
            process: lock.process,
            range: LockedRange { start: lock.start, end: lock.end, mode },
            uid: who.uid,
            account,
            task: who.task,
            unique: who.unique,
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

/// A file that is being created at that path.
fn new_file(path: &str) -> LockedFile {
    LockedFile::New(path_number("lock", path))
}
