//! Processes that die between the commit on the shared store and the one here, and what the next one knows.

use crate::cluster::{ClusterError, Outcome, Transaction};

use super::*;

const MOUNT: u64 = 7;

fn origin(unique: u64) -> Option<RequestId> {
    Some(RequestId { mount: MOUNT, unique, ..RequestId::default() })
}

/// The host in the state in which its last process left it, which served the same mount.
fn successor(cluster: &Arc<MemoryCluster>, tombstone: Host) -> Host {
    let Host { vault, store } = tombstone;
    drop(vault);
    let Sharing::With(shared) = shared(cluster, false) else { unreachable!() };
    let sharing = Sharing::With(SharedStore { at_once: true, ..shared });
    let local = Arc::<MemoryStore>::clone(&store);
    let opening = Opening { sharing, ..Opening::new(local, keyring(7, &[])) };
    let (vault, _) = opening.take_over().unwrap();
    vault.follow(Box::new(|_| {})).unwrap();
    Host { vault, store }
}

fn was_carried_out(host: &Host, unique: u64) -> bool {
    host.vault.was_carried_out(MOUNT, unique).unwrap()
}

fn replica(host: &Host) -> &Replica {
    host.vault.shared.replica.as_deref().unwrap()
}

#[test]
fn what_a_dead_process_did_is_known_to_those_after_it() {
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    a.put("x/K", b"1").unwrap();
    a.wait_until_tidy();
    a.store.fail_next(crate::store::StoreError::Full);
    a.put_for(origin(1), "x/K", b"2").unwrap_err();
    let a = successor(&cluster, a);
    assert!(was_carried_out(&a, 1));
    assert_eq!(a.value("x/K").unwrap(), b"2", "it waits until that is here");
    assert!(!was_carried_out(&a, 2));
    assert!(!a.vault.was_carried_out(MOUNT + 1, 1).unwrap(), "another mount numbers as it likes");
    // The next process may have to answer it, whatever this one has done since.
    a.put_for(origin(3), "x/L", b"3").unwrap();
    let a = successor(&cluster, a);
    assert!(was_carried_out(&a, 1) && was_carried_out(&a, 3));
    // A fence is not waited for: it changes nothing that comes here.
    let mut never = Transaction::default();
    replica(&a).mark(&[], &mut never);
    assert_eq!(replica(&a).settle_last(Instant::now() + SOON).unwrap(), None);
    let a = successor(&cluster, a);
    assert!(a.vault.wait_until_current(SOON));
    let started = Instant::now();
    assert!(was_carried_out(&a, 1) && was_carried_out(&a, 3));
    assert!(started.elapsed() < link::GRACE);
    // The first process of a mount gets no repeated requests.
    cluster.set_away(true);
    let a = a.again(&cluster);
    assert!(!was_carried_out(&a, 1));
    cluster.set_away(false);
    b.wait_for("x/L", Some(b"3"));
    same_on(&[&a, &b], "x/K");
}

#[test]
fn nobody_guesses_what_a_dead_process_did() {
    let cluster = Arc::new(MemoryCluster::new());
    let a = Host::new(&cluster);
    a.put_for(origin(1), "x/K", b"1").unwrap();
    cluster.set_away(true);
    let a = successor(&cluster, a);
    assert_eq!(a.value("x/K").unwrap(), b"1");
    let error = a.vault.was_carried_out(MOUNT, 2).unwrap_err();
    let expected = ReplicaError::Cluster(ClusterError::Unknown { why: String::new() });
    assert_eq!(
        std::mem::discriminant(&error),
        std::mem::discriminant(&VaultError::Replica(expected)),
        "{error}"
    );
    cluster.set_away(false);
    a.wait(|host| host.problems().is_empty());
    assert!(!was_carried_out(&a, 2));
}

#[test]
fn what_was_on_its_way_does_not_follow_its_process() {
    let cluster = Arc::new(MemoryCluster::new());
    let a = Host::new(&cluster);
    a.put("x/K", b"1").unwrap();
    let mut late = Transaction::default();
    replica(&a).mark(&[(MOUNT, 1)], &mut late);
    let a = successor(&cluster, a);
    assert!(!was_carried_out(&a, 1));
    assert!(matches!(cluster.commit(&late), Ok(Outcome::Conflict(_))));
    a.put("x/K", b"2").unwrap();
    assert!(matches!(cluster.commit(&late), Ok(Outcome::Conflict(_))));
}

#[test]
fn a_connection_that_comes_back_does_not_hide_a_lost_answer() {
    let cluster = Arc::new(MemoryCluster::new());
    let a = Host::new(&cluster);
    a.put("x/K", b"1").unwrap();
    let replica = replica(&a);
    let mut lost = Transaction::default();
    replica.mark(&[], &mut lost);
    let Ok(Outcome::Committed(revision)) = cluster.commit(&lost) else { panic!() };
    replica.connect().unwrap();
    assert_eq!(replica.settle_last(Instant::now() + SOON).unwrap(), Some(revision));
    assert_eq!(replica.settle_last(Instant::now() + SOON).unwrap(), None, "it is told once");
    let mut never = Transaction::default();
    replica.mark(&[], &mut never);
    replica.connect().unwrap();
    assert_eq!(replica.settle_last(Instant::now() + SOON).unwrap(), None);
    assert!(matches!(cluster.commit(&never), Ok(Outcome::Conflict(_))));
    a.put("x/K", b"2").unwrap();
}
