//! What one writer is writing, until it is committed.

mod commit;
mod content;
mod current;
pub(in crate::fs) mod publishing;
pub(in crate::fs) mod registry;
mod saved;

pub(in crate::fs) use commit::{Commit, Next, Occasion};
pub(in crate::fs) use content::WriteAt;

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::audit::Process;
use crate::model::{MAX_VALUE_BYTES, Plaintext};
use crate::vault::{RecordId, Value, Vault, WriteTarget};

use crate::fs::budget::{Charge, OBJECT_BYTES, buffer_bytes};
use crate::fs::caller::closing::{Abandoned, OpenersFiles};
use crate::fs::error::FsError;
use crate::fs::kernel::nodes::sidecar_number;
use crate::fs::ops::bound::BoundBy;
use crate::fs::saved::pages::Aside;
use crate::fs::saved::{SLOT_BYTES, SavedState, Slot};
use commit::Appending;
use content::Content;
use saved::Changed;

/// A private write node, with a buffer of its own. Only its writer reaches it. No other caller sees a byte of
/// it before it is committed, and then as a new version node.
pub(in crate::fs) struct Draft {
    node: u64,
    inode: u64,
    uid: u32,
    process: Process,
    /// The process that creates the file; nothing for a file that exists.
    creator: Option<u32>,
    files: OpenersFiles,
    state: Mutex<State>,
}

/// The opener of a draft: its rights decide when it is committed, whichever process closes it.
pub(in crate::fs) struct Opener {
    pub(in crate::fs) uid: u32,
    pub(in crate::fs) process: Process,
    /// For the draft without its bytes.
    pub(in crate::fs) charge: Charge,
}

/// Where a draft goes when it is committed.
#[derive(Clone)]
pub(in crate::fs) enum Target {
    /// It becomes a value.
    Value(WriteTarget),
    /// It is a list document.
    Lists(RecordId),
}

/// Is told how a commit went.
pub(in crate::fs) type Waiter = oneshot::Sender<Result<(), FsError>>;

struct State {
    path: String,
    target: Target,
    content: Content,
    /// For all that is kept of it.
    charge: Charge,
    dirty: Dirty,
    /// The version that was truncated to nothing.
    emptied: Option<u64>,
    mode: u16,
    modified: SystemTime,
    handles: Vec<u64>,
    /// The open of a bound node that made it.
    bound: Option<BoundBy>,
    /// The version whose bytes these are, if they are stored.
    shows: Option<u64>,
    saved_state: SavedState,
    /// The next process can go on with it. Dropped before what it names.
    slot: Option<Slot>,
    /// What was written and is not stored, for the next process.
    aside: Option<Aside>,
    /// Whether a signal killed a process that had not finished the file.
    abandoned: Abandoned,
    /// The file was removed or replaced under the writer: nothing of it is published any more.
    ended: bool,
    /// A descriptor was closed. The kernel closes without that what could not be opened to the end: a
    /// truncation that failed.
    flushed: bool,
    /// A write did not fit, and why: what did must not be published as if it were all.
    cut_off: Option<FsError>,
    committing: bool,
    /// What is being appended, or was when the process before this one ended.
    appending: Option<Appending>,
    waiting: Vec<Waiter>,
}

/// What has happened since the last commit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dirty {
    Clean,
    /// Created or truncated, nothing written: bash closes a duplicate before it writes, so this is
    /// published only when the last handle is gone.
    Emptied,
    Written,
}

impl Draft {
    /// What a draft takes without the bytes that are written: itself, its path, its slot.
    pub(in crate::fs) const BYTES: usize = 2 * OBJECT_BYTES + SLOT_BYTES;

    /// A draft that starts as a copy of a version.
    pub(in crate::fs) fn of_value(
        node: u64,
        opener: Opener,
        path: &str,
        base: Arc<Value>,
        mode: u16,
    ) -> Self {
        let target = Target::Value(WriteTarget::Existing(base.record()));
        let nodes = (node, base.node());
        Self::new(nodes, opener, None, path, target, Content::Base(base), Dirty::Clean, mode)
    }

    /// A draft that starts with these bytes.
    ///
    /// # Errors
    /// [`FsError::OutOfMemory`].
    pub(in crate::fs) fn of_lists(
        node: u64,
        mut opener: Opener,
        path: &str,
        of: RecordId,
        text: &str,
    ) -> Result<Self, FsError> {
        opener.charge.resize(Self::BYTES + text.len(), path)?;
        let content = Content::Own(Plaintext::copy_of(text.as_bytes()));
        Ok(Self::new(
            (node, sidecar_number(of)),
            opener,
            None,
            path,
            Target::Lists(of),
            content,
            Dirty::Clean,
            0o600,
        ))
    }

    /// A draft of a file that the process `creator` is creating.
    pub(in crate::fs) fn of_new(
        node: u64,
        opener: Opener,
        creator: Option<u32>,
        path: &str,
        target: WriteTarget,
        mode: u16,
    ) -> Self {
        let content = Content::Own(Plaintext::default());
        Self::new(
            (node, node),
            opener,
            creator,
            path,
            Target::Value(target),
            content,
            Dirty::Emptied,
            mode,
        )
    }

