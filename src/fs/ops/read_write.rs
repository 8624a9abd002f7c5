//! Reading and writing open files.

use std::sync::Arc;

use crate::model::{Key, Plaintext};

use crate::fs::files::draft::WriteAt;
use crate::fs::files::encrypt::session::Excerpt;
use crate::fs::kernel::handles::{Handle, is_version};
use crate::fs::kernel::nodes::Node;
use crate::fs::{Fs, FsError, Request};

/// Bytes to answer a read with: at most what was asked for.
pub struct FileBytes {
    bytes: Arc<Plaintext>,
    offset: u64,
    length: usize,
}

impl FileBytes {
    /// The bytes. They are wiped when this is dropped.
    pub fn expose(&self) -> &[u8] {
        self.bytes.slice(self.offset, self.length)
    }
}

impl Fs {
    /// Reads at most `length` bytes from `offset` on, `for_pages` if the kernel keeps them. The right to read
    /// was checked when the file was opened, and an open descriptor keeps what it was granted.
    ///
    /// # Errors
    /// The handle is not known, or the stored value cannot be read.
    pub fn read(
        &self,
        request: &Request,
        node: u64,
        handle: u64,
        offset: u64,
        length: usize,
        for_pages: bool,
    ) -> Result<FileBytes, FsError> {
        if for_pages && self.handles.find(handle).is_ok_and(|found| self.shares_pages(&found)) {
            let path = self.node(request, node).map(|node| self.path_of(&node))?;
            let what =
                "it cannot be mapped through a bind mount of the file after a change; read it";
            return Err(FsError::Forbidden { path, what });
        }
        let whole = |bytes| FileBytes { bytes: Arc::new(bytes), offset: 0, length };
        if is_version(handle) {
            return match self.node(request, node)? {
                Node::Value(value) => {
                    let value = self.locking_readers.shown_on(node).unwrap_or(value);
                    Ok(whole(self.vault.read(&value, offset, length)?))
                }
                _ => Err(FsError::BadHandle),
            };
        }
        match self.handles.find(handle).map_err(|_| FsError::Lost)? {
            Handle::Draft(draft) | Handle::View(draft) => {
                Ok(whole(draft.read(&self.vault, offset, length)?))
            }
            Handle::Scratch(scratch) => Ok(whole(scratch.read(offset, length)?)),
            Handle::ImportFile(file) => Ok(whole(file.read(offset, length))),
            Handle::Version { value, .. } => Ok(whole(self.vault.read(&value, offset, length)?)),
            Handle::Text(text) => Ok(FileBytes { bytes: Arc::clone(&text.bytes), offset, length }),
            Handle::Control(bytes) => Ok(FileBytes { bytes, offset, length }),
            Handle::EncryptSession(sealing) => {
                let seal = |key: &Key, written, value: &Plaintext| {
                    self.sealed_document(key, written, value)
                };
                let Excerpt { document, offset } = sealing.read(offset, seal)?;
                Ok(FileBytes { bytes: document, offset, length })
            }
            Handle::Export(export) => Ok(whole(self.read_export(&export, offset, length)?)),
            Handle::Directory(_) => Err(FsError::BadHandle),
        }
    }

    /// Whether another handle on the same node shows other bytes.
    fn shares_pages(&self, handle: &Handle) -> bool {
        match handle {
            Handle::Version { by, .. } => by.is_some(),
            Handle::Draft(draft) => draft.bound().is_some(),
            _ => false,
        }
    }

    /// Writes `bytes` at `offset` into the handle's own buffer; through a descriptor with O_APPEND (its
    /// `flags` are those of open(2)) to the end of what is current when it is stored.
    ///
    /// # Errors
    /// The end is over 1 MiB, before anything is allocated; or the handle is not known.
    pub fn write(
        &self,
        request: &Request,
        handle: u64,
        offset: u64,
        flags: i32,
        bytes: &[u8],
    ) -> Result<(), FsError> {
        match self.handles.find(handle) {
            Ok(Handle::Draft(draft)) => {
                draft.openers_files().are_used_by(request);
                draft.write(&self.vault, WriteAt::new(offset, flags), bytes)
            }
            Ok(Handle::Scratch(scratch)) => scratch.write(&self.vault, offset, bytes),
            Ok(Handle::ImportFile(file)) => file.write(request, offset, bytes),
            Ok(Handle::EncryptSession(sealing)) => sealing.write(offset, bytes),
            Ok(Handle::Control(_)) => self.control(request, bytes),
            Ok(
                Handle::Version { .. }
                | Handle::View(_)
                | Handle::Text(_)
                | Handle::Export(_)
                | Handle::Directory(_),
            ) => Err(FsError::BadHandle),
            Err(_) => Err(FsError::Lost),
        }
    }
}
