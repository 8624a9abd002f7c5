//! syslog(3), where the log of a daemon goes that was started in the background.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::telemetry::LOG_DROPPED;

const SOCKET: &str = "/dev/log";
/// `LOG_DAEMON`.
const FACILITY: u8 = 3 << 3;

/// Sends each line as a datagram (RFC 3164). It is not connected: the syslog daemon may be restarted, and a server
/// cannot connect. The socket never blocks.
#[derive(Clone)]
pub(super) struct Syslog(Arc<UnixDatagram>);

impl Syslog {
    pub(super) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self(Arc::new(socket)))
    }
}

/// Collects one line, and sends it when it is dropped.
pub(super) struct Line {
    socket: Arc<UnixDatagram>,
    datagram: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.datagram.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.socket.send_to(self.datagram.trim_ascii_end(), Path::new(SOCKET)).is_err() {
            LOG_DROPPED.increment();
        }
    }
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        self.line(&Level::INFO)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        self.line(metadata.level())
    }
}

impl Syslog {
    fn line(&self, level: &Level) -> Line {
        let priority = FACILITY | super::severity(level);
        let head = format!("<{priority}>secretfs[{}]: ", std::process::id());
        Line { socket: Arc::clone(&self.0), datagram: head.into_bytes() }
    }
}
