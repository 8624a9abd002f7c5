//! The state that outlives a server: facts in a file in memory, which the next server restores.
//!
//! A killed server loses what is only in its own memory: which thread got ESTALE and looks a path up again,
//! which handles are open, which directories were made. Each such fact is kept here as well, in a slot of a
//! file in memory that the supervisor of the mount keeps. Behind the slots there are blocks for buffers that
//! are being written ([`pages`]), sealed. There are names in the clear, never a value.
//!
//! A slot or block never crosses a page and is written by one system call, so it is there whole or not at all,
//! at whatever instruction its writer is killed.

mod format;
pub(super) mod identities;
pub(super) mod pages;
pub(super) mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::fcntl::{FallocateFlags, fallocate};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::model::{decode, encode, numbered};
use crate::store::next_data;

use super::budget::{Account, Budget, Charge, MemoryLimits};
use super::locks::SavedLocks;
use super::ops::bound::BoundBy;

/// The first two bytes are the length of what follows; 0 is an empty slot.
pub(super) const SLOT_BYTES: usize = 2048;
/// More facts than this are not kept: a restart then loses some.
const SLOTS: u64 = 1 << 15;
/// A page of the machine, so that no write crosses one.
pub(super) const BLOCK_BYTES: usize = 4096;
/// 256 MiB: what is written beyond that is lost if the process is killed.
const BLOCKS: u32 = 1 << 16;
/// 96 MiB: sealed blocks hold less than their size, so the copies of what one user may write within the
/// default limit of memory take more than half of that limit.
const ROOM_PER_USER: usize = BLOCKS as usize * BLOCK_BYTES / 8 * 3;
/// Where the blocks begin.
const BLOCKS_AT: u64 = SLOTS * SLOT_BYTES as u64;

numbered! {
    /// One fact. What another version left and this one does not know is dropped.
    #[derive(Debug, PartialEq, Eq)]
    pub(super) enum Record {
        0 => { Note(SavedRetry) }
        1 => { Draft(SavedDraft) }
        2 => { Scratch(SavedScratch) }
        3 => {
            /// A directory that was made.
            Directory { path: String, uid: u32 }
        }
        4 => {
            /// A reader's handle shows this version.
            Version { handle: u64, node: u64 }
        }
        5 => {
            /// The bytes that a reader's handle shows, where they are no secret.
            Text { handle: u64, text: Vec<u8> }
        }
        6 => {
            /// A poll of a version, by the kernel's number for the open file.
            Waiter(u64)
        }
        7 => { Trial(SavedRequest) }
        8 => {
            /// As `Version`, through a bound node.
            Followed { handle: u64, node: u64, by: BoundBy }
        }
        9 => {
            /// What one owner has locked.
            Locks(SavedLocks)
        }
        10 => {
            /// A directory that was here was renamed.
            LeftPath { path: String, generation: u64 }
        }
        11 => {
            /// A superseded version's node shows another version to the handles that have locked it.
            Shown { node: u64, version: u64 }
        }
    }
}

/// A request that was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedRequest {
    pub(super) unique: u64,
    /// How many processes crashed while they worked on it, after it was sent again.
    pub(super) crashes: u32,
    /// It is being worked on.
    pub(super) is_running: bool,
}

/// A thread got ESTALE on opening a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedRetry {
    pub(super) task: u32,
    pub(super) started: Option<u64>,
    pub(super) uid: u32,
    /// The request that got it, or that opened the version or draft afterwards (`is_spent`).
    pub(super) unique: u64,
    /// Nanoseconds of the clock that runs since boot.
    pub(super) at: u64,
    pub(super) node: u64,
    /// On opening it for writing.
    pub(super) to_write: bool,
    /// The version, or the draft, that it opened afterwards.
    pub(super) served: Option<u64>,
    /// It opened that, as far as the process that kept this was concerned.
    pub(super) is_spent: bool,
}

/// Where the bytes of a buffer lie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedBytes {
    pub(super) size: u32,
    pub(super) blocks: Vec<u32>,
}

