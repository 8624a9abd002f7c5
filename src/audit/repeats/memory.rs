//! Memory for the counts of decisions that no line tells of yet. Where it belongs to a file that the
//! supervisor keeps, the counts outlive a server that is killed.
//!
//! A page with a header, then slots of two sizes. A slot has four numbers and the text of the line that is
//! to be written. Each number is one atomic, and the text is there before its length is: at whatever
//! instruction a process is killed, the next one finds either no slot or a whole one.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Tells the form of what follows. Another program's counts are not read.
const MAGIC: u64 = u64::from_le_bytes(*b"sfscnt01");
const PAGE: usize = 4096;
/// The four numbers and the length, before the text.
const HEADER: usize = 64;
const SMALL_BYTES: usize = 1024;
/// How many slots there are for usual lines.
pub(super) const SMALL: u32 = 2048;
const LARGE_BYTES: usize = 4096;
/// How many slots there are for lines with long keys.
pub(super) const LARGE: u32 = 128;
const BYTES: usize = PAGE + SMALL as usize * SMALL_BYTES + LARGE as usize * LARGE_BYTES;

/// The memory. Only pages that were used take room.
pub struct CountMemory(NonNull<u8>);

// SAFETY: the mapping belongs to this value alone; its numbers are atomics, and a text is written only by
// who holds the free slot and read only after its length was stored.
unsafe impl Send for CountMemory {}
// SAFETY: as above.
unsafe impl Sync for CountMemory {}

impl CountMemory {
    /// How many bytes of a file it takes, whole pages.
    pub const BYTES: u64 = BYTES.next_multiple_of(PAGE) as u64;

    /// Memory of this process alone.
    ///
    /// # Errors
    /// There is no memory.
    pub fn of_this_process() -> io::Result<Self> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice touches nothing else.
        let start = unsafe { mmap_anonymous(None, LENGTH, access, MapFlags::MAP_PRIVATE) }?;
        Ok(Self(start.cast()))
    }

    /// Memory of a file from `offset` on, a multiple of a page. Nothing else may use that part of the file.
    ///
    /// # Errors
    /// The file cannot be made that long, or there is no memory.
    pub fn shared(file: &File, offset: u64) -> io::Result<Self> {
        let end = offset + BYTES as u64;
        if file.metadata()?.len() < end {
            file.set_len(end)?;
        }
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let offset = offset.try_into().map_err(io::Error::other)?;
        // SAFETY: as above; the file is as long as the mapping, and nobody makes it shorter.
        let start =
            unsafe { mmap(None, LENGTH, access, MapFlags::MAP_SHARED, file.as_fd(), offset) }?;
        Ok(Self(start.cast()))
    }

    /// The slots that hold something; the memory is ready to be used then. What another version of the
    /// program left is dropped; whether there was something like that is the second answer.
    pub(super) fn take_over(&self) -> (Vec<u32>, bool) {
        let [magic, small, large] = [0, 8, 16].map(|offset| self.number(offset));
        let (found, ours) = (magic.load(Ordering::Acquire), MAGIC);
        if found != ours {
            for slots in [small, large] {
                slots.store(0, Ordering::Relaxed);
            }
            magic.store(ours, Ordering::Release);
            return (Vec::new(), found != 0);
        }
        let reached = |slots: &AtomicU64, limit: u32| {
            u32::try_from(slots.load(Ordering::Acquire)).map_or(limit, |slots| slots.min(limit))
        };
        let (small, large) = (reached(small, SMALL), SMALL + reached(large, LARGE));
        let used = (0..small).chain(SMALL..large).filter(|&slot| self.length(slot) > 0);
        (used.collect(), false)
    }

    /// Whether a text fits a small slot, or any.
    pub(super) fn fits(text: &[u8]) -> (bool, bool) {
        (text.len() <= SMALL_BYTES - HEADER, text.len() <= LARGE_BYTES - HEADER)
    }

    /// Fills a free slot.
    pub(super) fn fill(&self, slot: u32, text: &[u8]) {
        let (place, _) = place(slot);
        let (reached, index) = match slot {
            SMALL.. => (self.number(16), slot - SMALL),
            _ => (self.number(8), slot),
        };
        // Stored before the length: what is not below it is not looked at.
        reached.fetch_max(u64::from(index) + 1, Ordering::Release);
        for number in 0..4 {
            self.number(place + number * 8).store(0, Ordering::Relaxed);
        }
        // SAFETY: the slot is free, so nobody else reads or writes there, and the text fits.
        unsafe {
            let to = self.0.add(place + HEADER);
            to.copy_from_nonoverlapping(NonNull::from(text).cast(), text.len());
        }
        self.number(place + 32).store(text.len() as u64, Ordering::Release);
    }

    /// Nothing is in the slot any more.
    pub(super) fn free(&self, slot: u32) {
        self.number(place(slot).0 + 32).store(0, Ordering::Release);
    }

    /// One decision more. Only one thread at a time may count in a slot.
    pub(super) fn count(&self, slot: u32) {
        let total = self.number(place(slot).0);
        total.store(total.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// How many decisions were counted, and how many of them lines tell of.
    pub(super) fn counted(&self, slot: u32) -> (u64, u64) {
        let (place, _) = place(slot);
        (self.number(place).load(Ordering::Acquire), self.number(place + 8).load(Ordering::Acquire))
    }

    pub(super) fn text(&self, slot: u32) -> Vec<u8> {
        let length = self.length(slot);
        let mut text = vec![0; length];
        // SAFETY: a text of that length was written before the length was, and stays while it is used.
        unsafe {
            let from = self.0.add(place(slot).0 + HEADER);
            from.copy_to_nonoverlapping(NonNull::from(&mut text[..]).cast(), length);
        }
        text
    }

    /// The line `seq` is about to tell of the first `total` decisions.
    pub(super) fn begin_line(&self, slot: u32, total: u64, seq: u64) {
        let (place, _) = place(slot);
        self.number(place + 16).store(total, Ordering::Release);
        self.number(place + 24).store(seq, Ordering::Release);
    }

    /// That line was written, or was not.
    pub(super) fn end_line(&self, slot: u32, is_written: bool) {
        let (place, _) = place(slot);
        if is_written {
            let total = self.number(place + 16).load(Ordering::Acquire);
            self.number(place + 8).fetch_max(total, Ordering::Release);
        }
        self.number(place + 24).store(0, Ordering::Release);
    }

    /// Settles what the process before was about to write when it was killed; the log ends with the line
    /// `last`.
    pub(super) fn settle_line(&self, slot: u32, last: u64) {
        let seq = self.number(place(slot).0 + 24).load(Ordering::Acquire);
        if seq != 0 {
            self.end_line(slot, seq <= last);
        }
    }

    fn length(&self, slot: u32) -> usize {
        let (place, bytes) = place(slot);
        let length = self.number(place + 32).load(Ordering::Acquire);
        usize::try_from(length).ok().filter(|length| *length <= bytes - HEADER).unwrap_or(0)
    }

    fn number(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset + 8 <= BYTES && offset.is_multiple_of(8));
        // SAFETY: the place is in the mapping and aligned, and everybody uses it as an atomic.
        unsafe { AtomicU64::from_ptr(self.0.add(offset).cast().as_ptr()) }
    }
}

