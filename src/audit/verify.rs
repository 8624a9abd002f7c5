//! Checking the chain: any line changed, removed, inserted, reordered, cut off, any file missing.
//! One pass, in constant memory, while the daemon goes on writing.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::chain::{ChainKey, Format, Hash, StoreTag};
use super::head::{self, Boot, Head, NoHead};
use super::line::Line;
use super::log::{LostCause, store_text};
use super::{Anchor, files, head_of};

/// A line is never as long as this.
const LONGEST_LINE: u64 = 64 << 10;
/// How much is read at once.
const BUFFER: usize = 1 << 20;
/// After this many problems it is clear that there are problems.
const PROBLEMS: usize = 50;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many lines were checked.
    pub lines: u64,
    /// How many decisions were counted in lines that tell how many (`"repeats"`).
    pub repeats: u64,
    /// How many files they are in.
    pub files: u64,
    /// The number of the first line.
    pub first: u64,
    /// The number of the last line.
    pub last: u64,
    /// What is wrong, a sentence each; empty if the log is as it was written. At most 50.
    pub problems: Vec<String>,
    /// What is worth knowing and explained.
    pub notes: Vec<String>,
}

/// Why the log cannot be checked.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be read: {source}; run this as the user that runs the daemon")]
pub struct VerifyError {
    /// What cannot be read.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// The line that a file begins with.
#[derive(Deserialize)]
pub(super) struct Begin {
    op: String,
    pub(super) file: u64,
    /// The oldest file that was still kept then.
    pub(super) first: u64,
    pub(super) kid: String,
    format: Option<u32>,
    /// The store that the log belongs to.
    pub(super) store: Option<String>,
    prev: String,
    lost_from: Option<u64>,
    lost_to: Option<u64>,
    cause: Option<String>,
}

impl Begin {
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok().filter(|begin: &Self| begin.op == "begin")
    }

    /// None if it is one that this version does not know.
    pub(super) fn format(&self) -> Option<Format> {
        match self.format {
            None => Some(Format::Unbound),
            Some(Format::CURRENT) => Some(Format::Bound),
            Some(_) => None,
        }
    }

    fn store_tag(&self) -> Option<StoreTag> {
        let digits = self.store.as_deref().filter(|digits| digits.len() == 32)?;
        Some(u128::from_str_radix(digits, 16).ok()?.to_be_bytes())
    }

    fn cause(&self) -> Option<LostCause> {
        LostCause::ALL.into_iter().find(|cause| self.cause.as_deref() == Some(cause.as_str()))
    }
}

