//! Names that come, go and change.

use std::rc::Rc;

use secretfs::model::{Caller, Key, KeyError, Operation, may_create};

use super::super::errno::*;
use super::super::people::caller;
use super::*;

impl Model {
    pub(crate) fn make_closed(&mut self, uid: u32, path: &str) -> Result<(), i32> {
        match self.meaning(uid, path) {
            Ok(_) => return Err(EEXIST),
            Err(ENOENT) => self.is_directory(uid, parts(path).0)?,
            Err(error) => return Err(error),
        }
        match Key::parse(path) {
            Err(KeyError::SidecarName) => Err(ENOENT),
            Err(_) => Err(EINVAL),
            Ok(_) => self.add(uid, path, Vec::new()),
        }
    }

    pub(crate) fn unlink(&mut self, uid: u32, path: &str) -> Result<(), i32> {
        match self.meaning(uid, path)? {
            Meaning::Directory => Err(EISDIR),
            Meaning::Sidecar(_) => Err(EPERM),
            Meaning::Scratch(_) => {
                self.scratch.remove(&(uid, path.to_owned()));
                Ok(())
            }
            Meaning::Creating(draft) => {
                draft.borrow_mut().ended = true;
                Ok(())
            }
            Meaning::Secret => {
                self.may(uid, Operation::Delete, path)?;
                self.remove(path);
                Ok(())
            }
        }
    }

    /// Whoever writes it, or creates it anew, writes into the void.
    fn remove(&mut self, path: &str) -> Secret {
        let secret = self.secrets.remove(path).expect("it was found");
        self.end(secret.id, path);
        self.vanish(path);
        secret
    }

    fn end(&self, id: u64, path: &str) {
        for draft in &self.drafts {
            let mut draft = draft.borrow_mut();
            draft.ended |= match &draft.target {
                Target::Existing(of) => *of == id,
                Target::New { path: of, .. } => of == path,
                Target::Lists(_) => false,
            };
        }
    }

    /// Made directories last until they are emptied.
    fn vanish(&mut self, path: &str) {
        let mut directory = parts(path).0;
        while !directory.is_empty() && !self.holds_secrets(directory) && !self.holds_made(directory)
        {
            self.made.remove(directory);
            directory = parts(directory).0;
        }
    }

    pub(crate) fn make_directory(&mut self, uid: u32, path: &str) -> Result<(), i32> {
        match self.meaning(uid, path) {
            Ok(_) => return Err(EEXIST),
            Err(ENOENT) => self.is_directory(uid, parts(path).0)?,
            Err(error) => return Err(error),
        }
        Key::check_directory(path).map_err(|_| EINVAL)?;
        allowed(may_create(&caller(uid), path))?;
        self.made.insert(path.to_owned(), uid);
        Ok(())
    }

    pub(crate) fn remove_directory(&mut self, uid: u32, path: &str) -> Result<(), i32> {
        self.is_directory(uid, path)?;
        if self.holds_secrets(path) || self.holds_made(path) || self.has_scratch(uid, path) {
            return Err(ENOTEMPTY);
        }
        let person: Caller = caller(uid);
        if self.made.contains_key(path) {
            allowed(may_create(&person, path))?;
            self.made.remove(path);
            return Ok(());
        }
        let is_own = person.own_slug().is_some_and(|own| own.as_str() == path);
        Err(if is_own { EPERM } else { ENOENT })
    }

    pub(crate) fn rename(
        &mut self,
        uid: u32,
        from: &str,
        to: &str,
        replace: bool,
    ) -> Result<(), i32> {
        self.is_directory(uid, parts(from).0)?;
        self.is_directory(uid, parts(to).0)?;
        let source = self.meaning(uid, from)?;
        let target = match self.meaning(uid, to) {
            Err(ENOENT) => None,
            found => Some(found?),
        };
        if target.is_some() && !replace {
            return Err(EEXIST);
        }
        let is_directory = |meaning: &Meaning| matches!(meaning, Meaning::Directory);
        match (&source, &target) {
            _ if from == to => return Ok(()),
            (Meaning::Directory, _) if is_below(to, from) => return Err(EINVAL),
            (_, Some(_)) if is_below(from, to) => return Err(ENOTEMPTY),
            (Meaning::Directory, Some(other)) if !is_directory(other) => return Err(ENOTDIR),
            (source, Some(other)) if !is_directory(source) && is_directory(other) => {
                return Err(EISDIR);
            }
            _ => {}
        }
        match source {
            Meaning::Directory => {
                let lasts = self.holds_secrets(from)
                    || self.made.contains_key(from)
                    || self.holds_made(from);
                match lasts {
                    true => self.rename_directory(uid, from, to),
                    false => Err(ENOENT),
                }
            }
            Meaning::Sidecar(_) => Err(EPERM),
            Meaning::Scratch(file) if is_temporary_name(parts(to).1) => {
                allowed(may_create(&caller(uid), to))?;
                self.scratch.remove(&(uid, from.to_owned()));
                self.scratch.insert((uid, to.to_owned()), file);
                Ok(())
            }
            _ if is_temporary_name(parts(to).1) => Err(EXDEV),
            Meaning::Creating(draft) => self.rename_draft(uid, &draft, to, !replace),
            Meaning::Secret => self.move_secret(uid, from, to),
            Meaning::Scratch(file) => {
                let bytes = file.borrow().clone();
                self.put(uid, bytes, to)?;
                self.scratch.remove(&(uid, from.to_owned()));
                Ok(())
            }
        }
    }