/// A scratch file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedScratch {
    /// Its directory and name; none if it was removed and is still open.
    pub(super) place: Option<(String, String)>,
    pub(super) handles: Vec<u64>,
    pub(super) node: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u16,
    /// None if they are lost.
    pub(super) bytes: Option<SavedBytes>,
}

/// What a draft holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SavedContent {
    /// The bytes of this version.
    Stored(u64),
    /// Nothing, and that is to be published.
    Emptied,
    /// Bytes that are not stored.
    Written(SavedBytes),
    /// Bytes to append to the current value. `base` is the version that the descriptor shows in front of
    /// them.
    Appended {
        base: Option<u64>,
        bytes: SavedBytes,
        /// The request that was storing the first of them, and how many.
        appending: Option<(u64, u32)>,
    },
    /// Nothing, and that is not to be published unless something is written.
    Cleared,
    /// As `Emptied`; this version was truncated.
    Truncated(u64),
}

/// A draft.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedDraft {
    pub(super) handles: Vec<u64>,
    pub(super) node: u64,
    pub(super) inode: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) pid: u32,
    pub(super) program: Option<String>,
    pub(super) creator: Option<u32>,
    pub(super) path: String,
    pub(super) target: SavedTarget,
    pub(super) content: SavedContent,
    pub(super) mode: u16,
    pub(super) ended: bool,
    pub(super) flushed: bool,
    /// A child that inherited it was killed, and no process has gone on with it since.
    pub(super) abandoned: bool,
    /// The open of a bound node that made it.
    pub(super) bound: Option<BoundBy>,
    /// The open files of the process that opened it; 0 if they are not known.
    pub(super) files: u64,
}

/// Where a draft goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SavedTarget {
    Existing(u64),
    /// To the key that its path is.
    New {
        exclusive: bool,
    },
    Lists(u64),
}

/// The file, and which of its slots are free.
#[derive(Clone, Default)]
pub struct SavedState(Option<Arc<Inner>>);

struct Inner {
    file: File,
    free: Mutex<Free>,
    /// So that no account takes all slots.
    budget: Budget,
    room: Arc<Room>,
}

/// Room for buffers.
pub(super) struct Room {
    file: File,
    free: Mutex<FreeBlocks>,
    /// So that no account takes all blocks.
    pub(super) budget: Budget,
}

#[derive(Default)]
struct FreeBlocks {
    /// Below `end`.
    blocks: BTreeSet<u32>,
    end: u32,
}

#[derive(Default)]
struct Free {
    /// Below `end`.
    slots: BTreeSet<u64>,
    end: u64,
}

/// A fact in the saved state. Dropping it removes it from there.
pub(super) struct Slot {
    saved_state: Arc<Inner>,
    number: u64,
    _charge: Option<Charge>,
}

impl SavedState {
    /// The saved state in `file`, in which the server before this one may have left facts.
    ///
    /// # Errors
    /// A later version wrote it in a form that this one does not know, or there are too many open files.
    pub fn new(file: File) -> io::Result<Self> {
        format::check(&file)?;
        let budget = |per_user, total| Budget::new(MemoryLimits { per_user, total });
        let total = BLOCKS as usize * BLOCK_BYTES;
        let room = Arc::new(Room {
            file: file.try_clone()?,
            free: Mutex::default(),
            budget: budget(ROOM_PER_USER, total),
        });
        let total = SLOTS as usize * SLOT_BYTES;
        let budget = budget(total / 4, total);
        Ok(Self(Some(Arc::new(Inner { file, free: Mutex::default(), budget, room }))))
    }

    /// Gives back the memory of all buffers in the saved state in `file`. No server may run during this. The
    /// next one finds that what was in them is lost.
    ///
    /// # Errors
    /// The system does not take it back.
    pub fn give_up_buffers(file: impl AsFd) -> io::Result<()> {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let length = i64::from(BLOCKS) * BLOCK_BYTES as i64;
        Ok(fallocate(file, hole, BLOCKS_AT as i64, length)?)
    }

