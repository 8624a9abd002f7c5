//! Scratch files: what editors and copying programs put beside a file while they replace it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::model::Plaintext;

use super::draft::within_limit;
use super::error::FsError;

/// How many scratch files one UID may have.
const PER_UID: usize = 64;

/// A file in memory that one UID sees, gone at unmount. At most 1 MiB.
pub(super) struct Scratch {
    node: u64,
    uid: u32,
    gid: u32,
    state: Mutex<State>,
}

struct State {
    bytes: Plaintext,
    mode: u16,
    modified: SystemTime,
}

impl Scratch {
    pub(super) fn new(node: u64, uid: u32, gid: u32, mode: u16) -> Self {
        let state =
            State { bytes: Plaintext::default(), mode: mode & 0o777, modified: SystemTime::now() };
        Self { node, uid, gid, state: Mutex::new(state) }
    }

    pub(super) fn node(&self) -> u64 {
        self.node
    }

    pub(super) fn owner(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// Size, mode and time as they are now.
    pub(super) fn shown(&self) -> (u64, u16, SystemTime) {
        let state = self.state.lock();
        (state.bytes.len() as u64, state.mode, state.modified)
    }

    pub(super) fn set_mode(&self, mode: u16) {
        self.state.lock().mode = mode & 0o777;
    }

    pub(super) fn set_modified(&self, time: SystemTime) {
        self.state.lock().modified = time;
    }

    pub(super) fn read(&self, offset: u64, length: usize) -> Plaintext {
        Plaintext::copy_of(self.state.lock().bytes.slice(offset, length))
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), FsError> {
        let offset = within_limit(offset, bytes.len(), "a scratch file")?;
        let mut state = self.state.lock();
        state.bytes.write_at(offset, bytes);
        state.modified = SystemTime::now();
        Ok(())
    }

    pub(super) fn resize(&self, size: u64) -> Result<(), FsError> {
        let size = within_limit(size, 0, "a scratch file")?;
        let mut state = self.state.lock();
        state.bytes.resize(size);
        state.modified = SystemTime::now();
        Ok(())
    }
}

/// All scratch files, by UID and then by folder and name.
#[derive(Default)]
pub(super) struct ScratchFiles(Mutex<HashMap<u32, Files>>);

/// One UID's files, by folder and name.
type Files = HashMap<(Arc<str>, String), Arc<Scratch>>;

impl ScratchFiles {
    pub(super) fn find(&self, uid: u32, folder: &Arc<str>, name: &str) -> Option<Arc<Scratch>> {
        let files = self.0.lock();
        files.get(&uid)?.get(&(Arc::clone(folder), name.to_owned())).cloned()
    }

    /// Puts a file there, in the place of one that has the name.
    ///
    /// # Errors
    /// Its UID has too many.
    pub(super) fn put(
        &self,
        folder: &Arc<str>,
        name: &str,
        file: Arc<Scratch>,
    ) -> Result<(), FsError> {
        let mut files = self.0.lock();
        let own = files.entry(file.uid).or_default();
        let place = (Arc::clone(folder), name.to_owned());
        if own.len() >= PER_UID && !own.contains_key(&place) {
            return Err(FsError::TooMany {
                path: format!("{folder}/{name}"),
                what: "you have 64 scratch files; remove some first",
            });
        }
        own.insert(place, file);
        Ok(())
    }

    pub(super) fn remove(&self, uid: u32, folder: &Arc<str>, name: &str) -> Option<Arc<Scratch>> {
        let mut files = self.0.lock();
        let own = files.get_mut(&uid)?;
        let removed = own.remove(&(Arc::clone(folder), name.to_owned()));
        if own.is_empty() {
            files.remove(&uid);
        }
        removed
    }

    /// The names of this UID's files in a folder.
    pub(super) fn names(&self, uid: u32, folder: &str) -> Vec<String> {
        let files = self.0.lock();
        let own = files.get(&uid).into_iter().flatten();
        own.filter(|((place, _), _)| &**place == folder)
            .map(|((_, name), _)| name.clone())
            .collect()
    }
}
