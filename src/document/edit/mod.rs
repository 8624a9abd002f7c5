//! Changing values in a text and nothing else: comments, order, quoting, line endings and other documents keep
//! their bytes.

mod layout;
mod places;
#[cfg(test)]
mod tests;

use std::ops::Range;

use zeroize::Zeroizing;

use super::{
    Checksum, ChecksumAlgorithm, Document, DocumentErrors, DocumentValue, Field, Problem, parse,
};
use crate::model::{Key, SecretId};

use places::{Place, Places};

/// Why a text cannot be edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The text would not be valid with the change.
    #[error("with the change, {0}")]
    Invalid(DocumentErrors),
    /// The change would say something else of another document.
    #[error(
        "the change would change other documents of the file; move this one to a file of its own"
    )]
    Entangled,
}

/// A text of documents, of which some get other values.
pub struct EditedFile {
    bytes: Zeroizing<Vec<u8>>,
    documents: Vec<Document>,
    places: Places,
    /// What stands instead of which bytes; disjoint, in any order.
    edits: Vec<(Range<usize>, String)>,
    /// For each document the value and the checksum that it is to have, if it is changed.
    wanted: Vec<Option<Wanted>>,
}

/// A document that a text does not have.
pub struct NewDocument {
    /// The id, if it is to have one.
    pub id: Option<SecretId>,
    /// The key.
    pub key: Key,
    /// The text of the sealed value.
    pub sealed: String,
    /// The checksum of the plaintext.
    pub checksum: Option<Checksum>,
}

impl NewDocument {
    fn is(&self, document: &Document) -> bool {
        let Some(DocumentValue::Sealed(sealed)) = document.value() else { return false };
        (document.id(), document.key()) == (self.id.as_ref(), &self.key)
            && document.checksum() == self.checksum.as_ref()
            && *sealed == self.sealed
    }
}

struct Wanted {
    sealed: String,
    checksum: Option<Checksum>,
}

