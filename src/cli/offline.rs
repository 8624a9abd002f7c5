//! The arguments of commands that work without a daemon, always or if asked to.

use std::path::PathBuf;

use crate::daemon::MountSettings;

/// Whether to work on a state directory, and on which.
#[derive(clap::Args)]
pub(super) struct OfflineArgs {
    /// Work on a state directory that no daemon uses.
    #[arg(long)]
    pub(super) offline: bool,
    /// With --offline: the state directory [default: as for `mount`].
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

impl From<OfflineArgs> for MountSettings {
    fn from(args: OfflineArgs) -> Self {
        Self {
            state_dir: args.state_dir,
            config: args.config,
            encryption_key_file: args.encryption_key_file,
            previous_encryption_key_file: args.previous_encryption_key_file,
            ..Self::default()
        }
    }
}

/// A state directory that no daemon uses, and its keys.
#[derive(clap::Args)]
pub(super) struct StateArgs {
    /// The state directory [default: as for `mount`].
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

impl From<StateArgs> for MountSettings {
    fn from(args: StateArgs) -> Self {
        Self {
            state_dir: args.state_dir,
            config: args.config,
            encryption_key_file: args.encryption_key_file,
            previous_encryption_key_file: args.previous_encryption_key_file,
            ..Self::default()
        }
    }
}
