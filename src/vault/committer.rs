//! The one writer: plans of many callers become one durable batch.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::audit::{Event, NotRecorded, Subject};
use crate::model::Grant;
use crate::store::{Batch, StoreError};
use crate::telemetry::{Part, Telemetry};

use super::error::VaultError;
use super::journal::{Journal, Pending};
use super::receipts::{Origin, Receipts};
use super::secret::Secret;
use super::trail::{Ask, imported};
use super::transaction::{Change, Touched, Transaction, publish, publish_together};
use super::{Shared, memory};

mod sharing;

use sharing::{Overtaken, Unshared};

/// Called on the writer thread with what changed, once that is durable and visible. It must not
/// block: every other writer waits behind it.
pub type Done = Box<dyn FnOnce(Result<Vec<Change>, VaultError>) + Send>;

/// Decides, on the writer thread, what a request changes. It may run more than once: when the first
/// attempt touches what an earlier request of the same group changes, it is made again after it.
pub(super) type Plan = Box<dyn Fn(&mut Transaction<'_>) -> Result<(), VaultError> + Send>;

/// A group is closed when it holds this many requests.
const GROUP_REQUESTS: usize = 256;
/// A group is closed when its batch is larger than this, in bytes.
const GROUP_BYTES: usize = 4 << 20;
/// So many lines are put on record at once: whoever else waits for the log waits for no more.
const LINES_AT_ONCE: usize = 256;
/// How long the store stays idle before garbage is removed on its own account.
const IDLE: Duration = Duration::from_millis(200);
/// After what time a head that could not be put in its place is tried again.
const RETRY: Duration = Duration::from_secs(1);

struct Request {
    /// Who asked; nobody where the daemon works on its own account, which is not recorded.
    ask: Option<Ask>,
    /// The request of the mount that asked, for its receipt.
    origin: Option<Origin>,
    plan: Plan,
    done: Done,
    /// It shares its group with nobody.
    alone: bool,
    /// Another host did it: it is stored here alone.
    foreign: bool,
}

/// A planned request, waiting for its group to be stored.
struct Planned {
    request: Request,
    changes: Vec<Change>,
    subjects: Vec<Subject>,
    grants: Vec<Option<Grant>>,
    /// The numbers of its lines in the audit log, once they are there.
    recorded: Option<Vec<u64>>,
    journal: Option<Journal>,
    /// Until when it is tried again after another host was quicker.
    until: Option<Instant>,
}

impl Planned {
    /// What goes on record: a line each, without the first `passed`.
    fn lines(&self, passed: usize) -> impl Iterator<Item = Cow<'_, Subject>> {
        let changes = self.changes.iter().zip(&self.grants);
        let changes = changes.skip(passed.saturating_sub(self.subjects.len()));
        let made = changes.map(|(change, grant)| Cow::Owned(imported(change, grant.as_ref())));
        self.subjects.iter().skip(passed).map(Cow::Borrowed).chain(made)
    }
}

/// The handle on the writer thread; dropping it finishes what was handed in and ends the thread.
pub(super) struct Committer {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(super) fn start(shared: Arc<Shared>, receipts: Receipts) -> io::Result<Self> {
        let (requests, incoming) = channel();
        let thread = std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || Writer::new(shared, receipts).run(&incoming))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Hands in what nobody outside asked for.
    pub(super) fn submit(&self, plan: Plan, done: Done) {
        submit(
            self.requests(),
            Request { ask: None, origin: None, plan, done, alone: false, foreign: false },
        );
    }

    /// Hands in what a caller asked for: it goes on record, and its request gets a receipt.
    pub(super) fn submit_for(&self, ask: Ask, origin: Option<Origin>, plan: Plan, done: Done) {
        submit(
            self.requests(),
            Request { ask: Some(ask), origin, plan, done, alone: false, foreign: false },
        );
    }

    /// As [`Committer::submit_for`], for a plan that touches so much that it shares no group: it
    /// need not tell what it touches, and it runs once.
    pub(super) fn submit_alone(&self, ask: Ask, plan: Plan, done: Done) {
        submit(
            self.requests(),
            Request { ask: Some(ask), origin: None, plan, done, alone: true, foreign: false },
        );
    }

    /// For a thread that goes on handing in. It must end before this is dropped.
    pub(super) fn submitter(&self) -> Submitter {
        Submitter(self.requests().clone())
    }

