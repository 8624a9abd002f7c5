//! `convert`: a file of upstream's own tool to a sealed one.

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::cli::client::{Client, ClientError};
use crate::cli::documents::DocumentFile;
use crate::cli::error::{CliError, Result};
use crate::cli::output::print;
use crate::cli::sealed::{ChecksumChoice, Sealed, Sealer};
use crate::cli::style;
use crate::cli::yaml::{self, Scalar};
use crate::crypto::{BUILT_IN_KEY, SealedValue, SealedValueError, open_upstream};
use crate::daemon::take_encryption_key;
use crate::document::{Document, DocumentValue, Field};
use crate::model::Plaintext;

/// Turn a file of upstream's own tool into a sealed one, on standard output.
///
/// Values that upstream's `encrypt` wrote are decrypted with the key that it was used with and
/// sealed by the daemon, or with --to by this command; so are values in the clear; values that are sealed already
/// stay. Ids, keys and lists stay; comments do not.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs convert upstream.yaml > sealed.yaml
  secretfs convert --encryption-key-file old-key upstream.yaml > sealed.yaml
  secretfs convert --to production.recipient upstream.yaml > sealed.yaml")]
pub(in super::super) struct Args {
    /// The file.
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// File with the key that upstream's tool was used with; without it OB_ENCRYPTION_KEY, then
    /// upstream's default key.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    encryption_key_file: Option<PathBuf>,
    /// Seal for this recipient, or the one in this file, without a mount
    #[arg(long, value_name = "RECIPIENT|FILE", value_hint = clap::ValueHint::FilePath)]
    to: Option<String>,
}

pub(in super::super) fn run(
    client: impl FnOnce() -> Result<Client, ClientError>,
    args: Args,
) -> Result {
    let sealer = Sealer::new(args.to.as_deref(), client)?;
    let key = upstream_key(args.encryption_key_file)?;
    let file = DocumentFile::open(&args.file)?;
    let (name, single) = (file.name, file.documents.len() == 1);
    let (mut text, mut errors) = (String::new(), Vec::new());
    for mut document in file.documents {
        match convert(&sealer, &key, &name, &mut document) {
            Ok(sealed) => {
                let lists = document.lists().clone();
                let mut fields = match &sealed {
                    Some(sealed) => sealed.fields(),
                    None => vec![("key", Scalar::Text(document.key().as_str()))],
                };
                fields
                    .extend(lists.iter().map(|(name, list)| (name.as_str(), Scalar::Slugs(list))));
                text.push_str(&if single { yaml::mapping(&fields) } else { yaml::item(&fields) });
            }
            Err(error) => errors.push(error),
        }
    }
    CliError::all(errors)?;
    print(&text)
}

/// The key as upstream takes it: the text's own bytes.
fn upstream_key(file: Option<PathBuf>) -> Result<Zeroizing<String>> {
    let Some(path) = file else {
        return Ok(take_encryption_key().unwrap_or_else(|| Zeroizing::new(BUILT_IN_KEY.to_owned())));
    };
    let text = std::fs::read_to_string(&path).map_err(CliError::file("read", path))?;
    let text = Zeroizing::new(text);
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// The document with its value sealed; none if it has no value.
fn convert(
    sealer: &Sealer,
    key: &str,
    file: &str,
    document: &mut Document,
) -> Result<Option<Sealed>> {
    let line = document.line_of(Field::Value).unwrap_or(document.line());
    let wrong = |what: &dyn std::fmt::Display| {
        CliError::Documents(vec![format!("{file}: line {line}: {what}")])
    };
    let id = document.id().cloned();
    let value = match document.take_value() {
        None => return Ok(None),
        Some(DocumentValue::Plain(value)) => value,
        Some(DocumentValue::Sealed(text)) => match SealedValue::parse(&text) {
            Ok(_) => {
                let checksum = document.checksum().cloned();
                return Ok(Some(Sealed::existing(document.key(), text, checksum).with_id(id)));
            }
            Err(SealedValueError::Upstream) => {
                let value = open_upstream(key, &text).map_err(|error| wrong(&error))?;
                if document.checksum().is_none() {
                    style::warn(&format!(
                        "{file}: line {line}: there is no checksum, so a wrong key may go unnoticed; compare the value"
                    ));
                }
                value
            }
            Err(error) => return Err(wrong(&error)),
        },
    };
    check(document, &value).map_err(|what| wrong(&what))?;
    let algorithm = document.checksum().map(|checksum| checksum.algorithm());
    let choice =
        algorithm.map_or_else(|| sealer.usual_checksum(), |some| ChecksumChoice(Some(some)));
    Ok(Some(sealer.seal(document.key(), &value, choice)?.with_id(id)))
}

fn check(document: &Document, value: &Plaintext) -> Result<(), &'static str> {
    match document.checksum() {
        Some(checksum) if !checksum.matches(value) => Err(
            "the checksum is not that of the value; give the key that the file was encrypted with, or mend the checksum",
        ),
        _ => Ok(()),
    }
}
