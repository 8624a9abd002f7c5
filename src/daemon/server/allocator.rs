//! How the daemon gets its memory, and how malloc keeps it through months.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;

use crate::fuse::{REQUEST_BUFFER_BYTES, REQUEST_BYTES};
#[cfg(target_env = "gnu")]
use crate::store::SledStore;
#[cfg(target_env = "gnu")]
use crate::vault::Vault;

/// How many arenas malloc makes. Threads take turns with what is large: an import is read by one,
/// stored by another, and what the first gave back to an arena of its own would be no use to the
/// second. Small allocations have a cache of each thread's own, so threads hardly meet in the arena.
#[cfg(target_env = "gnu")]
const ARENAS: usize = 1;
/// A store of more bytes gets an arena for each thread that loads it: they do little but allocate, and
/// what they allocate stays. Such a store needs more memory than the address space of an arena, 64 MiB.
#[cfg(target_env = "gnu")]
const LARGE_STORE: u64 = 256 << 20;
/// Allocations over this many bytes are given back as soon as they are free. malloc would raise the
/// limit whenever one is, and keep what one large import needed for ever.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 256 << 10;
/// No machine has smaller pages.
const PAGE_BYTES: usize = 4096;

/// The system's allocator, which hands out the buffers for requests with their pages there.
///
/// The kernel copies a request to the thread that reads it. Where that finds no page and the process is being killed,
/// it does not wait for one: it fails the request with EIO, and no server ever sees it (`fuse_dev_do_read`,
/// `__get_user_pages`). So a write could be lost that no server has refused, and the file be published without it.
pub struct Allocator;

// SAFETY: everything is handed on to the system's allocator as it came, and what is written to lies
// within what that gave, and is zero already.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if layout.size() == REQUEST_BUFFER_BYTES && !memory.is_null() {
            // One page more, for the memory need not begin with one.
            for offset in (0..REQUEST_BYTES + PAGE_BYTES).step_by(PAGE_BYTES) {
                // SAFETY: as above.
                unsafe { memory.add(offset).write_volatile(0) };
            }
            // What a request leaves there is wiped by its handler, to which the library lends it to read.
            memory.expose_provenance();
        }
        memory
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Sets malloc up for the store in `state_dir`; before there is a second thread.
#[cfg(target_env = "gnu")]
pub(in crate::daemon) fn set_up(state_dir: &Path) {
    let is_large = SledStore::stored_bytes(state_dir) > LARGE_STORE;
    let arenas = if is_large { Vault::loading_threads() } else { ARENAS };
    let arenas = arenas.try_into().expect("there are few");
    // SAFETY: there is no other thread that could allocate at the same time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, arenas);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Other allocators are left as they are.
#[cfg(not(target_env = "gnu"))]
pub(in crate::daemon) fn set_up(_state_dir: &Path) {}
