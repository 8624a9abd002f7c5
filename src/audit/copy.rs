//! A copy of each line to journald or syslog. It never delays a reply: what its thread cannot keep
//! up with is dropped and counted.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How many lines may wait.
const WAITING: usize = 8192;
/// How long a datagram may take before it is dropped.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long after a failed connection the next attempt comes.
const RETRY: Duration = Duration::from_secs(1);

/// Where a copy of each line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyTarget {
    /// The systemd journal, in its native protocol, with `MESSAGE` being the line.
    Journald,
    /// `/dev/log`, as facility `authpriv` and severity `info` (RFC 3164).
    Syslog,
}

impl CopyTarget {
    fn socket(self) -> &'static Path {
        Path::new(match self {
            Self::Journald => "/run/systemd/journal/socket",
            Self::Syslog => "/dev/log",
        })
    }

    fn datagram(self, line: &[u8]) -> Vec<u8> {
        match self {
            // <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>: a line holds no line feed.
            Self::Journald => [
                &b"PRIORITY=6\nSYSLOG_FACILITY=10\nSYSLOG_IDENTIFIER=secretfs-audit\nMESSAGE="[..],
                line,
                b"\n",
            ]
            .concat(),
            // 10 * 8 + 6.
            Self::Syslog => [&b"<86>secretfs-audit: "[..], line].concat(),
        }
    }
}

/// The handle on the copying thread, which ends when it is dropped.
pub(super) struct Copy {
    lines: SyncSender<Box<[u8]>>,
    dropped: Arc<AtomicU64>,
}

impl Copy {
    pub(super) fn start(target: CopyTarget, socket: Option<Arc<UnixDatagram>>) -> io::Result<Self> {
        Self::start_at(target, target.socket().to_owned(), socket)
    }

    fn start_at(
        target: CopyTarget,
        path: PathBuf,
        socket: Option<Arc<UnixDatagram>>,
    ) -> io::Result<Self> {
        let socket = match socket {
            Some(socket) => socket,
            None => Arc::new(UnixDatagram::unbound()?),
        };
        socket.set_write_timeout(Some(PATIENCE))?;
        let (lines, incoming) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let sender = Sender {
            target,
            path,
            socket,
            is_connected: false,
            retry: None,
            dropped: Arc::clone(&dropped),
        };
        std::thread::Builder::new()
            .name("audit-copy".to_owned())
            .spawn(move || sender.run(&incoming))?;
        Ok(Self { lines, dropped })
    }

    pub(super) fn send(&self, line: &[u8]) {
        if self.lines.try_send(line.into()).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

struct Sender {
    target: CopyTarget,
    path: PathBuf,
    socket: Arc<UnixDatagram>,
    is_connected: bool,
    retry: Option<Instant>,
    dropped: Arc<AtomicU64>,
}

impl Sender {
    fn run(mut self, incoming: &Receiver<Box<[u8]>>) {
        for line in incoming {
            if !self.send(&self.target.datagram(&line)) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn send(&mut self, datagram: &[u8]) -> bool {
        // The one who listens may have been started anew: once more.
        for _ in 0..2 {
            if !self.is_connected && self.retry.is_none_or(|at| Instant::now() >= at) {
                self.retry = Some(Instant::now() + RETRY);
                self.is_connected = self.socket.connect(&self.path).is_ok();
            }
            if !self.is_connected {
                return false;
            }
            match self.socket.send(datagram) {
                Ok(_) => return true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => {
                    self.is_connected = false;
                    self.retry = None;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_until(mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "it did not come true");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn copies_and_counts_what_nobody_takes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let copy = Copy::start_at(CopyTarget::Syslog, path.clone(), None).unwrap();
        copy.send(b"{\"seq\":1}");
        wait_until(|| copy.dropped() == 1);
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The next attempt to connect comes a second after the first.
        let mut bytes = [0; 200];
        wait_until(|| {
            copy.send(b"{\"seq\":2}");
            listener.set_nonblocking(true).unwrap();
            matches!(listener.recv(&mut bytes), Ok(length) if &bytes[..length] == b"<86>secretfs-audit: {\"seq\":2}")
        });
    }

    #[test]
    fn a_listener_that_does_not_listen_delays_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let copy = Copy::start_at(CopyTarget::Journald, path, None).unwrap();
        let start = Instant::now();
        for _ in 0..3 * WAITING {
            copy.send(b"{}");
        }
        assert!(start.elapsed() < Duration::from_secs(5), "sending waited for the listener");
        assert!(copy.dropped() > 0);
    }
}
