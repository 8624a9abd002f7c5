//! Changing attributes: truncation is a write, the rest changes nothing that is kept.

use std::sync::Arc;
use std::time::SystemTime;

use crate::audit::Action;
use crate::document::emit_lists;
use crate::model::{Caller, Operation, SIDECAR_SUFFIX, may_create};
use crate::vault::RecordId;

use crate::fs::files::draft::{Draft, Occasion, within_limit};
use crate::fs::files::encrypt::Encrypt;
use crate::fs::files::import::Import;
use crate::fs::files::status::StatusFile;
use crate::fs::kernel::handles::{Handle, is_version};
use crate::fs::kernel::nodes::Node;
use crate::fs::kernel::retries::Note;
use crate::fs::{Attr, Fs, FsError, Request, join};

/// The bits of a mode that let a program run as its owner or group.
const SET_ID: u32 = 0o6000;

/// What is to be changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    /// The mode.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The size in bytes.
    pub size: Option<u64>,
    /// The time of the last change.
    pub modified: Option<SystemTime>,
}

impl Fs {
    /// Changes attributes. A truncation by path is stored before the answer; one of an open file
    /// belongs to its handle.
    ///
    /// # Errors
    /// The caller may not, or what was truncated cannot be stored.
    pub async fn set_attributes(
        self: Arc<Self>,
        mut request: Request,
        number: u64,
        handle: Option<u64>,
        changes: Changes,
    ) -> Result<Attr, FsError> {
        let by_path = changes.size.is_some() && handle.is_none();
        let is_done = by_path && self.was_done(&request)?;
        // What was truncated by path has no draft any more; what it shows is what was stored.
        let node = self.node_or_draft(&request, number, is_done)?;
        // An open descriptor keeps what it was granted: any process that has it may truncate the file
        // through it.
        if changes.size.is_none() || handle.is_none_or(is_version) {
            self.check_reachable(&request, &node)?;
        }
        self.check_changes(&request, &node, &changes)?;
        let Some(size) = changes.size else {
            self.keep_changes(&node, &changes);
            return self.attributes_after_change(&request, &node);
        };
        if !is_done {
            match self.truncate(&request, &node, handle, size) {
                Ok(Truncated::Saved) => {}
                Ok(Truncated::ToStore(draft)) => {
                    self.commit(&request, &draft, Occasion::Sync).await?;
                }
                Err(error) => return Err(self.record_denial(&mut request, &node, error).await),
            }
        }
        self.attributes(&request, number)
    }

    /// A denial is all that is recorded of a truncation: what is allowed is recorded when it is
    /// stored.
    async fn record_denial(&self, request: &mut Request, node: &Node, error: FsError) -> FsError {
        let action = match node {
            Node::Sidecar(_) => Action::ChangeLists,
            _ => Action::Commit,
        };
        request.decision = Self::denial(action, &error);
        self.record(request, Some(&error)).await.err().unwrap_or(error)
    }

    /// Mode and owner change nothing that is stored. Programs that copy set them after they wrote, so a caller
    /// that may write the node may set any mode. Times are whatever the caller likes.
    fn check_changes(
        &self,
        request: &Request,
        node: &Node,
        changes: &Changes,
    ) -> Result<(), FsError> {
        let forbidden = |what| Err(FsError::Forbidden { path: self.path_of(node), what });
        if !self.shows_owner(request, node, changes)? {
            return forbidden("its owner cannot be changed; put slugs into its lists instead");
        }
        match changes.mode {
            None => Ok(()),
            Some(mode) if mode & SET_ID != 0 => forbidden(
                "set-user-ID and set-group-ID have no effect here; set a mode without them",
            ),
            Some(_) if self.may_write(request, node)? => Ok(()),
            Some(_) => forbidden("you may not write it, so you may not set its mode; leave it"),
        }
    }

    /// Whether the owner to set is the one that is shown, and so is the group. With that owner, a caller that may write
    /// the node may name any group, which changes nothing: rsync, tar and `cp -a` set both in one call.
    fn shows_owner(
        &self,
        request: &Request,
        node: &Node,
        changes: &Changes,
    ) -> Result<bool, FsError> {
        let (uid, gid) = match node {
            Node::Scratch(scratch) => scratch.owner(),
            Node::Draft(draft) => draft.owner(),
            Node::Import(Import::File(file)) => file.owner(),
            // Directories of the drop directory are the caller's own; their group means nothing.
            Node::Import(Import::Directory(_)) => (request.uid, changes.gid.unwrap_or(request.gid)),
            _ => (0, 0),
        };
        Ok(match (changes.uid, changes.gid) {
            (Some(new), _) if new != uid => false,
            (_, None) => true,
            (_, Some(new)) if new == gid => true,
            (Some(_), Some(_)) => self.may_write(request, node)?,
            (None, Some(_)) => false,
        })
    }