/// Checks all lines in `directory`. `known` is the store that the log belongs to, with what that knows of it;
/// without it the log is checked by itself. `keys_of` gives the keys of a store's log. `progress` is called
/// now and then with the number of bytes that were read.
///
/// # Errors
/// A file cannot be read. What is wrong with the log is in the report.
pub fn verify(
    directory: &Path,
    known: Option<(StoreTag, Anchor)>,
    keys_of: &dyn Fn(&StoreTag) -> Vec<ChainKey>,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, VerifyError> {
    let failed = |path: PathBuf| move |source| VerifyError { path, source };
    let store = match known {
        Some((store, _)) => store,
        None => store_of(directory).map_err(failed(directory.to_owned()))?,
    };
    let keys = &keys_of(&store)[..];
    let head_path = head_of(directory);
    let read_head = || {
        head::read(&head_path, keys)
            .map_err(|source| VerifyError { path: head_path.clone(), source })
    };
    // First the head: the lines that it tells of are there before it is.
    let head = read_head()?;
    let mut walk = Walk {
        keys,
        head: head.as_ref().ok().copied(),
        anchor: known.map(|(_, anchor)| anchor).unwrap_or_default(),
        store: store_text(&store),
        report: Report::default(),
        end: None,
        first_kept: 0,
        checked: None,
        is_bound: false,
    };
    let mut numbers = files::list(directory).map_err(failed(directory.to_owned()))?;
    walk.first_kept = walk.head.map_or(0, |head| head.first);
    numbers.retain(|&number| number >= walk.first_kept);
    while !numbers.is_empty() {
        let newest = numbers.last().copied().unwrap_or_default();
        for number in numbers {
            let path = files::path_of(directory, number);
            match files::open_to_read(directory, number) {
                Ok(file) => {
                    walk.file(number, number == newest, file, progress).map_err(failed(path))?;
                }
                // Files that are no longer kept go while this runs.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && read_head()?.is_ok_and(|head| number < head.first) =>
                {
                    walk.end = None;
                }
                Err(source) => return Err(VerifyError { path, source }),
            }
        }
        numbers = files::list(directory).map_err(failed(directory.to_owned()))?;
        numbers.retain(|&number| number > newest);
    }
    walk.finish(&head, directory);
    Ok(walk.report)
}

/// The store that the newest file says it belongs to; zeros if none says so.
fn store_of(directory: &Path) -> io::Result<StoreTag> {
    let mut numbers = files::list(directory)?.into_iter().rev();
    let tag = numbers.find_map(|number| {
        let file = files::open_to_read(directory, number).ok()?;
        let mut text = Vec::new();
        BufReader::new(file).take(LONGEST_LINE).read_until(b'\n', &mut text).ok()?;
        Begin::parse(&text)?.store_tag()
    });
    Ok(tag.unwrap_or_default())
}

/// Where a walk through the files has come to.
struct Walk<'a> {
    keys: &'a [ChainKey],
    head: Option<Head>,
    /// A line that has to be there.
    anchor: Anchor,
    /// The store that the log belongs to.
    store: String,
    report: Report,
    /// The line before; none at the beginning, and after what could not be checked.
    end: Option<End>,
    /// The oldest file that has to be there.
    first_kept: u64,
    /// The first file that was checked.
    checked: Option<u64>,
    /// A file was bound to the store, and so must be all that follow.
    is_bound: bool,
}

#[derive(Clone, Copy)]
struct End {
    file: u64,
    seq: u64,
    hash: Hash,
}

