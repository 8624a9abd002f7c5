//! Node ids of directories. They follow from the path, so that they mean the same after a restart and take no memory.
//!
//! The kernel goes on with the id of a directory that was renamed: under its new name until it has looked that up,
//! and for as long as a process works in it. A directory that is made at the old path must not have that id,
//! since the kernel would take both for one. So the paths from the old one down have other ids from then on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use super::nodes::{ROOT, path_number};
use crate::fs::budget::Account;
use crate::fs::ops::lookup::is_below;
use crate::fs::saved::table::{Entry, Saved};
use crate::fs::saved::{Record, SavedState, Slot};

/// How many paths may be left by renaming while a mount lasts.
const MAX_LEFT: usize = 1024;

/// Paths that were left. One table for the process, as its mount is. The lock is a leaf.
static LEFT: RwLock<Saved<String, Left>> = RwLock::new(Saved(BTreeMap::new()));
/// How many there are: nearly always none, and then the lock is not taken.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// How many paths had been left, with this one.
struct Left(u64);

impl Entry<String> for Left {
    fn record(&self, path: &String) -> Option<(Account, Record)> {
        Some((Account::Nameless, Record::LeftPath { path: path.clone(), generation: self.0 }))
    }
}

/// The id of the directory at that path.
pub(in crate::fs) fn directory_id(path: &str) -> u64 {
    match generation(path) {
        _ if path.is_empty() => ROOT,
        0 => path_number("folder", path),
        generation => path_number(&format!("folder {generation}"), path),
    }
}

/// Whether one more path can be left.
pub(in crate::fs) fn has_room() -> bool {
    COUNT.load(Ordering::Acquire) < MAX_LEFT
}

/// A directory was renamed: what is made at its old path gets another id. Call this before the rename is
/// answered, since nothing can be made at that path until then. Call it again if the request is repeated.
pub(in crate::fs) fn leave(path: &str, saved_state: &SavedState) {
    let mut left = LEFT.write();
    let generation = left.values().map(|one| one.0).max().unwrap_or(0) + 1;
    left.put(saved_state, path.to_owned(), Left(generation));
    COUNT.store(left.len(), Ordering::Release);
}

/// The process before this one left the path.
pub(in crate::fs) fn restore(path: String, generation: u64, slot: Slot) {
    let mut left = LEFT.write();
    // A server that was killed while it replaced the record may have left both.
    if left.get(&path).is_none_or(|known| known.0 < generation) {
        left.restore(path, Left(generation), slot);
    }
    COUNT.store(left.len(), Ordering::Release);
}

/// The number of the last rename of a directory from that path, or from above it. 0 if there was none.
fn generation(path: &str) -> u64 {
    if COUNT.load(Ordering::Acquire) == 0 {
        return 0;
    }
    let left = LEFT.read();
    let meant = left.iter().filter(|(above, _)| *above == path || is_below(path, above));
    meant.map(|(_, one)| one.0).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_at_a_path_that_was_left_has_another_id() {
        let paths = ["ids/a", "ids/a/b", "ids/a/b/c", "ids/ab", "ids"];
        let before = paths.map(directory_id);
        leave("ids/a/b", &SavedState::default());
        let after = paths.map(directory_id);
        let changed: Vec<_> = (0..paths.len()).filter(|&at| before[at] != after[at]).collect();
        assert_eq!(changed, [1, 2]);
        leave("ids/a/b", &SavedState::default());
        assert!(
            !before.contains(&directory_id("ids/a/b")) && !after.contains(&directory_id("ids/a/b"))
        );
        assert_eq!(directory_id(""), ROOT);
    }
}