    /// Whether the caller may write a file, or create something in a directory.
    fn may_write(&self, request: &Request, node: &Node) -> Result<bool, FsError> {
        let allowed = |operation, record| {
            let secret = self.vault.secret_of(record).ok_or(FsError::Stale)?;
            Ok(self.vault.check(&*self.caller(request)?, operation, &secret).is_ok())
        };
        match node {
            Node::Value(value) => allowed(Operation::Write, value.record()),
            // What a sidecar's writer may change is decided when it is committed.
            Node::Sidecar(record) => allowed(Operation::ReadLists, *record),
            Node::Directory(path) => Ok(may_write_directory(&*self.caller(request)?, path)),
            Node::Status(StatusFile::Rekey, _) => Ok(self.caller(request)?.is_admin()),
            Node::Draft(_)
            | Node::Scratch(_)
            | Node::Encrypt(_)
            | Node::Import(Import::File(_) | Import::Directory(_)) => Ok(true),
            Node::StatusDirectory
            | Node::Status(..)
            | Node::Exported(_)
            | Node::Import(Import::Report(_)) => Ok(false),
        }
    }

    fn attributes_after_change(&self, request: &Request, node: &Node) -> Result<Attr, FsError> {
        let attr = self.attributes(request, node.number())?;
        Ok(Self::owned_by_writer(request, &*self.caller(request)?, node, attr))
    }

    /// The attributes with which a lookup or a change of attributes is answered: to a caller that may write a
    /// directory they tell the kernel that the caller owns it. The kernel uses that for its own checks alone; each
    /// stat(2) asks again, and shows root. `cp -a` sets the POSIX ACL of a directory after its times, which the kernel
    /// lets only the owner try: EPERM is an error to cp, EOPNOTSUPP, which it gets from here, is not.
    pub(in crate::fs) fn owned_by_writer(
        request: &Request,
        caller: &Caller,
        node: &Node,
        attr: Attr,
    ) -> Attr {
        match node {
            Node::Directory(path) if may_write_directory(caller, path) => {
                Attr { uid: request.uid, gid: request.gid, ..attr }
            }
            _ => attr,
        }
    }

    /// Private files keep what they are given, as long as they last.
    fn keep_changes(&self, node: &Node, changes: &Changes) {
        let mode = changes.mode.map(|mode| (mode & 0o777) as u16);
        match node {
            Node::Draft(draft) => mode.into_iter().for_each(|mode| draft.set_mode(mode)),
            Node::Import(Import::File(file)) => {
                mode.into_iter().for_each(|mode| file.set_mode(mode));
                changes.modified.into_iter().for_each(|time| file.set_modified(time));
            }
            Node::Scratch(scratch) => {
                mode.into_iter().for_each(|mode| scratch.set_mode(mode));
                changes.modified.into_iter().for_each(|time| scratch.set_modified(time));
            }
            _ => {}
        }
    }

