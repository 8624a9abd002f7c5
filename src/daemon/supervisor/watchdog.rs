//! Noticing a server that hangs.

use crate::daemon::ipc::{Control, Order};

/// How many looks it may take to answer while requests wait.
const SILENT_LOOKS: u32 = 5;
/// How often in a row it must say that it is stuck.
const STUCK_REPORTS: u32 = 2;

/// Notices a server that hangs: it does not answer its supervisor while requests wait, or reports itself that one of
/// its requests does not come to an end. A slow disk or name service is no reason: the server answers all the same,
/// and knows what its requests wait for.
pub(super) struct Watchdog {
    is_asked: bool,
    /// How often the supervisor has looked in vain since it asked. No clock: a machine that was suspended
    /// is not a server that hangs.
    silent: u32,
    /// How often in a row the server said that it is stuck.
    stuck: u32,
}

impl Watchdog {
    pub(super) fn new() -> Self {
        Self { is_asked: false, silent: 0, stuck: 0 }
    }

    pub(super) fn hear(&mut self, stuck: bool) {
        (self.is_asked, self.silent) = (false, 0);
        self.stuck = if stuck { self.stuck + 1 } else { 0 };
    }

    /// Nothing happened for the time of a look. Asks, one question at a time: a server that does not
    /// read must not make this process wait.
    pub(super) fn look(&mut self, control: &Control) {
        if std::mem::replace(&mut self.is_asked, true) {
            self.silent += 1;
        } else if let Err(error) = control.tell(&Order::Ask, &[]) {
            tracing::debug!(%error, "the server died before it was asked");
        }
    }

    pub(super) fn sees_a_hang(&self, somebody_waits: impl FnOnce() -> bool) -> bool {
        self.stuck >= STUCK_REPORTS || (self.silent >= SILENT_LOOKS && somebody_waits())
    }
}
