//! Reading lines: the last ones, and those that follow.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::line::Line;
use super::progress::Place;
use super::{Anchor, files};

/// How much is read at once.
const BLOCK: usize = 64 << 10;

/// A line taken apart, as far as people want to see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Its number.
    pub seq: u64,
    /// When it was written (RFC 3339, UTC).
    pub time: String,
    /// What was done.
    pub op: String,
    /// `allowed`, `denied` or `failed`; empty where the daemon speaks for itself.
    pub outcome: String,
    /// The name of the error.
    pub error: Option<String>,
    /// Who did it.
    pub uid: Option<u32>,
    /// Its process.
    pub pid: Option<u32>,
    /// Its program.
    pub program: Option<String>,
    /// The number of its request.
    pub request: Option<u64>,
    /// Its own slug.
    pub slug: Option<String>,
    /// The secret.
    pub key: Option<String>,
    /// Its new name.
    pub to: Option<String>,
    /// The version.
    pub version: Option<u64>,
    /// The lists that changed.
    pub lists: Vec<String>,
    /// Whether the value that was written is the one that was there.
    pub unchanged: bool,
    /// What allowed it.
    pub grant: Option<RecordedGrant>,
    /// The line that this one corrects.
    pub of: Option<u64>,
    /// How many decisions the line tells of, where they were counted.
    pub repeats: Option<u64>,
}

/// What allowed something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RecordedGrant {
    /// The slug that is listed.
    pub slug: Option<String>,
    /// The list.
    pub list: Option<String>,
    /// The rule, where it was no list: `own-folder`, `admin`.
    pub rule: Option<String>,
}

impl Record {
    /// Takes a line apart; nothing if it is not one.
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

/// A place at the end of the log, from which it can be followed.
pub struct Tail {
    directory: PathBuf,
    number: u64,
    file: Option<File>,
    position: u64,
}

impl Tail {
    /// The end as it is now.
    ///
    /// # Errors
    /// The directory or the newest file cannot be read.
    pub fn at_end(directory: &Path) -> io::Result<Self> {
        let number = files::list(directory)?.last().copied().unwrap_or(0);
        let mut tail = Self { directory: directory.to_owned(), number, file: None, position: 0 };
        if number > 0 {
            let file = files::open_to_read(directory, number)?;
            tail.position = end_of_lines(&file)?;
            tail.file = Some(file);
        }
        Ok(tail)
    }

    /// Shows the lines before this place, the newest first, until `visit` gives `false`.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn backwards(&self, visit: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<()> {
        let mut numbers = files::list(&self.directory)?;
        numbers.retain(|&number| number <= self.number);
        for &number in numbers.iter().rev() {
            let file = files::open_to_read(&self.directory, number)?;
            let end = if number == self.number { self.position } else { end_of_lines(&file)? };
            if !lines_backwards(&file, end, visit)? {
                break;
            }
        }
        Ok(())
    }

    /// Shows the lines that were written since, and moves on behind them.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn follow(&mut self, visit: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        loop {
            // Asked before the file is read: when there is a next one, this one grows no more.
            let next =
                files::list(&self.directory)?.into_iter().find(|&number| number > self.number);
            if let Some(file) = &self.file {
                self.position = lines_forwards(file, self.position, visit)?;
            }
            let Some(next) = next else { return Ok(()) };
            self.file = Some(files::open_to_read(&self.directory, next)?);
            (self.number, self.position) = (next, 0);
        }
    }
}

/// Shows the whole lines from `position` on, and gives where they end.
fn lines_forwards(file: &File, mut position: u64, visit: &mut dyn FnMut(&[u8])) -> io::Result<u64> {
    let mut rest = Vec::new();
    let mut block = vec![0; BLOCK];
    loop {
        let length = file.read_at(&mut block, position + rest.len() as u64)?;
        if length == 0 {
            return Ok(position);
        }
        rest.extend_from_slice(&block[..length]);
        let Some(end) = rest.iter().rposition(|&byte| byte == b'\n') else { continue };
        rest[..end].split(|&byte| byte == b'\n').for_each(&mut *visit);
        rest.drain(..=end);
        position += end as u64 + 1;
    }
}

/// Shows the lines before `end`, the last one first. Whether `visit` wants more.
fn lines_backwards(
    file: &File,
    end: u64,
    visit: &mut dyn FnMut(&[u8]) -> bool,
) -> io::Result<bool> {
    let mut start = end;
    // The beginning of what was read, up to the first line feed: the end of a line.
    let mut rest: Vec<u8> = Vec::new();
    while start > 0 {
        let length = start.min(BLOCK as u64);
        start -= length;
        let mut block = vec![0; usize::try_from(length).expect("a block")];
        file.read_exact_at(&mut block, start)?;
        block.append(&mut rest);
        let first = if start == 0 {
            0
        } else {
            match block.iter().position(|&byte| byte == b'\n') {
                Some(at) => at + 1,
                None => block.len(),
            }
        };
        let whole = &block[first..];
        for line in whole.strip_suffix(b"\n").unwrap_or(whole).rsplit(|&byte| byte == b'\n') {
            if !line.is_empty() && !visit(line) {
                return Ok(false);
            }
        }
        block.truncate(first);
        rest = block;
    }
    Ok(true)
}

/// Whether the log has this line at this place.
///
/// # Errors
/// The file cannot be read.
pub(super) fn ends_with(directory: &Path, place: Place, anchor: Anchor) -> io::Result<bool> {
    let file = files::open_to_read(directory, place.file)?;
    let mut is_it = false;
    lines_backwards(&file, place.size, &mut |line| {
        is_it = Line::parse(line).is_some_and(|line| {
            line.seq == anchor.seq && anchor.hash == Some(*line.hash.as_bytes())
        });
        false
    })?;
    Ok(is_it)
}

/// Where the last whole line ends.
fn end_of_lines(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let mut block = vec![0; usize::try_from(end - start).expect("a block")];
        file.read_exact_at(&mut block, start)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
