//! `get`: the value of a secret, byte for byte.

use crate::cli::client::Client;
use crate::cli::completion;
use crate::cli::error::Result;
use crate::cli::output::write;

/// Print the value of a secret: its exact bytes, and nothing else.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs get DATABASE_URL
  secretfs get TLS_KEY > server.key
  cat /secrets/DATABASE_URL          # does the same")]
pub(in super::super) struct Args {
    /// The key of the secret.
    #[arg(add = completion::keys())]
    key: String,
}

pub(in super::super) fn run(client: &Client, args: Args) -> Result {
    let value = client.read(&super::parse_key(&args.key)?)?;
    write(|out| out.write_all(value.expose()))
}
