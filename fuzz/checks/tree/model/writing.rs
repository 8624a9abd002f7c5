//! Opening, writing, and what becomes of it when it is stored.

use std::cell::RefCell;
use std::rc::Rc;

use secretfs::document::{emit_lists, parse_lists};
use secretfs::model::{Acl, Key, KeyError, MAX_VALUE_BYTES, Operation, may_create};

use super::super::Flags;
use super::super::errno::*;
use super::super::people::caller;
use super::*;

impl Model {
    /// As `open(2)` with `O_CREAT` or without.
    pub(crate) fn open(&mut self, uid: u32, path: &str, flags: Flags) -> Result<Open, i32> {
        let opened = match self.meaning(uid, path) {
            Ok(_) if flags.create && flags.exclusive => return Err(EEXIST),
            Ok(Meaning::Directory) => return Err(EISDIR),
            Ok(Meaning::Secret) => {
                if flags.write {
                    self.may(uid, Operation::Write, path)?;
                }
                if flags.read || !flags.write {
                    self.may(uid, Operation::Read, path)?;
                }
                let secret = &self.secrets[path];
                let (id, value) = (secret.id, secret.value.clone());
                match flags.write {
                    false => Open::Reader(value),
                    true => self.draft(uid, Target::Existing(id), value, Dirty::Clean),
                }
            }
            Ok(Meaning::Sidecar(key)) => {
                self.may(uid, Operation::ReadLists, &key)?;
                let secret = &self.secrets[&key];
                let (id, text) = (secret.id, emit_lists(&secret.acl).into_bytes());
                match flags.write {
                    false => Open::Reader(text),
                    true => self.draft(uid, Target::Lists(id), text, Dirty::Clean),
                }
            }
            Ok(Meaning::Creating(draft)) if flags.write => {
                draft.borrow_mut().handles += 1;
                Open::Writer(draft)
            }
            Ok(Meaning::Creating(draft)) => Open::Reader(draft.borrow().bytes.clone()),
            Ok(Meaning::Scratch(file)) => Open::Scratch(file),
            Err(ENOENT) if flags.create => {
                self.is_directory(uid, parts(path).0)?;
                self.create(uid, path, flags.exclusive)?
            }
            Err(error) => return Err(error),
        };
        if flags.truncate {
            self.set_length(&opened, 0)?;
        }
        Ok(opened)
    }

    fn draft(&mut self, uid: u32, target: Target, bytes: Vec<u8>, dirty: Dirty) -> Open {
        let draft = Draft {
            uid,
            target,
            bytes,
            dirty,
            ended: false,
            flushed: false,
            cut_off: false,
            handles: 1,
        };
        let draft = Rc::new(RefCell::new(draft));
        self.drafts.push(Rc::clone(&draft));
        Open::Writer(draft)
    }

    fn create(&mut self, uid: u32, path: &str, exclusive: bool) -> Result<Open, i32> {
        if is_temporary_name(parts(path).1) {
            allowed(may_create(&caller(uid), path))?;
            if path.chars().any(char::is_control) {
                return Err(EINVAL);
            }
            let file = Shared::<Vec<u8>>::default();
            self.scratch.insert((uid, path.to_owned()), Rc::clone(&file));
            return Ok(Open::Scratch(file));
        }
        match Key::parse(path) {
            // The lists of a secret that is not there.
            Err(KeyError::SidecarName) => return Err(ENOENT),
            Err(_) => return Err(EINVAL),
            Ok(_) => allowed(may_create(&caller(uid), path))?,
        }
        let target = Target::New { path: path.to_owned(), exclusive };
        Ok(self.draft(uid, target, Vec::new(), Dirty::Emptied))
    }

    pub(crate) fn write(&self, open: &Open, at: u64, bytes: &[u8]) -> Result<(), i32> {
        let fits = fits(at, bytes.len());
        if let Open::Writer(draft) = open {
            let mut draft = draft.borrow_mut();
            draft.cut_off |= fits.is_err();
            if fits.is_ok() {
                draft.dirty = Dirty::Written;
            }
        }
        let at = fits?;
        change(open, |old| {
            let end = old.len().max(at + bytes.len());
            old.resize(end, 0);
            old[at..at + bytes.len()].copy_from_slice(bytes);
        });
        Ok(())
    }

    pub(crate) fn set_length(&self, open: &Open, size: u64) -> Result<(), i32> {
        let size = fits(size, 0)?;
        change(open, |old| old.resize(size, 0));
        if let Open::Writer(draft) = open {
            let mut draft = draft.borrow_mut();
            draft.cut_off &= size > 0;
            if size > 0 || draft.dirty != Dirty::Written {
                draft.dirty = if size == 0 { Dirty::Emptied } else { Dirty::Written };
            }
        }
        Ok(())
    }

    /// `is_close`: what was only emptied waits until the last descriptor is gone.
    pub(crate) fn store(&mut self, open: &Open, is_close: bool) -> Result<(), i32> {
        let Open::Writer(shared) = open else { return Ok(()) };
        {
            let mut draft = shared.borrow_mut();
            draft.flushed |= is_close;
            if draft.cut_off {
                return Err(EFBIG);
            }
            let due = match draft.dirty {
                Dirty::Clean => false,
                Dirty::Emptied => !is_close,
                Dirty::Written => true,
            };
            if !due || draft.ended {
                return Ok(());
            }
        }
        self.commit(shared)
    }

