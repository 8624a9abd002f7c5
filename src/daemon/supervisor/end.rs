//! How a supervisor ends its mount.

use std::time::{Duration, Instant};

use super::spawn::{Event, Server};
use super::{FIRST_PAUSE, Supervisor, fdstore};
use crate::daemon::error::DaemonError;
use crate::daemon::host::mountpoint;

/// How long callers that have files open may take to close them after an unmount.
const GRACE: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Unmounts, and waits a moment for processes that have files open. What they closed is stored; what they did not
    /// close was never promised.
    pub(super) fn end(&mut self, mut server: Server) -> Result<(), DaemonError> {
        self.unmount()?;
        let deadline = Instant::now() + GRACE;
        let mut is_over = false;
        while !is_over && Instant::now() < deadline {
            let event = server.wait(&self.signals, Some(deadline))?;
            is_over = matches!(event, Some(Event::ServerEnded(_)));
        }
        self.leaving.extend(server.notifier.take());
        let outcome = if is_over {
            Ok(())
        } else {
            tracing::info!("some files are still open; they end with the daemon");
            // As long as the kernel notifier waits for a caller, that caller is best answered.
            self.end_notifiers()?;
            server.stop()
        };
        self.abort()?;
        outcome
    }

    /// Unmounts, and ends the requests of all waiting callers with an error. For a mount without a server.
    pub(super) fn give_up(&mut self) -> Result<(), DaemonError> {
        let outcome = self.unmount();
        self.abort()?;
        outcome
    }

    /// Ends the connection with the kernel, and then what it may have kept waiting.
    fn abort(&mut self) -> Result<(), DaemonError> {
        if let Some(connection) = &self.connection {
            connection.abort();
        }
        self.end_notifiers()
    }

    fn end_notifiers(&mut self) -> Result<(), DaemonError> {
        let deadline = Instant::now() + GRACE;
        loop {
            self.leaving.retain_mut(|notifier| {
                // It may have ended by itself.
                let _ = notifier.kill();
                matches!(notifier.try_wait(), Ok(None))
            });
            if self.leaving.is_empty() || Instant::now() > deadline {
                return Ok(());
            }
            self.signals.wait(None, FIRST_PAUSE)?;
        }
    }

    /// Unmounts even if the mount is in use: a daemon that was told to stop stops.
    pub(super) fn unmount(&mut self) -> Result<(), DaemonError> {
        if self.entry.is_some()
            && let Err(error) = fdstore::give_up()
        {
            tracing::debug!(%error, "the service manager keeps what nobody needs");
        }
        if self.device.is_mounted() {
            mountpoint::take_down(&self.path)?;
        }
        self.uncover()
    }
}
