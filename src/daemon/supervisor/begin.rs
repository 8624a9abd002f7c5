//! How a supervisor comes to its mount: it makes one, or finds the one that the supervisor before left.

use std::io;
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::crypto::LockedText;
use crate::fuse;
use crate::fuse::Device;

use super::fdstore::{Found, Note};
use super::signals::Signals;
use super::spawn::{LaunchConfig, Server, Started};
use super::{Supervisor, prepared, refused, system};
use crate::daemon::error::DaemonError;
use crate::daemon::host::connection::NO_RESEND;
use crate::daemon::host::mountpoint;
use crate::daemon::logging::Log;
use crate::daemon::sandbox::Account;
use crate::daemon::settings::Resolved;

/// What a supervisor begins with.
pub(super) struct Begin<'a> {
    pub(super) settings: &'a Resolved,
    /// Why they are not those that were given.
    pub(super) fault: Option<String>,
    pub(super) key: Option<LockedText>,
    pub(super) account: Option<Account>,
    pub(super) signals: Signals,
    pub(super) log: Log,
}

/// A supervisor and its first server, or why there is none: it has a mount, which is to end then. Nothing, if a
/// signal came before there was a mount.
pub(super) type Begun = Option<(Supervisor, Result<Option<Server>, DaemonError>)>;

impl Begin<'_> {
    /// Goes on with the mount that the supervisor before left.
    pub(super) fn with(self, found: Found) -> Result<Begun, DaemonError> {
        let Self { settings, fault, key, account, signals, log } = self;
        let Found { device, saved_state, note, down_since, entry } = found;
        let Note { path, mount, first_request, .. } = note;
        let mut plan = LaunchConfig::new(settings, &path, key, account, mount, saved_state)
            .map_err(prepared())?;
        plan.settings_fault = fault;
        tracing::warn!("the supervisor before this one ended; its mount goes on");
        let mut supervisor = Supervisor::new(plan, signals, log, device, path, first_request);
        supervisor.outage.since = down_since;
        (supervisor.entry, supervisor.is_heir) = (Some(entry), true);
        // Callers may already wait, so this is not a start that can be refused.
        let mut server = supervisor.replace(true, true);
        if let Ok(Some(ready)) = server {
            server = supervisor.on_a_connection_that_resends(ready);
        }
        Ok(Some((supervisor, server)))
    }

    /// Mounts.
    pub(super) fn anew(self) -> Result<Begun, DaemonError> {
        let Self { settings, fault: _, key, account, signals, log } = self;
        let path = mountpoint::check(&settings.mountpoint)?;
        // Before a key and a store are made.
        Device::check().map_err(no_device)?;
        let mount = new_number()?;
        let saved_state = memfd_create(c"secretfs-shelf", MFdFlags::MFD_CLOEXEC);
        let saved_state = saved_state.map_err(|error| prepared()(error.into()))?;
        let mut plan = LaunchConfig::new(settings, &path, key, account, mount, saved_state)
            .map_err(prepared())?;
        // The store is opened before there is a mount: errors are reported before any caller waits.
        let server = match plan.start(&signals, None, None, true)? {
            Started::Ready(server) => server,
            Started::Ended(status) => return refused(status).map(|()| None),
            Started::Stopped => return Ok(None),
        };
        mountpoint::make(&path)?;
        let device = Device::mount(&path, &plan.labels).map_err(not_mounted(&plan, &path))?;
        let opened = open_conversation(&device);
        let (first_request, resends, server) = match opened {
            Ok((first_request, resends)) => (first_request, resends, Ok(Some(server))),
            Err(error) => (Vec::new(), true, Err(error)),
        };
        let mut supervisor = Supervisor::new(plan, signals, log, device, path, first_request);
        if !resends {
            supervisor.resends = false;
            tracing::warn!("{NO_RESEND}");
        }
        Ok(Some((supervisor, server)))
    }
}

/// The first request of a new mount, and whether its kernel sends unanswered requests again. That is found out
/// before the first request is read: no request is unanswered yet.
pub(super) fn open_conversation(device: &Device) -> Result<(Vec<u8>, bool), DaemonError> {
    let lost = || system("the mount was lost");
    let resends = fuse::resend(device).map_err(lost())?;
    Ok((device.first_request().map_err(lost())?, resends))
}

/// A number that no other mount has.
pub(super) fn new_number() -> Result<u64, DaemonError> {
    let mut number = [0; 8];
    getrandom::fill(&mut number)
        .map_err(|error| prepared()(io::Error::other(error.to_string())))?;
    Ok(u64::from_le_bytes(number))
}

fn no_device(source: io::Error) -> DaemonError {
    let advice = match source.kind() {
        io::ErrorKind::NotFound => {
            "load the kernel module as root (`modprobe fuse`), or start the container with `--device /dev/fuse`"
        }
        io::ErrorKind::PermissionDenied => {
            "let this user open it (as root, `chmod 666 /dev/fuse`), or start the container with `--device /dev/fuse`"
        }
        _ => "a mount needs it",
    };
    DaemonError::NoDevice { source, advice }
}

/// Why the kernel refused a mount.
pub(super) fn not_mounted(
    plan: &LaunchConfig,
    path: &Path,
) -> impl FnOnce(io::Error) -> DaemonError {
    let (path, labelled) = (path.to_owned(), !plan.labels.is_empty());
    move |source| match source.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied if labelled => {
            DaemonError::Labels { path, source }
        }
        _ => DaemonError::Mount { path, source },
    }
}
