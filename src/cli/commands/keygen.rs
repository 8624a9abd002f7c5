//! `keygen`: a new encryption key.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::cli::error::{CliError, Result};
use crate::cli::output::print;

/// Print a new encryption key: 32 random bytes as base64.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  (umask 077 && secretfs keygen > /etc/secretfs/encryption-key)
  secretfs mount --encryption-key-file /etc/secretfs/encryption-key")]
pub(in super::super) struct Args {}

pub(in super::super) fn run(Args {}: Args) -> Result {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key).map_err(|error| CliError::Stream {
        action: "get random bytes",
        source: io::Error::other(error.to_string()),
    })?;
    let text = Zeroizing::new(STANDARD.encode(*key) + "\n");
    print(&text)
}