    /// Forgets everything that belongs to one connection with the kernel: all facts and buffers. The part
    /// behind them stays. No server may run during this.
    ///
    /// # Errors
    /// The system does not take the memory back.
    pub fn clear(file: impl AsFd) -> io::Result<()> {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        Ok(fallocate(file, hole, 0, Self::END as i64)?)
    }

    /// The file, for the part behind facts and buffers.
    pub(super) fn file(&self) -> Option<&File> {
        self.0.as_ref().map(|saved_state| &saved_state.file)
    }

    /// Where that begins.
    pub(super) const END: u64 = BLOCKS_AT + BLOCKS as u64 * BLOCK_BYTES as u64;

    pub(super) fn room(&self) -> Option<Arc<Room>> {
        self.0.as_ref().map(|saved_state| Arc::clone(&saved_state.room))
    }

    /// Everything that is on it. To be called once, before anything is put there.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn inherit(&self) -> io::Result<Vec<(Slot, Record)>> {
        let Some(saved_state) = &self.0 else { return Ok(Vec::new()) };
        let (mut found, mut unknown) = (Vec::new(), BTreeMap::<_, usize>::new());
        let mut free = saved_state.free.lock();
        let mut bytes = [0; SLOT_BYTES];
        while let Some(number) = next_used(&saved_state.file, free.end)? {
            let unused = free.end..number;
            free.slots.extend(unused);
            free.end = number + 1;
            bytes[..2].fill(0);
            let count = saved_state.file.read_at(&mut bytes, number * SLOT_BYTES as u64)?;
            let length = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
            let Some(kept) = bytes[..count].get_mut(2..2 + length).filter(|kept| !kept.is_empty())
            else {
                free.slots.insert(number);
                continue;
            };
            match decode::<Record>(kept) {
                Ok(kept) => {
                    let charge = saved_state.budget.restore(kept.account(), SLOT_BYTES);
                    let saved_state = Arc::clone(saved_state);
                    found.push((Slot { saved_state, number, _charge: Some(charge) }, kept));
                }
                Err(error) => {
                    *unknown.entry(error).or_default() += 1;
                    // A later server must not take it for what holds then.
                    saved_state.file.write_all_at(&[0; 2], number * SLOT_BYTES as u64)?;
                    free.slots.insert(number);
                }
            }
        }
        drop(free);
        let blocks = found.iter().filter_map(|(_, kept)| kept.bytes());
        saved_state.room.use_only(blocks.flat_map(|bytes| bytes.blocks.iter().copied()).collect());
        for (error, count) in unknown {
            tracing::warn!(count, "another version of the server left {error}: it is dropped");
        }
        format::mark(&saved_state.file)?;
        Ok(found)
    }

    /// Puts a fact there on behalf of an account; nothing if there is no room, or it does not fit a slot.
    pub(super) fn put(&self, account: Account, kept: &Record) -> Option<Slot> {
        let charge = self.0.as_ref()?.budget.charge(account, SLOT_BYTES, "").ok()?;
        self.put_charged(Some(charge), kept)
    }

    /// Writes a fact through: to the slot that it has, or to a new one of the account. Where there is no fact, or no
    /// room for it, there is no slot afterwards.
    pub(super) fn write(&self, slot: &mut Option<Slot>, fact: Option<(Account, Record)>) {
        let before = slot.take();
        *slot = fact.and_then(|(account, kept)| match before {
            Some(slot) => slot.replace(&kept),
            None => self.put(account, &kept),
        });
    }

    /// As [`SavedState::put`], of a fact that is the server's own.
    pub(super) fn put_own(&self, kept: &Record) -> Option<Slot> {
        self.put_charged(None, kept)
    }

    fn put_charged(&self, charge: Option<Charge>, kept: &Record) -> Option<Slot> {
        let saved_state = self.0.as_ref()?;
        let number = {
            let mut free = saved_state.free.lock();
            match free.slots.pop_first() {
                Some(number) => number,
                None if free.end < SLOTS => {
                    free.end += 1;
                    free.end - 1
                }
                None => return None,
            }
        };
        let slot = Slot { saved_state: Arc::clone(saved_state), number, _charge: charge };
        slot.write(kept).then_some(slot)
    }
}

