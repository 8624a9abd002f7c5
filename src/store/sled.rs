//! Records on disk, in sled, which needs to be watched: see `pieces.rs` for the size of entries and
//! `room.rs` for full disks.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::ops::{Bound, ControlFlow};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ::sled::{Db, Mode};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use parking_lot::{Mutex, RwLock};

use super::directory::{self, Directory};
use super::pieces::{self, ReadError, Room};
use super::room::{Effect, Reserve};
use super::{Batch, SCAN_STEP, Space, Store, StoreError};
use super::{handover, key_note};

/// The directory of a store in its state directory.
const DIRECTORY_NAME: &str = "store";
/// sled's file in it.
const RECORDS_NAME: &str = "db";
/// What sled may cache, in bytes.
const CACHE_BYTES: u64 = 4 << 20;
/// sled's unit of allocation, in bytes; small on a small file system, where eight of them are kept
/// free.
const SEGMENT_BYTES: usize = 512 << 10;
const SMALL_SEGMENT_BYTES: usize = 128 << 10;
const SMALL_FILE_SYSTEM: u64 = 256 << 20;

/// A store in the directory `store` of the state directory.
#[derive(Debug)]
pub struct SledStore {
    /// Empty only if sled could not be opened again after the disk was full. Locked for writing while a batch is
    /// applied, so that no reader sees half a record.
    open: RwLock<Option<Open>>,
    /// Held during a commit; locked before `open`.
    writer: Mutex<Writer>,
    path: PathBuf,
    segment: usize,
    reserve: Reserve,
    // Last, so that the directory stays locked until sled is closed.
    directory: Directory,
}

#[derive(Debug)]
struct Open {
    database: Db,
    /// A descriptor of our own on sled's file: its flush is not yet safe against a power loss.
    file: File,
}

#[derive(Debug, Default)]
struct Writer {
    /// After a failed write the content of the disk is unknown: no commit succeeds until a restart.
    broken: Option<StoreError>,
    /// How many bytes all entries take, at most; counted first when the disk is short.
    live: Option<u64>,
    /// Whether that is what was counted, and not a bound after something was freed.
    exact: bool,
}

impl SledStore {
    /// Opens the store in the state directory `dir`, which is made (0700) if only its last component
    /// is missing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsafe`] or [`StoreError::Owner`] if others may enter the directory,
    /// [`StoreError::Locked`] if another process still has it open after two seconds,
    /// [`StoreError::Corrupt`] if the files cannot be used.
    pub fn open(dir: &Path) -> Result<SledStore, StoreError> {
        let directory = Directory::open(dir)?;
        let path = directory.path().join(DIRECTORY_NAME);
        if !Self::exists(dir) {
            make_whole(&directory, &path)?;
        }
        let segment = segment_of(&path)?.map_or_else(|| usual_segment(&directory), Ok)?;
        let reserve = Reserve::new(&path, segment);
        let open = Open::new(&path, segment, &reserve)?;
        let (open, writer) = (RwLock::new(Some(open)), Mutex::default());
        Ok(SledStore { open, writer, path, segment, reserve, directory })
    }

    /// Makes the state directory `dir` if only its last component is missing. If another user than root is to open
    /// the store, root calls this with that `user` (and group), which gets what root owns in it.
    ///
    /// # Errors
    ///
    /// As [`SledStore::open`].
    pub fn prepare(dir: &Path, user: Option<(u32, u32)>) -> Result<(), StoreError> {
        match user {
            Some((user, group)) => handover::hand_over(dir, user, group),
            None => Directory::check_owner(dir),
        }
    }

    /// Whether there is a store in the state directory `dir`.
    pub fn exists(dir: &Path) -> bool {
        dir.join(DIRECTORY_NAME).is_dir()
    }

    /// Whether a process has the store in the state directory `dir` open.
    pub fn is_in_use(dir: &Path) -> bool {
        // Root may ask about the store of another user, who may put a FIFO or a link there.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags);
        let file = options.open(dir.join(DIRECTORY_NAME).join(RECORDS_NAME));
        let lock = |file| Flock::lock(file, FlockArg::LockSharedNonblock);
        file.is_ok_and(|file| matches!(lock(file), Err((_, Errno::EWOULDBLOCK))))
    }

