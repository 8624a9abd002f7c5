//! Files of documents through the drop box.

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::client::{Client, ClientError};
use crate::cli::documents::DocumentFile;
use crate::cli::error::{CliError, Result};
use crate::cli::style;

/// The longest name that is made for a file in the drop box, in bytes, so that `.report` fits too.
const MAX_NAME_BYTES: usize = 200;
/// A longer report is told by its counts: it stands in the drop box for whoever wants it all.
const MAX_LINES: usize = 20;

/// Applies files, each whole or not at all, and tells what became of them.
pub(super) fn apply(client: &Client, files: &[DocumentFile]) -> Result {
    let bar = progress(files.len());
    let numbered: Vec<_> = files.iter().enumerate().collect();
    let outcomes = client.each(&numbered, |(number, file)| {
        let outcome = client.import(&name_in_drop_box(*number, &file.name), &file.bytes);
        bar.inc(1);
        Ok(Some(outcome))
    })?;
    bar.finish_and_clear();
    let mut errors = Vec::new();
    let mut saved = 0;
    for (file, outcome) in files.iter().zip(outcomes) {
        match outcome {
            Ok(report) if files.len() == 1 => tell(file, &report),
            Ok(_) => saved += 1,
            Err(error) => errors.push(named(&file.name, error).into()),
        }
    }
    if files.len() > 1 {
        style::note(&format!("Saved {saved} of {} files.", files.len()));
    }
    CliError::all(errors)
}

/// What became of the documents of one file.
fn tell(file: &DocumentFile, report: &[String]) {
    if report.len() <= MAX_LINES {
        return report.iter().for_each(|line| style::note(line));
    }
    let told: Vec<_> = file.documents.iter().zip(report).collect();
    let count = |what: &str| {
        told.iter()
            .filter(|(document, line)| line.contains(&format!("{}: {what}", document.key())))
            .count()
    };
    let (created, updated) = (count("created"), count("updated"));
    let unchanged = report.len() - created - updated;
    style::note(&format!("{created} created, {updated} updated, {unchanged} unchanged."));
}

/// The error with the name that the file has here in front of each line of the report.
fn named(name: &str, error: ClientError) -> ClientError {
    match error {
        ClientError::Import { report, source } => ClientError::Import {
            report: report.iter().map(|line| format!("{name}: {line}")).collect(),
            source,
        },
        ClientError::Refused { action, source, reason, .. } => {
            ClientError::Refused { action, name: name.to_owned(), source, reason }
        }
        other => other,
    }
}

/// One path component, not in use by another file of this or another program, that still tells
/// whose it is. Whatever the file is called, the daemon must not take it for an unfinished one.
fn name_in_drop_box(number: usize, name: &str) -> String {
    let base = Path::new(name).file_name().map_or(name.into(), |base| base.to_string_lossy());
    let mut unique = format!("{}-{number}-", std::process::id());
    let printable = base.chars().filter(|character| !character.is_control());
    for character in printable {
        if unique.len() + character.len_utf8() > MAX_NAME_BYTES {
            break;
        }
        unique.push(character);
    }
    if Path::new(&unique).extension().is_none_or(|extension| extension != "yaml") {
        unique.push_str(".yaml");
    }
    unique
}

/// Shown for more than one file, and only where standard error is a terminal.
fn progress(files: usize) -> ProgressBar {
    if files <= 1 {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} files, {eta} left")
        .expect("the template is valid");
    ProgressBar::new(files as u64).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_drop_box_are_short_and_distinct() {
        let name = name_in_drop_box(3, "a/b/prod.yaml");
        assert!(name.ends_with("-3-prod.yaml") && !name.contains('/'), "{name}");
        assert_ne!(name_in_drop_box(1, "x/a.yaml"), name_in_drop_box(2, "y/a.yaml"));
        assert!(name_in_drop_box(1, &"é".repeat(300)).len() <= MAX_NAME_BYTES + ".yaml".len());
        assert!(name_in_drop_box(1, "standard input").ends_with("-1-standard input.yaml"));
        assert!(name_in_drop_box(1, "a.tmp").ends_with("-1-a.tmp.yaml"));
    }
}
