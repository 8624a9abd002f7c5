//! `verify`: documents without any key or mount.

use std::path::{Path, PathBuf};

use crate::cli::documents::{self, DocumentFile};
use crate::cli::error::{CliError, Result};
use crate::cli::style;
use crate::crypto::SealedValue;
use crate::document::{Document, DocumentValue, Field};

/// Check documents without a key and without a mount, for hooks and pipelines.
///
/// Checks the YAML, the fields, keys, ids, lists and checksums, and that encrypted values have the
/// form of a sealed value of a known version. Whether a value decrypts, only the daemon can tell.
/// Exits 1 if something is wrong, with a line for each finding.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs verify secrets/
  secretfs verify --require-encrypted $(git diff --cached --name-only -- secrets/)")]
pub(in super::super) struct Args {
    /// YAML files, and directories of them.
    #[arg(required = true, value_name = "FILE", value_hint = clap::ValueHint::AnyPath)]
    files: Vec<PathBuf>,
    /// Values in the clear are findings too.
    #[arg(long)]
    require_encrypted: bool,
}

pub(in super::super) fn run(args: Args) -> Result {
    let (mut findings, mut files, mut count) = (Vec::new(), 0, 0);
    for path in all_files(&args.files)? {
        files += 1;
        match DocumentFile::open(&path) {
            Ok(file) => {
                count += file.documents.len();
                let found = file.documents.iter().filter_map(|document| {
                    let finding = check(document, args.require_encrypted)?;
                    let line = document.line_of(Field::Value).unwrap_or(document.line());
                    Some(format!("{}: line {line}: `{}`: {finding}", file.name, document.key()))
                });
                findings.extend(found);
            }
            Err(CliError::Documents(errors)) => findings.extend(errors),
            Err(error) => return Err(error),
        }
    }
    if findings.is_empty() {
        style::note(&format!("Nothing is wrong with {count} documents in {files} files."));
        return Ok(());
    }
    Err(CliError::No(findings))
}

fn all_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let files = |path: &PathBuf| {
        if Path::is_dir(path) { documents::find(path) } else { Ok(vec![path.clone()]) }
    };
    Ok(paths.iter().map(files).collect::<Result<Vec<_>>>()?.concat())
}

/// What is wrong with a document that can be parsed.
fn check(document: &Document, require_encrypted: bool) -> Option<String> {
    match document.value()? {
        DocumentValue::Sealed(text) => Some(SealedValue::parse(text).err()?.to_string()),
        DocumentValue::Plain(_) if require_encrypted => {
            Some("the value is in the clear; encrypt it with `secretfs encrypt`".to_owned())
        }
        DocumentValue::Plain(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn verify(text: &str, require_encrypted: bool) -> Result {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.yaml"), text).unwrap();
        run(Args { files: vec![directory.path().to_owned()], require_encrypted })
    }

    #[test]
    fn finds_what_cannot_be_sealed_values() {
        let upstream = "a37/KUAr4SOYi6Xw9i9T8qo3QCk8WvnzONo47jHAkwk=";
        for (value, finding) in [
            (upstream, "secretfs convert"),
            ("AAAA", "secretfs encrypt"),
            ("placeholder-value", "not base64"),
        ] {
            let error = verify(&format!("key: K\nencrypted: true\nvalue: {value}\n"), false);
            let error = error.unwrap_err();
            assert_eq!(error.exit(), Exit::No);
            assert!(error.to_string().contains("a.yaml: line 3: `K`: "), "{error}");
            assert!(error.to_string().contains(finding), "{error}");
            assert!(!error.to_string().contains(value), "{error}");
        }
    }

    #[test]
    fn values_in_the_clear_are_found_on_request() {
        let text = "- key: K\n  value: hunter2\n- key: L\n  readers: [alice]\n";
        assert!(verify(text, false).is_ok());
        let findings = verify(text, true).unwrap_err().to_string();
        assert_eq!(findings.lines().count(), 1);
        assert!(
            findings.contains("`K`: the value is in the clear") && !findings.contains("hunter2")
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_no_finding() {
        let missing = vec!["missing.yaml".into()];
        let error = run(Args { files: missing, require_encrypted: false }).unwrap_err();
        assert_eq!(error.exit(), Exit::NotFound);
    }
}
