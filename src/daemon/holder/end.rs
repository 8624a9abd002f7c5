//! How a holder ends its mount.

use std::time::{Duration, Instant};

use super::super::error::DaemonError;
use super::super::mountpoint;
use super::plan::{Event, Server};
use super::{FIRST_PAUSE, Holder, deposit};

/// How long callers that have files open may take to close them after an unmount.
const GRACE: Duration = Duration::from_secs(1);

impl Holder {
    /// Unmounts, and waits a moment for those who have files open. What they closed is stored; what
    /// they did not close was never promised.
    pub(super) fn end(&self, mut server: Server) -> Result<(), DaemonError> {
        self.unmount()?;
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(Event::ServerEnded(_)) = server.wait(&self.signals, Some(deadline))? {
                return Ok(());
            }
        }
        tracing::info!("some files are still open; they end with the daemon");
        // As long as the messenger waits for a caller, that caller must be answered.
        if let Some(mut messenger) = server.messenger.take() {
            // It may have ended by itself.
            let _ = messenger.kill();
            let deadline = Instant::now() + GRACE;
            while matches!(messenger.try_wait(), Ok(None)) && Instant::now() < deadline {
                self.signals.wait(None, FIRST_PAUSE)?;
            }
        }
        server.stop()
    }

    /// Unmounts even if the mount is in use: a daemon that was told to stop stops.
    pub(super) fn unmount(&self) -> Result<(), DaemonError> {
        if self.deposit.is_some()
            && let Err(error) = deposit::give_up()
        {
            tracing::debug!(%error, "the service manager keeps what nobody needs");
        }
        if !self.device.is_mounted() {
            return Ok(());
        }
        mountpoint::take_down(&self.path)
    }
}