    /// The ids of the keys that the store in the state directory `dir` needs, if they are noted there. Whether a
    /// process has the store open does not matter.
    pub fn noted_keys(dir: &Path) -> Option<Vec<String>> {
        Self::exists(dir).then(|| key_note::read(dir)).flatten()
    }

    /// Whether a daemon could use the state directory `dir`, as far as its owner and mode go. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotADirectory`], [`StoreError::Unsafe`] or [`StoreError::Io`].
    pub fn look_at(dir: &Path) -> Result<(), StoreError> {
        Directory::look_at(dir)
    }

    /// The size of the file with all records in the state directory `dir`, in bytes; 0 if there is none
    /// that can be seen.
    pub fn stored_bytes(dir: &Path) -> u64 {
        dir.join(DIRECTORY_NAME).join(RECORDS_NAME).metadata().map_or(0, |file| file.len())
    }

    /// Runs `read` on the open database, which is opened again if sled ran out of space: it tidies up
    /// while it reads, too.
    fn reading<T>(&self, read: impl Fn(&Db) -> Result<T, ReadError>) -> Result<T, StoreError> {
        let mut reopened = false;
        loop {
            if let Some(open) = &*self.open.read() {
                match read(&open.database).map_err(|error| self.unreadable(error)) {
                    Err(StoreError::Full) if !reopened => {}
                    outcome => return outcome,
                }
            }
            let _writer = self.writer.lock();
            // Another reader may already have opened it again.
            let works = self.open.read().as_ref().is_some_and(|open| read(&open.database).is_ok());
            if !works {
                *self.open.write() = None;
                self.ensure_open()?;
                reopened = true;
            }
        }
    }

    fn ensure_open(&self) -> Result<(), StoreError> {
        let mut open = self.open.write();
        if open.is_none() {
            *open = Some(Open::new(&self.path, self.segment, &self.reserve)?);
        }
        Ok(())
    }

    fn write(&self, batch: &Batch, writer: &mut Writer) -> Result<(), Failure> {
        let places = {
            let guard = self.open.upgradable_read();
            let Some(open) = guard.as_ref() else { return Err(Failure::Before(StoreError::Full)) };
            let before = |error| Failure::Before(error);
            let plan = pieces::plan(&open.database, batch, self.segment / 128).map_err(
                |error| match self.unreadable(error) {
                    StoreError::Full => Failure::Full,
                    error => before(error),
                },
            )?;
            let room = plan.room;
            let effect = match room.written < room.freed {
                true => Effect::Shrinks,
                false if batch.uses_reserve() => Effect::Removes,
                false => Effect::Grows,
            };
            self.make_room(open, room, effect, writer).map_err(before)?;
            let guard = parking_lot::RwLockUpgradableReadGuard::upgrade(guard);
            let open = guard.as_ref().expect("it was open, and only the writer closes it");
            plan.apply(&open.database).map_err(|error| self.half(error))?
        };
        let guard = self.open.read();
        let open = guard.as_ref().expect("it was open, and only the writer closes it");
        pieces::settle(&open.database, &places).map_err(|error| self.half(error))?;
        open.database.flush().map_err(|error| self.half(error))?;
        open.file.sync_data().map_err(|source| {
            let source = source.into();
            Failure::Lost(StoreError::Io { action: "sync", path: self.path.clone(), source })
        })
    }

