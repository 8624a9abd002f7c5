//! Room on the file system, taken before sled needs it.
//!
//! A write of sled that fails for want of space stops its whole instance, and an open that finds no
//! space fails. So sled must not meet a full disk: blocks behind the end of its file are allocated
//! before every commit, a ballast file is kept that makes room for the snapshot which sled writes
//! when it opens, and the store is not filled beyond what sled's file can grow to while old versions
//! in it wait to be cleaned up.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

/// By how much sled's file is taken to be larger than what is live in it. An estimate, no bound: 7
/// was seen on a disk of 4 MiB. What keeps sled from a full disk is what is allocated beforehand.
const GROWTH: u64 = 4;
/// With so much to grow into, nothing is estimated.
const SPACIOUS_BYTES: u64 = 8 << 20;
/// So much behind the end of sled's file is left for a restart ...
const SPARE_SEGMENTS: u64 = 3;
/// ... and, by batches that make the store larger, so much more for removals.
const REMOVAL_SEGMENTS: u64 = 5;

/// What a batch does to the size of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It makes it larger.
    Grows,
    /// It removes secrets, even if that writes more than it frees at first.
    Removes,
    /// It makes it smaller.
    Shrinks,
}

/// The room of one sled file, in multiples of its segments.
#[derive(Debug)]
pub(super) struct Reserve {
    segment: u64,
    ballast: PathBuf,
}

impl Reserve {
    pub(super) fn new(directory: &Path, segment: usize) -> Reserve {
        Reserve { segment: segment as u64, ballast: directory.join("ballast") }
    }

    /// Frees all space that is held, so that sled can open. Nothing else may write to `file` during this call.
    pub(super) fn release(&self, file: &Path) -> io::Result<()> {
        self.drop_ballast()?;
        match OpenOptions::new().write(true).open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // Also at the length that it has, this frees all blocks behind the end.
            file => file.and_then(|file| file.set_len(file.metadata()?.len())),
        }
    }

    fn drop_ballast(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.ballast) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes ballast and reserve again after sled has opened, as far as the disk has them.
    pub(super) fn refill(&self, file: &File) -> io::Result<()> {
        unless_full(self.keep_ballast(file))?;
        let some = |segments| self.allocate(file, segments * self.segment);
        let all = SPARE_SEGMENTS + REMOVAL_SEGMENTS;
        unless_full(some(all).or_else(|_| some(3)).or_else(|_| some(2)).or_else(|_| some(1)))
    }

    /// Makes room for a batch of about `bytes`. One that makes the store larger leaves what others need to
    /// remove secrets, and these leave what a restart needs.
    pub(super) fn allocate_for(&self, file: &File, bytes: usize, effect: Effect) -> io::Result<()> {
        unless_full(self.keep_ballast(file))?;
        // sled writes an entry, and with it now and then the whole page, and pads a segment that is
        // full.
        let growth = 2 * bytes as u64 + self.segment;
        let restart = growth + SPARE_SEGMENTS * self.segment;
        match (self.allocate(file, growth + self.spare()), effect) {
            (Err(_), Effect::Removes) => self.allocate(file, restart),
            (Err(_), Effect::Shrinks) => {
                self.allocate(file, restart).or_else(|_| self.allocate(file, growth))
            }
            (outcome, _) => outcome,
        }
    }

    /// Whether a batch of `bytes` need not be counted.
    pub(super) fn is_spacious(&self, file: &File, free: u64, bytes: usize) -> io::Result<bool> {
        let metadata = file.metadata()?;
        let held = (metadata.blocks() * 512).saturating_sub(metadata.len());
        Ok(held + free >= SPACIOUS_BYTES + GROWTH * bytes as u64)
    }

    /// Whether sled's file, with the `free` bytes of the disk, can always hold entries of `live` bytes
    /// in all.
    pub(super) fn holds(&self, file: &File, free: u64, live: u64) -> io::Result<bool> {
        Ok(file.metadata()?.blocks() * 512 + free >= GROWTH * live + self.spare())
    }

    /// What is allocated behind the end of the file beyond what the next batch needs.
    fn spare(&self) -> u64 {
        (SPARE_SEGMENTS + REMOVAL_SEGMENTS) * self.segment
    }

    /// sled's snapshot was measured at less than 1/200 of its file.
    fn keep_ballast(&self, file: &File) -> io::Result<()> {
        let wanted = self.segment + file.metadata()?.len() / 100;
        match self.ballast.metadata() {
            Ok(metadata) if metadata.len() + self.segment >= wanted => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let ballast = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.ballast)?;
        // Less is better than none: the next snapshot may need no more.
        fill(&ballast, wanted).or_else(|_| match free_bytes(&ballast)? {
            0 => Ok(()),
            free => fill(&ballast, free),
        })
    }

    /// Makes sure that at least `bytes` behind the end of the file are allocated.
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        let metadata = file.metadata()?;
        let (end, allocated) = (metadata.len(), metadata.blocks() * 512);
        if allocated >= end + bytes {
            return Ok(());
        }
        let more = |bytes| reserve_blocks(file, end, bytes);
        // Some more than asked, so that not every commit comes here.
        more(bytes + self.segment).or_else(|_| more(bytes))
    }
}

fn unless_full(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
        other => other,
    }
}
fn reserve_blocks(file: &File, end: u64, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, end as i64, bytes as i64) {
        Err(Errno::EOPNOTSUPP) => {
            if free_bytes(file)? >= bytes {
                Ok(())
            } else {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
        other => Ok(other?),
    }
}

fn free_bytes(file: &File) -> io::Result<u64> {
    let stat = nix::sys::statvfs::fstatvfs(file)?;
    Ok(stat.blocks_available() * stat.fragment_size())
}

fn fill(ballast: &File, bytes: u64) -> io::Result<()> {
    match fallocate(ballast.as_fd(), FallocateFlags::empty(), 0, bytes as i64) {
        // Without it the ballast is only worth something where zeros take room.
        Err(Errno::EOPNOTSUPP) => {
            io::copy(&mut io::Read::take(io::repeat(0), bytes), &mut &*ballast).map(drop)
        }
        other => Ok(other?),
    }
}
