//! Memory that is free and that malloc would keep.

/// Gives it back to the system. For the end of work that needed much: what stays lies between what
/// was free again, and malloc by itself gives back only what is free at an end.
pub(in crate::vault) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