    /// Sees to it that sled finds room, for it does not recover from a full disk: blocks behind the
    /// end of its file are taken for this batch, and a batch that makes the store larger must leave
    /// so much that sled can go on cleaning up its file for those that make it smaller.
    fn make_room(
        &self,
        open: &Open,
        room: Room,
        effect: Effect,
        writer: &mut Writer,
    ) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("make room in", &self.path, error);
        self.reserve.allocate_for(&open.file, room.written, effect).map_err(failed)?;
        let fits = |live: u64| {
            let (free, wanted) = (self.directory.space()?.free, live + room.written as u64);
            self.reserve.holds(&open.file, free, wanted).map_err(failed)
        };
        let spacious = |free| self.reserve.is_spacious(&open.file, free, room.written);
        if effect == Effect::Grows && !spacious(self.directory.space()?.free).map_err(failed)? {
            let fits_by_bound = writer.live.map_or(Ok(false), fits)?;
            if !fits_by_bound && !writer.exact {
                let counted = pieces::live_bytes(&open.database);
                writer.live = Some(counted.map_err(|error| self.unreadable(error))?);
                writer.exact = true;
            }
            if !fits_by_bound && !writer.live.map_or(Ok(false), fits)? {
                return Err(StoreError::Full);
            }
        }
        writer.live =
            writer.live.map(|live| (live + room.written as u64).saturating_sub(room.freed as u64));
        writer.exact &= room.freed == 0;
        Ok(())
    }

    /// The disk is full in spite of the reserve: sled refuses everything until it is opened again.
    /// Then the whole batch is there, or nothing of it.
    fn reopen(&self, batch: &Batch) -> Result<(), StoreError> {
        *self.open.write() = None;
        self.ensure_open()?;
        let guard = self.open.read();
        let open = guard.as_ref().expect("it was just opened, and only the writer closes it");
        match pieces::holds(&open.database, batch).map_err(|error| self.unreadable(error))? {
            true => {
                open.file.sync_data().map_err(|error| StoreError::io("sync", &self.path, error))
            }
            false => Err(StoreError::Full),
        }
    }

    fn half(&self, error: ::sled::Error) -> Failure {
        match translate("write", &self.path, error) {
            StoreError::Full => Failure::Full,
            error => Failure::Lost(error),
        }
    }

    fn unreadable(&self, error: ReadError) -> StoreError {
        match error {
            ReadError::Sled(error) => translate("read", &self.path, error),
            ReadError::Missing => {
                let reason = "a piece of a record is missing".to_owned();
                StoreError::Corrupt { path: self.path.clone(), reason }
            }
        }
    }
}

/// How far a commit came.
enum Failure {
    /// Nothing was written.
    Before(StoreError),
    /// sled ran out of space: something was written, perhaps all.
    Full,
    /// Something was written, and it is unknown what.
    Lost(StoreError),
}

impl Store for SledStore {
    fn read(&self, address: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reading(|database| pieces::read(database, address))
    }

    fn scan_from(
        &self,
        prefix: &[u8],
        start: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut start = Bound::Included(start.max(prefix).to_vec());
        loop {
            let step = self.reading(|database| {
                pieces::read_some(database, prefix, start.as_ref().map(Vec::as_slice), SCAN_STEP)
            })?;
            for (address, sealed) in step.iter() {
                if visit(address, sealed).is_break() {
                    return Ok(());
                }
            }
            match step.iter().next_back() {
                Some((last, _)) if step.len() == SCAN_STEP => {
                    start = Bound::Excluded(last.to_vec());
                }
                _ => return Ok(()),
            }
        }
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        batch.check()?;
        if batch.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer.lock();
        if let Some(error) = &writer.broken {
            return Err(error.clone());
        }
        self.ensure_open()?;
        match self.write(batch, &mut writer) {
            Ok(()) => Ok(()),
            Err(Failure::Before(error)) => Err(error),
            Err(Failure::Full) => self.reopen(batch),
            Err(Failure::Lost(error)) => {
                writer.broken = Some(error.clone());
                Err(error)
            }
        }
    }

    fn space(&self) -> Result<Space, StoreError> {
        self.directory.space()
    }

    fn note_keys(&self, ids: &[String]) {
        key_note::write(self.directory.path(), ids);
    }
}

impl Open {
    /// Opens sled in `path`, with all the room that is held for it.
    fn new(path: &Path, segment: usize, reserve: &Reserve) -> Result<Open, StoreError> {
        let fail = |action| move |error| StoreError::io(action, path, error);
        remove_unfinished_snapshots(path).map_err(fail("clean"))?;
        reserve.release(&path.join(RECORDS_NAME)).map_err(fail("clean"))?;
        let database = open_unlocked(path, segment)?;
        let file = protect(path).map_err(fail("sync"))?;
        reserve.refill(&file).map_err(fail("make room in"))?;
        Ok(Open { database, file })
    }
}

/// The directory is locked, so sled's own lock can be held only by our own previous instance, whose writing threads
/// are about to end.
fn open_unlocked(path: &Path, segment: usize) -> Result<Db, StoreError> {
    let config = ::sled::Config::new()
        .path(path)
        .mode(Mode::LowSpace)
        .cache_capacity(CACHE_BYTES)
        .segment_size(segment)
        .flush_every_ms(None);
    directory::patiently(|| match config.open() {
        Err(::sled::Error::Io(error)) if error.kind() == io::ErrorKind::Other => Ok(None),
        Err(error) => Err(translate("open", path, error)),
        Ok(database) => Ok(Some(database)),
    })?
    .ok_or_else(|| StoreError::Locked { path: path.to_owned() })
}

