//! A new file outside the mount: whole and on the disk under its name, or not there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// A file under a name of its own, in the directory of the one that it becomes. Removed if it does not
/// become that.
pub struct NewFile {
    file: File,
    unfinished: PathBuf,
    path: PathBuf,
    replace: bool,
    finished: bool,
}

impl NewFile {
    /// Begins a file of mode 0600. One that is there is an error, unless it is to be replaced.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`], or the directory takes no file.
    pub fn create(path: &Path, replace: bool) -> io::Result<Self> {
        Self::with_mode(path, replace, 0o600)
    }

    /// As [`NewFile::create`], for a file that is not there and holds nothing secret.
    ///
    /// # Errors
    /// As [`NewFile::create`].
    pub fn create_for_all(path: &Path) -> io::Result<Self> {
        Self::with_mode(path, false, 0o666)
    }

    /// Begins the replacement of a file that is there, with its mode and owner.
    ///
    /// # Errors
    /// The directory takes no file, or this user may not give a file that owner.
    pub fn replacing(path: &Path) -> io::Result<Self> {
        let (old, new) = (path.metadata()?, Self::create(path, true)?);
        let now = new.file.metadata()?;
        if (old.uid(), old.gid()) != (now.uid(), now.gid()) {
            fchown(&new.file, Some(old.uid()), Some(old.gid()))?;
        }
        new.file.set_permissions(old.permissions())?;
        Ok(new)
    }

    fn with_mode(path: &Path, replace: bool, mode: u32) -> io::Result<Self> {
        if !replace && path.symlink_metadata().is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let name = path.file_name().ok_or(ErrorKind::IsADirectory)?.to_string_lossy();
        // What a crash left behind must not be in the way, and process ids are repeated.
        let number = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        let unfinished = path.with_file_name(format!(".{name}.{number:016x}.unfinished"));
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
        Ok(Self { file, unfinished, path: path.to_owned(), replace, finished: false })
    }

    /// Gives the file its name, once it is on the disk.
    ///
    /// # Errors
    /// The disk is full, or the name is taken by now.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if self.replace {
            fs::rename(&self.unfinished, &self.path)?;
        } else {
            rename_new(&self.unfinished, &self.path)?;
        }
        self.finished = true;
        let directory = self.path.parent().filter(|directory| *directory != Path::new(""));
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// As `rename`, but a file that is there is an error.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // Some file systems cannot tell; a link fails if the name is taken, too.
        Err(Errno::EINVAL) => fs::hard_link(from, to).and_then(|()| fs::remove_file(from)),
        outcome => Ok(outcome?),
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed stays under a name that says what it is.
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn appears_whole_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backup.yaml");
        let mut file = NewFile::create(&path, false).unwrap();
        file.write_all(b"one").unwrap();
        assert!(!path.exists());
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

        let taken = |file: io::Result<NewFile>| file.err().map(|error| error.kind());
        assert_eq!(taken(NewFile::create(&path, false)), Some(ErrorKind::AlreadyExists));
        let mut file = NewFile::create(&path, true).unwrap();
        file.write_all(b"two").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_replacement_keeps_mode_and_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k.yaml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let owner = if nix::unistd::geteuid().is_root() { Some(7) } else { None };
        std::os::unix::fs::chown(&path, owner, owner).unwrap();
        let before = path.metadata().unwrap();
        let mut file = NewFile::replacing(&path).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.finish().unwrap();
        let after = path.metadata().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let of = |file: &fs::Metadata| (file.mode(), file.uid(), file.gid());
        assert_eq!(of(&after), of(&before));
        assert_eq!(
            NewFile::replacing(&path.with_file_name("no")).err().unwrap().kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn one_that_appeared_meanwhile_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backup.yaml");
        let file = NewFile::create(&path, false).unwrap();
        fs::write(&path, "other").unwrap();
        assert_eq!(file.finish().unwrap_err().kind(), ErrorKind::AlreadyExists);
        drop(NewFile::create(&directory.path().join("given-up"), false).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"other");
        assert_eq!(directory.path().read_dir().unwrap().count(), 1, "nothing is left behind");
    }
}
