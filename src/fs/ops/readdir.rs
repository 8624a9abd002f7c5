//! Listing directories.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::{Caller, SIDECAR_SUFFIX};
use crate::vault::ChildKind;

use crate::fs::budget::{Account, Charge, HANDLE_BYTES};
use crate::fs::files::encrypt::Encrypt;
use crate::fs::files::export::Exported;
use crate::fs::files::import::Import;
use crate::fs::files::status::StatusFile;
use crate::fs::kernel::directory_ids::directory_id;
use crate::fs::kernel::handles::{Handle, is_writer};
use crate::fs::kernel::nodes::Node;
use crate::fs::{FileKind, Fs, FsError, Opened, Request, join};

/// What an entry of a listing takes beside its name.
const LISTED_BYTES: usize = size_of::<Listed>() + 16;

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Box<str>,
    /// Its node's number.
    pub node: u64,
    /// File or directory.
    pub kind: FileKind,
}

/// An open directory: what it held when it was read first or rewound.
#[derive(Default)]
pub(in crate::fs) struct Listing(Mutex<Option<(Arc<[Listed]>, Charge)>>);

impl Fs {
    /// Opens a directory for listing.
    ///
    /// # Errors
    /// The node is not a directory, or the caller can see nothing in it.
    pub fn open_directory(&self, request: &Request, node: u64) -> Result<Opened, FsError> {
        let node = self.node(request, node)?;
        if !node.is_directory() {
            return Err(FsError::NotDirectory("the file".to_owned()));
        }
        let caller = self.caller(request)?;
        self.check_listing(request, &caller, &node)?;
        self.private(&caller, "the directory", Handle::Directory(Arc::default()))
    }

    /// Whether the caller may open a directory to list it: not if it can see nothing there. A process that
    /// lists a directory can keep it locked in the kernel, so this is refused to callers without a use for
    /// it.
    pub(in crate::fs) fn check_listing(
        &self,
        request: &Request,
        caller: &Caller,
        node: &Node,
    ) -> Result<(), FsError> {
        let may = caller.is_admin()
            || match node {
                Node::Directory(path) => {
                    self.sees_in(request, caller, path)
                        || self.is_directory_to(request, caller, path)
                }
                // Nothing is ever listed there.
                Node::Encrypt(Encrypt::Directory(_)) | Node::Exported(Exported::Directory(_)) => {
                    false
                }
                _ => true,
            };
        let what = "you can see nothing in it; open what you need by its name";
        if may { Ok(()) } else { Err(FsError::NoAccess { path: self.path_of(node), what }) }
    }

    /// What the caller sees in the directory, as it was when the handle was read first or rewound
    /// (`rewound`).
    ///
    /// # Errors
    /// The handle is not known, or the caller cannot be resolved.
    pub fn list(
        &self,
        request: &Request,
        node: u64,
        handle: u64,
        rewound: bool,
    ) -> Result<Arc<[Listed]>, FsError> {
        let listing = match self.handles.find(handle) {
            Ok(Handle::Directory(listing)) => listing,
            // The process that gave the handle was killed.
            Err(_) if !is_writer(handle) => {
                let listing = Arc::default();
                let account = Account::of(&*self.caller(request)?);
                let charge = self.budget.charge(account, HANDLE_BYTES, "the directory")?;
                self.handles.inherit(handle, Handle::Directory(Arc::clone(&listing)), charge);
                listing
            }
            Ok(_) | Err(_) => return Err(FsError::BadHandle),
        };
        let before = {
            let mut kept = listing.0.lock();
            match &*kept {
                Some((listed, _)) if !rewound => return Ok(Arc::clone(listed)),
                _ => kept.take(),
            }
        };
        drop(before);
        let listed = self.list_now(request, node)?;
        let names: usize = listed.iter().map(|one| one.name.len()).sum();
        let bytes = names + listed.len() * LISTED_BYTES;
        let account = Account::of(&*self.caller(request)?);
        let charge = self.budget.charge(account, bytes, "the directory")?;
        *listing.0.lock() = Some((Arc::clone(&listed), charge));
        Ok(listed)
    }

