use std::ops::ControlFlow;

use super::*;
use crate::crypto::{Keyring, MasterKey};
use crate::document::{Checksum, ChecksumAlgorithm, parse};
use crate::model::{Plaintext, Slug};
use crate::store::{MemoryStore, Store, StoreError};
use crate::vault::WriteTarget;

fn keyring() -> Keyring {
    Keyring::new(MasterKey::parse(&"07".repeat(32)).unwrap(), vec![])
}

fn open(store: &Arc<MemoryStore>) -> Vault {
    Vault::open(Arc::clone(store) as Arc<dyn Store>, keyring()).unwrap()
}

fn vault() -> (Arc<MemoryStore>, Vault) {
    let store = Arc::new(MemoryStore::new());
    let vault = open(&store);
    (store, vault)
}

fn caller(uid: u32, name: &str, admin: bool) -> Actor {
    let caller = Arc::new(Caller::new(uid, Some(Slug::parse(name).unwrap()), [], admin));
    Actor { caller, process: Default::default() }
}

fn root() -> Actor {
    caller(0, "root", true)
}

fn alice() -> Actor {
    caller(7, "alice", false)
}

fn apply(vault: &Vault, who: &Actor, text: &str) -> Result<Vec<Outcome>, String> {
    let documents = parse(text.as_bytes()).expect("the test writes documents");
    match vault.apply(who, documents) {
        Ok(applied) => Ok(applied.documents.iter().map(|one| one.outcome).collect()),
        Err(error) => Err(error.to_string()),
    }
}

fn read(vault: &Vault, key: &str) -> Option<String> {
    let secret = vault.secret(key)?;
    let value = vault.read_all(secret.value()).unwrap();
    Some(String::from_utf8(value.expose().to_vec()).unwrap())
}

fn write(vault: &Vault, key: &str, value: &str) {
    let target =
        WriteTarget::New { key: Key::parse(key).unwrap(), exclusive: false, inherited_lists: None };
    let (done, outcome) = channel();
    let done = Box::new(move |outcome: Result<_, _>| done.send(outcome.map(drop)).unwrap());
    vault.write(root(), target, Plaintext::copy_of(value.as_bytes()), None, done);
    outcome.recv().unwrap().unwrap();
}

