//! tmpfs: no daemon, no request. What any answer of a daemon is paid on top of.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::Subject;
use super::mounted::{make_directory, make_point, unmount};

/// A tmpfs of its own.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    pub(super) fn start(directory: &Path) -> io::Result<Self> {
        let point = make_point(directory, "tmpfs")?;
        let flags =
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
        mount(Some("tmpfs"), &point, Some("tmpfs"), flags, Some("size=64m,mode=755"))?;
        let subject = Self(point);
        make_directory(&subject.0)?;
        Ok(subject)
    }
}

impl Subject for Tmpfs {
    fn name(&self) -> &'static str {
        "tmpfs"
    }

    fn point(&self) -> &Path {
        &self.0
    }

    /// Its storage is the cache: it is never cold.
    fn remount(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0) {
            eprintln!("{} was left behind: {error}", self.0.display());
        }
    }
}
