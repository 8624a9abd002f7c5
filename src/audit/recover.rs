//! Finding the end of the log at a start, whatever happened to it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chain::{ChainKey, Format, Hash};
use super::head::{self, Boot, Head, NoHead};
use super::line::Line;
use super::log::{Current, Log, Lost, LostCause, store_text};
use super::progress::Progress;
use super::verify::Begin;
use super::{Known, Options, files, head_of};

/// A line is never as long as this: keys are the longest part, and have 1 KiB.
const LONGEST_LINE: usize = 64 << 10;

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenAuditError {
    /// The directory or a file cannot be used.
    #[error(
        "the audit log cannot be opened: {path}: {source}; see to that, or start with --audit=off"
    )]
    Io {
        /// What cannot be used.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No thread could be started.
    #[error("the audit thread could not be started; raise the limit of threads: {0}")]
    NoThread(#[source] io::Error),
    /// There is no memory for counts.
    #[error("there is no memory to count repeated decisions in: {0}")]
    NoMemory(#[source] io::Error),
}

/// What the newest file ends with.
enum End {
    /// There is no file with a line in it.
    Nothing,
    Line {
        seq: u64,
        hash: Hash,
    },
    Unreadable,
}

/// Opens the log. `known` is what the store knows of it. Lines that should be there and are not are put on
/// record in a new file.
pub(super) fn open(
    options: &Options,
    keys: &[ChainKey],
    known: Known,
    progress: &Arc<Progress>,
) -> Result<Log, OpenAuditError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenAuditError::Io { path, source }
    };
    let directory = &options.directory;
    let head_path = head_of(directory);
    files::make_directory(directory).map_err(io(directory))?;
    let mut head = head::read(&head_path, keys).map_err(io(&head_path))?;
    let boot = Boot::current();
    let key = keys.first().expect("a keyring has a current key");
    let newest_number = files::list(directory).map_err(io(directory))?.last().copied().unwrap_or(0);
    let begun_by = begin_of(directory, newest_number).map_err(io(directory))?;
    if is_foreign(newest_number > 0, begun_by.as_ref(), &head, key, known) {
        let aside = set_aside(directory).map_err(io(directory))?;
        tracing::error!(
            "the audit log in {} is not that of this store; it is kept in {}, and a new one begins",
            directory.display(),
            aside.display()
        );
        files::make_directory(directory).map_err(io(directory))?;
        head = Err(NoHead::Missing);
    }
    let (number, end, file) = newest(directory).map_err(io(directory))?;
    let begun_by = begin_of(directory, number).map_err(io(directory))?;
    let (lost, seq, hash) = compare(&end, &head, known, boot);
    let same_key = begun_by
        .as_ref()
        .is_some_and(|begin| begin.kid == key.id() && begin.format() == Some(Format::Bound));
    let first = match &head {
        Ok(head) => head.first,
        Err(_) => begun_by.map_or(1, |begin| begin.first),
    };
    let file = file.filter(|_| same_key && lost.is_none());
    if let Some(current) = &file {
        progress.add(Arc::clone(&current.file));
    }
    let log = Log {
        directory: directory.clone(),
        head_path,
        key: key.clone(),
        file_bytes: options.file_bytes,
        keep_files: options.keep_files,
        boot,
        host: host(),
        progress: Arc::clone(progress),
        file,
        number: head.map_or(number, |head| head.file.max(number)),
        first,
        seq,
        hash,
        lost,
        head: None,
        next_rotation: None,
        buffer: Vec::new(),
        revision: options.revision.clone(),
    };
    progress.appended(seq, hash, log.place());
    progress.set_synced(seq);
    Ok(log)
}

/// Whether what is there is not the log of this store.
fn is_foreign(
    has_files: bool,
    begin: Option<&Begin>,
    head: &Result<Head, NoHead>,
    key: &ChainKey,
    known: Known,
) -> bool {
    let is_there = has_files || *head != Err(NoHead::Missing);
    let is_others = |begin: &Begin| match begin.format() {
        Some(Format::Bound) => begin.store.as_deref() != Some(&store_text(key.store())),
        Some(Format::Unbound) => !known.allows_unbound(),
        // A later version wrote it, or somebody changed it.
        None => true,
    };
    let is_unbound = head.as_ref().is_ok_and(|head| head.format == Format::Unbound);
    match known {
        Known::New => is_there,
        Known::Line(_) => begin.is_some_and(is_others) || is_unbound && !known.allows_unbound(),
    }
}