/// Makes an empty store beside its place, and puts it there when it is whole: sled does not open what
/// was interrupted while it was made.
fn make_whole(directory: &Directory, path: &Path) -> Result<(), StoreError> {
    let unfinished = path.with_extension("unfinished");
    match std::fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::io("clean", &unfinished, error));
        }
        _ => {}
    }
    directory::make(&unfinished)?;
    drop(open_unlocked(&unfinished, usual_segment(directory)?)?);
    protect(&unfinished).map_err(|error| StoreError::io("sync", &unfinished, error))?;
    std::fs::rename(&unfinished, path).map_err(|error| StoreError::io("make", path, error))?;
    directory.sync()
}

/// The segment size of a new store.
fn usual_segment(directory: &Directory) -> Result<usize, StoreError> {
    let is_small = directory.space()?.total < SMALL_FILE_SYSTEM;
    Ok(if is_small { SMALL_SEGMENT_BYTES } else { SEGMENT_BYTES })
}

/// Closes sled's files to others, makes them and their names durable, and gives the one with the
/// records.
fn protect(path: &Path) -> io::Result<File> {
    for entry in path.read_dir()? {
        let entry = entry?;
        let mode = if entry.file_type()?.is_dir() { 0o700 } else { 0o600 };
        // Not by its path: a server may not do that to any file.
        let file = File::open(entry.path())?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
    }
    File::open(path)?.sync_all()?;
    File::options().read(true).write(true).open(path.join(RECORDS_NAME))
}

/// The segment size that the store in `path` was made with: sled takes no other.
fn segment_of(path: &Path) -> Result<Option<usize>, StoreError> {
    let conf = path.join("conf");
    let bytes = match std::fs::read(&conf) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| StoreError::io("read", &conf, error))?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let size = text.lines().find_map(|line| line.strip_prefix("segment_size: ")?.parse().ok());
    Ok(size)
}

/// A kill while sled opens leaves `snap.*.generating`, after which every open fails.
fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    for entry in path.read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn translate(action: &'static str, path: &Path, error: ::sled::Error) -> StoreError {
    match error {
        ::sled::Error::Io(error) => StoreError::io(action, path, error),
        other => StoreError::Corrupt { path: path.to_owned(), reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    #[test]
    fn keeps_the_contract() {
        let directories = std::cell::RefCell::new(Vec::new());
        contract::run(|| {
            let directory = tempfile::tempdir().unwrap();
            let store = SledStore::open(&directory.path().join("state")).unwrap();
            directories.borrow_mut().push(directory);
            store
        });
    }

    /// Otherwise readers would take the room on a full disk that a restart needs.
    #[test]
    fn reading_after_any_commit_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = SledStore::open(&directory.path().join("state")).unwrap();
        let address = |number: usize| format!("address {number}").into_bytes();
        let commit = |numbers: &mut dyn Iterator<Item = usize>, sealed: Option<usize>| {
            for number in numbers {
                let mut batch = Batch::default();
                match sealed {
                    Some(length) => batch.put(&address(number), vec![7; length + number % 100]),
                    None => batch.remove(&address(number)),
                }
                store.commit(&batch).unwrap();
            }
        };
        let on_disk = || {
            store.open.read().as_ref().unwrap().database.flush().unwrap();
            std::fs::read(store.path.join(RECORDS_NAME)).unwrap()
        };
        let read_all = || {
            let read = (0..2000).filter(|&number| store.read(&address(number)).unwrap().is_some());
            read.count()
        };
        for (step, expected) in [(1, 2000), (2, 1000), (3, 333)] {
            match step {
                1 => commit(&mut (0..2000), Some(100)),
                2 => commit(&mut (0..2000).filter(|number| number % 2 == 0), None),
                _ => commit(&mut (0..2000).filter(|number| number % 3 != 0), None),
            }
            let before = on_disk();
            assert_eq!(read_all(), expected);
            assert!(before == on_disk(), "step {step}: reading has written");
        }
    }
}
