//! The end of the log, where lines are appended. One thread at a time has it in hand.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Revision;
use super::chain::{ChainKey, Format, Hash, StoreTag};
use super::event::Event;
use super::files;
use super::head::{Boot, Head, HeadFile};
use super::json;
use super::line;
use super::progress::{Place, Progress};
use super::reserve::Reserve;

/// How long after a new file could not be made the next attempt comes; meanwhile the old one grows.
const RETRY: Duration = Duration::from_secs(1);

/// The end of the log.
pub(super) struct Log {
    pub(super) directory: PathBuf,
    pub(super) head_path: PathBuf,
    pub(super) key: ChainKey,
    pub(super) file_bytes: u64,
    pub(super) keep_files: u64,
    pub(super) boot: Boot,
    /// The name of this host.
    pub(super) host: String,
    pub(super) progress: Arc<Progress>,
    /// The file that is appended to. None if the next line needs a new one.
    pub(super) file: Option<Current>,
    /// The number of the newest file.
    pub(super) number: u64,
    /// The oldest file that is kept.
    pub(super) first: u64,
    /// The newest line.
    pub(super) seq: u64,
    pub(super) hash: Hash,
    /// Lines that should be there and are not; told at the beginning of the next file.
    pub(super) lost: Option<Lost>,
    pub(super) head: Option<HeadFile>,
    pub(super) next_rotation: Option<Instant>,
    pub(super) buffer: Vec<u8>,
    pub(super) revision: Revision,
}

/// The file that is appended to.
pub(super) struct Current {
    pub(super) file: Arc<File>,
    /// Its length; what lies behind is half a line that did not fit.
    pub(super) size: u64,
    pub(super) lines: u64,
    /// Half a line stands behind its end and could not be cut off.
    pub(super) untidy: bool,
    pub(super) reserve: Reserve,
}

/// Lines that are gone, and why as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) cause: LostCause,
}

/// Why lines are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LostCause {
    /// They were not yet on the disk, and the machine was started again since.
    Power,
    /// Nothing that the daemon does explains it.
    Unexplained,
    /// How far the log should go is not known: the head is gone or not readable.
    NoHead,
}

impl LostCause {
    pub(super) const ALL: [Self; 3] = [Self::Power, Self::Unexplained, Self::NoHead];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Power => "power-failure",
            Self::Unexplained => "unexplained",
            Self::NoHead => "no-head",
        }
    }
}

/// What came of appending.
pub(super) struct Appended {
    /// The number of the first of the lines.
    pub(super) first: u64,
    /// Why the head could not be written, if it could not.
    pub(super) head: io::Result<()>,
}

