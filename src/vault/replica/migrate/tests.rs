//! Moves between stores in memory, whole and interrupted.

use std::sync::Arc;

use crate::cluster::{ClusterError, MemoryCluster};
use crate::store::{MemoryStore, StoreError};
use crate::vault::replica::tests::{Host, keyring, root, shared};
use crate::vault::{OpenVaultError, Opening, Vault};

use super::*;

/// More than fit one transaction.
const MANY: usize = 250;

/// A host with secrets of its own, of all kinds.
fn source() -> Host {
    let host = Host::alone(Arc::default());
    host.put("x/K", b"one").unwrap();
    host.put("x/K", b"two").unwrap();
    host.lists("x/K", "readers: [alice, bob]\nwriters: [team]").unwrap();
    host.put("x/empty", b"").unwrap();
    host.put("x/large", &vec![7; 70_000]).unwrap();
    host.rename("x/empty", "y/empty").unwrap();
    let text: String =
        (0..MANY).map(|number| format!("key: bulk/{number}\nvalue: v{number}\n---\n")).collect();
    let documents = crate::document::parse(text.as_bytes()).unwrap();
    host.vault.apply(&root(), documents).unwrap();
    host
}

/// All that can be told of all secrets.
fn all(vault: &Vault) -> Vec<String> {
    let index = vault.shared.index.read();
    let secrets: Vec<_> = index.secrets().cloned().collect();
    drop(index);
    let described = secrets.iter().map(|secret| {
        let value = vault.read_all(secret.value()).unwrap();
        let sum = crc32fast::hash(value.expose());
        let (created, updated) = (secret.created(), secret.value().updated());
        format!(
            "{} {} {} {created:?} {updated:?} {} {:?} {} {sum}",
            secret.key(),
            secret.id(),
            secret.value().version(),
            secret.value().updated_by(),
            secret.acl(),
            value.len(),
        )
    });
    described.collect()
}

fn to(host: &Host, cluster: &MemoryCluster) -> Result<Moved, MigrateError> {
    host.vault.migrate_to(cluster, &|_| {})
}

fn from(cluster: &MemoryCluster, store: &Arc<MemoryStore>) -> Result<Moved, MigrateError> {
    let store = Arc::<MemoryStore>::clone(store);
    migrate_from(cluster, store, keyring(7, &[]), &|_| {})
}

/// Why no host can use what is at the prefix.
fn refused(cluster: &Arc<MemoryCluster>) -> String {
    let sharing = shared(cluster, false);
    let opening = Opening::new(Arc::new(MemoryStore::new()), keyring(7, &[]));
    Opening { sharing, ..opening }.open().err().expect("it is not whole").to_string()
}

#[test]
fn everything_arrives_and_comes_back() {
    let (source, cluster) = (source(), Arc::new(MemoryCluster::new()));
    source.put("x/large", &vec![7; 1 << 20]).unwrap();
    let before = all(&source.vault);
    let moved = to(&source, &cluster).unwrap();
    assert_eq!((moved.secrets as usize, moved.was_there), (MANY + 3, false));
    assert_eq!(to(&source, &cluster).unwrap(), Moved { was_there: true, ..moved });
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    assert_eq!(all(&a.vault), before);
    assert_eq!(all(&b.vault), before);
    assert_eq!(all(&source.vault), before, "they stay where they were");
    // It is a store as any other.
    a.put("x/K", b"three").unwrap();
    a.put("x/new", b"new").unwrap();
    a.remove("bulk/7").unwrap();
    b.wait_for("x/new", Some(b"new"));
    b.wait_for("bulk/7", None);
    assert_eq!(b.vault.secret("x/K").unwrap().value().version(), 3);
    assert!(matches!(to(&source, &cluster), Err(MigrateError::PrefixInUse)));
    let store = Arc::new(MemoryStore::new());
    let back = from(&cluster, &store).unwrap();
    assert_eq!((back.secrets as usize, back.was_there), (MANY + 3, false));
    assert_eq!(from(&cluster, &store).unwrap(), Moved { was_there: true, ..back });
    let own = Host::alone(store);
    assert_eq!(all(&own.vault), all(&a.vault));
    own.put("x/K", b"four").unwrap();
    assert_eq!(own.vault.secret("x/K").unwrap().value().version(), 4);
    let Host { vault, store } = own;
    drop(vault);
    assert!(matches!(from(&cluster, &store), Err(MigrateError::DirectoryInUse)));
}

