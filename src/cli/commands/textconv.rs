//! `textconv`: a file of documents as git shows its changes, without values.

use std::fmt::Write;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::cli::documents;
use crate::cli::error::Result;
use crate::cli::output::print;
use crate::crypto::SealedValue;
use crate::document::{self, Document, DocumentValue};
use crate::model::printable;

/// Print what a file of documents says, without values: for `git diff`.
///
/// A sealed value is shown as the id of the key that opens it and the beginning of a hash of the sealed text, so that a
/// change of it can be seen. A file that is not valid is shown as what is wrong with it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  git config diff.secretfs.textconv 'secretfs textconv'
  echo 'secrets/**/*.yaml diff=secretfs' >> .gitattributes
  secretfs textconv secrets/web.yaml")]
pub(in super::super) struct Args {
    /// The file.
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
}

pub(in super::super) fn run(args: Args) -> Result {
    // An error would end the whole `git diff`.
    let lines: String = match document::parse(&documents::load(&args.file)?) {
        Ok(documents) => documents.iter().map(describe).collect(),
        Err(errors) => {
            errors.iter().map(|error| format!("{}\n", printable(&error.to_string()))).collect()
        }
    };
    print(&lines)
}

fn describe(document: &Document) -> String {
    let mut text = format!("{}\n", printable(document.key().as_str()));
    let mut line = |name: &str, content: &str| {
        writeln!(text, "  {name}: {content}").expect("a string takes all");
    };
    if let Some(id) = document.id() {
        line("id", id.as_str());
    }
    match document.value() {
        None => {}
        Some(DocumentValue::Plain(_)) => line("value", "in the clear"),
        Some(DocumentValue::Sealed(sealed)) => {
            let hash = Sha256::digest(sealed.as_bytes());
            let hash: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            let how = match SealedValue::parse(sealed) {
                Ok(sealed) if sealed.is_for_recipient() => {
                    format!("sealed for the recipient of the key {}", sealed.key_id())
                }
                Ok(sealed) => format!("sealed with the key {}", sealed.key_id()),
                Err(_) => "not a sealed value".to_owned(),
            };
            line("value", &format!("{how}, {hash}"));
        }
    }
    for (list, slugs) in document.lists().iter() {
        let slugs: Vec<_> = slugs.iter().map(|slug| slug.as_str()).collect();
        line(list.as_str(), &format!("[{}]", slugs.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(text: &str) -> String {
        document::parse(text.as_bytes()).unwrap().iter().map(describe).collect()
    }

    #[test]
    fn shows_what_changed_and_no_value() {
        let sealed = format!("c2ZzAQABAgMEBQYH{}", "A".repeat(64));
        let text = format!(
            "- key: a/K\n  id: secr_x\n  readers: [alice, bob]\n  value: hunter2\n- {{key: b, encrypted: true, value: {sealed}}}\n"
        );
        assert_eq!(
            described(&text),
            "a/K\n  id: secr_x\n  value: in the clear\n  readers: [alice, bob]\n\
             b\n  value: sealed with the key 0001020304050607, 12a3139c21a002e7\n"
        );
        let other = text.replace("AAAA", "AABA");
        assert_ne!(described(&other), described(&text));
    }
}
