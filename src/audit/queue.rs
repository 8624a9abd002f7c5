//! Who appends: whoever comes first takes along what the others bring meanwhile.
//!
//! The end of the log lies in the queue while nobody appends. A thread that has an event puts it into
//! the queue; if the log is there, it takes the log out, appends what waits as a group, without a lock,
//! puts the log back, gives the answers, and looks again. If the log is not there, somebody is at it and
//! will find the event: the thread goes on to other work. So lines stand in the order of the queue, a
//! group costs one write(2), no lock is held while the disk works, and a slow disk holds up one thread.

use std::cell::Cell;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::vec::Drain;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::chain::ChainKey;
use super::copy::Copy;
use super::event::{Event, Standing};
use super::item::{Answers, Events, Item, NotRecorded};
use super::json;
use super::log::{Log, LostCause};
use super::progress::{Place, Progress};
use super::recover::{self, OpenAuditError};
use super::repeats::{Admission, Attempt, CountMemory, Counter};
use super::status::{AuditStatus, Counters, Trouble};
use super::{Anchor, Known, Mode, Options, files, read};

/// A group that has this many events is written.
const GROUP: usize = 1024;
/// At most so many events wait; more fail. Each is somebody who waits for an answer.
const WAITING: usize = 1 << 16;
/// How often what was counted is written, and what was appended is brought to the disk: it is done within
/// a second.
const SYNC_EVERY: Duration = Duration::from_millis(900);
/// So many lines of counts are written as a group.
const COUNTS_AT_ONCE: usize = 256;

/// A decision that needs a line.
pub struct NewDecision {
    /// By which it is known once it has the line.
    hash: u64,
    attempt: Attempt,
}

/// The audit log of a daemon. Cheap to share.
pub struct Audit {
    mode: Mode,
    core: Option<Arc<Core>>,
    syncing: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

struct Core {
    mode: Mode,
    queue: Mutex<Queue>,
    progress: Arc<Progress>,
    counters: Counters,
    counter: Counter,
    copy: Option<Copy>,
}

struct Queue {
    waiting: Vec<Item>,
    /// The end of the log; none while somebody appends.
    log: Option<Box<Log>>,
    /// Empty, and with room: it takes turns with the one above.
    spare: Vec<Item>,
}

impl Audit {
    /// No log: every event is taken as recorded.
    pub fn off() -> Self {
        Self { mode: Mode::Off, core: None, syncing: Mutex::default() }
    }

    /// Opens the log, and goes on where it ends. `keys` are the current one and those before it;
    /// `known` is what the store knows of it.
    ///
    /// # Errors
    /// The directory cannot be used, or a thread cannot be started.
    pub fn open(
        options: &Options,
        keys: &[ChainKey],
        known: Known,
    ) -> Result<Self, OpenAuditError> {
        if options.mode == Mode::Off {
            Self::turn_off(options, keys, known);
            return Ok(Self::off());
        }
        let progress = Arc::new(Progress::new(&options.directory));
        let log = recover::open(options, keys, known, &progress)?;
        let copy_to = |target| Copy::start(target, options.copy_socket.clone());
        let copy = options.copy.map(copy_to).transpose().map_err(OpenAuditError::NoThread)?;
        let counters = Counters::default();
        if let Some(lost) = &log.lost {
            let what = format!(
                "the audit log is not as it was left: lines {} to {} are missing or changed ({}); see `secretfs audit verify`",
                lost.from,
                lost.to,
                lost.cause.as_str()
            );
            match lost.cause {
                LostCause::Power => tracing::warn!("{what}"),
                LostCause::Unexplained | LostCause::NoHead => counters.trouble(Trouble::Lost, what),
            }
        }
        let counts = options.counts.clone().map_or_else(
            || CountMemory::of_this_process().map(Arc::new).map_err(OpenAuditError::NoMemory),
            Ok,
        )?;
        let counter = Counter::new(options.repeats, counts, log.seq);
        let (waiting, spare) = Default::default();
        let queue = Mutex::new(Queue { waiting, log: Some(Box::new(log)), spare });
        let core = Arc::new(Core { mode: options.mode, queue, progress, counters, counter, copy });
        core.submit(Item::Lines(Events::One(start_event()), Box::new(|_| {})));
        let syncing = start_syncing(Arc::clone(&core), options.directory.clone())
            .map_err(OpenAuditError::NoThread)?;
        Ok(Self { mode: options.mode, core: Some(core), syncing: Mutex::new(Some(syncing)) })
    }

