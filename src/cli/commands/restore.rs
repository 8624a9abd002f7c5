//! `restore`: what a backup holds, through the drop box or into a state directory.

use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::{Path, PathBuf};

use crate::cli::client::{Client, ClientError};
use crate::cli::error::{CliError, Result};
use crate::cli::offline::{OfflineArgs, SelectedMount};
use crate::cli::parts::{Part, Parts};
use crate::cli::{progress, style};
use crate::daemon::{Offline, OfflineWork, open_offline};
use crate::document::{DocumentErrors, Problem, parse};
use crate::vault::{Outcome, VaultError};

/// Bring back what `backup` wrote: secrets with their ids, values and lists.
///
/// What is there already and the same stays; what differs is updated; nothing is removed. The values
/// need the encryption key that the backup was made under, as the current or a previous one.
#[derive(clap::Args)]
#[command(after_help = "\
A file of more than 64 MiB or 100,000 secrets is restored in parts, each whole or
not at all. After an error, mend what is wrong and restore again: what is restored
already is unchanged.

Examples:
  secretfs restore secrets-2026-11-24.yaml     # as an admin, through the mount
  secretfs restore --offline --encryption-key-file key --state-dir /srv/new b.yaml")]
pub(in super::super) struct Args {
    /// The file that `backup` wrote.
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// With --offline: restore into a state directory that holds secrets already.
    #[arg(long, requires = "offline")]
    force: bool,
    #[command(flatten)]
    offline: OfflineArgs,
}

pub(in super::super) fn run(
    mount: &SelectedMount,
    client: impl FnOnce() -> Result<Client, ClientError>,
    args: Args,
) -> Result {
    let backup = Backup::open(&args.file)?;
    if backup.parts == 0 {
        style::note(&format!("`{}` holds no secrets; nothing was changed.", backup.name));
        return Ok(());
    }
    if args.offline.offline {
        let Offline { vault, owner } =
            open_offline(args.offline.settings(mount)?, OfflineWork::Seal)?;
        if !vault.is_empty() && !args.force {
            return Err(CliError::NotEmpty(vault.len()));
        }
        backup.restore(|_, part| {
            let documents = parse(&part.bytes).map_err(Refused::Documents)?;
            let applied = vault.apply(&owner, documents).map_err(Refused::Vault)?;
            Ok(applied.documents.iter().map(|one| one.outcome).collect())
        })
    } else {
        let client = client()?;
        let process = std::process::id();
        backup.restore(|number, part| {
            let name = format!("{process}-{number}-restore.yaml");
            let report = client.import(&name, &part.bytes).map_err(Refused::Client)?;
            Ok(report.iter().filter_map(|line| outcome(line)).collect())
        })
    }
}

/// Why a part was not applied.
enum Refused {
    Documents(DocumentErrors),
    Vault(VaultError),
    Client(ClientError),
}

/// A file that was read to its end once and holds nothing but documents.
struct Backup {
    name: String,
    file: File,
    parts: usize,
    secrets: usize,
    bytes: u64,
}

impl Backup {
    /// # Errors
    /// The file cannot be read, or everything that is wrong in its first wrong part.
    fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let failed = || CliError::file("read", path);
        let file = File::open(path).map_err(failed())?;
        let bytes = file.metadata().map_err(failed())?.len();
        let (mut count, mut secrets) = (0, 0);
        let mut parts = Parts::of(BufReader::new(&file));
        while let Some(part) = parts.next().map_err(failed())? {
            match parse(&part.bytes) {
                Ok(documents) => secrets += documents.len(),
                // A backup of nothing.
                Err(errors) if count == 0 && is_nothing(&errors) => continue,
                Err(errors) => return Err(wrong(&name, &part, &errors)),
            }
            count += 1;
        }
        Ok(Self { name, file, parts: count, secrets, bytes })
    }

    /// Applies part after part with `apply`, which gets the number of each, and tells what became of
    /// them.
    fn restore(mut self, apply: impl Fn(usize, &Part) -> Result<Vec<Outcome>, Refused>) -> Result {
        let Self { name, parts: all, secrets, bytes, .. } = &self;
        let (name, all) = (name.clone(), *all);
        if all > 1 {
            style::note(&format!(
                "`{name}` holds {secrets} secrets, more than one change takes: it is restored in {all} parts, each whole or not at all."
            ));
        }
        let bar = progress::of_bytes(*bytes);
        let failed = || CliError::file("read", &name);
        self.file.rewind().map_err(failed())?;
        let mut parts = Parts::of(BufReader::new(&self.file));
        let (mut number, mut outcomes) = (0, Vec::new());
        while let Some(part) = parts.next().map_err(failed())? {
            let applied = apply(number, &part).map_err(|refused| {
                bar.finish_and_clear();
                if number > 0 {
                    style::note(&format!(
                        "The first {number} of {all} parts are restored and stay. Mend what is wrong and restore again."
                    ));
                }
                refused.named(&name, &part)
            })?;
            outcomes.extend(applied);
            number += 1;
            bar.inc(part.bytes.len() as u64);
        }
        bar.finish_and_clear();
        style::note(&summary(&name, &outcomes));
        Ok(())
    }
}

