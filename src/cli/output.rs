//! Data to standard output.

use std::io::{self, BufWriter, Write, stdout};

use super::args::Format;
use super::error::{CliError, Result};
use super::yaml::{self, Fields};

/// Writes text to standard output.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn print(text: &str) -> Result {
    write(|out| out.write_all(text.as_bytes()))
}

/// Writes one mapping in the form that was asked for; `table` is its form for people.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn print_one(format: Format, table: &str, fields: &Fields<'_>) -> Result {
    match format {
        Format::Table => print(table),
        Format::Json => write(|out| writeln!(out, "{}", *yaml::json(fields))),
        Format::Yaml => print(&yaml::mapping(fields)),
    }
}

/// Writes a list of mappings as YAML or JSON, one at a time.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn print_list<'a>(json: bool, mut all: impl Iterator<Item = Fields<'a>>) -> Result {
    write(|out| {
        let Some(first) = all.next() else { return out.write_all(b"[]\n") };
        if !json {
            return std::iter::once(first)
                .chain(all)
                .try_for_each(|fields| out.write_all(yaml::item(&fields).as_bytes()));
        }
        write!(out, "[\n  {}", *yaml::json(&first))?;
        all.try_for_each(|fields| write!(out, ",\n  {}", *yaml::json(&fields)))?;
        out.write_all(b"\n]\n")
    })
}

/// Writes to standard output.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn write(with: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result {
    let mut out = BufWriter::new(stdout().lock());
    with(&mut out)
        .and_then(|()| out.flush())
        .map_err(|source| CliError::Stream { action: "write to standard output", source })
}