fn count(store: &MemoryStore, kind: u8) -> usize {
    let mut count = 0;
    store
        .scan(&[kind], &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    count
}

/// A file of `count` secrets with this value.
fn large(count: usize, value: &str) -> String {
    (0..count).map(|at| format!("- key: svc/{}/K{at}\n  value: {value}{at}\n", at % 7)).collect()
}

#[test]
fn creates_updates_and_leaves() {
    let (_, vault) = vault();
    let text = "- id: one\n  key: a/K\n  value: v\n  readers: [bob]\n- key: a/L\n  value: w\n";
    assert_eq!(apply(&vault, &root(), text), Ok(vec![Outcome::Created, Outcome::Created]));
    let first = vault.secret("a/K").unwrap();
    assert_eq!((first.id().as_str(), first.value().version()), ("one", 1));
    assert_eq!(apply(&vault, &root(), text), Ok(vec![Outcome::Unchanged, Outcome::Unchanged]));
    assert!(Arc::ptr_eq(&vault.secret("a/K").unwrap(), &first), "nothing at all has changed");
    let text = "- key: a/K\n  value: x\n- key: a/L\n  writers: [bob]\n- key: a/M\n";
    let outcomes = vec![Outcome::Updated, Outcome::Updated, Outcome::CreatedEmpty];
    assert_eq!(apply(&vault, &root(), text), Ok(outcomes));
    let (second, lists) = (vault.secret("a/K").unwrap(), vault.secret("a/L").unwrap());
    assert_eq!((second.id().as_str(), second.value().version()), ("one", 2));
    assert_eq!(second.acl(), first.acl());
    assert_eq!(lists.value().version(), 1);
    assert_eq!(read(&vault, "a/K").as_deref(), Some("x"));
    assert_eq!(read(&vault, "a/M").as_deref(), Some(""));
}

#[test]
fn all_or_nothing_with_every_reason() {
    let (store, vault) = vault();
    apply(&vault, &root(), "- key: a/K\n  value: v\n  id: secr_taken\n- key: f/x\n  value: v\n")
        .unwrap();
    let before = store.commits().len();
    let text = "- key: alice/ok\n  value: v\n- key: bob/K\n  value: v\n- key: a/K\n  value: w\n\
                - id: secr_taken\n  key: alice/L\n  value: v\n- key: alice/M\n  value: v\n  \
                checksum: '00000000'\n- key: alice/N\n  value: a37/KUAr4SOYi6Xw9i9T8qo3QCk8WvnzONo47jHAkwk=\n  encrypted: true\n";
    let error = apply(&vault, &alice(), text).unwrap_err();
    let lines: Vec<_> = error.lines().collect();
    for (line, expected) in [
        "line 3: bob/K: you may create secrets only below `alice/`",
        "line 6: a/K: you may not write it",
        "line 7: alice/L: the id secr_taken belongs to another secret",
        "line 12: alice/M: the CRC32 checksum is not that of the value",
        "line 14: alice/N: the value was encrypted by upstream's own tool; turn the file into a sealed one with `secretfs convert`",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(lines[line].starts_with(expected), "{}", lines[line]);
    }
    assert_eq!(lines.len(), 5);
    for text in ["key: f\nvalue: v", "key: f/x/y\nvalue: v"] {
        assert!(apply(&vault, &root(), text).unwrap_err().contains("a directory"), "{text}");
    }
    assert!(vault.secret("alice/ok").is_none());
    assert_eq!(store.commits().len(), before, "nothing was stored");
}

#[test]
fn only_what_changes_needs_a_right() {
    let (_, vault) = vault();
    let text = "key: K\nvalue: v\nreaders: [alice]\ncanChangeReaders: [alice]\n";
    apply(&vault, &root(), text).unwrap();
    assert_eq!(apply(&vault, &alice(), text), Ok(vec![Outcome::Unchanged]));
    let more = text.replace("readers: [alice]", "readers: [alice, bob]");
    assert_eq!(apply(&vault, &alice(), &more), Ok(vec![Outcome::Updated]));
    assert!(apply(&vault, &alice(), &more.replace("value: v", "value: w")).is_err());
    assert!(apply(&vault, &alice(), "key: K\nwriters: [alice]").is_err());
    // The lists before the change decide: a caller cannot give itself the right in the same document.
    let grab = "key: K\nvalue: w\nwriters: [alice]\n";
    assert!(apply(&vault, &alice(), grab).is_err());
    assert_eq!(read(&vault, "K").as_deref(), Some("v"));
}

#[test]
fn wrong_guesses_count_for_the_secret_whoever_makes_them() {
    let (_, vault) = vault();
    apply(&vault, &root(), "- key: PIN\n  value: '0042'\n- key: other\n  value: '0042'\n").unwrap();
    let guess = |who: &Actor, key: &str, pin: u32| {
        apply(&vault, who, &format!("key: {key}\nvalue: '{pin:04}'\n"))
    };
    let eve = |uid| caller(uid, "eve", false);
    let right = Ok(vec![Outcome::Updated]);
    assert_eq!(
        guess(&eve(9), "PIN", 42),
        right,
        "what stands needs no right, and is not called so"
    );
    assert!((0..20).all(|at| guess(&eve(100 + at), "PIN", 1000 + at).is_err()));
    assert!(guess(&eve(9), "PIN", 42).is_err(), "the secret was guessed at too often");
    assert!(guess(&alice(), "PIN", 42).is_err(), "by whomever");
    assert_eq!(guess(&alice(), "other", 42), right, "and no other one");
    let version = || vault.secret("PIN").unwrap().value().version();
    assert_eq!(version(), 1);
    // A reader learns nothing by it.
    apply(&vault, &root(), "key: PIN\nreaders: [alice]\n").unwrap();
    assert!((0..20).all(|pin| guess(&alice(), "PIN", pin).is_err()));
    assert_eq!(guess(&alice(), "PIN", 42), Ok(vec![Outcome::Unchanged]));
    // A writer that is no reader needs no guess: each import is a new version.
    apply(&vault, &root(), "key: PIN\nwriters: [eve]\n").unwrap();
    for (pin, expected) in [(42, 2), (42, 3), (7, 4)] {
        assert_eq!(guess(&eve(9), "PIN", pin), right);
        assert_eq!(version(), expected, "{pin}");
    }
}

#[test]
fn a_checksum_confirms_no_guess_about_a_sealed_value() {
    let (_, vault) = vault();
    apply(&vault, &root(), "key: PIN\nvalue: '0042'\nwriters: [eve]\n").unwrap();
    let eve = caller(9, "eve", false);
    let sealed = |key: &str| vault.seal(&Key::parse(key).unwrap(), &Plaintext::copy_of(b"0042"));
    let guess = |key: &str, checksum: &str| {
        let document = sealed(key);
        let document: String = document.split_inclusive('\n').take(4).collect();
        apply(&vault, &eve, &format!("{document}checksum: '{checksum}'\n"))
    };
    // A caller without any right learns only that.
    let error = guess("svc/free", "00000000").unwrap_err();
    assert!(error.contains("you may create secrets only below"), "{error}");
    let value = Plaintext::copy_of(b"0042");
    let right = Checksum::of(ChecksumAlgorithm::default(), &value).as_str().to_owned();
    assert!(guess("PIN", &right).is_ok());
    for at in 0..16 {
        let error = guess("PIN", "00000000").unwrap_err();
        assert!(error.contains("checksum is not that of the value"), "{at}: {error}");
    }
    for checksum in ["00000000", &right] {
        let error = guess("PIN", checksum).unwrap_err();
        assert!(error.contains("you may not read it"), "{error}");
    }
}

#[test]
fn lists_and_ids_are_told_to_members_alone() {
    let (_, vault) = vault();
    let text = "key: K\nid: STRIPE_KEY\nvalue: v\nreaders: [alice]\nwriters: [bob]\n";
    apply(&vault, &root(), text).unwrap();
    let eve = caller(9, "eve", false);
    let refused = |text: &str| apply(&vault, &eve, text).unwrap_err();
    let lists = ["readers: [alice]\nwriters: [bob]", "readers: [eve]\nwriters: [bob]"];
    let texts = lists.map(|lists| refused(&format!("key: K\n{lists}\n")));
    assert!(texts[0].contains("`canChangeReaders`") && texts[0].contains("`canChangeWriters`"));
    assert_eq!(texts[0], texts[1], "whether they stand or not");
    // An id reveals nothing either: not whose it is, and not that it is this one's.
    let own = refused("key: K\nid: STRIPE_KEY\nvalue: x\n");
    assert_eq!(own, refused("key: K\nid: STRIPE_KEX\nvalue: x\n").replace("KEX", "KEY"));
    apply(&vault, &root(), "key: L\nid: secr_1\nvalue: v\n").unwrap();
    let taken = refused("key: K\nid: secr_1\nvalue: x\n");
    assert_eq!(taken, refused("key: K\nid: secr_2\nvalue: x\n"));
    let error = refused("key: eve/K\nid: secr_1\nvalue: x\n");
    assert!(error.contains("belongs to another secret") && !error.contains(" L"), "{error}");
    let keeps = |who: &Actor, text: &str| {
        let applied = vault.apply(who, parse(text.as_bytes()).unwrap()).unwrap();
        applied.documents[0].keeps_id.as_ref().map(ToString::to_string)
    };
    assert_eq!(keeps(&eve, "key: K\nid: secr_2\nvalue: v\n"), None);
    assert_eq!(keeps(&alice(), "key: K\nid: secr_2\nvalue: v\n").as_deref(), Some("STRIPE_KEY"));
}

#[test]
fn an_id_does_not_occupy_the_name_of_a_key() {
    let (_, vault) = vault();
    let error = apply(&vault, &alice(), "key: alice/K\nid: STRIPE_KEY\nvalue: v\n").unwrap_err();
    assert!(error.contains("only an admin may give the id STRIPE_KEY"), "{error}");
    apply(&vault, &alice(), "key: alice/K\nid: secr_mine\nvalue: v\n").unwrap();
    // As an older version let it be.
    let old = "key: alice/L\nid: STRIPE_KEY\nvalue: v\nreaders: [alice]\nwriters: [alice]\n";
    apply(&vault, &root(), old).unwrap();
    for value in ["v", "w"] {
        let text = format!("id: STRIPE_KEY\nvalue: {value}\n");
        assert!(apply(&vault, &root(), &text).is_ok(), "{value}");
        assert_eq!(read(&vault, "STRIPE_KEY").as_deref(), Some(value));
    }
    assert!(vault.secret("STRIPE_KEY").unwrap().id().has_given_prefix());
    assert_eq!(apply(&vault, &alice(), old), Ok(vec![Outcome::Unchanged]), "it still applies");
    let error = apply(&vault, &root(), "key: M\nid: STRIPE_KEY\nvalue: v\n").unwrap_err();
    assert!(error.contains("belongs to the secret alice/L"), "{error}");
}

#[test]
fn a_secret_keeps_its_id() {
    let (_, vault) = vault();
    apply(&vault, &root(), "key: K\nid: old\nvalue: v\n").unwrap();
    let documents = parse(b"key: K\nid: new\nvalue: w\n").unwrap();
    let applied = vault.apply(&root(), documents).unwrap();
    assert_eq!(applied.documents[0].keeps_id.as_ref().unwrap().as_str(), "old");
    assert_eq!(vault.secret("K").unwrap().id().as_str(), "old");
}

#[test]
fn a_large_file_is_one_change_and_its_heads_arrive() {
    let (store, vault) = vault();
    let outcomes = apply(&vault, &root(), &large(3000, "v")).unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Created));
    assert_eq!((vault.len(), read(&vault, "svc/0/K7").as_deref()), (3000, Some("v7")));
    // Right behind it, while heads are on their way, others change what it made.
    write(&vault, "svc/0/K7", "newer");
    apply(&vault, &root(), &large(3000, "w").replace("K9\n", "K9x\n")).unwrap();
    write(&vault, "svc/3/K10", "newest");
    let (done, removed) = channel();
    let done = Box::new(move |outcome: Result<_, _>| done.send(outcome.map(drop)).unwrap());
    vault.remove(root(), "svc/4/K11".to_owned(), None, done);
    removed.recv().unwrap().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while count(&store, b'j') + count(&store, b'c') > 0 {
        assert!(std::time::Instant::now() < deadline, "packs are left");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    drop(vault);
    let vault = open(&store);
    assert_eq!(vault.len(), 3000);
    assert_eq!(read(&vault, "svc/0/K7").as_deref(), Some("w7"));
    assert_eq!(read(&vault, "svc/3/K10").as_deref(), Some("newest"));
    assert!(vault.secret("svc/4/K11").is_none());
    assert_eq!(vault.secret("svc/5/K12").unwrap().value().version(), 2);
}

