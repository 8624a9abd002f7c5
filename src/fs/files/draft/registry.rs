//! The drafts that are open: by the secret they would change, and by the name they would create.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::vault::{RecordId, WriteTarget};

use super::{Draft, Target};
use crate::fs::Request;
use crate::fs::caller::proc::process_of;
use crate::fs::error::FsError;
use crate::fs::ops::lookup::is_below;

/// How many drafts one UID may have open: each can take 1 MiB of memory.
const PER_UID: usize = 512;

/// All open drafts. The lock is a leaf.
#[derive(Default)]
pub(in crate::fs) struct Drafts(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    changing: HashMap<RecordId, Vec<Weak<Draft>>>,
    creating: HashMap<String, Vec<Arc<Draft>>>,
    by_uid: HashMap<u32, usize>,
}

impl Drafts {
    /// Takes note of a draft that was opened.
    ///
    /// # Errors
    /// Its UID has too many open.
    pub(in crate::fs) fn add(&self, draft: &Arc<Draft>) -> Result<(), FsError> {
        let mut inner = self.0.lock();
        let count = inner.by_uid.entry(draft.uid()).or_default();
        if *count >= PER_UID {
            return Err(FsError::TooMany {
                path: draft.path(),
                what: "you have 512 files open for writing; close some first",
            });
        }
        *count += 1;
        inner.file(draft);
        Ok(())
    }

    /// Its last handle is gone: it is not among those that its UID has open any more, though there may
    /// be something left to store.
    pub(in crate::fs) fn closed(&self, draft: &Arc<Draft>) {
        let mut inner = self.0.lock();
        if let Some(count) = inner.by_uid.get_mut(&draft.uid()) {
            *count -= 1;
            if *count == 0 {
                inner.by_uid.remove(&draft.uid());
            }
        }
    }

    /// Forgets a draft that was closed.
    pub(in crate::fs) fn remove(&self, draft: &Arc<Draft>) {
        self.0.lock().unfile(draft);
    }

    /// Runs `change`, which gives the draft another target.
    pub(in crate::fs) fn refile<T>(&self, draft: &Arc<Draft>, change: impl FnOnce() -> T) -> T {
        let mut inner = self.0.lock();
        let filed = inner.unfile(draft);
        let outcome = change();
        if filed {
            inner.file(draft);
        }
        outcome
    }

    /// The file that the caller's process is creating at that path. For all other processes it does not
    /// exist: they may create it too, and the last commit wins.
    pub(in crate::fs) fn creating(&self, path: &str, request: &Request) -> Option<Arc<Draft>> {
        let is_here = self.0.lock().creating.contains_key(path);
        let process = if is_here { process_of(request.task) } else { return None };
        let inner = self.0.lock();
        let mut drafts = inner.creating.get(path)?.iter().rev();
        drafts.find(|draft| draft.is_creator(request.uid, process)).cloned()
    }

    /// Whether this UID is creating a file below a directory.
    pub(in crate::fs) fn creates_below(&self, directory: &str, uid: u32) -> bool {
        let inner = self.0.lock();
        inner.creating.iter().any(|(path, drafts)| {
            is_below(path, directory) && drafts.iter().any(|one| one.uid() == uid)
        })
    }

    /// Whether a file is being created below a directory.
    pub(in crate::fs) fn is_creating_below(&self, directory: &str) -> bool {
        self.0.lock().creating.keys().any(|path| is_below(path, directory))
    }

    /// The secret was removed or replaced: ends the drafts that write it or create it anew. What is written
    /// to them is not stored.
    pub(in crate::fs) fn end(&self, record: RecordId, path: &str) {
        let mut inner = self.0.lock();
        let changing = inner.changing.remove(&record).unwrap_or_default();
        let creating = inner.creating.remove(path).unwrap_or_default();
        drop(inner);
        changing.iter().filter_map(Weak::upgrade).chain(creating).for_each(|draft| draft.end());
    }

    /// The file that was being created is removed before it was committed. False if it is being
    /// committed at this moment: what is asked of the vault now comes after that.
    pub(in crate::fs) fn end_one(&self, draft: &Arc<Draft>) -> bool {
        let mut inner = self.0.lock();
        let ended = draft.end_unless_committing();
        if ended {
            inner.unfile(draft);
        }
        ended
    }
}

impl Inner {
    fn file(&mut self, draft: &Arc<Draft>) {
        match draft.target() {
            Target::Value(WriteTarget::New { key, .. }) => {
                self.creating.entry(key.to_string()).or_default().push(Arc::clone(draft));
            }
            Target::Value(WriteTarget::Existing(record)) => {
                self.changing.entry(record).or_default().push(Arc::downgrade(draft));
            }
            Target::Lists(_) => {}
        }
    }

    /// Whether it was filed.
    fn unfile(&mut self, draft: &Arc<Draft>) -> bool {
        match draft.target() {
            Target::Value(WriteTarget::New { key, .. }) => {
                let Some(drafts) = self.creating.get_mut(key.as_str()) else { return false };
                let before = drafts.len();
                drafts.retain(|other| !Arc::ptr_eq(other, draft));
                let filed = drafts.len() < before;
                if drafts.is_empty() {
                    self.creating.remove(key.as_str());
                }
                filed
            }
            Target::Value(WriteTarget::Existing(record)) => {
                let Some(drafts) = self.changing.get_mut(&record) else { return false };
                let before = drafts.len();
                drafts.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(draft)));
                let filed = drafts.len() < before;
                if drafts.is_empty() {
                    self.changing.remove(&record);
                }
                filed
            }
            Target::Lists(_) => false,
        }
    }
}
