use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::*;
use crate::crypto::{Keyring, MasterKey, record_key_id};
use crate::model::{Key, Plaintext};
use crate::store::{MemoryStore, Store};
use crate::vault::{OpenVaultError, WriteTarget};

fn master(byte: u8) -> MasterKey {
    MasterKey::parse(&format!("{byte:02x}").repeat(32)).unwrap()
}

fn ring(current: u8, previous: &[u8]) -> Keyring {
    Keyring::new(master(current), previous.iter().map(|&byte| master(byte)).collect())
}

fn open(store: &Arc<MemoryStore>, keyring: Keyring) -> Result<Vault, OpenVaultError> {
    Vault::open(Arc::clone(store) as Arc<dyn Store>, keyring)
}

fn root() -> Arc<Caller> {
    Arc::new(Caller::new(0, None, [], true))
}

fn actor() -> Actor {
    Actor { caller: root(), process: Default::default() }
}

fn write(vault: &Vault, key: &str, value: &[u8]) {
    let target =
        WriteTarget::New { key: Key::parse(key).unwrap(), exclusive: false, inherited_lists: None };
    let (answer, answered) = channel();
    let done = Box::new(move |outcome: Result<_, _>| answer.send(outcome.map(drop)).unwrap());
    vault.write(actor(), target, Plaintext::copy_of(value), None, done);
    answered.recv().unwrap().unwrap();
}

fn read(vault: &Vault, key: &str) -> Vec<u8> {
    let secret = vault.secret(key).unwrap();
    vault.read_all(secret.value()).unwrap().expose().to_vec()
}