impl Log {
    /// Appends a line for each event, with one write(2). All or none of them are there afterwards.
    pub(super) fn append<'a>(
        &mut self,
        events: impl Iterator<Item = &'a Event> + Clone,
    ) -> io::Result<Appended> {
        self.prepare()?;
        self.buffer.clear();
        let (mut seq, mut hash) = (self.seq, self.hash);
        let time = line::time_text(SystemTime::now());
        let revision = self.revision.get();
        for event in events.clone() {
            seq += 1;
            event.count().iter().for_each(|counted| counted.begin(seq));
            let (out, body) = (&mut self.buffer, event.body());
            hash = line::write(out, &self.key, &hash, seq, &time, revision, body);
        }
        let current = self.file.as_mut().expect("it was prepared");
        let appended = current.append(&self.buffer);
        for counted in events.filter_map(Event::count) {
            counted.end(appended.is_ok());
        }
        appended?;
        current.lines += seq - self.seq;
        let first = self.seq + 1;
        (self.seq, self.hash) = (seq, hash);
        self.progress.appended(seq, hash, self.place());
        Ok(Appended { first, head: self.write_head() })
    }

    /// The lines that were appended last.
    pub(super) fn appended_lines(&self) -> impl Iterator<Item = &[u8]> {
        self.buffer.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
    }

    /// Whether the disk has more room than what is kept for lines that must not fail. Allocates that.
    pub(super) fn has_room(&mut self) -> io::Result<bool> {
        match &mut self.file {
            Some(current) => current.reserve.is_whole(&current.file, current.size),
            // It is made with the next line.
            None => Ok(true),
        }
    }

    /// Whether these events may be written where there is no more room than that.
    pub(super) fn admits(&mut self, events: &[Event]) -> bool {
        self.file.as_mut().is_none_or(|current| current.reserve.admits(events))
    }

    /// Goes on in a new file, unless there is nothing in this one.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        match &self.file {
            Some(current) if current.lines > 1 => self.begin(),
            _ => Ok(()),
        }
    }

    /// The next line begins a file under this key.
    pub(super) fn set_key(&mut self, key: ChainKey) {
        if key.name() != self.key.name() {
            (self.key, self.file) = (key, None);
        }
    }

    pub(super) fn write_head(&self) -> io::Result<()> {
        let head = Head {
            first: self.first,
            file: self.number,
            seq: self.seq,
            hash: self.hash,
            synced: self.progress.synced(),
            boot: self.boot,
            format: Format::Bound,
        };
        match &self.head {
            Some(file) => file.write(&self.key, &head),
            None => Ok(()),
        }
    }

    pub(super) fn place(&self) -> Place {
        let size = self.file.as_ref().map_or(0, |current| current.size);
        Place { first: self.first, file: self.number, size }
    }

    /// Makes the head durable.
    pub(super) fn sync_head(&self) -> io::Result<()> {
        self.head.as_ref().map_or(Ok(()), HeadFile::sync)
    }

    /// Makes sure that there is a file to append to, and that it ends with a whole line.
    fn prepare(&mut self) -> io::Result<()> {
        if self.head.is_none() {
            let head = HeadFile::open(&self.head_path)?;
            self.head = Some(head);
            self.write_head()?;
        }
        let Some(current) = &mut self.file else { return self.begin() };
        current.tidy()?;
        let due = self.next_rotation.is_none_or(|next| Instant::now() >= next);
        if current.size >= self.file_bytes && due {
            // The old file does as well until a new one can be made.
            self.next_rotation = match self.begin() {
                Ok(()) => None,
                Err(error) => {
                    tracing::warn!(%error, "the audit log stays in its file: no new one can be made");
                    Some(Instant::now() + RETRY)
                }
            };
        }
        Ok(())
    }

    /// Begins the next file with a line that says what came before. On a full disk it takes the room that
    /// the file before had ahead.
    fn begin(&mut self) -> io::Result<()> {
        let outcome = match self.begin_file() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.release_room(self.number)?;
                self.begin_file()
            }
            outcome => outcome,
        };
        if outcome.is_ok() && self.number > 1 {
            self.release_room(self.number - 1)?;
        }
        outcome
    }

    /// Gives back the blocks behind the end of a file.
    fn release_room(&mut self, number: u64) -> io::Result<()> {
        if let Some(current) = self.file.as_mut().filter(|_| number == self.number) {
            current.reserve.is_gone();
            return current.file.set_len(current.size);
        }
        match files::open(&self.directory, number) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            file => file.and_then(|file| file.set_len(file.metadata()?.len())),
        }
    }

    fn begin_file(&mut self) -> io::Result<()> {
        let number = self.number + 1;
        let first = match self.keep_files {
            0 => self.first,
            keep => self.first.max((number + 1).saturating_sub(keep)),
        };
        let lost = self.lost.as_ref();
        let seq = lost.map_or(self.seq, |lost| lost.to.max(self.seq)) + 1;
        let event = Event::own("begin", |out| {
            json::number!(out, "file", number);
            json::number!(out, "first", first);
            json::number!(out, "format", Format::CURRENT);
            json::word!(out, "store", &store_text(self.key.store()));
            json::text!(out, "host", &self.host);
            json::word!(out, "kid", self.key.id());
            json::word!(out, "prev", &self.hash.to_string());
            if let Some(lost) = lost {
                json::number!(out, "lost_from", lost.from);
                json::number!(out, "lost_to", lost.to);
                json::word!(out, "cause", lost.cause.as_str());
            }
        });
        let time = line::time_text(SystemTime::now());
        let mut text = Vec::new();
        let hash = line::write(&mut text, &self.key, &self.hash, seq, &time, None, event.body());
        let file = match files::create(&self.directory, number) {
            // Left by an attempt that found no room: no line of it was ever promised.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = files::open(&self.directory, number)?;
                file.set_len(0)?;
                file
            }
            file => file?,
        };
        let file = Arc::new(file);
        let mut current = Current::new(Arc::clone(&file), 0, 1)?;
        current.append(&text)?;
        (self.file, self.number, self.first) = (Some(current), number, first);
        (self.seq, self.hash, self.lost) = (seq, hash, None);
        self.progress.add(file);
        self.progress.appended(seq, hash, self.place());
        self.write_head()
    }
}

/// The id of a store, in 32 hexadecimal digits.
pub(super) fn store_text(store: &StoreTag) -> String {
    store.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Current {
    /// A file that ends after `size` bytes.
    pub(super) fn new(file: Arc<File>, size: u64, lines: u64) -> io::Result<Self> {
        let reserve = Reserve::of(&file)?;
        Ok(Self { file, size, lines, untidy: false, reserve })
    }

    /// Appends whole or not at all.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match (&*self.file).write_all(bytes) {
            Ok(()) => {
                self.size += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.untidy = true;
                // If this fails too, the next line waits until it does not.
                self.tidy().map_err(|_| error.kind())?;
                Err(error)
            }
        }
    }

    fn tidy(&mut self) -> io::Result<()> {
        if self.untidy {
            self.file.set_len(self.size)?;
            self.reserve.is_gone();
            self.untidy = false;
        }
        Ok(())
    }
}
