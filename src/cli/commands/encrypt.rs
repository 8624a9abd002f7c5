//! `encrypt`: a value to a sealed document.

use crate::cli::client::{Client, ClientError};
use crate::cli::completion;
use crate::cli::error::Result;
use crate::cli::output::print;
use crate::cli::sealed::{ChecksumChoice, Sealer};
use crate::cli::value::ValueArgs;
use crate::cli::yaml;

/// Encrypt a value: print a YAML document that is safe in git and that `save` applies.
///
/// The value is sealed for this key alone: under another key it does not decrypt. No right is needed, and
/// nothing is saved. The daemon seals it; with --to this command does, and needs neither a mount nor a key nor root.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs encrypt API_KEY > secrets/api-key.yaml      # asks for the value
  secretfs encrypt API_KEY - < value.txt > secrets/api-key.yaml
  secretfs encrypt API_KEY --to production.recipient > secrets/api-key.yaml
  secretfs save secrets/api-key.yaml")]
pub(in super::super) struct Args {
    /// The key under which the value will be saved.
    #[arg(add = completion::keys())]
    key: String,
    #[command(flatten)]
    value: ValueArgs,
    /// Seal for this recipient, or the one in this file; `secretfs recipient` prints that of a mount
    #[arg(long, value_name = "RECIPIENT|FILE", value_hint = clap::ValueHint::FilePath)]
    to: Option<String>,
    /// The checksum of the value to write [default: CRC32, with --to none: that of a short value reveals it]
    #[arg(long, value_enum, ignore_case = true, value_name = "ALGORITHM")]
    checksum_algorithm: Option<ChecksumChoice>,
}

pub(in super::super) fn run(
    client: impl FnOnce() -> Result<Client, ClientError>,
    args: Args,
) -> Result {
    let key = super::parse_key(&args.key)?;
    let sealer = Sealer::new(args.to.as_deref(), client)?;
    let value = args.value.take()?;
    let checksum = args.checksum_algorithm.unwrap_or(sealer.usual_checksum());
    let sealed = sealer.seal(&key, &value, checksum)?;
    print(&yaml::mapping(&sealed.fields()))
}
