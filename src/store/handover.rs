//! Giving a state directory of root's to the user that opens it from now on.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::{Gid, Uid, fchown};

use super::StoreError;
use super::directory::{Directory, make};

pub(super) const ROOT: u32 = 0;
/// Deeper than any directory of ours.
pub(super) const MAX_DEPTH: usize = 8;

/// Makes the directory if it is missing. Gives `user` the directory and everything in it that root owns: an older
/// version made it, or root worked on it offline. A directory of a third user is not changed: that is an error.
pub(super) fn hand_over(path: &Path, user: u32, group: u32) -> Result<(), StoreError> {
    make(path)?;
    let directory = Directory::open_existing(path)?;
    let owner = Owner { user: Uid::from_raw(user), group: Gid::from_raw(group) };
    let failed = |error| StoreError::io("give its user", path, error);
    let top = directory.descriptor();
    let stat = fstat(top).map_err(|errno| failed(errno.into()))?;
    if stat.st_uid != ROOT && stat.st_uid != user {
        return Err(StoreError::Owner { path: path.to_owned(), owner: stat.st_uid, user });
    }
    owner.give_all(top).map_err(failed)
}

#[derive(Debug)]
pub(super) struct Owner {
    pub(super) user: Uid,
    group: Gid,
}

impl Owner {
    pub(super) fn of(stat: &FileStat) -> Self {
        Self { user: Uid::from_raw(stat.st_uid), group: Gid::from_raw(stat.st_gid) }
    }

    /// Gives the user the directory and what root has in it.
    pub(super) fn give_all(&self, top: impl AsFd) -> io::Result<()> {
        self.take_content(&top, MAX_DEPTH)?;
        // Last: as long as this is not done, all of it is done again.
        self.take(&top, &fstat(&top)?)
    }

    fn take_content(&self, directory: impl AsFd, depth: usize) -> io::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let again = openat(&directory, ".", flags | OFlag::O_DIRECTORY, Mode::empty())?;
        for entry in Dir::from_fd(again)?.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            // A link, or a file that was removed since the listing, is not ours.
            let Ok(file) = openat(&directory, name, flags, Mode::empty()) else { continue };
            let stat = fstat(&file)?;
            let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
            if kind == SFlag::S_IFDIR && depth > 0 {
                self.take_content(&file, depth - 1)?;
                self.take(&file, &stat)?;
            // A file with a second name may be one of root's that the user has linked here.
            } else if kind == SFlag::S_IFREG && stat.st_nlink == 1 {
                self.take(&file, &stat)?;
            }
        }
        Ok(())
    }

    fn take(&self, file: impl AsFd, stat: &FileStat) -> io::Result<()> {
        if stat.st_uid == ROOT && !self.user.is_root() {
            fchown(file, Some(self.user), Some(self.group))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn gives_what_is_roots_and_nothing_that_lies_elsewhere() {
        if !Uid::effective().is_root() {
            return;
        }
        let above = tempfile::tempdir().unwrap();
        let state = above.path().join("state");
        fs::create_dir_all(state.join("store/blobs")).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        let outside = above.path().join("outside");
        fs::write(&outside, "").unwrap();
        fs::write(state.join("store/blobs/1"), "").unwrap();
        symlink(&outside, state.join("link")).unwrap();
        fs::hard_link(&outside, state.join("second-name")).unwrap();
        hand_over(&state, 1, 2).unwrap();
        hand_over(&state, 1, 2).unwrap();
        for path in [&state, &state.join("store"), &state.join("store/blobs/1")] {
            let metadata = fs::metadata(path).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (1, 2), "{path:?}");
        }
        assert_eq!(fs::metadata(&outside).unwrap().uid(), ROOT);
        assert!(matches!(hand_over(&state, 3, 3), Err(StoreError::Owner { owner: 1, .. })));
        hand_over(&above.path().join("new"), 1, 1).unwrap();
    }
}
