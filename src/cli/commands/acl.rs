//! `acl`: the six lists of a secret.

use clap::Subcommand;

use crate::cli::args::Output;
use crate::cli::client::Client;
use crate::cli::completion;
use crate::cli::error::{CliError, Result};
use crate::cli::output::print_one;
use crate::cli::style;
use crate::cli::yaml::{self, Fields, Scalar};
use crate::document::emit_lists;
use crate::model::{ListName, Slug, SlugList};

/// Show and change who may do what with a secret.
#[derive(clap::Args)]
#[command(after_help = "\
The lists: readers, writers, deleters, canChangeReaders, canChangeWriters, canChangeDeleters.

Examples:
  secretfs acl show DATABASE_URL
  secretfs acl grant DATABASE_URL readers payment-svc order-svc
  secretfs acl revoke DATABASE_URL writers bob
  $EDITOR /secrets/DATABASE_URL.acl  # the same lists as a file")]
pub(in super::super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print the six lists.
    #[command(after_help = "\
Examples:
  secretfs acl show DATABASE_URL
  secretfs acl show DATABASE_URL --output json")]
    Show {
        /// The secret.
        #[arg(add = completion::keys())]
        key: String,
        #[command(flatten)]
        output: Output,
    },
    /// Add users, services or teams to a list, all of them or none.
    #[command(after_help = "\
Examples:
  secretfs acl grant DATABASE_URL readers payment-svc order-svc
  secretfs acl grant DATABASE_URL canChangeReaders devops-team   # only an admin may")]
    Grant(Change),
    /// Take users, services or teams off a list, all of them or none.
    #[command(after_help = "\
Examples:
  secretfs acl revoke DATABASE_URL writers bob
  secretfs acl revoke DATABASE_URL readers uid:2200 gid:50")]
    Revoke(Change),
}

#[derive(clap::Args)]
struct Change {
    /// The secret.
    #[arg(add = completion::keys())]
    key: String,
    /// One of the six lists.
    list: String,
    /// The users, services or teams.
    #[arg(required = true, value_name = "SLUG")]
    slugs: Vec<String>,
}

pub(in super::super) fn run(client: &Client, args: Args) -> Result {
    match args.action {
        Action::Show { key, output } => {
            let lists = client.lists(&super::parse_key(&key)?)?;
            let fields: Fields<'_> =
                lists.iter().map(|(name, list)| (name.as_str(), Scalar::Slugs(list))).collect();
            print_one(output.format, &emit_lists(&lists), &fields)
        }
        Action::Grant(change) => {
            apply(client, change, |list, slugs| list.with(slugs.iter().cloned()))
        }
        Action::Revoke(change) => apply(client, change, |list, slugs| list.without(slugs)),
    }
}

fn apply(
    client: &Client,
    change: Change,
    changed: impl Fn(&SlugList, &[Slug]) -> SlugList,
) -> Result {
    let key = super::parse_key(&change.key)?;
    let name = ListName::parse(&change.list).ok_or(CliError::List(change.list))?;
    let slugs = change.slugs.iter().map(|slug| Slug::parse(slug)).collect::<Result<Vec<_>, _>>()?;
    let _lock = client.lock_sidecar(&key);
    let before = client.lists(&key)?;
    let after = changed(before.list(name), &slugs);
    if after == *before.list(name) {
        style::note(&format!("The `{name}` list of `{key}` is like that already."));
        return Ok(());
    }
    let document = yaml::mapping(&vec![(name.as_str(), Scalar::Slugs(&after))]);
    client.write_sidecar(&key, &document)?;
    style::note(&format!("Changed the `{name}` list of `{key}`."));
    Ok(())
}
