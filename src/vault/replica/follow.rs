//! The thread that follows the shared store: what happens there happens here.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::cluster::{ClusterError, News};
use crate::crypto::Keyring;
use crate::telemetry::Part;
use crate::vault::error::VaultError;
use crate::vault::writer::Submitter;
use crate::vault::writer::transaction::{Change, Transaction};
use crate::vault::{Shared, Vault};

use super::Replica;
use super::error::ReplicaError;
use super::large::{Order, read_order};
use super::link::Link;
use super::receive::{Received, Taken};
use super::wire;

/// Called with the changes of other hosts once they are visible. It must not block.
pub type Observer = Box<dyn Fn(&[Change]) + Send + Sync>;

/// An empty replica takes over this many secrets at a time.
const SLICE: usize = 1000;
/// After a loss it is tried again, later each time, and by each host at another time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Another host puts what it ordered in its places within this, or is helped ...
const SETTLE_PATIENCE: Duration = Duration::from_secs(10);
/// ... and comes from a claim to an order, or loses it.
const CLAIM_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is stored that nothing happened.
const REMEMBER: Duration = Duration::from_secs(60);

/// The thread. Dropping this ends it.
pub(in crate::vault) struct Follower {
    link: Arc<Link>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.link.stop();
        if let Some(thread) = self.thread.take() {
            // The thread's panic has aborted the process already, or a test reports it.
            let _ = thread.join();
        }
    }
}

impl Vault {
    /// Follows the shared store from now on, and calls `observer` with the changes of other hosts. Without a shared
    /// store nothing happens.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn follow(&self, observer: Observer) -> io::Result<()> {
        let Some(replica) = &self.shared.replica else { return Ok(()) };
        let worker = Worker {
            shared: Arc::clone(&self.shared),
            replica: Arc::clone(replica),
            writer: self.writer.submitter(),
            observer: Arc::new(observer),
        };
        let thread = std::thread::Builder::new().name("replica".into()).spawn(|| worker.run())?;
        let link = Arc::clone(&replica.link);
        *self.follower.lock() = Some(Follower { link, thread: Some(thread) });
        Ok(())
    }

    /// Waits until all that is in the shared store is here, for that long at most. Whether it is;
    /// without a shared store it always is.
    pub fn wait_until_current(&self, time: Duration) -> bool {
        self.shared.replica.as_ref().is_none_or(|replica| replica.link.wait_up_for(time))
    }

    /// Whether something of a shared store is here that can be served without it, or there is none.
    pub fn has_content(&self) -> bool {
        self.shared.replica.as_ref().is_none_or(|replica| !replica.is_new())
    }
}

struct Worker {
    shared: Arc<Shared>,
    replica: Arc<Replica>,
    writer: Submitter,
    observer: Arc<Observer>,
}

