//! A listener that is asked for permission for each open and read on the mount, and takes its time (fanotify(7)),
//! as scanners for malware do. The daemon must never wait for it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

use crate::harness::{Mount, ROOT, eventually, skip};

/// How long it thinks about each event.
const THINKS: Duration = Duration::from_millis(30);

struct Listener {
    thread: Option<JoinHandle<BTreeSet<i32>>>,
    stop: Option<Sender<()>>,
}

impl Listener {
    fn on(point: &Path) -> io::Result<Self> {
        // SAFETY: it takes two numbers.
        let fd = unsafe {
            libc::fanotify_init(libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC, libc::O_RDONLY as u32)
        };
        let fd = nix::errno::Errno::result(fd)?;
        // SAFETY: the kernel has just made it.
        let file = unsafe { File::from_raw_fd(fd) };
        let path = std::ffi::CString::new(point.as_os_str().as_bytes())?;
        let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
        let mask = libc::FAN_OPEN_PERM | libc::FAN_ACCESS_PERM;
        // SAFETY: the path ends with a NUL and lives as long as the call.
        let marked = unsafe { libc::fanotify_mark(fd, flags, mask, libc::AT_FDCWD, path.as_ptr()) };
        nix::errno::Errno::result(marked)?;
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || listen(file, &stopped));
        Ok(Self { thread: Some(thread), stop: Some(stop) })
    }

    /// The processes that it was asked about.
    fn end(mut self) -> BTreeSet<i32> {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Allows everything until it is told to stop.
fn listen(mut file: File, stopped: &Receiver<()>) -> BTreeSet<i32> {
    let mut asked = BTreeSet::new();
    let mut buffer = [0; 4096];
    while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
        let mut ready = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(50_u8)) != Ok(1) {
            continue;
        }
        // The kernel opens the file for the listener. If there is a new version by then, or no file, it cannot, and
        // denies the open that it asked about.
        let length = match file.read(&mut buffer) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESTALE | libc::ENOENT)) => {
                continue;
            }
            length => length.unwrap(),
        };
        // struct fanotify_event_metadata
        for event in buffer[..length].chunks_exact(size_of::<libc::fanotify_event_metadata>()) {
            let number = |at: usize| i32::from_ne_bytes(event[at..at + 4].try_into().unwrap());
            let (fd, pid) = (number(16), number(20));
            asked.insert(pid);
            std::thread::sleep(THINKS);
            let response = [fd.to_ne_bytes(), libc::FAN_ALLOW.to_ne_bytes()].concat();
            file.write_all(&response).unwrap();
            // SAFETY: the event brought it, and nobody else has it.
            drop(unsafe { File::from_raw_fd(fd) });
        }
    }
    asked
}

/// Until the kernel does not deny it for that reason.
fn allowed<T>(mut operation: impl FnMut() -> io::Result<T>) -> T {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        match operation() {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ESTALE))
                    && std::time::Instant::now() < deadline => {}
            outcome => return outcome.unwrap(),
        }
    }
}

#[test]
fn a_slow_listener_delays_callers_and_never_the_daemon() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "0 0").unwrap();
    let listener = match Listener::on(&mount.point()) {
        Ok(listener) => listener,
        Err(error) => return skip(&format!("needs fanotify(7) with permission events: {error}")),
    };
    let watch =
        nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::IN_NONBLOCK).unwrap();
    watch
        .add_watch(&mount.point().join("K"), nix::sys::inotify::AddWatchFlags::IN_ALL_EVENTS)
        .unwrap();
    let daemon = || {
        [
            Some(mount.pid()),
            mount.server(),
            mount.notifier(),
            mount.lookup_helper(),
            mount.inotify_helper(),
        ]
        .map(|pid| pid.expect("all of the daemon runs").as_raw())
    };
    let mut of_daemon: BTreeSet<i32> = daemon().into();
    let point = mount.point();
    let key = point.join("K");
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let key = &key;
            scope.spawn(move || {
                for round in 0..6 {
                    allowed(|| fs::write(key, format!("{writer} {round}")));
                }
            });
            scope.spawn(move || {
                for _ in 0..12 {
                    assert_eq!(allowed(|| fs::read_to_string(key)).len(), 3);
                }
            });
        }
        // Documents, other directories and removals meanwhile.
        for round in 0..4 {
            let document = format!("key: app/K\nvalue: '{round}'\n");
            allowed(|| fs::write(point.join(".import/a.yaml"), &document));
            allowed(|| fs::read_dir(point.join("app"))).for_each(drop);
            allowed(|| fs::remove_file(point.join("app/K")));
        }
    });
    eventually("inotify tells of new versions", || watch.read_events().is_ok());
    // A server that takes over while callers wait for the listener.
    std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| allowed(|| fs::read_to_string(&key)))).collect();
        assert!(mount.kill_server());
        let read: BTreeSet<_> = readers.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(read.len(), 1, "{read:?}");
    });
    eventually("all of the daemon runs", || {
        [mount.server(), mount.notifier(), mount.lookup_helper(), mount.inotify_helper()]
            .iter()
            .all(Option::is_some)
    });
    allowed(|| fs::write(&key, "last"));
    assert_eq!(allowed(|| fs::read_to_string(&key)), "last");
    of_daemon.extend(daemon());
    let asked = listener.end();
    assert!(!asked.is_empty(), "the listener was not asked at all");
    assert!(asked.is_disjoint(&of_daemon), "the daemon waited for the listener: {asked:?}");
    assert_eq!(root.read(".status/health").as_deref(), Ok("ok\n"));
}
