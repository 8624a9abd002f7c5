//! All locks that callers hold or wait for.
//!
//! A lock of fcntl(2) belongs to an owner: the kernel's number for the open files of a process, or with
//! F_OFD_SETLK for an open file. The kernel tells when a process closes a descriptor of a writer, but of a
//! reader it tells the end of the open file alone, and later than it may use the number again. So the
//! table keeps the locks of each owner apart by the handle through which they were set. A lock of flock(2)
//! belongs to the handle.

use std::collections::{HashMap, HashSet};

use tokio::sync::oneshot;

use crate::fs::FsError;
use crate::fs::budget::{Account, Budget, Charge};
use crate::fs::saved::{Record, SLOT_BYTES, SavedState, Slot};

use super::ranges::{LockedRange, Ranges};
use super::saved::{LockedFile, SavedLocks};

/// What the locks of an owner take, and a waiter with its operation.
const HELD_BYTES: usize = 512 + SLOT_BYTES;
const WAITER_BYTES: usize = 3 * 1024;
/// How many ranges an owner can have locked through one handle: they fit a slot.
pub(super) const MAX_RANGES: usize = 64;
/// How many owners are looked at to find a deadlock, as in the kernel.
const MAX_CHAIN: usize = 10;

/// The two kinds of locks, which do not know of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) enum Family {
    Flock,
    Posix,
}

/// Whose locks these are: those of one number do not conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Owner {
    pub(super) number: u64,
    /// The handle through which they were set.
    pub(super) handle: u64,
}

/// A request for a lock.
#[derive(Clone, Debug)]
pub(super) struct LockRequest {
    /// The node that was opened.
    pub(super) node: u64,
    pub(super) file: LockedFile,
    pub(super) family: Family,
    pub(super) owner: Owner,
    /// For F_GETLK.
    pub(super) process: u32,
    pub(super) range: LockedRange,
    pub(super) uid: u32,
    pub(super) account: Account,
    /// The thread that asks, and the number of its request.
    pub(super) task: u32,
    pub(super) unique: u64,
}

/// Is told that its lock is granted, or why not. No lock may be held.
pub(super) type Waker = oneshot::Sender<Result<LockRequest, FsError>>;

/// A waiter that need not wait any more.
pub(super) struct Waited {
    request: LockRequest,
    outcome: Result<(), FsError>,
    waker: Waker,
}

impl Waited {
    /// Tells it. No lock may be held.
    pub(super) fn wake(self) {
        // A request that waits is never dropped.
        let _ = self.waker.send(self.outcome.map(|()| self.request));
    }
}

/// What became of a request.
pub(super) enum Outcome {
    Granted(LockRequest),
    Refused(FsError),
    Waits(oneshot::Receiver<Result<LockRequest, FsError>>),
}

type Place = (LockedFile, Family);

#[derive(Default)]
pub(super) struct Table {
    files: HashMap<Place, File>,
    /// The file that a handle has locked.
    by_handle: HashMap<u64, LockedFile>,
}

#[derive(Default)]
struct File {
    held: HashMap<Owner, Held>,
    /// In the order in which they came.
    waiters: Vec<Waiter>,
}

struct Held {
    process: u32,
    uid: u32,
    account: Account,
    ranges: Ranges,
    slot: Option<Slot>,
    _charge: Charge,
}

struct Waiter {
    request: LockRequest,
    waker: Waker,
    _charge: Charge,
}

/// Where locks are saved and charged.
#[derive(Clone, Copy)]
pub(super) struct Keeping<'a> {
    pub(super) saved_state: &'a SavedState,
    pub(super) budget: &'a Budget,
}

impl Table {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The file that this handle has locked.
    pub(super) fn file_of(&self, handle: u64) -> Option<LockedFile> {
        self.by_handle.get(&handle).copied()
    }

    /// Whether the owner has locked some of the file.
    pub(super) fn holds(&self, place: Place, number: u64) -> bool {
        let file = self.files.get(&place);
        file.is_some_and(|file| file.held.keys().any(|owner| owner.number == number))
    }

    /// Locks, or waits if `waits`. Others whose locks become free are in `waited`.
    pub(super) fn lock(
        &mut self,
        keeping: Keeping<'_>,
        request: LockRequest,
        waits: bool,
        waited: &mut Vec<Waited>,
    ) -> Outcome {
        let place = (request.file, request.family);
        let whole = (0, u64::MAX);
        if self.conflict(&request).is_some() && request.family == Family::Flock {
            // As in flock(2), the conversion of a lock gives up the old one first.
            if let Err(error) = self.unlock(keeping, place, request.owner.number, whole, waited) {
                return Outcome::Refused(error);
            }
        }
        if self.conflict(&request).is_none() {
            let granted = self.grant(keeping, &request);
            // What was exclusive may be shared now.
            self.wake(keeping, place, waited);
            return match granted {
                Ok(()) => Outcome::Granted(request),
                Err(error) => Outcome::Refused(error),
            };
        }
        if !waits {
            return Outcome::Refused(FsError::Locked);
        }
        if request.family == Family::Posix && self.would_deadlock(&request) {
            return Outcome::Refused(FsError::Deadlock);
        }
        match keeping.budget.charge(request.account, WAITER_BYTES, "a lock") {
            Ok(charge) => {
                let file = self.files.entry(place).or_default();
                let (waker, granted) = oneshot::channel();
                file.waiters.push(Waiter { request, waker, _charge: charge });
                Outcome::Waits(granted)
            }
            Err(error) => Outcome::Refused(error),
        }
    }

