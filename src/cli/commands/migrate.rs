//! `migrate`: a host's own store to etcd, and back.

use std::path::PathBuf;

use crate::cli::error::Result;
use crate::cli::offline::{SelectedMount, StateArgs};
use crate::cli::{progress, style};
use crate::daemon::{self, Direction, MountSettings};

/// Move all secrets of a state directory to etcd, where many hosts share them, or from there to a state
/// directory.
///
/// Keys, values, ids, lists, versions and times stay what they were. Everything is read back and
/// compared before the destination can be used; where it was interrupted, run it again. The source
/// is only read, and stays.
#[derive(clap::Args)]
#[command(after_help = "\
No daemon may use the state directory, and nobody should write to what is moved: what
comes meanwhile does not come along. The destination has to be empty, or what an
interrupted move has left. The encryption key is one for both.

Examples:
  secretfs migrate --to etcd://10.0.0.1,10.0.0.2,10.0.0.3/secretfs
  secretfs migrate --from etcd://10.0.0.1/secretfs --state-dir /srv/own")]
#[command(group(clap::ArgGroup::new("direction").required(true).args(["to", "from"])))]
pub(in super::super) struct Args {
    /// Move the state directory's secrets there: etcd://HOST[:PORT][,HOST...]/PREFIX.
    #[arg(long, value_name = "STORE")]
    to: Option<String>,
    /// Move the secrets from there to the state directory; the same form.
    #[arg(long, value_name = "STORE")]
    from: Option<String>,
    #[command(flatten)]
    state: StateArgs,
    /// Certificates of those that sign etcd's, PEM; the connection is TLS then.
    #[arg(long, value_name = "FILE")]
    etcd_ca: Option<PathBuf>,
    /// This host's certificate for etcd, PEM.
    #[arg(long, value_name = "FILE")]
    etcd_cert: Option<PathBuf>,
    /// The key of --etcd-cert, PEM.
    #[arg(long, value_name = "FILE")]
    etcd_key: Option<PathBuf>,
    /// User to etcd.
    #[arg(long, value_name = "NAME")]
    etcd_user: Option<String>,
    /// File with the password of --etcd-user.
    #[arg(long, value_name = "FILE")]
    etcd_password_file: Option<PathBuf>,
}

pub(in super::super) fn run(mount: &SelectedMount, args: Args) -> Result {
    let direction = if args.to.is_some() { Direction::ToShared } else { Direction::FromShared };
    let store = args.to.or(args.from);
    let settings = MountSettings {
        store: store.clone(),
        etcd_ca: args.etcd_ca,
        etcd_cert: args.etcd_cert,
        etcd_key: args.etcd_key,
        etcd_user: args.etcd_user,
        etcd_password_file: args.etcd_password_file,
        ..args.state.settings(mount)?
    };
    let bar = progress::of_unknown("secrets");
    let outcome = daemon::migrate(settings, direction, &|count| bar.set_position(count));
    bar.finish_and_clear();
    let moved = outcome?;
    let noun = if moved.secrets == 1 { "secret" } else { "secrets" };
    let (count, bytes) = (moved.secrets, moved.bytes);
    style::note(&match (moved.was_there, direction) {
        (true, _) => format!(
            "All {count} {noun} ({bytes} bytes of values) were there already, and are the same."
        ),
        (false, Direction::ToShared) => format!(
            "Moved {count} {noun} ({bytes} bytes of values) to {} and compared each. Put the state directory away, and mount with --store.",
            store.unwrap_or_default()
        ),
        (false, Direction::FromShared) => format!(
            "Moved {count} {noun} ({bytes} bytes of values) from {} and compared each. Mount without --store.",
            store.unwrap_or_default()
        ),
    });
    Ok(())
}