#[test]
fn an_interrupted_move_there_is_never_taken_for_whole_and_goes_on() {
    let source = source();
    let before = all(&source.vault);
    for number in 0.. {
        let cluster = Arc::new(MemoryCluster::new());
        cluster.fail_after(number, ClusterError::Full { why: "the end".into() });
        match to(&source, &cluster) {
            Ok(_) => {
                assert!(number > 5, "{number} transactions");
                break;
            }
            Err(error) => assert!(matches!(error, MigrateError::Cluster(_)), "{error}"),
        }
        let why = refused(&cluster);
        let expected = if number == 0 { "there is no store" } else { "are being moved" };
        assert!(why.contains(expected), "{number}: {why}");
        // Another one is not mixed into it.
        if number > 0 {
            let other = Host::alone(Arc::default());
            assert!(matches!(to(&other, &cluster), Err(MigrateError::OthersUnfinished)));
        }
        assert!(!to(&source, &cluster).unwrap().was_there, "{number}");
        assert_eq!(all(&Host::new(&cluster).vault), before, "{number}");
    }
}

#[test]
fn lost_answers_are_asked_for_again() {
    let source = source();
    for number in 0..6 {
        let cluster = Arc::new(MemoryCluster::new());
        cluster.lose_answer_after(number);
        to(&source, &cluster).unwrap();
        assert_eq!(all(&Host::new(&cluster).vault), all(&source.vault), "{number}");
    }
}

#[test]
fn what_changed_between_two_attempts_is_moved_as_it_is() {
    let (source, cluster) = (source(), Arc::new(MemoryCluster::new()));
    cluster.fail_after(4, ClusterError::Full { why: "the end".into() });
    to(&source, &cluster).unwrap_err();
    source.put("bulk/0", b"another").unwrap();
    source.remove("bulk/1").unwrap();
    source.rename("bulk/2", "bulk/1").unwrap();
    source.lists("bulk/3", "readers: [alice]").unwrap();
    to(&source, &cluster).unwrap();
    assert_eq!(all(&Host::new(&cluster).vault), all(&source.vault));
}

#[test]
fn an_interrupted_move_back_is_never_taken_for_whole_and_goes_on() {
    let (source, cluster) = (source(), Arc::new(MemoryCluster::new()));
    to(&source, &cluster).unwrap();
    let host = Host::new(&cluster);
    for number in 0.. {
        let store = Arc::new(MemoryStore::new());
        store.fail_after(number, StoreError::Full);
        match from(&cluster, &store) {
            Ok(_) => {
                assert!(number > 2, "{number} batches");
                break;
            }
            Err(error) => assert!(matches!(error, MigrateError::Store(_)), "{error}"),
        }
        if number > 0 {
            let opened = Vault::open(Arc::<MemoryStore>::clone(&store), keyring(7, &[]));
            assert!(matches!(opened.err(), Some(OpenVaultError::Unfinished)), "{number}");
        }
        // What was added since is moved too.
        host.put("x/K", number.to_string().as_bytes()).unwrap();
        assert!(!from(&cluster, &store).unwrap().was_there, "{number}");
        assert_eq!(all(&Host::alone(store).vault), all(&host.vault), "{number}");
    }
}

#[test]
fn a_large_file_that_is_not_in_its_places_yet_comes_along() {
    let cluster = Arc::new(MemoryCluster::new());
    let host = Host::new(&cluster);
    // Without its follower it puts nothing in its place.
    drop(host.vault.follower.lock().take());
    host.vault.shared.replica.as_ref().unwrap().link.set_up();
    let text: String = (0..300).map(|number| format!("key: b/{number}\nvalue: v\n---\n")).collect();
    host.vault.apply(&root(), crate::document::parse(text.as_bytes()).unwrap()).unwrap();
    let store = Arc::new(MemoryStore::new());
    assert_eq!(from(&cluster, &store).unwrap().secrets, 300);
    assert_eq!(all(&Host::alone(store).vault), all(&host.vault));
}

#[test]
fn what_is_somebody_elses_is_left_alone() {
    let (source, cluster) = (source(), Arc::new(MemoryCluster::new()));
    // Nothing there yet, and no store.
    let store = Arc::new(MemoryStore::new());
    assert!(matches!(from(&cluster, &store), Err(MigrateError::Replica(ReplicaError::NoStore))));
    let host = Host::new(&cluster);
    host.put("K", b"v").unwrap();
    let records = cluster.records();
    assert!(matches!(to(&source, &cluster), Err(MigrateError::PrefixInUse)));
    assert_eq!(cluster.records(), records);
    let strange = Arc::new(MemoryCluster::new());
    strange.tamper(b"what", Some(b"ever".to_vec()));
    assert!(matches!(to(&source, &strange), Err(MigrateError::PrefixInUse)));
    // A replica is no store of its own, and other secrets are not replaced.
    assert!(matches!(from(&cluster, &host.store), Err(MigrateError::DirectoryInUse)));
    assert!(matches!(from(&cluster, &source.store), Err(MigrateError::DirectoryInUse)));
    let other_key = migrate_from(&*cluster, store, keyring(8, &[]), &|_| {});
    let why = other_key.expect_err("it is another one's").to_string();
    assert!(why.contains("another encryption key"), "{why}");
}
