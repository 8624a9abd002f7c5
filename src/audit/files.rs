//! The files of the log: `audit-00000001.jsonl` and so on, in a directory of their own.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::Uid;

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// Makes the directory (mode 0700) if it is missing.
pub(super) fn make_directory(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(name_of(number))
}

pub(super) fn name_of(number: u64) -> String {
    format!("{PREFIX}{number:08}{SUFFIX}")
}

/// The numbers of all files, in order. A directory that is not there has none.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let directory = match open_part(dir, Path::new(""), OFlag::O_DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        directory => directory?,
    };
    let mut numbers = Vec::new();
    for entry in Dir::from_fd(directory)?.iter() {
        let entry = entry?;
        let digits = std::str::from_utf8(entry.file_name().to_bytes())
            .ok()
            .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX))
            .filter(|digits| digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit()));
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The size of all files, in bytes; 0 where it cannot be told.
pub fn log_bytes(dir: &Path) -> u64 {
    let size =
        |number| std::fs::symlink_metadata(path_of(dir, number)).map_or(0, |file| file.len());
    list(dir).unwrap_or_default().into_iter().map(size).sum()
}

/// A new file (mode 0600), to be appended to.
pub(super) fn create(dir: &Path, number: u64) -> io::Result<File> {
    let path = path_of(dir, number);
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
}

/// A file that exists, to be read and appended to.
pub(super) fn open(dir: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).open(path_of(dir, number))
}

/// A file of the log, to be read.
///
/// # Errors
/// It cannot be opened, or is no file of the log's.
pub(super) fn open_to_read(dir: &Path, number: u64) -> io::Result<File> {
    regular(open_part(dir, Path::new(&name_of(number)), OFlag::empty())?)
}

/// As [`open_to_read`], for a file in the state directory itself.
///
/// # Errors
/// As there.
pub(super) fn open_beside(path: &Path) -> io::Result<File> {
    regular(open_part(path, Path::new(""), OFlag::empty())?)
}

/// Opens `name` in `path`, or `path` itself if that is empty, to be read. `path` lies in the state directory.
///
/// Root reads the logs of other users, who may put what they like into their state directories. So root
/// follows no link there, and does not wait for the writer of a FIFO.
fn open_part(path: &Path, name: &Path, kind: OFlag) -> io::Result<OwnedFd> {
    let state = path.parent().filter(|state| !state.as_os_str().is_empty());
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let state = nix::fcntl::open(state.unwrap_or(Path::new(".")), flags, Mode::empty())?;
    let is_foreign = Uid::effective().is_root() && fstat(&state)?.st_uid != 0;
    let waits_for_nothing = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let flags = OFlag::O_RDONLY | kind | waits_for_nothing;
    let part = Path::new(path.file_name().unwrap_or_default());
    let part = if name.as_os_str().is_empty() { part.to_owned() } else { part.join(name) };
    if !is_foreign {
        return Ok(openat(&state, &part, flags, Mode::empty())?);
    }
    let how = OpenHow::new().flags(flags).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_SYMLINKS,
    );
    openat2(&state, &part, how).map_err(|errno| match io::Error::from(errno) {
        error if error.kind() != io::ErrorKind::NotFound => io::Error::other(format!(
            "{error}; root follows no symbolic link in the state directory of another user: remove it"
        )),
        error => error,
    })
}

fn regular(file: OwnedFd) -> io::Result<File> {
    let file = File::from(file);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file; remove it")),
    }
}

/// Removes the files before `first`.
pub(super) fn remove_before(dir: &Path, first: u64) -> io::Result<()> {
    list(dir)?
        .into_iter()
        .take_while(|&number| number < first)
        .try_for_each(|number| std::fs::remove_file(path_of(dir, number)))
}

/// Makes the names in the directory durable.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_its_own_files_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for number in [3, 100_000_000, 1] {
            create(dir.path(), number).unwrap();
        }
        for other in ["audit-1.jsonl", "audit-0000000x.jsonl", "notes", "audit-00000004.jsonl.gz"] {
            std::fs::write(dir.path().join(other), "").unwrap();
        }
        assert_eq!(list(dir.path()).unwrap(), [1, 3, 100_000_000]);
        assert!(create(dir.path(), 3).is_err(), "never into a file that is there");
        assert_eq!(list(&dir.path().join("missing")).unwrap(), [0; 0]);
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = path_of(dir.path(), 1);
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        for opened in [open_to_read(dir.path(), 1), open_beside(&fifo)] {
            assert!(opened.unwrap_err().to_string().contains("not a regular file"));
        }
    }

    #[test]
    fn root_follows_no_links_of_another_user() {
        use std::os::unix::fs::{chown, symlink};
        if !Uid::effective().is_root() {
            return;
        }
        let above = tempfile::tempdir().unwrap();
        let at = |name: &str| above.path().join(name);
        std::fs::create_dir_all(at("state/audit")).unwrap();
        std::fs::create_dir(at("elsewhere")).unwrap();
        std::fs::write(at("elsewhere/audit-00000001.jsonl"), "root's").unwrap();
        symlink(at("elsewhere/audit-00000001.jsonl"), at("state/audit/audit-00000001.jsonl"))
            .unwrap();
        symlink(at("elsewhere/audit-00000001.jsonl"), at("state/audit.head")).unwrap();
        let (file, head) = (
            || open_to_read(&at("state/audit"), 1).map(drop).map_err(|error| error.to_string()),
            || open_beside(&at("state/audit.head")).map(drop).map_err(|error| error.to_string()),
        );
        // In its own state directory an administrator may put the log on another disk.
        assert_eq!((file(), head()), (Ok(()), Ok(())));
        chown(at("state"), Some(60_314), None).unwrap();
        assert!(file().unwrap_err().contains("symbolic link"));
        assert!(head().unwrap_err().contains("symbolic link"));
        assert_eq!(list(&at("state/audit")).unwrap(), [1]);
        std::fs::remove_dir_all(at("state/audit")).unwrap();
        symlink(at("elsewhere"), at("state/audit")).unwrap();
        assert!(file().unwrap_err().contains("symbolic link"));
        assert!(list(&at("state/audit")).unwrap_err().to_string().contains("symbolic link"));
    }
}
