//! `read`: secrets as YAML, in the clear.

use crate::cli::args::{Format, Output};
use crate::cli::client::{Client, ClientError};
use crate::cli::completion;
use crate::cli::error::Result;
use crate::cli::output::{print_list, print_one};
use crate::cli::style;
use crate::cli::yaml::{self, Fields, Scalar};
use crate::model::{Acl, Key, Plaintext};

/// Print a secret, or all that you may read, as YAML with the values in the clear.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs read DATABASE_URL
  secretfs read --output json | jq -r '.[].key'
  cat /secrets/DATABASE_URL          # the value alone, byte for byte")]
pub(in super::super) struct Args {
    /// The secret; without it, all that you may read.
    #[arg(add = completion::keys())]
    key: Option<String>,
    #[command(flatten)]
    output: Output,
}

struct Secret {
    id: String,
    key: Key,
    value: Plaintext,
    lists: Acl,
}

pub(in super::super) fn run(client: &Client, args: Args) -> Result {
    match args.key {
        Some(key) => {
            let secret = secret(client, &super::parse_key(&key)?)?;
            print_one(args.output.format, &yaml::mapping(&secret.fields()), &secret.fields())
        }
        None => read_all(client, args.output.format),
    }
}

fn read_all(client: &Client, format: Format) -> Result {
    let secrets = client.each(&client.keys(None)?, |key| match secret(client, key) {
        Ok(secret) => Ok(Some(Some(secret))),
        Err(error) if error.is_denied() => Ok(Some(None)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    })?;
    let unreadable = secrets.iter().filter(|secret| secret.is_none()).count();
    if unreadable > 0 {
        style::note(&format!("{unreadable} more that you may see but not read were left out."));
    }
    print_list(format == Format::Json, secrets.iter().flatten().map(Secret::fields))
}

fn secret(client: &Client, key: &Key) -> Result<Secret, ClientError> {
    Ok(Secret {
        value: client.read(key)?,
        id: client.entry(key)?.id,
        lists: client.lists(key)?,
        key: key.clone(),
    })
}

impl Secret {
    fn fields(&self) -> Fields<'_> {
        let head = [
            ("id", Scalar::Text(&self.id)),
            ("key", Scalar::Text(self.key.as_str())),
            ("value", Scalar::Value(&self.value)),
        ];
        let lists = self.lists.iter().map(|(name, list)| (name.as_str(), Scalar::Slugs(list)));
        head.into_iter().chain(lists).collect()
    }
}
