//! What a process has just done with a file that it is about to replace, or to set attributes of.
//!
//! A program replaces a file in several system calls, and a pool of threads makes each of them in another
//! thread. So this is remembered of the process. `mv K K~; mv K.new K` does it by two processes: a secret that is
//! moved is remembered of the parent process as well.

use crate::vault::InheritedLists;

use super::proc::{parent_of, process_of};
use crate::fs::budget::{Account, Charge};
use crate::fs::kernel::retries::Note;
use crate::fs::{Fs, Requester};

impl Fs {
    /// Remembers that the caller's process removed the secret of that key, or `moved` it away.
    pub(in crate::fs) fn remember_replaced(
        &self,
        who: &Requester,
        key: &str,
        inherited_lists: InheritedLists,
        moved: bool,
    ) {
        // Never refused: the lists would be lost. What is removed was stored before, and this is forgotten
        // soon.
        let charge = || self.budget.restore(Account::User(who.uid), Note::BYTES);
        let process = of_process(who);
        let note = |inherited_lists, by_child| Note::Replaced {
            key: key.to_owned(),
            inherited_lists,
            by_child,
        };
        if let Some(parent) = parent_of(process.task).filter(|_| moved) {
            let parent = Requester { task: parent, ..process };
            self.processes.remember(&parent, note(inherited_lists.clone(), true), charge());
        }
        self.processes.remember(&process, note(inherited_lists, false), charge());
    }

    /// Remembers something else of the caller's process.
    pub(in crate::fs) fn remember_of_process(&self, who: &Requester, note: Note, charge: Charge) {
        self.processes.remember(&of_process(who), note, charge);
    }

    /// Shows what is remembered of the caller's process to `find`.
    pub(in crate::fs) fn find_of_process<T>(
        &self,
        who: &Requester,
        find: impl FnMut(&mut Note) -> Option<T>,
    ) -> Option<T> {
        match self.processes.is_empty() {
            true => None,
            false => self.processes.find(&of_process(who), find),
        }
    }

    /// What a secret left that this process removed or moved away a moment ago, or that another child of
    /// its parent moved away.
    pub(in crate::fs) fn inherited_lists(
        &self,
        who: &Requester,
        path: &str,
    ) -> Option<InheritedLists> {
        if self.processes.is_empty() {
            return None;
        }
        let find = |process: &Requester, of_child: bool| {
            self.processes.find(process, |note| match note {
                Note::Replaced { key, inherited_lists, by_child }
                    if key == path && (*by_child || !of_child) =>
                {
                    Some(inherited_lists.clone())
                }
                _ => None,
            })
        };
        let process = of_process(who);
        find(&process, false)
            .or_else(|| find(&Requester { task: parent_of(process.task)?, ..process }, true))
    }
}

/// The request as one of the process's first thread. A process that is not known is its thread.
pub(in crate::fs) fn of_process(who: &Requester) -> Requester {
    Requester { task: process_of(who.task).unwrap_or(who.task), ..*who }
}
