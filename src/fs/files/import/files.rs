//! The files in the drop directory, by UID and path.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fs::FsError;

use super::file::ImportFile;
use super::{child_of, full_path, is_below};

/// How many files one UID may have there at once.
const PER_UID: usize = 256;

/// Several may have one path: each process that writes a file sees its own. The lock may be held
/// while a file's is taken.
#[derive(Default)]
pub(super) struct Files(Mutex<HashMap<u32, Vec<Arc<ImportFile>>>>);

impl Files {
    /// # Errors
    /// Its UID has too many.
    pub(super) fn add(&self, file: &Arc<ImportFile>) -> Result<(), FsError> {
        let mut files = self.0.lock();
        let own = files.entry(file.uid()).or_default();
        if own.len() >= PER_UID {
            return Err(FsError::TooMany {
                path: full_path(&file.path()),
                what: "you have 256 files in the drop directory that wait to be written or renamed; remove some first",
            });
        }
        own.push(Arc::clone(file));
        Ok(())
    }

    /// The newest file of that path that this process of that UID sees: its own, or one that is not open.
    pub(super) fn find(
        &self,
        uid: u32,
        path: &str,
        process: impl FnOnce() -> Option<u32>,
    ) -> Option<Arc<ImportFile>> {
        let of_path: Vec<_> = {
            let files = self.0.lock();
            files.get(&uid)?.iter().filter(|file| file.path() == path).cloned().collect()
        };
        if of_path.is_empty() {
            return None;
        }
        let process = process();
        of_path.into_iter().rev().find(|file| file.is_for(process))
    }

    pub(super) fn remove(&self, file: &Arc<ImportFile>) {
        self.remove_if(file, |_| true);
    }

    /// Removes a file whose last handle was closed, unless it was opened again.
    pub(super) fn remove_closed(&self, file: &Arc<ImportFile>) {
        self.remove_if(file, |file| !file.is_open());
    }

    fn remove_if(&self, file: &Arc<ImportFile>, condition: impl Fn(&ImportFile) -> bool) {
        let mut files = self.0.lock();
        let Some(own) = files.get_mut(&file.uid()) else { return };
        own.retain(|other| !(Arc::ptr_eq(other, file) && condition(other)));
        if own.is_empty() {
            files.remove(&file.uid());
        }
    }

    /// Removes what waits under that path.
    pub(super) fn remove_waiting(&self, uid: u32, path: &str) {
        let mut files = self.0.lock();
        let Some(own) = files.get_mut(&uid) else { return };
        own.retain(|file| file.path() != path || file.is_open());
    }

    /// The names in a directory of the files that are not open.
    pub(super) fn names(&self, uid: u32, directory: &str) -> Vec<String> {
        let files = self.0.lock();
        let waiting = files.get(&uid).into_iter().flatten().filter(|file| !file.is_open());
        waiting
            .filter_map(|file| {
                let path = file.path();
                child_of(&path, directory)
                    .filter(|(_, is_it)| *is_it)
                    .map(|(name, _)| name.to_owned())
            })
            .collect()
    }

    /// Whether this UID has a file below a directory.
    pub(super) fn has_below(&self, uid: u32, directory: &str) -> bool {
        let files = self.0.lock();
        files.get(&uid).into_iter().flatten().any(|file| is_below(&file.path(), directory))
    }
}