    /// If there is a log, its last line says that it was turned off.
    fn turn_off(options: &Options, keys: &[ChainKey], known: Known) {
        if known == Known::New || !options.directory.is_dir() {
            return;
        }
        let last = Options { mode: Mode::Required, copy: None, ..options.clone() };
        let written =
            Self::open(&last, keys, known).map_err(|error| error.to_string()).and_then(|audit| {
                audit.record_now(vec![Event::turned_off()]).map_err(|error| error.to_string())
            });
        if let Err(error) = written {
            tracing::warn!(%error, "that there is no audit log any more is not on the audit log");
        }
    }

    /// Puts an event on record, then calls `then`: on this thread, or on the one that is appending
    /// just now. `then` must not wait for another event.
    pub fn record(
        &self,
        event: Event,
        then: impl FnOnce(Result<(), NotRecorded>) + Send + 'static,
    ) {
        self.record_events(Events::One(event), then);
    }

    /// Begins to put a decision on record. None if there is nothing to write: one that equals another of the last
    /// second may be counted instead.
    pub fn admit(&self, attempt: Attempt) -> Option<NewDecision> {
        let hash = self.core.as_ref()?.admit(&attempt)?;
        Some(NewDecision { hash, attempt })
    }

    /// Puts a decision on record that was [admitted](Audit::admit).
    ///
    /// # Errors
    /// It is not on record and must be.
    pub async fn record_new(&self, new: NewDecision) -> Result<(), NotRecorded> {
        let NewDecision { hash, attempt } = new;
        self.recorded(Events::One(attempt.event())).await?;
        if let Some(core) = &self.core {
            core.counter.written(hash, attempt);
        }
        Ok(())
    }

    /// Puts decisions on record, one after the other; some may be counted, as in [`Audit::admit`].
    ///
    /// # Errors
    /// They are not on record and must be.
    pub async fn decide_all(&self, attempts: Vec<Attempt>) -> Result<(), NotRecorded> {
        let Some(core) = &self.core else { return Ok(()) };
        let new = core.admit_all(attempts);
        if !new.is_empty() {
            self.recorded(Events::Many(events_of(&new))).await?;
            core.written(new);
        }
        Ok(())
    }

    async fn recorded(&self, events: Events) -> Result<(), NotRecorded> {
        let (tell, told) = oneshot::channel();
        // The receiver waits below.
        self.record_events(events, move |outcome| drop(tell.send(outcome)));
        told.await.unwrap_or_else(|_| Err(NotRecorded::Failed("it is closed".to_owned())))
    }

    /// As [`Audit::decide_all`], and waits for it.
    ///
    /// # Errors
    /// They are not on record and must be.
    pub fn decide_now(&self, attempts: Vec<Attempt>) -> Result<(), NotRecorded> {
        let Some(core) = &self.core else { return Ok(()) };
        let new = core.admit_all(attempts);
        if self.record_now(events_of(&new))? > 0 {
            core.written(new);
        }
        Ok(())
    }

    fn record_events(
        &self,
        events: Events,
        then: impl FnOnce(Result<(), NotRecorded>) + Send + 'static,
    ) {
        let Some(core) = &self.core else { return then(Ok(())) };
        if self.mode == Mode::BestEffort {
            then(Ok(()));
            return core.submit(Item::Lines(events, Box::new(|_| {})));
        }
        core.submit(Item::Lines(events, Box::new(|outcome| then(outcome.map(drop)))));
    }

    /// Puts events on record, one after the other, and waits for it. Gives the number of the first
    /// line; 0 where there is none.
    ///
    /// # Errors
    /// They are not on record and must be.
    pub fn record_now(&self, events: Vec<Event>) -> Result<u64, NotRecorded> {
        let Some(core) = self.core.as_ref().filter(|_| !events.is_empty()) else { return Ok(0) };
        let (tell, told) = sync_channel(1);
        let then = move |outcome| {
            // Who asked waits just below.
            let _ = tell.send(outcome);
        };
        core.submit(Item::Lines(Events::Many(events), Box::new(then)));
        let outcome =
            told.recv().unwrap_or_else(|_| Err(NotRecorded::Failed("it is closed".to_owned())));
        self.forgive(outcome, 0)
    }

