//! `.export.yaml` and `.export/<prefix>.yaml`: what the caller may read, sealed, as a text that is
//! made while it is read.
//!
//! A file shows its true size, so that programs that trust it (tar, rsync, scp) copy all of it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::audit::{Actor, Subject};
use crate::model::{Caller, Key, MAX_VALUE_BYTES, Plaintext};
use crate::vault::{Export, Vault};

use crate::fs::audit::Decision;
use crate::fs::budget::Account;
use crate::fs::kernel::handles::Handle;
use crate::fs::kernel::nodes::{Node, path_number};
use crate::fs::{Caching, Fs, FsError, Opened, Request, join, nothing_is_made_in};

/// The directory's name in the root.
pub(in crate::fs) const EXPORT_NAME: &str = ".export";
/// The name in the root of the file that holds everything.
pub(in crate::fs) const EXPORT_ALL_NAME: &str = ".export.yaml";
const SUFFIX: &str = ".yaml";

/// How many sizes are remembered. All are forgotten when one more comes.
const MAX_SIZES: usize = 1024;

/// The sizes of texts, by UID and prefix: a program that copies a file asks for its size several times.
#[derive(Default)]
pub(in crate::fs) struct ExportSizes(Mutex<HashMap<(u32, Arc<str>), Size>>);

/// The size of a text for a caller, until something changes.
struct Size {
    changes: u64,
    caller: Caller,
    size: u64,
}

/// A node of the export.
#[derive(Clone)]
pub(in crate::fs) enum Exported {
    /// A directory, by the path that prefixes in it begin with; that of `.export` is empty.
    Directory(Arc<str>),
    /// A text, as one lookup found it.
    File(Arc<ExportFile>),
}

/// A text as one lookup found it: a node of its own, so that callers share no page of the kernel's
/// cache.
pub(in crate::fs) struct ExportFile {
    node: u64,
    uid: u32,
    /// Empty for everything.
    prefix: Arc<str>,
    /// What was opened last.
    open: Mutex<Weak<OpenExport>>,
}

/// A text that is open.
pub(in crate::fs) struct OpenExport {
    export: Export,
}

impl Exported {
    pub(in crate::fs) fn top() -> Self {
        Self::Directory("".into())
    }

    pub(in crate::fs) fn number(&self) -> u64 {
        match self {
            Self::Directory(path) => path_number("export", path),
            Self::File(file) => file.node,
        }
    }

    /// How it is called in an error.
    pub(in crate::fs) fn path(&self) -> String {
        match self {
            Self::Directory(path) => join(EXPORT_NAME, &format!("{path}/")),
            Self::File(file) => file.path(),
        }
    }
}

impl ExportFile {
    /// The inode number to show, the same for every lookup: programs compare it (cp).
    pub(in crate::fs) fn inode(&self) -> u64 {
        path_number("export file", &self.prefix)
    }

    /// The UID whose lookup found it.
    pub(in crate::fs) fn uid(&self) -> u32 {
        self.uid
    }

    pub(in crate::fs) fn is_open(&self) -> bool {
        self.open.lock().strong_count() > 0
    }

    fn path(&self) -> String {
        match &*self.prefix {
            "" => EXPORT_ALL_NAME.to_owned(),
            prefix => join(EXPORT_NAME, &format!("{prefix}{SUFFIX}")),
        }
    }
}

impl OpenExport {
    /// What an open text takes: the document that was made last, in base64, and the secrets by reference.
    const BYTES: usize = 2 * MAX_VALUE_BYTES;
    const BYTES_PER_SECRET: usize = 16;

    /// Some of its secrets, from the document `next` on, for the record; none at the end.
    pub(in crate::fs) fn subjects(&self, actor: &Actor, next: usize) -> Vec<Subject> {
        self.export.subjects(&actor.caller, next)
    }
}

impl From<Exported> for Node {
    fn from(node: Exported) -> Self {
        Self::Exported(node)
    }
}

impl ExportSizes {
    fn of(&self, vault: &Vault, caller: &Caller, prefix: &Arc<str>) -> u64 {
        let (place, changes) = ((caller.uid(), Arc::clone(prefix)), vault.changes());
        if let Some(known) = self.0.lock().get(&place)
            && known.changes == changes
            && known.caller == *caller
        {
            return known.size;
        }
        let size = vault.export(caller, prefix).size();
        let mut sizes = self.0.lock();
        if sizes.len() >= MAX_SIZES {
            sizes.clear();
        }
        sizes.insert(place, Size { changes, caller: caller.clone(), size });
        size
    }
}

impl Fs {
    /// The file that holds everything that the caller may read below a prefix.
    pub(in crate::fs) fn export_file(&self, request: &Request, prefix: &str) -> Exported {
        Exported::File(Arc::new(ExportFile {
            node: self.nodes.next_transient(),
            uid: request.uid,
            prefix: prefix.into(),
            open: Mutex::default(),
        }))
    }

    /// What a name in a directory of `.export` means. A prefix is there if the caller sees a secret of
    /// that name or below it.
    pub(in crate::fs) fn find_export(
        &self,
        request: &Request,
        caller: &Caller,
        directory: &str,
        name: &str,
    ) -> Option<Exported> {
        let path = join(directory, name);
        if let Some(prefix) = path.strip_suffix(SUFFIX)
            && Key::check_directory(prefix).is_ok()
            && self.is_exported(caller, prefix)
        {
            return Some(self.export_file(request, prefix));
        }
        self.vault.is_directory(&path).then(|| Exported::Directory(path.into()))
    }

    fn is_exported(&self, caller: &Caller, prefix: &str) -> bool {
        caller.own_slug().is_some_and(|own| own.as_str() == prefix)
            || self.vault.sees(caller, prefix)
    }

    /// The size of a text: of the one that is open, else of what it would be now.
    pub(in crate::fs) fn export_size(&self, file: &ExportFile, caller: &Caller) -> u64 {
        match file.open.lock().upgrade() {
            Some(open) => open.export.size(),
            None => self.export_sizes.of(&self.vault, caller, &file.prefix),
        }
    }

    /// Opens a text, with what the caller may read now.
    pub(in crate::fs) fn open_export(
        &self,
        request: &mut Request,
        caller: &Caller,
        file: &ExportFile,
        write: bool,
    ) -> Result<Opened, FsError> {
        if request.uid != file.uid {
            // The lookup of another UID came in between; the kernel makes a new one.
            return Err(FsError::Stale);
        }
        if write {
            return Err(nothing_is_made_in(&file.path()));
        }
        let (path, account) = (file.path(), Account::of(caller));
        let mut charge = self.budget.charge(account, OpenExport::BYTES, &path)?;
        let export = self.vault.export(caller, &file.prefix);
        charge.resize(OpenExport::BYTES + export.len() * OpenExport::BYTES_PER_SECRET, &path)?;
        let open = Arc::new(OpenExport { export });
        *file.open.lock() = Arc::downgrade(&open);
        request.decision = Some(Decision::export(Arc::clone(&open)));
        let handle = self.handles.add(Handle::Export(open), charge);
        Ok(Opened { handle, caching: Caching::Private })
    }

    pub(in crate::fs) fn read_export(
        &self,
        open: &OpenExport,
        offset: u64,
        length: usize,
    ) -> Result<Plaintext, FsError> {
        Ok(Plaintext::from(self.vault.read_export(&open.export, offset, length)?))
    }
}
