//! From names to nodes.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use crate::document::emit_lists;
use crate::model::{Caller, Key, KeyError, MAX_COMPONENT_BYTES, Operation, SIDECAR_SUFFIX};
use crate::vault::{Secret, Value};

use crate::fs::attr::{DIRECTORY_MODE, ENCRYPT_MODE, SECRET_MODE};
use crate::fs::budget::Account;
use crate::fs::files::draft::Draft;
use crate::fs::files::encrypt::{ENCRYPT_NAME, Encrypt};
use crate::fs::files::export::{EXPORT_ALL_NAME, EXPORT_NAME, Exported};
use crate::fs::files::import::{IMPORT_NAME, Import};
use crate::fs::files::status::StatusFile;
use crate::fs::kernel::directory_ids::directory_id;
use crate::fs::kernel::nodes::Node;
use crate::fs::kernel::retries::Note;
use crate::fs::{Attr, Entry, FOREVER, FileKind, Fs, FsError, NEVER, Request, join};

/// The directory of status files, in the root.
pub(in crate::fs) const STATUS_NAME: &str = ".status";

/// Whether a path has a meaning of its own, so that no scratch file can have it.
pub(in crate::fs) fn is_reserved(path: &str) -> bool {
    matches!(path, STATUS_NAME | ENCRYPT_NAME | EXPORT_NAME | EXPORT_ALL_NAME | IMPORT_NAME)
}

impl Fs {
    /// What `name` in the directory `parent` means to this caller. The kernel knows the node from now
    /// on, until it says [`Fs::forget`].
    ///
    /// # Errors
    /// [`FsError::NotFound`], the name is longer than any can be, or the caller cannot be resolved.
    pub fn look_up(&self, request: &Request, parent: u64, name: &OsStr) -> Result<Entry, FsError> {
        let not_found = || FsError::NotFound(name.to_string_lossy().into_owned());
        let caller = self.caller(request)?;
        let text = || name.to_str().ok_or_else(not_found);
        loop {
            let (node, lifetime) = match self.node(request, parent)? {
                // In `.encrypt` a name may have a prefix.
                Node::Directory(directory) if name.len() > MAX_COMPONENT_BYTES => {
                    let path = join(&directory, &name.to_string_lossy());
                    return Err(FsError::BadName { path, error: KeyError::ComponentTooLong });
                }
                Node::Directory(directory) => {
                    self.find(request, &caller, &directory, text()?)?.ok_or_else(not_found)?
                }
                Node::StatusDirectory => {
                    let file = StatusFile::parse(text()?).ok_or_else(not_found)?;
                    (Node::Status(file, request.uid), NEVER)
                }
                Node::Encrypt(Encrypt::Directory(directory)) => {
                    self.nodes.touch(parent);
                    (self.find_to_encrypt(request, &caller, &directory, name)?.into(), NEVER)
                }
                Node::Import(Import::Directory(directory)) => {
                    let found = self.find_in_drop_box(request, &caller, &directory, text()?);
                    (found.ok_or_else(not_found)?.into(), NEVER)
                }
                Node::Exported(Exported::Directory(directory)) => {
                    let found = self.find_export(request, &caller, &directory, text()?);
                    (found.ok_or_else(not_found)?.into(), NEVER)
                }
                _ => return Err(FsError::NotDirectory(name.to_string_lossy().into_owned())),
            };
            if node.is_transient() {
                let (account, path) = (Account::of(&caller), self.path_of(&node));
                self.nodes.look_up_transient(&node, &self.budget, account, &path)?;
            } else {
                self.nodes.look_up(&node);
            }
            // Between the index and the table of nodes a commit may have replaced this version, and
            // have seen nothing to make the kernel forget.
            if lifetime == FOREVER && self.is_outdated(&node) {
                self.forget(node.number(), 1);
                continue;
            }
            let attr = self.attr_of(&node, &caller)?;
            return Ok(Entry {
                attr: Self::owned_by_writer(request, &caller, &node, attr),
                lifetime,
            });
        }
    }

    /// The attributes of a node. Those of a private node that is open are shown to other UIDs, too: the
    /// kernel does not tell whether the descriptor of an open file was passed on (a shell's redirection
    /// for `sudo`), and then the file's size must be true.
    ///
    /// # Errors
    /// [`FsError::Stale`] if the node is not known, or the caller cannot be resolved.
    pub fn attributes(&self, request: &Request, number: u64) -> Result<Attr, FsError> {
        let node = self.any_node(request, number)?;
        // Every caller is shown the same of a version.
        if let Node::Value(value) = &node {
            return Ok(self.version_attr(value));
        }
        if !node.is_open() {
            self.check_reachable(request, &node)?;
        }
        let attr = self.attr_of(&node, &*self.caller(request)?)?;
        // That of a directory that was renamed may still be known by another number.
        Ok(Attr { node: number, ..attr })
    }

