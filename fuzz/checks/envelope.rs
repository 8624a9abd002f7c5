//! What lies in the store and in documents: sealed values, sealed records, and the few records in the
//! clear. Whatever bytes they are, nothing panics; what was sealed opens, and nothing else does.

use std::ops::ControlFlow;
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};

use secretfs::audit::{Actor, Process};
use secretfs::crypto::{Keyring, MasterKey, Recipient, SealedValue, open_upstream, record_key_id};
use secretfs::model::{Caller, Key, Plaintext};
use secretfs::store::{MemoryStore, Store};
use secretfs::vault::{Fsck, Vault, WriteTarget};

use super::input::Input;

/// A raw key: no password hash, so that this is quick.
const KEY: &str = "8f1d3c5b7a99e0f2143658daecb1073f5e6a7b8c9d0e1f2031425364758697a8";
const NAME: &str = "db/auth";

pub(crate) fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.below(4) {
        0 => any_text(input.rest()),
        1 => behind_a_header(input.rest()),
        2 => sealed(&mut input),
        _ => any_store(&mut input),
    }
}

fn keyring() -> Keyring {
    Keyring::new(MasterKey::parse(KEY).expect("it is a key"), Vec::new())
}

fn name() -> Key {
    Key::parse(NAME).expect("it is a key")
}

fn any_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(sealed) = SealedValue::parse(text) {
        let again = SealedValue::parse(&sealed.to_string()).expect("what is written can be read");
        assert!(again == sealed && again.key_id() == sealed.key_id());
        assert!(keyring().open_value(&name(), &sealed).is_err(), "nobody sealed that");
    }
    if let Ok(plaintext) = open_upstream(&KEY[..32], text) {
        assert!(plaintext.len() < text.len());
    }
}

/// As [`any_text`], with the beginning that makes it look like ours.
fn behind_a_header(bytes: &[u8]) {
    let keyring = keyring();
    let id = keyring.current_id().to_bytes();
    let record = [&[1][..], &id, bytes].concat();
    assert_eq!(record_key_id(&record), Some(keyring.current_id()));
    assert!(keyring.open_record(b"place", &record).is_err(), "nobody sealed that");
    assert!(keyring.open_record(b"place", bytes).is_err(), "nobody sealed that");
    // Envelopes of version 2 are long: what is missing is zeros.
    let zeros = vec![0; 1_200_usize.saturating_sub(bytes.len())];
    for (magic, rest) in [(b"sfs\x01", &[][..]), (b"sfs\x02", &[]), (b"sfs\x02", &zeros)] {
        let envelope = [magic, &id[..], bytes, rest].concat();
        if let Ok(sealed) = SealedValue::parse(&base64(&envelope)) {
            assert_eq!(sealed.key_id(), keyring.current_id());
            assert!(keyring.open_value(&name(), &sealed).is_err(), "nobody sealed that");
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let recipient = format!("secretfs-recipient-1.{text}");
        assert!(Recipient::parse(&recipient).is_err(), "nobody computed that checksum");
    }
}

/// What was sealed opens, in its place and unchanged, and not otherwise.
fn sealed(input: &mut Input<'_>) {
    let (keyring, place, flip) = (keyring(), [input.byte(), 7], usize::from(input.word()));
    let value = Plaintext::copy_of(input.rest());
    let record = keyring.seal_record(&place, value.expose());
    assert!(keyring.open_record(&place, &record).is_ok_and(|opened| opened == value));
    assert!(keyring.open_record(&[place[0] ^ 1, 7], &record).is_err());
    let mut changed = record.clone();
    changed[flip % record.len()] ^= 1 << (flip % 8);
    assert!(keyring.open_record(&place, &changed).is_err());
    assert!(keyring.open_record(&place, &record[..flip % record.len()]).is_err());

    let sealed = keyring.seal_value(&name(), &value);
    assert_eq!(sealed.to_string().len(), SealedValue::text_length(value.len()));
    opens_unchanged(&keyring, &value, &sealed, flip);
    let recipient = Recipient::parse(&keyring.recipient().to_string()).expect("it was written");
    opens_unchanged(&keyring, &value, &recipient.seal(&name(), &value), flip);
}

fn opens_unchanged(keyring: &Keyring, value: &Plaintext, sealed: &SealedValue, flip: usize) {
    let text = sealed.to_string();
    assert!(SealedValue::parse(&text).is_ok_and(|parsed| parsed == *sealed));
    assert!(keyring.open_value(&name(), sealed).is_ok_and(|opened| opened == *value));
    let other = Key::parse("db/other").expect("it is a key");
    assert!(keyring.open_value(&other, sealed).is_err());
    let mut changed = text.into_bytes();
    let at = flip % changed.len();
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).expect("it is ASCII");
    if let Ok(changed) = SealedValue::parse(&changed)
        && changed != *sealed
    {
        assert!(keyring.open_value(&name(), &changed).is_err());
    }
}

