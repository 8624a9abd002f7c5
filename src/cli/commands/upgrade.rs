//! `upgrade`: lets a newer program serve the mount.

use std::path::PathBuf;

use crate::cli::error::Result;
use crate::cli::style;
use crate::daemon;

/// Let the program that was installed since serve the mount, which stays.
///
/// Callers notice a short wait. What is open stays open. If the new program does not serve, the old
/// one goes on. For root and whoever mounted it. Before Linux 6.9 requests in flight and open files fail
/// with an error; the command says so before it begins.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs upgrade                   # what --mount names
  secretfs upgrade ~/secrets")]
pub(in super::super) struct Args {
    /// Where it is mounted; without it, the directory of --mount.
    #[arg(value_name = "MOUNTPOINT", value_hint = clap::ValueHint::DirPath)]
    mountpoint: Option<PathBuf>,
}

pub(in super::super) fn run(default: PathBuf, args: Args) -> Result {
    let mountpoint = args.mountpoint.unwrap_or(default);
    daemon::upgrade(&mountpoint, |effect| style::note(&format!("note: {effect}")))?;
    style::note(&format!("Upgraded `{}`.", mountpoint.display()));
    Ok(())
}
