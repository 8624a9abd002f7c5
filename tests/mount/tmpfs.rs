//! A small file system of one's own, to fill up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A tmpfs, unmounted when this is dropped.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of that size (`1m`) on a directory; `None` where that is impossible.
    pub(crate) fn mount(directory: &Path, size: &str) -> Option<Self> {
        let data = format!("size={size},mode=0700");
        let mounted =
            mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(data.as_str()));
        match mounted {
            Ok(()) => Some(Self(directory.to_owned())),
            Err(error) => {
                crate::harness::skip(&format!("needs to mount a tmpfs: {error}"));
                None
            }
        }
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        let mut file = fs::File::create(self.ballast()).expect("an empty file takes no room");
        let error = io::copy(&mut io::repeat(b'x'), &mut file).expect_err("the room is limited");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    /// Gives it back.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.ballast()).expect("it was filled before");
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Whoever has a file open there keeps it until it is closed.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