/// Walks, and gives how that ended.
fn walk(vault: &Vault, task: RekeyTask) -> RekeyStatus {
    vault.start_rekey(&actor(), task).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = vault.rekey_status();
        if !matches!(status.state, RekeyState::Running(_)) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The ids of the keys that the store's records are sealed with.
fn sealed_with(store: &MemoryStore) -> Vec<KeyId> {
    let mut ids = Vec::new();
    store
        .scan(b"", &mut |address, sealed| {
            if RecordKind::of(address) != RecordKind::Clear {
                ids.push(record_key_id(sealed).unwrap());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    ids.sort();
    ids.dedup();
    ids
}

/// A store of key 1: small, empty and large values, and one that is superseded but still held.
fn filled() -> (Arc<MemoryStore>, Vault, Arc<crate::vault::Value>) {
    let store = Arc::new(MemoryStore::new());
    let vault = open(&store, ring(1, &[])).unwrap();
    for number in 0..1500 {
        write(&vault, &format!("K{number}"), format!("value {number}").as_bytes());
    }
    write(&vault, "empty", b"");
    write(&vault, "large", &[7; 100_000]);
    write(&vault, "held", b"old");
    let held = Arc::clone(vault.secret("held").unwrap().value());
    write(&vault, "held", b"new");
    (store, vault, held)
}

#[test]
fn everything_is_resealed_and_the_old_key_can_go() {
    let (store, vault, held) = filled();
    vault.replace_keyring(ring(2, &[1])).unwrap();
    assert_eq!(vault.key_ids(), (master(2).id(), vec![master(1).id(), master(2).id()]));
    let counted = walk(&vault, RekeyTask::Count);
    assert_eq!(counted.state, RekeyState::Done(RekeyTask::Count));
    // 1503 heads, 1501 small values, four chunks and the superseded value; the sum, the list of keys.
    let expected = [(master(1).id(), 1503 + 1501 + 4 + 1 + 1), (master(2).id(), 1)];
    assert_eq!(counted.counts, BTreeMap::from(expected));

    let done = walk(&vault, RekeyTask::Reseal);
    assert_eq!(done.state, RekeyState::Done(RekeyTask::Reseal));
    assert_eq!(done.resealed, 1503 + 1501 + 4 + 1 + 1);
    assert_eq!(done.counts, BTreeMap::from([(master(2).id(), 1503 + 1501 + 4 + 1 + 2)]));
    assert_eq!(sealed_with(&store), [master(2).id()]);
    assert_eq!(vault.key_ids(), (master(2).id(), vec![master(2).id()]));
    assert_eq!(vault.read_all(&held).unwrap().expose(), b"old", "a descriptor stays good");
    drop(vault);

    let refused = open(&store, ring(1, &[])).err();
    assert!(matches!(refused, Some(OpenVaultError::OtherKey { .. })));
    let vault = open(&store, ring(2, &[])).unwrap();
    assert_eq!(vault.len(), 1503);
    assert_eq!(read(&vault, "K7"), b"value 7");
    assert_eq!(read(&vault, "empty"), b"");
    assert_eq!(read(&vault, "large"), [7; 100_000]);
    assert_eq!(read(&vault, "held"), b"new");
}

#[test]
fn until_it_is_done_the_old_key_is_needed() {
    let (store, vault, _) = filled();
    drop(vault);
    let Err(OpenVaultError::OtherKey { store: Some(made), given }) =
        open(&store, ring(2, &[])).map(drop)
    else {
        panic!("it opened, or failed otherwise")
    };
    assert_eq!((made, given), (master(1).id(), master(2).id()));

    let vault = open(&store, ring(2, &[1])).unwrap();
    assert_eq!(read(&vault, "K7"), b"value 7");
    write(&vault, "K7", b"sealed with the new key");
    drop(vault);
    // Neither alone opens it now, and each refusal names what is missing.
    let refused = open(&store, ring(2, &[3])).err();
    let Some(OpenVaultError::MissingKeys { missing }) = refused else { panic!("{refused:?}") };
    assert_eq!(missing, [master(1).id()]);
    assert!(matches!(open(&store, ring(1, &[])).err(), Some(OpenVaultError::OtherKey { .. })));

    let vault = open(&store, ring(2, &[1])).unwrap();
    let refused = vault.replace_keyring(ring(2, &[])).err();
    assert!(matches!(&refused, Some(VaultError::MissingKeys { .. })), "{refused:?}");
    assert_eq!(read(&vault, "K8"), b"value 8", "the refusal harmed nothing");
    assert_eq!(walk(&vault, RekeyTask::Reseal).state, RekeyState::Done(RekeyTask::Reseal));
    vault.replace_keyring(ring(2, &[])).unwrap();
    assert_eq!(
        (read(&vault, "K7"), read(&vault, "K8")),
        (b"sealed with the new key".into(), b"value 8".into())
    );
}

#[test]
fn it_stops_where_the_store_fails_and_goes_on_from_there() {
    // While the old value is held there is no garbage, whose removal could meet the failure instead.
    let (store, vault, _held) = filled();
    vault.replace_keyring(ring(2, &[1])).unwrap();
    store.fail_next(StoreError::Full);
    let failed = walk(&vault, RekeyTask::Reseal);
    let RekeyState::Failed(why) = &failed.state else { panic!("{failed:?}") };
    assert!(why.contains("full"), "{why}");
    assert_eq!(vault.key_ids().1, [master(1).id(), master(2).id()]);
    assert_eq!(read(&vault, "K1400"), b"value 1400");
    assert_eq!(walk(&vault, RekeyTask::Reseal).state, RekeyState::Done(RekeyTask::Reseal));
    assert_eq!(sealed_with(&store), [master(2).id()]);
}

#[test]
fn it_can_be_cut_off_and_its_key_replaced_on_the_way() {
    let (store, mut vault, _) = filled();
    for current in 2..40 {
        let keyring = ring(current, &(1..current).collect::<Vec<_>>());
        if current % 2 == 0 {
            drop(vault);
            vault = open(&store, keyring).unwrap();
        } else {
            vault.replace_keyring(keyring).unwrap();
        }
        vault.start_rekey(&actor(), RekeyTask::Reseal).unwrap();
        // It is cut off at another place each time.
        std::thread::sleep(Duration::from_micros(u64::from(current) * 300));
    }
    assert_eq!(walk(&vault, RekeyTask::Reseal).state, RekeyState::Done(RekeyTask::Reseal));
    // The walk that ran may have been that of the key before.
    walk(&vault, RekeyTask::Reseal);
    assert_eq!(sealed_with(&store), [master(39).id()]);
    assert_eq!(vault.key_ids().1, [master(39).id()]);
    for number in 0..1500 {
        assert_eq!(read(&vault, &format!("K{number}")), format!("value {number}").as_bytes());
    }
}

#[test]
fn what_writers_write_meanwhile_stays() {
    let (store, vault, _) = filled();
    let mut round = 0u32;
    let mut last = [0; 40];
    for (current, previous) in [(2, 1), (3, 2), (4, 3)] {
        vault.replace_keyring(ring(current, &[previous])).unwrap();
        vault.start_rekey(&actor(), RekeyTask::Reseal).unwrap();
        while matches!(vault.rekey_status().state, RekeyState::Running(_)) {
            round += 1;
            let slot = round as usize % last.len();
            write(&vault, &format!("K{slot}"), format!("round {round}").as_bytes());
            last[slot] = round;
        }
        assert_eq!(vault.rekey_status().state, RekeyState::Done(RekeyTask::Reseal));
        assert_eq!(vault.key_ids().1, [master(current).id()]);
    }
    assert!(round > 3, "the writer had no chance");
    drop(vault);
    let vault = open(&store, ring(4, &[])).unwrap();
    for (slot, round) in last.into_iter().enumerate().filter(|(_, round)| *round > 0) {
        assert_eq!(read(&vault, &format!("K{slot}")), format!("round {round}").as_bytes());
    }
    assert_eq!(sealed_with(&store), [master(4).id()]);
}

#[test]
fn what_does_not_unseal_is_named_and_keeps_its_key() {
    let (store, vault, _) = filled();
    let node = vault.secret("K7").unwrap().value().node();
    let address = Address::chunk(node, 0);
    let mut damaged = store.read(address.as_bytes()).unwrap().unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    store.tamper(address.as_bytes(), Some(damaged));
    vault.replace_keyring(ring(2, &[1])).unwrap();
    let done = walk(&vault, RekeyTask::Reseal);
    assert_eq!(done.state, RekeyState::Done(RekeyTask::Reseal));
    assert_eq!((done.unreadable, done.counts[&master(1).id()]), (1, 1));
    assert!(done.unreadable_named[0].starts_with("K7: "), "{:?}", done.unreadable_named);
    assert_eq!(vault.key_ids().1, [master(2).id(), master(1).id()]);
    // Once the secret is written anew, nothing holds the old key.
    write(&vault, "K7", b"anew");
    write(&vault, "K8", b"so that the superseded value goes");
    let done = walk(&vault, RekeyTask::Reseal);
    assert_eq!((done.unreadable, vault.key_ids().1), (0, vec![master(2).id()]));
}

#[test]
fn it_is_for_admins() {
    let vault = open(&Arc::new(MemoryStore::new()), ring(1, &[])).unwrap();
    assert!(vault.check_rekey(&root()).is_ok());
    let refused = vault.check_rekey(&Caller::new(7, None, [], false));
    assert!(matches!(refused, Err(VaultError::AdminOnly { .. })));
}
