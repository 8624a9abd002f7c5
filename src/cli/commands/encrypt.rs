//! `encrypt`: a value to a sealed document.

use crate::cli::client::Client;
use crate::cli::error::Result;
use crate::cli::output::print;
use crate::cli::sealed::{ChecksumChoice, Sealed};
use crate::cli::value::ValueArgs;
use crate::cli::yaml;

/// Encrypt a value: print a YAML document that is safe in git and that `save` applies.
///
/// The daemon seals the value for this key alone: under another key it does not decrypt. No right
/// is needed, and nothing is saved.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs encrypt API_KEY > secrets/api-key.yaml      # asks for the value
  secretfs encrypt API_KEY - < value.txt > secrets/api-key.yaml
  secretfs save secrets/api-key.yaml")]
pub(in super::super) struct Args {
    /// The key under which the value will be saved.
    key: String,
    #[command(flatten)]
    value: ValueArgs,
    /// What protects the document against damage.
    #[arg(long, value_enum, default_value_t, ignore_case = true, value_name = "ALGORITHM")]
    checksum_algorithm: ChecksumChoice,
}

pub(in super::super) fn run(client: &Client, args: Args) -> Result {
    let key = super::parse_key(&args.key)?;
    let value = args.value.take()?;
    let sealed = Sealed::seal(client, &key, &value, args.checksum_algorithm)?;
    print(&yaml::mapping(&sealed.fields()))
}
