//! Directories that were made and hold no secret yet.

use std::ops::Bound;

use parking_lot::Mutex;

use crate::fs::budget::{Account, Charge};
use crate::fs::error::FsError;
use crate::fs::ops::rename_directory::renamed;
use crate::fs::saved::table::{Entry, Kept, Saved};
use crate::fs::saved::{Record, SavedState, Slot};

/// How many such directories one UID may have.
const PER_UID: usize = 1024;

/// Directories by path, with the UID that made them. They last as long as the mount, whichever process serves it. The
/// lock is a leaf.
pub(in crate::fs) struct MadeDirectories {
    directories: Mutex<Saved<String, Made>>,
    saved_state: SavedState,
}

struct Made {
    uid: u32,
    charge: Charge,
}

impl Entry<String> for Made {
    fn record(&self, path: &String) -> Option<(Account, Record)> {
        Some((self.charge.account(), Record::Directory { path: path.clone(), uid: self.uid }))
    }
}

impl MadeDirectories {
    pub(in crate::fs) fn new(saved_state: SavedState) -> Self {
        Self { directories: Mutex::default(), saved_state }
    }

    /// A directory that was made when another process served the mount.
    pub(in crate::fs) fn inherit(&self, path: String, uid: u32, slot: Slot, charge: Charge) {
        self.directories.lock().restore(path, Made { uid, charge }, slot);
    }

    /// Whether `uid` made this directory.
    pub(in crate::fs) fn is_by(&self, path: &str, uid: u32) -> bool {
        self.directories.lock().get(path).is_some_and(|made| made.uid == uid)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// It is there already, or its UID has too many.
    pub(in crate::fs) fn make(&self, path: &str, uid: u32, charge: Charge) -> Result<(), FsError> {
        let mut directories = self.directories.lock();
        if directories.contains_key(path) {
            return Err(FsError::Exists(path.to_owned()));
        }
        if directories.values().filter(|made| made.uid == uid).count() >= PER_UID {
            return Err(FsError::TooMany {
                path: path.to_owned(),
                what: "you have made 1,024 directories that are empty; put secrets into them first",
            });
        }
        directories.put(&self.saved_state, path.to_owned(), Made { uid, charge });
        Ok(())
    }

    /// Removes a directory; whether it was there.
    pub(in crate::fs) fn remove(&self, path: &str) -> bool {
        self.directories.lock().remove(path).is_some()
    }

    /// Gives a directory and those below it other names.
    pub(in crate::fs) fn rename(&self, from: &str, to: &str) {
        let mut directories = self.directories.lock();
        directories.remove(to);
        let moved: Vec<_> = directories
            .keys()
            .filter_map(|path| Some((path.clone(), renamed(path, from, to)?)))
            .collect();
        for (old, new) in moved {
            let Some(Kept { value: made, .. }) = directories.remove(&old) else { continue };
            directories.put(&self.saved_state, new, made);
        }
    }

    /// A secret takes this path: what was made there, which is empty, gives way to it. Whether there was
    /// anything.
    pub(in crate::fs) fn give_way(&self, path: &str) -> bool {
        let mut in_the_way = self.visible_below(path, None);
        in_the_way.push(path.to_owned());
        let mut directories = self.directories.lock();
        in_the_way.iter().filter(|directory| directories.remove(*directory).is_some()).count() > 0
    }

    /// Whether this directory, or one below it, was made.
    pub(in crate::fs) fn holds(&self, path: &str) -> bool {
        self.directories.lock().contains_key(path) || self.holds_below(path)
    }

    /// Whether a directory below this one was made.
    pub(in crate::fs) fn holds_below(&self, path: &str) -> bool {
        !self.below(path, |_| true).is_empty()
    }

    /// The made directories below this one which `uid` sees: its own, or all.
    pub(in crate::fs) fn visible_below(&self, path: &str, uid: Option<u32>) -> Vec<String> {
        self.below(path, |owner| uid.is_none_or(|uid| uid == owner))
    }

    /// Whether `uid` made this directory or one below it; without a `uid`, whether any caller did.
    pub(in crate::fs) fn is_seen(&self, path: &str, uid: Option<u32>) -> bool {
        let is_its = |made: &Kept<Made>| uid.is_none_or(|uid| uid == made.uid);
        self.directories.lock().get(path).is_some_and(is_its)
            || !self.visible_below(path, uid).is_empty()
    }

    fn below(&self, path: &str, shown: impl Fn(u32) -> bool) -> Vec<String> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let directories = self.directories.lock();
        directories
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(|(directory, _)| directory.starts_with(&prefix))
            .filter(|(_, made)| shown(made.uid))
            .map(|(directory, _)| directory.clone())
            .collect()
    }
}
