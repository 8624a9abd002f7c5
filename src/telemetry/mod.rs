//! How the daemon is doing: counts and times, what is wrong, whether the set-up is sound. Every layer
//! above reports here; `.status` shows it.

pub mod clock;
mod health;
mod metrics;
pub mod request_watchdog;
mod security;

pub use health::{Health, Part};
pub use metrics::{Counter, Histogram, ImportResult, Metrics, write_metric};
pub use security::Security;

/// Lines of the log that nobody took in time. One for the process, as the log is.
pub static LOG_DROPPED: Counter = Counter::new();

/// One of each, for one vault and what is built on it.
#[derive(Default)]
pub struct Telemetry {
    /// What is wrong at present.
    pub health: Health,
    /// Counts and times.
    pub metrics: Metrics,
    /// Whether the set-up is sound.
    pub security: Security,
}