/// Copies what a store holds after its first `commits` commits: what a power loss leaves.
fn store_after(all: &MemoryStore, commits: usize) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    all.commits()[..commits].iter().for_each(|batch| store.commit(batch).unwrap());
    store
}

#[test]
fn a_crash_at_any_moment_leaves_all_or_nothing() {
    let (store, vault) = vault();
    apply(&vault, &root(), &large(300, "old")).unwrap();
    while count(&store, b'j') > 0 {
        std::thread::yield_now();
    }
    let before = store.commits().len();
    apply(&vault, &root(), &large(600, "new")).unwrap();
    drop(vault);
    let (mut nothing, mut everything) = (0, 0);
    for commits in before..=store.commits().len() {
        let after_crash = store_after(&store, commits);
        let vault = open(&after_crash);
        let value = read(&vault, "svc/0/K0").unwrap();
        let (secrets, prefix) = match value.as_str() {
            "old0" => (300, "old"),
            _ => (600, "new"),
        };
        assert_eq!(vault.len(), secrets, "after {commits} commits");
        for at in 0..secrets {
            let value = read(&vault, &format!("svc/{}/K{at}", at % 7));
            assert_eq!(value, Some(format!("{prefix}{at}")), "after {commits} commits");
        }
        *if prefix == "old" { &mut nothing } else { &mut everything } += 1;
        assert_eq!(count(&after_crash, b'j') + count(&after_crash, b'c'), 0);
        let superseded = if prefix == "old" { 0 } else { count(&after_crash, b'g') };
        assert_eq!(count(&after_crash, b'v'), secrets + superseded, "values are left over");
    }
    assert!(nothing > 1 && everything > 1, "{nothing} {everything}");
}

