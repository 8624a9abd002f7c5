//! One file in the drop directory.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::document::MAX_FILE_BYTES;
use crate::fs::budget::{Account, Charge, OBJECT_BYTES, buffer_bytes};
use crate::fs::caller::closing::{Abandoned, Close, Closer, Judged, OpenersFiles};
use crate::fs::files::draft::{Occasion, Waiter};
use crate::fs::{FsError, Request};
use crate::model::Plaintext;

use super::{full_path, is_unfinished};

/// A file that is being written, or waits for its rename.
pub(in crate::fs) struct ImportFile {
    node: u64,
    uid: u32,
    gid: u32,
    /// Of the process that opened it last, for one that is not known.
    files: OpenersFiles,
    state: Mutex<State>,
}

struct State {
    /// Inside the drop directory.
    path: String,
    /// The process that opened it last.
    writer: Option<u32>,
    bytes: Arc<Plaintext>,
    /// For all that is kept of it.
    charge: Charge,
    /// May be more than was written: what is only asked for takes no memory.
    length: usize,
    dirty: bool,
    /// Whether anything became of it yet.
    was_applied: bool,
    mode: u16,
    modified: SystemTime,
    handles: u32,
    abandoned: Abandoned,
    removed: bool,
    /// A write did not fit, and why.
    cut_off: Option<FsError>,
    applying: bool,
    waiting: Vec<Waiter>,
}

/// What to do about a request to apply the file.
pub(super) enum Next {
    /// Nothing is to be applied.
    Nothing,
    /// What was written is not whole.
    Refuse(FsError),
    /// It is being applied: ask again when that has ended.
    Queued(oneshot::Receiver<Result<(), FsError>>),
    /// Apply these bytes, followed by that many zeros.
    Apply(Arc<Plaintext>, usize),
}

impl ImportFile {
    /// What a file takes without its bytes.
    pub(super) const BYTES: usize = 2 * OBJECT_BYTES;

    /// `charge` is for [`Self::BYTES`].
    pub(super) fn new(
        node: u64,
        request: &Request,
        writer: Option<u32>,
        path: String,
        mode: u16,
        charge: Charge,
    ) -> Self {
        let state = State {
            path,
            writer,
            bytes: Arc::default(),
            charge,
            length: 0,
            dirty: false,
            was_applied: false,
            mode: mode & 0o777 | 0o200,
            modified: SystemTime::now(),
            handles: 0,
            abandoned: Abandoned::No,
            removed: false,
            cut_off: None,
            applying: false,
            waiting: Vec::new(),
        };
        let (files, state) = (OpenersFiles::default(), Mutex::new(state));
        Self { node, uid: request.uid, gid: request.gid, files, state }
    }