    pub(in crate::fs) fn is_outdated(&self, node: &Node) -> bool {
        let Node::Value(value) = node else { return false };
        let current = self.vault.secret_of(value.record());
        current.is_none_or(|secret| secret.value().node() != value.node())
    }

    /// The order matters: what is stored comes before what is being made.
    fn find(
        &self,
        request: &Request,
        caller: &Caller,
        directory: &Arc<str>,
        name: &str,
    ) -> Result<Option<(Node, Duration)>, FsError> {
        if directory.is_empty()
            && let Some(node) = self.find_reserved(request, name)
        {
            return Ok(Some((node, NEVER)));
        }
        if self.scratch.is_name(request.uid, directory, name) {
            let scratch = self.scratch.find(request.uid, directory, name);
            return Ok(scratch.map(|scratch| (Node::Scratch(scratch), NEVER)));
        }
        let path = join(directory, name);
        self.settling.wait_for(&path);
        if let Some(secret) = self.vault.secret(&path) {
            let found = self.node_for_retry(request, &path, &secret, |node| {
                let (opener, base) = (self.opener(request, caller, &path)?, secret.value());
                Ok(Draft::of_value(node, opener, &path, Arc::clone(base), SECRET_MODE))
            });
            return found.map(Some);
        }
        // A file that was only created makes its directory and its sidecar exist, too.
        self.settling.wait_for_around(&path);
        if self.vault.is_directory(&path) || self.directories.holds(&path) {
            return Ok(Some((Node::Directory(path.into()), FOREVER)));
        }
        if let Some(secret) =
            path.strip_suffix(SIDECAR_SUFFIX).and_then(|key| self.vault.secret(key))
        {
            return self.sidecar_for_retry(request, caller, &path, &secret).map(Some);
        }
        if let Some(draft) = self.drafts.creating(&path, request) {
            return Ok(Some((Node::Draft(draft), NEVER)));
        }
        let is_directory = self.is_directory_to(request, caller, &path);
        Ok(is_directory.then(|| (Node::Directory(path.into()), NEVER)))
    }

    /// Names in the root that mean something of their own.
    fn find_reserved(&self, request: &Request, name: &str) -> Option<Node> {
        match name {
            STATUS_NAME => Some(Node::StatusDirectory),
            ENCRYPT_NAME => Some(Encrypt::top().into()),
            EXPORT_NAME => Some(Exported::top().into()),
            IMPORT_NAME => Some(Import::top().into()),
            EXPORT_ALL_NAME => Some(self.export_file(request, "").into()),
            _ => None,
        }
    }

    /// Directories that exist for this caller alone.
    pub(in crate::fs) fn is_directory_to(
        &self,
        request: &Request,
        caller: &Caller,
        path: &str,
    ) -> bool {
        caller.own_slug().is_some_and(|own| own.as_str() == path)
            || self.drafts.creates_below(path, request.uid)
            || !self.scratch.names(request.uid, path).is_empty()
            || self.was_emptied_by(request, path)
    }

    /// Whether this process removed what made the directory exist: it may be about to put another secret
    /// there (`mv`, `install`), or to remove the directory (`rm -r`).
    pub(in crate::fs) fn was_emptied_by(&self, request: &Request, path: &str) -> bool {
        let is_it = |note: &mut Note| match note {
            Note::Replaced { key, .. } if is_below(key, path) => Some(()),
            _ => None,
        };
        self.find_of_process(request, is_it).is_some()
    }

    /// The version's node, or the thread's own draft if the thread repeats the lookup in order to write.
    fn node_for_retry(
        &self,
        request: &Request,
        path: &str,
        secret: &Arc<Secret>,
        make_draft: impl FnOnce(u64) -> Result<Draft, FsError>,
    ) -> Result<(Node, Duration), FsError> {
        if let Some(draft) = self.draft_for_retry(request, path, make_draft) {
            return Ok((Node::Draft(draft?), NEVER));
        }
        self.tasks.serve(request, secret.value().node());
        Ok((Node::Value(Arc::clone(secret.value())), FOREVER))
    }

    fn sidecar_for_retry(
        &self,
        request: &Request,
        caller: &Caller,
        path: &str,
        secret: &Arc<Secret>,
    ) -> Result<(Node, Duration), FsError> {
        let make = |node| {
            let (opener, text) = (self.opener(request, caller, path)?, emit_lists(secret.acl()));
            Draft::of_lists(node, opener, path, secret.record(), &text)
        };
        Ok(match self.draft_for_retry(request, path, make) {
            Some(draft) => (Node::Draft(draft?), NEVER),
            None => (Node::Sidecar(secret.record()), NEVER),
        })
    }

