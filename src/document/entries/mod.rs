//! Names and values in the forms of other programs: dotenv files and the Secrets of Kubernetes.

mod dotenv;
mod kubernetes;

use std::collections::HashMap;

use crate::model::Plaintext;

use super::SyntaxError;

pub use dotenv::parse_dotenv;
pub use kubernetes::parse_kubernetes;

/// A name with its value.
pub struct Entry {
    /// The line in which it begins, the first being 1.
    pub line: usize,
    /// The name.
    pub name: String,
    /// The value.
    pub value: Plaintext,
}

/// What is wrong in a line. Never holds a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct EntryError {
    /// The line, the first being 1.
    pub line: usize,
    /// What is wrong.
    pub problem: EntryProblem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// No `NAME=value`.
    #[error(
        "this is not NAME=VALUE; a name has letters, digits, `_`, `.` and `-`, and begins with a letter or `_`"
    )]
    NotAnEntry,
    /// A quote without its end.
    #[error("the quote that begins here does not end; close it")]
    OpenQuote,
    /// More after a value in quotes.
    #[error("there is text after the closing quote; write `\\\"` for a quote in the value")]
    AfterQuote,
    /// A name that stands twice.
    #[error("`{name}` stands in line {first}, too; keep one of them")]
    Duplicate {
        /// The name.
        name: String,
        /// The line where it stands first.
        first: usize,
    },
    /// Broken YAML.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// Something other than a Secret.
    #[error(
        "this is not a Secret of Kubernetes, nor a list of them; give what `kubectl get secret NAME -o yaml` prints"
    )]
    NotASecret,
    /// `data` with something other than texts.
    #[error("`{0}` must be a mapping from names to texts")]
    NotTexts(&'static str),
    /// A value of `data` that is not base64.
    #[error("the value of `{0}` is not base64; values in the clear belong into `stringData`")]
    NotBase64(String),
    /// Nothing in it.
    #[error("there is no value in it")]
    Nothing,
}

/// The entries, if no name stands twice.
fn distinct(entries: Vec<Entry>) -> Result<Vec<Entry>, EntryError> {
    let mut seen = HashMap::new();
    for Entry { line, name, .. } in &entries {
        if let Some(first) = seen.insert(name.clone(), *line) {
            let problem = EntryProblem::Duplicate { name: name.clone(), first };
            return Err(EntryError { line: *line, problem });
        }
    }
    if entries.is_empty() {
        return Err(EntryError { line: 1, problem: EntryProblem::Nothing });
    }
    Ok(entries)
}
