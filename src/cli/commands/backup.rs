//! `backup`: everything that the caller may read, sealed, in one file.

use std::io::{ErrorKind, Read, Write, stdout};
use std::path::{Path, PathBuf};

use crate::cli::client::{Client, ClientError};
use crate::cli::error::{CliError, Result};
use crate::cli::offline::{OfflineArgs, SelectedMount};
use crate::cli::{progress, style};
use crate::daemon::{NewFile, Offline, OfflineWork, open_offline};

/// Bytes that are read at a time.
const STEP: usize = 128 << 10;
/// How every document of an export begins.
const DOCUMENT: &[u8] = b"- id: ";

/// Write everything that you may read to a file: sealed YAML, with ids and lists.
///
/// It is one moment's state, however long it takes. The values in it open with the encryption key of
/// this service alone: keep the key in another place, and keep it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs backup secrets-2026-11-24.yaml      # as an admin: all there is
  secretfs backup - | age -r age1… > backup.age
  secretfs backup --offline --encryption-key-file key backup.yaml")]
pub(in super::super) struct Args {
    /// The file, made with mode 0600; `-` is standard output.
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    offline: OfflineArgs,
}

pub(in super::super) fn run(
    mount: &SelectedMount,
    client: impl FnOnce() -> Result<Client, ClientError>,
    args: Args,
) -> Result {
    // Before a large export is read for nothing.
    let mut target = Target::open(&args.file, args.force)?;
    let (count, of_whom) = if args.offline.offline {
        (offline(mount, args.offline, &mut target)?, "")
    } else {
        let client = client()?;
        let whose = if client.caller()?.is_admin() { "" } else { " that you may read" };
        (online(&client, &mut target)?, whose)
    };
    target.finish()?;
    let noun = if count == 1 { "secret" } else { "secrets" };
    style::note(&format!("Backed up {count} {noun}{of_whom} to {}.", name(&args.file)));
    Ok(())
}

fn online(client: &Client, target: &mut Target) -> Result<u64> {
    let (mut export, size) = client.export()?;
    let mut piece = vec![0; STEP];
    copy(size, target, || {
        let length = export.read(&mut piece).map_err(client.export_refused())?;
        Ok(piece[..length].to_vec())
    })
}

fn offline(mount: &SelectedMount, args: OfflineArgs, target: &mut Target) -> Result<u64> {
    let Offline { vault, owner } = open_offline(args.settings(mount)?, OfflineWork::Read)?;
    let export = vault.export(&owner.caller, "");
    vault.record_export(&owner, &export)?;
    let mut offset = 0;
    copy(export.size(), target, || {
        let piece = vault.read_export(&export, offset, STEP)?;
        offset += piece.len() as u64;
        Ok(piece)
    })
}

/// Copies an export to its end and gives the number of its documents.
fn copy(size: u64, target: &mut Target, mut next: impl FnMut() -> Result<Vec<u8>>) -> Result<u64> {
    let (bar, mut counter, mut copied) = (progress::of_bytes(size), Counter::default(), 0);
    loop {
        let piece = next()?;
        if piece.is_empty() {
            break;
        }
        counter.count(&piece);
        target.write(&piece)?;
        copied += piece.len() as u64;
        bar.inc(piece.len() as u64);
    }
    bar.finish_and_clear();
    if copied == size { Ok(counter.documents) } else { Err(CliError::CutOff { copied, size }) }
}

/// Where the backup goes.
enum Target {
    Stdout,
    File(NewFile, PathBuf),
}

impl Target {
    fn open(path: &Path, replace: bool) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        match NewFile::create(path, replace) {
            Ok(file) => Ok(Self::File(file, path.to_owned())),
            Err(error) => Err(failed(path)(error)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result {
        match self {
            Self::Stdout => stdout()
                .lock()
                .write_all(bytes)
                .map_err(|source| CliError::Stream { action: "write to standard output", source }),
            Self::File(file, path) => file.write_all(bytes).map_err(failed(path)),
        }
    }

    fn finish(self) -> Result {
        match self {
            Self::Stdout => stdout()
                .lock()
                .flush()
                .map_err(|source| CliError::Stream { action: "write to standard output", source }),
            Self::File(file, path) => file.finish().map_err(failed(&path)),
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> CliError {
    let path = path.to_owned();
    move |error| match error.kind() {
        ErrorKind::AlreadyExists => CliError::WouldReplace(path),
        _ => CliError::file("write", path)(error),
    }
}

fn name(path: &Path) -> String {
    if path == Path::new("-") {
        "standard output".to_owned()
    } else {
        format!("`{}`", path.display())
    }
}

/// Counts documents in a text that comes in pieces.
struct Counter {
    documents: u64,
    /// How much of [`DOCUMENT`] the line has shown so far; nothing once it has shown something else.
    matched: Option<usize>,
}

impl Default for Counter {
    fn default() -> Self {
        Self { documents: 0, matched: Some(0) }
    }
}

impl Counter {
    fn count(&mut self, piece: &[u8]) {
        for &byte in piece {
            self.matched = match self.matched {
                _ if byte == b'\n' => Some(0),
                Some(length) if DOCUMENT.get(length) == Some(&byte) => Some(length + 1),
                _ => None,
            };
            self.documents += u64::from(self.matched == Some(DOCUMENT.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_documents_wherever_the_text_is_cut() {
        let text = b"- id: \"a\"\n  key: \"- id: \"\n- id: \"b\"\n  readers:\n  - \"x\"\n";
        for step in 1..text.len() {
            let mut counter = Counter::default();
            text.chunks(step).for_each(|piece| counter.count(piece));
            assert_eq!(counter.documents, 2, "in steps of {step}");
        }
        let mut none = Counter::default();
        none.count(b"[]\n");
        assert_eq!(none.documents, 0);
    }
}
