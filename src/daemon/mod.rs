//! From settings to a mount that is served, and to its end.

mod audit;
mod error;
mod hardening;
mod import_dir;
mod key;
mod logging;
mod mountpoint;
mod notify;
mod offline;
mod rekey;
mod reload;
mod security;
mod serve;
mod settings;

use std::path::Path;

pub use audit::{audit_and_keys, audit_folder};
pub use error::DaemonError;
pub use mountpoint::{clear_if_dead, is_secretfs, unmount};
pub use offline::{Offline, OfflineWork, open_for_fsck, open_offline};
pub use rekey::rekey_offline;
pub use settings::{LogLevel, MountSettings};

pub use hardening::take_encryption_key;

use settings::Resolved;

/// Mounts and serves until a signal or an unmount ends it; with `--background`, returns once the
/// daemon that it started serves.
///
/// # Errors
/// The settings are wrong, or the mount or the store is not available.
pub fn mount(settings: MountSettings) -> Result<(), DaemonError> {
    let background = settings.background;
    let resolved = Resolved::from(settings)?;
    if background {
        return notify::start_in_background(&resolved);
    }
    serve::serve(&resolved)
}

/// The first of these files that exists, for settings that have a usual place.
fn existing(path: &str) -> Option<std::path::PathBuf> {
    Path::new(path).exists().then(|| path.into())
}
