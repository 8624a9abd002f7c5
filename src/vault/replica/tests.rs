//! Hosts that share a store, in one process.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::audit::{Actor, Process};
use crate::cluster::{Cluster, MemoryCluster};
use crate::crypto::MasterKey;
use crate::model::{Caller, Key, Plaintext};
use crate::store::MemoryStore;
use crate::vault::{
    OpenVaultError, RenameSource, RenameTarget, Secret, Vault, VaultError, WriteTarget,
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
        let off = crate::audit::Options::off();
        let code = |_: &VaultError| crate::audit::ErrorCode {
            number: 0,
            name: String::new(),
            denied: false,
        };
        let vault = Vault::open_shared(local, &shared(cluster, true), keyring, &off, code)?;
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
        let plan = Box::new(move |_: &mut crate::vault::transaction::Transaction<'_>| {
            crate::vault::transaction::skewed::set(seconds);
            Ok(())
        });
        let done = Box::new(move |outcome: Result<Vec<_>, _>| drop(answer.send(outcome.map(drop))));
        self.vault.committer.submit(plan, done);
        answered.recv_timeout(SOON).unwrap().unwrap();
    }

    /// Stops it, and starts it again with the same state folder.
    pub(super) fn again(self, cluster: &Arc<MemoryCluster>) -> Self {
        let Self { vault, store } = self;
        drop(vault);
        Self::open(cluster, store, keyring(7, &[])).unwrap()
    }

    pub(super) fn begin_write(
        &self,
        target: WriteTarget,
        value: &[u8],
    ) -> impl Fn() -> Result<(), VaultError> + use<> {
        let (answer, answered) = channel();
        let done = Box::new(move |outcome: Result<Vec<_>, _>| {
            // A test that does not wait for it has failed.
            let _ = answer.send(outcome.map(drop));
        });
        self.vault.write(root(), target, Plaintext::copy_of(value), None, done);
        move || answered.recv_timeout(SOON).unwrap()
    }

    pub(super) fn put(&self, key: &str, value: &[u8]) -> Result<(), VaultError> {
        self.begin_write(self.target(key), value)()
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
        let target = RenameTarget::Key { key, exclusive: false, heritage: None };
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

    /// Waits until nothing is stored that was superseded: nothing more is stored by itself.
    pub(super) fn wait_until_tidy(&self) {
        self.wait(|host| {
            let mut is_tidy = host.vault.shared.garbage.is_empty();
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
    WriteTarget::New { key: Key::parse(key).unwrap(), exclusive: false, heritage: None }
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

#[test]
fn what_one_host_does_happens_on_all() {
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    a.put("x/K", b"one").unwrap();
    same_on(&[&a, &b], "x/K");
    b.put("x/K", &vec![7; 1 << 20]).unwrap();
    same_on(&[&b, &a], "x/K");
    assert_eq!(a.vault.secret("x/K").unwrap().value().version(), 2);
    let node = a.vault.secret("x/K").unwrap().value().node();
    a.lists("x/K", "readers: [alice]").unwrap();
    same_on(&[&a, &b], "x/K");
    assert_eq!(a.vault.secret("x/K").unwrap().value().node(), node, "the value is the same");
    b.rename("x/K", "y/L").unwrap();
    same_on(&[&b, &a], "y/L");
    assert!(a.vault.secret("x/K").is_none() && !a.vault.is_folder("x"));
    a.put("x/M", b"m").unwrap();
    a.rename("x/M", "y/L").unwrap();
    same_on(&[&a, &b], "y/L");
    b.wait_for("x/M", None);
    b.remove("y/L").unwrap();
    a.wait_for("y/L", None);
    assert_eq!((a.vault.len(), b.vault.len()), (0, 0));
}

#[test]
fn a_host_that_comes_later_gets_everything_and_keeps_it() {
    let cluster = Arc::new(MemoryCluster::new());
    let a = Host::new(&cluster);
    (0..300).for_each(|number| a.put(&format!("x/{number}"), b"v").unwrap());
    let b = Host::new(&cluster);
    assert_eq!(b.vault.len(), 300);
    same_on(&[&a, &b], "x/77");
    cluster.set_away(true);
    let b = b.again(&cluster);
    assert_eq!(b.value("x/77").unwrap(), b"v");
    assert!(b.vault.has_content());
    b.wait(|host| host.problems().iter().any(|why| why.contains("what is served is of")));
    cluster.set_away(false);
    a.wait(|host| host.problems().is_empty());
    a.put("x/77", b"w").unwrap();
    b.wait_for("x/77", Some(b"w"));
    assert!(b.problems().is_empty());
}

#[test]
fn of_two_that_change_one_secret_at_once_one_wins() {
    let cluster = Arc::new(MemoryCluster::new());
    let hosts = [Host::new(&cluster), Host::new(&cluster)];
    hosts[0].put("x/K", b"0").unwrap();
    hosts[1].wait_for("x/K", Some(b"0"));
    // They meet for certain: the second does not hear of what the first did.
    cluster.set_slow(true);
    hosts[0].put("x/K", b"first").unwrap();
    let conflicts = cluster.conflicts();
    let second = hosts[1].begin_write(hosts[1].target("x/K"), b"second");
    hosts[1].wait(|_| cluster.conflicts() > conflicts);
    cluster.set_slow(false);
    assert!(matches!(second(), Err(VaultError::Conflict { key }) if key == "x/K"));
    assert_eq!(hosts[1].vault.sharing_status().unwrap().conflicts, 1);
    hosts[1].wait_for("x/K", Some(b"first"));
    let (mut wins, mut losses) = (1, 1);
    for round in 0..100u8 {
        let answers = hosts.each_ref().map(|host| host.begin_write(host.target("x/K"), &[round]));
        for answer in answers {
            match answer() {
                Ok(()) => wins += 1,
                Err(VaultError::Conflict { key }) => {
                    assert_eq!(key, "x/K");
                    losses += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(wins + losses, 202);
    same_on(&[&hosts[0], &hosts[1]], "x/K");
    same_on(&[&hosts[1], &hosts[0]], "x/K");
    let version = hosts[0].vault.secret("x/K").unwrap().value().version();
    assert_eq!(version, wins + 1, "each that was told so has its version");
}

#[test]
fn new_secrets_of_several_hosts_do_not_disturb_each_other() {
    let cluster = Arc::new(MemoryCluster::new());
    let hosts = [Host::new(&cluster), Host::new(&cluster), Host::new(&cluster)];
    std::thread::scope(|scope| {
        for (number, host) in hosts.iter().enumerate() {
            scope.spawn(move || {
                for count in 0..30 {
                    host.put(&format!("x{number}/{count}"), b"v").unwrap();
                }
            });
        }
    });
    hosts.iter().for_each(|host| host.wait(|host| host.vault.len() == 90));
    // One name for two is not possible, in whatever form.
    let answers = [
        hosts[0].begin_write(new("z/a"), b"1"),
        hosts[1].begin_write(new("z/a/b"), b"2"),
        hosts[2].begin_write(new("z/a"), b"3"),
    ];
    let won: Vec<_> = answers.iter().map(|answer| answer()).collect();
    // Who comes when the other's secret is there already gives that a new value.
    assert!(won.iter().any(|outcome| outcome.is_ok()), "{won:?}");
    hosts.iter().for_each(|host| host.wait(|host| host.vault.len() == 91));
    let names = |host: &Host| ["z/a", "z/a/b"].map(|key| host.vault.secret(key).is_some());
    assert!(hosts.iter().all(|host| names(host) == names(&hosts[0])), "{won:?}");
}

#[test]
fn who_is_cut_off_reads_and_does_not_write() {
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    a.put("x/K", b"1").unwrap();
    b.wait_for("x/K", Some(b"1"));
    cluster.set_away(true);
    let started = Instant::now();
    let error = b.put("x/K", b"2").unwrap_err();
    assert!(matches!(
        error,
        VaultError::Replica(ReplicaError::Cluster(
            crate::cluster::ClusterError::Unreachable { .. }
        ))
    ));
    assert!(started.elapsed() < SOON);
    assert_eq!(b.value("x/K").unwrap(), b"1");
    let started = Instant::now();
    b.put("x/K", b"2").unwrap_err();
    assert!(started.elapsed() < link::GRACE, "it is known by now");
    cluster.set_away(false);
    b.wait(|host| host.problems().is_empty());
    b.put("x/K", b"3").unwrap();
    a.wait_for("x/K", Some(b"3"));
    assert_eq!(a.vault.secret("x/K").unwrap().value().version(), 2);
}

#[test]
fn clocks_that_go_wrong_decide_nothing() {
    const YEAR: i64 = 365 * 86_400;
    let cluster = Arc::new(MemoryCluster::new());
    let hosts = [Host::new(&cluster), Host::new(&cluster), Host::new(&cluster)];
    for (host, years) in hosts.iter().zip([20, -20, 0]) {
        host.set_clock(years * YEAR);
    }
    let [ahead, behind, right] = &hosts;
    // Whoever writes last has the last version and the latest time, whatever his clock says.
    let (mut version, mut updated) = (0, None);
    for round in 0..12u8 {
        let writer = &hosts[usize::from(round) % 3];
        writer.put("x/K", &[round]).unwrap();
        version += 1;
        for host in &hosts {
            host.wait_for("x/K", Some(&[round]));
            let secret = host.vault.secret("x/K").unwrap();
            assert_eq!(secret.value().version(), version);
        }
        same_on(&[ahead, behind, right], "x/K");
        let now = right.vault.secret("x/K").unwrap().value().updated().as_nanos();
        assert!(updated.is_none_or(|before| now >= before + 1_000_000_000), "it shows a change");
        updated = Some(now);
    }
    // Of two that meet, the one wins that came first, though the other's clock is far ahead.
    cluster.set_slow(true);
    behind.put("x/K", b"first").unwrap();
    let conflicts = cluster.conflicts();
    let second = ahead.begin_write(ahead.target("x/K"), b"second");
    ahead.wait(|_| cluster.conflicts() > conflicts);
    cluster.set_slow(false);
    assert!(matches!(second(), Err(VaultError::Conflict { .. })));
    hosts.iter().for_each(|host| host.wait_for("x/K", Some(b"first")));
    // What was removed by a host of the past stays removed, and what it creates is new to all.
    behind.remove("x/K").unwrap();
    hosts.iter().for_each(|host| host.wait_for("x/K", None));
    behind.put("x/K", b"again").unwrap();
    hosts.iter().for_each(|host| host.wait_for("x/K", Some(b"again")));
    let Host { vault, store } = Host::new(&cluster);
    drop(vault);
    ahead.put("x/L", b"late").unwrap();
    let joined = Host::open(&cluster, store, keyring(7, &[])).unwrap();
    joined.wait_for("x/L", Some(b"late"));
    same_on(&[ahead, behind, right, &joined], "x/L");
    same_on(&[ahead, behind, right, &joined], "x/K");
    assert!(hosts.iter().all(|host| host.problems().is_empty()));
}

#[test]
fn it_is_told_how_the_replica_is_doing() {
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    a.put("x/K", b"1").unwrap();
    b.wait_for("x/K", Some(b"1"));
    let status = |host: &Host| host.vault.sharing_status().unwrap();
    assert!(status(&b).is_connected && status(&b).age.is_zero());
    assert_eq!((status(&b).resyncs, status(&b).disconnects, status(&b).conflicts), (1, 0, 0));
    b.wait(|host| status(host).revision == status(&a).revision);
    cluster.set_away(true);
    b.wait(|host| !status(host).is_connected && !status(host).age.is_zero());
    assert_eq!(status(&b).disconnects, 1);
    let b = b.again(&cluster);
    // Since the time when it was stored that all is here.
    b.wait(|host| !status(host).age.is_zero());
    cluster.set_away(false);
    b.wait(|host| status(host).is_connected);
    assert_eq!((status(&b).resyncs, status(&b).disconnects), (0, 0));
    let alone = Host::alone(Arc::default());
    assert_eq!(alone.vault.sharing_status(), None);
}

#[test]
fn what_was_forgotten_meanwhile_is_read_anew() {
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    for key in ["x/A", "x/B", "x/C", "x/D"] {
        a.put(key, key.as_bytes()).unwrap();
        b.wait_for(key, Some(key.as_bytes()));
    }
    let Host { vault, store } = b;
    drop(vault);
    a.remove("x/D").unwrap();
    a.rename("x/C", "x/D").unwrap();
    a.rename("x/B", "x/C").unwrap();
    a.put("x/C", b"new").unwrap();
    a.put("x/E", b"e").unwrap();
    cluster.compact();
    let b = Host::open(&cluster, store, keyring(7, &[])).unwrap();
    b.wait_for("x/E", Some(b"e"));
    for key in ["x/A", "x/C", "x/D", "x/E"] {
        same_on(&[&a, &b], key);
    }
    assert_eq!((b.vault.len(), b.value("x/B")), (4, None));
    let b = b.again(&cluster);
    assert_eq!(b.vault.len(), 4);
    same_on(&[&a, &b], "x/C");
}

#[test]
fn a_lost_answer_is_found_out() {
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    cluster.lose_next_answer();
    a.put("x/K", b"1").unwrap();
    b.wait_for("x/K", Some(b"1"));
    assert_eq!(a.vault.secret("x/K").unwrap().value().version(), 1);
    let lost = || crate::cluster::ClusterError::Unknown { why: "lost".into() };
    cluster.fail_next(lost());
    a.put("x/K", b"2").unwrap();
    cluster.fail_next(lost());
    cluster.lose_next_answer();
    a.put("x/K", b"3").unwrap();
    same_on(&[&a, &b], "x/K");
    assert_eq!(b.vault.secret("x/K").unwrap().value().version(), 3);
    b.put("x/K", b"4").unwrap();
    a.wait_for("x/K", Some(b"4"));
    a.put("x/K", b"5").unwrap();
    b.wait_for("x/K", Some(b"5"));
}

#[test]
fn what_cannot_be_stored_here_comes_again() {
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    a.put("x/K", b"1").unwrap();
    b.wait_for("x/K", Some(b"1"));
    b.wait_until_tidy();
    b.store.fail_next(crate::store::StoreError::Full);
    a.put("x/K", b"2").unwrap();
    b.wait_for("x/K", Some(b"2"));
    a.wait_until_tidy();
    // It holds everywhere, though whoever wrote it is told that this host could not keep it.
    a.store.fail_next(crate::store::StoreError::Full);
    a.put("x/K", b"3").unwrap_err();
    b.wait_for("x/K", Some(b"3"));
    a.wait_for("x/K", Some(b"3"));
}

#[test]
fn old_and_misplaced_records_are_not_taken_over() {
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    let secrets = || {
        let records = cluster.records();
        let of = records.into_iter().filter(|record| record.name.starts_with(b"s/"));
        of.collect::<Vec<_>>()
    };
    a.put("x/K", b"1").unwrap();
    let [old] = &secrets()[..] else { panic!("one secret, one record") };
    a.put("x/K", b"2").unwrap();
    a.put("x/L", b"3").unwrap();
    b.wait_for("x/L", Some(b"3"));
    let other = secrets().into_iter().find(|record| record.name != old.name).unwrap();
    cluster.tamper(&old.name, Some(old.sealed.clone()));
    b.wait(|host| {
        host.problems().iter().any(|why| why.starts_with("x/K: ") && why.contains("older"))
    });
    cluster.tamper(&old.name, Some(other.sealed.clone()));
    b.wait(|host| !host.problems().iter().any(|why| why.contains("older")));
    assert!(!b.problems().is_empty());
    assert_eq!(b.value("x/K").unwrap(), b"2");
    // The next change takes its place.
    a.wait(|host| !host.problems().is_empty());
    a.put("x/K", b"4").unwrap();
    b.wait_for("x/K", Some(b"4"));
    b.wait(|host| host.problems().is_empty());
    // What is removed stays removed, on a host that starts again, too.
    let last = secrets().into_iter().find(|record| record.name == old.name).unwrap();
    a.remove("x/K").unwrap();
    b.wait_for("x/K", None);
    cluster.tamper(&last.name, Some(last.sealed));
    b.wait(|host| host.problems().iter().any(|why| why.contains("came back")));
    assert_eq!(b.value("x/K"), None);
}

#[test]
fn an_older_state_of_the_whole_is_refused() {
    let [cluster, older] = [(); 2].map(|()| Arc::new(MemoryCluster::new()));
    let a = Host::new(&cluster);
    let page = cluster.read(b"", b"\xff", None).unwrap();
    page.records.into_iter().for_each(|record| older.tamper(&record.name, Some(record.sealed)));
    (0..20).for_each(|number| a.put(&format!("x/{number}"), b"v").unwrap());
    a.wait(|host| host.vault.shared.replica.as_ref().unwrap().seen() >= 20);
    let Host { vault, store } = a;
    drop(vault);
    let error = Host::open(&older, store, keyring(7, &[])).err().unwrap();
    assert!(error.to_string().contains("an older state"), "{error}");
}

#[test]
fn the_wrong_store_is_refused_with_a_sentence() {
    let [cluster, other] = [(); 2].map(|()| Arc::new(MemoryCluster::new()));
    let off = crate::audit::Options::off();
    let code =
        |_: &VaultError| crate::audit::ErrorCode { number: 0, name: String::new(), denied: false };
    let open = |store: &Arc<MemoryStore>, sharing: Sharing, ring: Keyring| {
        let store = Arc::<MemoryStore>::clone(store);
        Vault::open_shared(store, &sharing, ring, &off, code).err().map(|it| it.to_string())
    };
    let fresh = Arc::new(MemoryStore::new());
    let refused = open(&fresh, shared(&cluster, false), keyring(7, &[])).unwrap();
    assert!(refused.contains("--create-store"), "{refused}");
    let host = Host::new(&cluster);
    host.put("x/K", b"v").unwrap();
    drop(Host::new(&other));
    let store = Arc::clone(&host.store);
    drop(host);
    let refused = open(&store, shared(&other, false), keyring(7, &[])).unwrap();
    assert!(refused.contains("another store"), "{refused}");
    let refused = open(&store, Sharing::Alone, keyring(7, &[])).unwrap();
    assert!(refused.contains("--store"), "{refused}");
    // It is not made another key's meanwhile.
    let refused = open(&store, Sharing::Alone, keyring(8, &[7])).unwrap();
    assert!(refused.contains("--store"), "{refused}");
    assert_eq!(open(&store, shared(&cluster, false), keyring(7, &[])), None);
    let refused = open(&fresh, shared(&cluster, false), keyring(8, &[])).unwrap();
    assert!(refused.contains("another encryption key"), "{refused}");
    let own = Arc::new(MemoryStore::new());
    let vault = Vault::open(Arc::<MemoryStore>::clone(&own), keyring(7, &[])).unwrap();
    let (answer, answered) = channel();
    let done = Box::new(move |outcome: Result<Vec<_>, _>| drop(answer.send(outcome.map(drop))));
    vault.write(root(), new("x/K"), Plaintext::copy_of(b"v"), None, done);
    answered.recv().unwrap().unwrap();
    drop(vault);
    let refused = open(&own, shared(&cluster, false), keyring(7, &[])).unwrap();
    assert!(refused.contains("this host alone"), "{refused}");
    cluster.set_away(true);
    let refused = open(&Arc::default(), shared(&cluster, false), keyring(7, &[])).unwrap();
    assert!(refused.contains("cannot be reached"), "{refused}");
    assert_eq!(open(&store, shared(&cluster, false), keyring(7, &[])), None);
}

#[test]
fn nothing_can_be_read_in_the_shared_store() {
    let cluster = Arc::new(MemoryCluster::new());
    let host = Host::new(&cluster);
    host.put("visible-folder/visible-name", b"visible-value").unwrap();
    host.lists("visible-folder/visible-name", "readers: [visible-slug]").unwrap();
    for record in cluster.records() {
        let has = |bytes: &[u8]| bytes.windows(7).any(|window| window == b"visible");
        assert!(!has(&record.name) && !has(&record.sealed));
        assert!(record.name.len() <= 18);
    }
}

#[test]
fn keys_are_changed_while_hosts_go_on() {
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    a.put("x/K", b"1").unwrap();
    b.wait_for("x/K", Some(b"1"));
    a.vault.replace_keyring(keyring(8, &[7])).unwrap();
    // Who lacks the new key says so, and goes on where it was once it has it.
    a.put("x/K", b"2").unwrap();
    b.wait(|host| !host.problems().is_empty());
    assert_eq!(b.value("x/K").unwrap(), b"1");
    b.vault.replace_keyring(keyring(7, &[8])).unwrap();
    b.wait_for("x/K", Some(b"2"));
    b.wait(|host| host.problems().is_empty());
    b.put("x/K", b"3").unwrap();
    a.wait_for("x/K", Some(b"3"));
    let refused = Host::open(&cluster, Arc::default(), keyring(8, &[])).err().unwrap();
    assert!(refused.to_string().contains("--previous-encryption-key-file"), "{refused}");
}

#[test]
fn everything_is_sealed_anew_while_hosts_go_on() {
    use crate::vault::{RekeyState, RekeyTask};
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    (0..250).for_each(|number| a.put(&format!("x/{number}"), b"v").unwrap());
    for host in [&a, &b] {
        host.vault.replace_keyring(keyring(8, &[7])).unwrap();
        host.vault.start_rekey(&root(), RekeyTask::Reseal).unwrap();
    }
    (0..50).for_each(|number| b.put(&format!("x/{number}"), b"w").unwrap_or(()));
    for host in [&a, &b] {
        host.wait(|host| host.vault.rekey_status().state == RekeyState::Done(RekeyTask::Reseal));
        assert_eq!(host.vault.key_ids().1.len(), 1);
    }
    // The old key is not needed any more, by anybody.
    let fresh = Host::open(&cluster, Arc::default(), keyring(8, &[])).unwrap();
    assert!(fresh.vault.wait_until_current(SOON));
    fresh.wait(|host| host.vault.len() == 250);
    same_on(&[&a, &b, &fresh], "x/7");
    fresh.put("x/7", b"z").unwrap();
    a.wait_for("x/7", Some(b"z"));
    a.wait(|host| host.problems().is_empty());
}

/// Documents for that many secrets below `bulk/`.
pub(super) fn documents(count: usize, value: &str) -> Vec<crate::document::Document> {
    let text: String =
        (0..count).map(|number| format!("key: bulk/{number}\nvalue: {value}\n---\n")).collect();
    crate::document::parse(text.as_bytes()).unwrap()
}

fn is_there(host: &Host, count: usize, value: &str) -> bool {
    (0..count)
        .all(|number| host.value(&format!("bulk/{number}")).as_deref() == Some(value.as_bytes()))
}

#[test]
fn a_large_file_holds_whole_on_every_host() {
    const COUNT: usize = 1000;
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    b.put("bulk/7", b"before").unwrap();
    a.wait_for("bulk/7", Some(b"before"));
    // A new name that comes while the file is on its way would be a change that it meets.
    b.put("other", b"before").unwrap();
    a.wait_for("other", Some(b"before"));
    let rest = |cluster: &MemoryCluster| {
        let records = cluster.records();
        records.iter().filter(|it| it.name.starts_with(b"t/") || it.name == b"o").count()
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| a.vault.apply(&root(), documents(COUNT, "one")).map(drop));
        // Others wait for it, or come before it.
        for round in 0..20u8 {
            b.patiently(|host| host.put("other", &[round])).unwrap();
            let count = b.vault.len();
            assert!([2, COUNT + 1].contains(&count), "{count} secrets");
        }
        writer.join().unwrap().unwrap();
    });
    assert!(is_there(&a, COUNT, "one"));
    b.wait(|host| is_there(host, COUNT, "one"));
    b.wait(|_| rest(&cluster) == 0);
    a.put("bulk/3", b"two").unwrap();
    b.wait_for("bulk/3", Some(b"two"));
    b.vault.apply(&root(), documents(COUNT, "three")).unwrap();
    a.wait(|host| is_there(host, COUNT, "three"));
    let c = Host::new(&cluster);
    assert!(is_there(&c, COUNT, "three"));
    same_on(&[&a, &b, &c], "bulk/999");
    assert!(a.problems().is_empty() && b.problems().is_empty());
}

#[test]
fn a_large_file_that_is_not_finished_is_finished_by_others() {
    const COUNT: usize = 300;
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    a.put("K", b"1").unwrap();
    b.wait_for("K", Some(b"1"));
    // It is ordered, and nobody has put anything in its place when another host comes.
    let replica = Arc::clone(b.vault.shared.replica.as_ref().unwrap());
    let Host { vault, store } = a;
    // Without its follower it puts nothing in its place.
    drop(vault.follower.lock().take());
    vault.apply(&root(), documents(COUNT, "one")).unwrap();
    // Before the others have waited long enough to do by themselves what is done below.
    let ordered = || replica.state.lock().order.map(|(order, revision, _)| (order, revision));
    b.wait(|_| ordered().is_some());
    let (order, revision) = ordered().expect("it was there just now");
    b.wait(|host| is_there(host, COUNT, "one"));
    drop(vault);
    let c = Host::new(&cluster);
    assert!(is_there(&c, COUNT, "one"), "what is ordered holds");
    // Until it is settled nobody changes anything.
    let waiting = b.begin_write(b.target("K"), b"2");
    replica.settle(&order, revision).unwrap();
    b.wait(|_| !replica.is_busy());
    waiting().unwrap();
    c.wait_for("K", Some(b"2"));
    let a = Host::open(&cluster, store, keyring(7, &[])).unwrap();
    a.wait_for("K", Some(b"2"));
    a.put("bulk/9", b"two").unwrap();
    c.wait_for("bulk/9", Some(b"two"));
    same_on(&[&a, &b, &c], "bulk/9");
}

#[test]
fn a_large_file_that_was_overtaken_changes_nothing() {
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    a.vault.apply(&root(), documents(300, "one")).unwrap();
    b.wait(|host| is_there(host, 300, "one"));
    b.wait(|host| !host.vault.shared.replica.as_ref().unwrap().is_busy());
    // It does not hear of what the other one does.
    drop(b.vault.follower.lock().take());
    b.vault.shared.replica.as_ref().unwrap().link.set_up();
    a.put("bulk/7", b"two").unwrap();
    let error = b.vault.apply(&root(), documents(300, "three")).err().unwrap();
    assert!(error.is_overtaken(), "{error}");
    assert!(cluster.records().iter().all(|record| record.name != b"o"));
    assert_eq!(b.value("bulk/9").unwrap(), b"one");
    a.put("bulk/8", b"four").unwrap();
    assert_eq!(a.value("bulk/7").unwrap(), b"two");
}

#[test]
fn large_files_of_two_hosts_do_not_mix() {
    const COUNT: usize = 300;
    let cluster = Arc::new(MemoryCluster::new());
    let hosts = [Host::new(&cluster), Host::new(&cluster)];
    let apply = |host: &Host, value: &str| {
        host.patiently(|host| host.vault.apply(&root(), documents(COUNT, value)).map(drop))
    };
    std::thread::scope(|scope| {
        let names = scope.spawn(|| {
            let put = |number| {
                hosts[0].patiently(|host| host.put(&format!("x/{number}"), b"v")).unwrap();
            };
            (0..50).for_each(put);
        });
        let files = [(&hosts[0], "one"), (&hosts[1], "two")]
            .map(|(host, value)| scope.spawn(move || apply(host, value)));
        files.into_iter().for_each(|file| file.join().unwrap().unwrap());
        names.join().unwrap();
    });
    for host in &hosts {
        host.wait(|host| is_there(host, COUNT, "one") || is_there(host, COUNT, "two"));
        host.wait(|host| host.vault.len() == COUNT + 50);
    }
    // The last one holds, on both.
    let state = |host: &Host| description(&host.vault.secret("bulk/7").unwrap());
    hosts[0].wait(|host| state(host) == state(&hosts[1]));
    assert_eq!(hosts[0].value("bulk/7"), hosts[1].value("bulk/7"));
}
