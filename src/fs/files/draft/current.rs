//! Taking over the current value: what a writer that has a lock, and has not written yet, goes on from.

use std::sync::Arc;
use std::time::SystemTime;

use crate::fs::FsError;
use crate::model::Plaintext;
use crate::vault::{Value, WriteTarget};

use super::{Content, Dirty, Draft, State, Target};

impl Draft {
    /// Shows this version of its secret from now on, if nothing is to be stored.
    ///
    /// A truncation goes to the value that was current at that time. If there is another one now, it is not
    /// stored by itself, and what is written next replaces the value.
    pub(in crate::fs) fn show_current(&self, current: &Arc<Value>) {
        let mut state = self.state.lock();
        match (&state.content, state.dirty) {
            _ if state.committing || state.ended => return,
            (Content::Base(shown), Dirty::Clean) if shown.node() != current.node() => {
                state.content = Content::Base(Arc::clone(current));
                state.shows = Some(current.node());
            }
            (Content::Own(_), Dirty::Emptied)
                if state.emptied.is_some_and(|emptied| emptied != current.node()) =>
            {
                state.dirty = Dirty::Clean;
                state.emptied = None;
            }
            _ => return,
        }
        state.modified = SystemTime::now();
        self.shelve(&mut state);
    }

    /// Shows these lists from now on, if nothing is to be stored.
    ///
    /// # Errors
    /// [`FsError::OutOfMemory`].
    pub(in crate::fs) fn show_lists(&self, text: &str) -> Result<(), FsError> {
        let mut state = self.state.lock();
        if state.committing || state.ended || state.dirty != Dirty::Clean {
            return Ok(());
        }
        let State { charge, path, content, .. } = &mut *state;
        charge.resize(Self::BYTES + text.len(), path)?;
        *content = Content::Own(Plaintext::copy_of(text.as_bytes()));
        state.shows = Some(0);
        self.shelve(&mut state);
        Ok(())
    }

    /// Another process has created the file since. Goes on from its value, if nothing was written.
    pub(in crate::fs) fn open_created(&self, current: &Arc<Value>) {
        let mut state = self.state.lock();
        let is_new =
            matches!(state.target, Target::Value(WriteTarget::New { exclusive: false, .. }));
        let is_written = state.dirty != Dirty::Emptied && !Self::is_cleared(&state);
        if !is_new || is_written || state.committing || state.ended {
            return;
        }
        state.target = Target::Value(WriteTarget::Existing(current.record()));
        state.content = Content::Base(Arc::clone(current));
        state.dirty = Dirty::Clean;
        state.shows = Some(current.node());
        state.modified = SystemTime::now();
        self.shelve(&mut state);
    }

    /// Whether it was truncated, and that is neither stored nor to be stored by itself.
    pub(super) fn is_cleared(state: &State) -> bool {
        let is_empty = matches!(&state.content, Content::Own(bytes) if bytes.is_empty());
        is_empty && state.dirty == Dirty::Clean && matches!(state.target, Target::Value(_))
    }
}
