//! Each kind of damage, and what a repair makes of it.

use std::collections::BTreeMap;

use super::*;
use crate::audit::{Actor, Process};
use crate::crypto::MasterKey;
use crate::document::parse;
use crate::model::{Caller, Key, Plaintext, Slug};
use crate::store::MemoryStore;
use crate::vault::writer::staging::{Staged, Stager};
use crate::vault::{Change, Value, Vault};

fn keyring() -> Keyring {
    Keyring::new(MasterKey::parse(&"07".repeat(32)).unwrap(), Vec::new())
}

fn root() -> Actor {
    let caller = Arc::new(Caller::new(0, Slug::parse("root").ok(), [], true));
    Actor { caller, process: Process::default() }
}

fn vault(store: &Arc<MemoryStore>) -> Vault {
    let store: Arc<dyn Store> = Arc::clone(store) as _;
    Vault::open(store, keyring()).unwrap()
}

/// A store with the secrets `a`, `b` and `dir/large`; `a` was rotated.
fn store() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let vault = vault(&store);
    let large = "x".repeat(100_000);
    for text in [
        format!(
            "[{{key: a, value: one}}, {{key: b, value: two}}, {{key: dir/large, value: {large}}}]"
        ),
        "{key: a, value: new}".to_owned(),
    ] {
        vault.apply(&root(), parse(text.as_bytes()).unwrap()).unwrap();
    }
    drop(vault);
    store
}

fn fsck(store: &Arc<MemoryStore>) -> Fsck {
    let store: Arc<dyn Store> = Arc::clone(store) as _;
    Fsck::open(store, keyring()).unwrap()
}

fn problems(store: &Arc<MemoryStore>) -> Vec<String> {
    let findings = fsck(store).check(|_| {}).unwrap();
    findings.problems.iter().map(ToString::to_string).collect()
}

/// What the secrets of the store are, once a vault has opened it.
fn contents(store: &Arc<MemoryStore>) -> BTreeMap<String, Vec<u8>> {
    let vault = vault(store);
    ["a", "b", "dir/large", "staged"]
        .into_iter()
        .filter_map(|key| vault.secret(key))
        .map(|one| (one.key().to_string(), vault.read_all(one.value()).unwrap().expose().to_vec()))
        .collect()
}

fn secret(store: &Arc<MemoryStore>, key: &str) -> Arc<Secret> {
    vault(store).secret(key).unwrap()
}

#[track_caller]
fn one_problem(store: &Arc<MemoryStore>, begins: &str) {
    let found = problems(store);
    assert!(found.len() == 1 && found[0].starts_with(begins), "{found:?}");
}

#[test]
fn a_good_store() {
    let store = store();
    let check = || fsck(&store).check(|_| {}).unwrap();
    let findings = check();
    assert_eq!(findings.problems, []);
    assert_eq!((findings.secrets, findings.value_bytes), (3, 100_006));
    assert_eq!((findings.superseded, findings.unreachable, findings.unfinished), (1, 0, 0));
    let before = contents(&store);
    fsck(&store).repair(&check()).unwrap();
    assert_eq!((check().superseded, check().problems), (0, Vec::new()));
    assert_eq!(contents(&store), before);
    let empty = Arc::new(MemoryStore::new());
    assert_eq!(fsck(&empty).check(|_| {}).unwrap().records, 0);
}

#[test]
fn values_that_are_damaged() {
    let clean = store();
    let value = |key| secret(&clean, key).value().node();
    let (large, b) = (value("dir/large"), value("b"));
    let sealed =
        |address: &Address, content: &[u8]| Some(fsck(&clean).records.seal(address, content));
    for (address, content, said) in [
        (Address::chunk(large, 1), None, "dir/large: its stored value is incomplete"),
        (Address::chunk(b, 0), None, "b: its stored value is incomplete"),
        (
            Address::chunk(large, 1),
            sealed(&Address::chunk(large, 1), b"short"),
            "dir/large: its stored value is incomplete",
        ),
        (
            Address::chunk(b, 0),
            sealed(&Address::chunk(large, 0), b"two"),
            "b: its stored value does not unseal",
        ),
        (Address::chunk(b, 0), Some(vec![]), "b: its stored value does not unseal"),
    ] {
        let store = store_like(&clean);
        store.tamper(address.as_bytes(), content);
        one_problem(&store, said);
        let findings = fsck(&store).check(|_| {}).unwrap();
        fsck(&store).repair(&findings).unwrap();
        one_problem(&store, said);
    }
}

