//! `encrypt`: values to sealed documents.

mod target;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::cli::client::{Client, ClientError};
use crate::cli::completion;
use crate::cli::documents;
use crate::cli::error::{CliError, Result};
use crate::cli::output::print;
use crate::cli::sealed::{ChecksumChoice, Sealer};
use crate::cli::value::ValueArgs;
use crate::cli::yaml;
use crate::document::{Entry, parse_dotenv, parse_kubernetes};
use crate::model::{Key, Plaintext};

/// Encrypt a value: print a YAML document that is safe in git and that `save` applies.
///
/// The value is sealed for this key alone: under another key it does not decrypt. No right is needed, and
/// nothing is saved. The daemon seals it; with --to this command does, and needs neither a mount nor a key nor root.
///
/// With --in, the document of this key in a file gets the value, or the file gets the document: everything else in
/// it stays as it is, comments too. In a directory that is the file that has the document, else a new one.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs encrypt API_KEY > secrets/api-key.yaml      # asks for the value
  secretfs encrypt API_KEY - < value.txt > secrets/api-key.yaml
  secretfs encrypt API_KEY --to production.recipient > secrets/api-key.yaml
  secretfs encrypt API_KEY --in secrets/web.yaml       # replaces the value there
  secretfs encrypt --from dotenv --prefix web/ --to production.recipient --in secrets/ < .env
  kubectl get secret web -o yaml | secretfs encrypt --from kubernetes --prefix web/ > secrets/web.yaml
  secretfs save secrets/api-key.yaml")]
pub(in super::super) struct Args {
    /// The key under which the value will be saved.
    #[arg(required_unless_present = "from", add = completion::keys())]
    key: Option<String>,
    #[command(flatten)]
    value: ValueArgs,
    /// Seal for this recipient, or the one in this file; `secretfs recipient` prints that of a mount
    #[arg(long, value_name = "RECIPIENT|FILE", value_hint = clap::ValueHint::FilePath)]
    to: Option<String>,
    /// Change this file, or the files of this directory, instead of printing
    #[arg(long = "in", value_name = "FILE|DIR", value_hint = clap::ValueHint::AnyPath)]
    target: Option<PathBuf>,
    /// Take many values from standard input, or from --from-file, in this form
    #[arg(long, value_enum, value_name = "FORM", conflicts_with_all = ["key", "value", "trim"])]
    from: Option<Form>,
    /// What the keys of those values begin with
    #[arg(long, value_name = "PREFIX", requires = "from")]
    prefix: Option<String>,
    /// The checksum of the value to write [default: CRC32, with --to none: that of a short value reveals it]
    #[arg(long, value_enum, ignore_case = true, value_name = "ALGORITHM")]
    checksum_algorithm: Option<ChecksumChoice>,
}

/// The form of many values.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Lines `NAME=value`. Nothing is expanded.
    Dotenv,
    /// Secrets of Kubernetes, as YAML or JSON.
    Kubernetes,
}

pub(in super::super) fn run(
    client: impl FnOnce() -> Result<Client, ClientError>,
    args: Args,
) -> Result {
    let key = args.key.as_deref().map(super::parse_key).transpose()?;
    let sealer = Sealer::new(args.to.as_deref(), client)?;
    let values = match (args.from, key) {
        (Some(form), _) => take_all(form, args.value.file(), args.prefix.as_deref())?,
        (None, Some(key)) => vec![(key, args.value.take()?)],
        (None, None) => unreachable!("one of both is required"),
    };
    if let Some(path) = &args.target {
        return target::put(path, &sealer, values, args.checksum_algorithm);
    }
    let checksum = args.checksum_algorithm.unwrap_or(sealer.usual_checksum());
    let mut text = String::new();
    for (key, value) in &values {
        let sealed = sealer.seal(key, value, checksum)?;
        let fields = sealed.fields();
        let is_one = args.from.is_none();
        text.push_str(&if is_one { yaml::mapping(&fields) } else { yaml::item(&fields) });
    }
    print(&text)
}

/// The values of a file, or of standard input, with their keys.
fn take_all(
    form: Form,
    file: Option<&Path>,
    prefix: Option<&str>,
) -> Result<Vec<(Key, Plaintext)>> {
    let (name, bytes) = match file {
        Some(path) => (path.display().to_string(), documents::load(path)?),
        None => ("standard input".to_owned(), documents::load_stdin()?),
    };
    let parsed = match form {
        Form::Dotenv => parse_dotenv(&bytes),
        Form::Kubernetes => parse_kubernetes(&bytes),
    };
    let entries = parsed.map_err(|error| CliError::Documents(vec![format!("{name}: {error}")]))?;
    let key_of = |Entry { line, name: entry, value }: Entry| {
        let text = format!("{}{entry}", prefix.unwrap_or_default());
        match Key::parse(&text) {
            Ok(key) => Ok((key, value)),
            Err(error) => {
                Err(CliError::Documents(vec![format!("{name}: line {line}: `{text}`: {error}")]))
            }
        }
    };
    entries.into_iter().map(key_of).collect()
}