    /// Waits until every line so far is on the disk, and tells the last of them.
    ///
    /// # Errors
    /// The disk failed, and lines must be there.
    pub fn sync(&self) -> Result<Option<Anchor>, NotRecorded> {
        let Some(core) = &self.core else { return Ok(None) };
        let outcome = core.sync().map(Some).map_err(|error| NotRecorded::Failed(error.to_string()));
        self.forgive(outcome, None)
    }

    /// Whether there is a log.
    pub fn is_on(&self) -> bool {
        self.core.is_some()
    }

    /// Whether the disk has more room than what is kept for those who read or remove secrets.
    pub fn has_room(&self) -> bool {
        let Some(core) = self.core.as_ref().filter(|_| self.mode == Mode::Required) else {
            return true;
        };
        if core.counters.is_troubled(Trouble::Room) {
            core.submit(Item::Room);
            return !core.counters.is_troubled(Trouble::Room);
        }
        true
    }

    /// Goes on in a new file.
    pub fn rotate(&self) {
        self.core.iter().for_each(|core| core.submit(Item::Rotate));
    }

    /// Goes on under another key, in a new file.
    pub fn set_key(&self, key: ChainKey) {
        self.core.iter().for_each(|core| core.submit(Item::Key(key.clone())));
    }

    /// Writes what was counted, says that it ends, and waits until all of it is on the disk. What is
    /// recorded afterwards is not waited for any more.
    pub fn finish(&self) {
        let Some((stop, thread)) = self.syncing.lock().take() else { return };
        if let Some(core) = &self.core {
            core.write_counts();
            core.submit(Item::Lines(Events::One(Event::own("stop", |_| {})), Box::new(|_| {})));
        }
        drop(stop);
        // The thread's panic has aborted the process already, or a test reports it.
        let _ = thread.join();
    }

    /// How it is doing.
    pub fn status(&self) -> AuditStatus {
        let Some(core) = &self.core else {
            let problems = Vec::new();
            return AuditStatus {
                mode: self.mode,
                lines: 0,
                repeats: 0,
                failures: 0,
                copies_dropped: 0,
                problems,
                is_tampered_with: false,
            };
        };
        AuditStatus {
            mode: self.mode,
            lines: core.counters.lines.load(Ordering::Relaxed),
            repeats: core.counter.counted(),
            failures: core.counters.failures.load(Ordering::Relaxed),
            copies_dropped: core.copy.as_ref().map_or(0, Copy::dropped),
            problems: core.counters.problems(),
            is_tampered_with: [Trouble::Lost, Trouble::Meddled]
                .into_iter()
                .any(|which| core.counters.is_troubled(which)),
        }
    }

    fn forgive<T>(&self, outcome: Result<T, NotRecorded>, instead: T) -> Result<T, NotRecorded> {
        match outcome {
            Err(_) if self.mode != Mode::Required => Ok(instead),
            outcome => outcome,
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.finish();
    }
}

fn events_of(attempts: &[(u64, Attempt)]) -> Vec<Event> {
    attempts.iter().map(|(_, attempt)| attempt.event()).collect()
}

thread_local! {
    /// Whether this thread is giving answers, one of which may ask for the next line: that is not begun
    /// within the other, or a long export would take a long stack.
    static ANSWERING: Cell<bool> = const { Cell::new(false) };
}

impl Core {
    /// Counts a decision; or gives the hash by which it is known once it has a line. While no line can be
    /// written nothing is counted either.
    fn admit(&self, attempt: &Attempt) -> Option<u64> {
        // A line of a count must not use the reserve for denials.
        let is_left_out = attempt.error.is_some() && self.counters.is_troubled(Trouble::Room);
        let may_count = !self.counters.is_troubled(Trouble::Write) && !is_left_out;
        match self.counter.admit(attempt, may_count) {
            Admission::Counted => None,
            Admission::Write(hash) => Some(hash),
        }
    }

    /// Those that need a line.
    fn admit_all(&self, attempts: Vec<Attempt>) -> Vec<(u64, Attempt)> {
        let new = attempts.into_iter().filter_map(|one| Some((self.admit(&one)?, one)));
        new.collect()
    }

    fn written(&self, attempts: Vec<(u64, Attempt)>) {
        attempts.into_iter().for_each(|(hash, attempt)| self.counter.written(hash, attempt));
    }

