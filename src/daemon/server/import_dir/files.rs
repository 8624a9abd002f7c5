//! The files of documents in the directory, and whose they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use serde::{Deserialize, Serialize};

use crate::document::MAX_FILE_BYTES;
use crate::identity::is_on_read_only_mount;
use crate::model::Plaintext;

use crate::daemon::lookup_helper::LookupHelper;

/// How deep directories may lie in each other.
const MAX_DEPTH: usize = 64;
/// How many links may follow each other.
const MAX_LINKS: usize = 40;
/// The root's UID.
const ROOT: u32 = 0;

/// Why a file is not applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("it is not a file; links must lead to a file in the directory")]
    NotAFile,
    #[error(
        "others than its owner may write to it (mode {0:04o}), so it is not applied; run chmod go-w"
    )]
    Writable(u32),
    #[error(
        "it lies in a directory that belongs to UID {0}, who could put another file in its place; move it, or chown the directory"
    )]
    ForeignDirectory(u32),
    #[error(
        "others may write to the directory {path} (mode {mode:04o}) that it lies in, and put another file in its place, so it is not applied; run chmod go-w on the directory"
    )]
    WritableDirectory { path: String, mode: u32 },
    #[error(
        "the link belongs to UID {link}, the file to UID {file}: whose rights are meant is not clear; chown the link"
    )]
    ForeignLink { link: u32, file: u32 },
    #[error("it changes while it is read; it is read again")]
    Changing,
}

/// What a file is at one moment. If that is the same, so is its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file of documents.
pub(super) struct Found {
    pub(super) print: Print,
    /// Whose it is.
    pub(super) uid: u32,
    /// Whether it may be applied. It is opened again for that: a user may have more files here than a
    /// process can have open.
    file: Result<(), Fault>,
}

impl Print {
    fn of(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

impl Found {
    /// Why it must not be read.
    pub(super) fn refusal(&self) -> Option<String> {
        self.file.as_ref().err().map(Fault::to_string)
    }

    /// All bytes, or as many as show that it is too large.
    ///
    /// # Errors
    /// It must not be applied, or cannot be read.
    pub(super) fn read(self, root: &Root, path: &Path) -> Result<Plaintext, Fault> {
        self.file?;
        let file = File::from(root.open_to_read(path, Kind::File)?);
        // The print has the change time, so it also shows a new owner or mode.
        if Print::of(&stat(&file)?) != self.print {
            return Err(Fault::Changing);
        }
        let size = usize::try_from(file.metadata()?.size()).unwrap_or(usize::MAX);
        let limit = MAX_FILE_BYTES + 1;
        // One more than its size shows whether it grows.
        let mut bytes = Plaintext::default();
        bytes.resize(size.min(limit) + 1);
        let mut length = 0;
        while length < bytes.len() {
            match (&file).read(&mut bytes.expose_mut()[length..])? {
                0 => break,
                read => length += read,
            }
        }
        if length < limit && (length != size || Print::of(&stat(&file)?) != self.print) {
            return Err(Fault::Changing);
        }
        bytes.resize(length);
        Ok(bytes)
    }
}

/// The directory itself. Its path may lead to another one later.
pub(super) struct Root {
    directory: OwnedFd,
    /// Opens what Landlock keeps from this process: everything in a directory that was not there when this process
    /// was confined.
    lookup_helper: Option<LookupHelper>,
}

/// What is opened to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::daemon) enum Kind {
    Directory,
    File,
}

impl Root {
    /// Opens the directory.
    ///
    /// # Errors
    /// It is not there, or is no directory.
    pub(super) fn open(dir: &Path, lookup_helper: Option<LookupHelper>) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { directory: nix::fcntl::open(dir, flags, Mode::empty())?, lookup_helper })
    }

    /// Device and inode.
    pub(super) fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = fstat(&self.directory)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Whether it is what the path leads to.
    pub(super) fn is_at(&self, dir: &Path) -> bool {
        is_at(&self.directory, dir).unwrap_or(false)
    }

    /// Opens a path in it for reading: through the lookup helper, if this process may not.
    fn open_to_read(&self, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
        match (open_to_read(self.directory.as_fd(), path, kind), &self.lookup_helper) {
            (Err(error), Some(lookup_helper))
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                lookup_helper.open_below(self.directory.as_fd(), path, kind)
            }
            (outcome, _) => outcome,
        }
    }
}

