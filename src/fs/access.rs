//! access(2), and the space that is left.

use crate::model::Operation;
use crate::store::Space;

use super::encrypt::Encrypt;
use super::import::Import;
use super::nodes::Node;
use super::status::StatusFile;
use super::{Fs, FsError, Requester};

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
    pub fn access(&self, who: &Requester, node: u64, wanted: Wanted) -> Result<(), FsError> {
        let caller = self.caller(who)?;
        let node = self.node(node)?;
        let no = |what| Err(FsError::NoAccess { path: self.path_of(&node), what });
        if wanted.execute && !node.is_folder() {
            return no("a secret is not a program; read it");
        }
        match &node {
            Node::Folder(folder) if wanted.write => self.may_make(&caller, folder, "x"),
            Node::Status(StatusFile::Rekey) if wanted.read || wanted.write => {
                Ok(self.vault.check_rekey(&caller)?)
            }
            Node::Encrypt(Encrypt::File(_)) => Ok(()),
            Node::StatusFolder
            | Node::Status(_)
            | Node::Encrypt(_)
            | Node::Exported(_)
            | Node::Import(Import::Report(_))
                if wanted.write =>
            {
                no("nothing can be written here; read it")
            }
            Node::Value(value) => {
                let secret = self.vault.secret_of(value.record()).ok_or(FsError::Stale)?;
                if wanted.read {
                    self.vault.check(&caller, Operation::Read, &secret)?;
                }
                if wanted.write {
                    self.vault.check(&caller, Operation::Write, &secret)?;
                }
                Ok(())
            }
            Node::Sidecar(record) if wanted.read || wanted.write => {
                let secret = self.vault.secret_of(*record).ok_or(FsError::Stale)?;
                self.vault.check(&caller, Operation::ReadLists, &secret)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The space of the file system that holds the store, and the number of secrets.
    ///
    /// # Errors
    /// The store cannot tell.
    pub fn space(&self) -> Result<(Space, u64), FsError> {
        Ok((self.vault.space()?, self.vault.len() as u64))
    }
}
