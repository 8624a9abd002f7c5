//! What the next process must know of a draft, to go on where this one was killed.

use std::ops::Range;
use std::sync::Arc;

use crate::audit::Process;
use crate::fs::budget::{Account, Budget, buffer_bytes};
use crate::fs::caller::closing::{Abandoned, OpenersFiles};
use crate::fs::saved::pages::Aside;
use crate::fs::saved::{Saved, SavedContent, SavedDraft, SavedState, SavedTarget, Slot};
use crate::model::Plaintext;
use crate::vault::{Value, Vault, WriteTarget};

use super::{Appending, Content, Dirty, Draft, Opener, State, Target};

/// What an inherited draft shows.
pub(in crate::fs) enum Base {
    Version(Arc<Value>),
    /// The lists as they stand.
    Lists(String),
    /// Bytes that are not stored.
    Written(Aside, Plaintext),
    /// Nothing, and that is not to be published.
    Cleared,
    /// Bytes to append to a version, and how many of them a request was storing.
    Appended(Option<Arc<Value>>, Aside, Plaintext, Option<(u64, u32)>),
}

/// Which bytes of a buffer differ from those that the next process would find.
pub(super) enum Changed {
    Part(Range<usize>),
    /// They are another buffer's.
    All,
}

impl Draft {
    /// Lets the next process know of it, as long as that could go on with it.
    pub(super) fn shelve(&self, state: &mut State) {
        let slot = state.slot.take();
        state.slot = self.kept(state).and_then(|kept| match slot {
            Some(slot) => slot.replace(&Saved::Draft(kept)),
            None => state.saved_state.put(state.charge.account(), &Saved::Draft(kept)),
        });
    }

    fn kept(&self, state: &State) -> Option<SavedDraft> {
        let content = match (state.dirty, state.shows, &state.aside) {
            (Dirty::Clean, Some(version), _) => SavedContent::Stored(version),
            // While it is being stored, it is clean and not stored.
            (Dirty::Written, ..) | (Dirty::Clean, None, Some(_)) => {
                let bytes = state.aside.as_ref()?.kept();
                match &state.content {
                    Content::Appended { base, .. } => SavedContent::Appended {
                        base: base.as_ref().map(|base| base.node()),
                        bytes,
                        appending: state.appending.map(|Appending { unique, length }| {
                            (unique, u32::try_from(length).expect("a buffer has at most 1 MiB"))
                        }),
                    },
                    Content::Base(_) | Content::Own(_) => SavedContent::Written(bytes),
                }
            }
            (Dirty::Emptied, ..) => {
                state.emptied.map_or(SavedContent::Emptied, SavedContent::Truncated)
            }
            (Dirty::Clean, None, None) if Self::is_cleared(state) => SavedContent::Cleared,
            (Dirty::Clean, None, None) => return None,
        };
        if state.handles.is_empty()
            || state.abandoned == Abandoned::ByOpener
            || state.cut_off.is_some()
        {
            return None;
        }
        Some(SavedDraft {
            handles: state.handles.clone(),
            node: self.node,
            inode: self.inode,
            uid: self.uid,
            gid: self.process.gid,
            pid: self.process.pid,
            program: self.process.program.as_deref().map(str::to_owned),
            creator: self.creator,
            path: state.path.clone(),
            target: match &state.target {
                Target::Value(WriteTarget::Existing(record)) => {
                    SavedTarget::Existing(record.as_u64())
                }
                Target::Value(WriteTarget::New { exclusive, .. }) => {
                    SavedTarget::New { exclusive: *exclusive }
                }
                Target::Lists(record) => SavedTarget::Lists(record.as_u64()),
            },
            content,
            mode: state.mode,
            ended: state.ended,
            flushed: state.flushed,
            abandoned: state.abandoned == Abandoned::ByChild,
            bound: state.bound,
            files: self.files.get(),
        })
    }

    /// The draft that the process before this one kept, with the version that it shows.
    pub(in crate::fs) fn inherited(
        kept: SavedDraft,
        target: Target,
        base: Option<Base>,
        slot: Slot,
        saved_state: &SavedState,
        budget: &Budget,
    ) -> Self {
        let program = kept.program.as_deref().map(Into::into);
        let process = Process { gid: kept.gid, pid: kept.pid, program, request: 0 };
        let bytes = match &base {
            Some(Base::Written(_, bytes)) => 2 * buffer_bytes(bytes.len()),
            Some(Base::Appended(base, _, tail, _)) => {
                let base = base.as_ref().map_or(0, |base| base.size() as usize);
                2 * buffer_bytes(base + tail.len())
            }
            Some(Base::Lists(text)) => text.len(),
            Some(Base::Version(_) | Base::Cleared) | None => 0,
        };
        let charge = budget.restore(Account::User(kept.uid), Self::BYTES + bytes);
        let opener = Opener { uid: kept.uid, process, charge };
        let (mut kept_aside, mut appending) = (None, None);
        let (content, dirty) = match base {
            Some(Base::Version(value)) => (Content::Base(value), Dirty::Clean),
            Some(Base::Lists(text)) => {
                (Content::Own(Plaintext::copy_of(text.as_bytes())), Dirty::Clean)
            }
            Some(Base::Written(aside, bytes)) => {
                kept_aside = Some(aside);
                (Content::Own(bytes), Dirty::Written)
            }
            Some(Base::Appended(base, aside, tail, stored)) => {
                kept_aside = Some(aside);
                appending =
                    stored.map(|(unique, length)| Appending { unique, length: length as usize });
                (Content::Appended { base, tail }, Dirty::Written)
            }
            Some(Base::Cleared) => (Content::Own(Plaintext::default()), Dirty::Clean),
            None => (Content::Own(Plaintext::default()), Dirty::Emptied),
        };
        let nodes = (kept.node, kept.inode);
        let emptied = match kept.content {
            SavedContent::Truncated(version) => Some(version),
            _ => None,
        };
        let mut draft =
            Self::new(nodes, opener, kept.creator, &kept.path, target, content, dirty, kept.mode);
        draft.files = OpenersFiles::new(kept.files);
        {
            let mut state = draft.state.lock();
            state.handles = kept.handles;
            state.bound = kept.bound;
            state.ended = kept.ended;
            state.emptied = emptied;
            state.flushed = kept.flushed;
            if kept.abandoned {
                state.abandoned = Abandoned::ByChild;
            }
            state.saved_state = saved_state.clone();
            state.aside = kept_aside;
            state.appending = appending;
            state.slot = Some(slot);
        }
        draft
    }

    /// The next process is to have what was written.
    pub(super) fn keep_written(&self, vault: &Vault, state: &mut State, changed: Changed) {
        let mut before = state.aside.take();
        if let Some(bytes) = state.content.buffer().filter(|_| !state.handles.is_empty()) {
            // Pages that hold other content must stay until nothing in the saved state names them.
            let (same, changed) = match changed {
                Changed::Part(changed) => (before.take(), changed),
                Changed::All => (None, 0..bytes.len()),
            };
            let whose = (self.node, state.charge.account());
            let (aside, replaced) =
                Aside::keep(same, &state.saved_state, vault, whose, bytes, changed);
            state.aside = aside;
            self.shelve(state);
            // It goes once nothing in the saved state names it.
            drop((before, replaced));
            return;
        }
        self.shelve(state);
    }
}
