//! `whoami`: who the caller is to the daemon.

use crate::cli::args::Output;
use crate::cli::client::Client;
use crate::cli::error::Result;
use crate::cli::output::print_one;
use crate::cli::yaml::{self, Scalar};
use crate::model::SlugList;

/// Tell who you are to the daemon: your own slug, all your slugs, whether you are an admin.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs whoami
  secretfs whoami --output json
  cat /secrets/.status/whoami        # the same without this program")]
pub(in super::super) struct Args {
    #[command(flatten)]
    output: Output,
}

pub(in super::super) fn run(client: &Client, args: Args) -> Result {
    let caller = client.caller()?;
    let slugs: SlugList = caller.slugs().iter().cloned().collect();
    let own = caller.own_slug().map_or(Scalar::Null, |slug| Scalar::Text(slug.as_str()));
    let fields = vec![
        ("slug", own),
        ("slugs", Scalar::Slugs(&slugs)),
        ("admin", Scalar::Flag(caller.is_admin())),
    ];
    print_one(args.output.format, &yaml::mapping(&fields), &fields)
}
