//! Names that come, go and change, and what there is under them.

use std::ffi::OsStr;
use std::sync::Arc;

use secretfs::fs::{FileKind, Opcode, RenameMode};

use super::super::errno::*;
use super::{Kernel, number};

impl Kernel {
    pub(crate) fn make_closed(&mut self, uid: u32, path: &str) -> Result<(), i32> {
        let request = self.thread(uid);
        let (parent, name) = self.parent(&request, path, false)?;
        if self.component(&request, parent, name, true).is_ok() {
            return Err(EEXIST);
        }
        let inner = Arc::clone(&self.cache.0);
        let _held = inner.directory.lock().expect("nobody panics");
        let made = self.run(&request, Opcode::Mknod, |fs, request| {
            fs.create_closed(request, parent, name.into(), 0o600)
        })?;
        *self.lookups.entry(made.attr.node).or_default() += 1;
        Ok(())
    }

    pub(crate) fn unlink(&mut self, uid: u32, path: &str) -> Result<(), i32> {
        let request = self.thread(uid);
        let (parent, name) = self.parent(&request, path, false)?;
        let inner = Arc::clone(&self.cache.0);
        let _held = inner.directory.lock().expect("nobody panics");
        if let (_, FileKind::Directory) = self.component(&request, parent, name, false)? {
            return Err(EISDIR);
        }
        self.run(&request, Opcode::Unlink, |fs, request| fs.unlink(request, parent, name.into()))?;
        self.cache.forget(parent, name);
        Ok(())
    }

    pub(crate) fn make_directory(&mut self, uid: u32, path: &str) -> Result<(), i32> {
        let request = self.thread(uid);
        let (parent, name) = self.parent(&request, path, false)?;
        if self.component(&request, parent, name, true).is_ok() {
            return Err(EEXIST);
        }
        let entry = self.fs.make_directory(&request, parent, OsStr::new(name)).map_err(number)?;
        assert_eq!(entry.attr.kind, FileKind::Directory);
        *self.lookups.entry(entry.attr.node).or_default() += 1;
        Ok(())
    }

    pub(crate) fn remove_directory(&mut self, uid: u32, path: &str) -> Result<(), i32> {
        let request = self.thread(uid);
        let (parent, name) = self.parent(&request, path, false)?;
        if let (_, FileKind::File) = self.component(&request, parent, name, false)? {
            return Err(ENOTDIR);
        }
        self.fs.remove_directory(&request, parent, OsStr::new(name)).map_err(number)?;
        self.cache.forget(parent, name);
        Ok(())
    }

    pub(crate) fn rename(
        &mut self,
        uid: u32,
        (from, to): (&str, &str),
        mode: RenameMode,
    ) -> Result<(), i32> {
        let request = self.thread(uid);
        let (from_parent, from_name) = self.parent(&request, from, false)?;
        let (to_parent, to_name) = self.parent(&request, to, false)?;
        let inner = Arc::clone(&self.cache.0);
        let _held = inner.directory.lock().expect("nobody panics");
        let (source, kind) = self.component(&request, from_parent, from_name, false)?;
        let target = match self.component(&request, to_parent, to_name, true) {
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
        let (old, new) = ((from_parent, from_name.into()), (to_parent, to_name.into()));
        self.run(&request, Opcode::Rename, |fs, request| fs.rename(request, old, new, mode))?;
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
        let request = self.thread(uid);
        let (node, kind) = self.walk(&request, path, false)?;
        let attr = self.fs.attributes(&request, node).map_err(number)?;
        assert_eq!((attr.node, attr.kind), (node, kind));
        Ok((kind, attr.size))
    }

    /// The names in a directory, in the order in which they are told.
    pub(crate) fn list(&mut self, uid: u32, path: &str) -> Result<Vec<(String, FileKind)>, i32> {
        let request = self.thread(uid);
        let (node, _) = self.walk(&request, path, false)?;
        let opened = self.fs.open_directory(&request, node).map_err(number)?;
        let listed = self.fs.list(&request, node, opened.handle, true).map_err(number);
        self.fs.close_directory(opened.handle);
        Ok(listed?.iter().map(|one| (one.name.to_string(), one.kind)).collect())
    }
}
