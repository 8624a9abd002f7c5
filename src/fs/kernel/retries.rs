//! What is remembered for a moment: of a thread, that a system call comes in two requests; of a process, that it
//! replaces a file in two system calls, perhaps by two of its threads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::telemetry::clock;
use crate::vault::{InheritedLists, RequestId};

use crate::fs::Request;
use crate::fs::budget::{Charge, OBJECT_BYTES};
use crate::fs::caller::proc::{FRESH, now_since_boot, start_of};
use crate::fs::files::draft::Draft;
use crate::fs::files::import::ImportFile;
use crate::fs::saved::{Record, SLOT_BYTES, SavedRetry, SavedState, Slot};

/// How long it is remembered that a thread removed something.
const LIFETIME: Duration = Duration::from_secs(2);
/// How long a thread may take to repeat a lookup after ESTALE: the kernel does so at once, but the machine
/// may be slow.
const RETRY: Duration = Duration::from_secs(30);
/// How long a thread may take to repeat a request that a killed process did not answer.
const AGAIN: Duration = Duration::from_secs(10);
/// How long threads that are not known may take to look up again. Each lookup of the path costs a draft for
/// that long.
const SHARED_RETRY: Duration = Duration::from_secs(5);
/// How many notes are kept of one thread; the oldest go first.
pub(in crate::fs) const PER_TASK: usize = 16;
/// How many of one process: its threads may replace many files at a time.
pub(in crate::fs) const PER_PROCESS: usize = 256;
/// How many threads may have a note that they took last.
const MAX_SPENT: usize = 4096;

/// One thing to remember of a thread.
#[derive(Clone)]
pub(in crate::fs) enum Note {
    /// It got ESTALE on opening this node for reading; the kernel looks the path up again. `served` is the
    /// version that the lookup gave, which is then opened even if it is superseded.
    Reopen { node: u64, served: Option<u64> },
    /// It opened that version for the process before this one, which may not have answered. No
    /// lookup changes that.
    Reopened { served: u64 },
    /// It got ESTALE on opening this node for writing. Its next lookup of `path`, or of any file if the path
    /// is not known, gets `draft`, which is made on the first of them. `only` is set once it is opened: if
    /// this process is killed before its answer, the next one gets the request to open that draft again, and
    /// gives the draft to no lookup.
    Rewrite { node: u64, path: Option<String>, draft: Option<Arc<Draft>>, only: Option<u64> },
    /// Threads of a UID that are not known got ESTALE on opening this node. As long as this lasts, each
    /// lookup of `path` by one of them, or of any file, gets a draft of its own. `unanswered` of them have
    /// not come back.
    Shared { node: u64, path: Option<String>, unanswered: u32 },
    /// It removed this secret, or moved it away: what it creates there next takes its place, and the
    /// directories above are still there for it. A note of a process, as the next one.
    /// `by_child` if a child of the process did so.
    Replaced { key: String, inherited_lists: InheritedLists, by_child: bool },
    /// It closed this file of the drop directory, which was applied and is gone.
    Applied(Arc<ImportFile>),
}

impl Note {
    /// What a note takes, its slot included.
    pub(in crate::fs) const BYTES: usize = OBJECT_BYTES + SLOT_BYTES;

    fn lifetime(&self) -> Duration {
        match self {
            Self::Replaced { .. } | Self::Applied(_) => LIFETIME,
            Self::Shared { .. } => SHARED_RETRY,
            Self::Reopen { .. } | Self::Reopened { .. } | Self::Rewrite { .. } => RETRY,
        }
    }

    /// Whether this note replaces an older one of the same thread: a thread opens one file at a time. Of threads
    /// that are not known, it counts the callers of an older note of the same node in this one.
    fn take_over(&mut self, old: &Self) -> bool {
        match (self, old) {
            (Self::Reopen { .. }, Self::Reopen { .. })
            | (Self::Rewrite { .. }, Self::Rewrite { .. }) => true,
            (
                Self::Shared { node, unanswered, .. },
                Self::Shared { node: other, unanswered: more, .. },
            ) if node == other => {
                *unanswered = unanswered.saturating_add(*more);
                true
            }
            _ => false,
        }
    }

    /// Whether the thread has opened the result of its repeated lookup.
    fn is_spent(&self) -> bool {
        matches!(self, Self::Reopened { .. } | Self::Rewrite { only: Some(_), .. })
    }
}

/// Notes by thread, or by process. Either is its number, its start time and its UID. Callers in a PID namespace
/// that the daemon does not see all have the number 0: those of one UID share their notes.
pub(in crate::fs) struct Retries {
    notes: Mutex<HashMap<Whose, Vec<Noted>>>,
    most: usize,
    saved_state: SavedState,
    /// The last note that each thread took stays in the saved state until the thread sends something new: if
    /// this process is killed before its answer, the next one gets the same request again.
    spent: Mutex<HashMap<Whose, (Instant, Slot)>>,
    /// Lets lookups pass without the lock when nothing is noted, which is nearly always.
    threads: AtomicUsize,
    /// When expired notes were dropped last, in milliseconds since boot ([`clock::tick`]).
    swept: AtomicU64,
    made: Instant,
}