fn is_nothing(errors: &DocumentErrors) -> bool {
    errors.iter().all(|error| matches!(error.problem(), Problem::NoDocument))
}

fn wrong(name: &str, part: &Part, errors: &DocumentErrors) -> CliError {
    CliError::Documents(in_file(name, part, errors.iter().map(ToString::to_string)))
}

impl Refused {
    fn named(self, name: &str, part: &Part) -> CliError {
        match self {
            Self::Documents(errors) => wrong(name, part, &errors),
            Self::Vault(VaultError::Refused(refusals)) => {
                CliError::Documents(in_file(name, part, refusals.lines()))
            }
            Self::Vault(error) => error.into(),
            Self::Client(ClientError::Import { report, source }) => {
                let report = in_file(name, part, report.into_iter());
                ClientError::Import { report, source }.into()
            }
            Self::Client(error) => error.into(),
        }
    }
}

/// Lines about a part, as lines about the file.
fn in_file(name: &str, part: &Part, lines: impl Iterator<Item = String>) -> Vec<String> {
    let in_file = |line: String| {
        let moved = line.strip_prefix("line ").and_then(|rest| {
            let (number, rest) = rest.split_once(": ")?;
            Some(format!("line {}: {rest}", number.parse::<usize>().ok()? + part.lines_before))
        });
        format!("{name}: {}", moved.unwrap_or(line))
    };
    lines.map(in_file).collect()
}

/// What a line of a report says of its document.
fn outcome(line: &str) -> Option<Outcome> {
    let line = line.rsplit_once("; it keeps its id ").map_or(line, |(line, _)| line);
    let outcomes = [
        (": created", Outcome::Created),
        (": created, empty: the document gives no value", Outcome::CreatedEmpty),
        (": updated", Outcome::Updated),
        (": unchanged", Outcome::Unchanged),
    ];
    outcomes.into_iter().find(|(text, _)| line.ends_with(text)).map(|(_, outcome)| outcome)
}

fn summary(name: &str, outcomes: &[Outcome]) -> String {
    let count = |wanted: &[Outcome]| outcomes.iter().filter(|one| wanted.contains(one)).count();
    let noun = if outcomes.len() == 1 { "secret" } else { "secrets" };
    format!(
        "Restored {} {noun} from `{name}`: {} created, {} updated, {} unchanged.",
        outcomes.len(),
        count(&[Outcome::Created, Outcome::CreatedEmpty]),
        count(&[Outcome::Updated]),
        count(&[Outcome::Unchanged]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_reports() {
        for (line, expected) in [
            ("line 1: a/K: created", Some(Outcome::Created)),
            ("line 12: K: updated: unchanged", Some(Outcome::Unchanged)),
            ("line 1: K: updated; it keeps its id secr_1", Some(Outcome::Updated)),
            ("line 1: K: created, empty: the document gives no value", Some(Outcome::CreatedEmpty)),
            ("nothing of this file was applied:", None),
        ] {
            assert_eq!(outcome(line), expected, "{line}");
        }
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let part = Part { lines_before: 100, bytes: Default::default() };
        let lines = ["line 7: K: no", "nothing was applied:", "line x: y"].map(str::to_owned);
        assert_eq!(
            in_file("b.yaml", &part, lines.into_iter()),
            ["b.yaml: line 107: K: no", "b.yaml: nothing was applied:", "b.yaml: line x: y"]
        );
    }
}
