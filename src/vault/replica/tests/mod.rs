//! Hosts that share a store, in one process.

mod failures;
mod hosts;
mod keys;
mod large;
mod refusals;
mod successors;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::audit::{Actor, Process};
use crate::cluster::{Cluster, MemoryCluster};
use crate::crypto::MasterKey;
use crate::model::{Caller, Key, Plaintext};
use crate::store::MemoryStore;
use crate::vault::{
    OpenVaultError, Opening, RenameSource, RenameTarget, RequestId, Secret, Vault, VaultError,
    WriteTarget,
};

use super::*;

/// On a machine that has other things to do.
pub(super) const SOON: Duration = Duration::from_secs(60);

pub(super) fn keyring(byte: u8, previous: &[u8]) -> Keyring {
    let master = |byte: &u8| MasterKey::parse(&format!("{byte:02x}").repeat(32)).unwrap();
    Keyring::new(master(&byte), previous.iter().map(master).collect())
}

pub(super) fn shared(cluster: &Arc<MemoryCluster>, create: bool) -> Sharing {
    let cluster = Arc::<MemoryCluster>::clone(cluster);
    Sharing::With(SharedStore { cluster, create, at_once: false })
}

pub(super) struct Host {
    pub(super) vault: Vault,
    pub(super) store: Arc<MemoryStore>,
}

impl Host {
    pub(super) fn open(
        cluster: &Arc<MemoryCluster>,
        store: Arc<MemoryStore>,
        keyring: Keyring,
    ) -> Result<Self, OpenVaultError> {
        let local = Arc::<MemoryStore>::clone(&store);
        let sharing = shared(cluster, true);
        let vault = Opening { sharing, ..Opening::new(local, keyring) }.open()?;
        vault.follow(Box::new(|_| {})).unwrap();
        Ok(Self { vault, store })
    }

    pub(super) fn new(cluster: &Arc<MemoryCluster>) -> Self {
        let host = Self::open(cluster, Arc::default(), keyring(7, &[])).unwrap();
        assert!(host.vault.wait_until_current(SOON));
        host
    }

    /// One that shares nothing.
    pub(super) fn alone(store: Arc<MemoryStore>) -> Self {
        let vault = Vault::open(Arc::<MemoryStore>::clone(&store), keyring(7, &[])).unwrap();
        Self { vault, store }
    }