/// A thread or process, and its UID.
type Whose = (u32, u32);

struct Noted {
    started: Option<u64>,
    /// When this process has read that ([`clock::tick`]).
    seen: Option<Duration>,
    whose: Whose,
    /// The request upon which this was noted, or which took it ([`Note::is_spent`]).
    unique: u64,
    at: Instant,
    lifetime: Duration,
    note: Note,
    slot: Option<Slot>,
    charge: Charge,
}

impl Retries {
    /// Keeps at most so many of each.
    pub(in crate::fs) fn new(saved_state: SavedState, most: usize) -> Self {
        Self {
            notes: Mutex::default(),
            most,
            saved_state,
            spent: Mutex::default(),
            threads: AtomicUsize::new(0),
            swept: AtomicU64::new(0),
            made: Instant::now(),
        }
    }

    /// Remembers `note` of the thread that sent the request.
    pub(in crate::fs) fn remember(&self, request: &Request, note: Note, charge: Charge) {
        let (started, seen) = (start_of(request.task), Some(clock::tick()));
        let (whose, unique, at) = (whose(request), request.unique, Instant::now());
        let lifetime = note.lifetime();
        let mut noted =
            Noted { started, seen, whose, unique, at, lifetime, note, slot: None, charge };
        self.save(&mut noted);
        // It has got the answer to what it asked before.
        let answered = self.spent.lock().remove(&whose);
        drop(answered);
        self.add(noted);
    }

    /// Remembers a note of a thread that the process before this one made `age` ago.
    pub(in crate::fs) fn inherit(
        &self,
        origin: &RequestId,
        age: Duration,
        note: Note,
        slot: Option<Slot>,
        charge: Charge,
    ) {
        let &RequestId { unique, task, started, uid, .. } = origin;
        // A spent note is needed soon (its request is repeated) or never.
        let age = if note.is_spent() { age.max(RETRY - AGAIN) } else { age };
        let (whose, lifetime) = ((task, uid), note.lifetime());
        if let Some(at) = Instant::now().checked_sub(age)
            && age < lifetime
        {
            let seen = None;
            let mut noted =
                Noted { started, seen, whose, unique, at, lifetime, note, slot, charge };
            // The outage does not count.
            self.save(&mut noted);
            self.add(noted);
        }
    }

    /// Requests are served from now on. The time from start to now does not count for restored notes, because
    /// no request could be answered.
    pub(in crate::fs) fn begin(&self) {
        let waited = self.made.elapsed();
        for noted in self.notes.lock().values_mut().flatten() {
            noted.at += waited;
        }
    }

    fn add(&self, mut noted: Noted) {
        self.sweep_if_due();
        let most = if noted.whose.0 == 0 { PER_PROCESS } else { self.most };
        let mut notes = self.notes.lock();
        let of_task = notes.entry(noted.whose).or_default();
        // A thread waits for one answer at a time: what it took before that is answered.
        of_task.retain(|old| {
            old.is_fresh() && !old.note.is_spent() && !noted.note.take_over(&old.note)
        });
        if of_task.len() >= most {
            of_task.remove(0);
        }
        of_task.push(noted);
        self.threads.store(notes.len(), Ordering::Release);
    }

    /// Drops expired notes, of threads that have ended too: what they hold is charged to a user.
    pub(in crate::fs) fn sweep(&self) {
        let mut notes = self.notes.lock();
        let mut expired = Vec::new();
        notes.retain(|_, of_task| {
            expired.extend(of_task.extract_if(.., |noted| !noted.is_fresh()));
            !of_task.is_empty()
        });
        self.threads.store(notes.len(), Ordering::Release);
        drop(notes);
        // What they hold takes other locks.
        drop(expired);
    }

    /// As [`Retries::sweep`], at most once in 2 s.
    pub(in crate::fs) fn sweep_if_due(&self) {
        if self.is_empty() {
            return;
        }
        let now = u64::try_from(clock::tick().as_millis()).expect("an uptime of centuries");
        let last = self.swept.load(Ordering::Relaxed);
        let is_due = u128::from(now.saturating_sub(last)) >= LIFETIME.as_millis();
        let claim = || self.swept.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        if is_due && claim().is_ok() {
            self.sweep();
        }
    }

    fn save(&self, noted: &mut Noted) {
        let kept = noted.kept().map(|kept| (noted.charge.account(), Record::Note(kept)));
        self.saved_state.write(&mut noted.slot, kept);
    }

    fn keep_spent(&self, task: Whose, slot: Slot, at: Instant) {
        let mut spent = self.spent.lock();
        if spent.len() >= MAX_SPENT {
            spent.retain(|_, (at, _)| at.elapsed() < RETRY);
        }
        if spent.len() < MAX_SPENT {
            spent.insert(task, (at, slot));
        }
    }

    /// Whether nothing is noted at all.
    pub(in crate::fs) fn is_empty(&self) -> bool {
        self.threads.load(Ordering::Acquire) == 0
    }

