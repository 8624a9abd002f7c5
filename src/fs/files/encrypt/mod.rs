//! `.encrypt`: a file for every key. Any caller can write a value into it and read its sealed document.
//!
//! The kernel asks for each name of a path alone and does not say whether more follows. So what the caller
//! may know decides whether `a` in `.encrypt/a` is a key or a directory: a directory is the caller's own, or
//! shows something to the caller in a listing. To an admin, every slug of the identities file is one as well.
//! Everything else is a key, so the answer tells a caller nothing about others. Where that is not what is
//! meant, `.in:a` is always the directory `a`. So a key whose own name begins with `.in:` cannot be sealed
//! here.
//!
//! Below `.reseal`, which is no key, what is written is not a plaintext but a value that is sealed already,
//! with a previous key for example. Its document has it sealed with the current one.

pub(in crate::fs) mod session;

use std::ffi::OsStr;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::model::{Caller, Key, KeyError, Plaintext};

use crate::fs::budget::Account;
use crate::fs::kernel::nodes::{Node, path_number};
use crate::fs::{Fs, FsError, Opened, Request, checked_key, checked_name, join};
use session::{EncryptSession, Written};

/// Its name in the root.
pub(in crate::fs) const ENCRYPT_NAME: &str = ".encrypt";
/// What makes a name a directory, known or not.
const DIRECTORY_PREFIX: &str = ".in:";

/// The directory for values that are sealed already.
const RESEAL_NAME: &str = ".reseal";

/// A node in `.encrypt`.
#[derive(Clone)]
pub(in crate::fs) enum Encrypt {
    /// A directory, by the path that keys in it begin with; that of `.encrypt` is empty.
    Directory(Arc<str>),
    /// A key, as one lookup found it.
    File(Arc<EncryptFile>),
}

/// A file as one lookup found it: a node of its own, so that callers share no page of the kernel's
/// cache.
pub(in crate::fs) struct EncryptFile {
    node: u64,
    uid: u32,
    key: Key,
    written: Written,
    /// What was opened last.
    open: Mutex<Weak<EncryptSession>>,
}

impl Encrypt {
    pub(in crate::fs) fn top() -> Self {
        Self::Directory("".into())
    }

    pub(in crate::fs) fn number(&self) -> u64 {
        match self {
            Self::Directory(path) => path_number("encrypt", path),
            Self::File(file) => file.node,
        }
    }

    /// How it is called in an error.
    pub(in crate::fs) fn path(&self) -> String {
        match self {
            Self::Directory(path) => join(ENCRYPT_NAME, &format!("{path}/")),
            Self::File(file) => file.path(),
        }
    }
}

impl EncryptFile {
    /// The inode number to show, the same for every lookup: programs compare it (cp).
    pub(in crate::fs) fn inode(&self) -> u64 {
        match self.written {
            Written::Value => path_number("encrypt file", self.key.as_str()),
            Written::SealedValue => path_number("reseal file", self.key.as_str()),
        }
    }

    /// How it is called in an error.
    fn path(&self) -> String {
        let directory = match self.written {
            Written::Value => ENCRYPT_NAME.to_owned(),
            Written::SealedValue => join(ENCRYPT_NAME, RESEAL_NAME),
        };
        join(&directory, self.key.as_str())
    }

    /// Where what was opened last ends.
    pub(in crate::fs) fn size(&self) -> u64 {
        self.open.lock().upgrade().map_or(0, |open| open.end())
    }
}

impl EncryptFile {
    pub(in crate::fs) fn key(&self) -> &Key {
        &self.key
    }

    /// The UID whose lookup found it.
    pub(in crate::fs) fn uid(&self) -> u32 {
        self.uid
    }

    pub(in crate::fs) fn is_open(&self) -> bool {
        self.open.lock().strong_count() > 0
    }
}

impl Fs {
    /// What a name in a directory of `.encrypt` means. There is a file for every key.
    ///
    /// # Errors
    /// The name cannot be part of a key.
    pub(in crate::fs) fn find_to_encrypt(
        &self,
        request: &Request,
        caller: &Caller,
        directory: &str,
        name: &OsStr,
    ) -> Result<Encrypt, FsError> {
        let found = self.key_to_encrypt(request, caller, directory, name);
        self.counted(request, Some("encrypt"), found)
    }

    fn key_to_encrypt(
        &self,
        request: &Request,
        caller: &Caller,
        directory: &str,
        name: &OsStr,
    ) -> Result<Encrypt, FsError> {
        let marked = name.to_str().and_then(|name| name.strip_prefix(DIRECTORY_PREFIX));
        let path = match marked {
            Some(name) => join(directory, name),
            None => join(directory, checked_name(directory, name)?),
        };
        if path == RESEAL_NAME {
            return Ok(Encrypt::Directory(path.into()));
        }
        let sealed = path.strip_prefix(RESEAL_NAME).and_then(|path| path.strip_prefix('/'));
        let (written, in_tree) = match sealed {
            Some(in_tree) => (Written::SealedValue, in_tree),
            None => (Written::Value, path.as_str()),
        };
        if marked.is_some() || self.is_known_directory(request, caller, in_tree) {
            Key::check_directory(in_tree).map_err(|error| bad_name(&path, error))?;
            return Ok(Encrypt::Directory(path.into()));
        }
        let key = checked_key(in_tree).map_err(|error| match error {
            FsError::BadName { error, .. } => bad_name(&path, error),
            other => other,
        })?;
        let (node, uid) = (self.nodes.next_transient(), request.uid);
        let open = Mutex::default();
        Ok(Encrypt::File(Arc::new(EncryptFile { node, uid, key, written, open })))
    }

    /// The document of what was written into a file of `.encrypt`.
    pub(in crate::fs) fn sealed_document(
        &self,
        key: &Key,
        written: Written,
        value: &Plaintext,
    ) -> Result<String, FsError> {
        match written {
            Written::Value => Ok(self.vault.seal(key, value)),
            Written::SealedValue => {
                let text = String::from_utf8_lossy(value.expose());
                Ok(self.vault.seal_again(key, &text)?)
            }
        }
    }

    fn is_known_directory(&self, request: &Request, caller: &Caller, path: &str) -> bool {
        self.sees_in(request, caller, path)
            || (caller.is_admin() && self.identities.is_own_slug(path))
    }

    /// Opens a file of `.encrypt`, for both reading and writing: one alone leads to nothing.
    pub(in crate::fs) fn open_to_encrypt(
        &self,
        request: &Request,
        caller: &Caller,
        file: &EncryptFile,
        (read, write): (bool, bool),
    ) -> Result<Opened, FsError> {
        if request.uid != file.uid {
            // The lookup of another UID came in between; the kernel makes a new one.
            return Err(FsError::Stale);
        }
        let path = file.path();
        if !(read && write) {
            let what = "open it for reading and writing: write a value, then read its document";
            return Err(FsError::Forbidden { path, what });
        }
        let charge = self.budget.charge(Account::of(caller), EncryptSession::BYTES, &path)?;
        let sealing = Arc::new(EncryptSession::new(file.key.clone(), file.written, charge));
        *file.open.lock() = Arc::downgrade(&sealing);
        self.private(caller, &path, crate::fs::kernel::handles::Handle::EncryptSession(sealing))
    }
}

fn bad_name(path: &str, error: KeyError) -> FsError {
    FsError::BadName { path: join(ENCRYPT_NAME, path), error }
}

impl From<Encrypt> for Node {
    fn from(node: Encrypt) -> Self {
        Self::Encrypt(node)
    }
}
