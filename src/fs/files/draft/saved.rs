//! What the next process must know of a draft, to go on where this one was killed.

use std::ops::Range;
use std::sync::Arc;

use crate::audit::Process;
use crate::document::emit_lists;
use crate::fs::budget::{Account, Budget, buffer_bytes};
use crate::fs::caller::closing::{Abandoned, OpenersFiles};
use crate::fs::saved::pages::Aside;
use crate::fs::saved::{Record, SavedContent, SavedDraft, SavedState, SavedTarget, Slot};
use crate::model::{Key, Plaintext};
use crate::vault::{RecordId, Value, Vault, WriteTarget};

use super::{Appending, Content, Dirty, Draft, Opener, State, Target};

/// Which bytes of a buffer differ from those that the next process would find.
pub(super) enum Changed {
    Part(Range<usize>),
    /// They are another buffer's.
    All,
}

impl Draft {
    /// Lets the next process know of it, as long as that could go on with it.
    pub(super) fn shelve(&self, state: &mut State) {
        let kept = self.kept(state).map(|kept| (state.charge.account(), Record::Draft(kept)));
        state.saved_state.write(&mut state.slot, kept);
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

    /// The draft that the server before this one saved; none if what it holds or shows is lost. `find` gives the
    /// version of a node.
    pub(in crate::fs) fn restored(
        kept: SavedDraft,
        slot: Slot,
        (vault, saved_state, budget): (&Vault, &SavedState, &Budget),
        find: impl Fn(u64) -> Option<Arc<Value>>,
    ) -> Option<Self> {
        let target = match kept.target {
            SavedTarget::Existing(record) => {
                Target::Value(WriteTarget::Existing(RecordId::from_u64(record)))
            }
            SavedTarget::New { exclusive } => {
                let key = Key::parse(&kept.path).ok()?;
                Target::Value(WriteTarget::New { key, exclusive, inherited_lists: None })
            }
            SavedTarget::Lists(record) => Target::Lists(RecordId::from_u64(record)),
        };
        let spilled = |bytes| Aside::inherit(saved_state, vault, (kept.node, kept.uid), bytes);
        let nothing = || Content::Own(Plaintext::default());
        let (mut emptied, mut aside, mut appending) = (None, None, None);
        let (content, dirty) = match (&kept.content, &target) {
            (SavedContent::Emptied, _) => (nothing(), Dirty::Emptied),
            (SavedContent::Truncated(version), _) => {
                emptied = Some(*version);
                (nothing(), Dirty::Emptied)
            }
            (SavedContent::Cleared, _) => (nothing(), Dirty::Clean),
            (SavedContent::Written(bytes), _) => {
                let (pages, bytes) = spilled(bytes)?;
                aside = Some(pages);
                (Content::Own(bytes), Dirty::Written)
            }
            (SavedContent::Appended { base, bytes, appending: stored }, _) => {
                let base = match base {
                    Some(base) => Some(find(*base)?),
                    None => None,
                };
                let (pages, tail) = spilled(bytes)?;
                aside = Some(pages);
                appending =
                    stored.map(|(unique, length)| Appending { unique, length: length as usize });
                (Content::Appended { base, tail }, Dirty::Written)
            }
            (SavedContent::Stored(_), Target::Lists(record)) => {
                let lists = emit_lists(vault.secret_of(*record)?.acl());
                (Content::Own(Plaintext::copy_of(lists.as_bytes())), Dirty::Clean)
            }
            (SavedContent::Stored(node), Target::Value(_)) => {
                (Content::Base(find(*node)?), Dirty::Clean)
            }
        };
        let bytes = match (&content, dirty) {
            (_, Dirty::Written) => 2 * buffer_bytes(content.size()),
            (Content::Base(_), _) => 0,
            _ => content.size(),
        };
        let program = kept.program.as_deref().map(Into::into);
        let process = Process { gid: kept.gid, pid: kept.pid, program, request: 0 };
        let charge = budget.restore(Account::User(kept.uid), Self::BYTES + bytes);
        let opener = Opener { uid: kept.uid, process, charge };
        let nodes = (kept.node, kept.inode);
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
            state.aside = aside;
            state.appending = appending;
            state.slot = Some(slot);
        }
        Some(draft)
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
