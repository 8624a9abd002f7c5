//! Files that influence authorisation: only root and the mounting user may be able to change them.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::FsFlags;

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;
/// The mode bits that let others than the owner write: those of the group, and of all.
const OTHERS_MAY_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Whose files are trusted: root's, and those of the user who mounts.
#[derive(Clone, Copy, Debug)]
pub struct Trust {
    user: u32,
}

impl Trust {
    /// Trusts root and the user of this process.
    pub fn in_this_user() -> Self {
        Self::in_user(nix::unistd::geteuid().as_raw())
    }

    /// Trusts root and this user.
    pub fn in_user(user: u32) -> Self {
        Self { user }
    }

    /// Opens a file for reading that no other user can change or replace: no directory on its path, no link and not
    /// the file itself may be another user's or writable by others. On a path through a sticky directory it is enough
    /// that what lies in it is a trusted user's.
    ///
    /// # Errors
    /// It cannot be opened, or others could change it.
    pub fn open(self, path: &Path) -> io::Result<File> {
        let (path, _) = self.resolve(path)?;
        let file = File::open(&path)?;
        let metadata = file.metadata()?;
        self.check_owner(&path, &metadata)?;
        // The mode of a device says nothing about what is read.
        if !metadata.file_type().is_char_device() && is_writable_by_others(&file, &metadata)? {
            return Err(writable(&path, &metadata));
        }
        Ok(file)
    }

    /// Why [`Trust::open`] would refuse a file because others could change it, as far as this process can
    /// see it.
    pub fn fault_of_file(self, path: &Path) -> Option<io::Error> {
        let look = || {
            let (path, _) = self.resolve(path)?;
            let metadata = path.symlink_metadata()?;
            self.check_owner(&path, &metadata)?;
            let file = open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
            if metadata.is_file() && is_writable_by_others(&file, &metadata)? {
                return Err(writable(&path, &metadata));
            }
            Ok(())
        };
        // What the kernel refuses to this process is no answer.
        look().err().filter(|error: &io::Error| error.raw_os_error().is_none())
    }

    /// As [`Trust::open`], for a directory: no other user can change its content. Gives its path without links.
    ///
    /// # Errors
    /// It is not there, or others could change it.
    pub fn check_directory(self, path: &Path) -> io::Result<PathBuf> {
        let (path, sticky) = self.resolve(path)?;
        let metadata = path.symlink_metadata()?;
        if !metadata.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        // In a sticky directory others can make files, as links to a trusted user's files elsewhere.
        if sticky {
            return Err(writable(&path, &metadata));
        }
        Ok(path)
    }

    /// The path without links; whether it is that of a sticky directory that others may write to.
    fn resolve(self, path: &Path) -> io::Result<(PathBuf, bool)> {
        let mut current = PathBuf::from("/");
        let mut sticky = self.check(&current, &current.symlink_metadata()?)?;
        let mut pending = Vec::new();
        push(&mut pending, &std::path::absolute(path)?);
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                current.pop();
                sticky = self.check(&current, &current.symlink_metadata()?)?;
                continue;
            }
            let next = current.join(name);
            let metadata = next.symlink_metadata()?;
            if sticky {
                self.check_owner(&next, &metadata)?;
            }
            if metadata.is_symlink() {
                if is_descriptor(&current)? {
                    // An open file of this process, whose path says nothing. It is checked once it is open.
                    let is_last = pending.is_empty();
                    return is_last.then_some((next, false)).ok_or(Errno::ENOTDIR.into());
                }
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::ELOOP.into());
                }
                let target = PathBuf::from(readlinkat(AT_FDCWD, &next)?);
                if target.is_absolute() {
                    current = "/".into();
                    sticky = self.check(&current, &current.symlink_metadata()?)?;
                }
                push(&mut pending, &target);
            } else if metadata.is_dir() {
                sticky = self.check(&next, &metadata)?;
                current = next;
            } else if pending.is_empty() {
                return Ok((next, false));
            } else {
                return Err(Errno::ENOTDIR.into());
            }
        }
        Ok((current, sticky))
    }

    /// Checks a directory on the path. Whether others may write to it and it is sticky.
    fn check(self, path: &Path, metadata: &Metadata) -> io::Result<bool> {
        self.check_owner(path, metadata)?;
        if metadata.mode() & OTHERS_MAY_WRITE == 0 {
            return Ok(false);
        }
        let directory = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        if !is_writable_by_others(&directory, metadata)? {
            return Ok(false);
        }
        if metadata.mode() & STICKY == 0 {
            return Err(writable(path, metadata));
        }
        Ok(true)
    }

    fn check_owner(self, path: &Path, metadata: &Metadata) -> io::Result<()> {
        let owner = metadata.uid();
        if owner == 0 || owner == self.user {
            return Ok(());
        }
        let path = path.display();
        Err(refused(format!(
            "{path} belongs to UID {owner}, who is neither root nor the user who mounts; run chown on it"
        )))
    }
}

/// Whether others than the owner may write to an open file or directory. Nothing can be written on a read-only mount:
/// Kubernetes mounts a ConfigMap that way, with directories of mode 0777.
fn is_writable_by_others(file: impl AsFd, metadata: &Metadata) -> io::Result<bool> {
    Ok(metadata.mode() & OTHERS_MAY_WRITE != 0 && !is_on_read_only_mount(file)?)
}

