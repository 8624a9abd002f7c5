//! `keygen`: a new encryption key.

use crate::cli::error::Result;
use crate::cli::output::print;
use crate::crypto::MasterKey;

/// Print a new encryption key: 32 random bytes as base64.
///
/// The first mount makes a key itself if none is configured. This is for a key that is kept elsewhere, or
/// that replaces another one.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  (umask 077 && secretfs keygen > /srv/keys/secretfs)
  secretfs mount --encryption-key-file /srv/keys/secretfs")]
pub(in super::super) struct Args {}

pub(in super::super) fn run(Args {}: Args) -> Result {
    print(&MasterKey::new_text())
}
