//! What can be wrong with documents. No error holds a value.

use std::fmt;

use super::yaml::SyntaxError;
use super::{
    ChecksumAlgorithm, Field, MAX_DOCUMENTS, MAX_ERRORS, MAX_FILE_BYTES, MAX_LIST_SLUGS,
    MAX_LISTS_BYTES,
};
use crate::model::{IdError, Key, KeyError, ListName, MAX_VALUE_BYTES, SLUG_RULE, SecretId};

/// Everything that is wrong with a text, at least one thing, in the order of the lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentErrors(Vec<DocumentError>);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct DocumentError {
    pub(super) line: usize,
    pub(super) document: usize,
    pub(super) problem: Problem,
}

/// What a caller is told by an error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is wrong.
    Invalid,
    /// The text, or something in it, is too large.
    TooLarge,
}

impl DocumentErrors {
    /// `errors` must not be empty.
    pub(super) fn new(mut errors: Vec<DocumentError>) -> Self {
        errors.sort_by_key(|error| error.line);
        Self(errors)
    }

    pub(super) fn whole_text(problem: Problem) -> Self {
        Self(vec![DocumentError { line: 1, document: 0, problem }])
    }

    /// The errors, at most [`MAX_ERRORS`] and one that says that there are more.
    pub fn iter(&self) -> std::slice::Iter<'_, DocumentError> {
        self.0.iter()
    }

    /// Too large if nothing else is wrong.
    pub fn kind(&self) -> ErrorKind {
        if self.iter().all(|error| error.kind() == ErrorKind::TooLarge) {
            ErrorKind::TooLarge
        } else {
            ErrorKind::Invalid
        }
    }
}

