//! Names that come, go and change, and what there is under them.

use std::ffi::OsStr;
use std::sync::Arc;

use secretfs::fs::{FileKind, RenameMode};

use super::super::errno::*;
use super::{Kernel, number, send, wait};

impl Kernel {
    pub(crate) fn make_closed(&mut self, uid: u32, path: &str) -> Result<(), i32> {
        let who = self.thread(uid);
        let (parent, name) = self.parent(&who, path, false)?;
        if self.component(&who, parent, name, true).is_ok() {
            return Err(EEXIST);
        }
        let (fs, inner) = (Arc::clone(&self.fs), Arc::clone(&self.cache.0));
        let _held = inner.directory.lock().expect("nobody panics");
        let made = wait(|done| {
            let answer = Box::new(move |outcome| send(&done, outcome));
            fs.create_closed(&who, parent, OsStr::new(name), 0o600, answer);
        })?;
        *self.lookups.entry(made.attr.node).or_default() += 1;
        Ok(())
    }

    pub(crate) fn unlink(&mut self, uid: u32, path: &str) -> Result<(), i32> {
        let who = self.thread(uid);
        let (parent, name) = self.parent(&who, path, false)?;
        let (fs, inner) = (Arc::clone(&self.fs), Arc::clone(&self.cache.0));
        let _held = inner.directory.lock().expect("nobody panics");
        if let (_, FileKind::Directory) = self.component(&who, parent, name, false)? {
            return Err(EISDIR);
        }
        wait(|done| {
            let answer = Box::new(move |outcome| send(&done, outcome));
            fs.unlink(&who, parent, OsStr::new(name), answer);
        })?;
        self.cache.forget(parent, name);
        Ok(())
    }

    pub(crate) fn make_directory(&mut self, uid: u32, path: &str) -> Result<(), i32> {
        let who = self.thread(uid);
        let (parent, name) = self.parent(&who, path, false)?;
        if self.component(&who, parent, name, true).is_ok() {
            return Err(EEXIST);
        }
        let entry = self.fs.make_directory(&who, parent, OsStr::new(name)).map_err(number)?;
        assert_eq!(entry.attr.kind, FileKind::Directory);
        *self.lookups.entry(entry.attr.node).or_default() += 1;
        Ok(())
    }

    pub(crate) fn remove_directory(&mut self, uid: u32, path: &str) -> Result<(), i32> {
        let who = self.thread(uid);
        let (parent, name) = self.parent(&who, path, false)?;
        if let (_, FileKind::File) = self.component(&who, parent, name, false)? {
            return Err(ENOTDIR);
        }
        self.fs.remove_directory(&who, parent, OsStr::new(name)).map_err(number)?;
        self.cache.forget(parent, name);
        Ok(())
    }

    pub(crate) fn rename(
        &mut self,
        uid: u32,
        (from, to): (&str, &str),
        mode: RenameMode,
    ) -> Result<(), i32> {
        let who = self.thread(uid);
        let (from_parent, from_name) = self.parent(&who, from, false)?;
        let (to_parent, to_name) = self.parent(&who, to, false)?;
        let (fs, inner) = (Arc::clone(&self.fs), Arc::clone(&self.cache.0));
        let _held = inner.directory.lock().expect("nobody panics");
        let (source, kind) = self.component(&who, from_parent, from_name, false)?;
        let target = match self.component(&who, to_parent, to_name, true) {
            Err(ENOENT) => None,
            found => Some(found?),
        };
        if target.is_some() && mode == RenameMode::NoReplace {
            return Err(EEXIST);
        }
        match (kind, target) {
            (FileKind::Directory, _) if to == from => return Ok(()),
            (FileKind::Directory, _) if to.starts_with(&format!("{from}/")) => return Err(EINVAL),
            (_, Some(_)) if from.starts_with(&format!("{to}/")) => return Err(ENOTEMPTY),
            (FileKind::File, Some((_, FileKind::Directory))) => return Err(EISDIR),
            (FileKind::Directory, Some((_, FileKind::File))) => return Err(ENOTDIR),
            (_, Some((node, _))) if node == source => return Ok(()),
            _ => {}
        }
        wait(|done| {
            let answer = Box::new(move |outcome| send(&done, outcome));
            let (from, to) = (OsStr::new(from_name), OsStr::new(to_name));
            fs.rename(&who, from_parent, from, to_parent, to, mode, answer);
        })?;
        // It believes that the new name means the old node, until it is told otherwise.
        let mut names = inner.names.lock().expect("nobody panics");
        let moved = names.remove(&(from_parent, from_name.to_owned()));
        let place = (to_parent, to_name.to_owned());
        match moved {
            Some(moved) => names.insert(place, moved),
            None => names.remove(&place),
        };
        Ok(())
    }

    pub(crate) fn stat(&mut self, uid: u32, path: &str) -> Result<(FileKind, u64), i32> {
        let who = self.thread(uid);
        let (node, kind) = self.walk(&who, path, false)?;
        let attr = self.fs.attributes(&who, node).map_err(number)?;
        assert_eq!((attr.node, attr.kind), (node, kind));
        Ok((kind, attr.size))
    }

    /// The names in a directory, in the order in which they are told.
    pub(crate) fn list(&mut self, uid: u32, path: &str) -> Result<Vec<(String, FileKind)>, i32> {
        let who = self.thread(uid);
        let (node, _) = self.walk(&who, path, false)?;
        let opened = self.fs.open_directory(&who, node).map_err(number)?;
        let listed = self.fs.list(&who, node, opened.handle, true).map_err(number);
        self.fs.close_directory(opened.handle);
        Ok(listed?.iter().map(|one| (one.name.to_string(), one.kind)).collect())
    }
}
