//! Scratch files: what editors and copying programs put beside a file while they replace it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::model::{Plaintext, is_temporary_name};
use crate::vault::Vault;

use super::draft::within_limit;
use crate::fs::budget::{Account, Budget, Charge, OBJECT_BYTES, buffer_bytes};
use crate::fs::error::FsError;
use crate::fs::join;
use crate::fs::ops::rename_directory::renamed;
use crate::fs::saved::pages::Aside;
use crate::fs::saved::{Record, SLOT_BYTES, SavedBytes, SavedScratch, SavedState, Slot};

/// How many scratch files one UID may have.
const PER_UID: usize = 64;

/// A file in memory that one UID sees, gone at unmount. At most 1 MiB.
pub(in crate::fs) struct Scratch {
    node: u64,
    uid: u32,
    gid: u32,
    state: Mutex<State>,
}

struct State {
    bytes: Plaintext,
    /// For all that is kept of it.
    charge: Charge,
    /// The process before this one was killed and took the bytes with it.
    lost: bool,
    mode: u16,
    modified: SystemTime,
    /// Its directory and name; none once it is removed.
    place: Option<(Arc<str>, String)>,
    handles: Vec<u64>,
    saved_state: SavedState,
    /// Dropped before what it names.
    slot: Option<Slot>,
    /// The bytes, for the next process.
    aside: Option<Aside>,
}

impl Scratch {
    /// What a file takes without its bytes: itself, its name, its slot.
    pub(in crate::fs) const BYTES: usize = 2 * OBJECT_BYTES + SLOT_BYTES;

    /// `charge` is for [`Self::BYTES`].
    pub(in crate::fs) fn new(node: u64, (uid, gid): (u32, u32), mode: u16, charge: Charge) -> Self {
        let state = State {
            bytes: Plaintext::default(),
            charge,
            lost: false,
            mode: mode & 0o777,
            modified: SystemTime::now(),
            place: None,
            handles: Vec::new(),
            saved_state: SavedState::default(),
            aside: None,
            slot: None,
        };
        Self { node, uid, gid, state: Mutex::new(state) }
    }

    /// A file that the process before this one had in its memory, and what it left of its bytes.
    fn inherited(
        kept: SavedScratch,
        found: Option<(Aside, Plaintext)>,
        slot: Slot,
        saved_state: &SavedState,
        budget: &Budget,
    ) -> Self {
        let bytes = found.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let charge = budget.restore(Account::User(kept.uid), Self::bytes_for(bytes));
        let file = Self::new(kept.node, (kept.uid, kept.gid), kept.mode, charge);
        {
            let mut state = file.state.lock();
            state.lost = found.is_none();
            let (aside, bytes) = found.unzip();
            state.aside = aside;
            state.bytes = bytes.unwrap_or_default();
            state.place = kept.place.map(|(directory, name)| (directory.into(), name));
            state.handles = kept.handles;
            state.saved_state = saved_state.clone();
            state.slot = Some(slot);
        }
        file
    }

    /// A handle on it was given.
    pub(in crate::fs) fn opened(&self, handle: u64) {
        let mut state = self.state.lock();
        state.handles.push(handle);
        self.shelve(&mut state);
    }

    /// A handle on it is gone.
    pub(in crate::fs) fn closed(&self, handle: u64) {
        let mut state = self.state.lock();
        state.handles.retain(|&other| other != handle);
        self.shelve(&mut state);
    }

    pub(in crate::fs) fn last_handle(&self) -> Option<u64> {
        self.state.lock().handles.last().copied()
    }

    /// It has this name now, or none.
    fn is_at(&self, place: Option<(Arc<str>, String)>, saved_state: &SavedState) {
        let mut state = self.state.lock();
        state.place = place;
        state.saved_state = saved_state.clone();
        self.shelve(&mut state);
    }

    /// Lets the next process know of it.
    fn shelve(&self, state: &mut State) {
        if state.place.is_none() && state.handles.is_empty() {
            state.slot = None;
            return;
        }
        let kept = Record::Scratch(SavedScratch {
            place: state
                .place
                .as_ref()
                .map(|(directory, name)| (directory.to_string(), name.clone())),
            handles: state.handles.clone(),
            node: self.node,
            uid: self.uid,
            gid: self.gid,
            mode: state.mode,
            bytes: match &state.aside {
                Some(aside) => Some(aside.kept()),
                None if state.bytes.is_empty() && !state.lost => Some(SavedBytes::default()),
                None => None,
            },
        });
        state.saved_state.write(&mut state.slot, Some((state.charge.account(), kept)));
    }