    /// Writes the lines of what was counted, and waits for it.
    fn write_counts(&self) {
        let mut events = self.counter.take().into_iter();
        loop {
            let some: Vec<_> = events.by_ref().take(COUNTS_AT_ONCE).collect();
            if some.is_empty() {
                return;
            }
            let (tell, told) = sync_channel(1);
            let then = move |outcome: Result<u64, NotRecorded>| {
                // Who asked waits just below.
                let _ = tell.send(outcome.is_ok());
            };
            self.submit(Item::Lines(Events::Many(some), Box::new(then)));
            // Counts that are not written are taken again.
            if !told.recv().unwrap_or(false) {
                return;
            }
        }
    }

    fn submit(&self, item: Item) {
        let mut queue = self.queue.lock();
        let count = item.events().len();
        if queue.waiting.len() >= WAITING
            && let Item::Lines(_, then) = item
        {
            drop(queue);
            return then(Err(self.fail(count, "more events wait for the disk than fit")));
        }
        queue.waiting.push(item);
        // Whoever is answering looks at the queue again.
        if ANSWERING.get() {
            return;
        }
        while !queue.waiting.is_empty()
            && let Some(mut log) = queue.log.take()
        {
            let spare = std::mem::take(&mut queue.spare);
            let mut items = std::mem::replace(&mut queue.waiting, spare);
            drop(queue);
            let answers = self.work_off(&mut log, &mut items);
            // What a burst needed is given back.
            items.shrink_to(GROUP);
            // The log first: an answer takes as long as a line, and others need not wait for it.
            queue = self.queue.lock();
            (queue.log, queue.spare) = (Some(log), items);
            drop(queue);
            ANSWERING.set(true);
            answers.tell();
            ANSWERING.set(false);
            queue = self.queue.lock();
        }
    }

    /// Leaves nothing of `items`.
    fn work_off(&self, log: &mut Log, items: &mut Vec<Item>) -> Answers {
        let mut answers = Answers::default();
        let mut rest = items.drain(..);
        loop {
            match rest.as_slice().first() {
                Some(Item::Lines(..)) => {
                    self.append(log, &mut rest, &mut answers);
                    continue;
                }
                Some(Item::Rotate) => self.tell(Trouble::Write, log.rotate()),
                Some(Item::Key(key)) => log.set_key(key.clone()),
                Some(Item::Room) => {
                    self.has_room(log);
                }
                Some(Item::Settle) => {
                    self.tell(Trouble::Head, log.write_head().and_then(|()| log.sync_head()));
                }
                None => return answers,
            }
            rest.next();
        }
    }

    /// Appends the lines that come next, as far as they make a group.
    fn append(&self, log: &mut Log, rest: &mut Drain<'_, Item>, answers: &mut Answers) {
        let has_room = self.has_room(log);
        let mut count = 0;
        let is_of_group = |item: &&Item| {
            let fits = count < GROUP
                && matches!(item, Item::Lines(..))
                && (has_room || log.admits(item.events()));
            count += if fits { item.events().len() } else { 0 };
            fits
        };
        let items = rest.as_slice().iter().take_while(is_of_group).count();
        if items == 0 {
            return rest.by_ref().take(1).for_each(|item| {
                let outcome = self.leave_out(item.events());
                answers.add(item, outcome);
            });
        }
        match log.append(rest.as_slice()[..items].iter().flat_map(Item::events)) {
            Ok(appended) => {
                self.counters.lines.fetch_add(count as u64, Ordering::Relaxed);
                self.counters.well(Trouble::Write);
                self.tell(Trouble::Head, appended.head);
                if let Some(copy) = &self.copy {
                    log.appended_lines().for_each(|line| copy.send(line));
                }
                let mut seq = appended.first;
                for item in rest.by_ref().take(items) {
                    let events = item.events().len() as u64;
                    answers.add(item, Ok(seq));
                    seq += events;
                }
            }
            Err(error) => {
                let failed = self.fail(count, &error.to_string());
                rest.by_ref().take(items).for_each(|item| answers.add(item, Err(failed.clone())));
            }
        }
    }