/// Moves a log that is not this store's to a name beside its own: it is somebody's evidence.
fn set_aside(directory: &Path) -> io::Result<PathBuf> {
    let free = |number: u32| {
        let aside = directory.with_extension(format!("of-another-store-{number}"));
        let head = directory.with_extension(format!("of-another-store-{number}.head"));
        let is_free = |path: &Path| !path.try_exists().unwrap_or(true);
        (is_free(&aside) && is_free(&head)).then_some((aside, head))
    };
    let (aside, head) = (1..1000).find_map(free).ok_or(io::ErrorKind::AlreadyExists)?;
    std::fs::rename(directory, &aside)?;
    match std::fs::rename(head_of(directory), head) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    directory.parent().map_or(Ok(()), files::sync_directory)?;
    Ok(aside)
}

/// The name of this host; empty where the kernel does not tell.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}

/// What is missing, and the line that the log goes on from.
fn compare(
    end: &End,
    head: &Result<Head, NoHead>,
    known: Known,
    boot: Boot,
) -> (Option<Lost>, u64, Hash) {
    let (seq, hash) = match (end, head) {
        (End::Line { seq, hash }, _) => (*seq, *hash),
        (End::Unreadable, Ok(head)) => (head.seq, head.hash),
        (End::Unreadable | End::Nothing, _) => (0, Hash::NONE),
    };
    let anchor = known.seq();
    let expected = head.as_ref().map_or(0, |head| head.seq).max(anchor);
    let is_anchored = match known {
        Known::Line(line) if line.seq == seq => {
            line.hash.is_none_or(|known| known == *hash.as_bytes())
        }
        Known::Line(_) | Known::New => true,
    };
    let lost = |cause| Some(Lost { from: seq + 1, to: expected.max(seq), cause });
    let lost = match (end, head) {
        (End::Nothing, Err(NoHead::Missing)) if anchor == 0 => None,
        (End::Nothing, Ok(head)) if head.seq == 0 && anchor == 0 => None,
        (_, Err(_)) => lost(LostCause::NoHead),
        (End::Unreadable, Ok(_)) => lost(LostCause::Unexplained),
        (_, Ok(head)) if head.seq == seq && head.hash != hash => lost(LostCause::Unexplained),
        _ if !is_anchored => lost(LostCause::Unexplained),
        (_, Ok(head)) if seq < expected => {
            let power = head.boot != boot && seq >= head.synced && seq >= anchor;
            lost(if power { LostCause::Power } else { LostCause::Unexplained })
        }
        (_, Ok(_)) => None,
    };
    (lost, seq, hash)
}

/// The newest file with a line in it, without half a line at its end: that was never answered.
fn newest(directory: &Path) -> io::Result<(u64, End, Option<Current>)> {
    let numbers = files::list(directory)?;
    // What the daemon that ended had not yet synced.
    for &number in numbers.iter().rev().take(2) {
        files::open(directory, number)?.sync_data()?;
    }
    for &number in numbers.iter().rev() {
        let file = files::open(directory, number)?;
        let (end, size) = end_of(&file)?;
        if matches!(end, End::Nothing) {
            std::fs::remove_file(files::path_of(directory, number))?;
            continue;
        }
        if matches!(end, End::Line { .. }) && size < file.metadata()?.len() {
            file.set_len(size)?;
        }
        let current = Current::new(Arc::new(file), size, 2)?;
        let usable = matches!(end, End::Line { .. }).then_some(current);
        return Ok((number, end, usable));
    }
    Ok((0, End::Nothing, None))
}

/// The last whole line of a file, and where it ends.
fn end_of(file: &File) -> io::Result<(End, u64)> {
    let size = file.metadata()?.len();
    // A power loss may leave a stretch of zeros where lines were about to be.
    for window in [1, 16, 256].map(|factor| factor * 2 * LONGEST_LINE as u64) {
        let start = size.saturating_sub(window);
        let mut bytes = vec![0; usize::try_from(size - start).expect("at most 32 MiB")];
        file.read_exact_at(&mut bytes, start)?;
        let Some(newline) = bytes.iter().rposition(|&byte| byte == b'\n') else { continue };
        let before = bytes[..newline].iter().rposition(|&byte| byte == b'\n');
        if before.is_none() && start > 0 {
            continue;
        }
        let line = &bytes[before.map_or(0, |at| at + 1)..newline];
        let end = start + newline as u64 + 1;
        return Ok(match Line::parse(line) {
            Some(line) => (End::Line { seq: line.seq, hash: line.hash }, end),
            None => (End::Unreadable, end),
        });
    }
    // Not even the line that a file begins with was written whole.
    let short = size < LONGEST_LINE as u64;
    Ok((if short { End::Nothing } else { End::Unreadable }, 0))
}

/// The line with which a file begins.
fn begin_of(directory: &Path, number: u64) -> io::Result<Option<Begin>> {
    if number == 0 {
        return Ok(None);
    }
    let file = files::open_to_read(directory, number)?;
    let mut bytes = vec![0; LONGEST_LINE];
    let length = file.read_at(&mut bytes, 0)?;
    Ok(bytes[..length].split(|&byte| byte == b'\n').next().and_then(Begin::parse))
}