    /// The next process is to have what was written.
    fn keep_written(&self, vault: &Vault, state: &mut State, changed: Range<usize>) {
        let before = state.aside.take();
        let whose = (self.node, state.charge.account());
        let (aside, before) =
            Aside::keep(before, &state.saved_state, vault, whose, &state.bytes, changed);
        state.aside = aside;
        self.shelve(state);
        // It goes once nothing in the saved state names it.
        drop(before);
    }

    /// What it takes with so many bytes: the buffer, and the copy that the next process finds.
    fn bytes_for(length: usize) -> usize {
        Self::BYTES + 2 * buffer_bytes(length)
    }

    pub(in crate::fs) fn node(&self) -> u64 {
        self.node
    }

    pub(in crate::fs) fn owner(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// Size, mode and time as they are now.
    pub(in crate::fs) fn shown(&self) -> (u64, u16, SystemTime) {
        let state = self.state.lock();
        (state.bytes.len() as u64, state.mode, state.modified)
    }

    pub(in crate::fs) fn set_mode(&self, mode: u16) {
        self.state.lock().mode = mode & 0o777;
    }

    pub(in crate::fs) fn set_modified(&self, time: SystemTime) {
        self.state.lock().modified = time;
    }

    /// # Errors
    /// [`FsError::Lost`].
    pub(in crate::fs) fn read(&self, offset: u64, length: usize) -> Result<Plaintext, FsError> {
        let state = self.state.lock();
        state.check_there()?;
        Ok(Plaintext::copy_of(state.bytes.slice(offset, length)))
    }

    pub(in crate::fs) fn write(
        &self,
        vault: &Vault,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), FsError> {
        let offset = within_limit(offset, bytes.len(), "a scratch file")?;
        let mut state = self.state.lock();
        state.check_there()?;
        state.charge_up_to(offset + bytes.len())?;
        state.bytes.write_at(offset, bytes);
        state.modified = SystemTime::now();
        self.keep_written(vault, &mut state, offset..offset + bytes.len());
        Ok(())
    }

    pub(in crate::fs) fn resize(&self, vault: &Vault, size: u64) -> Result<(), FsError> {
        let size = within_limit(size, 0, "a scratch file")?;
        let mut state = self.state.lock();
        // After a truncation to 0, what is lost is not needed.
        state.lost &= size > 0;
        state.check_there()?;
        if size == 0 {
            state.bytes = Plaintext::default();
            state.charge.shrink(Self::BYTES);
        }
        state.charge_up_to(size)?;
        state.bytes.resize(size);
        state.modified = SystemTime::now();
        self.keep_written(vault, &mut state, 0..size);
        Ok(())
    }
}

impl State {
    fn charge_up_to(&mut self, end: usize) -> Result<(), FsError> {
        let bytes = Scratch::bytes_for(end.max(self.bytes.len()));
        if bytes <= self.charge.bytes() {
            return Ok(());
        }
        let path = match &self.place {
            Some((directory, name)) => join(directory, name),
            None => "a scratch file".to_owned(),
        };
        self.charge.resize(bytes, &path)
    }

    fn check_there(&self) -> Result<(), FsError> {
        if self.lost { Err(FsError::Lost) } else { Ok(()) }
    }
}

/// All scratch files, by UID and then by directory and name.
pub(in crate::fs) struct ScratchFiles {
    files: Mutex<HashMap<u32, Files>>,
    saved_state: SavedState,
}

/// One UID's files, by directory and name.
type Files = HashMap<(Arc<str>, String), Arc<Scratch>>;

impl ScratchFiles {
    pub(in crate::fs) fn new(saved_state: SavedState) -> Self {
        Self { files: Mutex::default(), saved_state }
    }

