//! What works on a state directory, where that is one of many hosts' or becomes it.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use crate::harness::{KEY, ROOT, eventually};

use super::node::Etcd;
use super::{Host, create, documents, fleet, rotates};

const OTHER_KEY: &str = "19c4e7a03b5d8f62718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8";

/// Exit code and standard error.
fn said(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().expect("it was built");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[track_caller]
fn done(command: Command) -> String {
    let (code, said) = said(command);
    assert_eq!(code, Some(0), "{said}");
    said
}

/// Everything that can be told of every secret, by its path.
fn tree(host: &Host) -> BTreeMap<String, Vec<String>> {
    let names = ["id", "version", "created", "updated", "updated-by"];
    let root = host.mount.user(ROOT);
    let paths = root.sh("find . -type f | sort").stdout;
    let describe = |path: &str| {
        let attribute =
            |name: &&str| root.xattr(path, &format!("user.secretfs.{name}")).expect("it has it");
        let mut all: Vec<_> = names.iter().map(attribute).collect();
        all.push(root.read(path).expect("it can be read"));
        all.push(root.read(&format!("{path}.acl")).expect("it has lists"));
        all
    };
    paths.lines().map(|path| (path.to_owned(), describe(path.trim_start_matches("./")))).collect()
}

#[test]
fn a_store_moves_there_and_back() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let mut alone = Host::prepare(&mut etcd, &[]);
    alone.mount.go();
    let root = alone.mount.user(ROOT);
    root.put("team/K", "one", "readers: [alice, bob]\ncanChangeReaders: [carol]\n");
    rotates(&alone, "team/K", "two");
    root.put("large", "x".repeat(1 << 20), "");
    root.write(".import/f.yaml", documents(300)).unwrap();
    let before = tree(&alone);
    let store = etcd.store("/fleet");
    let migrate = |host: &Host, way: &str| host.secretfs(&["migrate", way, &store]);
    let (code, why) = said(migrate(&alone, "--to"));
    assert_eq!(code, Some(6), "a daemon has the state directory: {why}");
    alone.mount.stop();
    // Killed as soon as something is there. No host takes that for a store.
    let mut killed = migrate(&alone, "--to").spawn().expect("it was built");
    eventually("it has begun", || etcd.count("/fleet/") > 0);
    killed.kill().expect("it is our child");
    let was_whole = killed.wait().expect("it is our child").success();
    let arguments = ["--store", &store];
    let mut host = Host::prepare(&mut etcd, &arguments);
    if !was_whole && etcd.count("/fleet/") < 300 {
        let why = host.mount.refused();
        assert!(why.contains("run the same `secretfs migrate`"), "{why}");
    }
    done(migrate(&alone, "--to"));
    let again = done(migrate(&alone, "--to"));
    assert!(again.starts_with("All 302 secrets"), "{again}");
    host.mount.go();
    assert_eq!(tree(&host), before);
    rotates(&host, "team/K", "three");
    let (code, why) = said(migrate(&alone, "--to"));
    assert_eq!(code, Some(5), "{why}");
    assert!(why.contains("something else at the prefix"), "{why}");
    // What is there is not this directory's replica.
    alone.mount = alone.mount.with_args(&arguments);
    let why = alone.mount.refused();
    assert!(why.contains("secretfs migrate --to"), "{why}");
    // Back, into an empty directory.
    let after = tree(&host);
    let mut own = Host::prepare(&mut etcd, &[]);
    let moved = done(migrate(&own, "--from"));
    assert!(moved.starts_with("Moved 302 secrets"), "{moved}");
    let (code, why) = said(migrate(&host, "--from"));
    assert_eq!(code, Some(6), "a daemon has the state directory: {why}");
    assert!(done(own.secretfs(&["fsck"])).is_empty());
    own.mount.go();
    assert_eq!(tree(&own), after);
    rotates(&own, "team/K", "four");
    done(own.secretfs(&["audit", "verify"]));
}