    #[allow(clippy::too_many_arguments)]
    fn new(
        (node, inode): (u64, u64),
        opener: Opener,
        creator: Option<u32>,
        path: &str,
        target: Target,
        content: Content,
        dirty: Dirty,
        mode: u16,
    ) -> Self {
        let shows = match (&content, dirty) {
            (Content::Base(value), _) => Some(value.node()),
            // Lists are no version: what stands is shown.
            (Content::Own(_), Dirty::Clean) => Some(0),
            (Content::Own(_) | Content::Appended { .. }, _) => None,
        };
        let Opener { uid, process, charge } = opener;
        let state = State {
            path: path.to_owned(),
            target,
            content,
            charge,
            dirty,
            emptied: None,
            mode,
            modified: SystemTime::now(),
            handles: Vec::new(),
            bound: None,
            shows,
            saved_state: SavedState::default(),
            aside: None,
            slot: None,
            abandoned: Abandoned::No,
            ended: false,
            flushed: false,
            cut_off: None,
            committing: false,
            appending: None,
            waiting: Vec::new(),
        };
        let files = OpenersFiles::default();
        Self { node, inode, uid, process, creator, files, state: Mutex::new(state) }
    }

    pub(in crate::fs) fn node(&self) -> u64 {
        self.node
    }

    /// The inode number of the file as it was.
    pub(in crate::fs) fn inode(&self) -> u64 {
        self.inode
    }

    /// Whether that process of that UID is creating the file.
    pub(in crate::fs) fn is_creator(&self, uid: u32, process: Option<u32>) -> bool {
        self.uid == uid && self.creator == process
    }

    /// The process whose close means that the file is finished, if it is known: what `/proc` tells nothing
    /// about has no program.
    pub(in crate::fs) fn finisher(&self) -> Option<u32> {
        let process = &self.process;
        process.program.as_ref().map(|_| process.pid)
    }

    /// The open files of that process, for one that is not known.
    pub(in crate::fs) fn openers_files(&self) -> &OpenersFiles {
        &self.files
    }

    /// The process that opened it.
    pub(in crate::fs) fn process(&self) -> &Process {
        &self.process
    }

    /// UID and group that opened it: a file that is being written belongs to its writer, which may set any
    /// attributes.
    pub(in crate::fs) fn owner(&self) -> (u32, u32) {
        (self.uid, self.process.gid)
    }

    /// The UID that opened it.
    pub(in crate::fs) fn uid(&self) -> u32 {
        self.uid
    }

    pub(in crate::fs) fn path(&self) -> String {
        self.state.lock().path.clone()
    }

    pub(in crate::fs) fn target(&self) -> Target {
        self.state.lock().target.clone()
    }

    /// Size, mode and time as they are now.
    pub(in crate::fs) fn shown(&self) -> (u64, u16, SystemTime) {
        let state = self.state.lock();
        (state.content.size() as u64, state.mode, state.modified)
    }

    pub(in crate::fs) fn set_mode(&self, mode: u16) {
        self.state.lock().mode = mode & 0o777;
    }

    /// Its handle has this number.
    pub(in crate::fs) fn opened(&self, handle: u64, saved_state: &SavedState) {
        let mut state = self.state.lock();
        state.handles.push(handle);
        state.saved_state = saved_state.clone();
        self.shelve(&mut state);
    }

    /// Whether that was the last handle. If it was, the draft stays in the saved state until what is left
    /// to store is stored.
    pub(in crate::fs) fn closed(&self, handle: u64) -> bool {
        let mut state = self.state.lock();
        if state.handles.len() > 1 {
            state.handles.retain(|&other| other != handle);
            self.shelve(&mut state);
            return false;
        }
        state.handles.clear();
        true
    }

    /// It is about to be opened through a bound node.
    pub(in crate::fs) fn bind(&self, by: BoundBy) {
        self.state.lock().bound = Some(by);
    }

    /// The open of a bound node that made it.
    pub(in crate::fs) fn bound(&self) -> Option<BoundBy> {
        self.state.lock().bound
    }

    /// Whether nothing was done with it since it was opened.
    pub(in crate::fs) fn is_untouched(&self) -> bool {
        let state = self.state.lock();
        state.dirty == Dirty::Clean
            && !state.flushed
            && !matches!(state.content, Content::Appended { .. })
    }

    /// The version that it began with, if nothing was done with it.
    pub(in crate::fs) fn base(&self) -> Option<Arc<Value>> {
        match &self.state.lock().content {
            Content::Base(value) => Some(Arc::clone(value)),
            Content::Own(_) | Content::Appended { .. } => None,
        }
    }

    /// Whether it was cut to nothing and nothing was done with it since.
    pub(in crate::fs) fn is_emptied(&self) -> bool {
        let state = self.state.lock();
        state.dirty == Dirty::Emptied && !state.flushed
    }

