//! Folders that were made in the drop box.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::{child_of, is_below};

/// How many of one UID are kept; those made longest ago are forgotten first.
const PER_UID: usize = 1024;

/// Folders by UID, in the order in which they were made. The lock is a leaf.
#[derive(Default)]
pub(super) struct Folders(Mutex<HashMap<u32, Vec<String>>>);

impl Folders {
    pub(super) fn make(&self, uid: u32, path: &str) {
        let mut folders = self.0.lock();
        let own = folders.entry(uid).or_default();
        if own.len() >= PER_UID {
            own.remove(0);
        }
        own.push(path.to_owned());
    }

    /// Whether it was there.
    pub(super) fn remove(&self, uid: u32, path: &str) -> bool {
        let mut folders = self.0.lock();
        let Some(own) = folders.get_mut(&uid) else { return false };
        let before = own.len();
        own.retain(|folder| folder != path);
        own.len() < before
    }

    /// Whether this folder, or one below it, was made.
    pub(super) fn holds(&self, uid: u32, path: &str) -> bool {
        let folders = self.0.lock();
        let mut own = folders.get(&uid).into_iter().flatten();
        own.any(|folder| folder == path || is_below(folder, path))
    }

    /// The names of folders in a folder.
    pub(super) fn names(&self, uid: u32, folder: &str) -> Vec<String> {
        let folders = self.0.lock();
        let own = folders.get(&uid).into_iter().flatten();
        own.filter_map(|path| child_of(path, folder)).map(|(name, _)| name.to_owned()).collect()
    }
}