    fn requests(&self) -> &Sender<Request> {
        self.requests.as_ref().expect("present until drop")
    }
}

/// Hands in requests from another thread.
pub(super) struct Submitter(Sender<Request>);

impl Submitter {
    pub(super) fn submit(&self, plan: Plan, done: Done) {
        submit(
            &self.0,
            Request { ask: None, origin: None, plan, done, alone: false, foreign: false },
        );
    }

    /// Hands in what another host did.
    pub(super) fn submit_foreign(&self, plan: Plan, done: Done) {
        submit(
            &self.0,
            Request { ask: None, origin: None, plan, done, alone: true, foreign: true },
        );
    }
}

fn submit(requests: &Sender<Request>, request: Request) {
    if let Err(refused) = requests.send(request) {
        (refused.0.done)(Err(VaultError::Stopping));
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // The thread's panic has aborted the process already, or a test reports it.
            let _ = thread.join();
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    receipts: Receipts,
    /// Requests that wait for the group before theirs, in the order of their arrival.
    deferred: VecDeque<Request>,
    /// What large changes have still to put in its places.
    pending: Pending,
    /// Those for whom another host was quicker, until what it did is here.
    overtaken: Overtaken,
}

impl Writer {
    fn new(shared: Arc<Shared>, receipts: Receipts) -> Self {
        Self {
            shared,
            receipts,
            deferred: VecDeque::new(),
            pending: Pending::default(),
            overtaken: Overtaken::default(),
        }
    }

    fn run(mut self, incoming: &Receiver<Request>) {
        let mut idle = IDLE;
        loop {
            self.try_overtaken_again();
            if self.deferred.is_empty() {
                match incoming.recv_timeout(self.overtaken.patience(idle)) {
                    Ok(request) => self.deferred.push_back(request),
                    Err(RecvTimeoutError::Timeout) if self.is_done() => match incoming.recv() {
                        Ok(request) => self.deferred.push_back(request),
                        Err(_) => return,
                    },
                    Err(RecvTimeoutError::Timeout) => {
                        if self.pending.is_empty() {
                            self.remove_garbage();
                        }
                        idle = self.tidy();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            self.deferred.extend(incoming.try_iter().take(GROUP_REQUESTS));
            self.commit_group();
            idle = self.tidy();
        }
    }

    /// Whether nothing is left to do but requests.
    fn is_done(&self) -> bool {
        self.pending.is_empty() && self.overtaken.is_empty() && self.shared.garbage.is_empty()
    }

    /// Does a piece of what is left, and tells how long to wait for requests before the next.
    fn tidy(&mut self) -> Duration {
        self.shared.settling.store(!self.pending.is_empty(), Ordering::Relaxed);
        if self.pending.is_empty() {
            return IDLE;
        }
        match self.pending.settle_one(&self.shared.records) {
            Ok(()) => {
                if self.pending.is_empty() {
                    memory::give_back();
                }
                Duration::ZERO
            }
            Err(error) => {
                tracing::warn!(%error, "a large change is stored and valid, but not in its place");
                RETRY
            }
        }
    }

    fn commit_group(&mut self) {
        let mut batch = Batch::default();
        let mut touched = HashSet::new();
        let mut group: Vec<Planned> = Vec::new();
        let mut later = VecDeque::new();
        let mut closed = false;
        while let Some(request) = self.deferred.pop_front() {
            closed |= group.len() >= GROUP_REQUESTS || batch.bytes() >= GROUP_BYTES;
            closed |= request.alone && !group.is_empty();
            if closed {
                later.push_back(request);
                continue;
            }
            closed = request.alone;
            let mut transaction = Transaction::new(&self.shared);
            if let Err(error) = (request.plan)(&mut transaction) {
                self.refuse(request, error);
            } else if conflicts(&transaction.touched, &touched) {
                // Whatever comes later and touches the same must stay behind it.
                touched.extend(transaction.touched);
                later.push_back(request);
            } else {
                touched.extend(std::mem::take(&mut transaction.touched));
                batch.append(std::mem::take(&mut transaction.batch));
                let Transaction { changes, subjects, grants, journal, .. } = transaction;
                self.receipts.add(&self.shared.records, &mut batch, request.origin, &changes);
                let recorded = None;
                let until = None;
                group.push(Planned {
                    request,
                    changes,
                    subjects,
                    grants,
                    recorded,
                    journal,
                    until,
                });
            }
        }
        self.deferred = later;
        self.store(batch, group);
    }

    fn store(&mut self, mut batch: Batch, mut group: Vec<Planned>) {
        let anchor = match self.record(&mut group) {
            Ok(anchor) => anchor,
            Err(error) => {
                self.correct(&group, &error.clone().into());
                return self.fail(group, || error.clone().into());
            }
        };
        if batch.is_empty() {
            return finish(group);
        }
        // The line of a change is on the disk before the change is.
        if let Err(error) = self.shared.audit.sync() {
            self.correct(&group, &error.clone().into());
            return self.fail(group, || error.clone().into());
        }
        if anchor > 0 {
            self.shared.records.put_audit_anchor(&mut batch, anchor);
        }
        if let Err(error) = self.settle_what_changes(&group) {
            self.correct(&group, &error.clone().into());
            return self.fail(group, || error.clone().into());
        }
        let shared = match self.share(&mut batch, &group) {
            Ok(shared) => shared,
            Err(Unshared::Apart) => return group.into_iter().for_each(|one| self.store_alone(one)),
            Err(Unshared::Busy) => {
                return group.into_iter().for_each(|one| self.overtaken.add_waiting(one));
            }
            Err(Unshared::Overtaken(at)) => {
                return group.into_iter().for_each(|one| self.overtaken.add(at, one));
            }
            Err(Unshared::Unfit(error)) => {
                self.correct(&group, &error);
                if let Some(one) = group.pop() {
                    self.refuse_planned(one, error);
                }
                return;
            }
            Err(Unshared::Failed(error)) => {
                self.correct(&group, &error.clone().into());
                return self.fail(group, || error.clone().into());
            }
        };
        let garbage = self.shared.garbage.take_into(&mut batch);
        match self.commit(&batch) {
            Ok(()) => {
                self.count_versions(&group);
                match &group[..] {
                    [one] if one.request.foreign => {
                        publish_together(&mut self.shared.index.write(), &one.changes);
                    }
                    _ => {
                        let changes = group.iter().flat_map(|one| &one.changes);
                        publish(&mut self.shared.index.write(), changes);
                    }
                }
                self.shared_is_stored(shared);
                let journals = group.iter_mut().filter_map(|one| one.journal.take());
                journals.for_each(|journal| self.pending.add(journal));
                finish(group);
            }
            // What is shared is done: it comes again from there once there is room.
            Err(StoreError::Full) if group.len() > 1 && shared.is_none() => {
                // One large value must not fail its neighbours: each tries on its own.
                self.shared.garbage.give_back(garbage);
                for one in group.drain(..) {
                    self.store_alone(one);
                }
            }
            Err(error) => {
                self.shared.garbage.give_back(garbage);
                self.correct(&group, &error.clone().into());
                self.fail(group, || error.clone().into());
            }
        }
    }

    /// Stores a batch, and tells how that went.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let Telemetry { metrics, health, .. } = &*self.shared.telemetry;
        let started = Instant::now();
        let outcome = self.shared.records.commit(batch);
        metrics.store_commit.record(started.elapsed());
        if outcome.is_err() {
            metrics.store_failures.increment();
        }
        health.report(Part::Store, outcome.as_ref().copied());
        outcome
    }

    fn count_versions(&self, group: &[Planned]) {
        let node = |secret: &Option<Arc<Secret>>| secret.as_ref().map(|one| one.value().node());
        for change in group.iter().flat_map(|one| &one.changes) {
            if change.after.is_some() && node(&change.after) != node(&change.before) {
                self.shared.telemetry.metrics.versions.increment();
            }
        }
    }

    /// A request whose group did not fit; what it does is on record already.
    fn store_alone(&mut self, one: Planned) {
        let mut transaction = Transaction::new(&self.shared);
        match (one.request.plan)(&mut transaction) {
            Err(error) => {
                self.correct(std::slice::from_ref(&one), &error);
                (one.request.done)(Err(error));
            }
            Ok(()) => {
                let Transaction { mut batch, changes, grants, journal, .. } = transaction;
                self.receipts.add(&self.shared.records, &mut batch, one.request.origin, &changes);
                self.store(batch, vec![Planned { changes, grants, journal, ..one }]);
            }
        }
    }

    /// Puts on record what a group is about to do. Gives the number of its last line, 0 for none. If
    /// it fails, some lines may be there.
    fn record(&self, group: &mut [Planned]) -> Result<u64, NotRecorded> {
        if !self.shared.audit.is_on() {
            return Ok(0);
        }
        let (mut events, mut whose) = (Vec::new(), Vec::new());
        for at in 0..group.len() {
            if group[at].recorded.is_some() {
                continue;
            }
            group[at].recorded = Some(Vec::new());
            let mut next = 0;
            loop {
                let one = &group[at];
                let room = LINES_AT_ONCE - events.len();
                let lines = one.request.ask.iter().flat_map(|ask| {
                    one.lines(next).take(room).map(|subject| ask.allowed(&subject))
                });
                let before = events.len();
                events.extend(lines);
                next += events.len() - before;
                whose.resize(events.len(), at);
                if events.len() < LINES_AT_ONCE {
                    break;
                }
                self.record_some(group, &mut events, &mut whose)?;
            }
        }
        self.record_some(group, &mut events, &mut whose)?;
        let numbers = group.iter().flat_map(|one| &one.recorded).flatten();
        Ok(numbers.max().copied().unwrap_or(0))
    }

    /// Puts events on record, each of the request of that number in the group.
    fn record_some(
        &self,
        group: &mut [Planned],
        events: &mut Vec<Event>,
        whose: &mut Vec<usize>,
    ) -> Result<(), NotRecorded> {
        let first = self.shared.audit.record_now(std::mem::take(events))?;
        for (number, at) in (first..).zip(whose.drain(..)) {
            // In `best-effort` there may be no lines.
            if first > 0 {
                group[at].recorded.get_or_insert_default().push(number);
            }
        }
        Ok(())
    }

    /// Puts on record that what is on record did not happen.
    fn correct(&self, group: &[Planned], error: &VaultError) {
        let code = (self.shared.name_error)(error);
        let lines = group.iter().flat_map(|one| {
            let numbers = one.recorded.iter().flatten();
            one.request.ask.iter().flat_map(move |ask| {
                numbers
                    .clone()
                    .zip(one.lines(0))
                    .map(move |(&number, subject)| (ask, number, subject))
            })
        });
        let mut events = lines.map(|(ask, number, subject)| {
            Event::new(&ask.actor, ask.action, &subject, Err(&code)).correcting(number)
        });
        loop {
            let some: Vec<_> = events.by_ref().take(LINES_AT_ONCE).collect();
            // It fails in any case; that the log cannot be written is told by its own status.
            if some.is_empty() || self.shared.audit.record_now(some).is_err() {
                return;
            }
        }
    }

    /// Answers a request that cannot be planned.
    fn refuse(&self, request: Request, error: VaultError) {
        let code = (self.shared.name_error)(&error);
        let event = request.ask.as_ref().and_then(|ask| ask.failed(&error, &code));
        let recorded = self.shared.audit.record_now(event.into_iter().collect());
        (request.done)(Err(recorded.map_or_else(VaultError::from, |_| error)));
    }

    fn fail(&self, group: Vec<Planned>, error: impl Fn() -> VaultError) {
        for one in group {
            one.journal.into_iter().for_each(|journal| journal.abandon(&self.shared.records));
            (one.request.done)(Err(error()));
        }
    }

    /// Heads that are still on their way must not arrive after the newer ones of this group.
    fn settle_what_changes(&mut self, group: &[Planned]) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let changes = group.iter().flat_map(|one| &one.changes);
        let mut before = changes.filter_map(|change| change.before.as_ref());
        before.try_for_each(|secret| {
            self.pending.settle_record(&self.shared.records, secret.record())
        })
    }

    fn remove_garbage(&mut self) {
        let mut batch = Batch::default();
        let garbage = self.shared.garbage.take_into(&mut batch);
        if let Err(error) = self.commit(&batch) {
            tracing::warn!(%error, "values that were replaced are still stored; they are removed at the next start");
            drop(garbage);
        }
    }
}

fn conflicts(ours: &HashSet<Touched>, theirs: &HashSet<Touched>) -> bool {
    !theirs.is_empty() && ours.iter().any(|touched| touched.conflicts_with(theirs))
}

fn finish(group: Vec<Planned>) {
    for one in group {
        (one.request.done)(Ok(one.changes));
    }
}