impl EditedFile {
    /// A text with its documents. One that has none is valid here.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(bytes: Zeroizing<Vec<u8>>) -> Result<Self, DocumentErrors> {
        let documents = match parse(&bytes) {
            Ok(documents) => documents,
            Err(errors) if errors.iter().all(|error| *error.problem() == Problem::NoDocument) => {
                Vec::new()
            }
            Err(errors) => return Err(errors),
        };
        let places = Places::find(&bytes);
        assert_eq!(places.documents.len(), documents.len(), "both read the same text");
        let wanted = documents.iter().map(|_| None).collect();
        Ok(Self { bytes, documents, places, edits: Vec::new(), wanted })
    }

    /// The documents as they stand in the text.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// Gives a document with a sealed value another one, of the same plaintext: its checksum stays.
    pub fn reseal(&mut self, document: usize, sealed: &str) {
        let checksum = self.documents[document].checksum().cloned();
        let place = &self.places.documents[document];
        let value = place.field(Field::Value).expect("a sealed value stands in the text");
        self.edits.extend(layout::replace_text(&self.bytes, place, value, sealed));
        self.wanted[document] = Some(Wanted { sealed: sealed.to_owned(), checksum });
    }

    /// Gives a document a sealed value and, if there is one, its checksum. A document that has a checksum
    /// must get another one.
    pub fn set_value(&mut self, document: usize, sealed: &str, checksum: Option<&Checksum>) {
        let place = &self.places.documents[document];
        let mut fields = vec![(Field::Value, sealed), (Field::Encrypted, "true")];
        if let Some(checksum) = checksum {
            fields.push((Field::Checksum, checksum.as_str()));
            let algorithm = checksum.algorithm();
            let is_named = place.field(Field::ChecksumAlgorithm).is_some();
            if is_named || algorithm != ChecksumAlgorithm::default() {
                fields.push((Field::ChecksumAlgorithm, algorithm.as_str()));
            }
        }
        let mut missing = String::new();
        let (at, name_quote) = place.insertion(&self.bytes);
        for (field, text) in fields {
            match place.field(field) {
                Some(there) => {
                    self.edits.extend(layout::replace_text(&self.bytes, place, there, text));
                }
                None => {
                    let text = if field == Field::Encrypted { text.into() } else { quoted(text) };
                    missing += &format!("{name_quote}{field}{name_quote}: {text}");
                    missing += &layout::separator(&self.bytes, place);
                }
            }
        }
        self.edits.push((at..at, missing));
        let (sealed, checksum) = (sealed.to_owned(), checksum.cloned());
        self.wanted[document] = Some(Wanted { sealed, checksum });
    }

    /// The text with the changes.
    ///
    /// # Errors
    /// It would not be valid, or say something else of another document.
    pub fn finish(&self) -> Result<Zeroizing<Vec<u8>>, EditError> {
        let text = self.edited();
        let now = parse(&text).map_err(EditError::Invalid)?;
        if self.are_as_wanted(&now) {
            return Ok(text);
        }
        Err(EditError::Entangled)
    }

    /// The text with the changes and new documents: as further items if the text ends in a list, else as YAML
    /// documents of their own.
    ///
    /// # Errors
    /// As [`EditedFile::finish`].
    pub fn finish_with(&self, new: &[NewDocument]) -> Result<Zeroizing<Vec<u8>>, EditError> {
        if new.is_empty() {
            return self.finish();
        }
        let edited = self.edited();
        let mut failed = EditError::Entangled;
        for candidate in layout::with_new(&edited, &Places::find(&edited), new) {
            match parse(&candidate.text) {
                Err(errors) => failed = EditError::Invalid(errors),
                Ok(now) => {
                    let first = if candidate.is_first { 0 } else { now.len() - new.len() };
                    let (before, rest) = now.split_at(first);
                    let (added, after) = rest.split_at(new.len());
                    let others = if candidate.is_first { after } else { before };
                    let are_new = added.iter().zip(new).all(|(now, new)| new.is(now));
                    if are_new && self.are_as_wanted(others) {
                        return Ok(candidate.text);
                    }
                }
            }
        }
        Err(failed)
    }

    fn edited(&self) -> Zeroizing<Vec<u8>> {
        let mut edits: Vec<_> = self.edits.iter().collect();
        edits.sort_by_key(|(range, _)| (range.start, range.end));
        let more: usize = edits.iter().map(|(_, text)| text.len()).sum();
        let mut text = Zeroizing::new(Vec::with_capacity(self.bytes.len() + more));
        let mut from = 0;
        for (range, by) in edits {
            text.extend_from_slice(&self.bytes[from..range.start]);
            text.extend_from_slice(by.as_bytes());
            from = range.end;
        }
        text.extend_from_slice(&self.bytes[from..]);
        text
    }

    fn are_as_wanted(&self, now: &[Document]) -> bool {
        if now.len() != self.documents.len() {
            return false;
        }
        let before = self.documents.iter().zip(&self.wanted);
        before.zip(now).all(|((before, wanted), now)| match wanted {
            None => before.says_the_same(now),
            Some(wanted) => {
                let value = matches!(now.value(), Some(DocumentValue::Sealed(text)) if *text == wanted.sealed);
                value
                    && now.checksum() == wanted.checksum.as_ref()
                    && (now.id(), now.key()) == (before.id(), before.key())
                    && now.lists() == before.lists()
            }
        })
    }
}

/// A text of which no character needs an escape.
fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

impl Place {
    /// Where fields are added, so that no comment changes its field: before the value, else before the field after
    /// the key, else before the key. With the quotes that the names of fields have.
    fn insertion(&self, bytes: &[u8]) -> (usize, &'static str) {
        let after_key = || {
            let key = self.field(Field::Key).or(self.field(Field::Id))?;
            self.fields.iter().filter(|field| field.name > key.name).min_by_key(|field| field.name)
        };
        let before = self.field(Field::Value).or_else(after_key);
        let before = before.or(self.field(Field::Key)).or(self.field(Field::Id));
        let at = before.expect("a document has a key or an id").name;
        let quote = match bytes[at] {
            b'"' => "\"",
            b'\'' => "'",
            _ => "",
        };
        (at, quote)
    }
}