impl<'a> IntoIterator for &'a DocumentErrors {
    type Item = &'a DocumentError;
    type IntoIter = std::slice::Iter<'a, DocumentError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One error a line.
impl fmt::Display for DocumentErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.iter().enumerate() {
            write!(f, "{}{error}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for DocumentErrors {}

impl DocumentError {
    /// The line, the first being 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Which secret of the file it is about, the first being 1; 0 if none.
    pub fn document(&self) -> usize {
        self.document
    }

    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The error as the log may hold it: without any text of the document that was not understood,
    /// since that may be a misplaced value.
    pub fn for_log(&self) -> String {
        match &self.problem {
            Problem::UnknownField { near, .. } => {
                let problem = Problem::UnknownField { name: None, near: *near };
                format!("line {}: {problem}", self.line)
            }
            _ => self.to_string(),
        }
    }

    /// What a caller is told by an error number.
    pub fn kind(&self) -> ErrorKind {
        match self.problem {
            Problem::FileTooLarge
            | Problem::ListsTooLarge
            | Problem::ValueTooLarge
            | Problem::TooManyDocuments
            | Problem::ListTooLong(_) => ErrorKind::TooLarge,
            _ => ErrorKind::Invalid,
        }
    }
}

/// What is wrong. Each text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Over [`MAX_FILE_BYTES`].
    #[error("the file is larger than {MAX_FILE_BYTES} bytes; split it")]
    FileTooLarge,
    /// A sidecar over [`MAX_LISTS_BYTES`].
    #[error("the lists are larger than {MAX_LISTS_BYTES} bytes; shorten them")]
    ListsTooLarge,
    /// Over [`MAX_DOCUMENTS`].
    #[error("the file holds more than {MAX_DOCUMENTS} secrets; split it")]
    TooManyDocuments,
    /// Over [`MAX_ERRORS`] errors.
    #[error("there are more than {MAX_ERRORS} errors; correct these and try again")]
    TooManyErrors,
    /// No secret in the whole file.
    #[error("the file holds no document; write at least one secret with a `key`")]
    NoDocument,
    /// A sidecar that names no list.
    #[error("no list is named; name at least one of the six, `readers: []` for an empty one")]
    NoList,
    /// A sidecar of several documents.
    #[error("lists are one document; remove this second one")]
    SecondDocument,
    /// Something else than a mapping where a secret should be.
    #[error("this is not a secret; write a mapping of fields (`key: …`), or a list of them")]
    NotADocument,
    /// Something else than a mapping where lists should be.
    #[error("these are not lists; write a mapping of list names (`readers: […]`)")]
    NotLists,
    /// Not YAML, or a part of it that is not read.
    #[error("{0}")]
    Syntax(#[from] SyntaxError),
    /// A field that does not exist. `name` is left out where it might be a part of a value.
    #[error("unknown field{}", suggestion(name.as_deref(), *near))]
    UnknownField {
        /// The name as it was written.
        name: Option<String>,
        /// The field that may have been meant.
        near: Option<Field>,
    },
    /// A field that stands twice.
    #[error("`{field}` stands already in line {first}; keep one of them")]
    DuplicateField {
        /// The field.
        field: Field,
        /// The line where it stands first.
        first: usize,
    },
    /// A field with nothing in it.
    #[error("`{0}` is empty; {instead}", instead = instead_of_nothing(*.0))]
    Empty(Field),
    /// A list or a mapping where a text should be.
    #[error("`{0}` must be a text; write it as one")]
    NotText(Field),
    /// `!!binary` on something else than a plain value.
    #[error("only a plain `value` can be !!binary; write `{0}` as text")]
    Binary(Field),
    /// Something else than `true` or `false`.
    #[error("`encrypted` must be true or false, without quotes; correct it")]
    NotTrueOrFalse,
    /// Something else than a list.
    #[error("`{0}` must be a list; write `[name, name]`, or `- name` line by line")]
    NotAList(ListName),
    /// Over [`MAX_LIST_SLUGS`].
    #[error("`{0}` has more than {MAX_LIST_SLUGS} entries; use teams or groups")]
    ListTooLong(ListName),
    /// An entry that is empty, a list or a mapping.
    #[error("an entry of `{0}` is not a name; write one slug an entry")]
    NotASlug(ListName),
    /// An entry that YAML reads as a number or a truth value.
    #[error(
        "an entry of `{0}` is a number or a truth value; put quotes around a name, write uid:N or gid:N for a number"
    )]
    UnquotedSlug(ListName),
    /// An entry that is no slug. It may be a misplaced value, so it is not quoted.
    #[error("an entry of `{0}` is not a slug; {SLUG_RULE}")]
    BadSlug(ListName),
    /// A key against the rules.
    #[error("{0}")]
    BadKey(#[from] KeyError),
    /// An id against the rules.
    #[error("{0}")]
    BadId(#[from] IdError),
    /// Neither `key` nor `id`.
    #[error("the secret has neither `key` nor `id`; add its key")]
    NoKey,
    /// A value over the limit.
    #[error("the value is larger than {MAX_VALUE_BYTES} bytes; shorten it")]
    ValueTooLarge,
    /// A `!!binary` value that is not base64.
    #[error("the !!binary value is not base64; correct it")]
    NotBase64,
    /// `encrypted: true` and no value.
    #[error("`encrypted` is true and there is no `value`; add it")]
    EncryptedNothing,
    /// A checksum and no value.
    #[error("there is a `checksum` and no `value`; add the value or remove the checksum")]
    ChecksumOfNothing,
    /// A checksum algorithm and no checksum.
    #[error("there is a `checksumAlgorithm` and no `checksum`; add the checksum or remove this")]
    AlgorithmOfNothing,
    /// An algorithm that does not exist.
    #[error("`checksumAlgorithm` must be one of CRC32, SHA-256, SHA-512 and BLAKE2s; correct it")]
    UnknownAlgorithm,
    /// A checksum that no value can have.
    #[error("a {0} checksum is {digits} hexadecimal digits; correct it", digits = .0.digits())]
    BadChecksum(ChecksumAlgorithm),
    /// A key that stands twice.
    #[error("key `{key}` stands already in line {first}; keep one of them")]
    DuplicateKey {
        /// The key.
        key: Key,
        /// The line where it stands first.
        first: usize,
    },
    /// An id that stands twice.
    #[error("id `{id}` stands already in line {first}; give each secret an id of its own")]
    DuplicateId {
        /// The id.
        id: SecretId,
        /// The line where it stands first.
        first: usize,
    },
    /// A secret that would be a directory of another.
    #[error(
        "a key cannot be a secret and a directory: `{secret}` (line {secret_line}) and `{below}` (line {below_line}); rename one of them"
    )]
    SecretIsDirectory {
        /// The key that would be both.
        secret: Key,
        /// Its line.
        secret_line: usize,
        /// The key below it.
        below: Key,
        /// Its line.
        below_line: usize,
    },
}

fn suggestion(name: Option<&str>, near: Option<Field>) -> String {
    let name = name.map(|name| format!(" `{name}`")).unwrap_or_default();
    match near {
        Some(near) => format!("{name}; did you mean `{near}`?"),
        None => format!("{name}; remove it, or check the indentation of a value above"),
    }
}

fn instead_of_nothing(field: Field) -> &'static str {
    match field {
        Field::Value => "write \"\" for a value without bytes, or remove the field",
        Field::List(_) => "write [] for an empty list, or remove the field",
        _ => "fill it in, in quotes if it means a text like null, or remove the field",
    }
}
