//! What hosts do at the same time, and which one wins.

use super::*;

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
    assert!(a.vault.secret("x/K").is_none() && !a.vault.is_directory("x"));
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
    let second = hosts[1].begin_write(None, hosts[1].target("x/K"), b"second");
    hosts[1].wait(|_| cluster.conflicts() > conflicts);
    cluster.set_slow(false);
    assert!(matches!(second(), Err(VaultError::Conflict { key }) if key == "x/K"));
    assert_eq!(hosts[1].vault.sharing_status().unwrap().conflicts, 1);
    hosts[1].wait_for("x/K", Some(b"first"));
    let (mut wins, mut losses) = (1, 1);
    for round in 0..100u8 {
        // Equal values would make one version.
        let answers = [0, 1].map(|number| {
            let host = &hosts[number];
            host.begin_write(None, host.target("x/K"), &[round, number as u8])
        });
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
        hosts[0].begin_write(None, new("z/a"), b"1"),
        hosts[1].begin_write(None, new("z/a/b"), b"2"),
        hosts[2].begin_write(None, new("z/a"), b"3"),
    ];
    let won: Vec<_> = answers.iter().map(|answer| answer()).collect();
    // A host that comes when the other's secret exists already gives that a new value.
    assert!(won.iter().any(|outcome| outcome.is_ok()), "{won:?}");
    hosts.iter().for_each(|host| host.wait(|host| host.vault.len() == 91));
    let names = |host: &Host| ["z/a", "z/a/b"].map(|key| host.vault.secret(key).is_some());
    assert!(hosts.iter().all(|host| names(host) == names(&hosts[0])), "{won:?}");
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
    // The last writer has the last version and the latest time, whatever its clock says.
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
    let second = ahead.begin_write(None, ahead.target("x/K"), b"second");
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
