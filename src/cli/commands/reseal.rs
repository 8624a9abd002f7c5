//! `reseal`: files of documents under the current encryption key.

use std::path::PathBuf;

use crate::cli::client::Client;
use crate::cli::documents;
use crate::cli::error::{CliError, Result};
use crate::cli::exit::Exit;
use crate::cli::in_place::InPlace;
use crate::cli::sealed::sealed_value_in;
use crate::cli::style;
use crate::document::{DocumentValue, Field};

/// Re-encrypt every sealed value of files under the current encryption key of the mount.
///
/// The daemon does it without returning a plaintext, for what its current and previous keys open. All other bytes
/// of the files stay, comments too. Each file is replaced atomically; if one value does not open, no file is changed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs reseal secrets/production      # after the key was replaced
  secretfs verify --to production.recipient secrets/production")]
pub(in super::super) struct Args {
    /// YAML files, and directories of them.
    #[arg(required = true, value_name = "FILE|DIR", value_hint = clap::ValueHint::AnyPath)]
    files: Vec<PathBuf>,
}

pub(in super::super) fn run(client: &Client, args: Args) -> Result {
    let (mut files, mut errors, mut values) = (Vec::new(), Vec::new(), 0);
    for path in documents::expand(&args.files)? {
        match InPlace::open(&path) {
            Ok(file) => files.push(file),
            Err(error) => errors.push(error),
        }
    }
    CliError::all(std::mem::take(&mut errors))?;
    let mut changed = Vec::new();
    for mut file in files {
        match reseal(client, &mut file)? {
            Ok(0) => {}
            Ok(count) => {
                values += count;
                changed.push(file.change()?);
            }
            Err(lines) => errors.push(CliError::Documents(lines)),
        }
    }
    CliError::all(errors)?;
    let count = changed.len();
    for file in changed {
        file.write()?;
    }
    style::note(&format!("Re-encrypted {values} values in {count} files."));
    Ok(())
}

/// How many values there are, or the lines of those that do not open.
fn reseal(client: &Client, file: &mut InPlace) -> Result<Result<usize, Vec<String>>> {
    let name = file.name();
    let (mut resealed, mut errors) = (Vec::new(), Vec::new());
    for (number, document) in file.text().documents().iter().enumerate() {
        let Some(DocumentValue::Sealed(sealed)) = document.value() else { continue };
        match client.reseal(document.key(), sealed) {
            Ok(text) => resealed.push((number, sealed_value_in(&text, document.key())?.1)),
            Err(error) if error.exit() == Exit::BadInput => {
                let line = document.line_of(Field::Value).unwrap_or(document.line());
                errors.push(format!("{name}: line {line}: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if !errors.is_empty() {
        return Ok(Err(errors));
    }
    for (number, sealed) in &resealed {
        file.text().reseal(*number, sealed);
    }
    Ok(Ok(resealed.len()))
}
