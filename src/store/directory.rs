//! The state directory: its owner's alone, and one daemon's at a time.

use std::fs::{DirBuilder, File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::fstatvfs;

use super::exclusive::Exclusive;
use super::{Space, StoreError};

/// Right after a `kill -9` the kernel may still hold the dead daemon's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// The state directory, checked and locked until it is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    // Before the lock, so that it is given back while it is locked.
    exclusive: Option<Exclusive>,
    lock: Flock<File>,
}

impl Directory {
    /// Makes the directory if it is missing, checks which users may enter it, and locks it.
    pub(super) fn open(path: &Path) -> Result<Directory, StoreError> {
        make(path)?;
        let mut directory = Self::open_existing(path)?;
        directory.exclusive = Exclusive::take(&directory)?;
        Ok(directory)
    }

    /// As [`Directory::open`], for one that is there. Root may work on one that is another user's.
    pub(super) fn open_existing(path: &Path) -> Result<Directory, StoreError> {
        let metadata = look_at(path)?;
        check(path, &metadata)?;
        let user = nix::unistd::geteuid();
        if !user.is_root() {
            check_owner(path, &metadata, user.as_raw())?;
        }
        let file = File::open(path).map_err(|error| StoreError::io("open", path, error))?;
        Ok(Directory { path: path.to_owned(), exclusive: None, lock: lock(path, file)? })
    }

    /// Checks which users may enter the directory, if it is there. Makes and locks nothing.
    pub(super) fn look_at(path: &Path) -> Result<(), StoreError> {
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io("look at", path, error)),
            Ok(metadata) => check(path, &metadata),
        }
    }

    /// Makes the directory if it is missing, and checks whose it is.
    pub(super) fn check_owner(path: &Path) -> Result<(), StoreError> {
        make(path)?;
        check_owner(path, &look_at(path)?, nix::unistd::geteuid().as_raw())
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes names in the directory survive a power loss.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.lock.sync_all().map_err(|error| StoreError::io("sync", &self.path, error))
    }

    /// What an unprivileged process could still write counts as free: root's extra blocks are not
    /// for a daemon.
    pub(super) fn space(&self) -> Result<Space, StoreError> {
        let stat = fstatvfs(&*self.lock).map_err(|errno| {
            StoreError::io("ask for the free space of", &self.path, errno.into())
        })?;
        let block = stat.fragment_size();
        Ok(Space { total: stat.blocks() * block, free: stat.blocks_available() * block })
    }
}

/// Makes `path` with mode 0700 if it is missing, with all missing directories above it. Those above get
/// mode 0755 if root makes them, since the server's user must pass through them, and 0700 otherwise. Their
/// names survive a power loss.
pub(super) fn make(path: &Path) -> Result<(), StoreError> {
    let above = if nix::unistd::geteuid().is_root() { 0o755 } else { 0o700 };
    make_with(path, 0o700, above)
}

fn make_with(path: &Path, mode: u32, above: u32) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("make", path, error);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.parent().is_some() => {
            make_with(parent, above, above)?;
            make_with(path, mode, above)
        }
        Err(error) => Err(failed(error)),
    }
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), StoreError> {
    let path = path.to_owned();
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_dir() {
        Err(StoreError::NotADirectory { path })
    } else if mode & 0o077 != 0 {
        Err(StoreError::Unsafe { path, mode })
    } else {
        Ok(())
    }
}

fn look_at(path: &Path) -> Result<Metadata, StoreError> {
    path.symlink_metadata().map_err(|error| StoreError::io("look at", path, error))
}

fn check_owner(path: &Path, metadata: &Metadata, user: u32) -> Result<(), StoreError> {
    match metadata.uid() {
        owner if owner == user => Ok(()),
        owner => Err(StoreError::Owner { path: path.to_owned(), owner, user }),
    }
}

fn lock(path: &Path, file: File) -> Result<Flock<File>, StoreError> {
    let mut file = Some(file);
    let attempt =
        || match Flock::lock(file.take().expect("put back below"), FlockArg::LockExclusiveNonblock)
        {
            Ok(locked) => Ok(Some(locked)),
            Err((unlocked, Errno::EWOULDBLOCK)) => {
                file = Some(unlocked);
                Ok(None)
            }
            Err((_, errno)) => Err(StoreError::io("lock", path, errno.into())),
        };
    patiently(attempt)?.ok_or_else(|| StoreError::Locked { path: path.to_owned() })
}

/// Tries again for two seconds while the attempt gives nothing.
pub(super) fn patiently<T>(
    mut attempt: impl FnMut() -> Result<Option<T>, StoreError>,
) -> Result<Option<T>, StoreError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let result = attempt()?;
        if result.is_some() || Instant::now() >= deadline {
            return Ok(result);
        }
        std::thread::sleep(LOCK_RETRY);
    }
}
