//! What breaks, is lost or forgotten, and how that is reported.

use super::*;

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
    // It is valid on all hosts, although the writer gets the error that this host could not store it.
    a.store.fail_next(crate::store::StoreError::Full);
    a.put("x/K", b"3").unwrap_err();
    b.wait_for("x/K", Some(b"3"));
    a.wait_for("x/K", Some(b"3"));
}