    fn rename_directory(&mut self, uid: u32, from: &str, to: &str) -> Result<(), i32> {
        if is_temporary_name(parts(to).1) {
            return Err(EXDEV);
        }
        let person: Caller = caller(uid);
        Key::check_directory(to).map_err(|_| EINVAL)?;
        allowed(may_create(&person, to))?;
        let below = |path: &str| path == from || is_below(path, from);
        let renamed = |path: &str| format!("{to}{}", &path[from.len()..]);
        let keys: Vec<_> = self.secrets.keys().filter(|key| below(key)).cloned().collect();
        if keys.is_empty() {
            allowed(may_create(&person, from))?;
        }
        if self.is_creating_below(from) {
            return Err(EBUSY);
        }
        if self.holds_secrets(to)
            || self.holds_made(to)
            || self.has_scratch(uid, to)
            || self.is_creating_below(to)
        {
            return Err(ENOTEMPTY);
        }
        for key in &keys {
            Key::parse(&renamed(key)).map_err(|_| EINVAL)?;
            self.may(uid, Operation::Delete, key)?;
            allowed(may_create(&person, &renamed(key)))?;
        }
        for key in &keys {
            self.is_free(&renamed(key))?;
        }
        self.made.remove(to);
        let made: Vec<_> = self.made.keys().filter(|path| below(path)).cloned().collect();
        for path in made {
            let by = self.made.remove(&path).expect("it was found");
            self.made.insert(renamed(&path), by);
        }
        let scratch: Vec<_> =
            self.scratch.keys().filter(|(_, path)| is_below(path, from)).cloned().collect();
        for (uid, path) in scratch {
            let file = self.scratch.remove(&(uid, path.clone())).expect("it was found");
            self.scratch.insert((uid, renamed(&path)), file);
        }
        for key in &keys {
            let secret = self.secrets.remove(key).expect("it was found");
            self.secrets.insert(renamed(key), secret);
        }
        if !keys.is_empty() {
            self.vanish(from);
        }
        Ok(())
    }

    fn is_creating_below(&self, directory: &str) -> bool {
        self.drafts.iter().map(|draft| draft.borrow()).any(|draft| {
            let path = match &draft.target {
                Target::New { path, .. } => path,
                _ => return false,
            };
            !draft.ended && is_below(path, directory)
        })
    }

    fn rename_draft(
        &mut self,
        uid: u32,
        draft: &Shared<Draft>,
        to: &str,
        exclusive: bool,
    ) -> Result<(), i32> {
        Key::parse(to).map_err(|_| EINVAL)?;
        match self.secrets.contains_key(to) {
            true => self.may(uid, Operation::Write, to)?,
            false => allowed(may_create(&caller(uid), to))?,
        }
        draft.borrow_mut().target = Target::New { path: to.to_owned(), exclusive };
        // The newest of its name from now on.
        self.drafts.retain(|other| !Rc::ptr_eq(other, draft));
        self.drafts.push(Rc::clone(draft));
        Ok(())
    }

    fn move_secret(&mut self, uid: u32, from: &str, to: &str) -> Result<(), i32> {
        if self.sidecar_of(to).is_none() {
            key_to_move_to(to)?;
        }
        self.may(uid, Operation::Delete, from)?;
        let is_free = self.sidecar_of(to).is_none() && !self.secrets.contains_key(to);
        if is_free {
            allowed(may_create(&caller(uid), to))?;
            self.is_free(to)?;
            let secret = self.secrets.remove(from).expect("it was found");
            self.secrets.insert(to.to_owned(), secret);
            self.directories_give_way(to);
            self.vanish(from);
        } else {
            self.may(uid, Operation::Read, from)?;
            let bytes = self.secrets[from].value.clone();
            self.put(uid, bytes, to)?;
            self.remove(from);
        }
        Ok(())
    }

    /// Bytes onto what there is, or as something new.
    fn put(&mut self, uid: u32, bytes: Vec<u8>, to: &str) -> Result<(), i32> {
        if let Some(key) = self.sidecar_of(to).map(str::to_owned) {
            return self.change_lists(uid, &key, &bytes);
        }
        key_to_move_to(to)?;
        if self.secrets.contains_key(to) {
            self.update(uid, to, bytes)?;
            self.end(self.secrets[to].id, to);
            return Ok(());
        }
        self.add(uid, to, bytes)
    }
}

fn key_to_move_to(path: &str) -> Result<(), i32> {
    match Key::parse(path) {
        Ok(_) => Ok(()),
        Err(KeyError::SidecarName) => Err(ENOENT),
        Err(_) => Err(EINVAL),
    }
}
