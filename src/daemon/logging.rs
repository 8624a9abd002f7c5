//! The daemon's log: for people on a terminal, for the journal where systemd listens, as lines of JSON
//! otherwise. What cannot be written at once is dropped and counted: nobody waits for a log.

mod journal;
mod queue;

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::settings::LogLevel;
pub(super) use journal::Journal;
use queue::Queue;

/// The log of this process.
pub(super) struct Log(Queue);

impl Log {
    /// Starts logging.
    ///
    /// # Errors
    /// No thread can be started for it.
    pub(super) fn start(level: LogLevel) -> io::Result<Self> {
        Self::start_in(Journal::of_stderr(), level)
    }

    /// As [`Log::start`], for a process that could look for the journal only earlier.
    pub(super) fn start_in(journal: Option<Journal>, level: LogLevel) -> io::Result<Self> {
        let level = match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
        };
        // The FUSE library tells of every mount, and sled of every page; what goes wrong is enough.
        let filter = EnvFilter::default()
            .add_directive(level.into())
            .add_directive("fuser=warn".parse().expect("a fixed directive parses"))
            .add_directive("sled=warn".parse().expect("a fixed directive parses"));
        let log = tracing_subscriber::registry().with(filter);
        let queue = Queue::start()?;
        let lines = tracing_subscriber::fmt::layer().with_writer(queue.writer());
        // A second start in one process (a test) finds the first one's log in place, which is as good.
        let _ = match journal {
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

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}
