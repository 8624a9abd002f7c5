//! Memory for keys: never swapped, never in a core dump, wiped before it is given back.

use std::ffi::c_void;
use std::fmt;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize;

const BYTES: usize = 32;

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
        Self(pages(BYTES).cast())
    }
}

/// Zeroed pages for so many bytes, which are neither swapped nor dumped nor inherited.
fn pages(bytes: usize) -> NonNull<c_void> {
    // The kernel maps whole pages.
    let length = NonZeroUsize::new(bytes).unwrap_or(NonZeroUsize::MIN);
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new private mapping at an address of the kernel's choice touches nothing else.
    let mapped = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE) }
        .expect("a page of memory is there");
    // SAFETY: the pages were mapped above and are as long.
    let kept = unsafe { mlock(mapped, length.get()) };
    if kept.is_err() {
        REFUSED.store(true, Ordering::Relaxed);
    }
    for advice in [MmapAdvise::MADV_DONTDUMP, MmapAdvise::MADV_DONTFORK] {
        // SAFETY: as above; neither changes what this process sees there. Linux has known both since
        // before FUSE, so a refusal can only mean that the pages are not there.
        unsafe { madvise(mapped, length.get(), advice) }.expect("the pages were just mapped");
    }
    mapped
}

/// Gives pages back that [`pages`] gave.
///
/// # Safety
/// They were mapped for as many bytes, and nobody uses them any more.
unsafe fn give_back(mapped: NonNull<c_void>, bytes: usize) {
    // SAFETY: as the caller promises. Unmapping unlocks.
    let unmapped = unsafe { munmap(mapped, bytes.max(1)) };
    debug_assert!(unmapped.is_ok());
}

/// A value that holds a key, on pages of its own as [`KeyBytes`].
pub(super) struct Locked<T>(NonNull<T>);

// SAFETY: the pages belong to this value alone; `&` gives shared access to what is in them, and nothing else does.
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Locked<T> {}

impl<T> Locked<T> {
    /// Moves a value there.
    pub(super) fn new(value: T) -> Self {
        const { assert!(align_of::<T>() <= 4096, "a page is aligned to its size") };
        let start = pages(size_of::<T>()).cast();
        // SAFETY: the pages are new, aligned and long enough.
        unsafe { start.write(value) };
        Self(start)
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the pages are mapped and hold a value, until drop.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: it holds a value, which is not used again.
        unsafe { self.0.drop_in_place() };
        // SAFETY: the pages are mapped until the next line, and nothing else has them.
        let bytes = unsafe {
            NonNull::slice_from_raw_parts(self.0.cast::<MaybeUninit<u8>>(), size_of::<T>()).as_mut()
        };
        bytes.zeroize();
        // SAFETY: they were mapped for this length, and this is the last use.
        unsafe { give_back(self.0.cast(), size_of::<T>()) };
    }
}

/// The text of a key, on pages of its own as [`KeyBytes`]: for a process that keeps it for another one.
pub struct LockedText {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the pages belong to this value alone, and are written only while it is made or dropped.
unsafe impl Send for LockedText {}
// SAFETY: as above.
unsafe impl Sync for LockedText {}

impl LockedText {
    /// A copy of a text, whose owner wipes his own.
    pub fn copy_of(text: &[u8]) -> Self {
        let locked = Self { start: pages(text.len()).cast(), length: text.len() };
        // SAFETY: the pages are new, and at least as long.
        unsafe { locked.start.copy_from_nonoverlapping(NonNull::from(text).cast(), text.len()) };
        locked
    }
}

impl Deref for LockedText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the pages are mapped and written, until drop.
        unsafe { NonNull::slice_from_raw_parts(self.start, self.length).as_ref() }
    }
}

impl Clone for LockedText {
    fn clone(&self) -> Self {
        Self::copy_of(self)
    }
}

impl Drop for LockedText {
    fn drop(&mut self) {
        // SAFETY: the pages are mapped until the next line, and nobody else has them.
        unsafe { NonNull::slice_from_raw_parts(self.start, self.length).as_mut() }.zeroize();
        // SAFETY: they were mapped for this length, and this is the last use.
        unsafe { give_back(self.start.cast(), self.length) };
    }
}

impl Serialize for LockedText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for LockedText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = LockedText;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("the text of a key")
            }

            fn visit_bytes<E: serde::de::Error>(self, text: &[u8]) -> Result<LockedText, E> {
                Ok(LockedText::copy_of(text))
            }
        }
        deserializer.deserialize_bytes(Bytes)
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
        // SAFETY: mapped by `zeros` with this length; nobody can use it any more.
        unsafe { give_back(self.0.cast(), BYTES) };
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

    #[test]
    fn a_value_lies_in_such_memory_and_is_dropped_there() {
        let shared = std::sync::Arc::new(());
        let locked = Locked::new((std::sync::Arc::clone(&shared), [7; 9000]));
        let flags = flags_of(locked.1.as_ptr() as usize);
        let has = |flag| flags.split(' ').any(|one| one == flag);
        assert!(has("dd") && has("dc") && has("lo") == keys_are_locked(), "{flags}");
        assert_eq!((locked.1, std::sync::Arc::strong_count(&shared)), ([7; 9000], 2));
        drop(locked);
        assert_eq!(std::sync::Arc::strong_count(&shared), 1);
    }

    #[test]
    fn a_text_lies_in_such_memory_and_is_passed_on() {
        for length in [0, 1, 5000] {
            let text: Vec<_> = (0..length).map(|number| number as u8).collect();
            let locked = LockedText::copy_of(&text);
            let flags = flags_of(locked.as_ptr() as usize);
            let has = |flag| flags.split(' ').any(|one| one == flag);
            assert!(has("dd") && has("dc"), "{flags}");
            let sent = postcard::to_stdvec(&locked.clone()).unwrap();
            let received: LockedText = postcard::from_bytes(&sent).unwrap();
            assert_eq!((&*locked, &*received), (&text[..], &text[..]));
            // As a text was sent before.
            assert_eq!(sent, postcard::to_stdvec(&text).unwrap());
        }
    }
}
