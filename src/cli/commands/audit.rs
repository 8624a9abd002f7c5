//! `audit`: who did what, and whether the record of it is whole.

mod filter;
mod tail;
mod verify;

use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::error::Result;
use crate::cli::offline::SelectedMount;

const EXAMPLES: &str = "\
Both read the files in the state directory, so they need its owner's rights (root's, as a rule). A daemon
that is writing the log is not disturbed.

Examples:
  secretfs audit tail -f
  secretfs audit tail --mount ~/secrets
  secretfs audit verify";

/// Read the audit log, or check that nobody has changed it.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in super::super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print the last lines, and with -f those that follow.
    Tail(tail::Args),
    /// Check that no line was changed, removed, inserted or cut off; exits 1 if one was.
    Verify(verify::Args),
}

/// Where the log is.
#[derive(clap::Args)]
struct Place {
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
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    config: Option<PathBuf>,
}

pub(in super::super) fn run(mount: &SelectedMount, args: Args) -> Result {
    match args.action {
        Action::Tail(args) => tail::run(mount, args),
        Action::Verify(args) => verify::run(mount, args),
    }
}