    fn truncate(
        &self,
        request: &Request,
        node: &Node,
        handle: Option<u64>,
        size: u64,
    ) -> Result<Truncated, FsError> {
        if let Some(handle) = handle.filter(|&handle| handle != 0) {
            match self.handles.find(handle).map_err(|_| FsError::Lost)? {
                Handle::Draft(draft) => draft.resize(&self.vault, size)?,
                Handle::Scratch(scratch) => scratch.resize(&self.vault, size)?,
                Handle::ImportFile(file) => file.resize(size)?,
                Handle::EncryptSession(sealing) => sealing.resize(size)?,
                // `>` truncates first.
                Handle::Control(_) => {}
                Handle::Version { .. }
                | Handle::View(_)
                | Handle::Text(_)
                | Handle::Export(_)
                | Handle::Directory(_) => {
                    return Err(FsError::BadHandle);
                }
            }
            return Ok(Truncated::Saved);
        }
        match node {
            Node::Draft(draft) => {
                draft.resize(&self.vault, size)?;
                // `open` with O_TRUNC truncates what it has opened; `truncate` has opened nothing.
                if draft.is_open() {
                    return Ok(Truncated::Saved);
                }
                self.forget_rewrite(request, draft);
                Ok(Truncated::ToStore(Arc::clone(draft)))
            }
            Node::Scratch(scratch) => scratch.resize(&self.vault, size).map(|()| Truncated::Saved),
            Node::Import(Import::File(file)) => file.resize(size).map(|()| Truncated::Saved),
            Node::Import(Import::Report(_)) => {
                Err(crate::fs::nothing_is_made_in(&self.path_of(node)))
            }
            Node::Import(Import::Directory(_)) => Err(FsError::IsDirectory(self.path_of(node))),
            Node::Value(value) => {
                let make = || {
                    let secret = self.vault.secret_of(value.record()).ok_or(FsError::Stale)?;
                    self.draft_to_truncate(request, &secret)
                };
                if let Some(draft) = self.truncate_bound(request, value.node(), size, make)? {
                    return Ok(draft.map_or(Truncated::Saved, Truncated::ToStore));
                }
                let (record, operation) = (value.record(), Operation::Write);
                Err(self.retry_truncation(request, value.node(), record, operation, size)?)
            }
            Node::Sidecar(record) => {
                let make = || {
                    let secret = self.vault.secret_of(*record).ok_or(FsError::Stale)?;
                    let caller = self.caller(request)?;
                    self.vault.check(&caller, Operation::ReadLists, &secret)?;
                    let (path, text) = (self.path_of(node), emit_lists(secret.acl()));
                    let private = self.nodes.next_private();
                    let opener = self.opener(request, &caller, &path)?;
                    Draft::of_lists(private, opener, &path, *record, &text)
                };
                if let Some(draft) = self.truncate_bound(request, node.number(), size, make)? {
                    return Ok(draft.map_or(Truncated::Saved, Truncated::ToStore));
                }
                let operation = Operation::ReadLists;
                Err(self.retry_truncation(request, node.number(), *record, operation, size)?)
            }
            Node::Directory(path) => Err(FsError::IsDirectory(path.to_string())),
            Node::Status(StatusFile::Rekey, _) => {
                self.vault.check_rekey(&*self.caller(request)?)?;
                Ok(Truncated::Saved)
            }
            // What a descriptor holds is cut through the descriptor.
            Node::Encrypt(Encrypt::File(_)) => Ok(Truncated::Saved),
            Node::StatusDirectory | Node::Status(..) | Node::Encrypt(_) | Node::Exported(_) => {
                Err(crate::fs::nothing_is_made_in(&self.path_of(node)))
            }
        }
    }

    /// As for an open: the thread's next lookup gives it a draft to truncate.
    fn retry_truncation(
        &self,
        request: &Request,
        node: u64,
        record: RecordId,
        operation: Operation,
        size: u64,
    ) -> Result<FsError, FsError> {
        let caller = self.caller(request)?;
        let Some(secret) = self.vault.secret_of(record) else {
            return Ok(self.retry_as_draft(request, &caller, node, None));
        };
        self.vault.check(&caller, operation, &secret)?;
        let path = match operation {
            Operation::Write => secret.key().to_string(),
            _ => format!("{}{SIDECAR_SUFFIX}", secret.key()),
        };
        within_limit(size, 0, &path)?;
        Ok(self.retry_as_draft(request, &caller, node, Some(path)))
    }

    fn forget_rewrite(&self, request: &Request, draft: &Arc<Draft>) {
        self.tasks.take(request, Some(draft.node()), |note| match note {
            Note::Rewrite { draft: Some(own), .. } if Arc::ptr_eq(own, draft) => Some(()),
            _ => None,
        });
    }

    /// How a node is called in an error.
    pub(in crate::fs) fn path_of(&self, node: &Node) -> String {
        let key = |record| {
            self.vault
                .secret_of(record)
                .map_or_else(|| "a removed secret".to_owned(), |secret| secret.key().to_string())
        };
        match node {
            Node::Directory(path) => format!("{path}/"),
            Node::Value(value) => key(value.record()),
            Node::Sidecar(record) => key(*record) + SIDECAR_SUFFIX,
            Node::Draft(draft) => draft.path(),
            Node::Scratch(_) => "a scratch file".to_owned(),
            Node::StatusDirectory => ".status/".to_owned(),
            Node::Status(file, _) => format!(".status/{}", file.name()),
            Node::Encrypt(node) => node.path(),
            Node::Exported(node) => node.path(),
            Node::Import(node) => node.path(),
        }
    }
}

/// Whether the caller may create something in a directory.
fn may_write_directory(caller: &Caller, path: &str) -> bool {
    may_create(caller, &join(path, "K")).is_ok()
}

enum Truncated {
    /// In the buffer of a handle.
    Saved,
    /// Of a file that is not open.
    ToStore(Arc<Draft>),
}
