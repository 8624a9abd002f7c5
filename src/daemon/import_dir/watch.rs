//! Being told that something in the folder changes.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use inotify::{Inotify, WatchMask};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// inotify(7) on folders. What it tells is only a reason to look: nothing depends on which file it
/// names, or on that it tells everything.
pub(super) struct Watch {
    inotify: Inotify,
    /// Whether the system refused to watch a folder.
    refused: bool,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { inotify: Inotify::init()?, refused: false })
    }

    /// Watches a folder, if it is not watched already.
    pub(super) fn add(&mut self, folder: &Path) {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MODIFY
            | WatchMask::ATTRIB
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        match self.inotify.watches().add(folder, mask) {
            Ok(_) => {}
            // It went between being found and this.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                if !std::mem::replace(&mut self.refused, true) {
                    let folder = folder.display();
                    tracing::warn!(%folder, %error, "import-dir: changes are noticed some seconds later, since the folder cannot be watched; raise fs.inotify.max_user_watches");
                }
            }
        }
    }

    /// Waits until something happened and then until nothing did for the time `settled`, but no
    /// longer than `longest`; or until nothing happened for the time `patience`.
    pub(super) fn wait(&mut self, patience: Duration, settled: Duration, longest: Duration) {
        if !self.happens_within(patience) {
            return;
        }
        let start = Instant::now();
        while start.elapsed() < longest && self.happens_within(settled) {}
    }

    fn happens_within(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut descriptors = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
            match poll(&mut descriptors, timeout) {
                Ok(0) => return false,
                Ok(_) => break,
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "import-dir: nothing more is told about the folder");
                    std::thread::sleep(left);
                    return false;
                }
            }
        }
        let mut buffer = [0; 16 << 10];
        // It was polled: there is something, or it was read since, or a signal came in between.
        let _ = self.inotify.read_events(&mut buffer);
        true
    }
}