    /// Shows the notes of that thread to `find`, newest first, until it finds something.
    pub(in crate::fs) fn find<T>(
        &self,
        request: &Request,
        find: impl FnMut(&mut Note) -> Option<T>,
    ) -> Option<T> {
        let started = self.started_if_noted(request)?;
        let mut notes = self.notes.lock();
        let own = notes.get_mut(&whose(request))?.iter_mut().rev();
        own.filter(|noted| noted.is_of(request, started) && noted.is_fresh())
            .map(|noted| &mut noted.note)
            .find_map(find)
    }

    /// The thread opens the current version, which settles an ESTALE that led it there.
    pub(in crate::fs) fn settle(&self, request: &Request, opened: u64) {
        if self.threads.load(Ordering::Acquire) > 0 {
            self.take(request, Some(opened), |note| match note {
                Note::Reopen { served: Some(served), .. } | Note::Reopened { served }
                    if *served == opened =>
                {
                    Some(())
                }
                _ => None,
            });
        }
    }

    /// The lookup that a thread repeats found this version.
    pub(in crate::fs) fn serve(&self, request: &Request, version: u64) {
        let Some(started) = self.started_if_noted(request) else { return };
        let mut notes = self.notes.lock();
        let own = notes.get_mut(&whose(request)).into_iter().flatten().rev();
        let mut own = own.filter(|noted| noted.is_of(request, started) && noted.is_fresh());
        if let Some(noted) = own.find(|noted| matches!(noted.note, Note::Reopen { .. })) {
            if let Note::Reopen { served, .. } = &mut noted.note {
                *served = Some(version);
            }
            self.save(noted);
        }
    }

    /// As [`Retries::find`], and forgets the note that was found.
    /// `opened` is the node that the thread opens thereby.
    pub(in crate::fs) fn take<T>(
        &self,
        request: &Request,
        opened: Option<u64>,
        mut find: impl FnMut(&Note) -> Option<T>,
    ) -> Option<T> {
        let started = self.started_if_noted(request)?;
        let whose = whose(request);
        let mut notes = self.notes.lock();
        let own = notes.get_mut(&whose)?;
        own.retain(Noted::is_fresh);
        let (position, found) = own.iter().enumerate().rev().find_map(|(position, noted)| {
            let found = noted.is_of(request, started).then(|| find(&noted.note)).flatten();
            Some((position, found?))
        })?;
        let mut taken = own.remove(position);
        if own.is_empty() {
            notes.remove(&whose);
        }
        self.threads.store(notes.len(), Ordering::Release);
        drop(notes);
        if let Some(slot) = taken.slot.take() {
            let unique = request.unique;
            let spent = |kept| SavedRetry { unique, served: opened, is_spent: true, ..kept };
            let kept = taken.kept().map(spent);
            let slot = kept.and_then(|kept| slot.replace(&Record::Note(kept)));
            slot.into_iter().for_each(|slot| self.keep_spent(whose, slot, taken.at));
        }
        Some(found)
    }

    /// The thread's start time, if something is noted of its number; read if that was not done a moment
    /// ago, for what was noted: the kernel looks up again at once, all directories of the path.
    fn started_if_noted(&self, request: &Request) -> Option<Option<u64>> {
        if self.threads.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.sweep_if_due();
        let now = clock::tick();
        let seen = |noted: &&Noted| noted.seen.is_some_and(|seen| now.saturating_sub(seen) < FRESH);
        let known =
            self.notes.lock().get(&whose(request))?.iter().rfind(seen).map(|noted| noted.started);
        Some(known.unwrap_or_else(|| start_of(request.task)))
    }
}

impl Noted {
    /// Whether the note applies to that request of the thread. A note that was made for the same request does
    /// not apply when that is sent again: its ESTALE has not been answered. A note that was taken applies only
    /// to the request that took it.
    fn is_of(&self, request: &Request, started: Option<u64>) -> bool {
        let is_same = request.is_resent && self.unique == request.unique;
        self.started == started && is_same == self.note.is_spent()
    }

    /// What of it the next process needs.
    fn kept(&self) -> Option<SavedRetry> {
        let (node, to_write, served) = match &self.note {
            Note::Reopen { node, served } => (*node, false, *served),
            Note::Reopened { served } => (*served, false, Some(*served)),
            Note::Rewrite { node, only, .. } => (*node, true, *only),
            Note::Shared { node, .. } => (*node, true, None),
            // The cached reply of the change tells it.
            Note::Replaced { .. } => return None,
            // It is gone, and its file with it.
            Note::Applied(_) => return None,
        };
        let at = now_since_boot().saturating_sub(self.at.elapsed());
        let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let (started, (task, uid), unique) = (self.started, self.whose, self.unique);
        let is_spent = self.note.is_spent();
        Some(SavedRetry { task, started, uid, unique, at, node, to_write, served, is_spent })
    }

    fn is_fresh(&self) -> bool {
        self.at.elapsed() < self.lifetime
    }
}

fn whose(request: &Request) -> Whose {
    (request.task, request.uid)
}
