//! Memory that is free and that malloc would keep.

/// Gives free memory back to the system, after work that needed much: memory in use lies between freed blocks, and
/// malloc by itself gives back only what is free at the end of the heap.
pub(in crate::vault) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