impl Worker {
    fn run(self) {
        let mut pause = FIRST_PAUSE;
        let mut reads_all = self.replica.is_new();
        while !self.replica.link.is_stopping() {
            let error = match self.follow(&mut reads_all) {
                Ok(()) => return,
                Err(ReplicaError::Cluster(ClusterError::Compacted { revision })) => {
                    tracing::info!(
                        revision,
                        "etcd has forgotten what this host has missed: everything is read anew"
                    );
                    reads_all = true;
                    continue;
                }
                Err(error) => error,
            };
            if self.replica.link.is_up() {
                pause = FIRST_PAUSE;
            }
            self.tell_lost(&error);
            self.replica.link.pause(with_jitter(pause));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Until the end, or until the connection is lost.
    fn follow(&self, reads_all: &mut bool) -> Result<(), ReplicaError> {
        self.replica.connect()?;
        if std::mem::replace(reads_all, true) {
            self.read_all()?;
        }
        *reads_all = false;
        let mut outcome = Ok(());
        let mut remembered = Instant::now();
        self.tell_up();
        let since = self.replica.seen() + 1;
        self.replica.cluster.watch(wire::FIRST, wire::LAST, since, &mut |news| {
            if self.replica.link.is_stopping() {
                return ControlFlow::Break(());
            }
            let heard = match news {
                News::Changes { revision, changes } => self.hear(revision, &changes),
                News::Nothing { revision } if remembered.elapsed() >= REMEMBER => {
                    remembered = Instant::now();
                    self.take(Received::up_to(revision))
                }
                News::Nothing { .. } => self.help(),
            };
            match heard {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    outcome = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        outcome
    }

    fn hear(
        &self,
        revision: u64,
        changes: &[(u64, crate::cluster::Change)],
    ) -> Result<(), ReplicaError> {
        let mut received = Received::up_to(revision);
        let keyring = self.shared.records.keyring();
        for (revision, change) in changes {
            if change.name == wire::KEYS {
                self.replica.announce_own()?;
            }
            received.add(&self.replica, &keyring, *revision, change)?;
            if let Some(Some((order, at))) = received.order
                && order.holds
                && change.name == wire::ORDER
                && !self.is_own(&order, at)?
            {
                self.read_ahead(&mut received, &keyring, &order, at)?;
            }
        }
        self.take(received)?;
        self.help()
    }

    /// Whether a large change is this host's own, and stored here.
    fn is_own(&self, order: &Order, revision: u64) -> Result<bool, ReplicaError> {
        if order.host != self.replica.state.lock().seen.host {
            return Ok(false);
        }
        // The writer thread may be about to store it: it is done with that when it comes to this.
        self.take(Received::default())?;
        Ok(self.replica.state.lock().own_large == revision)
    }

    /// What a large change brings, before it is in its places.
    fn read_ahead(
        &self,
        received: &mut Received,
        keyring: &Keyring,
        order: &Order,
        revision: u64,
    ) -> Result<(), ReplicaError> {
        let replica = &self.replica;
        read_order(&*replica.cluster, order, revision, &mut |change| {
            received.add_ahead(replica, keyring, revision, &change)
        })
    }

    /// Puts what a large change brings in its places: this host's own at once, and another's if that
    /// host does not do it.
    fn help(&self) -> Result<(), ReplicaError> {
        let (order, own) = {
            let state = self.replica.state.lock();
            (state.order, state.seen.host)
        };
        let Some((order, revision, since)) = order else { return Ok(()) };
        let waited = since.elapsed();
        if order.holds && (order.host == own || waited >= SETTLE_PATIENCE) {
            self.replica.settle(&order, revision)?;
        } else if !order.holds && waited >= CLAIM_PATIENCE {
            self.replica.withdraw(revision);
        }
        Ok(())
    }

    /// Takes over everything as it is at one moment.
    fn read_all(&self) -> Result<(), ReplicaError> {
        let started = Instant::now();
        let keyring = self.shared.records.keyring();
        let names = self.replica.cluster.read(wire::NAMES, b"o\0", None)?;
        let revision = names.revision;
        let is_first = self.replica.state.lock().is_empty();
        let (first, last) = wire::secrets();
        let mut from = first.to_vec();
        let mut count = 0;
        let mut received = Received::snapshot(!is_first);
        loop {
            let page = self.replica.cluster.read(&from, last, Some(revision))?;
            let Some(end) = page.records.last() else { break };
            from = [&end.name[..], b"\0"].concat();
            for record in page.records {
                count += 1;
                let change =
                    crate::cluster::Change { name: record.name, sealed: Some(record.sealed) };
                received.add(&self.replica, &keyring, record.revision, &change)?;
                if is_first && received.len() >= SLICE {
                    self.take(std::mem::take(&mut received))?;
                }
            }
            if !page.more || self.replica.link.is_stopping() {
                break;
            }
        }
        if self.replica.link.is_stopping() {
            return Err(ReplicaError::Stopping);
        }
        received.order = Some(None);
        // Last: as long as it is not here, all that has come was there before it.
        for record in names.records {
            let change = crate::cluster::Change { name: record.name, sealed: Some(record.sealed) };
            received.add(&self.replica, &keyring, record.revision, &change)?;
        }
        if let Some(Some((order, _))) = received.order
            && order.holds
        {
            self.read_ahead(&mut received, &keyring, &order, revision)?;
        }
        received.revision = Some(revision);
        self.take(received)?;
        self.replica.counts.resyncs.increment();
        let took = started.elapsed();
        tracing::info!(secrets = count, revision, ?took, "everything was read from etcd");
        Ok(())
    }

    /// Makes it this host's, and waits until that is stored and visible.
    fn take(&self, received: Received) -> Result<(), ReplicaError> {
        let taken: Arc<Mutex<Option<Taken>>> = Arc::default();
        let refusal: Arc<Mutex<Option<ReplicaError>>> = Arc::default();
        let plan = {
            let (replica, taken, refusal) =
                (Arc::clone(&self.replica), Arc::clone(&taken), Arc::clone(&refusal));
            move |transaction: &mut Transaction<'_>| {
                match received.plan(&replica, transaction) {
                    Ok(new) => *taken.lock() = Some(new),
                    Err(error) => {
                        *refusal.lock() = Some(error);
                        return Err(VaultError::Stopping);
                    }
                }
                Ok(())
            }
        };
        let (answer, answered) = sync_channel(1);
        let (shared, replica) = (Arc::clone(&self.shared), Arc::clone(&self.replica));
        let observer = Arc::clone(&self.observer);
        // On the writer thread: nothing is planned before what came is taken note of.
        let done = Box::new(move |outcome: Result<Vec<Change>, VaultError>| {
            let outcome = outcome.map(|changes| {
                let refused = taken.lock().take().and_then(|taken| replica.took(taken));
                if let Some(refused) = refused {
                    refused.iter().for_each(|why| tracing::error!("{why}"));
                    let outcome = if refused.is_empty() { Ok(()) } else { Err(refused.join("; ")) };
                    shared.telemetry.health.report(Part::Etcd, outcome);
                }
                if !changes.is_empty() {
                    observer(&changes);
                }
            });
            // The follower waits for it.
            let _ = answer.send(outcome);
        });
        self.writer.submit_foreign(Box::new(plan), done);
        match answered.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(VaultError::Store(error))) => Err(error.into()),
            _ => Err(refusal.lock().take().unwrap_or(ReplicaError::Stopping)),
        }
    }

    fn tell_up(&self) {
        let refused: Vec<_> = self.replica.state.lock().refused.values().cloned().collect();
        let outcome = if refused.is_empty() { Ok(()) } else { Err(refused.join("; ")) };
        if !self.replica.link.is_up() {
            tracing::info!(revision = self.replica.seen(), "connected to etcd");
        }
        // Before it is reported: a caller that reads that all is well may write at once.
        self.replica.link.set_up();
        self.shared.telemetry.health.report(Part::Etcd, outcome);
    }

    fn tell_lost(&self, error: &ReplicaError) {
        let age = self.replica.age();
        let what = format!("{error}; {age}");
        if self.replica.link.is_up() {
            self.replica.counts.disconnects.increment();
        }
        let is_news = self.replica.link.is_up() || !self.replica.link.was_told(&error.to_string());
        // Before it is reported: a caller that reads that it is lost must be answered at once.
        self.replica.link.set_down(error.to_string());
        if is_news {
            tracing::warn!("{what}");
        }
        self.shared.telemetry.health.report(Part::Etcd, Err(what));
    }
}

/// Between half of it and all of it.
fn with_jitter(pause: Duration) -> Duration {
    let share = f64::from(wire::random()[0]) / 512.0;
    pause.mul_f64(0.5 + share)
}