/// A copy, so that each damage starts from the same.
fn store_like(store: &Arc<MemoryStore>) -> Arc<MemoryStore> {
    let copy = Arc::new(MemoryStore::new());
    store
        .scan(b"", &mut |address, content| {
            copy.tamper(address, Some(content.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    copy
}

#[test]
fn a_head_that_is_lost_keeps_what_seems_unreachable() {
    let store = store();
    let lost = Address::metadata(secret(&store, "dir/large").record());
    let junk = fsck(&store).records.seal(&lost, b"\xff");
    for (content, said) in
        [(vec![1; 80], "it does not unseal"), (junk, "it is not a secret's; restore")]
    {
        store.tamper(lost.as_bytes(), Some(content));
        let findings = fsck(&store).check(|_| {}).unwrap();
        let found = findings.problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(found.len() == 1 && found[0].contains(said), "{found:?}");
        assert_eq!((findings.secrets, findings.unreachable), (2, 4));
        fsck(&store).repair(&findings).unwrap();
        assert_eq!(fsck(&store).check(|_| {}).unwrap().unreachable, 4, "its value stays");
    }
}

#[test]
fn what_nothing_names_is_removed() {
    let store = store();
    let before = contents(&store);
    let address = Address::chunk(123_456, 0);
    store.tamper(address.as_bytes(), Some(fsck(&store).records.seal(&address, b"x")));
    let findings = fsck(&store).check(|_| {}).unwrap();
    assert_eq!((findings.unreachable, findings.problems.len()), (1, 0));
    assert_eq!(fsck(&store).repair(&findings).unwrap().unreachable, 1);
    assert_eq!(store.read(address.as_bytes()).unwrap(), None);
    assert_eq!(contents(&store), before);
    store.tamper(b"z", Some(vec![1]));
    one_problem(&store, "1 records are of a kind that this version does not know");
}

#[test]
fn a_mark_on_a_current_value_is_taken_off() {
    let store = store();
    let before = contents(&store);
    let mut batch = Batch::default();
    secret(&store, "b").value().tombstone().mark(&mut batch);
    store.commit(&batch).unwrap();
    one_problem(&store, "b: its value is marked as replaced");
    let findings = fsck(&store).check(|_| {}).unwrap();
    assert_eq!(fsck(&store).repair(&findings).unwrap().marks, 1);
    assert!(problems(&store).is_empty());
    assert_eq!(contents(&store), before);
}

#[test]
fn names_and_ids_that_are_taken_twice() {
    let clean = store();
    let (a, b) = (secret(&clean, "a"), secret(&clean, "b"));
    let like = |key: &str, id: &SecretId| Secret {
        key: Key::parse(key).unwrap(),
        id: id.clone(),
        acl: Arc::clone(b.acl()),
        created: b.created(),
        value: Arc::clone(b.value()),
    };
    for (changed, said) in [
        (like("a", b.id()), "a: two secrets have this name"),
        (like("b", a.id()), "a and b have the same id"),
        (like("a/below", b.id()), "a: it is a secret and a directory of secrets too (a/below)"),
    ] {
        let store = store_like(&clean);
        let (address, sealed) = fsck(&store).records.seal_metadata(&changed);
        store.tamper(address.as_bytes(), Some(sealed));
        let found = problems(&store);
        assert!(found.len() == 2 && found.iter().any(|one| one.starts_with(said)), "{found:?}");
        assert!(found.contains(&Damage::NotAsLeft.to_string()));
    }
}

#[test]
fn an_import_that_was_interrupted() {
    for is_valid in [false, true] {
        let store = store();
        let before = contents(&store);
        let fsck = fsck(&store);
        let model = secret(&store, "b");
        let value = value_of(model.value(), RecordId(5000), 5001, 3);
        let after = Arc::new(Secret {
            key: Key::parse("staged").unwrap(),
            id: SecretId::parse("staged").unwrap(),
            acl: Arc::clone(model.acl()),
            created: model.created(),
            value: Arc::new(value),
        });
        let mut stager = Stager::new(&fsck.records, 7);
        let change = Change { before: None, after: Some(Arc::clone(&after)) };
        let added = stager.add(Staged::new(None, after), |batch| {
            fsck.records.seal_chunks(5001, &Plaintext::copy_of(b"new"), batch);
        });
        let mut journal = stager.finish(added).unwrap();
        if is_valid {
            let mut batch = Batch::default();
            journal.hold(&fsck.records, &HashSet::new(), &mut batch);
            let sum = fsck.records.read_sum().unwrap().unwrap().after([change].iter());
            sum.put(&fsck.records, &mut batch);
            fsck.records.commit(&batch).unwrap();
        }
        let findings = fsck.check(|_| {}).unwrap();
        assert_eq!((findings.problems.len(), findings.unreachable), (0, 0));
        assert_eq!((findings.unfinished, findings.secrets), (1, 3 + u64::from(is_valid)));
        fsck.repair(&findings).unwrap();
        let findings = fsck.check(|_| {}).unwrap();
        assert_eq!((findings.unfinished, findings.secrets), (0, 3 + u64::from(is_valid)));
        let mut expected = before;
        expected.extend(is_valid.then(|| ("staged".to_owned(), b"new".to_vec())));
        assert_eq!(contents(&store), expected);
    }
}

fn value_of(like: &Value, record: RecordId, node: u64, size: u32) -> Value {
    Value {
        record,
        version: 1,
        node,
        size,
        updated: like.updated,
        updated_by: like.updated_by.clone(),
        superseded: false.into(),
        garbage: Arc::clone(&like.garbage),
    }
}
