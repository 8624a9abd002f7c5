//! Room on the disk for the lines to come.
//!
//! Blocks behind the end of the newest file are allocated ahead: no other program and no other part of the
//! daemon can take them. While the disk has room, [`RESERVE_BYTES`] or more lie ahead. Once it has none,
//! lines go into what lies ahead, and only those that must not fail may be written: what callers were
//! allowed to read, what they removed, and what admins do. Each caller has a part of the reserve, so that
//! one of them does not use it up for all.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::fstatvfs;

use super::event::{Event, Standing};

/// What is allocated ahead ...
pub const RESERVE_BYTES: u64 = 16 << 20;
/// ... or, on a small file system, this part of it.
const SMALLEST_PART: u64 = 8;
/// A caller who is not an admin may use this part of the reserve.
const CALLERS_PART: u64 = 8;
/// It is allocated in so many steps, so that few lines have to wait for that.
const STEPS: u64 = 16;
/// How often it is looked whether the disk has room again.
const RETRY: Duration = Duration::from_millis(100);
/// What is counted for a line before it is written.
const USUAL_LINE: u64 = 300;

/// What lies ahead of the end of one file.
pub(super) struct Reserve {
    wanted: u64,
    /// Up to where blocks are allocated.
    end: u64,
    /// When it is tried again to allocate more; none while all that is wanted is there.
    next_try: Option<Instant>,
    /// What callers have used of it since the disk is full.
    used: HashMap<u32, u64>,
}

impl Reserve {
    /// That of a file of which nothing is known yet.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let disk = fstatvfs(file)?;
        let total = disk.blocks() * disk.fragment_size();
        let wanted = RESERVE_BYTES.min(total / SMALLEST_PART);
        Ok(Self { wanted, end: 0, next_try: None, used: HashMap::new() })
    }

    /// Whether all that is wanted is allocated behind `size`, the end of the file; allocates more if
    /// that is necessary.
    pub(super) fn is_whole(&mut self, file: &File, size: u64) -> io::Result<bool> {
        if self.end >= size + self.wanted {
            return Ok(true);
        }
        if self.next_try.is_some_and(|next| Instant::now() < next) {
            return Ok(false);
        }
        let ahead = self.wanted + self.wanted / STEPS;
        let outcome = fallocate(
            file,
            FallocateFlags::FALLOC_FL_KEEP_SIZE,
            size.cast_signed(),
            ahead.cast_signed(),
        );
        match outcome.map_err(io::Error::from) {
            Ok(()) => {
                self.end = size + ahead;
                self.next_try = None;
                self.used.clear();
                Ok(true)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                self.next_try = Some(Instant::now() + RETRY);
                // A server that takes over finds what the one before had allocated.
                let allocated = file.metadata()?.blocks() * 512;
                if allocated >= size + self.wanted {
                    self.end = allocated;
                }
                Ok(self.end >= size + self.wanted)
            }
            // A file system that cannot allocate ahead.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                let disk = fstatvfs(file)?;
                let free = disk.blocks_available() * disk.fragment_size();
                // Asked again after some lines, like the disk.
                (self.end, self.next_try) = match free >= ahead {
                    true => (size + ahead, None),
                    false => (0, Some(Instant::now() + RETRY)),
                };
                Ok(free >= ahead)
            }
            Err(error) => Err(error),
        }
    }

    /// The blocks behind the end of the file were given back.
    pub(super) fn is_gone(&mut self) {
        self.end = 0;
        self.next_try = None;
    }

    /// Whether these events, which are written together, may use the reserve: if one of them may. Counts
    /// them for who caused them.
    pub(super) fn admits(&mut self, events: &[Event]) -> bool {
        if events.is_empty() {
            return true;
        }
        let share = self.wanted / CALLERS_PART;
        let mut admitted = false;
        for event in events {
            admitted |= match event.standing() {
                Standing::Reserved => true,
                Standing::ReservedFor(uid) => {
                    let used = self.used.entry(uid).or_default();
                    *used += USUAL_LINE;
                    *used <= share
                }
                Standing::Changes | Standing::Refused => false,
            };
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::audit::{Action, Actor, ErrorCode, Process, Subject};
    use crate::model::Caller;

    use super::*;

    fn event(uid: u32, action: Action, is_allowed: bool) -> Event {
        let caller = Arc::new(Caller::new(uid, None, [], uid == 0));
        let actor = Actor { caller, process: Process::default() };
        let code = ErrorCode { number: 13, name: "EACCES".to_owned(), denied: true };
        let outcome = if is_allowed { Ok(()) } else { Err(&code) };
        Event::new(&actor, action, &Subject::of("K"), outcome)
    }

    #[test]
    fn one_caller_does_not_use_up_the_reserve() {
        let file = tempfile::tempfile().unwrap();
        let mut reserve =
            Reserve { wanted: 100 * USUAL_LINE * CALLERS_PART, ..Reserve::of(&file).unwrap() };
        let opens = |reserve: &mut Reserve, uid| {
            (0..1000).filter(|_| reserve.admits(&[event(uid, Action::Open, true)])).count()
        };
        assert_eq!((opens(&mut reserve, 7), opens(&mut reserve, 7)), (100, 0));
        assert_eq!((opens(&mut reserve, 8), opens(&mut reserve, 0)), (100, 1000));
        assert!(reserve.admits(&[event(7, Action::Delete, true)]));
        assert!(!reserve.admits(&[event(8, Action::Commit, true)]));
        assert!(!reserve.admits(&[event(9, Action::Open, false)]));
        assert!(reserve.admits(&[event(9, Action::Open, false).correcting(3)]));
        let group = [event(9, Action::Commit, true), event(9, Action::Delete, true)];
        assert!(reserve.admits(&group), "what is removed is not held up by its neighbours");
    }

    #[test]
    fn blocks_lie_ahead_and_the_file_is_not_longer() {
        let file = tempfile::tempfile().unwrap();
        let mut reserve = Reserve::of(&file).unwrap();
        assert!(reserve.is_whole(&file, 0).unwrap());
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 0);
        if metadata.blocks() > 0 {
            assert!(metadata.blocks() * 512 >= reserve.wanted);
        }
        let end = reserve.end;
        assert!(reserve.is_whole(&file, reserve.wanted / STEPS).unwrap());
        assert_eq!(reserve.end, end, "it is not asked for again");
        assert!(reserve.is_whole(&file, reserve.wanted / STEPS + 1).unwrap());
        assert!(reserve.end > end);
    }
}
