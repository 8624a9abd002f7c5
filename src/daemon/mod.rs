//! From settings to a mount that is served, and to its end.

mod check;
mod error;
mod etcd_proxy;
mod host;
mod ipc;
mod key;
mod key_fit;
mod logging;
mod lookup_helper;
mod offline;
mod sandbox;
mod server;
mod settings;
mod size;
mod supervisor;

use std::path::Path;

pub use check::check;
pub use error::DaemonError;
pub use host::durable::NewFile;
pub use host::mountpoint::{clear_if_dead, is_secretfs, mount_of_user, unmount};
pub use host::selinux::Label;
pub use offline::audit::{AuditLog, audit_directory, audit_log};
pub use offline::migrate::{Direction, migrate};
pub use offline::rekey::rekey_offline;
pub use offline::{Offline, OfflineWork, open_for_fsck, open_offline};
pub use server::allocator::Allocator;
pub use settings::{LogLevel, MountSettings};
pub use supervisor::upgrade_socket::{Reloaded, reload, state_dir_of, upgrade};

pub(crate) use host::start_notice::PROGRAM;
pub use sandbox::hardening::take_encryption_key;

use settings::Resolved;

/// Mounts and serves until a signal or an unmount ends it; with `--background`, returns once the
/// daemon that it started serves.
///
/// # Errors
/// The settings are wrong, or the mount or the store is not available.
pub fn mount(settings: MountSettings) -> Result<(), DaemonError> {
    let background = settings.background;
    let resolved = Resolved::from(settings);
    if background {
        return host::start_notice::start_in_background(resolved?);
    }
    supervisor::run(resolved)
}

/// Serves a mount that [`mount`] holds; started by it, not by people.
///
/// # Errors
/// As for [`mount`].
pub fn serve(settings: MountSettings) -> Result<(), DaemonError> {
    server::run(&Resolved::from(settings)?)
}

/// Tells the kernel what a server wants it to know; started by [`mount`], not by people.
///
/// # Errors
/// As for [`mount`].
pub fn notify() -> Result<(), DaemonError> {
    server::run_notifier()
}

/// Looks up users and files for a server, which starts it.
///
/// # Errors
/// It was not started by a server, or cannot be confined.
pub fn look_up() -> Result<(), DaemonError> {
    lookup_helper::run()
}

/// Speaks to etcd for a server, which starts it.
///
/// # Errors
/// It was not started by a server, or cannot be confined.
pub fn carry() -> Result<(), DaemonError> {
    etcd_proxy::run()
}

/// If this process was started to touch files: does that until its input ends.
pub fn touch_if_asked() -> Option<std::process::ExitCode> {
    crate::fuse::touch_if_asked(|arguments| {
        sandbox::hardening::name_process(c"secretfs-touch");
        sandbox::enter_to_touch(arguments)
    })
}

/// The first of these files that exists, for settings that have a usual place.
fn existing(path: &str) -> Option<std::path::PathBuf> {
    Path::new(path).exists().then(|| path.into())
}
