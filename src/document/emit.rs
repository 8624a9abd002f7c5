//! From secrets to a text.

use std::fmt::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Checksum, DocumentValue, Field};
use crate::model::{Acl, Key, SecretId, is_unprintable};

/// What is written of a secret.
#[derive(Clone, Copy)]
pub struct Emission<'a> {
    /// The id, if there is one.
    pub id: Option<&'a SecretId>,
    /// The key.
    pub key: &'a Key,
    /// The value. A sealed one must be base64.
    pub value: &'a DocumentValue,
    /// The checksum of the plaintext.
    pub checksum: Option<&'a Checksum>,
    /// The lists.
    pub lists: Option<&'a Acl>,
}

/// How documents stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Alone.
    Single,
    /// As an item of a list; the items of a file are written one after the other.
    Item,
}

/// Writes one secret to the end of `out`. A value in the clear passes through buffers that are
/// wiped; `out` is the caller's.
///
/// # Errors
/// Those of `out`: none for a `String`.
pub fn emit(secret: &Emission<'_>, layout: Layout, out: &mut impl Write) -> fmt::Result {
    let indentation = if layout == Layout::Item { "  " } else { "" };
    let mut prefix = if layout == Layout::Item { "- " } else { "" };
    let mut field = |out: &mut _, field: Field| {
        let prefix = std::mem::replace(&mut prefix, indentation);
        start(out, prefix, field)
    };
    if let Some(id) = secret.id {
        field(out, Field::Id)?;
        writeln!(out, " \"{id}\"")?;
    }
    field(out, Field::Key)?;
    write_quoted(secret.key.as_str(), out)?;
    field(out, Field::Value)?;
    match secret.value {
        DocumentValue::Sealed(text) => {
            write_quoted(text, out)?;
            field(out, Field::Encrypted)?;
            out.write_str(" true\n")?;
        }
        DocumentValue::Plain(value) => match std::str::from_utf8(value.expose()) {
            Ok(text) => write_quoted(text, out)?,
            Err(_) => {
                let text = Zeroizing::new(STANDARD.encode(value.expose()));
                writeln!(out, " !!binary \"{}\"", *text)?;
            }
        },
    }
    if let Some(checksum) = secret.checksum {
        field(out, Field::Checksum)?;
        writeln!(out, " \"{}\"", checksum.as_str())?;
        field(out, Field::ChecksumAlgorithm)?;
        writeln!(out, " \"{}\"", checksum.algorithm())?;
    }
    for (name, list) in secret.lists.into_iter().flat_map(Acl::iter) {
        field(out, Field::List(name))?;
        out.write_str(if list.is_empty() { " []\n" } else { "\n" })?;
        for slug in list {
            writeln!(out, "{indentation}- \"{slug}\"")?;
        }
    }
    Ok(())
}

fn start(out: &mut impl Write, prefix: &str, field: Field) -> fmt::Result {
    write!(out, "{prefix}{field}:")
}

/// Writes a text in double quotes. Everything that a YAML reader could take for something else is
/// escaped.
fn write_quoted(text: &str, out: &mut impl Write) -> fmt::Result {
    out.write_str(" \"")?;
    let mut rest = text;
    while let Some(at) = rest.find(needs_escape) {
        let (plain, tail) = rest.split_at(at);
        out.write_str(plain)?;
        let mut characters = tail.chars();
        match characters.next() {
            Some('"') => out.write_str("\\\"")?,
            Some('\\') => out.write_str("\\\\")?,
            Some('\n') => out.write_str("\\n")?,
            Some('\r') => out.write_str("\\r")?,
            Some('\t') => out.write_str("\\t")?,
            Some(other @ '\u{10000}'..) => write!(out, "\\U{:08x}", u32::from(other))?,
            Some(other) => write!(out, "\\u{:04x}", u32::from(other))?,
            None => {}
        }
        rest = characters.as_str();
    }
    out.write_str(rest)?;
    out.write_str("\"\n")
}

fn needs_escape(c: char) -> bool {
    matches!(c, '"' | '\\' | '\u{fffe}' | '\u{ffff}') || is_unprintable(c)
}
