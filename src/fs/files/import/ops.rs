//! What callers do in the drop directory.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::fs::budget::{Account, HANDLE_BYTES};
use crate::fs::caller::closing::Close;
use crate::fs::caller::proc::process_of;
use crate::fs::files::draft::Occasion;
use crate::fs::files::status::requests::Opcode;
use crate::fs::kernel::handles::Handle;
use crate::fs::kernel::nodes::Node;
use crate::fs::kernel::retries::Note;
use crate::fs::ops::close::closed_by_killed;
use crate::fs::ops::readdir::Listed;
use crate::fs::request::task;
use crate::fs::{
    Attr, Caching, Entry, FileKind, Fs, FsError, NEVER, Opened, RenameMode, Request, checked_name,
    join,
};
use crate::model::{Caller, Key};

use super::file::ImportFile;
use super::{Import, REPORT_SUFFIX, full_path, is_unfinished};

/// Every user has a separate drop directory, also at the top: programs that copy attributes only set those of
/// what belongs to their user.
const DIRECTORY_MODE: u16 = 0o700;
const REPORT_MODE: u16 = 0o400;

impl Fs {
    /// The path of a directory of the drop directory, if the node is one.
    pub(in crate::fs) fn drop_directory(&self, node: u64) -> Option<Arc<str>> {
        match self.nodes.find(node) {
            Some(Node::Import(Import::Directory(path))) => Some(path),
            _ => None,
        }
    }

    /// What a name in a directory of the drop directory means to this caller.
    pub(in crate::fs) fn find_in_drop_box(
        &self,
        request: &Request,
        caller: &Caller,
        directory: &str,
        name: &str,
    ) -> Option<Import> {
        let path = join(directory, name);
        if let Some(file) = self.dropped(request, &path) {
            return Some(Import::File(file));
        }
        let (uid, admin) = (request.uid, caller.is_admin());
        if let Some(of) = path.strip_suffix(REPORT_SUFFIX)
            && let Some(report) = self.import.reports.find(uid, admin, of)
        {
            return Some(Import::Report(report));
        }
        if self.has_drop_directory(request, caller, &path) {
            return Some(Import::Directory(path.into()));
        }
        // Programs that have closed a file may set its mode and times after that.
        let just_applied = |note: &mut Note| match note {
            Note::Applied(file) if file.path() == path && file.uid() == request.uid => {
                Some(Arc::clone(file))
            }
            _ => None,
        };
        self.find_of_process(request, just_applied).map(Import::File)
    }

    fn dropped(&self, request: &Request, path: &str) -> Option<Arc<ImportFile>> {
        self.import.files.find(request.uid, path, || process_of(request.task))
    }

    fn has_drop_directory(&self, request: &Request, caller: &Caller, path: &str) -> bool {
        self.import.directories.holds(request.uid, path)
            || self.import.files.has_below(request.uid, path)
            || self.import.reports.has_below(request.uid, caller.is_admin(), path)
    }

    pub(in crate::fs) fn drop_box_attr(&self, node: &Import, caller: &Caller, file: Attr) -> Attr {
        let (directory, uid) = (FileKind::Directory, caller.uid());
        match node {
            Import::Directory(_) => {
                Attr { kind: directory, mode: DIRECTORY_MODE, uid, gid: uid, ..file }
            }
            Import::File(dropped) => {
                let ((size, mode, modified), (uid, gid)) = (dropped.shown(), dropped.owner());
                Attr { size, mode, modified, uid, gid, ..file }
            }
            Import::Report(report) => Attr {
                size: report.text.bytes.len() as u64,
                mode: REPORT_MODE,
                uid: report.uid,
                gid: report.uid,
                modified: report.at,
                ..file
            },
        }
    }

