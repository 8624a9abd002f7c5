//! The systemd journal, in its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use std::fmt::{Debug, Write};
use std::io;
use std::os::unix::net::UnixDatagram;

use nix::sys::stat::fstat;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::telemetry::LOG_DROPPED;

const SOCKET: &str = "/run/systemd/journal/socket";
/// Set by systemd: device and inode of what standard error is connected to (systemd.exec(5)).
const STREAM: &str = "JOURNAL_STREAM";

/// Sends each event with its fields. The socket never blocks.
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// The journal, if standard error leads there.
    pub(super) fn of_stderr() -> Option<Self> {
        let stream = std::env::var(STREAM).ok()?;
        let stderr = fstat(io::stderr()).ok()?;
        if !names(&stream, stderr.st_dev, stderr.st_ino) {
            return None;
        }
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(SOCKET).ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self(socket))
    }
}

fn names(stream: &str, device: u64, inode: u64) -> bool {
    stream
        .split_once(':')
        .is_some_and(|(dev, ino)| dev.parse() == Ok(device) && ino.parse() == Ok(inode))
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let priority = super::severity(event.metadata().level());
        let mut datagram = Datagram(Vec::with_capacity(512));
        datagram.put("PRIORITY", &priority.to_string());
        datagram.put("SYSLOG_IDENTIFIER", "secretfs");
        datagram.put("TARGET", event.metadata().target());
        event.record(&mut datagram);
        if self.0.send(&datagram.0).is_err() {
            LOG_DROPPED.increment();
        }
    }
}

struct Datagram(Vec<u8>);

impl Datagram {
    /// A value with a line end in it is preceded by its length.
    fn put(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl Visit for Datagram {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Fields of the journal are in upper case; those that begin with `_` are its own.
        self.put(&field.name().to_uppercase(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        write!(text, "{value:?}").expect("a string takes all");
        self.record_str(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_stream() {
        assert!(names("8:1234", 8, 1234));
        for other in ["8:1235", "9:1234", "8", "", ":", "8:1234:1"] {
            assert!(!names(other, 8, 1234), "{other}");
        }
    }

    #[test]
    fn line_ends_do_not_end_a_field() {
        let mut datagram = Datagram(Vec::new());
        datagram.put("A", "one");
        datagram.put("B", "two\nC=3");
        assert_eq!(datagram.0, b"A=one\nB\n\x07\0\0\0\0\0\0\0two\nC=3\n");
    }
}