    /// The kernel looks the path up twice; both lookups get the same draft.
    fn draft_for_retry(
        &self,
        request: &Request,
        path: &str,
        make_draft: impl FnOnce(u64) -> Result<Draft, FsError>,
    ) -> Option<Result<Arc<Draft>, FsError>> {
        if request.task == 0 {
            let is_due = |note: &mut Note| match note {
                Note::Shared { path: of, .. } if of.as_ref().is_none_or(|of| of == path) => {
                    Some(())
                }
                _ => None,
            };
            self.tasks.find(request, is_due)?;
            return Some(make_draft(self.nodes.next_private()).map(Arc::new));
        }
        let mut make_draft = Some(make_draft);
        self.tasks.find(request, |note| match note {
            Note::Rewrite { only: Some(_), .. } => None,
            // The thread has changed its UID since.
            Note::Rewrite { draft: Some(draft), .. } if draft.uid() != request.uid => None,
            Note::Rewrite { path: Some(other), .. } if other != path => None,
            Note::Rewrite { draft: Some(draft), .. } => Some(Ok(Arc::clone(draft))),
            Note::Rewrite { path: of, draft, .. } => {
                *of = Some(path.to_owned());
                let made = make_draft.take()?(self.nodes.next_private());
                Some(made.map(|made| Arc::clone(draft.insert(Arc::new(made)))))
            }
            _ => None,
        })
    }

    pub(in crate::fs) fn attr_of(&self, node: &Node, caller: &Caller) -> Result<Attr, FsError> {
        let modified = self.vault.last_change().into();
        let file = Attr { modified, ..Attr::of_file(node.number()) };
        Ok(match node {
            Node::Value(value) => self.version_attr(value),
            Node::Directory(_)
            | Node::StatusDirectory
            | Node::Encrypt(Encrypt::Directory(_))
            | Node::Exported(Exported::Directory(_)) => {
                Attr { kind: FileKind::Directory, mode: DIRECTORY_MODE, ..file }
            }
            Node::Import(node) => self.drop_box_attr(node, caller, file),
            Node::Encrypt(Encrypt::File(open)) => {
                Attr { inode: open.inode(), size: open.size(), mode: ENCRYPT_MODE, ..file }
            }
            Node::Exported(Exported::File(open)) => {
                let (inode, size) = (open.inode(), self.export_size(open, caller));
                Attr { inode, size, mode: 0o444, ..file }
            }
            Node::Sidecar(record) => {
                let secret = self.vault.secret_of(*record).ok_or(FsError::Stale)?;
                let shown = self.vault.check(caller, Operation::ReadLists, &secret).is_ok();
                let size = if shown { emit_lists(secret.acl()).len() as u64 } else { 0 };
                Attr { size, mode: 0o600, ..file }
            }
            Node::Draft(draft) => {
                let ((size, mode, modified), (uid, gid)) = (draft.shown(), draft.owner());
                Attr { inode: draft.inode(), size, mode, uid, gid, modified, ..file }
            }
            Node::Scratch(scratch) => {
                let ((size, mode, modified), (uid, gid)) = (scratch.shown(), scratch.owner());
                Attr { size, mode, uid, gid, modified, ..file }
            }
            Node::Status(status, _) => {
                let size = self.status_text(*status, caller).len() as u64;
                Attr { size, mode: status.mode(), ..file }
            }
        })
    }

    fn version_attr(&self, value: &Value) -> Attr {
        let follows = value.is_superseded() || self.bound.contains(value.node());
        let other = self.locking_readers.shown_on(value.node());
        let shown = other.as_deref().unwrap_or(value);
        Attr {
            size: u64::from(shown.size()),
            modified: shown.updated().into(),
            lifetime: if follows { NEVER } else { FOREVER },
            ..Attr::of_file(value.node())
        }
    }

    /// The node under which the kernel knows the directory of a key.
    pub(in crate::fs) fn directory_node(path: &str) -> u64 {
        directory_id(path)
    }
}

/// Whether `path` lies below `directory`; everything lies below the empty one.
pub(in crate::fs) fn is_below(path: &str, directory: &str) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// The key whose sidecar this path is, if it has the form of one.
pub(in crate::fs) fn sidecar_key(path: &str) -> Option<Key> {
    Key::parse(path.strip_suffix(SIDECAR_SUFFIX)?).ok()
}