    /// A file that the process before this one had in its memory, and what it left of its bytes.
    pub(in crate::fs) fn inherit(
        &self,
        kept: SavedScratch,
        found: Option<(Aside, Plaintext)>,
        slot: Slot,
        budget: &Budget,
    ) -> Arc<Scratch> {
        let (place, uid) = (kept.place.clone(), kept.uid);
        let file = Arc::new(Scratch::inherited(kept, found, slot, &self.saved_state, budget));
        if let Some((directory, name)) = place {
            let place = (directory.into(), name);
            self.files.lock().entry(uid).or_default().insert(place, Arc::clone(&file));
        }
        file
    }

    /// Whether a name is the name of a scratch file: it has the form of a temporary file, or this UID has a scratch
    /// file there (made as mkstemp(3) does, or by a previous version, for which a dot was enough).
    pub(in crate::fs) fn is_name(&self, uid: u32, directory: &Arc<str>, name: &str) -> bool {
        is_temporary_name(name)
            || (name.starts_with('.') && self.find(uid, directory, name).is_some())
    }

    pub(in crate::fs) fn find(
        &self,
        uid: u32,
        directory: &Arc<str>,
        name: &str,
    ) -> Option<Arc<Scratch>> {
        let files = self.files.lock();
        files.get(&uid)?.get(&(Arc::clone(directory), name.to_owned())).cloned()
    }

    /// Puts a file there, in the place of one that has the name.
    ///
    /// # Errors
    /// Its UID has too many.
    pub(in crate::fs) fn put(
        &self,
        directory: &Arc<str>,
        name: &str,
        file: Arc<Scratch>,
    ) -> Result<(), FsError> {
        let mut files = self.files.lock();
        let own = files.entry(file.uid).or_default();
        let place = (Arc::clone(directory), name.to_owned());
        if own.len() >= PER_UID && !own.contains_key(&place) {
            return Err(FsError::TooMany {
                path: format!("{directory}/{name}"),
                what: "you have 64 scratch files; remove some first",
            });
        }
        file.is_at(Some(place.clone()), &self.saved_state);
        let replaced = own.insert(place, file);
        replaced.iter().for_each(|replaced| replaced.is_at(None, &self.saved_state));
        Ok(())
    }

    /// Gives a file that is there another name, in the place of one that has it.
    pub(in crate::fs) fn rename(
        &self,
        from: (&Arc<str>, &str),
        to: (&Arc<str>, &str),
        file: Arc<Scratch>,
    ) {
        let place = |(directory, name): (&Arc<str>, &str)| (Arc::clone(directory), name.to_owned());
        let mut files = self.files.lock();
        let own = files.entry(file.uid).or_default();
        own.remove(&place(from));
        file.is_at(Some(place(to)), &self.saved_state);
        let replaced = own.insert(place(to), Arc::clone(&file));
        let replaced = replaced.filter(|replaced| !Arc::ptr_eq(replaced, &file));
        replaced.iter().for_each(|replaced| replaced.is_at(None, &self.saved_state));
    }

    /// Gives all files in a directory, and in those below it, another directory.
    pub(in crate::fs) fn rename_below(&self, from: &str, to: &str) {
        let mut files = self.files.lock();
        for own in files.values_mut() {
            let moved: Vec<_> = own
                .keys()
                .filter_map(|place| Some((place.clone(), renamed(&place.0, from, to)?)))
                .collect();
            for (old, directory) in moved {
                let Some(file) = own.remove(&old) else { continue };
                let place = (Arc::from(directory), old.1);
                file.is_at(Some(place.clone()), &self.saved_state);
                own.insert(place, file);
            }
        }
    }

    pub(in crate::fs) fn remove(
        &self,
        uid: u32,
        directory: &Arc<str>,
        name: &str,
    ) -> Option<Arc<Scratch>> {
        let mut files = self.files.lock();
        let own = files.get_mut(&uid)?;
        let removed = own.remove(&(Arc::clone(directory), name.to_owned()));
        if own.is_empty() {
            files.remove(&uid);
        }
        drop(files);
        removed.iter().for_each(|file| file.is_at(None, &self.saved_state));
        removed
    }

    /// The names of this UID's files in a directory.
    pub(in crate::fs) fn names(&self, uid: u32, directory: &str) -> Vec<String> {
        let files = self.files.lock();
        let own = files.get(&uid).into_iter().flatten();
        own.filter(|((place, _), _)| &**place == directory)
            .map(|((_, name), _)| name.clone())
            .collect()
    }
}