/// A store in which somebody has changed what he likes: one who has the key, too.
fn any_store(input: &mut Input<'_>) {
    let records = template();
    let store = Arc::new(MemoryStore::new());
    for (address, content) in records {
        store.tamper(address, Some(content.clone()));
    }
    let id = records.iter().find(|(address, _)| address == b"m").map(|(_, meta)| &meta[1..]);
    let id = id.expect("every store has one");
    let keyring_to_seal = keyring();
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        let how = input.below(5);
        let known = &records[input.below(records.len() as u64) as usize].0;
        let address = match how {
            0..3 => known.clone(),
            _ => {
                let kind = b"mkhvagjcrx"[input.below(10) as usize];
                let mut address = input.some(18).to_vec();
                address.insert(0, kind);
                address
            }
        };
        let content = input.some(600);
        let place = [id, &address].concat();
        let content = match how {
            0 => None,
            1 | 3 => Some(content.to_vec()),
            _ => Some(keyring_to_seal.seal_record(&place, content)),
        };
        store.tamper(&address, content);
    }
    let shared: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
    if let Ok(vault) = Vault::open(Arc::clone(&shared), keyring()) {
        use_all(&vault);
    }
    if let Ok(fsck) = Fsck::open(shared, keyring())
        && let Ok(findings) = fsck.check(|_| {})
        && let Ok(_repaired) = fsck.repair(&findings)
    {
        fsck.check(|_| {}).expect("what was mended can be looked at");
    }
}

/// Reads whatever is there, and writes: what is superseded is removed with that.
fn use_all(vault: &Vault) {
    let admin = Arc::new(Caller::new(0, None, [], true));
    for child in vault.children(&admin, "db") {
        if let Some(secret) = vault.secret(&format!("db/{}", child.name)) {
            let _whole_or_an_error = vault.read_all(secret.value());
        }
    }
    let actor = Actor { caller: admin, process: Process::default() };
    for round in 0..2 {
        let (done, when_done) = channel();
        let target = WriteTarget::New { key: name(), exclusive: false, inherited_lists: None };
        let value = Plaintext::copy_of(&[round]);
        let done =
            Box::new(move |outcome: Result<_, _>| done.send(outcome.is_ok()).expect("heard"));
        vault.write(actor.clone(), target, value, None, done);
        when_done.recv().expect("the writer thread lives");
    }
}

/// The records of a store with secrets of all sizes, and a superseded value that somebody has open.
fn template() -> &'static [(Vec<u8>, Vec<u8>)] {
    static TEMPLATE: OnceLock<Vec<(Vec<u8>, Vec<u8>)>> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let store = Arc::new(MemoryStore::new());
        let shared: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
        let vault = Vault::open(shared, keyring()).expect("an empty store opens");
        let admin = Arc::new(Caller::new(0, None, [], true));
        let mut held = Vec::new();
        for (key, size) in [(NAME, 3), ("db/empty", 0), ("db/large", 40_000), (NAME, 5)] {
            held.extend(vault.secret(key));
            let (done, when_done) = channel();
            let key = Key::parse(key).expect("it is a key");
            let target = WriteTarget::New { key, exclusive: false, inherited_lists: None };
            let value = Plaintext::copy_of(&vec![b'v'; size]);
            let actor = Actor { caller: Arc::clone(&admin), process: Process::default() };
            let done =
                Box::new(move |outcome: Result<_, _>| done.send(outcome.is_ok()).expect("heard"));
            vault.write(actor, target, value, None, done);
            assert!(when_done.recv().expect("the writer thread lives"));
        }
        let mut records = Vec::new();
        let all = store.scan(b"", &mut |address, content| {
            records.push((address.to_vec(), content.to_vec()));
            ControlFlow::Continue(())
        });
        all.expect("memory can be read");
        records
    })
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = (0..3).fold(0, |sum, at| sum << 8 | usize::from(*chunk.get(at).unwrap_or(&0)));
        for digit in 0..4 {
            let letter = char::from(ALPHABET[number >> (18 - 6 * digit) & 63]);
            text.push(if digit <= chunk.len() { letter } else { '=' });
        }
    }
    text
}
