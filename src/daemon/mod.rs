//! From settings to a mount that is served, and to its end.

mod administration;
mod allocator;
mod audit;
mod carrier;
mod check;
mod clerk;
mod connection;
mod control;
mod disk;
mod error;
mod hardening;
mod holder;
mod import_dir;
mod key;
mod key_fit;
mod locate;
mod logging;
mod migrate;
mod mountpoint;
mod notify;
mod offline;
mod progress;
mod rekey;
mod reload;
mod sandbox;
mod security;
mod selinux;
mod server;
mod settings;
mod shortage;
mod size;
mod upgrade;

use std::path::Path;

pub use allocator::Allocator;
pub use audit::{AuditLog, audit_directory, audit_log};
pub use check::check;
pub use error::DaemonError;
pub use migrate::{Direction, migrate};
pub use mountpoint::{clear_if_dead, is_secretfs, unmount};
pub use offline::{Offline, OfflineWork, open_for_fsck, open_offline};
pub use rekey::rekey_offline;
pub use selinux::Label;
pub use settings::{LogLevel, MountSettings};
pub use upgrade::{Reloaded, reload, upgrade};

pub use hardening::take_encryption_key;
pub(crate) use notify::PROGRAM;

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
        return notify::start_in_background(resolved?);
    }
    holder::run(resolved)
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
    server::run_messenger()
}

/// Looks up users and files for a server; started by it, not by people.
///
/// # Errors
/// It was started by somebody else, or cannot be confined.
pub fn look_up() -> Result<(), DaemonError> {
    clerk::run()
}

/// Speaks to etcd for a server; started by it, not by people.
///
/// # Errors
/// It was started by somebody else, or cannot be confined.
pub fn carry() -> Result<(), DaemonError> {
    carrier::run()
}

/// If this process was started to touch files: does that until its input ends.
pub fn touch_if_asked() -> Option<std::process::ExitCode> {
    crate::fuse::touch_if_asked(|arguments| {
        hardening::name_process(c"secretfs-touch");
        sandbox::enter_to_touch(arguments)
    })
}

/// The first of these files that exists, for settings that have a usual place.
fn existing(path: &str) -> Option<std::path::PathBuf> {
    Path::new(path).exists().then(|| path.into())
}