    pub(super) fn node(&self) -> u64 {
        self.node
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// The account to which its memory is charged.
    pub(super) fn account(&self) -> Account {
        self.state.lock().charge.account()
    }

    /// UID and group that made it.
    pub(in crate::fs) fn owner(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    pub(super) fn path(&self) -> String {
        self.state.lock().path.clone()
    }

    /// Size, mode and time as they are now.
    pub(in crate::fs) fn shown(&self) -> (u64, u16, SystemTime) {
        let state = self.state.lock();
        (state.length as u64, state.mode, state.modified)
    }

    pub(in crate::fs) fn set_mode(&self, mode: u16) {
        self.state.lock().mode = mode & 0o777;
    }

    pub(in crate::fs) fn set_modified(&self, time: SystemTime) {
        self.state.lock().modified = time;
    }

    /// Whether that process has it open, or no process has.
    pub(super) fn is_for(&self, process: Option<u32>) -> bool {
        let state = self.state.lock();
        state.handles == 0 || state.writer == process
    }

    pub(in crate::fs) fn is_open(&self) -> bool {
        self.state.lock().handles > 0
    }

    /// What it means that this process closes a descriptor of it.
    pub(in crate::fs) fn close_by(&self, request: &Request, judged: Option<Judged>) -> Close {
        let writer = self.state.lock().writer;
        Close::by(request, writer, &self.files, judged)
    }

    /// It was opened, by that process if for writing. One that was applied starts anew. Whether this is the
    /// first handle.
    pub(super) fn opened(&self, writer: Option<Option<u32>>) -> bool {
        let mut state = self.state.lock();
        state.handles += 1;
        if let Some(process) = writer {
            state.writer = process;
            state.abandoned = Abandoned::No;
            self.files.forget();
            if state.was_applied && state.handles == 1 {
                state.was_applied = false;
                self.empty(&mut state);
            }
        }
        state.handles == 1
    }

    /// Whether that was the last handle.
    pub(super) fn closed(&self) -> bool {
        let mut state = self.state.lock();
        state.handles = state.handles.saturating_sub(1);
        state.handles == 0
    }

    /// A signal is killing a process that closes the file.
    pub(super) fn abandon(&self, closer: Closer) {
        self.state.lock().abandoned.killed(closer);
    }

    /// It was removed: nothing of it is applied any more.
    pub(super) fn remove(&self) {
        self.state.lock().removed = true;
    }

    pub(super) fn rename(&self, path: &str) {
        path.clone_into(&mut self.state.lock().path);
    }

    pub(in crate::fs) fn read(&self, offset: u64, length: usize) -> Plaintext {
        let state = self.state.lock();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(state.length);
        let mut bytes = Plaintext::copy_of(state.bytes.slice(offset, length));
        bytes.resize(length.min(state.length - start));
        bytes
    }

    /// Writes at `offset`; nothing is changed and nothing allocated if the end is over a limit.
    pub(in crate::fs) fn write(
        &self,
        request: &Request,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), FsError> {
        self.files.are_used_by(request);
        let mut state = self.state.lock();
        let room = within_limit(offset, bytes.len(), &state.path).and_then(|(start, end)| {
            state.charge_up_to(end)?;
            Ok((start, end))
        });
        if let Err(error) = &room {
            state.cut_off = Some(error.clone());
        }
        let (start, end) = room?;
        own(&mut state.bytes).write_at(start, bytes);
        state.length = state.length.max(end);
        state.touched();
        Ok(())
    }

    /// Cuts or extends to `size` bytes.
    pub(in crate::fs) fn resize(&self, size: u64) -> Result<(), FsError> {
        let mut state = self.state.lock();
        let (_, size) = within_limit(size, 0, &state.path)?;
        if size == 0 {
            self.empty(&mut state);
            return Ok(());
        }
        if size < state.bytes.len() {
            own(&mut state.bytes).resize(size);
        }
        state.length = size;
        state.touched();
        Ok(())
    }

    fn empty(&self, state: &mut State) {
        state.forget_bytes();
        (state.length, state.dirty, state.cut_off) = (0, false, None);
        state.modified = SystemTime::now();
    }

    /// What a request to apply it comes to.
    pub(super) fn next(&self, occasion: Occasion) -> Next {
        let mut state = self.state.lock();
        if state.applying {
            let (waiter, applied) = oneshot::channel();
            state.waiting.push(waiter);
            return Next::Queued(applied);
        }
        let due = match occasion {
            // Empty to its end, it is applied to say so. If it was opened again after its last handle was closed, what
            // is in it is applied when that handle is.
            Occasion::Release => {
                state.handles == 0
                    && !state.abandoned.is_abandoned()
                    && (state.dirty || !state.was_applied)
            }
            Occasion::Close | Occasion::Sync | Occasion::Create => state.dirty,
        };
        if occasion != Occasion::Release {
            state.abandoned.resumed();
        }
        if is_unfinished(&state.path) || state.removed || !due {
            return Next::Nothing;
        }
        state.was_applied = true;
        if let Some(why) = &state.cut_off {
            return Next::Refuse(why.clone());
        }
        (state.dirty, state.applying) = (false, true);
        let zeros = state.length - state.bytes.len();
        Next::Apply(Arc::clone(&state.bytes), zeros)
    }

    /// It was applied, or refused. Gives the requests that wait for that.
    pub(super) fn applied(&self) -> Vec<Waiter> {
        let mut state = self.state.lock();
        state.applying = false;
        std::mem::take(&mut state.waiting)
    }

    /// It is gone but for its name, which its writer may still use: its bytes are dropped, unless it was opened again.
    pub(super) fn forget_bytes(&self) {
        let mut state = self.state.lock();
        if state.handles == 0 {
            state.forget_bytes();
        }
    }

    /// Whether it was applied and is not open.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.was_applied && state.handles == 0
    }

    /// A request that finds it written but not applied: it was renamed.
    pub(super) fn touch(&self) {
        self.state.lock().dirty = true;
    }
}

impl State {
    fn charge_up_to(&mut self, end: usize) -> Result<(), FsError> {
        let bytes = ImportFile::BYTES + buffer_bytes(end.max(self.bytes.len()));
        if bytes <= self.charge.bytes() {
            return Ok(());
        }
        self.charge.resize(bytes, &full_path(&self.path))
    }

    fn forget_bytes(&mut self) {
        self.bytes = Arc::default();
        self.charge.shrink(ImportFile::BYTES);
    }

