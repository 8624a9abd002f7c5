//! Memory for keys: never swapped, never in a core dump, wiped before it is given back.

use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use zeroize::Zeroize;

const BYTES: usize = 32;
const LENGTH: NonZeroUsize = NonZeroUsize::new(BYTES).expect("it is not zero");

/// Whether the system once refused to keep a key out of swap.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Whether every key so far lies in memory that is never swapped. If not, RLIMIT_MEMLOCK is too
/// small.
pub fn keys_are_locked() -> bool {
    !REFUSED.load(Ordering::Relaxed)
}

/// 32 bytes of key on a page of their own: locks and advice work on whole pages, and an unlocked
/// neighbour would unlock this one. Moving it leaves no copy behind.
pub(super) struct KeyBytes(NonNull<[u8; BYTES]>);

// SAFETY: the page belongs to this value alone; `&` gives shared and `&mut` exclusive access.
unsafe impl Send for KeyBytes {}
// SAFETY: as above.
unsafe impl Sync for KeyBytes {}

impl KeyBytes {
    /// Zeros, to be filled in place.
    pub(super) fn zeros() -> Self {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice touches nothing else.
        let page = unsafe { mmap_anonymous(None, LENGTH, access, MapFlags::MAP_PRIVATE) }
            .expect("a page of memory is there");
        // SAFETY: the page was mapped above and is as long.
        let kept = unsafe { mlock(page, BYTES) };
        if kept.is_err() {
            REFUSED.store(true, Ordering::Relaxed);
        }
        for advice in [MmapAdvise::MADV_DONTDUMP, MmapAdvise::MADV_DONTFORK] {
            // SAFETY: as above; neither changes what this process sees in the page. Linux has known
            // both since before FUSE, so a refusal can only mean that the page is not there.
            unsafe { madvise(page, BYTES, advice) }.expect("the page was just mapped");
        }
        Self(page.cast())
    }
}

impl Deref for KeyBytes {
    type Target = [u8; BYTES];

    fn deref(&self) -> &[u8; BYTES] {
        // SAFETY: the page is mapped, zeroed or written, until drop.
        unsafe { self.0.as_ref() }
    }
}

impl DerefMut for KeyBytes {
    fn deref_mut(&mut self) -> &mut [u8; BYTES] {
        // SAFETY: as above, and nobody else has it.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for KeyBytes {
    fn drop(&mut self) {
        self.zeroize();
        // SAFETY: mapped by `zeros` with this length; nobody can use it any more. Unmapping unlocks.
        let unmapped = unsafe { munmap(self.0.cast(), BYTES) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says about the mapping of an address (proc_pid_smaps(5)).
    fn flags_of(address: usize) -> String {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut here = false;
        for line in smaps.lines() {
            if let Some((range, _)) = line.split_once(' ')
                && let Some((start, end)) = range.split_once('-')
                && let (Ok(start), Ok(end)) =
                    (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
            {
                here = (start..end).contains(&address);
            }
            if here && let Some(flags) = line.strip_prefix("VmFlags:") {
                return flags.to_owned();
            }
        }
        panic!("no mapping holds {address:x}");
    }

    #[test]
    fn a_key_is_neither_swapped_nor_dumped_nor_inherited() {
        let mut key = KeyBytes::zeros();
        key.copy_from_slice(&[7; BYTES]);
        let flags = flags_of(key.as_ptr() as usize);
        let has = |flag| flags.split(' ').any(|one| one == flag);
        assert!(has("dd") && has("dc"), "{flags}");
        assert_eq!(has("lo"), keys_are_locked(), "{flags}");
        assert_eq!(*key, [7; BYTES]);
    }
}
