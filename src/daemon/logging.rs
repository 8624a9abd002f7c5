//! The daemon's log: sentences on standard error.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use super::settings::LogLevel;

/// Starts logging: for people on a terminal, as lines of JSON otherwise. Safe to call twice.
pub(super) fn start(level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    // The FUSE library tells of every mount; what goes wrong there is enough.
    let filter = EnvFilter::default()
        .add_directive(level.into())
        .add_directive("fuser=warn".parse().expect("a fixed directive parses"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start finds the first one's log in place, which is as good.
    if std::io::stderr().is_terminal() {
        let _ = log.with_target(false).try_init();
    } else {
        let _ = log.json().flatten_event(true).try_init();
    }
}
