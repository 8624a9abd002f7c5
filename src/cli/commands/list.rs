//! `list`: what is there.

use crate::cli::args::{Format, Output};
use crate::cli::client::{Client, Entry};
use crate::cli::error::Result;
use crate::cli::output::{print, print_list};
use crate::cli::pattern::Pattern;
use crate::cli::yaml::{Fields, Scalar};
use crate::cli::{style, table};
use crate::model::{Key, Plaintext};

/// What stands for a value; its length says nothing about the value's.
const MASK: &str = "********";
/// What stands for a value that the caller may not read.
const NOT_READABLE: &str = "(not readable)";

/// List the secrets that you may see.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs list                      # values masked
  secretfs list DATABASE             # keys that contain DATABASE
  secretfs list '*_PASSWORD'         # a glob over the key, or over what is below the namespace
  secretfs list -n production        # keys below production/
  secretfs list --show --output json")]
pub(in super::super) struct Args {
    /// A part of the key, or a glob if it holds `*`, `?` or `[`.
    pattern: Option<String>,
    /// Show the values, those that you may read.
    #[arg(long)]
    show: bool,
    /// Only keys below this directory.
    #[arg(long, short, value_name = "DIR")]
    namespace: Option<String>,
    #[command(flatten)]
    output: Output,
}

struct Row {
    entry: Entry,
    /// The value, if it was asked for and may be read.
    value: Option<Plaintext>,
}

pub(in super::super) fn run(client: &Client, args: Args) -> Result {
    let namespace = args.namespace.as_deref().map_or("", |name| name.trim_matches('/'));
    let mut keys = client.keys(Some(namespace))?;
    if let Some(pattern) = args.pattern.as_deref().map(Pattern::parse) {
        let below = |key: &Key| key.as_str()[namespace.len()..].trim_start_matches('/').to_owned();
        keys.retain(|key| pattern.matches(key.as_str()) || pattern.matches(&below(key)));
    }
    let entries = client.entries(&keys)?;
    let rows = if args.show {
        show(client, entries)?
    } else {
        entries.into_iter().map(|entry| Row { entry, value: None }).collect()
    };
    match args.output.format {
        Format::Table if rows.is_empty() => {
            style::note("There is no such secret that you may see.");
            Ok(())
        }
        Format::Table => print(&as_table(&rows, args.show)),
        format => print_list(format == Format::Json, rows.iter().map(Row::fields)),
    }
}

fn show(client: &Client, entries: Vec<Entry>) -> Result<Vec<Row>> {
    let keys: Vec<_> = entries.iter().map(|entry| entry.key.clone()).collect();
    let values = client.each(&keys, |key| match client.read(key) {
        Ok(value) => Ok(Some(Some(value))),
        Err(error) if error.is_denied() || error.is_not_found() => Ok(Some(None)),
        Err(error) => Err(error),
    })?;
    Ok(entries.into_iter().zip(values).map(|(entry, value)| Row { entry, value }).collect())
}

impl Row {
    fn fields(&self) -> Fields<'_> {
        let mut fields = vec![
            ("key", Scalar::Text(self.entry.key.as_str())),
            ("id", Scalar::Text(&self.entry.id)),
            ("length", Scalar::Number(self.entry.length)),
        ];
        fields.extend(self.value.iter().map(|value| ("value", Scalar::Value(value))));
        fields.push(("updated", Scalar::Time(self.entry.updated)));
        fields
    }
}

fn as_table(rows: &[Row], show: bool) -> String {
    let value = |row: &Row| match &row.value {
        Some(value) => style::printable(&String::from_utf8_lossy(value.expose())),
        None if show => NOT_READABLE.to_owned(),
        None => MASK.to_owned(),
    };
    let cells = rows.iter().map(|row| {
        [
            style::printable(row.entry.key.as_str()),
            row.entry.id.clone(),
            row.entry.length.to_string(),
            value(row),
            row.entry.updated.to_rfc3339(),
        ]
    });
    let headings = ["KEY", "ID", "LENGTH", "VALUE", "UPDATED"];
    let table = table::render(headings, cells.collect(), 2, style::width());
    let (first, rest) = table.split_once('\n').unwrap_or((&table, ""));
    format!("{}\n{rest}", style::bold(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn row(value: Option<&[u8]>) -> Row {
        let entry = Entry {
            key: Key::parse("alice/K").unwrap(),
            id: "secr_eG8IvKwB0A".to_owned(),
            length: 3,
            updated: Timestamp::from_nanos(0),
        };
        Row { entry, value: value.map(Plaintext::copy_of) }
    }

    #[test]
    fn the_mask_is_the_same_for_every_value() {
        assert_eq!(
            as_table(&[row(None)], false),
            "KEY      ID               LENGTH  VALUE     UPDATED\n\
             alice/K  secr_eG8IvKwB0A       3  ********  1970-01-01T00:00:00Z\n"
        );
    }

    #[test]
    fn shown_values_stay_in_their_line() {
        let table = as_table(&[row(Some(b"a\n\x1b[2J\xff")), row(None)], true);
        assert!(table.contains("a\\n\\u{1b}[2J\u{fffd}"), "{table}");
        assert!(table.contains("(not readable)"));
        assert_eq!(table.lines().count(), 3);
    }

    #[test]
    fn a_value_that_was_not_asked_for_is_not_there() {
        let names = |row: &Row| row.fields().iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names(&row(None)), ["key", "id", "length", "updated"]);
        assert_eq!(names(&row(Some(b"v"))), ["key", "id", "length", "value", "updated"]);
    }
}
