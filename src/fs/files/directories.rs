//! Folders that were made and hold no secret yet.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::Mutex;

use crate::fs::budget::Charge;
use crate::fs::error::FsError;
use crate::fs::ops::rename_directory::renamed;
use crate::fs::saved::{Kept, Shelf, Slot};

/// How many such folders one UID may have.
const PER_UID: usize = 1024;

/// Folders by path, with the UID that made them. The lock is a leaf.
pub(in crate::fs) struct MadeFolders {
    folders: Mutex<BTreeMap<String, Made>>,
    shelf: Shelf,
}

struct Made {
    uid: u32,
    /// They last as long as the mount, whichever process serves it.
    _slot: Option<Slot>,
    _charge: Charge,
}

impl MadeFolders {
    pub(in crate::fs) fn new(shelf: Shelf) -> Self {
        Self { folders: Mutex::default(), shelf }
    }

    /// A folder that was made when another process served the mount.
    pub(in crate::fs) fn inherit(&self, path: String, uid: u32, slot: Slot, charge: Charge) {
        self.folders.lock().insert(path, Made { uid, _slot: Some(slot), _charge: charge });
    }

    /// Whether `uid` made this folder.
    pub(in crate::fs) fn is_by(&self, path: &str, uid: u32) -> bool {
        self.folders.lock().get(path).is_some_and(|made| made.uid == uid)
    }

    /// Makes a folder.
    ///
    /// # Errors
    /// It is there already, or its UID has too many.
    pub(in crate::fs) fn make(&self, path: &str, uid: u32, charge: Charge) -> Result<(), FsError> {
        let mut folders = self.folders.lock();
        if folders.contains_key(path) {
            return Err(FsError::Exists(path.to_owned()));
        }
        if folders.values().filter(|made| made.uid == uid).count() >= PER_UID {
            return Err(FsError::TooMany {
                path: path.to_owned(),
                what: "you have made 1,024 folders that are empty; put secrets into them first",
            });
        }
        let slot = self.shelf.put(charge.account(), &Kept::Folder { path: path.to_owned(), uid });
        folders.insert(path.to_owned(), Made { uid, _slot: slot, _charge: charge });
        Ok(())
    }

    /// Removes a folder; whether it was there.
    pub(in crate::fs) fn remove(&self, path: &str) -> bool {
        self.folders.lock().remove(path).is_some()
    }

    /// Gives a folder and those below it other names.
    pub(in crate::fs) fn rename(&self, from: &str, to: &str) {
        let mut folders = self.folders.lock();
        folders.remove(to);
        let moved: Vec<_> = folders
            .keys()
            .filter_map(|path| Some((path.clone(), renamed(path, from, to)?)))
            .collect();
        for (old, new) in moved {
            let Some(made) = folders.remove(&old) else { continue };
            let kept = Kept::Folder { path: new.clone(), uid: made.uid };
            let slot = self.shelf.put(made._charge.account(), &kept);
            folders.insert(new, Made { _slot: slot, ..made });
        }
    }

    /// A secret takes this path: what was made there, which is empty, gives way to it. Whether there was
    /// anything.
    pub(in crate::fs) fn give_way(&self, path: &str) -> bool {
        let mut in_the_way = self.visible_below(path, None);
        in_the_way.push(path.to_owned());
        let mut folders = self.folders.lock();
        in_the_way.iter().filter(|folder| folders.remove(*folder).is_some()).count() > 0
    }

    /// Whether this folder, or one below it, was made.
    pub(in crate::fs) fn holds(&self, path: &str) -> bool {
        self.folders.lock().contains_key(path) || self.holds_below(path)
    }

    /// Whether a folder below this one was made.
    pub(in crate::fs) fn holds_below(&self, path: &str) -> bool {
        !self.below(path, |_| true).is_empty()
    }

    /// The made folders below this one which `uid` sees: its own, or all.
    pub(in crate::fs) fn visible_below(&self, path: &str, uid: Option<u32>) -> Vec<String> {
        self.below(path, |owner| uid.is_none_or(|uid| uid == owner))
    }

    /// Whether `uid` made this folder or one below it; or anybody did.
    pub(in crate::fs) fn is_seen(&self, path: &str, uid: Option<u32>) -> bool {
        let is_its = |made: &Made| uid.is_none_or(|uid| uid == made.uid);
        self.folders.lock().get(path).is_some_and(is_its)
            || !self.visible_below(path, uid).is_empty()
    }

    fn below(&self, path: &str, shown: impl Fn(u32) -> bool) -> Vec<String> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let folders = self.folders.lock();
        folders
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(|(folder, _)| folder.starts_with(&prefix))
            .filter(|(_, made)| shown(made.uid))
            .map(|(folder, _)| folder.clone())
            .collect()
    }
}