const LENGTH: NonZeroUsize = NonZeroUsize::new(BYTES).expect("it is not 0");

/// Where a slot lies, and its size.
fn place(slot: u32) -> (usize, usize) {
    let number = slot as usize;
    match slot.checked_sub(SMALL) {
        None => (PAGE + number * SMALL_BYTES, SMALL_BYTES),
        Some(large) => {
            let start = PAGE + SMALL as usize * SMALL_BYTES;
            (start + large as usize * LARGE_BYTES, LARGE_BYTES)
        }
    }
}

impl Drop for CountMemory {
    fn drop(&mut self) {
        // SAFETY: it was mapped by this value, which nobody uses any more.
        let unmapped = unsafe { munmap(self.0.cast(), BYTES) };
        debug_assert!(unmapped.is_ok(), "it was mapped");
    }
}

impl std::fmt::Debug for CountMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CountMemory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_process_finds_what_was_counted() {
        let file = tempfile::tempfile().unwrap();
        let first = CountMemory::shared(&file, 8192).unwrap();
        assert_eq!(first.take_over(), (Vec::new(), false));
        let long = vec![b'x'; 3000];
        for (slot, text) in [(0, &b"a"[..]), (2, b"b"), (SMALL + 1, &long)] {
            first.fill(slot, text);
            (0..3).for_each(|_| first.count(slot));
        }
        first.free(2);
        let next = CountMemory::shared(&file, 8192).unwrap();
        assert_eq!(next.take_over(), (vec![0, SMALL + 1], false));
        assert_eq!((next.counted(0), next.text(0)), ((3, 0), b"a".to_vec()));
        assert_eq!(next.text(SMALL + 1), long);
        file.set_len(0).unwrap();
        file.set_len(8192 + BYTES as u64).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"another.", 8192).unwrap();
        let next = CountMemory::shared(&file, 8192).unwrap();
        assert_eq!(next.take_over(), (Vec::new(), true), "another version's counts");
    }

    #[test]
    fn a_kill_at_a_line_counts_nothing_twice() {
        let memory = CountMemory::of_this_process().unwrap();
        memory.take_over();
        memory.fill(0, b"a");
        (0..5).for_each(|_| memory.count(0));
        memory.begin_line(0, 4, 77);
        memory.settle_line(0, 76);
        assert_eq!(memory.counted(0), (5, 0), "the line is not there");
        memory.begin_line(0, 4, 77);
        memory.settle_line(0, 77);
        memory.settle_line(0, 80);
        assert_eq!(memory.counted(0), (5, 4));
    }
}