    fn touched(&mut self) {
        self.dirty = true;
        self.abandoned.resumed();
        self.modified = SystemTime::now();
    }
}

/// The buffer to be changed. If it is being applied, this copies it, and the old bytes are applied.
fn own(bytes: &mut Arc<Plaintext>) -> &mut Plaintext {
    if Arc::get_mut(bytes).is_none() {
        *bytes = Arc::new(Plaintext::copy_of(bytes.expose()));
    }
    Arc::get_mut(bytes).expect("it is nobody else's")
}

/// Start and end of a write, if the end is within 64 MiB.
fn within_limit(offset: u64, length: usize, path: &str) -> Result<(usize, usize), FsError> {
    usize::try_from(offset)
        .ok()
        .and_then(|start| Some((start, start.checked_add(length)?)))
        .filter(|&(_, end)| end <= MAX_FILE_BYTES)
        .ok_or_else(|| FsError::DropTooLarge(full_path(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::budget::{Budget, MemoryLimits};

    fn writer() -> Request {
        Request { uid: 7, gid: 7, ..Request::default() }
    }

    fn file(budget: &Budget) -> Arc<ImportFile> {
        let charge = budget.charge(Account::User(7), ImportFile::BYTES, "a.yaml").unwrap();
        Arc::new(ImportFile::new(1, &writer(), None, "a.yaml".to_owned(), 0o600, charge))
    }

    #[test]
    fn what_is_only_asked_for_takes_no_memory() {
        let budget = Budget::new(MemoryLimits::default());
        let file = file(&budget);
        file.resize(MAX_FILE_BYTES as u64).unwrap();
        assert!(file.state.lock().bytes.is_empty());
        for size in [MAX_FILE_BYTES as u64 + 1, 1_000_000_000_000_000, u64::MAX] {
            assert!(matches!(file.resize(size), Err(FsError::DropTooLarge(_))));
            assert!(matches!(
                file.write(&writer(), size - 1, b"xx"),
                Err(FsError::DropTooLarge(_))
            ));
        }
        assert_eq!(file.shown().0, MAX_FILE_BYTES as u64);
        file.write(&writer(), 1, b"b").unwrap();
        assert_eq!(file.read(0, 4).expose(), b"\0b\0\0");
        file.resize(1).unwrap();
        assert_eq!(file.read(0, 4).expose(), b"\0");
    }

    #[test]
    fn a_uid_has_a_budget_that_comes_back() {
        let limits = MemoryLimits { per_user: 129 << 20, total: 512 << 20 };
        let budget = Budget::new(limits);
        let files: Vec<_> = (0..2).map(|_| file(&budget)).collect();
        files
            .iter()
            .for_each(|file| file.write(&writer(), MAX_FILE_BYTES as u64 - 1, b"x").unwrap());
        let more = file(&budget);
        let refused = more.write(&writer(), 2 << 20, b"x");
        assert!(matches!(refused, Err(FsError::OutOfMemory { own: true, .. })));
        files[0].resize(0).unwrap();
        more.write(&writer(), 0, b"x").unwrap();
        drop((files, more));
        assert_eq!(budget.used(), 0);
    }

    /// The kernel releases a file after its close was answered, so the next open may come before that is done.
    #[test]
    fn a_late_release_leaves_alone_what_was_opened_again() {
        let budget = Budget::new(MemoryLimits::default());
        let file = file(&budget);
        assert!(file.opened(Some(None)));
        file.write(&writer(), 0, b"first").unwrap();
        let next = file.next(Occasion::Close);
        assert!(matches!(next, Next::Apply(..)));
        file.applied();
        assert!(file.closed());
        assert!(file.opened(Some(None)));
        file.write(&writer(), 0, b"second").unwrap();
        let next = file.next(Occasion::Release);
        assert!(matches!(next, Next::Nothing));
        file.forget_bytes();
        let next = file.next(Occasion::Close);
        let Next::Apply(bytes, 0) = next else { panic!("it is due") };
        assert_eq!(bytes.expose(), b"second");
    }

    #[test]
    fn what_is_being_applied_does_not_change() {
        let budget = Budget::new(MemoryLimits::default());
        let file = file(&budget);
        file.opened(Some(None));
        file.write(&writer(), 0, b"first").unwrap();
        let next = file.next(Occasion::Close);
        let Next::Apply(bytes, 0) = next else { panic!("it is due") };
        file.write(&writer(), 0, b"other").unwrap();
        assert_eq!(bytes.expose(), b"first");
        let next = file.next(Occasion::Close);
        assert!(matches!(next, Next::Queued(_)));
        assert_eq!(file.applied().len(), 1);
    }
}