    pub(in crate::fs) fn last_handle(&self) -> Option<u64> {
        self.state.lock().handles.last().copied()
    }

    pub(in crate::fs) fn is_open(&self) -> bool {
        !self.state.lock().handles.is_empty()
    }

    /// The file was removed or replaced: what is written from now on goes nowhere, as on any Unix.
    pub(in crate::fs) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        if state.slot.is_some() {
            self.shelve(&mut state);
        }
    }

    /// As [`Draft::end`], unless it is being stored already.
    pub(in crate::fs) fn end_unless_committing(&self) -> bool {
        let mut state = self.state.lock();
        if !state.committing {
            state.ended = true;
            self.shelve(&mut state);
        }
        state.ended
    }

    /// The file was renamed before it was committed.
    pub(in crate::fs) fn retarget(&self, path: &str, target: WriteTarget) {
        let mut state = self.state.lock();
        path.clone_into(&mut state.path);
        state.target = Target::Value(target);
        if state.slot.is_some() {
            self.shelve(&mut state);
        }
    }

    pub(in crate::fs) fn read(
        &self,
        vault: &Vault,
        offset: u64,
        length: usize,
    ) -> Result<Plaintext, FsError> {
        self.state.lock().content.read(vault, offset, length)
    }

    /// Writes; nothing is changed and nothing allocated if the end is over a limit.
    pub(in crate::fs) fn write(
        &self,
        vault: &Vault,
        at: WriteAt,
        bytes: &[u8],
    ) -> Result<(), FsError> {
        let mut state = self.state.lock();
        let within = state
            .start_of_write(at, bytes.len())
            .and_then(|start| state.charge_up_to(start + bytes.len()).map(|()| start));
        if let Err(error) = &within {
            state.cut_off = Some(error.clone());
            state.slot = None;
        }
        let offset = within?;
        let changed = match (at, &state.target) {
            (WriteAt::End, Target::Value(target)) => {
                let is_new = matches!(target, WriteTarget::New { .. });
                let (buffer, start) = state.content.append(bytes, is_new);
                Changed::Part(start..buffer.len())
            }
            (WriteAt::End, Target::Lists(_)) | (WriteAt::Offset(_), _) => {
                let before = state.content.is_appended();
                state.content.make_own(vault)?.write_at(offset, bytes);
                if before { Changed::All } else { Changed::Part(offset..offset + bytes.len()) }
            }
        };
        state.touched(Dirty::Written);
        self.keep_written(vault, &mut state, changed);
        Ok(())
    }

    /// Cuts or extends to `size` bytes.
    pub(in crate::fs) fn resize(&self, vault: &Vault, size: u64) -> Result<(), FsError> {
        let mut state = self.state.lock();
        let size = within_limit(size, 0, &state.path)?;
        let was_appended = state.content.is_appended();
        if size == 0 {
            if let Content::Base(value) = &state.content {
                state.emptied = Some(value.node());
            }
            state.content = Content::Own(Plaintext::default());
            state.charge.shrink(Self::BYTES);
            state.cut_off = None;
        } else {
            state.charge_up_to(size)?;
            state.content.make_own(vault)?.resize(size);
        }
        // Truncated to nothing, a shell may still be about to write; to a size, it is the content.
        let dirty = if size == 0 && state.dirty != Dirty::Written {
            Dirty::Emptied
        } else {
            Dirty::Written
        };
        state.touched(dirty);
        match dirty {
            Dirty::Written => {
                let changed = if was_appended { Changed::All } else { Changed::Part(0..size) };
                self.keep_written(vault, &mut state, changed);
            }
            Dirty::Clean | Dirty::Emptied => {
                // The pages there are dropped once nothing in the saved state names them.
                let aside = state.aside.take();
                self.shelve(&mut state);
                drop(aside);
            }
        }
        Ok(())
    }
}

impl State {
    /// Charges for own bytes that end there, or where they end already: the buffer, and the copy that
    /// the next process finds.
    fn charge_up_to(&mut self, end: usize) -> Result<(), FsError> {
        let size = self.content.size().max(end);
        let bytes = Draft::BYTES + 2 * buffer_bytes(size);
        if bytes > self.charge.bytes() { self.charge.resize(bytes, &self.path) } else { Ok(()) }
    }

    fn touched(&mut self, dirty: Dirty) {
        self.dirty = dirty;
        self.abandoned.resumed();
        self.shows = None;
        self.modified = SystemTime::now();
    }
}

/// The offset as a number that fits memory, if `length` bytes from it on stay within 1 MiB.
pub(in crate::fs) fn within_limit(
    offset: u64,
    length: usize,
    path: &str,
) -> Result<usize, FsError> {
    usize::try_from(offset)
        .ok()
        .filter(|start| start.checked_add(length).is_some_and(|end| end <= MAX_VALUE_BYTES))
        .ok_or_else(|| FsError::TooLarge(path.to_owned()))
}
