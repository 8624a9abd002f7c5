//! access(2), and the space that is left.

use crate::model::{Caller, Operation};
use crate::store::Space;
use crate::vault::{RecordId, WriteTarget};

use crate::fs::files::draft::Target;
use crate::fs::files::encrypt::Encrypt;
use crate::fs::files::import::Import;
use crate::fs::files::status::StatusFile;
use crate::fs::kernel::nodes::Node;
use crate::fs::{Fs, FsError, Request};

/// What a caller asks whether it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Read, or list.
    pub read: bool,
    /// Write, or make something in it.
    pub write: bool,
    /// Execute, or pass through.
    pub execute: bool,
}

impl Fs {
    /// Whether the caller may do these, by the rules that hold for doing them.
    ///
    /// # Errors
    /// It may not.
    pub fn access(&self, request: &Request, node: u64, wanted: Wanted) -> Result<(), FsError> {
        let caller = self.caller(request)?;
        let node = self.any_node(request, node)?;
        let no = |what| Err(FsError::NoAccess { path: self.path_of(&node), what });
        if !matches!(node, Node::Draft(_)) {
            self.check_reachable(request, &node)?;
        }
        if wanted.execute && !node.is_directory() {
            return no("a secret is not a program; read it");
        }
        if wanted.read && node.is_directory() {
            self.check_listing(request, &caller, &node)?;
        }
        match &node {
            Node::Directory(directory) if wanted.write => self.may_make(&caller, directory, "x"),
            Node::Status(StatusFile::Rekey, _) if wanted.read || wanted.write => {
                Ok(self.vault.check_rekey(&caller)?)
            }
            Node::Encrypt(Encrypt::File(_)) => Ok(()),
            Node::StatusDirectory
            | Node::Status(..)
            | Node::Encrypt(_)
            | Node::Exported(_)
            | Node::Import(Import::Report(_))
                if wanted.write =>
            {
                no("nothing can be written here; read it")
            }
            Node::Value(value) => self.access_value(&caller, value.record(), wanted),
            Node::Sidecar(record) => self.access_lists(&caller, *record, wanted),
            // If the secret exists, its lists decide the answer for every caller.
            Node::Draft(draft) => match draft.target() {
                Target::Value(WriteTarget::Existing(record)) => {
                    self.access_value(&caller, record, wanted)
                }
                Target::Lists(record) => self.access_lists(&caller, record, wanted),
                Target::Value(WriteTarget::New { .. }) => self.check_reachable(request, &node),
            },
            _ => Ok(()),
        }
    }

    fn access_value(
        &self,
        caller: &Caller,
        record: RecordId,
        wanted: Wanted,
    ) -> Result<(), FsError> {
        let secret = self.vault.secret_of(record).ok_or(FsError::Stale)?;
        if wanted.read {
            self.vault.check(caller, Operation::Read, &secret)?;
        }
        if wanted.write {
            self.vault.check(caller, Operation::Write, &secret)?;
        }
        Ok(())
    }

    fn access_lists(
        &self,
        caller: &Caller,
        record: RecordId,
        wanted: Wanted,
    ) -> Result<(), FsError> {
        let secret = self.vault.secret_of(record).ok_or(FsError::Stale)?;
        if wanted.read || wanted.write {
            self.vault.check(caller, Operation::ReadLists, &secret)?;
        }
        Ok(())
    }

    /// The space of the file system that holds the store. How many secrets there are is for admins
    /// (`.status/metrics`).
    ///
    /// # Errors
    /// The store cannot tell.
    pub fn space(&self) -> Result<Space, FsError> {
        Ok(self.vault.space()?)
    }
}