impl Walk<'_> {
    fn file(
        &mut self,
        number: u64,
        newest: bool,
        file: File,
        progress: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        let name = files::name_of(number);
        let mut reader = BufReader::with_capacity(BUFFER, file);
        let mut text = Vec::new();
        let (mut position, mut told, mut read) = (0_u64, 0, 0_u64);
        let mut key = None;
        self.report.files += 1;
        loop {
            text.clear();
            let length = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text)? as u64;
            read += length;
            if read - told >= BUFFER as u64 || length == 0 {
                progress(read - told);
                told = read;
            }
            if length == 0 {
                break;
            }
            position += 1;
            if text.pop_if(|last| *last == b'\n').is_none() {
                // The line that is just being written, or was when the daemon was killed.
                if newest && length < LONGEST_LINE {
                    break;
                }
                self.problem(format!("line {position} of {name} is cut off"));
                self.end = None;
                continue;
            }
            if position == 1 {
                match self.begin(number, &name, &text) {
                    Some(of_file) => key = Some(of_file),
                    // Without its key nothing can be said about the rest.
                    None => break,
                }
            } else if let Some(key) = key {
                self.line(key, number, position, &name, &text);
            }
            self.report.lines += 1;
        }
        if position == 0 && !newest {
            self.problem(format!("{name} is empty"));
            self.end = None;
        }
        Ok(())
    }

    /// The first line of a file: tells the key and the form, and ties the file to the one before.
    fn begin(&mut self, number: u64, name: &str, text: &[u8]) -> Option<(usize, Format)> {
        let before = self.end.take();
        let parsed = Begin::parse(text).and_then(|begin| {
            let prev = Hash::parse(begin.prev.as_bytes())?;
            Some((Line::parse(text)?, begin, prev))
        });
        let Some((line, begin, prev)) = parsed else {
            self.problem(format!("line 1 of {name} is not the line that a file begins with"));
            return None;
        };
        let Some(format) = begin.format() else {
            self.problem(format!(
                "{name} was written by a later version of secretfs; check it with that version"
            ));
            return None;
        };
        if format == Format::Bound && begin.store.as_deref() != Some(&self.store) {
            self.problem(format!("{name} belongs to the log of another store"));
            return None;
        }
        if format == Format::Unbound && self.is_bound {
            self.problem(format!("{name} is not bound to its store, and the files before it are"));
            return None;
        }
        self.is_bound |= format == Format::Bound;
        let Some(key) = self.keys.iter().position(|key| key.id() == begin.kid) else {
            self.problem(format!(
                "{name} was written under the key {}, which is not here; add it with --previous-encryption-key-file",
                begin.kid
            ));
            return None;
        };
        let hash = self.keys[key].of_line_in(format, &prev, line.hashed);
        if hash != line.hash || begin.file != number {
            self.problem(format!("line 1 of {name} was changed"));
        } else {
            self.first_kept = self.first_kept.max(begin.first);
            self.tie(name, &line, &begin, &prev, before);
        }
        if self.checked.is_none() {
            self.report.first = line.seq;
        }
        self.checked.get_or_insert(number);
        self.reach(End { file: number, seq: line.seq, hash: line.hash });
        Some((key, format))
    }

    fn tie(
        &mut self,
        name: &str,
        line: &Line<'_>,
        begin: &Begin,
        prev: &Hash,
        before: Option<End>,
    ) {
        if let (Some(from), Some(to)) = (begin.lost_from, begin.lost_to) {
            if let Some(end) = before
                && (end.seq + 1 != from || end.hash != *prev)
            {
                self.problem(format!(
                    "{} does not end where it did when the daemon found lines missing and began {name}",
                    files::name_of(end.file)
                ));
            }
            let what = match begin.cause() {
                Some(LostCause::Power) => {
                    self.report.notes.push(format!(
                        "lines {from} to {to} were lost in a power failure before they were on the disk; the daemon recorded it when it started, in {name}"
                    ));
                    return;
                }
                Some(LostCause::Unexplained) | None => "were missing or changed",
                Some(LostCause::NoHead) => "may be missing: the head of the log was gone",
            };
            return self.problem(format!(
                "lines {from} to {to} {what} when the daemon started; it recorded that in {name}"
            ));
        }
        match before {
            Some(end) if line.seq > end.seq + 1 => self.missing(end.seq + 1, line.seq - 1, || {
                if end.file + 1 == begin.file {
                    format!("at the end of {}", files::name_of(end.file))
                } else {
                    format!(
                        "with {} to {}",
                        files::name_of(end.file + 1),
                        files::name_of(begin.file - 1)
                    )
                }
            }),
            Some(end) if line.seq != end.seq + 1 || end.hash != *prev => self.problem(format!(
                "{} does not end with the line that {name} goes on from",
                files::name_of(end.file)
            )),
            Some(end) if end.file + 1 != begin.file => {
                self.problem(format!("{} is missing", files::name_of(end.file + 1)))
            }
            Some(_) | None => {}
        }
    }

    fn line(&mut self, key: (usize, Format), file: u64, position: u64, name: &str, text: &[u8]) {
        let Some(line) = Line::parse(text) else {
            self.end = None;
            return self.problem(format!("line {position} of {name} is not a line of the log"));
        };
        if let Some(end) = self.end {
            let expected = end.seq + 1;
            if line.seq > expected {
                self.missing(expected, line.seq - 1, || {
                    format!("before line {position} of {name}")
                });
            } else if line.seq < expected {
                self.problem(format!(
                    "line {position} of {name} has the number {}, where {expected} should be: it was inserted or moved",
                    line.seq
                ));
            } else if self.keys[key.0].of_line_in(key.1, &end.hash, line.hashed) != line.hash {
                self.problem(format!(
                    "line {position} of {name}, number {}, was changed, or the one before",
                    line.seq
                ));
            }
        }
        self.report.repeats += line.repeats();
        self.reach(End { file, seq: line.seq, hash: line.hash });
    }

    fn reach(&mut self, end: End) {
        if let Some(head) = &self.head
            && head.seq == end.seq
            && head.hash != end.hash
        {
            self.problem(format!("line number {} is not the one that was written last", end.seq));
        }
        if self.anchor.seq == end.seq
            && self.anchor.hash.is_some_and(|hash| hash != *end.hash.as_bytes())
        {
            self.problem(format!("line number {} is not the one that the store knows", end.seq));
        }
        self.report.last = end.seq;
        self.end = Some(end);
    }

    fn missing(&mut self, from: u64, to: u64, place: impl FnOnce() -> String) {
        let lines = if from == to {
            format!("line {from} is")
        } else {
            format!("lines {from} to {to} are")
        };
        self.problem(format!("{lines} missing {}", place()));
    }

    fn problem(&mut self, what: String) {
        if self.report.problems.len() < PROBLEMS {
            self.report.problems.push(what);
        }
    }

    fn finish(&mut self, head: &Result<Head, NoHead>, directory: &Path) {
        let last = self.report.last;
        match head {
            Err(NoHead::Missing) if self.checked.is_none() => {
                let what = format!("there is no audit log in {}", directory.display());
                return self.problem(what);
            }
            Err(NoHead::Missing) => {
                self.problem("the head of the log is missing, so its end may be too".to_owned());
            }
            Err(NoHead::Damaged) => {
                self.problem("the head of the log was changed, so its end may be missing".to_owned());
            }
            Err(NoHead::UnknownKey(id)) => self.problem(format!(
                "the head of the log was sealed with the key {id}, which is not here; add it with --previous-encryption-key-file"
            )),
            Ok(head) if last < head.seq && head.boot != Boot::current() && last >= head.synced => {
                self.report.notes.push(format!(
                    "lines {} to {} are missing at the end: they were not yet on the disk when the machine went down; the daemon records it when it starts",
                    last + 1,
                    head.seq
                ));
            }
            Ok(head) if last < head.seq => {
                self.missing(last + 1, head.seq, || "at the end: the log was cut off".to_owned());
            }
            Ok(head) if head.format == Format::Unbound && self.is_bound => {
                self.problem("the head of the log is not bound to its store".to_owned());
            }
            Ok(_) => {}
        }
        let told = head.as_ref().map_or(last, |head| head.seq.max(last));
        if self.anchor.seq > told {
            self.missing(told + 1, self.anchor.seq, || {
                "at the end: the store knows of them".to_owned()
            });
        }
        if !self.is_bound && self.checked.is_some() {
            let what = "the log is not bound to its store: an older version wrote it";
            match self.anchor.hash {
                Some(_) => self.problem(format!("{what}, and the store knows of a newer one")),
                None => self.report.notes.push(format!("{what}; the next start binds it")),
            }
        }
        if let Some(first) = self.checked.filter(|&first| first > 1 && first <= self.first_kept) {
            let (lines, files) = (self.report.first - 1, first - 1);
            self.report.notes.push(format!(
                "log rotation has removed lines 1 to {lines}, which were in {files} files; {} is the first one here",
                files::name_of(first)
            ));
        }
        if let Some(first) = self.checked.filter(|&first| first > self.first_kept.max(1)) {
            let kept = self.first_kept.max(1);
            let which = if first - 1 == kept {
                files::name_of(kept) + " is"
            } else {
                format!("{} to {} are", files::name_of(kept), files::name_of(first - 1))
            };
            self.problem(format!("{which} missing"));
        }
    }
}
