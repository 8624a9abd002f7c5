//! Protects root's work in a state directory of another user from links that this user makes.
//!
//! The user of a server may write to its state directory, and root follows the paths in it, to read, to write and to
//! make files. So root takes the directories for as long as it works there: no other user can put a link into them
//! during that time. Links that are already there are refused.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::unistd::{Uid, fchown};

use super::StoreError;
use super::directory::Directory;
use super::handover::{MAX_DEPTH, Owner, ROOT};

/// A state directory that root has taken. Dropped, it is its owner's again, with all that root made in it.
#[derive(Debug)]
pub(super) struct Exclusive {
    directory: OwnedFd,
    path: PathBuf,
    owner: Owner,
}

impl Exclusive {
    /// Takes the directory, if this is root and the directory another user's. A directory on a read-only file system
    /// is left as it is, because no user can write to it.
    ///
    /// # Errors
    /// There is something in it that could lead root astray.
    pub(super) fn take(directory: &Directory) -> Result<Option<Self>, StoreError> {
        let path = directory.path();
        let failed = |errno: Errno| StoreError::io("take", path, errno.into());
        let stat = fstat(directory.descriptor()).map_err(failed)?;
        if !Uid::effective().is_root() || stat.st_uid == ROOT {
            return Ok(None);
        }
        let own = directory.descriptor().try_clone_to_owned();
        let own = own.map_err(|error| StoreError::io("open", path, error))?;
        let owner = Owner::of(&stat);
        match take(&own, &stat) {
            Ok(()) => {}
            Err(Errno::EROFS) => {
                check_content(&own, path, owner.user, false, MAX_DEPTH)?;
                return Ok(None);
            }
            Err(errno) => return Err(failed(errno)),
        }
        let exclusive = Self { directory: own, path: path.to_owned(), owner };
        check_content(&exclusive.directory, path, exclusive.owner.user, true, MAX_DEPTH)?;
        Ok(Some(exclusive))
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        if let Err(error) = self.owner.give_all(&self.directory) {
            let (path, user) = (self.path.display(), self.owner.user);
            tracing::error!(%path, %user, %error, "the state directory is not its user's again; run chown -R on it");
        }
    }
}

fn take(directory: impl AsFd, stat: &FileStat) -> nix::Result<()> {
    fchown(&directory, Some(Uid::from_raw(ROOT)), None)?;
    // Without what others could still write by, also through a descriptor that they have open.
    fchmod(&directory, Mode::from_bits_truncate(stat.st_mode & 0o7755))
}

/// Refuses what is no file or directory of the user's own, or of root's.
fn check_content(
    directory: impl AsFd,
    path: &Path,
    user: Uid,
    takes: bool,
    depth: usize,
) -> Result<(), StoreError> {
    let failed = |errno: Errno| StoreError::io("look through", path, errno.into());
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let again =
        openat(&directory, ".", flags | OFlag::O_DIRECTORY, Mode::empty()).map_err(failed)?;
    for entry in Dir::from_fd(again).map_err(failed)?.iter() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let path = path.join(name.to_string_lossy().as_ref());
        let planted =
            |what: &str| StoreError::Planted { path: path.clone(), what: what.to_owned() };
        let file = match openat(&directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ELOOP) => return Err(planted("it is a symbolic link")),
            Err(_) => return Err(planted("it cannot be opened")),
        };
        let stat = fstat(&file).map_err(failed)?;
        let owner = Uid::from_raw(stat.st_uid);
        if owner != user && !owner.is_root() {
            return Err(planted(&format!("it belongs to UID {owner}")));
        }
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR if depth > 0 => {
                if takes {
                    take(&file, &stat).map_err(failed)?;
                }
                check_content(&file, &path, user, takes, depth - 1)?;
            }
            SFlag::S_IFREG if stat.st_nlink <= 1 => {}
            SFlag::S_IFREG => return Err(planted("it has a second name")),
            _ => return Err(planted("it is neither a file nor a directory")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::SledStore;
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};

    const USER: u32 = 60_313;

    /// A state directory with a store, all of it the user's.
    fn state(directory: &Path) -> PathBuf {
        let state = directory.join("state");
        drop(SledStore::open(&state).unwrap());
        give(&state);
        state
    }

    fn give(path: &Path) {
        lchown(path, Some(USER), Some(USER)).unwrap();
        if path.symlink_metadata().unwrap().is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
        }
    }

    #[test]
    fn root_takes_the_directory_while_it_works_there() {
        if !Uid::effective().is_root() {
            return;
        }
        let above = tempfile::tempdir().unwrap();
        let state = state(above.path());
        let uid = |path: &Path| path.symlink_metadata().unwrap().uid();
        let store = SledStore::open(&state).unwrap();
        assert_eq!((uid(&state), uid(&state.join("store"))), (0, 0));
        fs::write(state.join("new"), "").unwrap();
        drop(store);
        for path in [&state, &state.join("store"), &state.join("store/db"), &state.join("new")] {
            assert_eq!(uid(path), USER, "{path:?}");
        }
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o7777, 0o700);
    }

    #[test]
    fn what_could_lead_root_astray_is_refused() {
        if !Uid::effective().is_root() {
            return;
        }
        let above = tempfile::tempdir().unwrap();
        let state = state(above.path());
        let outside = above.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "root's").unwrap();
        type Plant<'a> = &'a dyn Fn(&Path);
        let plants: [(&str, &str, Plant<'_>); 5] = [
            ("audit", "symbolic link", &|path| symlink(&outside, path).unwrap()),
            ("audit.head", "symbolic link", &|path| symlink(outside.join("file"), path).unwrap()),
            ("store/snap", "second name", &|path| {
                fs::hard_link(outside.join("file"), path).unwrap()
            }),
            ("store/pipe", "neither a file", &|path| {
                nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
                chown(path, Some(USER), None).unwrap();
            }),
            ("other", "belongs to UID 7", &|path| {
                fs::write(path, "").unwrap();
                chown(path, Some(7), None).unwrap();
            }),
        ];
        for (name, what, plant) in plants {
            let path = state.join(name);
            plant(&path);
            let error = SledStore::open(&state).err().unwrap();
            let text = error.to_string();
            assert!(matches!(error, StoreError::Planted { .. }), "{name}: {text}");
            assert!(text.contains(what) && text.contains(name), "{name}: {text}");
            assert_eq!(fs::metadata(&state).unwrap().uid(), USER, "it is given back");
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"root's");
        assert!(SledStore::open(&state).is_ok());
    }
}