    /// The lock that conflicts with this request: its range and its process.
    pub(super) fn conflict(&self, request: &LockRequest) -> Option<(LockedRange, u32)> {
        let conflicts = self.others(request).filter_map(|(_, held)| {
            Some((held.ranges.conflict_with(&request.range)?, held.process))
        });
        conflicts.min_by_key(|(range, _)| range.start)
    }

    /// What others than its owner have locked of the file.
    fn others(&self, request: &LockRequest) -> impl Iterator<Item = (&Owner, &Held)> {
        let file = self.files.get(&(request.file, request.family));
        let number = request.owner.number;
        let all = file.into_iter().flat_map(|file| &file.held);
        all.filter(move |(owner, _)| owner.number != number)
    }

    fn grant(&mut self, keeping: Keeping<'_>, request: &LockRequest) -> Result<(), FsError> {
        let place = (request.file, request.family);
        let LockRequest { owner, range, process, uid, account, .. } = *request;
        let file = self.files.entry(place).or_default();
        let granted = file.lock(keeping, place, owner, range, (process, uid, account));
        if granted.is_ok() {
            self.by_handle.insert(owner.handle, request.file);
        }
        self.tidy(place);
        granted
    }

    /// Unlocks a range of all that an owner has locked.
    ///
    /// # Errors
    /// What is left would be too many ranges.
    pub(super) fn unlock(
        &mut self,
        keeping: Keeping<'_>,
        place: Place,
        number: u64,
        range: (u64, u64),
        waited: &mut Vec<Waited>,
    ) -> Result<(), FsError> {
        let Some(file) = self.files.get_mut(&place) else { return Ok(()) };
        let its: Vec<_> =
            file.held.keys().filter(|owner| owner.number == number).copied().collect();
        let outcome = its.iter().try_for_each(|owner| file.unlock(keeping, place, *owner, range));
        its.iter().for_each(|owner| self.forget_handle(owner.handle));
        self.wake(keeping, place, waited);
        outcome
    }

    /// A handle was released: what was locked through it is unlocked.
    pub(super) fn released(&mut self, keeping: Keeping<'_>, handle: u64, waited: &mut Vec<Waited>) {
        let Some(file) = self.by_handle.remove(&handle) else { return };
        for family in [Family::Flock, Family::Posix] {
            let place = (file, family);
            if let Some(file) = self.files.get_mut(&place) {
                file.held.retain(|owner, _| owner.handle != handle);
                self.wake(keeping, place, waited);
            }
        }
    }

    /// What was one file under two names is one.
    pub(super) fn unify(&mut self, saved_state: &SavedState, from: LockedFile, into: LockedFile) {
        for family in [Family::Flock, Family::Posix] {
            let Some(File { held, waiters }) = self.files.remove(&(from, family)) else { continue };
            let place = (into, family);
            let file = self.files.entry(place).or_default();
            file.waiters.extend(waiters.into_iter().map(|mut waiter| {
                waiter.request.file = into;
                waiter
            }));
            for (owner, mut held) in held {
                self.by_handle.insert(owner.handle, into);
                held.save(saved_state, place, owner);
                file.held.insert(owner, held);
            }
        }
    }

    /// Those that wait, by the number of the request and the thread.
    pub(super) fn waiting(&self) -> Vec<(u64, u32)> {
        let waiters = self.files.values().flat_map(|file| &file.waiters);
        waiters.map(|waiter| (waiter.request.unique, waiter.request.task)).collect()
    }

    /// Ends the wait of this request. None if the lock has been granted already.
    pub(super) fn give_up(&mut self, unique: u64, error: FsError) -> Option<Waited> {
        let (place, at) = self.files.iter().find_map(|(place, file)| {
            let at = file.waiters.iter().position(|waiter| waiter.request.unique == unique)?;
            Some((*place, at))
        })?;
        let Waiter { request, waker, .. } = self.files.get_mut(&place)?.waiters.remove(at);
        self.tidy(place);
        Some(Waited { request, outcome: Err(error), waker })
    }

    /// Locks of the process before this one.
    pub(super) fn restore(&mut self, saved: SavedLocks, slot: Slot, budget: &Budget) {
        let SavedLocks { file, family, owner, process, uid, ranges } = saved;
        let account = Account::User(uid);
        let charge = budget.restore(account, HELD_BYTES);
        self.by_handle.insert(owner.handle, file);
        let held = Held { process, uid, account, ranges, slot: Some(slot), _charge: charge };
        self.files.entry((file, family)).or_default().held.insert(owner, held);
    }