#[test]
fn a_full_disk_leaves_nothing() {
    let (store, vault) = vault();
    write(&vault, "K", "v");
    let before = (count(&store, b'v'), count(&store, b'h'));
    for survived in 0..4 {
        let text = large(600, "v");
        let documents = parse(text.as_bytes()).unwrap();
        store.fail_after(survived, StoreError::Full);
        let error = vault.apply(&root(), documents).map(drop).unwrap_err();
        assert!(matches!(error, VaultError::Store(StoreError::Full)), "{error}");
        assert_eq!((count(&store, b'v'), count(&store, b'h')), before, "after {survived}");
        assert_eq!(count(&store, b'j') + count(&store, b'c'), 0);
        assert_eq!(vault.len(), 1);
    }
    apply(&vault, &root(), &large(600, "v")).unwrap();
    assert_eq!(vault.len(), 601);
}

#[test]
fn who_is_overtaken_is_judged_again() {
    let (_, vault) = vault();
    for size in [50, 600] {
        let text = large(size, "v");
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|one| {
                    let (text, vault) = (&text, &vault);
                    scope.spawn(move || {
                        for round in 0..5 {
                            let text = text.replace("value: v", &format!("value: w{one}{round}-"));
                            apply(vault, &root(), &text).unwrap();
                        }
                    })
                })
                .collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
        });
        // Each file was whole: all values are of the same one.
        let first = read(&vault, "svc/0/K0").unwrap();
        let prefix = first.split_once('-').unwrap().0;
        for at in 0..size {
            let value = read(&vault, &format!("svc/{}/K{at}", at % 7)).unwrap();
            assert_eq!(value, format!("{prefix}-{at}"));
        }
        assert!(vault.secret("svc/0/K0").unwrap().value().version() >= 20);
    }
}
