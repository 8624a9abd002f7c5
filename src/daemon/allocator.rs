//! How malloc keeps the memory of a daemon that runs for months.

/// How many arenas malloc makes. Threads take turns with what is large: an import is read by one,
/// stored by another, and what the first gave back to an arena of its own would be no use to the
/// second. Small allocations have a cache of each thread's own, so threads hardly meet in the arena.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 1;
/// Allocations over this many bytes are given back as soon as they are free. malloc would raise the
/// limit whenever one is, and keep what one large import needed for ever.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 256 << 10;

/// Sets it up; before there is a second thread.
pub(super) fn set_up() {
    #[cfg(target_env = "gnu")]
    // SAFETY: there is no other thread that could allocate meanwhile.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}
