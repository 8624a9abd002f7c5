//! Lines on their way to standard error, which may be a pipe that is not read.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::telemetry::LOG_DROPPED;

/// How many lines may wait.
const WAITING: usize = 4096;
/// How long to wait for a pipe that is not read before the end.
const PATIENCE: Duration = Duration::from_secs(1);

enum Item {
    Line(Box<[u8]>),
    Flush(SyncSender<()>),
}

/// The handle on the thread that writes.
#[derive(Clone)]
pub(super) struct Queue(SyncSender<Item>);

impl Queue {
    pub(super) fn start() -> io::Result<Self> {
        let (queue, lines) = sync_channel(WAITING);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&lines))?;
        Ok(Self(queue))
    }

    pub(super) fn writer(&self) -> Self {
        self.clone()
    }

    pub(super) fn flush(&self) {
        let (done, when_done) = sync_channel(1);
        // A full queue is not worth waiting for: its reader has gone to sleep.
        if self.0.try_send(Item::Flush(done)).is_ok() {
            match when_done.recv_timeout(PATIENCE) {
                Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }
}

fn write_all(lines: &Receiver<Item>) {
    for item in lines {
        match item {
            // Standard error may be closed: then the line is not wanted.
            Item::Line(line) => _ = io::stderr().write_all(&line),
            // The caller may no longer wait.
            Item::Flush(done) => _ = done.send(()),
        }
    }
}

/// Collects one line, and hands it over when it is dropped.
pub(super) struct Line<'a> {
    queue: &'a Queue,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.bytes).into_boxed_slice();
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.queue.0.try_send(Item::Line(line))
        {
            LOG_DROPPED.increment();
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { queue: self, bytes: Vec::with_capacity(256) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_sleeps_holds_nobody_up() {
        let (sender, lines) = sync_channel(2);
        let queue = Queue(sender);
        let before = LOG_DROPPED.get();
        for number in 0..5 {
            writeln!(queue.make_writer(), "line {number}").unwrap();
        }
        assert_eq!(LOG_DROPPED.get() - before, 3);
        let Ok(Item::Line(first)) = lines.try_recv() else { panic!("no line") };
        assert_eq!(&*first, b"line 0\n");
        queue.flush();
    }
}
