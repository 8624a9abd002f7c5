//! The writer's part in a store that many hosts share: what holds there first, holds here.

use std::time::{Duration, Instant};

use super::transaction::Change;
use crate::store::Batch;
use crate::vault::error::VaultError;
use crate::vault::replica::{ReplicaError, Sending, Sent, is_current};

use super::thread::{Planned, Writer};

/// How long a request waits for what another host did, or for the end of a large change, before it
/// fails. What is about the same secret ends the wait; the rest comes soon, unless a host is busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether that is here.
const LOOK: Duration = Duration::from_millis(2);

/// A group that holds in the shared store and is not stored here yet.
pub(super) struct Shared {
    sending: Sending,
    revision: u64,
}

/// Why a group does not hold in the shared store.
pub(super) enum Unshared {
    /// Some of it may: each is to try on its own.
    Apart,
    /// A large change of another host is on its way.
    Busy,
    /// Another host was quicker; see [`Sent::Conflict`].
    Conflict(u64),
    /// The one request of the group cannot be sent.
    Unfit(VaultError),
    /// The shared store failed.
    Failed(ReplicaError),
}

/// Requests for whom another host was quicker. What it did may be about something else: then they
/// are tried again.
#[derive(Default)]
pub(super) struct Conflict(Vec<(u64, Planned)>);

impl Conflict {
    pub(super) fn add(&mut self, revision: u64, one: Planned) {
        let until = one.until.unwrap_or_else(|| Instant::now() + PATIENCE);
        self.0.push((revision, Planned { until: Some(until), ..one }));
    }

    /// Adds one that waits for the end of a large change.
    pub(super) fn add_waiting(&mut self, one: Planned) {
        self.add(0, one);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How long to wait for other requests.
    pub(super) fn patience(&self, idle: Duration) -> Duration {
        if self.is_empty() { idle } else { LOOK.min(idle) }
    }
}

impl Writer {
    /// Makes the group's changes hold on every host; nothing if the store is this host's alone, or
    /// there is nothing to share. Adds to `batch` what is to be stored with them.
    pub(super) fn share(
        &self,
        batch: &mut Batch,
        group: &[Planned],
    ) -> Result<Option<Shared>, Unshared> {
        let Some(replica) = &self.shared.replica else { return Ok(None) };
        let changes = || group.iter().flat_map(|one| &one.changes);
        if group.iter().any(|one| one.request.foreign) || changes().next().is_none() {
            return Ok(None);
        }
        let apart = group.len() > 1;
        let asked = group.iter().filter_map(|one| one.request.origin);
        let asked = asked.map(|origin| (origin.mount, origin.unique)).collect();
        let sending = match replica.plan(&self.shared.records, changes(), batch, asked) {
            Err(_) if apart => return Err(Unshared::Apart),
            planned => planned.map_err(Unshared::Unfit)?,
        };
        if apart && sending.is_large() {
            return Err(Unshared::Apart);
        }
        match replica.send(&sending) {
            Ok(Sent::Committed(revision)) => {
                replica.note(&sending, revision, batch);
                Ok(Some(Shared { sending, revision }))
            }
            // A staged change is planned only once: its caller has to try again.
            Ok(Sent::Busy | Sent::Conflict(_)) if group.iter().any(|one| one.journal.is_some()) => {
                replica.counts.conflicts.increment();
                Err(Unshared::Failed(ReplicaError::Busy))
            }
            Ok(Sent::Busy) => Err(Unshared::Busy),
            Ok(Sent::Conflict(_)) if apart => Err(Unshared::Apart),
            Ok(Sent::Conflict(at)) => Err(Unshared::Conflict(at)),
            Err(error) => Err(Unshared::Failed(error)),
        }
    }

    /// The group is stored here, too.
    pub(super) fn shared_is_stored(&self, shared: Option<Shared>) {
        if let Some((replica, Shared { sending, revision })) =
            self.shared.replica.as_ref().zip(shared)
        {
            replica.noted(sending, revision);
        }
    }

    /// Tries those again for whom what another host did is here. If that was about what they are
    /// about, they lose.
    pub(super) fn try_conflicts_again(&mut self) {
        let Some(replica) = self.shared.replica.clone() else { return };
        if self.conflicts.is_empty() {
            return;
        }
        let now = Instant::now();
        let seen = replica.seen();
        for (at, one) in std::mem::take(&mut self.conflicts.0) {
            let is_over = one.until.is_some_and(|until| until <= now);
            if is_over && replica.is_busy() {
                replica.counts.conflicts.increment();
                let error = VaultError::from(ReplicaError::Busy);
                self.correct(std::slice::from_ref(&one), &error);
                self.refuse_planned(one, error);
                continue;
            }
            match one.changes.iter().find(|change| is_over || !self.still_holds(change)) {
                None if at > seen || replica.is_busy() => self.conflicts.0.push((at, one)),
                None => self.store_alone(one),
                Some(change) => {
                    replica.counts.conflicts.increment();
                    let secret = change.before.as_ref().or(change.after.as_ref());
                    let key = secret.map(|secret| secret.key().to_string()).unwrap_or_default();
                    let error = VaultError::Conflict { key };
                    self.correct(std::slice::from_ref(&one), &error);
                    self.refuse_planned(one, error);
                }
            }
        }
    }

    /// Whether what a plan relied on is still so.
    fn still_holds(&self, change: &Change) -> bool {
        let index = self.shared.index.read();
        match (&change.before, &change.after) {
            (Some(before), _) => is_current(index.by_record(before.record()), before),
            (None, Some(after)) => index.by_key(after.key().as_str()).is_none(),
            (None, None) => true,
        }
    }

    pub(super) fn refuse_planned(&self, one: Planned, error: VaultError) {
        one.journal.into_iter().for_each(|journal| journal.abandon(&self.shared.records));
        (one.request.done)(Err(error));
    }
}
