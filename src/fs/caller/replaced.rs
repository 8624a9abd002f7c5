//! What a process has just done with a file that it is about to replace, or to set attributes of.
//!
//! A program replaces a file in several system calls, and a pool of threads makes each of them in another
//! thread. So this is remembered of the process. `mv K K~; mv K.new K` does it by two processes: a secret that is
//! moved is remembered of the parent process as well.

use crate::vault::InheritedLists;

use super::proc::{parent_of, process_of};
use crate::fs::budget::{Account, Charge};
use crate::fs::kernel::retries::Note;
use crate::fs::{Fs, Request};

impl Fs {
    /// Remembers that the caller's process removed the secret of that key, or `moved` it away.
    pub(in crate::fs) fn remember_replaced(
        &self,
        request: &Request,
        key: &str,
        inherited_lists: InheritedLists,
        moved: bool,
    ) {
        // Never refused: the lists would be lost. What is removed was stored before, and this is forgotten
        // soon.
        let charge = || self.budget.restore(Account::User(request.uid), Note::BYTES);
        let process = of_process(request);
        let note = |inherited_lists, by_child| Note::Replaced {
            key: key.to_owned(),
            inherited_lists,
            by_child,
        };
        if let Some(parent) = parent_of(process.task).filter(|_| moved) {
            self.processes.remember(
                &process.as_of(parent),
                note(inherited_lists.clone(), true),
                charge(),
            );
        }
        self.processes.remember(&process, note(inherited_lists, false), charge());
    }

    /// Remembers something else of the caller's process.
    pub(in crate::fs) fn remember_of_process(&self, request: &Request, note: Note, charge: Charge) {
        self.processes.remember(&of_process(request), note, charge);
    }

    /// Shows what is remembered of the caller's process to `find`.
    pub(in crate::fs) fn find_of_process<T>(
        &self,
        request: &Request,
        find: impl FnMut(&mut Note) -> Option<T>,
    ) -> Option<T> {
        match self.processes.is_empty() {
            true => None,
            false => self.processes.find(&of_process(request), find),
        }
    }

    /// What a secret left that this process removed or moved away a moment ago, or that another child of
    /// its parent moved away.
    pub(in crate::fs) fn inherited_lists(
        &self,
        request: &Request,
        path: &str,
    ) -> Option<InheritedLists> {
        if self.processes.is_empty() {
            return None;
        }
        let find = |process: &Request, of_child: bool| {
            self.processes.find(process, |note| match note {
                Note::Replaced { key, inherited_lists, by_child }
                    if key == path && (*by_child || !of_child) =>
                {
                    Some(inherited_lists.clone())
                }
                _ => None,
            })
        };
        let process = of_process(request);
        find(&process, false).or_else(|| find(&process.as_of(parent_of(process.task)?), true))
    }
}

/// The request as one of the process's first thread. A process that is not known is its thread.
pub(in crate::fs) fn of_process(request: &Request) -> Request {
    request.as_of(process_of(request.task).unwrap_or(request.task))
}
