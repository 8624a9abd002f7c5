//! Re-sealing every record under the current key, while readers read and writers write.
//!
//! A thread of its own walks through the store in order of address, re-seals what is under another
//! key, and hands it in small batches to the writer thread, which stores a record only if it still is
//! what was re-sealed. It walks until a walk finds nothing; only then the other keys are taken off
//! the list of those in use. Wherever it is interrupted, every record is sealed with a listed key.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::audit::{Action, Actor, Event, Subject};
use crate::crypto::KeyId;
use crate::model::{Caller, Grant, Timestamp};
use crate::store::StoreError;

use crate::vault::error::VaultError;
use crate::vault::records::{Address, RecordKind};
use crate::vault::writer::Submitter;
use crate::vault::writer::transaction::{Touched, Transaction};
use crate::vault::{Shared, Vault};

/// A batch is handed in when it holds this many records ...
const BATCH_RECORDS: usize = 512;
/// ... or this many bytes: writers wait behind it for some milliseconds.
const BATCH_BYTES: usize = 1 << 20;
/// Batches that wait for the disk while the next one is sealed.
const IN_FLIGHT: usize = 2;
/// Below this many free bytes the rest of the disk is left to writers of secrets.
const SPARE_BYTES: u64 = 16 << 20;
/// How many records that cannot be re-sealed are reported by name.
const NAMED: usize = 16;

/// What to walk through the store for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RekeyTask {
    /// To count the records of each key.
    Count,
    /// To re-seal those of other keys than the current one.
    Reseal,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RekeyState {
    /// Nothing was asked for since the start.
    Idle,
    /// It runs.
    Running(RekeyTask),
    /// It ran to its end.
    Done(RekeyTask),
    /// It stopped before its end, and can be run again; why.
    Failed(String),
}

/// What is known about the records and their keys.
#[derive(Clone, Debug)]
pub struct RekeyStatus {
    /// How far it is.
    pub state: RekeyState,
    /// When it ended last.
    pub ended: Option<Timestamp>,
    /// Records that the present walk, or the last one, has seen.
    pub seen: u64,
    /// About how many there are.
    pub expected: u64,
    /// Records that were re-sealed since it was asked for.
    pub resealed: u64,
    /// Records of each key, of the last walk that came to its end.
    pub counts: BTreeMap<KeyId, u64>,
    /// Records that do not unseal: they keep their key from being removed.
    pub unreadable: u64,
    /// A sentence about each of the first of these.
    pub unreadable_named: Vec<String>,
}

/// The one rekey of a vault.
pub(in crate::vault) struct Rekey {
    status: Arc<Mutex<RekeyStatus>>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Rekey {
    pub(in crate::vault) fn idle() -> Self {
        let status = RekeyStatus {
            state: RekeyState::Idle,
            ended: None,
            seen: 0,
            expected: 0,
            resealed: 0,
            counts: BTreeMap::new(),
            unreadable: 0,
            unreadable_named: Vec::new(),
        };
        let status = Arc::new(Mutex::new(status));
        Self { status, stop: Arc::default(), thread: Mutex::new(None) }
    }
}

impl Drop for Rekey {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.lock().take() {
            // The thread's panic has aborted the process already, or a test reports it.
            let _ = thread.join();
        }
    }
}

impl Vault {
    /// Whether `caller` may start a rekey and see how far it is.
    ///
    /// # Errors
    /// [`VaultError::AdminOnly`].
    pub fn check_rekey(&self, caller: &Caller) -> Result<(), VaultError> {
        if caller.is_admin() {
            return Ok(());
        }
        Err(VaultError::AdminOnly { what: "rekey the store" })
    }

    /// Starts a walk through the store and returns. If one runs already, nothing happens: it finds
    /// what another would. One that counts goes on to re-seal if that is asked for.
    ///
    /// # Errors
    /// No thread can be started, or it cannot be put on record.
    pub fn start_rekey(&self, actor: &Actor, task: RekeyTask) -> Result<(), VaultError> {
        if task == RekeyTask::Reseal {
            let subject = Subject { grant: Some(Grant::Admin), ..Subject::default() };
            let event = Event::new(actor, Action::Rekey, &subject, Ok(()));
            self.shared.audit.record_now(vec![event])?;
        }
        let mut thread = self.rekey.thread.lock();
        let mut status = self.rekey.status.lock();
        if let RekeyState::Running(running) = &mut status.state {
            if task == RekeyTask::Reseal {
                *running = task;
            }
            return Ok(());
        }
        let walker = Walker {
            shared: Arc::clone(&self.shared),
            writer: self.writer.submitter(),
            status: Arc::clone(&self.rekey.status),
            stop: Arc::clone(&self.rekey.stop),
        };
        let started = std::thread::Builder::new().name("rekey".into()).spawn(|| walker.run());
        *thread = Some(started.map_err(|source| VaultError::NoThread(Arc::new(source)))?);
        status.state = RekeyState::Running(task);
        (status.seen, status.resealed) = (0, 0);
        Ok(())
    }