/// As [`Root::open_to_read`], for the lookup helper: opens a path in `directory`, if `dir` still leads to that
/// directory.
pub(in crate::daemon) fn open_in(
    dir: &Path,
    directory: BorrowedFd<'_>,
    path: &Path,
    kind: Kind,
) -> io::Result<OwnedFd> {
    // A server may ask for paths in the directory, and for nothing else.
    if !is_at(directory, dir)? {
        return Err(Errno::ESTALE.into());
    }
    open_to_read(directory, path, kind)
}

fn is_at(directory: impl AsFd, dir: &Path) -> io::Result<bool> {
    let (is, there) = (fstat(directory)?, std::fs::metadata(dir)?);
    Ok((is.st_dev, is.st_ino) == (there.dev(), there.ino()))
}

/// Opens a path in a directory: a directory over no link, a file over links that do not lead out of `root`.
fn open_to_read(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    let (flags, resolve) = match kind {
        Kind::Directory => (OFlag::O_DIRECTORY, ResolveFlag::RESOLVE_NO_SYMLINKS),
        Kind::File => (OFlag::O_NONBLOCK | OFlag::O_NOCTTY, ResolveFlag::empty()),
    };
    let resolve = resolve | ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let flags = flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    Ok(openat2(root, path, OpenHow::new().flags(flags).resolve(resolve))?)
}

/// Whether something was removed, or the directory was replaced, since it was found: the next look shows what is
/// there.
pub(super) fn has_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESTALE as i32)
}

/// Every file `*.yaml` and `*.yml` in the directory and the directories below, by its path in it. What begins with a
/// dot is passed over: programs keep there what is not finished, or not meant. `visit` is called for each directory
/// before it is looked through.
///
/// # Errors
/// The directory itself cannot be read.
pub(super) fn find(
    root: &Root,
    mut visit: impl FnMut(&Path),
) -> io::Result<BTreeMap<PathBuf, Found>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![(PathBuf::new(), Above::default())];
    while let Some((inside, above)) = dirs.pop() {
        let is_top = inside.as_os_str().is_empty();
        visit(&inside);
        match look_into(root, &inside, above, &mut found) {
            Ok(below) if inside.components().count() < MAX_DEPTH => dirs.extend(below),
            Ok(_) => {}
            Err(error) if is_top => return Err(error),
            Err(error) if has_gone(&error) => {}
            Err(error) => {
                let dir = inside.display();
                tracing::warn!(%dir, %error, "import-dir: a directory cannot be read");
            }
        }
    }
    Ok(found)
}

/// Which other users could replace a file, according to the directories and links on its path.
#[derive(Clone, Default)]
struct Above {
    /// The owners of the directories, without root.
    directories: BTreeSet<u32>,
    /// The owners of the links, without root.
    links: BTreeSet<u32>,
    /// A directory that others than its owner may write to. The sticky bit does not help: where all may
    /// make files, they may make links to old files of root's.
    writable: Option<(PathBuf, u32)>,
}

impl Above {
    fn add_directory(&mut self, path: &Path, directory: &OwnedFd) -> io::Result<()> {
        let stat = fstat(directory)?;
        self.directories.extend(Some(stat.st_uid).filter(|&uid| uid != ROOT));
        if stat.st_mode & 0o022 != 0 && !is_on_read_only_mount(directory)? {
            self.writable.get_or_insert_with(|| (path.to_owned(), stat.st_mode & 0o7777));
        }
        Ok(())
    }

    fn add_link(&mut self, stat: &FileStat) {
        self.links.extend(Some(stat.st_uid).filter(|&uid| uid != ROOT));
    }

    /// Why a file of this user's must not be applied.
    fn fault(self, uid: u32) -> Option<Fault> {
        let foreign = |owners: BTreeSet<u32>| owners.into_iter().find(|&owner| owner != uid);
        if let Some(owner) = foreign(self.directories) {
            return Some(Fault::ForeignDirectory(owner));
        }
        if let Some(link) = foreign(self.links) {
            return Some(Fault::ForeignLink { link, file: uid });
        }
        let name = |path: &Path| match path.as_os_str().is_empty() {
            true => ".".to_owned(),
            false => path.display().to_string(),
        };
        self.writable.map(|(path, mode)| Fault::WritableDirectory { path: name(&path), mode })
    }
}