    /// Its clock is so many seconds ahead from now on.
    pub(super) fn set_clock(&self, seconds: i64) {
        let (answer, answered) = channel();
        let plan = Box::new(move |_: &mut crate::vault::writer::transaction::Transaction<'_>| {
            crate::vault::writer::transaction::skewed::set(seconds);
            Ok(())
        });
        let done = Box::new(move |outcome: Result<Vec<_>, _>| drop(answer.send(outcome.map(drop))));
        self.vault.writer.submit(plan, done);
        answered.recv_timeout(SOON).unwrap().unwrap();
    }

    /// Stops it, and starts it again with the same state directory.
    pub(super) fn again(self, cluster: &Arc<MemoryCluster>) -> Self {
        let Self { vault, store } = self;
        drop(vault);
        Self::open(cluster, store, keyring(7, &[])).unwrap()
    }

    pub(super) fn begin_write(
        &self,
        origin: Option<RequestId>,
        target: WriteTarget,
        value: &[u8],
    ) -> impl Fn() -> Result<(), VaultError> + use<> {
        let (answer, answered) = channel();
        let done = Box::new(move |outcome: Result<Vec<_>, _>| {
            // A test that does not wait for it has failed.
            let _ = answer.send(outcome.map(drop));
        });
        self.vault.write(root(), target, Plaintext::copy_of(value), origin, done);
        move || answered.recv_timeout(SOON).unwrap()
    }

    pub(super) fn put(&self, key: &str, value: &[u8]) -> Result<(), VaultError> {
        self.put_for(None, key, value)
    }

    pub(super) fn put_for(
        &self,
        origin: Option<RequestId>,
        key: &str,
        value: &[u8],
    ) -> Result<(), VaultError> {
        self.begin_write(origin, self.target(key), value)()
    }

    pub(super) fn target(&self, key: &str) -> WriteTarget {
        match self.vault.secret(key) {
            Some(secret) => WriteTarget::Existing(secret.record()),
            None => new(key),
        }
    }

    pub(super) fn remove(&self, key: &str) -> Result<(), VaultError> {
        let (answer, answered) = channel();
        let done = Box::new(move |outcome: Result<Vec<_>, _>| drop(answer.send(outcome.map(drop))));
        self.vault.remove(root(), key.to_owned(), None, done);
        answered.recv_timeout(SOON).unwrap()
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), VaultError> {
        let (answer, answered) = channel();
        let done = Box::new(move |outcome: Result<Vec<_>, _>| drop(answer.send(outcome.map(drop))));
        let source = RenameSource::Secret(Key::parse(from).unwrap());
        let key = Key::parse(to).unwrap();
        let target = RenameTarget::Key { key, exclusive: false, inherited_lists: None };
        self.vault.rename(root(), source, target, None, done);
        answered.recv_timeout(SOON).unwrap()
    }

    pub(super) fn lists(&self, key: &str, document: &str) -> Result<(), VaultError> {
        let (answer, answered) = channel();
        let done = Box::new(move |outcome: Result<Vec<_>, _>| drop(answer.send(outcome.map(drop))));
        let record = self.vault.secret(key).unwrap().record();
        let document = Plaintext::copy_of(document.as_bytes());
        self.vault.change_lists(root(), record, &document, None, done);
        answered.recv_timeout(SOON).unwrap()
    }

    pub(super) fn value(&self, key: &str) -> Option<Vec<u8>> {
        let secret = self.vault.secret(key)?;
        Some(self.vault.read_all(secret.value()).unwrap().expose().to_vec())
    }

    pub(super) fn wait(&self, what: impl Fn(&Self) -> bool) {
        let until = Instant::now() + SOON;
        while !what(self) {
            assert!(Instant::now() < until, "it does not come: {:?}", self.problems());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn wait_for(&self, key: &str, value: Option<&[u8]>) {
        self.wait(|host| host.value(key).as_deref() == value);
    }

    /// Waits until nothing is stored that was superseded, and what this host did has come back to it:
    /// nothing more is stored by itself.
    pub(super) fn wait_until_tidy(&self) {
        self.wait(|host| {
            let replica = host.vault.shared.replica.as_ref().unwrap();
            let last = replica.state.lock().host_revision;
            let mut is_tidy = host.vault.shared.garbage.is_empty() && replica.seen() >= last;
            let marks = host.vault.shared.records.scan(&Address::GARBAGE, &mut |_, _| {
                is_tidy = false;
                std::ops::ControlFlow::Break(())
            });
            marks.is_ok() && is_tidy
        });
    }

    /// Once more, as long as large changes of another host are in the way.
    pub(super) fn patiently(
        &self,
        act: impl Fn(&Self) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        let until = Instant::now() + SOON;
        loop {
            match act(self) {
                Err(error) if error.is_overtaken() && Instant::now() < until => {}
                outcome => return outcome,
            }
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let problems = self.vault.telemetry().health.problems();
        problems.into_iter().map(|(_, why)| why).collect()
    }
}

fn new(key: &str) -> WriteTarget {
    WriteTarget::New { key: Key::parse(key).unwrap(), exclusive: false, inherited_lists: None }
}

pub(super) fn root() -> Actor {
    Actor { caller: Arc::new(Caller::new(0, None, [], true)), process: Process::default() }
}

fn description(secret: &Secret) -> (String, String, u64, crate::model::Timestamp, String) {
    (
        secret.key().to_string(),
        secret.id().to_string(),
        secret.value().version(),
        secret.value().updated(),
        format!("{:?}", secret.acl()),
    )
}

pub(super) fn same_on(hosts: &[&Host], key: &str) {
    let [first, others @ ..] = hosts else { return };
    // Of each again: what another host did last may not have come to the first yet.
    let seen = |host: &Host| host.vault.secret(key).map(|secret| description(&secret));
    for host in others {
        host.wait(|host| seen(host).is_some_and(|seen_here| Some(seen_here) == seen(first)));
        assert_eq!(host.value(key), first.value(key));
    }
}