    /// What is known about the records and their keys. Cheap: it looks at no record.
    pub fn rekey_status(&self) -> RekeyStatus {
        let totals = self.totals();
        let mut status = self.rekey.status.lock().clone();
        // A head for each secret, the list of keys, and the anchor of the audit log.
        status.expected = (self.len() as u64 + totals.chunks + 2).max(status.seen);
        status
    }
}

struct Walker {
    shared: Arc<Shared>,
    writer: Submitter,
    status: Arc<Mutex<RekeyStatus>>,
    stop: Arc<AtomicBool>,
}

/// What one walk found.
#[derive(Default)]
struct Walk {
    seen: u64,
    counts: BTreeMap<KeyId, u64>,
    /// Records under another key than the current one that unseal.
    stale: u64,
    unreadable: u64,
    unreadable_named: Vec<String>,
    /// The keys of those that do not.
    needed: Vec<KeyId>,
}

/// A record with its new seal.
struct Resealed {
    address: Vec<u8>,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Walker {
    fn run(self) {
        loop {
            let task = match self.status.lock().state {
                RekeyState::Running(task) => task,
                _ => return,
            };
            let outcome = self.walk_until_done(task);
            let mut status = self.status.lock();
            if outcome.is_ok() && status.state != RekeyState::Running(task) {
                continue;
            }
            status.ended = Some(SystemTime::now().into());
            status.state = match outcome {
                Ok(()) => {
                    tracing::info!(resealed = status.resealed, ?task, "rekey: done");
                    RekeyState::Done(task)
                }
                Err(error) => {
                    tracing::error!(%error, "rekey: stopped; run it again");
                    RekeyState::Failed(error.to_string())
                }
            };
        }
    }

    fn walk_until_done(&self, task: RekeyTask) -> Result<(), VaultError> {
        loop {
            let target = self.shared.records.keyring().current_id();
            let walk = self.walk(target, task)?;
            let (stale, mut needed) = (walk.stale, walk.needed.clone());
            let mut status = self.status.lock();
            status.counts = walk.counts;
            status.unreadable = walk.unreadable;
            status.unreadable_named = walk.unreadable_named;
            drop(status);
            if task == RekeyTask::Count {
                return Ok(());
            }
            needed.insert(0, target);
            if stale > 0 {
                continue;
            }
            // What comes from there is sealed anew here, with the current key.
            if let Some(replica) = &self.shared.replica {
                let keyring = self.shared.records.keyring();
                let count = |resealed| self.status.lock().resealed += resealed;
                replica.reseal(&keyring, &|| self.stop.load(Ordering::Relaxed), &count)?;
            }
            if self.take_off_the_list(target, needed)? {
                return Ok(());
            }
        }
    }

    /// One walk through all records.
    fn walk(&self, target: KeyId, task: RekeyTask) -> Result<Walk, VaultError> {
        let mut walk = Walk::default();
        let mut batch = Batch::default();
        let mut waiting = VecDeque::new();
        let mut outcome = Ok(());
        self.shared.records.scan_all(&mut |address, sealed| {
            if self.stop.load(Ordering::Relaxed) {
                outcome = Err(VaultError::Stopping);
                return ControlFlow::Break(());
            }
            let Some(resealed) = self.look_at(&mut walk, target, address, sealed) else {
                return ControlFlow::Continue(());
            };
            if task == RekeyTask::Count {
                return ControlFlow::Continue(());
            }
            batch.add(resealed);
            if batch.is_full() {
                outcome = self.hand_in(std::mem::take(&mut batch), &mut waiting, &walk);
            }
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome?;
        self.hand_in(batch, &mut waiting, &walk)?;
        waiting.into_iter().try_for_each(|answer| self.wait(&answer))?;
        Ok(walk)
    }

    /// Counts a record; gives it with its new seal if it needs one.
    fn look_at(
        &self,
        walk: &mut Walk,
        target: KeyId,
        address: &[u8],
        sealed: &[u8],
    ) -> Option<Resealed> {
        let records = &self.shared.records;
        if RecordKind::of(address) == RecordKind::Clear {
            return None;
        }
        walk.seen += 1;
        if walk.seen.is_multiple_of(BATCH_RECORDS as u64) {
            self.status.lock().seen = walk.seen;
        }
        let id = records.key_id_of(sealed);
        id.into_iter().for_each(|id| *walk.counts.entry(id).or_default() += 1);
        if id == Some(target) {
            return None;
        }
        match records.reseal(address, sealed) {
            Ok(after) => {
                walk.stale += 1;
                let (address, before) = (address.to_vec(), sealed.to_vec());
                Some(Resealed { address, before, after })
            }
            Err(error) => {
                walk.unreadable += 1;
                if walk.unreadable_named.len() < NAMED {
                    walk.unreadable_named.push(format!("{}: {error}", self.name(address)));
                }
                walk.needed.extend(id.filter(|id| !walk.needed.contains(id)));
                None
            }
        }
    }

    fn hand_in(
        &self,
        batch: Batch,
        waiting: &mut VecDeque<Receiver<Result<u64, VaultError>>>,
        walk: &Walk,
    ) -> Result<(), VaultError> {
        self.status.lock().seen = walk.seen;
        if batch.records.is_empty() {
            return Ok(());
        }
        if self.shared.records.space()?.free < SPARE_BYTES {
            return Err(StoreError::Full.into());
        }
        let count = batch.records.len() as u64;
        let plan = move |transaction: &mut Transaction<'_>| {
            batch.records.iter().try_for_each(|one| transaction.put_resealed(one))
        };
        let (answer, answered) = sync_channel(1);
        let done = Box::new(move |outcome: Result<_, VaultError>| {
            // If the rekey no longer waits, the batch is stored all the same.
            let _ = answer.send(outcome.map(|_| count));
        });
        self.writer.submit(Box::new(plan), done);
        waiting.push_back(answered);
        if waiting.len() > IN_FLIGHT
            && let Some(oldest) = waiting.pop_front()
        {
            self.wait(&oldest)?;
        }
        Ok(())
    }

    fn wait(&self, answer: &Receiver<Result<u64, VaultError>>) -> Result<(), VaultError> {
        self.status.lock().resealed += answer.recv().unwrap_or(Err(VaultError::Stopping))?;
        Ok(())
    }

    /// Leaves only these keys on the list; `false` if another key has become the current one.
    fn take_off_the_list(&self, target: KeyId, needed: Vec<KeyId>) -> Result<bool, VaultError> {
        let keyring = self.shared.records.keyring();
        if keyring.current_id() != target {
            return Ok(false);
        }
        let (answer, answered) = sync_channel(1);
        let planned = needed.clone();
        let plan = move |transaction: &mut Transaction<'_>| {
            // If the keyring has been replaced since, the stored list is the right one.
            if transaction.current_key_id() == target {
                transaction.put_keys(&planned, &keyring);
            }
            Ok(())
        };
        let shared = Arc::clone(&self.shared);
        let done = Box::new(move |outcome: Result<_, VaultError>| {
            let outcome = outcome.map(|_| {
                let is_current = shared.records.keyring().current_id() == target;
                if is_current {
                    shared.set_keys_in_use(needed);
                }
                is_current
            });
            let _ = answer.send(outcome);
        });
        self.writer.submit(Box::new(plan), done);
        answered.recv().unwrap_or(Err(VaultError::Stopping))
    }

    /// How a record is called in a sentence.
    fn name(&self, address: &[u8]) -> String {
        let index = self.shared.index.read();
        let (found, number) = match RecordKind::of(address) {
            RecordKind::Metadata(record) => (index.by_record(record), record.as_u64()),
            RecordKind::Chunk(node) => (index.by_node(node), node),
            RecordKind::Clear | RecordKind::Journal | RecordKind::Other => {
                return "a record of the store itself".to_owned();
            }
        };
        found
            .map_or_else(|| format!("a removed value, {number}"), |secret| secret.key().to_string())
    }
}

/// Records that are stored together.
#[derive(Default)]
struct Batch {
    records: Vec<Resealed>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, resealed: Resealed) {
        self.bytes += resealed.after.len();
        self.records.push(resealed);
    }

