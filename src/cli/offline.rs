//! The arguments of commands that work without a daemon, always or if asked to.

use std::path::{Path, PathBuf};

use crate::daemon::{self, DaemonError, MountSettings};

/// Where the mount is if nothing says otherwise (contract, section 1).
pub(super) const DEFAULT_MOUNT: &str = "/secrets";

/// The mount that a command is about.
pub(super) struct SelectedMount {
    named: Option<PathBuf>,
}

impl SelectedMount {
    /// The mount that is named, else the usual one.
    pub(super) fn new(named: Option<PathBuf>) -> Self {
        Self { named }
    }

    pub(super) fn path(&self) -> &Path {
        self.named.as_deref().unwrap_or(DEFAULT_MOUNT.as_ref())
    }

    /// The settings for a state directory: the one that is named, else that of this mount while it is there, else that of
    /// `mount` with this configuration.
    ///
    /// # Errors
    /// The mount is named, and does not tell its state directory to this user.
    pub(super) fn settings(
        &self,
        state_dir: Option<PathBuf>,
        config: Option<PathBuf>,
    ) -> Result<MountSettings, DaemonError> {
        let is_open = state_dir.is_none() && config.is_none();
        let of_mount = || match daemon::state_dir_of(self.path()) {
            Err(_) if self.named.is_none() => Ok(None),
            answer => answer,
        };
        let state_dir = if is_open { of_mount()? } else { state_dir };
        Ok(MountSettings { state_dir, config, ..MountSettings::default() })
    }
}

/// Whether to work on a state directory, and on which.
#[derive(clap::Args)]
pub(super) struct OfflineArgs {
    /// Work on a state directory that no daemon uses.
    #[arg(long)]
    pub(super) offline: bool,
    /// With --offline: the state directory [default: that of the mount, else as for `mount`].
    // No `requires`: the variable may be set for the daemon's sake.
    #[arg(
        long,
        env = "SECRETFS_STATE_DIR",
        hide_env_values = true,
        value_name = "DIR",
        value_hint = clap::ValueHint::DirPath
    )]
    state_dir: Option<PathBuf>,
    /// With --offline: the configuration file [default: as for `mount`].
    #[arg(long, requires = "offline", value_name = "FILE")]
    config: Option<PathBuf>,
    /// With --offline: file with the encryption key; it goes before OB_ENCRYPTION_KEY.
    #[arg(long, requires = "offline", value_name = "FILE")]
    encryption_key_file: Option<PathBuf>,
    /// With --offline: file with older keys, one on each line.
    #[arg(long, requires = "offline", value_name = "FILE")]
    previous_encryption_key_file: Option<PathBuf>,
}

impl OfflineArgs {
    /// As settings of a mount.
    ///
    /// # Errors
    /// As for [`SelectedMount::settings`].
    pub(super) fn settings(self, mount: &SelectedMount) -> Result<MountSettings, DaemonError> {
        Ok(MountSettings {
            encryption_key_file: self.encryption_key_file,
            previous_encryption_key_file: self.previous_encryption_key_file,
            ..mount.settings(self.state_dir, self.config)?
        })
    }
}

/// A state directory that no daemon uses, and its keys.
#[derive(clap::Args)]
pub(super) struct StateArgs {
    /// The state directory [default: that of the mount, else as for `mount`].
    #[arg(
        long,
        env = "SECRETFS_STATE_DIR",
        hide_env_values = true,
        value_name = "DIR",
        value_hint = clap::ValueHint::DirPath
    )]
    state_dir: Option<PathBuf>,
    /// The configuration file [default: as for `mount`].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// File with the encryption key; it goes before OB_ENCRYPTION_KEY.
    #[arg(long, value_name = "FILE")]
    encryption_key_file: Option<PathBuf>,
    /// File with older keys, one on each line.
    #[arg(long, value_name = "FILE")]
    previous_encryption_key_file: Option<PathBuf>,
}

impl StateArgs {
    /// As settings of a mount.
    ///
    /// # Errors
    /// As for [`SelectedMount::settings`].
    pub(super) fn settings(self, mount: &SelectedMount) -> Result<MountSettings, DaemonError> {
        Ok(MountSettings {
            encryption_key_file: self.encryption_key_file,
            previous_encryption_key_file: self.previous_encryption_key_file,
            ..mount.settings(self.state_dir, self.config)?
        })
    }
}
