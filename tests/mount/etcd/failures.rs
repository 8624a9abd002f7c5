//! Nodes, servers and connections that fail, and an etcd that is full.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::harness::eventually;

use super::history::{History, look, rotate};
use super::node::Etcd;
use super::{Host, create, fleet, points, rotates};

#[test]
fn a_leader_and_servers_that_are_killed_lose_nothing() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let hosts = fleet(&mut etcd, 3);
    let keys = ["A", "B"];
    create(&hosts, &keys);
    let (history, points) = (History::default(), points(&hosts));
    history.record(&points, &keys, || {
        let pause = || std::thread::sleep(Duration::from_secs(1));
        for host in &hosts[..2] {
            pause();
            let leader = etcd.leader();
            etcd.kill(leader);
            pause();
            eventually("it is killed", || host.mount.kill_server());
            pause();
            etcd.revive(leader);
            etcd.leader();
        }
        eventually("they wrote often enough", || history.count("ok") > 50);
    });
    eprintln!("writes: {:?}", history.counts());
    history.check(&points, &keys);
    hosts.iter().for_each(Host::is_well);
}

#[test]
fn who_is_cut_off_serves_what_he_has_and_comes_back() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let mut hosts = fleet(&mut etcd, 2);
    create(&hosts, &["A", "B", "C"]);
    let cut = &hosts[1];
    etcd.network.connect(&cut.machine, false);
    // Nobody has told it yet.
    let started = Instant::now();
    let outcome = rotate(&cut.path("A"), b"lost");
    assert!(
        [Err(Errno::EIO), Err(Errno::ENETUNREACH)].contains(&outcome)
            && started.elapsed() < Duration::from_secs(20),
        "{outcome:?} after {:?}",
        started.elapsed()
    );
    eventually("it knows", || cut.health().contains("what is served is of"));
    // The fastest of some: the machine may have other things to do.
    let read = |_| {
        let started = Instant::now();
        assert_eq!(cut.value("A").as_deref(), Some("first"));
        started.elapsed()
    };
    assert!((0..20).map(read).min() < Some(Duration::from_millis(100)));
    assert_eq!(rotate(&cut.path("A"), b"lost"), Err(Errno::ENETUNREACH));
    let metrics = cut.metrics();
    assert_eq!(metrics["secretfs_etcd_connected"], 0.0);
    assert!(metrics["secretfs_etcd_age_seconds"] > 0.0);
    assert!(metrics["secretfs_etcd_disconnects_total"] >= 1.0);
    eventually("it grows older", || {
        cut.metrics()["secretfs_etcd_age_seconds"] > metrics["secretfs_etcd_age_seconds"] + 1.0
    });
    let reason = std::fs::read_to_string(cut.path(".status/last-error")).unwrap();
    assert!(reason.contains("etcd cannot be reached"), "{reason}");
    rotates(&hosts[0], "A", "second");
    std::fs::remove_file(hosts[0].path("B")).unwrap();
    std::fs::rename(hosts[0].path("C"), hosts[0].path("B")).unwrap();
    etcd.compact();
    // Started anew without etcd, it still serves.
    hosts[1].mount.restart();
    let cut = &hosts[1];
    assert_eq!(cut.value("B").as_deref(), Some("first"));
    eventually("it is said", || cut.mount.said().contains("what is served is of"));
    etcd.network.connect(&cut.machine, true);
    cut.waits_for("A", "second");
    cut.is_well();
    eventually("it is connected", || {
        let metrics = cut.metrics();
        metrics["secretfs_etcd_connected"] == 1.0 && metrics["secretfs_etcd_age_seconds"] == 0.0
    });
    assert!(cut.metrics()["secretfs_etcd_resyncs_total"] >= 1.0, "what it missed was forgotten");
    assert_eq!((cut.value("B").as_deref(), cut.value("C")), (Some("first"), None));
    assert_eq!(look(&cut.path("A")), look(&hosts[0].path("A")));
    rotates(cut, "A", "third");
    hosts[0].waits_for("A", "third");
}

#[test]
fn who_is_with_the_smaller_part_of_etcd_reads_and_does_not_write() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let mut hosts = fleet(&mut etcd, 2);
    // On the machine of a node, and knows no other. Not of the leader: its end is another test.
    let leader = etcd.leader();
    let node = (0..3).find(|&number| number != leader).expect("there are three");
    let store = etcd.store_at(node, "/fleet");
    let mut small = Host::prepare(&mut etcd, &["--store", &store]);
    small.mount = small.mount.in_network(etcd.namespace(node));
    small.mount.go();
    hosts.push(small);
    create(&hosts, &["A", "B"]);
    etcd.connect(node, false);
    let small = &hosts[2];
    // The node answers, and cannot agree with anybody. Nobody has told the host yet.
    let started = Instant::now();
    let outcome = rotate(&small.path("A"), b"perhaps");
    let took = started.elapsed();
    assert!(
        [Err(Errno::EIO), Err(Errno::ENETUNREACH)].contains(&outcome)
            && took < Duration::from_secs(20),
        "{outcome:?} after {took:?}"
    );
    eventually("it knows", || small.health().contains("what is served is of"));
    assert_eq!(rotate(&small.path("B"), b"lost"), Err(Errno::ENETUNREACH));
    assert_eq!(small.value("B").as_deref(), Some("first"));
    // The larger part goes on.
    rotates(&hosts[0], "B", "second");
    hosts[1].waits_for("B", "second");
    assert_eq!(small.value("B").as_deref(), Some("first"), "it cannot know");
    etcd.connect(node, true);
    small.waits_for("B", "second");
    small.is_well();
    rotates(small, "B", "third");
    hosts[..2].iter().for_each(|host| host.waits_for("B", "third"));
    // Whatever became of the first one, it is the same everywhere.
    eventually("all have the same", || {
        let all: Vec<_> = hosts.iter().map(|host| look(&host.path("A"))).collect();
        all.iter().all(|one| *one == all[0])
    });
    assert!(["first", "perhaps"].contains(&look(&small.path("A")).1.as_str()));
}

#[test]
fn a_full_etcd_refuses_writers_and_no_reader() {
    let quota = ["--quota-backend-bytes", "4000000"];
    let Some(mut etcd) = Etcd::with(1, "http", &quota, &[]) else { return };
    let hosts = fleet(&mut etcd, 2);
    create(&hosts, &["K"]);
    let large = vec![b'x'; 700_000];
    let mut number = 0;
    eventually("it is full", || {
        number += 1;
        rotate(&hosts[0].path(&format!("L{number}")), &large) == Err(Errno::ENOSPC)
    });
    assert!(number < 20, "{number} large values were stored");
    assert_eq!(hosts[1].value("K").as_deref(), Some("first"));
    let there = |host: &Host| std::fs::read_dir(host.mount.point()).unwrap().count();
    eventually("both have the same", || there(&hosts[0]) == there(&hosts[1]));
    for host in &hosts {
        for entry in std::fs::read_dir(host.mount.point()).unwrap() {
            let length = std::fs::read(entry.unwrap().path()).unwrap().len();
            assert!([5, large.len()].contains(&length), "nothing is half there");
        }
    }
    etcd.compact();
    etcd.control(&["defrag"]);
    etcd.control(&["alarm", "disarm"]);
    eventually("there is room again", || rotate(&hosts[0].path("K"), b"second").is_ok());
    hosts[1].waits_for("K", "second");
}