    fn is_full(&self) -> bool {
        self.records.len() >= BATCH_RECORDS || self.bytes >= BATCH_BYTES
    }
}

impl Transaction<'_> {
    fn current_key_id(&self) -> KeyId {
        self.shared.records.keyring().current_id()
    }

    /// Stores a record with its new seal, if it is still what was re-sealed. Values never change
    /// where they lie; heads do, and every plan that changes one touches its secret's id.
    fn put_resealed(&mut self, one: &Resealed) -> Result<(), VaultError> {
        let kind = RecordKind::of(&one.address);
        // The head that is there is about to be overwritten; the next walk finds the new one.
        let passes = matches!(kind, RecordKind::Metadata(_)) && self.shared.is_settling();
        if passes || kind == RecordKind::Journal {
            return Ok(());
        }
        if self.shared.records.read_at(&one.address)?.as_ref() != Some(&one.before) {
            return Ok(());
        }
        match kind {
            RecordKind::Metadata(record) => {
                let Some(secret) = self.by_record(record) else { return Ok(()) };
                self.touched.insert(Touched::Id(secret.id().clone()));
            }
            _ if one.address == Address::KEYS.as_bytes() => {
                self.touched.insert(Touched::Keys);
            }
            _ => {}
        }
        self.batch.put(&one.address, one.after.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