/// Gives the directories in it.
fn look_into(
    root: &Root,
    inside: &Path,
    mut above: Above,
    found: &mut BTreeMap<PathBuf, Found>,
) -> io::Result<Vec<(PathBuf, Above)>> {
    let name = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
    let descriptor = root.open_to_read(name, Kind::Directory)?;
    above.add_directory(inside, &descriptor)?;
    let mut dir = Dir::from_fd(descriptor.try_clone()?)?;
    let mut below = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        let Ok(stat) = fstatat(&descriptor, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        let path = inside.join(name);
        if kind(&stat) == SFlag::S_IFDIR {
            below.push((path, above.clone()));
        } else if is_yaml(name) {
            found.extend(look_at(root, &path, &stat, above.clone()).map(|found| (path, found)));
        }
    }
    Ok(below)
}

fn is_yaml(name: &std::ffi::OsStr) -> bool {
    let name = name.as_bytes();
    (name.ends_with(b".yaml") || name.ends_with(b".yml")) && !name.starts_with(b"#")
}

/// Looks at what has the name of a file of documents, without reading it; none if it has been removed since.
fn look_at(root: &Root, path: &Path, entry: &FileStat, mut above: Above) -> Option<Found> {
    let is_link = kind(entry) == SFlag::S_IFLNK;
    let at_fault = |fault| Found { print: Print::of(entry), uid: entry.st_uid, file: Err(fault) };
    // A link leads to a file in the directory, or nowhere.
    let opened = match is_link {
        true => follow(root, path, &mut above),
        false => Ok(path.to_owned()),
    };
    let opened = opened.and_then(|path| find_below(root, &path));
    let file = match opened {
        Ok(descriptor) => descriptor,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link => return None,
        Err(_) if is_link => return Some(at_fault(Fault::NotAFile)),
        Err(error) => return Some(at_fault(error.into())),
    };
    let stat = match fstat(&file) {
        Ok(stat) => stat,
        Err(error) => return Some(at_fault(io::Error::from(error).into())),
    };
    let fault = match () {
        () if kind(&stat) != SFlag::S_IFREG => Some(Fault::NotAFile),
        () if stat.st_mode & 0o022 != 0 => Some(Fault::Writable(stat.st_mode & 0o7777)),
        () => above.fault(stat.st_uid),
    };
    let file = fault.map_or(Ok(()), Err);
    Some(Found { print: Print::of(&stat), uid: stat.st_uid, file })
}

/// Where a link leads in the directory, over at most [`MAX_LINKS`] others. All that is on the way is added to
/// `above`, which says who could change it.
fn follow(root: &Root, path: &Path, above: &mut Above) -> io::Result<PathBuf> {
    let mut current = PathBuf::new();
    let mut pending: Vec<_> =
        path.components().rev().map(|name| name.as_os_str().to_owned()).collect();
    let mut links = 0;
    while let Some(name) = pending.pop() {
        if name == "." {
            continue;
        }
        if name == ".." {
            // Not out of the directory.
            if !current.pop() {
                return Err(Errno::EXDEV.into());
            }
            continue;
        }
        let next = current.join(name);
        let descriptor = find_below(root, &next)?;
        let stat = fstat(&descriptor)?;
        if kind(&stat) == SFlag::S_IFLNK {
            links += 1;
            above.add_link(&stat);
            let target = PathBuf::from(readlinkat(&descriptor, "")?);
            if target.is_absolute() || links > MAX_LINKS {
                return Err(Errno::ELOOP.into());
            }
            pending.extend(target.components().rev().map(|name| name.as_os_str().to_owned()));
        } else if kind(&stat) == SFlag::S_IFDIR {
            above.add_directory(&next, &descriptor)?;
            current = next;
        } else if pending.is_empty() {
            return Ok(next);
        } else {
            return Err(Errno::ENOTDIR.into());
        }
    }
    Err(Errno::EISDIR.into())
}

/// Finds a path in the directory, over no link. A user who may write to a part of it cannot lead out of it.
fn find_below(root: &Root, path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat2(&root.directory, path, OpenHow::new().flags(flags).resolve(resolve))?)
}

