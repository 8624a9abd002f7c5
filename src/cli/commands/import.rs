//! Files of documents through the drop box.

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::client::{Client, ClientError};
use crate::cli::documents::{DocumentFile, joined};
use crate::cli::error::{CliError, Result};
use crate::cli::style;

/// The longest name that is made for a file in the drop box, in bytes, so that `.report` fits too.
const MAX_NAME_BYTES: usize = 200;
/// How many files are sent as one where nothing is wrong with any of them: one trip to the disk.
const TOGETHER: usize = 100;
/// How many lines of a report are shown as they are. A longer one stands in the drop box for whoever
/// wants it all.
const SHOWN_LINES: usize = 20;
/// What a report says of a document.
const OUTCOMES: [&str; 3] = ["created", "updated", "unchanged"];

/// Applies files, each whole or not at all, and tells what became of them.
pub(super) fn apply(client: &Client, files: &[DocumentFile]) -> Result {
    let bar = progress(files.len());
    let groups: Vec<_> = files.chunks(TOGETHER).enumerate().collect();
    let outcomes = client.each(&groups, |(number, group)| {
        let outcomes = apply_group(client, number * TOGETHER, group)?;
        bar.inc(group.len() as u64);
        Ok(Some(outcomes))
    })?;
    bar.finish_and_clear();
    let (mut reports, mut errors) = (Vec::new(), Vec::new());
    for (file, outcome) in files.iter().zip(outcomes.into_iter().flatten()) {
        match outcome {
            Ok(report) => reports.push(report),
            Err(error) => errors.push(named(&file.name, error).into()),
        }
    }
    match (files.len(), reports.concat()) {
        (1, lines) if lines.len() <= SHOWN_LINES => {
            lines.iter().for_each(|line| style::note(line));
        }
        (files, lines) => style::note(&summary(reports.len(), files, &lines)),
    }
    CliError::all(errors)
}

/// What became of each file: its report, or why nothing of it was applied.
type Outcomes = Vec<Result<Vec<String>, ClientError>>;

/// Applies files together or, where something is wrong with one, each by itself.
///
/// # Errors
/// The daemon is gone.
fn apply_group(
    client: &Client,
    first: usize,
    files: &[DocumentFile],
) -> Result<Outcomes, ClientError> {
    if files.len() > 1
        && let Some(together) = joined(files)
        && let Ok(report) = client.import(&name_in_drop_box(first, "together"), &together)
    {
        let mut rest = report.into_iter();
        let of = |file: &DocumentFile| Ok(rest.by_ref().take(file.documents.len()).collect());
        return Ok(files.iter().map(of).collect());
    }
    let mut outcomes = Vec::with_capacity(files.len());
    for (number, file) in (first..).zip(files) {
        match client.import(&name_in_drop_box(number, &file.name), &file.bytes) {
            Err(gone @ ClientError::Dead(_)) => return Err(gone),
            outcome => outcomes.push(outcome),
        }
    }
    Ok(outcomes)
}

/// What became of many documents.
fn summary(saved: usize, files: usize, lines: &[String]) -> String {
    let mut counts = OUTCOMES.map(|outcome| (outcome, 0));
    for line in lines {
        // A key may hold these words as well; what became of it stands behind it.
        let last = counts.iter_mut().max_by_key(|(outcome, _)| line.rfind(&format!(": {outcome}")));
        last.expect("there are outcomes").1 += 1;
    }
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    let counts: Vec<_> = counts.map(|(outcome, count)| format!("{count} {outcome}")).collect();
    let separator = if counts.is_empty() { "" } else { ": " };
    format!("Saved {saved} of {files} files{separator}{}.", counts.join(", "))
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
    fn many_documents_are_counted() {
        let lines = [
            "line 1: app/K: created",
            "line 2: app/: updated: unchanged; it keeps its id secr_x",
            "line 5: L: created, empty: the document gives no value",
        ];
        assert_eq!(
            summary(2, 3, &lines.map(str::to_owned)),
            "Saved 2 of 3 files: 2 created, 1 unchanged."
        );
        assert_eq!(summary(0, 3, &[]), "Saved 0 of 3 files.");
    }

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