#[test]
fn a_backup_is_made_of_a_replica_and_comes_back_through_the_mount_alone() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let mut hosts = fleet(&mut etcd, 2);
    create(&hosts, &["A", "team/B"]);
    done(hosts[0].secretfs(&["backup", "on.yaml"]));
    hosts[1].mount.stop();
    done(hosts[1].secretfs(&["backup", "--offline", "off.yaml"]));
    let file = hosts[1].mount.outside().join("off.yaml");
    let text = std::fs::read_to_string(&file).expect("it was written");
    assert!(text.contains("key: \"A\"") && text.contains("key: \"team/B\""), "{text}");
    // It would not reach the others.
    let (code, why) = said(hosts[1].secretfs(&["restore", "--offline", "--force", "off.yaml"]));
    assert_eq!(code, Some(6), "{why}");
    assert!(why.contains("name it with --store"), "{why}");
    hosts[1].mount.go();
    std::fs::remove_file(hosts[0].path("A")).expect("it is there");
    eventually("it is gone", || hosts[1].value("A").is_none());
    rotates(&hosts[0], "team/B", "second");
    hosts[1].waits_for("team/B", "second");
    done(hosts[1].secretfs(&["restore", "off.yaml"]));
    for host in &hosts {
        host.waits_for("A", "first");
        host.waits_for("team/B", "first");
        host.is_well();
    }
}

#[test]
fn a_replica_is_checked_and_mended_or_fetched_anew() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let mut hosts = fleet(&mut etcd, 2);
    create(&hosts, &["A", "B"]);
    hosts[0].mount.user(ROOT).write(".import/f.yaml", documents(300)).unwrap();
    eventually("the file comes", || hosts[1].value("bulk/299").is_some());
    (0..5).for_each(|round| rotates(&hosts[0], "A", &format!("round {round}")));
    hosts[1].waits_for("A", "round 4");
    let (code, why) = said(hosts[1].secretfs(&["fsck"]));
    assert_eq!(code, Some(6), "the daemon has the store: {why}");
    hosts[1].mount.kill9();
    assert!(done(hosts[1].secretfs(&["fsck"])).is_empty());
    done(hosts[1].secretfs(&["fsck", "--repair"]));
    hosts[1].mount.go();
    rotates(&hosts[0], "A", "after");
    hosts[1].waits_for("A", "after");
    // Away, it comes anew.
    hosts[1].mount.stop();
    let store = hosts[1].mount.state().join("store");
    std::fs::rename(&store, hosts[1].mount.state().join("damaged")).expect("it is there");
    hosts[1].mount.go();
    assert_eq!(hosts[1].value("A").as_deref(), Some("after"));
    assert_eq!(tree(&hosts[1]), tree(&hosts[0]));
}

#[test]
fn a_new_key_takes_over_while_hosts_serve_and_not_offline() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let mut hosts = fleet(&mut etcd, 2);
    create(&hosts, &["A", "B"]);
    let directory = tempfile::tempdir().expect("a directory");
    let previous = directory.path().join("previous");
    std::fs::write(&previous, KEY).expect("it takes files");
    let path = previous.display().to_string();
    for host in &mut hosts {
        host.mount.stop();
    }
    let both = ["--previous-encryption-key-file", &path];
    let (code, why) =
        said(with_other_key(hosts[0].secretfs(&[&["rekey", "--offline"][..], &both].concat())));
    assert_eq!(code, Some(6), "{why}");
    assert!(why.contains("name it with --store"), "{why}");
    done(hosts[0].secretfs(&["rekey", "--offline", "--count"]));
    let mut hosts: Vec<_> = hosts
        .into_iter()
        .map(|Host { mount, machine }| {
            let mount = mount.with_args(&both).with_env("OB_ENCRYPTION_KEY", Some(OTHER_KEY));
            Host { mount, machine }
        })
        .collect();
    for host in &mut hosts {
        host.mount.go();
    }
    rotates(&hosts[0], "A", "second");
    hosts[1].waits_for("A", "second");
    for host in &hosts {
        done(with_other_key(host.secretfs(&["rekey"])));
    }
    // The old key is needed no more, here or there.
    std::fs::write(&previous, "").expect("it takes files");
    for host in &mut hosts {
        host.mount.restart();
        assert_eq!(host.value("A").as_deref(), Some("second"));
    }
    rotates(&hosts[1], "B", "second");
    hosts[0].waits_for("B", "second");
    hosts.iter().for_each(Host::is_well);
}

fn with_other_key(mut command: Command) -> Command {
    command.env("OB_ENCRYPTION_KEY", OTHER_KEY);
    command
}
