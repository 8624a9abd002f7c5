//! `recipient`: the public key that others seal values for.

use crate::cli::client::Client;
use crate::cli::error::Result;
use crate::cli::output::print;

/// Print the recipient of this mount: a public key with which values can be sealed, not opened.
///
/// It is derived from the encryption key and is no secret: keep it in the repository, next to the documents that
/// are sealed for it. `encrypt --to` and `verify --to` need it, and neither a mount nor a key.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs recipient > production.recipient
  secretfs encrypt API_KEY --to production.recipient > api-key.yaml   # on any machine")]
pub(in super::super) struct Args {}

pub(in super::super) fn run(client: &Client, Args {}: Args) -> Result {
    print(&client.status("recipient")?)
}
