//! `remove`: secrets, by key or by id.

use std::collections::HashMap;

use clap::ArgGroup;

use crate::cli::client::Client;
use crate::cli::completion;
use crate::cli::error::{CliError, Result};
use crate::cli::style;
use crate::model::Key;

/// Remove secrets, by key or by id, without asking.
///
/// Each is removed by itself: what could not be is told with its reason, the others are gone.
#[derive(clap::Args)]
#[command(
    group = ArgGroup::new("which").required(true).multiple(true).args(["keys", "key", "id"]),
    after_help = "\
Examples:
  secretfs remove DB_USER DB_PASS
  secretfs remove --key DB_USER --key DB_PASS
  secretfs remove --id secr_eG8IvKwB0A
  rm /secrets/DB_USER                # does the same"
)]
pub(in super::super) struct Args {
    /// The keys of secrets.
    #[arg(value_name = "KEY", add = completion::keys())]
    keys: Vec<String>,
    /// The key of a secret; may be repeated.
    #[arg(long, add = completion::keys())]
    key: Vec<String>,
    /// The id of a secret; may be repeated.
    #[arg(long)]
    id: Vec<String>,
}

pub(in super::super) fn run(client: &Client, args: Args) -> Result {
    let keys = args
        .keys
        .iter()
        .chain(&args.key)
        .map(|key| super::parse_key(key))
        .collect::<Result<Vec<_>>>()?;
    let mut errors = Vec::new();
    for key in keys.into_iter().map(Ok).chain(keys_of(client, args.id)?) {
        let removed = key.and_then(|key| {
            client.remove(&key)?;
            style::note(&format!("Removed `{key}`."));
            Ok(())
        });
        errors.extend(removed.err());
    }
    CliError::all(errors)
}

/// The key for each id.
fn keys_of(client: &Client, ids: Vec<String>) -> Result<Vec<Result<Key>>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let entries = client.entries(&client.keys(None)?)?;
    let by_id: HashMap<_, _> = entries.into_iter().map(|entry| (entry.id, entry.key)).collect();
    let key = |id: String| by_id.get(&id).cloned().ok_or(CliError::NoSuchId(id));
    Ok(ids.into_iter().map(key).collect())
}
