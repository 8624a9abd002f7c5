//! Files of documents that do not fit one transaction.

use super::*;

/// Documents for that many secrets below `bulk/`.
fn documents(count: usize, value: &str) -> Vec<crate::document::Document> {
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
    // It is ordered, but nothing has been put in its place when another host comes.
    let replica = Arc::clone(b.vault.shared.replica.as_ref().unwrap());
    let Host { vault, store } = a;
    // Without its follower it puts nothing in its place.
    drop(vault.follower.lock().take());
    vault.apply(&root(), documents(COUNT, "one")).unwrap();
    // Before the others have waited long enough to do by themselves what is done below.
    let ordered = || replica.state.lock().order.map(|(order, revision, _)| (order, revision));
    b.wait(|_| ordered().is_some_and(|(order, _)| order.holds));
    let (order, revision) = ordered().expect("it was there just now");
    b.wait(|host| is_there(host, COUNT, "one"));
    drop(vault);
    let c = Host::new(&cluster);
    assert!(is_there(&c, COUNT, "one"), "what is ordered holds");
    // Until it is settled no host changes anything.
    let waiting = b.begin_write(None, b.target("K"), b"2");
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
