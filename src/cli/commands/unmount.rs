//! `unmount`: takes the mount away.

use std::path::PathBuf;

use crate::cli::error::Result;
use crate::cli::style;
use crate::daemon;

/// Unmount secretfs; its daemon ends.
///
/// It is out of sight at once; files that are open stay usable until they are closed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs unmount                   # what --mount names
  secretfs unmount ~/secrets")]
pub(in super::super) struct Args {
    /// Where it is mounted; without it, the directory of --mount.
    #[arg(value_name = "MOUNTPOINT", value_hint = clap::ValueHint::DirPath)]
    mountpoint: Option<PathBuf>,
}

pub(in super::super) fn run(default: PathBuf, args: Args) -> Result {
    let mountpoint = args.mountpoint.unwrap_or(default);
    daemon::unmount(&mountpoint)?;
    style::note(&format!("Unmounted `{}`.", mountpoint.display()));
    Ok(())
}