/// The first slot from `from` on that was ever written to.
fn next_used(file: &File, from: u64) -> io::Result<Option<u64>> {
    let place = next_data(file, from * SLOT_BYTES as u64)?;
    Ok(place.map(|place| place / SLOT_BYTES as u64).filter(|&slot| slot < SLOTS))
}

impl Record {
    /// The account to which the slot is charged. For some facts the owner is not stored.
    fn account(&self) -> Account {
        match self {
            Self::Note(SavedRetry { uid, .. })
            | Self::Draft(SavedDraft { uid, .. })
            | Self::Scratch(SavedScratch { uid, .. })
            | Self::Directory { uid, .. } => Account::User(*uid),
            Self::Locks(locks) => Account::User(locks.uid()),
            Self::Version { .. }
            | Self::Followed { .. }
            | Self::LeftPath { .. }
            | Self::Shown { .. }
            | Self::Text { .. }
            | Self::Waiter(_)
            | Self::Trial(_) => Account::Nameless,
        }
    }

    fn bytes(&self) -> Option<&SavedBytes> {
        match self {
            Self::Draft(SavedDraft {
                content: SavedContent::Written(bytes) | SavedContent::Appended { bytes, .. },
                ..
            }) => Some(bytes),
            Self::Scratch(scratch) => scratch.bytes.as_ref(),
            _ => None,
        }
    }
}

impl Room {
    fn use_only(&self, used: HashSet<u32>) {
        let mut free = self.free.lock();
        free.end = used.iter().map(|block| block + 1).max().unwrap_or(0);
        free.blocks = (0..free.end).filter(|block| !used.contains(block)).collect();
    }

    /// A block of one's own; none if all are taken.
    pub(super) fn take(&self) -> Option<u32> {
        let mut free = self.free.lock();
        if let Some(block) = free.blocks.pop_first() {
            return Some(block);
        }
        (free.end < BLOCKS).then(|| {
            free.end += 1;
            free.end - 1
        })
    }

    pub(super) fn give_back(&self, block: u32) {
        // Memory that is not given back now is written to again before more is taken.
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let _ = fallocate(&self.file, hole, Self::place(block) as i64, BLOCK_BYTES as i64);
        self.free.lock().blocks.insert(block);
    }

    /// Writes at most [`BLOCK_BYTES`] less two.
    pub(super) fn write(&self, block: u32, content: &[u8]) -> Option<()> {
        let length = u16::try_from(content.len()).ok()?.to_le_bytes();
        let bytes = [&length[..], content].concat();
        debug_assert!(bytes.len() <= BLOCK_BYTES, "it would cross a page");
        self.file.write_all_at(&bytes, Self::place(block)).ok()
    }

    pub(super) fn read(&self, block: u32) -> Option<Vec<u8>> {
        let mut bytes = vec![0; BLOCK_BYTES];
        let count = self.file.read_at(&mut bytes, Self::place(block)).ok()?;
        let length = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        bytes.truncate(count);
        bytes.get(2..2 + length).map(<[u8]>::to_vec)
    }

    fn place(block: u32) -> u64 {
        BLOCKS_AT + u64::from(block) * BLOCK_BYTES as u64
    }
}

impl Slot {
    /// Puts another fact in the place of this one; takes it down if it does not fit.
    pub(super) fn replace(self, kept: &Record) -> Option<Self> {
        self.write(kept).then_some(self)
    }

    fn write(&self, kept: &Record) -> bool {
        let mut bytes = [0; SLOT_BYTES];
        let Some(used) = encode(kept, &mut bytes[2..]) else { return false };
        let length = used.len();
        bytes[..2].copy_from_slice(&(length as u16).to_le_bytes());
        self.saved_state.file.write_all_at(&bytes[..2 + length], self.place()).is_ok()
    }

    fn place(&self) -> u64 {
        self.number * SLOT_BYTES as u64
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // A file in memory takes two bytes where it took two before.
        let cleared = self.saved_state.file.write_all_at(&[0; 2], self.place());
        if cleared.is_ok() {
            self.saved_state.free.lock().slots.insert(self.number);
        }
    }
}
