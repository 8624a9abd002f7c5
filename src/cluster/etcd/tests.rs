//! With a real etcd, where there is one: Debian's `etcd-server`.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::cluster::contract;

use super::*;

/// How long things may take on a machine that has other things to do.
const LONG: Duration = Duration::from_secs(60);

/// One node, which ends with this.
struct Node {
    process: Child,
    address: Ipv4Addr,
    _directory: tempfile::TempDir,
}

impl Node {
    /// None where no etcd is installed, which is a failure under CI.
    fn start(arguments: &[&str]) -> Option<Self> {
        let is_there = Command::new("etcd").arg("--version").stdout(Stdio::null()).status();
        if is_there.is_err() {
            assert!(std::env::var_os("CI").is_none(), "CI installs etcd-server");
            eprintln!("skipped: there is no etcd; install etcd-server");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let address = own_address();
        let (client, peer) = (format!("http://{address}:2379"), format!("http://{address}:2380"));
        let process = Command::new("etcd")
            .args(["--data-dir", directory.path().to_str().unwrap(), "--log-level", "error"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--unsafe-no-fsync"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let node = Self { process, address, _directory: directory };
        let until = Instant::now() + LONG;
        let probe = node.cluster("/probe");
        while let Err(error) = probe.read(b"a", b"b", None) {
            assert!(Instant::now() < until, "etcd does not start: {error}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(node)
    }

    fn address(&self, prefix: &str) -> ClusterAddress {
        ClusterAddress::parse(&format!("etcd://{}{prefix}", self.address)).unwrap()
    }

    fn cluster(&self, prefix: &str) -> EtcdCluster {
        self.cluster_for(prefix, &Credentials::default())
    }

    fn cluster_for(&self, prefix: &str, credentials: &Credentials) -> EtcdCluster {
        let cluster = EtcdCluster::prepare(&self.address(prefix), credentials).unwrap();
        EtcdCluster { patience: LONG, ..cluster }
    }

    fn control(&self, arguments: &[&str]) {
        let endpoint = format!("--endpoints={}:2379", self.address);
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args([&endpoint, "--command-timeout=60s"]);
        let done = command.args(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address of this machine that no other node of these tests has: a port that is looked for first
/// may be another's by the time it is used.
fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, COUNT.fetch_add(1, Ordering::Relaxed), high, low)
}

fn put(name: &[u8], sealed: &[u8]) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.put(name, sealed.to_vec());
    transaction
}

#[test]
fn keeps_the_contract() {
    let Some(node) = Node::start(&[]) else { return };
    let count = AtomicU64::new(0);
    contract::run(|| node.cluster(&format!("/{}", count.fetch_add(1, Ordering::Relaxed))));
}

#[test]
fn what_is_forgotten_is_told() {
    let Some(node) = Node::start(&[]) else { return };
    let cluster = node.cluster("/x");
    let revisions: Vec<_> = (0..5u8)
        .map(|number| match cluster.commit(&put(b"a", &[number])).unwrap() {
            Outcome::Committed(revision) => revision,
            Outcome::Conflict(_) => unreachable!("nothing is expected"),
        })
        .collect();
    node.control(&["compact", &revisions[3].to_string()]);
    let read = cluster.read(b"a", b"b", Some(revisions[1]));
    assert!(matches!(read, Err(ClusterError::Compacted { .. })), "{read:?}");
    let watch = cluster.watch(b"a", b"b", revisions[1], &mut |_| ControlFlow::Continue(()));
    assert!(matches!(watch, Err(ClusterError::Compacted { .. })), "{watch:?}");
    assert_eq!(cluster.read(b"a", b"b", None).unwrap().records[0].sealed, [4]);
}

#[test]
fn large_records_are_read_a_few_at_a_time() {
    let Some(node) = Node::start(&[]) else { return };
    let cluster = node.cluster("/x");
    for number in 0..100u8 {
        cluster.commit(&put(&[b's', number], b"small")).unwrap();
    }
    for number in 0..60u8 {
        cluster.commit(&put(&[b't', number], &vec![number; 1 << 20])).unwrap();
    }
    let (mut from, mut seen) = (b"a".to_vec(), 0);
    loop {
        let page = cluster.read(&from, b"z", None).unwrap();
        seen += page.records.len();
        if !page.more {
            break;
        }
        from = [&page.records.last().unwrap().name[..], b"\0"].concat();
    }
    assert_eq!(seen, 160);
}

#[test]
fn who_has_no_right_is_told() {
    let Some(node) = Node::start(&[]) else { return };
    for arguments in [
        &["user", "add", "root:r"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "host"],
        &["role", "grant-permission", "host", "readwrite", "--prefix=true", "/mine/"],
        &["user", "add", "host:p"],
        &["user", "grant-role", "host", "host"],
        &["auth", "enable"],
    ] {
        node.control(arguments);
    }
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    let as_user = |text: &str, prefix: &str| {
        std::fs::write(&password, text).unwrap();
        let credentials = Credentials {
            user: Some("host".into()),
            password: Some(password.clone()),
            ..Credentials::default()
        };
        node.cluster_for(prefix, &credentials)
    };
    as_user("p\n", "/mine").commit(&put(b"a", b"1")).unwrap();
    for cluster in [as_user("wrong", "/mine"), as_user("p", "/others"), node.cluster("/mine")] {
        let error = cluster.read(b"a", b"b", None).unwrap_err();
        assert!(matches!(error, ClusterError::Denied { .. }), "{error}");
        let error = cluster.commit(&put(b"a", b"1")).unwrap_err();
        assert!(matches!(error, ClusterError::Denied { .. }), "{error}");
    }
}

#[test]
fn a_full_etcd_says_so() {
    let Some(node) = Node::start(&["--quota-backend-bytes", "4000000"]) else { return };
    let cluster = node.cluster("/x");
    let full = (0..40u8).find_map(|number| cluster.commit(&put(&[number], &[1; 500_000])).err());
    assert!(matches!(full, Some(ClusterError::Full { .. })), "{full:?}");
    cluster.read(b"\0", b"\xff", None).unwrap();
}

#[test]
fn nobody_is_waited_for_without_end() {
    let address = ClusterAddress::parse("etcd://127.0.0.1:1/x").unwrap();
    let cluster = EtcdCluster::prepare(&address, &Credentials::default()).unwrap();
    let started = Instant::now();
    let error = cluster.read(b"a", b"b", None).unwrap_err();
    assert!(matches!(error, ClusterError::Unreachable { .. }), "{error}");
    assert!(started.elapsed() < 10 * PATIENCE);
}
