//! `reload`: has the daemon read the identities and the keys again.

use std::path::PathBuf;

use crate::cli::error::Result;
use crate::cli::style;
use crate::daemon::{self, Reloaded};

/// Have the daemon read the identities file and the key files again, and wait until it has.
///
/// What is wrong changes nothing: the identities and keys of before stay in force, and the reason is
/// printed. If another program was installed since, it serves from then on, as after `upgrade`. Settings
/// in the configuration file need a restart. For root and whoever mounted it.
#[derive(clap::Args)]
#[command(after_help = "\
Exits with 5 if a file was refused, and with 6 if the daemon cannot be asked.

Examples:
  secretfs reload                    # what --mount names
  secretfs reload ~/secrets")]
pub(in super::super) struct Args {
    /// Where it is mounted; without it, the directory of --mount.
    #[arg(value_name = "MOUNTPOINT", value_hint = clap::ValueHint::DirPath)]
    mountpoint: Option<PathBuf>,
}

pub(in super::super) fn run(default: PathBuf, args: Args) -> Result {
    match daemon::reload(&args.mountpoint.unwrap_or(default))? {
        Reloaded::Done => {}
        Reloaded::OnlyAsked => style::warn(
            "the supervisor is of a version that does not report: SIGHUP was sent to it, and its log tells the outcome",
        ),
    }
    Ok(())
}