    /// Closes a directory.
    pub fn close_directory(&self, handle: u64) {
        self.handles.remove(handle);
    }

    fn list_now(&self, request: &Request, node: u64) -> Result<Arc<[Listed]>, FsError> {
        let caller = self.caller(request)?;
        match self.node(request, node)? {
            Node::Directory(path) => Ok(self.list_directory(request, &caller, &path)),
            Node::StatusDirectory => Ok(StatusFile::ALL
                .into_iter()
                .map(|file| Listed {
                    name: file.name().into(),
                    node: Node::Status(file, request.uid).number(),
                    kind: FileKind::File,
                })
                .collect()),
            Node::Import(Import::Directory(directory)) => {
                Ok(self.list_drop_box(request, &caller, &directory))
            }
            // What is there is found by name.
            Node::Encrypt(Encrypt::Directory(_)) | Node::Exported(Exported::Directory(_)) => {
                Ok(Arc::new([]))
            }
            _ => Err(FsError::NotDirectory("the file".to_owned())),
        }
    }

    fn list_directory(
        &self,
        request: &Request,
        caller: &Caller,
        directory: &Arc<str>,
    ) -> Arc<[Listed]> {
        // A file that was only created may be on its way into the store.
        self.settling.wait_for_below(directory);
        let mut listed = Vec::new();
        let mut directories = BTreeMap::new();
        for child in self.vault.children(caller, directory) {
            match child.kind {
                ChildKind::Directory => {
                    directories.insert(child.name, ());
                }
                ChildKind::Secret(secret) => {
                    if self.options.list_sidecars {
                        listed.push(Listed {
                            name: format!("{}{SIDECAR_SUFFIX}", child.name).into(),
                            node: Node::Sidecar(secret.record()).number(),
                            kind: FileKind::File,
                        });
                    }
                    let node = secret.value().node();
                    listed.push(Listed { name: child.name, node, kind: FileKind::File });
                }
            }
        }
        for name in self.directories_of(request, caller, directory) {
            directories.insert(name.into(), ());
        }
        listed.extend(directories.into_keys().map(|name| Listed {
            node: directory_id(&join(directory, &name)),
            name,
            kind: FileKind::Directory,
        }));
        listed.extend(self.scratch.names(request.uid, directory).into_iter().filter_map(|name| {
            let scratch = self.scratch.find(request.uid, directory, &name)?;
            Some(Listed { name: name.into(), node: scratch.node(), kind: FileKind::File })
        }));
        listed.into()
    }

    /// Whether the directory shows something to the caller, or is the caller's own. Admins see everything, so
    /// every existing directory shows something to them.
    pub(in crate::fs) fn sees_in(&self, request: &Request, caller: &Caller, path: &str) -> bool {
        let seen_by = (!caller.is_admin()).then_some(request.uid);
        caller.own_slug().is_some_and(|own| path.is_empty() || own.as_str() == path)
            || self.vault.sees_below(caller, path)
            || self.directories.is_seen(path, seen_by)
            || !self.scratch.names(request.uid, path).is_empty()
    }

    /// Directories that hold nothing yet: those that the caller made (an admin sees all), and the caller's
    /// own. Admins may create anywhere, so their own one is not shown: in the root, programs must find
    /// secrets only.
    fn directories_of(&self, request: &Request, caller: &Caller, directory: &str) -> Vec<String> {
        let seen_by = (!caller.is_admin()).then_some(request.uid);
        let prefix_length = if directory.is_empty() { 0 } else { directory.len() + 1 };
        let first = |path: &String| {
            let rest = &path[prefix_length..];
            rest.split('/').next().unwrap_or(rest).to_owned()
        };
        let made = self.directories.visible_below(directory, seen_by);
        let own = caller.own_slug().filter(|_| directory.is_empty() && !caller.is_admin());
        // An admin may have made a secret of that name.
        let own = own.filter(|own| self.vault.secret(own.as_str()).is_none());
        made.iter().map(first).chain(own.map(|slug| slug.to_string())).collect()
    }
}