    /// Grants what has become possible.
    fn wake(&mut self, keeping: Keeping<'_>, place: Place, waited: &mut Vec<Waited>) {
        let mut at = 0;
        while let Some(waiter) = self.files.get(&place).and_then(|file| file.waiters.get(at)) {
            let request = waiter.request.clone();
            if self.conflict(&request).is_some() {
                at += 1;
                continue;
            }
            let outcome = self.grant(keeping, &request);
            let Some(file) = self.files.get_mut(&place) else { break };
            let Waiter { request, waker, .. } = file.waiters.remove(at);
            waited.push(Waited { request, outcome, waker });
        }
        self.tidy(place);
    }

    /// Whether a holder that keeps the request from its lock waits for the owner of the request, directly or
    /// through others.
    fn would_deadlock(&self, request: &LockRequest) -> bool {
        let mut seen = HashSet::new();
        let mut next = self.blockers(request);
        while let Some(number) = next.pop()
            && seen.len() < MAX_CHAIN
        {
            if number == request.owner.number {
                return true;
            }
            if seen.insert(number) {
                let all = self.files.values().flat_map(|file| &file.waiters);
                let its = all.filter(|waiter| {
                    let request = &waiter.request;
                    request.family == Family::Posix && request.owner.number == number
                });
                its.for_each(|waiter| next.extend(self.blockers(&waiter.request)));
            }
        }
        false
    }

    fn blockers(&self, request: &LockRequest) -> Vec<u64> {
        let others = self.others(request);
        let blocking =
            others.filter(|(_, held)| held.ranges.conflict_with(&request.range).is_some());
        blocking.map(|(owner, _)| owner.number).collect()
    }

    /// Forgets which file the handle has locked, if nothing is left of that.
    fn forget_handle(&mut self, handle: u64) {
        let Some(&file) = self.by_handle.get(&handle) else { return };
        let is_used = [Family::Flock, Family::Posix].into_iter().any(|family| {
            let file = self.files.get(&(file, family));
            file.is_some_and(|file| file.held.keys().any(|owner| owner.handle == handle))
        });
        if !is_used {
            self.by_handle.remove(&handle);
        }
    }

    fn tidy(&mut self, place: Place) {
        let is_unused = |file: &File| file.held.is_empty() && file.waiters.is_empty();
        if self.files.get(&place).is_some_and(is_unused) {
            self.files.remove(&place);
        }
    }
}

impl File {
    /// Locks a range. Nothing is changed if that fails.
    fn lock(
        &mut self,
        keeping: Keeping<'_>,
        place: Place,
        owner: Owner,
        range: LockedRange,
        (process, uid, account): (u32, u32, Account),
    ) -> Result<(), FsError> {
        let mut ranges = self.held.get(&owner).map(|held| held.ranges.clone()).unwrap_or_default();
        ranges.lock(range);
        check_count(&ranges)?;
        let before = match self.held.remove(&owner) {
            Some(held) => held,
            None => {
                let charge = keeping.budget.charge(account, HELD_BYTES, "a lock")?;
                let (ranges, slot) = Default::default();
                Held { process, uid, account, ranges, slot, _charge: charge }
            }
        };
        let mut held = Held { process, ranges, ..before };
        if !held.save(keeping.saved_state, place, owner) {
            let what = "no more locks can be kept; release some";
            return Err(FsError::TooMany { path: "a lock".to_owned(), what });
        }
        self.held.insert(owner, held);
        // What the owner had locked there through other handles.
        let others: Vec<_> =
            self.held.keys().filter(|one| one.number == owner.number).copied().collect();
        for other in others.into_iter().filter(|other| *other != owner) {
            self.unlock(keeping, place, other, (range.start, range.end))?;
        }
        Ok(())
    }

    fn unlock(
        &mut self,
        keeping: Keeping<'_>,
        place: Place,
        owner: Owner,
        (start, end): (u64, u64),
    ) -> Result<(), FsError> {
        let Some(held) = self.held.get_mut(&owner) else { return Ok(()) };
        let mut ranges = held.ranges.clone();
        ranges.unlock(start, end);
        check_count(&ranges)?;
        held.ranges = ranges;
        if held.ranges.is_empty() {
            self.held.remove(&owner);
        } else {
            held.save(keeping.saved_state, place, owner);
        }
        Ok(())
    }
}

fn check_count(ranges: &Ranges) -> Result<(), FsError> {
    if ranges.len() <= MAX_RANGES {
        return Ok(());
    }
    let what = "a process can lock 64 ranges of a file; lock fewer, or all of it";
    Err(FsError::TooMany { path: "a lock".to_owned(), what })
}

impl Held {
    /// Whether the next process will find it, if there will be one.
    fn save(&mut self, saved_state: &SavedState, (file, family): Place, owner: Owner) -> bool {
        let Self { process, uid, .. } = *self;
        let ranges = self.ranges.clone();
        let kept = Record::Locks(SavedLocks { file, family, owner, process, uid, ranges });
        saved_state.write(&mut self.slot, Some((self.account, kept)));
        self.slot.is_some() || saved_state.file().is_none()
    }
}
