//! Directories that were made in the drop directory.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::{child_of, is_below};

/// How many of one UID are kept; those made longest ago are forgotten first.
const PER_UID: usize = 1024;

/// Directories by UID, in the order in which they were made. The lock is a leaf.
#[derive(Default)]
pub(super) struct Directories(Mutex<HashMap<u32, Vec<String>>>);

impl Directories {
    pub(super) fn make(&self, uid: u32, path: &str) {
        let mut directories = self.0.lock();
        let own = directories.entry(uid).or_default();
        if own.len() >= PER_UID {
            own.remove(0);
        }
        own.push(path.to_owned());
    }

    /// Whether it was there.
    pub(super) fn remove(&self, uid: u32, path: &str) -> bool {
        let mut directories = self.0.lock();
        let Some(own) = directories.get_mut(&uid) else { return false };
        let before = own.len();
        own.retain(|directory| directory != path);
        own.len() < before
    }

    /// Whether this directory, or one below it, was made.
    pub(super) fn holds(&self, uid: u32, path: &str) -> bool {
        let directories = self.0.lock();
        let mut own = directories.get(&uid).into_iter().flatten();
        own.any(|directory| directory == path || is_below(directory, path))
    }

    /// The names of directories in a directory.
    pub(super) fn names(&self, uid: u32, directory: &str) -> Vec<String> {
        let directories = self.0.lock();
        let own = directories.get(&uid).into_iter().flatten();
        own.filter_map(|path| child_of(path, directory)).map(|(name, _)| name.to_owned()).collect()
    }
}