    /// Looks whether the disk has more room than the reserve, and tells if not.
    fn has_room(&self, log: &mut Log) -> bool {
        match log.has_room() {
            Ok(true) => {
                self.counters.well(Trouble::Room);
                true
            }
            Ok(false) => {
                let what = "the disk is full: the audit log uses its reserve, which is kept for those who read or remove secrets, and every other change is refused; free some space in the file system of the state directory";
                self.counters.trouble(Trouble::Room, what.to_owned());
                false
            }
            // Writing tells what is wrong.
            Err(_) => true,
        }
    }

    /// What becomes of events for which there is no line. Those of callers who get nothing are missing in
    /// the log, which is counted; others may not happen.
    fn leave_out(&self, events: &[Event]) -> Result<u64, NotRecorded> {
        self.counters.failures.fetch_add(events.len() as u64, Ordering::Relaxed);
        let get_nothing = events.iter().all(|event| event.standing() == Standing::Refused);
        if get_nothing { Ok(0) } else { Err(NotRecorded::Full) }
    }

    fn fail(&self, count: usize, why: &str) -> NotRecorded {
        self.counters.failures.fetch_add(count as u64, Ordering::Relaxed);
        let effect = match self.mode {
            Mode::Required => "every operation on secrets fails until it can",
            Mode::BestEffort | Mode::Off => "lines are missing",
        };
        let what = format!("the audit log cannot be written: {why}; {effect}");
        self.counters.trouble(Trouble::Write, what);
        NotRecorded::Failed(why.to_owned())
    }

    fn sync(&self) -> io::Result<Anchor> {
        let outcome = self.progress.sync();
        let told = outcome.as_ref().map(|_| ()).map_err(|error| io::Error::from(error.kind()));
        self.tell(Trouble::Sync, told);
        outcome
    }

    /// Whoever cuts off or removes the file that is being written is found out at once.
    fn look_for_meddling(&self, directory: &Path, anchor: Anchor, place: Place) {
        if place.size == 0 {
            return;
        }
        let Some(newest) = self.progress.newest() else { return };
        let there = std::fs::metadata(files::path_of(directory, place.file)).and_then(|there| {
            // Another file of that name is as bad as none.
            let ours = newest.metadata()?;
            let is_ours = (there.dev(), there.ino()) == (ours.dev(), ours.ino());
            // It may have been cut off and have grown again since.
            Ok(is_ours && there.len() >= place.size && read::ends_with(directory, place, anchor)?)
        });
        if !there.unwrap_or(false) && self.progress.place().file == place.file {
            let what = format!(
                "{} was cut off, replaced or removed by somebody else (logrotate must not touch it); see `secretfs audit verify`",
                files::path_of(directory, place.file).display()
            );
            self.counters.trouble(Trouble::Meddled, what);
        }
    }

    fn tell(&self, which: Trouble, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.counters.well(which),
            Err(error) => {
                let what = match which {
                    Trouble::Head => "the head of the audit log cannot be written",
                    Trouble::Sync => "the audit log cannot be brought to the disk",
                    Trouble::Remove => "old files of the audit log cannot be removed",
                    _ => "the audit log cannot be written",
                };
                self.counters.trouble(which, format!("{what}: {error}"));
            }
        }
    }
}

fn start_event() -> Event {
    Event::own("start", |out| {
        json::text!(out, "daemon", env!("CARGO_PKG_VERSION"));
        json::number!(out, "pid", std::process::id());
    })
}

/// Starts the thread that brings lines to the disk; it ends, after a last time, when the sender is
/// dropped. Nobody waits for it.
fn start_syncing(core: Arc<Core>, directory: PathBuf) -> io::Result<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = channel();
    let thread = std::thread::Builder::new().name("audit-sync".to_owned()).spawn(move || {
        let mut named = Place::default();
        loop {
            let over = stopped.recv_timeout(SYNC_EVERY) == Err(RecvTimeoutError::Disconnected);
            core.write_counts();
            let (anchor, place) = core.progress.end();
            if core.progress.is_behind() && core.sync().is_ok() {
                core.submit(Item::Settle);
            }
            if place.file != named.file {
                core.tell(Trouble::Remove, files::remove_before(&directory, place.first));
                named = place;
            }
            core.look_for_meddling(&directory, anchor, place);
            if core.counters.is_troubled(Trouble::Room) {
                core.submit(Item::Room);
            }
            if over {
                return;
            }
        }
    })?;
    Ok((stop, thread))
}
