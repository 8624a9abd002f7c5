//! A new connection in the place of one whose server ended, where the kernel does not send unanswered requests
//! again (before Linux 6.9): callers would wait for their answers for ever.

use std::path::Path;

use crate::fs::SavedState;
use crate::fuse;
use crate::fuse::Device;

use super::begin::{new_number, not_mounted, open_conversation};
use super::spawn::Server;
use super::{Supervisor, fdstore, prepared};
use crate::daemon::error::DaemonError;
use crate::daemon::host::connection::{Connection, NO_RESEND};
use crate::daemon::host::mountpoint;

impl Supervisor {
    /// The server that is ready, or another one on a new connection if the kernel does not resend. The store is
    /// open, so that no process before it answers requests any more.
    pub(super) fn on_a_connection_that_resends(
        &mut self,
        server: Server,
    ) -> Result<Option<Server>, DaemonError> {
        // A mount that is gone is noticed later.
        if fuse::resend(&self.device).unwrap_or(true) {
            return Ok(Some(server));
        }
        tracing::warn!("{NO_RESEND}");
        self.resends = false;
        server.stop()?;
        self.renew()?;
        self.replace(true, true)
    }

    /// Ends the connection, so that every waiting caller gets an error at once, and mounts again at the same place.
    /// To be called while no server runs. Nothing of what the kernel knew on the old connection means anything on the
    /// new one: nodes, handles, locks, numbers of requests.
    pub(super) fn renew(&mut self) -> Result<(), DaemonError> {
        if let Some(connection) = &self.connection {
            connection.abort();
        }
        for notifier in &mut self.leaving {
            // It may have ended by itself.
            let _ = notifier.kill();
        }
        if self.entry.take().is_some()
            && let Err(error) = fdstore::give_up()
        {
            tracing::warn!(%error, "the service manager keeps what nobody needs");
        }
        // Its name is the number of the old mount.
        self.signals.upgrade_socket = None;
        self.mount_again()?;
        self.number = number_of(&self.path);
        self.connection = Connection::to_end_later(&self.path);
        (self.first_request, _) = open_conversation(&self.device)?;
        self.plan.mount = new_number()?;
        SavedState::clear(&self.plan.saved_state).map_err(prepared())
    }

    /// The first mount that ended stays below the others: between two of them callers must not reach the directory
    /// that they cover and write a secret to the disk. The helper of ordinary users mounts on no dead mount; there
    /// the directory is uncovered for a moment.
    fn mount_again(&mut self) -> Result<(), DaemonError> {
        if self.below.is_some() {
            mountpoint::detach(&self.path)?;
        }
        let not_mounted = || not_mounted(&self.plan, &self.path);
        match Device::mount_directly(&self.path, &self.plan.labels).map_err(not_mounted())? {
            Some(device) => {
                self.device = device;
                self.below = self.below.take().or_else(|| self.number.take());
            }
            None => {
                mountpoint::detach(&self.path)?;
                self.device = Device::mount(&self.path, &self.plan.labels).map_err(not_mounted())?;
            }
        }
        Ok(())
    }

    /// Whether the mount is where it was made: one that was unmounted is not made again.
    pub(super) fn is_in_place(&self) -> bool {
        self.device.is_mounted() && number_of(&self.path) == self.number
    }

    /// Removes the mount that stayed below.
    pub(super) fn uncover(&mut self) -> Result<(), DaemonError> {
        let below = self.below.take();
        if below.is_some() && number_of(&self.path) == below {
            return mountpoint::detach(&self.path);
        }
        Ok(())
    }
}

/// The kernel's number of the mount at a path. None if there is none, or it cannot be found out.
pub(super) fn number_of(path: &Path) -> Option<String> {
    mountpoint::device_number(path).ok().flatten()
}
