//! Notices that something in the directory changes.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use inotify::{Inotify, WatchDescriptor, WatchMask};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// inotify(7) on directories. An event is only a reason to look: nothing depends on which file it names, or on that
/// no event is lost.
pub(super) struct Watch {
    inotify: Inotify,
    /// The directory in which another directory, or a link to one, may be put in the place of the watched one, and
    /// its name there.
    above: Option<(WatchDescriptor, OsString)>,
    /// Whether the system refused to watch a directory.
    refused: bool,
}

impl Watch {
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let mut watch = Self { inotify: Inotify::init()?, above: None, refused: false };
        if let (Some(above), Some(name)) = (directory.parent(), directory.file_name()) {
            let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::ONLYDIR;
            watch.above = watch.watch(above, mask).map(|watched| (watched, name.to_owned()));
        }
        Ok(watch)
    }

    /// Watches a directory, if it is not watched already.
    pub(super) fn add(&mut self, directory: &Path) {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MODIFY
            | WatchMask::ATTRIB
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        self.watch(directory, mask);
    }

    fn watch(&mut self, directory: &Path, mask: WatchMask) -> Option<WatchDescriptor> {
        match self.inotify.watches().add(directory, mask) {
            Ok(watched) => Some(watched),
            // It went between being found and this.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                if !std::mem::replace(&mut self.refused, true) {
                    let directory = directory.display();
                    tracing::warn!(%directory, %error, "import-dir: changes are noticed some seconds later, since the directory cannot be watched; raise fs.inotify.max_user_watches");
                }
                None
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
                Ok(_) if self.read() => return true,
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "import-dir: nothing more is told about the directory");
                    std::thread::sleep(left);
                    return false;
                }
            }
        }
    }

    /// Whether something happened that is of interest.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        // It was polled: there is something, or it was read since, or a signal came in between.
        let Ok(mut events) = self.inotify.read_events(&mut buffer) else { return true };
        events.any(|event| match &self.above {
            Some((above, name)) if event.wd == *above => event.name == Some(name),
            _ => true,
        })
    }
}
