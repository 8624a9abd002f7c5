//! What is wrong with a file of documents, beside its text.

use std::fmt;

use crate::document::MAX_ERRORS;
use crate::vault::VaultError;

/// Why a document cannot be applied.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct Refusal {
    /// The line of the field at fault, the first being 1.
    pub line: usize,
    /// Why.
    pub error: VaultError,
}

/// Everything that stands against a file, at least one thing, in the order of the lines.
#[derive(Debug, Default)]
pub struct Refusals {
    list: Vec<Refusal>,
    /// How many there are beyond those that are kept.
    more: usize,
}

impl Refusals {
    pub(super) fn add(&mut self, line: usize, error: VaultError) {
        if self.list.len() < MAX_ERRORS {
            self.list.push(Refusal { line, error });
        } else {
            self.more += 1;
        }
    }

    pub(super) fn sort(&mut self) {
        self.list.sort_by_key(|refusal| refusal.line);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Those that are kept.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Refusal> {
        self.list.iter()
    }

    /// The first of them, which decides the error number that the caller gets.
    pub fn first(&self) -> Option<&Refusal> {
        self.list.first()
    }

    /// A line for each, at most [`MAX_ERRORS`] and one that says that there are more.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let more = (self.more > 0).then(|| format!("and {} more; correct these first", self.more));
        self.list.iter().map(ToString::to_string).chain(more)
    }
}

/// One a line.
impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, line) in self.lines().enumerate() {
            write!(f, "{}{line}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
