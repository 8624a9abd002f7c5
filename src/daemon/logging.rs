//! The daemon's log: for people on a terminal, for the journal where systemd listens, as lines of JSON otherwise. In
//! the background syslog has it, and until the daemon serves its caller. What cannot be written at once is dropped
//! and counted: no thread waits for a log.

mod journal;
mod queue;
mod syslog;

use std::io::{self, IsTerminal};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::host::start_notice;
use super::settings::LogLevel;
use journal::Journal;
use queue::Queue;
use syslog::Syslog;

/// Where the log goes beside standard error. Opened before a process is confined.
pub(super) struct Sockets {
    /// Has everything that would go to standard error.
    journal: Option<Journal>,
    syslog: Option<Syslog>,
}

impl Sockets {
    pub(super) fn open() -> io::Result<Self> {
        let syslog = start_notice::is_in_background().then(Syslog::open).transpose()?;
        Ok(Self { journal: Journal::of_stderr(), syslog })
    }
}

/// The log of this process.
pub(super) struct Log(Queue);

impl Log {
    /// Starts logging.
    ///
    /// # Errors
    /// No thread can be started for it.
    pub(super) fn start(level: LogLevel) -> io::Result<Self> {
        Self::start_in(Sockets::open()?, level)
    }

    /// As [`Log::start`], for a process that could open the sockets only earlier.
    pub(super) fn start_in(sockets: Sockets, level: LogLevel) -> io::Result<Self> {
        let level = match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
        };
        // The FUSE library logs every mount, and sled every page; warnings are enough.
        let filter = EnvFilter::default()
            .add_directive(level.into())
            .add_directive("fuser=warn".parse().expect("a fixed directive parses"))
            .add_directive("sled=warn".parse().expect("a fixed directive parses"));
        let lines_of_syslog = |syslog| {
            let lines = tracing_subscriber::fmt::layer().with_ansi(false).without_time();
            lines.with_level(false).with_target(false).with_writer(syslog)
        };
        let log = tracing_subscriber::registry().with(filter);
        let log = log.with(sockets.syslog.map(lines_of_syslog));
        let queue = Queue::start()?;
        let lines = tracing_subscriber::fmt::layer().with_writer(queue.writer());
        // A second start in one process (a test) finds the first one's log in place, which is as good.
        let _ = match sockets.journal {
            Some(journal) => log.with(journal).try_init(),
            None if io::stderr().is_terminal() => log.with(lines.with_target(false)).try_init(),
            None => log.with(lines.with_ansi(false).json().flatten_event(true)).try_init(),
        };
        Ok(Self(queue))
    }

    /// Waits a moment until what was logged is written: before something else is written there, and
    /// at the end.
    pub(super) fn flush(&self) {
        self.0.flush();
    }
}

/// As in syslog(3).
fn severity(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}