    /// A directory's own directories and reports, and what waits in it to be renamed.
    pub(in crate::fs) fn list_drop_box(
        &self,
        request: &Request,
        caller: &Caller,
        directory: &str,
    ) -> Arc<[Listed]> {
        let (uid, admin) = (request.uid, caller.is_admin());
        let files = self.import.files.names(uid, directory).into_iter().map(|name| (name, true));
        let directories =
            self.import.directories.names(uid, directory).into_iter().map(|name| (name, false));
        let reports = self.import.reports.names(uid, admin, directory).into_iter();
        let reports = reports
            .map(|(name, is_it)| if is_it { (name + REPORT_SUFFIX, true) } else { (name, false) });
        let mut names: Vec<_> = files.chain(directories).chain(reports).collect();
        names.sort();
        names.dedup_by(|a, b| a.0 == b.0);
        let listed = names.into_iter().filter_map(|(name, is_file)| {
            let node = self.find_in_drop_box(request, caller, directory, &name)?.number();
            let kind = if is_file { FileKind::File } else { FileKind::Directory };
            Some(Listed { name: name.into(), node, kind })
        });
        listed.collect()
    }

    /// Makes a file and opens it.
    pub(in crate::fs) fn create_dropped(
        &self,
        request: &Request,
        directory: &str,
        name: &OsStr,
        mode: u32,
    ) -> Result<(Entry, Opened), FsError> {
        let path = drop_path(directory, name)?;
        let caller = self.caller(request)?;
        let (node, writer) = (self.nodes.next_private(), process_of(request.task));
        let full = full_path(&path);
        let charge = self.budget.charge(Account::of(&caller), ImportFile::BYTES, &full)?;
        let opened = self.budget.charge(Account::of(&caller), HANDLE_BYTES, &full)?;
        // A new file of the name takes the place of one that was only waiting.
        self.import.files.remove_waiting(request.uid, &path);
        let file = Arc::new(ImportFile::new(node, request, writer, path, mode as u16, charge));
        self.import.files.add(&file)?;
        file.opened(Some(writer));
        let node = Node::from(Import::File(Arc::clone(&file)));
        let attr = self.attr_of(&node, &caller)?;
        self.nodes.look_up(&node);
        let handle = self.handles.add(Handle::ImportFile(file), opened);
        Ok((Entry { attr, lifetime: NEVER }, Opened { handle, caching: Caching::Private }))
    }

    pub(in crate::fs) fn open_in_drop_box(
        &self,
        request: &Request,
        caller: &Caller,
        node: &Import,
        write: bool,
    ) -> Result<Opened, FsError> {
        match node {
            Import::Directory(_) => Err(FsError::IsDirectory(node.path())),
            Import::Report(_) if write => Err(read_only(node)),
            Import::Report(report) => {
                self.open_text(caller, &node.path(), Arc::clone(&report.text))
            }
            Import::File(file) if file.is_over() && !write => Err(FsError::NotFound(node.path())),
            Import::File(file) => {
                let writer = write.then(|| process_of(request.task));
                let charge = self.budget.charge(Account::of(caller), HANDLE_BYTES, &node.path())?;
                // First opened, then added: its release may still be under way, and removes only what is not open.
                if file.opened(writer) {
                    // It waited, or was applied a moment ago.
                    self.import.files.remove(file);
                    if let Err(error) = self.import.files.add(file) {
                        file.closed();
                        return Err(error);
                    }
                }
                let handle = self.handles.add(Handle::ImportFile(Arc::clone(file)), charge);
                Ok(Opened { handle, caching: Caching::Private })
            }
        }
    }

    /// A descriptor was closed: its file is applied if that means that it is finished.
    pub(in crate::fs) async fn close_dropped(
        self: &Arc<Self>,
        request: &Request,
        file: &Arc<ImportFile>,
        close: Close,
    ) -> Result<(), FsError> {
        match close {
            Close::Finished => self.apply_dropped(request, file, Occasion::Close).await,
            Close::Inherited => Ok(()),
            Close::Killed(closer) => {
                file.abandon(closer);
                closed_by_killed(request)
            }
        }
    }

    /// The last descriptor is gone: what was not applied yet is, and the file vanishes; unless it
    /// waits for its rename. The answer does not wait for that.
    pub(in crate::fs) fn release_dropped(
        self: &Arc<Self>,
        request: &Request,
        file: Arc<ImportFile>,
    ) {
        if !file.closed() {
            return;
        }
        let waits = is_unfinished(&file.path());
        if !waits {
            self.import.files.remove_closed(&file);
        }
        let (fs, request) = (Arc::clone(self), request.clone());
        let apply = async move {
            let applied = fs.apply_dropped(&request, &file, Occasion::Release).await;
            // No process gets the error.
            let _ = fs.counted(&request, Opcode::Flush.operation(), applied);
            if !waits {
                file.forget_bytes();
            }
        };
        task::run(Box::pin(apply), |()| {});
    }