/// Whether an open file lies on a mount that is read-only.
///
/// # Errors
/// The kernel does not tell.
pub fn is_on_read_only_mount(file: impl AsFd) -> io::Result<bool> {
    Ok(fstatfs(file)?.flags().contains(FsFlags::ST_RDONLY))
}

/// Whether the directory is that of the open files of a process: its entries look like links.
fn is_descriptor(directory: &Path) -> io::Result<bool> {
    if !directory.ends_with("fd") {
        return Ok(false);
    }
    let directory = open(directory, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let kind: FsType = fstatfs(directory)?.filesystem_type();
    Ok(kind == PROC_SUPER_MAGIC)
}

fn push(pending: &mut Vec<OsString>, path: &Path) {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from_vec(b"..".to_vec())),
        _ => None,
    });
    pending.extend(names);
}

fn writable(path: &Path, metadata: &Metadata) -> io::Error {
    let (path, mode) = (path.display(), metadata.mode() & 0o7777);
    refused(format!(
        "others than its owner may write to {path} (mode {mode:04o}); run chmod go-w on it"
    ))
}

fn refused(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    /// A user of no file.
    const OTHER: u32 = 60_312;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Why it is refused; nothing if it is not.
    fn said(outcome: io::Result<impl Sized>) -> String {
        outcome.err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn others_must_not_be_able_to_change_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let trust = Trust::in_this_user();
        let directory = dir.path().join("etc");
        let file = directory.join("identities.yaml");
        fs::create_dir(&directory).unwrap();
        fs::write(&file, "text").unwrap();
        set_mode(&directory, 0o755);
        for (mode, refused) in
            [(0o600, false), (0o644, false), (0o664, true), (0o602, true), (0o666, true)]
        {
            set_mode(&file, mode);
            let said = said(trust.open(&file));
            assert_eq!(said.contains("may write to") && said.contains("chmod"), refused, "{said}");
            assert_eq!(said.is_empty(), !refused);
        }
        set_mode(&file, 0o644);
        for (mode, for_file, for_directory) in [
            (0o755, true, true),
            (0o775, false, false),
            (0o757, false, false),
            (0o1777, true, false),
        ] {
            set_mode(&directory, mode);
            assert_eq!(trust.open(&file).is_ok(), for_file, "{mode:o}");
            assert_eq!(trust.check_directory(&directory).is_ok(), for_directory, "{mode:o}");
        }
        assert_eq!(
            trust.open(&directory.join("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn links_are_followed_where_each_step_is_safe() {
        let dir = tempfile::tempdir().unwrap();
        let trust = Trust::in_this_user();
        let at = |name: &str| dir.path().join(name);
        // What Kubernetes makes of a Secret.
        fs::create_dir_all(at("volume/..v1")).unwrap();
        fs::write(at("volume/..v1/key"), "text").unwrap();
        symlink("..v1", at("volume/..data")).unwrap();
        symlink("..data/key", at("volume/key")).unwrap();
        set_mode(&at("volume"), 0o1777);
        assert_eq!(said(trust.open(&at("volume/key"))), "");
        symlink(at("volume/../volume/key"), at("absolute")).unwrap();
        assert_eq!(said(trust.open(&at("absolute"))), "");
        set_mode(&at("volume/..v1"), 0o777);
        assert!(said(trust.open(&at("absolute"))).contains("..v1 (mode 0777)"));
        set_mode(&at("volume/..v1"), 0o755);
        set_mode(&at("volume"), 0o777);
        assert!(said(trust.open(&at("absolute"))).contains("volume (mode 0777)"));
        symlink("loop", at("loop")).unwrap();
        assert_eq!(trust.open(&at("loop")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("theirs")).unwrap();
        fs::write(at("theirs/file"), "text").unwrap();
        chown(at("theirs/file"), Some(OTHER), None).unwrap();
        let (root, other) = (Trust::in_user(0), Trust::in_user(OTHER));
        assert!(said(root.open(&at("theirs/file"))).contains("belongs to UID 60312"));
        assert_eq!(said(other.open(&at("theirs/file"))), "");
        chown(at("theirs"), Some(OTHER), None).unwrap();
        assert!(said(root.check_directory(&at("theirs"))).contains("belongs to UID 60312"));
        assert_eq!(said(other.check_directory(&at("theirs"))), "");
        // A link of theirs in a directory that all may write to.
        fs::create_dir(at("open")).unwrap();
        set_mode(&at("open"), 0o1777);
        fs::write(at("file"), "text").unwrap();
        symlink(at("file"), at("open/link")).unwrap();
        assert_eq!(said(root.open(&at("open/link"))), "");
        std::os::unix::fs::lchown(at("open/link"), Some(OTHER), None).unwrap();
        assert!(said(root.open(&at("open/link"))).contains("link belongs to UID 60312"));
    }

    #[test]
    fn open_files_of_this_process_are_read() {
        use std::os::fd::AsRawFd;
        let (end, _other) = nix::unistd::pipe().unwrap();
        let path = format!("/dev/fd/{}", end.as_raw_fd());
        assert_eq!(said(Trust::in_this_user().open(path.as_ref())), "");
    }
}
