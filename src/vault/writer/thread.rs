//! The thread that writes: it plans requests, one after the other, and stores them in groups.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::reply_cache::ReplyCache;
use super::staging::{Journal, Pending};
use super::transaction::{Change, Touched, Transaction, publish, publish_together};
use crate::audit::{Action, Anchor, Subject};
use crate::model::Grant;
use crate::store::{Batch, StoreError};
use crate::telemetry::{Part, Telemetry};
use crate::vault::Shared;
use crate::vault::audit::AuditContext;
use crate::vault::error::VaultError;
use crate::vault::integrity::Integrity;
use crate::vault::open::memory;
use crate::vault::quota::Usages;
use crate::vault::records::secret::Secret;

use super::Request;
use super::replicate::{Conflict, Unshared};

/// A group is closed when it holds this many requests.
const GROUP_REQUESTS: usize = 256;
/// A group is closed when its batch is larger than this, in bytes.
const GROUP_BYTES: usize = 4 << 20;
/// How long the store stays idle before garbage is removed on its own account.
const IDLE: Duration = Duration::from_millis(200);
/// After what time a head that could not be put in its place is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often the end of the audit log is recorded in the store, if no change does that.
const ANCHOR_EVERY: Duration = Duration::from_secs(10);

/// A planned request, waiting for its group to be stored.
pub(super) struct Planned {
    pub(super) request: Request,
    pub(super) changes: Vec<Change>,
    pub(super) kept: Option<Change>,
    pub(super) subjects: Vec<Subject>,
    pub(super) grants: Vec<Option<Grant>>,
    /// The numbers of its lines in the audit log, once they are there.
    pub(super) recorded: Option<Vec<u64>>,
    pub(super) journal: Option<Journal>,
    /// Until when it is tried again after another host was quicker.
    pub(super) until: Option<Instant>,
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) reply_cache: ReplyCache,
    /// The sum as it is stored.
    integrity: Integrity,
    /// Requests that wait for the group before theirs, in the order of their arrival.
    pub(super) deferred: VecDeque<Request>,
    /// What large changes have still to put in its places.
    pub(super) pending: Pending,
    /// Those for whom another host was quicker, until what it did is here.
    pub(super) conflicts: Conflict,
    /// The end of the audit log as recorded in the store, and when it is recorded again.
    anchored: Anchor,
    next_anchor: Instant,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        reply_cache: ReplyCache,
        anchored: Anchor,
        integrity: Integrity,
    ) -> Self {
        Self {
            anchored,
            next_anchor: Instant::now(),
            shared,
            reply_cache,
            integrity,
            deferred: VecDeque::new(),
            pending: Pending::default(),
            conflicts: Conflict::default(),
        }
    }

    pub(super) fn run(mut self, incoming: &Receiver<Request>) {
        let mut idle = IDLE;
        loop {
            self.try_conflicts_again();
            if self.deferred.is_empty() {
                match incoming.recv_timeout(self.conflicts.patience(idle)) {
                    Ok(request) => self.deferred.push_back(request),
                    Err(RecvTimeoutError::Timeout) if self.is_done() => {
                        match incoming.recv_timeout(self.until_anchor()) {
                            Ok(request) => self.deferred.push_back(request),
                            Err(RecvTimeoutError::Timeout) => {
                                self.anchor();
                                continue;
                            }
                            Err(RecvTimeoutError::Disconnected) => break,
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        if self.pending.is_empty() {
                            self.remove_garbage();
                        }
                        idle = self.tidy();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            self.deferred.extend(incoming.try_iter().take(GROUP_REQUESTS));
            self.commit_group();
            idle = self.tidy();
            if self.until_anchor().is_zero() {
                self.anchor();
            }
        }
        self.shared.audit.finish();
        self.anchor();
    }

    fn until_anchor(&self) -> Duration {
        self.next_anchor.saturating_duration_since(Instant::now())
    }

    /// Has the store remember how far the audit log goes, so that its end cannot be cut off together with
    /// the head.
    fn anchor(&mut self) {
        self.next_anchor = Instant::now() + ANCHOR_EVERY;
        // A log that cannot be synced is reported by its own status.
        let Ok(Some(anchor)) = self.shared.audit.sync() else { return };
        let mut batch = Batch::default();
        let Some(anchor) = self.put_anchor(&mut batch, Some(anchor)) else { return };
        match self.commit(&batch) {
            Ok(()) => self.anchored = anchor,
            Err(error) => {
                tracing::warn!(%error, "the store does not know yet how far the audit log goes");
            }
        }
    }

    /// Adds it to a batch, if the store does not know of so many lines yet.
    fn put_anchor(&self, batch: &mut Batch, anchor: Option<Anchor>) -> Option<Anchor> {
        let known = self.anchored;
        let is_new = |anchor: &Anchor| {
            anchor.seq > known.seq || anchor.seq == known.seq && known.hash.is_none()
        };
        let anchor = anchor.filter(|anchor| anchor.seq > 0 && is_new(anchor))?;
        self.shared.records.put_audit_anchor(batch, anchor);
        Some(anchor)
    }

    /// Whether nothing is left to do but requests.
    fn is_done(&self) -> bool {
        self.pending.is_empty() && self.conflicts.is_empty() && self.shared.garbage.is_empty()
    }

    /// Does a piece of what is left, and gives the time to wait for requests before the next.
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
        let mut usages = Usages::default();
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
            } else if let Err(error) = self
                .check_room(&request)
                .and_then(|()| self.check_limits(&request, &transaction, &mut usages))
            {
                transaction.abandon();
                self.refuse(request, error);
            } else {
                touched.extend(std::mem::take(&mut transaction.touched));
                batch.append(std::mem::take(&mut transaction.batch));
                let Transaction { changes, kept, subjects, grants, journal, .. } = transaction;
                self.reply_cache.add(&self.shared.records, &mut batch, request.origin, &changes);
                let recorded = None;
                let until = None;
                group.push(Planned {
                    request,
                    changes,
                    kept,
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

    /// Whether a request may use what is left of the disk. Removals and what admins do always may.
    fn check_room(&self, request: &Request) -> Result<(), VaultError> {
        let may_always = |context: &AuditContext| {
            context.action == Action::Delete || context.actor.caller.is_admin()
        };
        match request.context.as_ref().is_none_or(may_always) || self.shared.audit.has_room() {
            true => Ok(()),
            false => Err(StoreError::Full.into()),
        }
    }

    /// Whether the caller's namespaces may take what a plan adds to them; adds that to `group` then.
    fn check_limits(
        &self,
        request: &Request,
        transaction: &Transaction<'_>,
        group: &mut Usages,
    ) -> Result<(), VaultError> {
        if transaction.changes.is_empty() || request.foreign {
            return Ok(());
        }
        let caller = request.context.as_ref().map(|context| &context.actor.caller);
        let is_limited = caller.is_some_and(|caller| !caller.is_admin());
        // Nothing shares its group, so that nothing is compared with it.
        if !is_limited && request.alone {
            return Ok(());
        }
        let usages = Usages::of_changes(transaction.changes.iter());
        caller.map_or(Ok(()), |caller| self.shared.check_limits(caller, &usages, group))?;
        group.extend(usages);
        Ok(())
    }

    fn store(&mut self, mut batch: Batch, mut group: Vec<Planned>) {
        if let Err(error) = self.record(&mut group) {
            self.correct(&group, &error.clone().into());
            return self.fail(group, || error.clone().into());
        }
        if batch.is_empty() {
            return finish(group);
        }
        // The line of a change is on the disk before the change is.
        let anchor = match self.shared.audit.sync() {
            Ok(anchor) => self.put_anchor(&mut batch, anchor),
            Err(error) => {
                self.correct(&group, &error.clone().into());
                return self.fail(group, || error.clone().into());
            }
        };
        let integrity = self.integrity.after(changes_of(&group));
        if integrity.changes > self.integrity.changes {
            integrity.put(&self.shared.records, &mut batch);
        }
        if let Err(error) = self.settle_what_changes(&group) {
            self.correct(&group, &error.clone().into());
            return self.fail(group, || error.clone().into());
        }
        let shared = match self.share(&mut batch, &group) {
            Ok(shared) => shared,
            Err(Unshared::Apart) => return group.into_iter().for_each(|one| self.store_alone(one)),
            Err(Unshared::Busy) => {
                return group.into_iter().for_each(|one| self.conflicts.add_waiting(one));
            }
            Err(Unshared::Conflict(at)) => {
                return group.into_iter().for_each(|one| self.conflicts.add(at, one));
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
        if changes_of(&group).all(|change| change.after.is_none()) {
            batch.use_reserve();
        }
        match self.commit(&batch) {
            Ok(()) => {
                self.anchored = anchor.unwrap_or(self.anchored);
                self.shared.stored_changes.store(integrity.changes, Ordering::Relaxed);
                self.integrity = integrity;
                self.count_versions(&group);
                self.hold_superseded(&group);
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

    /// Stores a batch, and reports the outcome to health and metrics.
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

    /// What is superseded counts against its namespace as long as a handle has it open.
    fn hold_superseded(&self, group: &[Planned]) {
        let changes = changes_of(group).filter(|change| change.supersedes());
        let before = changes.filter_map(|change| change.before.as_ref());
        before.for_each(|secret| self.shared.garbage.hold(secret.key(), secret.value()));
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
    pub(super) fn store_alone(&mut self, one: Planned) {
        let mut transaction = Transaction::new(&self.shared);
        let planned = (one.request.plan)(&mut transaction).and_then(|()| {
            let checked = self.check_limits(&one.request, &transaction, &mut Usages::default());
            checked.inspect_err(|_| transaction.abandon())
        });
        match planned {
            Err(error) => {
                self.correct(std::slice::from_ref(&one), &error);
                (one.request.done)(Err(error));
            }
            Ok(()) => {
                let Transaction { mut batch, changes, kept, grants, journal, .. } = transaction;
                self.reply_cache.add(
                    &self.shared.records,
                    &mut batch,
                    one.request.origin,
                    &changes,
                );
                self.store(batch, vec![Planned { changes, kept, grants, journal, ..one }]);
            }
        }
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

fn changes_of(group: &[Planned]) -> impl Iterator<Item = &Change> {
    group.iter().flat_map(|one| &one.changes)
}

fn conflicts(ours: &HashSet<Touched>, theirs: &HashSet<Touched>) -> bool {
    !theirs.is_empty() && ours.iter().any(|touched| touched.conflicts_with(theirs))
}

fn finish(group: Vec<Planned>) {
    for one in group {
        let changes = one.changes.into_iter().chain(one.kept).collect();
        (one.request.done)(Ok(changes));
    }
}
