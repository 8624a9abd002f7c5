//! What is not taken over, and not opened.

use super::*;

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
    let open = |store: &Arc<MemoryStore>, sharing: Sharing, ring: Keyring| {
        let store = Arc::<MemoryStore>::clone(store);
        let opening = Opening { sharing, ..Opening::new(store, ring) };
        opening.open().err().map(|it| it.to_string())
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
    // A refused open does not change the key of the store.
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
