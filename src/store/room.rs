//! Room on the file system, taken before sled needs it.
//!
//! A write of sled that fails for want of space stops its whole instance, and an open that finds no
//! space fails. So blocks behind the end of sled's file are allocated before every commit, and a
//! ballast file is kept that makes room for the snapshot which sled writes when it opens.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

/// The room of one sled file, in multiples of its segments.
#[derive(Debug)]
pub(super) struct Reserve {
    segment: u64,
    ballast: PathBuf,
}

impl Reserve {
    pub(super) fn new(folder: &Path, segment: usize) -> Reserve {
        Reserve { segment: segment as u64, ballast: folder.join("ballast") }
    }

    /// Gives the ballast back.
    pub(super) fn drop_ballast(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.ballast) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes room for a batch that makes the store larger by about `bytes`: leaves what removals
    /// and the next open need.
    pub(super) fn for_growth(&self, file: &File, bytes: usize) -> io::Result<()> {
        self.keep_ballast(file)?;
        self.allocate(file, self.growth(bytes) + 2 * self.segment)
    }

    /// Makes room for a batch that makes the store smaller: the reserve is there for it.
    pub(super) fn for_removal(&self, file: &File, bytes: usize) -> io::Result<()> {
        match self.allocate(file, self.growth(bytes)) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            other => other,
        }
    }

    /// sled writes an entry, and with it now and then the whole page, and pads a segment that is
    /// full.
    fn growth(&self, bytes: usize) -> u64 {
        2 * bytes as u64 + self.segment
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
        let filled = fill(&ballast, wanted);
        if filled.is_err() {
            self.drop_ballast()?;
        }
        filled
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

fn reserve_blocks(file: &File, end: u64, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, end as i64, bytes as i64) {
        Err(Errno::EOPNOTSUPP) => {
            let stat = nix::sys::statvfs::fstatvfs(file)?;
            let free = stat.blocks_available() * stat.fragment_size();
            if free >= bytes { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        }
        other => Ok(other?),
    }
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