    pub(in crate::fs) fn make_drop_directory(
        &self,
        request: &Request,
        directory: &str,
        name: &OsStr,
    ) -> Result<(), FsError> {
        let path = drop_path(directory, name)?;
        if self.has_drop_directory(request, &*self.caller(request)?, &path) {
            return Err(FsError::Exists(full_path(&path)));
        }
        self.import.directories.make(request.uid, &path);
        Ok(())
    }

    pub(in crate::fs) fn remove_drop_directory(
        &self,
        request: &Request,
        directory: &str,
        name: &OsStr,
    ) -> Result<(), FsError> {
        let path = drop_path(directory, name)?;
        let caller = self.caller(request)?;
        let in_it = self.list_drop_box(request, &caller, &path);
        if !in_it.is_empty() {
            return Err(FsError::NotEmpty(full_path(&path)));
        }
        if !self.import.directories.remove(request.uid, &path) {
            return Err(FsError::NotFound(full_path(&path)));
        }
        Ok(())
    }

    /// Removes what waits, or a report.
    pub(in crate::fs) fn remove_dropped(
        &self,
        request: &Request,
        directory: &str,
        name: &OsStr,
    ) -> Result<(), FsError> {
        let path = drop_path(directory, name)?;
        let caller = self.caller(request)?;
        let name = checked_name(directory, name)?;
        match self.find_in_drop_box(request, &caller, directory, name) {
            Some(Import::File(file)) => {
                file.remove();
                self.import.files.remove(&file);
                Ok(())
            }
            Some(Import::Report(report)) => {
                self.import.reports.remove(&report);
                Ok(())
            }
            Some(directory @ Import::Directory(_)) => Err(FsError::IsDirectory(directory.path())),
            None => Err(FsError::NotFound(full_path(&path))),
        }
    }

    /// Renames what waits, and applies it if it has a finished name now.
    pub(in crate::fs) async fn rename_dropped(
        self: &Arc<Self>,
        request: &Request,
        (directory, name): (&str, &OsStr),
        (new_directory, new_name): (&str, &OsStr),
        mode: RenameMode,
    ) -> Result<(), FsError> {
        let (from, to) = (drop_path(directory, name)?, drop_path(new_directory, new_name)?);
        let caller = self.caller(request)?;
        let name = checked_name(directory, name)?;
        let found = self.find_in_drop_box(request, &caller, directory, name);
        if self.dropped(request, &to).is_some() && mode == RenameMode::NoReplace {
            return Err(FsError::Exists(full_path(&to)));
        }
        let file = match found {
            Some(Import::File(file)) => file,
            Some(report @ Import::Report(_)) => return Err(read_only(&report)),
            Some(Import::Directory(_)) => return Err(FsError::CrossDevice(full_path(&from))),
            None => return Err(FsError::NotFound(full_path(&from))),
        };
        if from == to {
            return Ok(());
        }
        self.import.files.remove_waiting(request.uid, &to);
        file.rename(&to);
        if file.is_open() || is_unfinished(&to) || !is_unfinished(&from) {
            // It is applied when it is closed; or it was already, under its first name.
            return Ok(());
        }
        file.touch();
        let applied = self.apply_dropped(request, &file, Occasion::Create).await;
        match &applied {
            Ok(()) => {
                self.import.files.remove_closed(&file);
                file.forget_bytes();
            }
            Err(_) => file.rename(&from),
        }
        applied
    }
}

/// A path of the drop directory that may be made.
fn drop_path(directory: &str, name: &OsStr) -> Result<String, FsError> {
    let name = checked_name(&full_path(directory), name)?;
    let path = join(directory, name);
    // The same rules as for keys, but that a name may begin with a dot.
    let dotless: Vec<_> = path.split('/').map(|part| part.trim_start_matches('.')).collect();
    Key::check_directory(&dotless.join("/"))
        .map_err(|error| FsError::BadName { path: full_path(&path), error })?;
    Ok(path)
}

fn read_only(node: &Import) -> FsError {
    let what = "a report can be read and removed; drop a file of another name";
    FsError::Forbidden { path: node.path(), what }
}
