//! Folders that were made and hold no secret yet.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::Mutex;

use super::error::FsError;

/// How many such folders one UID may have.
const PER_UID: usize = 1024;

/// Folders by path, with the UID that made them. The lock is a leaf.
#[derive(Default)]
pub(super) struct MadeFolders(Mutex<BTreeMap<String, u32>>);

impl MadeFolders {
    /// Makes a folder.
    ///
    /// # Errors
    /// It is there already, or its UID has too many.
    pub(super) fn make(&self, path: &str, uid: u32) -> Result<(), FsError> {
        let mut folders = self.0.lock();
        if folders.contains_key(path) {
            return Err(FsError::Exists(path.to_owned()));
        }
        if folders.values().filter(|&&owner| owner == uid).count() >= PER_UID {
            return Err(FsError::TooMany {
                path: path.to_owned(),
                what: "you have made 1,024 folders that are empty; put secrets into them first",
            });
        }
        folders.insert(path.to_owned(), uid);
        Ok(())
    }

    /// Removes a folder; whether it was there.
    pub(super) fn remove(&self, path: &str) -> bool {
        self.0.lock().remove(path).is_some()
    }

    /// Whether this folder, or one below it, was made.
    pub(super) fn holds(&self, path: &str) -> bool {
        self.0.lock().contains_key(path) || self.holds_below(path)
    }

    /// Whether a folder below this one was made.
    pub(super) fn holds_below(&self, path: &str) -> bool {
        !self.below(path, |_| true).is_empty()
    }

    /// The made folders below this one which `uid` sees: its own, or all.
    pub(super) fn visible_below(&self, path: &str, uid: Option<u32>) -> Vec<String> {
        self.below(path, |owner| uid.is_none_or(|uid| uid == owner))
    }

    fn below(&self, path: &str, shown: impl Fn(u32) -> bool) -> Vec<String> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let folders = self.0.lock();
        folders
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(|(folder, _)| folder.starts_with(&prefix))
            .filter(|&(_, &owner)| shown(owner))
            .map(|(folder, _)| folder.clone())
            .collect()
    }
}