fn stat(file: &File) -> io::Result<FileStat> {
    Ok(fstat(file)?)
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(dir: &Path) -> Vec<String> {
        let root = Root::open(dir, None).unwrap();
        let found = find(&root, |_| {}).unwrap();
        found
            .into_iter()
            .map(|(path, found)| match found.read(&root, &path) {
                Ok(text) => format!("{}={}", path.display(), text.len()),
                Err(fault) => format!("{}: {fault}", path.display()),
            })
            .collect()
    }

    fn write(dir: &Path, name: &str, mode: u32) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "key: K\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn finds_what_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.yaml", "sub/b.yml", "sub/deep/c.yaml"] {
            write(dir.path(), name, 0o644);
        }
        for name in [".a.yaml", ".git/x.yaml", "a.yaml~", "#b.yaml", "README.md", "a.yaml.tmp"] {
            write(dir.path(), name, 0o644);
        }
        assert_eq!(names(dir.path()), ["a.yaml=7", "sub/b.yml=7", "sub/deep/c.yaml=7"]);
        let mut dirs = Vec::new();
        let root = Root::open(dir.path(), None).unwrap();
        find(&root, |path| dirs.push(path.to_owned())).unwrap();
        dirs.sort();
        assert_eq!(dirs, ["", "sub", "sub/deep"].map(PathBuf::from));
        assert!(Root::open(&dir.path().join("none"), None).is_err());
    }

    #[test]
    fn links_lead_to_files_of_the_dir_or_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), "x.yaml", 0o600);
        let dir = tempfile::tempdir().unwrap();
        let inside = |name: &str| dir.path().join(name);
        // What Kubernetes makes of a ConfigMap or a Secret.
        write(dir.path(), "..2026/a.yaml", 0o644);
        symlink("..2026", inside("..data")).unwrap();
        symlink("..data/a.yaml", inside("a.yaml")).unwrap();
        symlink(outside.path().join("x.yaml"), inside("out.yaml")).unwrap();
        symlink("nothing", inside("dangling.yaml")).unwrap();
        symlink(outside.path(), inside("directory")).unwrap();
        symlink(".", inside("loop")).unwrap();
        let not_a_file = "it is not a file; links must lead to a file in the directory";
        let expected = [
            "a.yaml=7".to_owned(),
            format!("dangling.yaml: {not_a_file}"),
            format!("out.yaml: {not_a_file}"),
        ];
        assert_eq!(names(dir.path()), expected);
    }

    #[test]
    fn what_is_not_what_was_found_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.yaml", 0o644);
        let root = Root::open(dir.path(), None).unwrap();
        let mut found = find(&root, |_| {}).unwrap();
        fs::remove_file(dir.path().join("a.yaml")).unwrap();
        write(dir.path(), "a.yaml", 0o644);
        let (path, found) = found.pop_first().unwrap();
        assert!(matches!(found.read(&root, &path), Err(Fault::Changing)));
    }

    #[test]
    fn the_lookup_helper_opens_what_lies_in_the_dir_and_nothing_else() {
        let above = tempfile::tempdir().unwrap();
        let at = |name: &str| above.path().join(name);
        for name in ["import/sub/a.yaml", "other/b.yaml"] {
            write(above.path(), name, 0o600);
        }
        symlink("../other/b.yaml", at("import/out.yaml")).unwrap();
        symlink("sub/a.yaml", at("import/in.yaml")).unwrap();
        let open = |directory: &str, path: &str, kind| {
            let root = Root::open(&at(directory), None).unwrap();
            let opened = open_in(&at("import"), root.directory.as_fd(), path.as_ref(), kind);
            opened.map(drop).map_err(|error| error.raw_os_error().map(Errno::from_raw))
        };
        for path in ["sub/a.yaml", "in.yaml"] {
            assert_eq!(open("import", path, Kind::File), Ok(()));
        }
        assert_eq!(open("import", "sub", Kind::Directory), Ok(()));
        assert_eq!(open("import", "out.yaml", Kind::File), Err(Some(Errno::EXDEV)));
        assert_eq!(open("import", "../other", Kind::Directory), Err(Some(Errno::EXDEV)));
        assert_eq!(open("import", "/etc/passwd", Kind::File), Err(Some(Errno::EXDEV)));
        for other in ["other", "import/sub", ""] {
            assert_eq!(open(other, ".", Kind::Directory), Err(Some(Errno::ESTALE)), "{other}");
        }
    }

    #[test]
    fn what_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "all.yaml", 0o646);
        write(dir.path(), "group.yaml", 0o664);
        nix::unistd::mkfifo(&dir.path().join("pipe.yaml"), Mode::S_IRWXU).unwrap();
        let said = names(dir.path());
        assert!(said[0].starts_with("all.yaml: others than its owner") && said[0].contains("0646"));
        assert!(said[1].starts_with("group.yaml: others than its owner"));
        assert!(said[2].starts_with("pipe.yaml: it is not a file"), "{said:?}");
    }
}
