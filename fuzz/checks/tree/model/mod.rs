//! What the tree must look like: maps of paths, and the contract's rules written down once more.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use secretfs::document::emit_lists;
use secretfs::fs::FileKind;
use secretfs::model::{Acl, Operation, decide, is_temporary_name, may_see};

mod names;
mod writing;

use super::errno::*;
use super::people::caller;

#[derive(Clone)]
pub(crate) struct Secret {
    /// Stays the same through renames.
    id: u64,
    pub(crate) value: Vec<u8>,
    pub(crate) acl: Acl,
}

pub(crate) type Shared<T> = Rc<RefCell<T>>;

/// What one writer is writing.
pub(crate) struct Draft {
    uid: u32,
    pub(crate) target: Target,
    pub(crate) bytes: Vec<u8>,
    dirty: Dirty,
    /// The file was removed or replaced: nothing of it is published any more.
    ended: bool,
    flushed: bool,
    cut_off: bool,
    handles: usize,
}

#[derive(Clone, PartialEq)]
pub(crate) enum Target {
    Existing(u64),
    New { path: String, exclusive: bool },
    Lists(u64),
}

#[derive(Clone, Copy, PartialEq)]
enum Dirty {
    Clean,
    Emptied,
    Written,
}

/// What a name means to somebody.
pub(crate) enum Meaning {
    Directory,
    Secret,
    Sidecar(String),
    Creating(Shared<Draft>),
    Scratch(Shared<Vec<u8>>),
}

/// What an open gives.
#[derive(Clone)]
pub(crate) enum Open {
    /// Shows these bytes, whatever happens.
    Reader(Vec<u8>),
    Writer(Shared<Draft>),
    Scratch(Shared<Vec<u8>>),
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) secrets: BTreeMap<String, Secret>,
    made: BTreeMap<String, u32>,
    scratch: BTreeMap<(u32, String), Shared<Vec<u8>>>,
    /// All that are open, the newest last.
    drafts: Vec<Shared<Draft>>,
    next_id: u64,
}

pub(crate) fn parts(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn is_below(path: &str, directory: &str) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

fn allowed<G, D>(decision: Result<G, D>) -> Result<(), i32> {
    decision.map(drop).map_err(|_| EACCES)
}

impl Model {
    pub(crate) fn meaning(&self, uid: u32, path: &str) -> Result<Meaning, i32> {
        let (directory, name) = parts(path);
        if path.is_empty() {
            return Ok(Meaning::Directory);
        }
        match self.meaning(uid, directory)? {
            Meaning::Directory => {}
            _ => return Err(ENOTDIR),
        }
        if is_temporary_name(name) {
            let file = self.scratch.get(&(uid, path.to_owned())).ok_or(ENOENT)?;
            return Ok(Meaning::Scratch(Rc::clone(file)));
        }
        if self.secrets.contains_key(path) {
            return Ok(Meaning::Secret);
        }
        if self.holds_secrets(path) || self.made.contains_key(path) || self.holds_made(path) {
            return Ok(Meaning::Directory);
        }
        if let Some(key) = self.sidecar_of(path) {
            return Ok(Meaning::Sidecar(key.to_owned()));
        }
        if let Some(draft) = self.creating(uid, path) {
            return Ok(Meaning::Creating(draft));
        }
        let is_own = caller(uid).own_slug().is_some_and(|own| own.as_str() == path);
        let creates_below = self.drafts.iter().any(|draft| {
            let draft = draft.borrow();
            let below = matches!(&draft.target, Target::New { path: of, .. } if is_below(of, path));
            below && draft.uid == uid && !draft.ended
        });
        let exists = is_own || creates_below || self.has_scratch(uid, path);
        if exists { Ok(Meaning::Directory) } else { Err(ENOENT) }
    }

    pub(crate) fn is_directory(&self, uid: u32, path: &str) -> Result<(), i32> {
        match self.meaning(uid, path)? {
            Meaning::Directory => Ok(()),
            _ => Err(ENOTDIR),
        }
    }

    /// How many there are.
    pub(crate) fn made_directories(&self) -> usize {
        self.made.len()
    }

    fn holds_secrets(&self, path: &str) -> bool {
        path.is_empty() || self.secrets.keys().any(|key| is_below(key, path))
    }

    fn holds_made(&self, path: &str) -> bool {
        self.made.keys().any(|directory| is_below(directory, path))
    }

    fn has_scratch(&self, uid: u32, directory: &str) -> bool {
        self.scratch.keys().any(|(of, path)| *of == uid && parts(path).0 == directory)
    }

    /// The secret whose sidecar the path is.
    fn sidecar_of<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_suffix(".acl").filter(|key| self.secrets.contains_key(*key))
    }

    fn creating(&self, uid: u32, path: &str) -> Option<Shared<Draft>> {
        let is_it = |draft: &&Shared<Draft>| {
            let draft = draft.borrow();
            let here = matches!(&draft.target, Target::New { path: of, .. } if of == path);
            here && draft.uid == uid && !draft.ended
        };
        self.drafts.iter().rev().find(is_it).cloned()
    }

    fn by_id(&self, id: u64) -> Option<String> {
        self.secrets.iter().find(|(_, secret)| secret.id == id).map(|(key, _)| key.clone())
    }

    pub(crate) fn may(&self, uid: u32, operation: Operation, key: &str) -> Result<(), i32> {
        allowed(decide(&caller(uid), operation, &self.secrets[key].acl))
    }

    pub(crate) fn stat(&self, uid: u32, path: &str) -> Result<(FileKind, u64), i32> {
        Ok(match self.meaning(uid, path)? {
            Meaning::Directory => (FileKind::Directory, 0),
            Meaning::Secret => (FileKind::File, self.secrets[path].value.len() as u64),
            Meaning::Sidecar(key) => {
                let shown = self.may(uid, Operation::ReadLists, &key).is_ok();
                let size = if shown { emit_lists(&self.secrets[&key].acl).len() } else { 0 };
                (FileKind::File, size as u64)
            }
            Meaning::Creating(draft) => (FileKind::File, draft.borrow().bytes.len() as u64),
            Meaning::Scratch(file) => (FileKind::File, file.borrow().len() as u64),
        })
    }

    pub(crate) fn list(&self, uid: u32, directory: &str) -> Result<BTreeSet<(String, bool)>, i32> {
        self.is_directory(uid, directory)?;
        let person = caller(uid);
        let first = |path: &str| {
            let rest = if directory.is_empty() { path } else { &path[directory.len() + 1..] };
            rest.split_once('/')
                .map_or((rest.to_owned(), false), |(name, _)| (name.to_owned(), true))
        };
        let seen = self.secrets.iter().filter(|(key, _)| is_below(key, directory));
        let seen = seen.filter(|(_, secret)| may_see(&person, &secret.acl));
        let mut listed: BTreeSet<_> = seen.map(|(key, _)| first(key)).collect();
        let made = self.made.iter().filter(|(path, _)| is_below(path, directory));
        let made = made.filter(|(_, maker)| person.is_admin() || **maker == uid);
        listed.extend(made.map(|(path, _)| (first(path).0, true)));
        let own = person.own_slug().filter(|_| directory.is_empty() && !person.is_admin());
        if let Some(own) = own.filter(|own| !self.secrets.contains_key(own.as_str())) {
            listed.insert((own.to_string(), true));
        }
        let scratch = self.scratch.keys();
        let scratch = scratch.filter(|(of, path)| *of == uid && parts(path).0 == directory);
        listed.extend(scratch.map(|(_, path)| (parts(path).1.to_owned(), false)));
        Ok(listed)
    }
}
