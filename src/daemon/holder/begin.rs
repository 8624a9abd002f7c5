//! How a holder comes to its mount: it makes one, or finds the one that the holder before left.

use std::io;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::crypto::LockedText;
use crate::fuse::Device;

use super::super::error::DaemonError;
use super::super::logging::Log;
use super::super::mountpoint;
use super::super::sandbox::Account;
use super::super::settings::Resolved;
use super::deposit::{Found, Note};
use super::plan::{Plan, Server, Started};
use super::signals::Signals;
use super::{Holder, prepared, refused, system};

/// What a holder begins with.
pub(super) struct Begin<'a> {
    pub(super) settings: &'a Resolved,
    pub(super) key: Option<LockedText>,
    pub(super) account: Option<Account>,
    pub(super) signals: Signals,
    pub(super) log: Log,
}

/// A holder and its first server, or why there is none: it has a mount, which is to end then. Nothing, if a
/// signal came before there was a mount.
pub(super) type Begun = Option<(Holder, Result<Option<Server>, DaemonError>)>;

impl Begin<'_> {
    /// Goes on with the mount that the holder before left.
    pub(super) fn with(self, found: Found) -> Result<Begun, DaemonError> {
        let Self { settings, key, account, signals, log } = self;
        let Found { device, shelf, note, down_since, deposit } = found;
        let Note { path, mount, first_request, .. } = note;
        let plan = Plan::new(settings, &path, key, account, mount, shelf).map_err(prepared())?;
        tracing::warn!("the holder before this one ended; its mount goes on");
        let mut holder = Holder::new(plan, signals, log, device, path, first_request);
        holder.outage.since = down_since;
        (holder.deposit, holder.is_heir) = (Some(deposit), true);
        // Somebody waits already, so that it is not a start that can be refused.
        let server = holder.replace(true, true);
        Ok(Some((holder, server)))
    }

    /// Mounts.
    pub(super) fn anew(self) -> Result<Begun, DaemonError> {
        let Self { settings, key, account, signals, log } = self;
        let path = mountpoint::check(&settings.mountpoint)?;
        let mut mount = [0; 8];
        getrandom::fill(&mut mount)
            .map_err(|error| prepared()(io::Error::other(error.to_string())))?;
        let mount = u64::from_le_bytes(mount);
        let shelf = memfd_create(c"secretfs-shelf", MFdFlags::MFD_CLOEXEC);
        let shelf = shelf.map_err(|error| prepared()(error.into()))?;
        let mut plan = Plan::new(settings, &path, key, account, mount, shelf).map_err(prepared())?;
        // The store is opened before there is a mount: whatever is wrong is told before anybody waits.
        let server = match plan.start(&signals, None, None, true)? {
            Started::Ready(server) => server,
            Started::Ended(status) => return refused(status).map(|()| None),
            Started::Stopped => return Ok(None),
        };
        mountpoint::make(&path)?;
        let device =
            Device::mount(&path, &settings.labels.to_mount_options()).map_err(|source| {
                let (path, labelled) = (path.clone(), !settings.labels.is_empty());
                match source.kind() {
                    io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied if labelled => {
                        DaemonError::Labels { path, source }
                    }
                    _ => DaemonError::Mount { path, source },
                }
            })?;
        let first_request = device.first_request().map_err(system("the mount was lost"));
        let (first_request, server) = match first_request {
            Ok(first_request) => (first_request, Ok(Some(server))),
            Err(error) => (Vec::new(), Err(error)),
        };
        Ok(Some((Holder::new(plan, signals, log, device, path, first_request), server)))
    }
}
