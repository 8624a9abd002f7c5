//! What the writers have begun and what has been acknowledged to them, in memory that all processes
//! share.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Writer;

const COUNTERS: usize = 2 * Writer::ALL.len();
const BYTES: usize = COUNTERS * size_of::<AtomicU64>();

/// For each writer the number of the last value begun and of the last one acknowledged. A reader
/// that takes the acknowledged one before its `open`, and the begun one after its last `read`, has
/// the bounds of what it may see.
pub(super) struct Ledger(&'static [AtomicU64; COUNTERS]);

impl Ledger {
    /// Makes the file, for everyone.
    pub(super) fn create(path: &Path) {
        std::fs::write(path, [0; BYTES]).expect("the test's directory takes files");
        crate::harness::set_mode(path, 0o666);
    }

    pub(super) fn open(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(path).expect("it was created");
        // SAFETY: a new mapping at a place that the kernel chooses.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(memory, libc::MAP_FAILED, "the ledger could not be mapped");
        // SAFETY: page-aligned, `BYTES` long, never unmapped, and only ever used as atomics.
        Self(unsafe { &*memory.cast() })
    }

    pub(super) fn begun(&self, writer: Writer) -> u64 {
        self.0[2 * writer as usize].load(Ordering::SeqCst)
    }

    pub(super) fn acknowledged(&self, writer: Writer) -> u64 {
        self.0[2 * writer as usize + 1].load(Ordering::SeqCst)
    }

    /// The number of the next value, which is now begun.
    pub(super) fn begin(&self, writer: Writer) -> u64 {
        self.0[2 * writer as usize].fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn acknowledge(&self, writer: Writer, sequence: u64) {
        self.0[2 * writer as usize + 1].store(sequence, Ordering::SeqCst);
    }
}