    pub(crate) fn release(&mut self, open: &Open) {
        let Open::Writer(shared) = open else { return };
        let due = {
            let mut draft = shared.borrow_mut();
            draft.handles -= 1;
            if draft.handles > 0 {
                return;
            }
            let dirty = match draft.dirty {
                Dirty::Clean => false,
                Dirty::Emptied => draft.flushed,
                Dirty::Written => true,
            };
            dirty && !draft.ended && !draft.cut_off
        };
        if due {
            // Nobody is told.
            let _ = self.commit(shared);
        }
        self.drafts.retain(|other| !Rc::ptr_eq(other, shared));
    }

    fn commit(&mut self, shared: &Shared<Draft>) -> Result<(), i32> {
        let (uid, target, bytes) = {
            let mut draft = shared.borrow_mut();
            draft.dirty = Dirty::Clean;
            (draft.uid, draft.target.clone(), draft.bytes.clone())
        };
        match target {
            Target::Lists(id) => match self.by_id(id) {
                Some(key) => self.change_lists(uid, &key, &bytes),
                None => Ok(()),
            },
            Target::Existing(id) => match self.by_id(id) {
                Some(key) => self.update(uid, &key, bytes),
                None => Ok(()),
            },
            Target::New { path, exclusive } => {
                if self.secrets.contains_key(&path) {
                    if exclusive {
                        return Err(EEXIST);
                    }
                    self.update(uid, &path, bytes)?;
                } else {
                    self.add(uid, &path, bytes)?;
                }
                shared.borrow_mut().target = Target::Existing(self.secrets[&path].id);
                Ok(())
            }
        }
    }

    pub(super) fn update(&mut self, uid: u32, key: &str, bytes: Vec<u8>) -> Result<(), i32> {
        self.may(uid, Operation::Write, key)?;
        self.secrets.get_mut(key).expect("it was found").value = bytes;
        Ok(())
    }

    pub(super) fn add(&mut self, uid: u32, path: &str, value: Vec<u8>) -> Result<(), i32> {
        let person = caller(uid);
        allowed(may_create(&person, path))?;
        self.is_free(path)?;
        let acl = match person.own_slug() {
            Some(own) if !person.is_admin() => Acl::all_of(own),
            _ => Acl::default(),
        };
        self.next_id += 1;
        self.secrets.insert(path.to_owned(), Secret { id: self.next_id, value, acl });
        self.directories_give_way(path);
        Ok(())
    }

    /// What was made in the place of a secret, or of its sidecar, is empty.
    pub(super) fn directories_give_way(&mut self, key: &str) {
        let sidecar = format!("{key}.acl");
        let is_in_the_way = |directory: &str| {
            [key, &sidecar].into_iter().any(|path| directory == path || is_below(directory, path))
        };
        self.made.retain(|directory, _| !is_in_the_way(directory));
    }

    /// A key is no directory, and neither are its sidecar and the keys above it secrets.
    pub(super) fn is_free(&self, path: &str) -> Result<(), i32> {
        if self.holds_secrets(path) || self.holds_secrets(&format!("{path}.acl")) {
            return Err(EISDIR);
        }
        let key = Key::parse(path).expect("it was checked");
        for directory in key.ancestors() {
            if self.secrets.contains_key(directory) || self.sidecar_of(directory).is_some() {
                return Err(ENOTDIR);
            }
        }
        Ok(())
    }

    pub(super) fn change_lists(&mut self, uid: u32, key: &str, text: &[u8]) -> Result<(), i32> {
        let patch = parse_lists(text).map_err(|_| EINVAL)?;
        let acl = self.secrets[key].acl.patched(&patch);
        for list in self.secrets[key].acl.differing(&acl) {
            self.may(uid, Operation::ChangeList(list), key)?;
        }
        self.may(uid, Operation::ReadLists, key)?;
        let secret = self.secrets.get_mut(key).expect("it was found");
        if secret.acl.differing(&acl).next().is_some() {
            secret.acl = acl;
        }
        Ok(())
    }

    pub(crate) fn truncate(&mut self, uid: u32, path: &str, size: u64) -> Result<(), i32> {
        match self.meaning(uid, path)? {
            Meaning::Directory => Err(EISDIR),
            Meaning::Secret => {
                self.may(uid, Operation::Write, path)?;
                let size = fits(size, 0)?;
                let mut bytes = self.secrets[path].value.clone();
                bytes.resize(size, 0);
                self.update(uid, path, bytes)
            }
            Meaning::Sidecar(key) => {
                self.may(uid, Operation::ReadLists, &key)?;
                let size = fits(size, 0)?;
                let mut text = emit_lists(&self.secrets[&key].acl).into_bytes();
                text.resize(size, 0);
                self.change_lists(uid, &key, &text)
            }
            Meaning::Creating(draft) => self.set_length(&Open::Writer(draft), size),
            Meaning::Scratch(file) => self.set_length(&Open::Scratch(file), size),
        }
    }
}

fn fits(at: u64, length: usize) -> Result<usize, i32> {
    let at = usize::try_from(at).map_err(|_| EFBIG)?;
    let fits = at.checked_add(length).is_some_and(|end| end <= MAX_VALUE_BYTES);
    if fits { Ok(at) } else { Err(EFBIG) }
}

fn change(open: &Open, change: impl FnOnce(&mut Vec<u8>)) {
    match open {
        Open::Writer(draft) => change(&mut draft.borrow_mut().bytes),
        Open::Scratch(file) => change(&mut file.borrow_mut()),
        Open::Reader(_) => unreachable!("nobody writes to a reader"),
    }
}
