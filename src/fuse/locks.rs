//! Locks as the kernel asks for them.

use fuser::{LockOwner, Request as Sent};

use crate::fs::{Lock, LockMode};

/// `fuse_in_header`, and where `fuse_lk_in` has its `lk_flags` behind it.
const HEADER_BYTES: usize = 40;
const FLAGS_AT: usize = HEADER_BYTES + 40;
const REQUEST_BYTES: u32 = HEADER_BYTES as u32 + 48;
/// `FUSE_LK_FLOCK`.
const IS_FLOCK: u32 = 1;

/// The answer to a question about a lock that can be had.
pub(super) const UNLOCKED: Lock =
    Lock { owner: 0, process: 0, start: 0, end: 0, mode: None, is_flock: false };

/// The lock that a request is about; none if there is no such kind.
pub(super) fn lock(
    sent: &Sent,
    owner: LockOwner,
    (start, end): (u64, u64),
    kind: i32,
    process: u32,
) -> Option<Lock> {
    let mode = match kind {
        libc::F_RDLCK => Some(LockMode::Shared),
        libc::F_WRLCK => Some(LockMode::Exclusive),
        libc::F_UNLCK => None,
        _ => return None,
    };
    Some(Lock { owner: owner.0, process, start, end, mode, is_flock: is_flock(sent) })
}

/// A mode as the kernel knows it.
pub(super) fn lock_type(mode: Option<LockMode>) -> i32 {
    match mode {
        Some(LockMode::Shared) => libc::F_RDLCK,
        Some(LockMode::Exclusive) => libc::F_WRLCK,
        None => libc::F_UNLCK,
    }
}

/// Whether a lock is one of flock(2). The library does not pass on the flags of the request, so they are read
/// where the kernel has written them: behind the header.
fn is_flock(sent: &Sent) -> bool {
    let start = std::ptr::from_ref(sent).addr();
    let read = |at: usize| {
        let place = std::ptr::with_exposed_provenance::<u32>(start + at);
        // SAFETY: the header lies at the start of the request, in the buffer of this thread, which the
        // allocator of the program has exposed. `at` is within the length of the request: that of the header,
        // or what the header says. Both are aligned to 8 bytes.
        unsafe { place.read() }
    };
    read(0) >= REQUEST_BYTES && read(FLAGS_AT) & IS_FLOCK != 0
}
