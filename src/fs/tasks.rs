//! What is remembered of a thread for a moment: system calls that come in two requests, and
//! programs that replace a file in two system calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::vault::Heritage;

use super::Requester;
use super::draft::Draft;
use super::import::Dropped;
use super::task::Task;

/// How long a note lasts.
const LIFETIME: Duration = Duration::from_secs(2);
/// How many notes are kept of one thread; the oldest go first.
const PER_TASK: usize = 16;
/// Notes that are over are looked for when there are more than this.
const SWEEP: usize = 4096;

/// One thing to remember of a thread.
#[derive(Clone)]
pub(super) enum Note {
    /// It was told ESTALE on opening this node for reading; the kernel looks the path up again.
    /// `served` is the version that the look-up gave, which is then opened whatever happens.
    Reopen { node: u64, served: Option<u64> },
    /// It was told ESTALE on opening this node for writing; its next look-up of `path`, or of any
    /// file where the path is not known, gets `draft`, made on the first of them.
    Rewrite { node: u64, path: Option<String>, draft: Option<Arc<Draft>> },
    /// It removed this secret, or moved it away: what it creates there next takes its place, and the
    /// folders above are still there for it.
    Replaced { key: String, heritage: Heritage },
    /// It closed this file of the drop box, which was applied and is gone.
    Applied(Arc<Dropped>),
}

/// Notes by thread. A thread is its number, its start time and its UID.
#[derive(Default)]
pub(super) struct Tasks {
    notes: Mutex<HashMap<u32, Vec<Noted>>>,
    /// Lets look-ups pass without the lock when nothing is noted, which is nearly always.
    threads: AtomicUsize,
}

struct Noted {
    started: Option<u64>,
    uid: u32,
    at: Instant,
    note: Note,
}

impl Tasks {
    /// Remembers `note` of the thread that sent the request.
    pub(super) fn remember(&self, who: &Requester, note: Note) {
        let started = Task::read(who.task).map(|task| task.started);
        let noted = Noted { started, uid: who.uid, at: Instant::now(), note };
        let mut notes = self.notes.lock();
        if notes.len() >= SWEEP {
            notes.retain(|_, of_task| of_task.iter().any(Noted::is_fresh));
        }
        let of_task = notes.entry(who.task).or_default();
        of_task.retain(Noted::is_fresh);
        if of_task.len() >= PER_TASK {
            of_task.remove(0);
        }
        of_task.push(noted);
        self.threads.store(notes.len(), Ordering::Release);
    }

    /// Shows the notes of that thread to `find`, newest first, until it finds something.
    pub(super) fn find<T>(
        &self,
        who: &Requester,
        find: impl FnMut(&mut Note) -> Option<T>,
    ) -> Option<T> {
        let started = self.started_if_noted(who)?;
        let mut notes = self.notes.lock();
        let own = notes.get_mut(&who.task)?.iter_mut().rev();
        own.filter(|noted| noted.is_of(who, started) && noted.is_fresh())
            .map(|noted| &mut noted.note)
            .find_map(find)
    }

    /// As [`Tasks::find`], and forgets the note that was found.
    pub(super) fn take<T>(
        &self,
        who: &Requester,
        mut find: impl FnMut(&Note) -> Option<T>,
    ) -> Option<T> {
        let started = self.started_if_noted(who)?;
        let mut notes = self.notes.lock();
        let own = notes.get_mut(&who.task)?;
        own.retain(Noted::is_fresh);
        let (position, found) = own.iter().enumerate().rev().find_map(|(position, noted)| {
            let found = noted.is_of(who, started).then(|| find(&noted.note)).flatten();
            Some((position, found?))
        })?;
        own.remove(position);
        if own.is_empty() {
            notes.remove(&who.task);
        }
        self.threads.store(notes.len(), Ordering::Release);
        Some(found)
    }

    /// The thread's start time, read only if something is noted of its number.
    fn started_if_noted(&self, who: &Requester) -> Option<Option<u64>> {
        if self.threads.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.notes.lock().contains_key(&who.task).then_some(())?;
        Some(Task::read(who.task).map(|task| task.started))
    }
}

impl Noted {
    fn is_of(&self, who: &Requester, started: Option<u64>) -> bool {
        self.uid == who.uid && self.started == started
    }

    fn is_fresh(&self) -> bool {
        self.at.elapsed() < LIFETIME
    }
}
