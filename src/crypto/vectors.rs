//! Holds the code to the test vectors of `docs/keys.md`, which another program computed, and to published ones.

mod published;

use base64::Engine;

use super::derive::{Purpose, derive, key_id};
use super::{Keyring, MasterKey, SealedValue};
use crate::model::{Key, Plaintext};

const PAGE: &str = include_str!("../../docs/keys.md");

/// The vector of that name.
fn vector(name: &str) -> &'static str {
    let printed = PAGE.rsplit("```").nth(1).expect("the last block is what the program prints");
    let line = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no vector `{name}`"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |index| u8::from_str_radix(&text[index..index + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// The bytes 0 to 31.
fn master() -> MasterKey {
    let bytes: Vec<u8> = (0..32).collect();
    MasterKey::parse(&base64::engine::general_purpose::STANDARD.encode(bytes)).unwrap()
}

#[test]
fn keys_are_derived_as_documented() {
    let master = master();
    for (name, purpose) in [
        ("records", Purpose::Records),
        ("documents", Purpose::Documents),
        ("audit", Purpose::Audit),
        ("index", Purpose::Index),
        ("recipient key", Purpose::Recipient),
    ] {
        assert_eq!(hex(&derive(master.expose(), purpose)[..]), vector(name), "{name}");
    }
    assert_eq!(hex(&key_id(master.expose())), vector("key id"));
    assert_eq!(master.id().to_string(), vector("key id"));
    let hashed = MasterKey::parse("correct horse battery staple").unwrap();
    assert_eq!(hex(hashed.expose()), vector("passphrase"));
}

#[test]
fn a_record_opens_as_documented() {
    let ring = Keyring::new(master(), vec![]);
    let opened = ring.open_record(&unhex(vector("place")), &unhex(vector("record")));
    assert_eq!(opened.unwrap().expose(), b"example-value");
    let sealed = ring.seal_record(&unhex(vector("place")), b"example-value");
    assert_eq!(sealed.len(), unhex(vector("record")).len());
    assert_eq!(sealed[..9], unhex(vector("record"))[..9], "version and key id");
}

#[test]
fn a_document_opens_as_documented() {
    let ring = Keyring::new(master(), vec![]);
    let name = Key::parse("example-key").unwrap();
    let sealed = SealedValue::parse(vector("document")).unwrap();
    assert_eq!(sealed.key_id().to_string(), vector("key id"));
    assert_eq!(ring.open_value(&name, &sealed).unwrap().expose(), b"example-value");
    let again = ring.seal_value(&name, &Plaintext::copy_of(b"example-value"));
    assert_eq!(again.to_string().len(), vector("document").len());
}

#[test]
fn a_value_for_the_recipient_opens_as_documented() {
    use sha2::{Digest, Sha256};
    let ring = Keyring::new(master(), vec![]);
    let recipient = ring.recipient();
    assert_eq!(hex(&Sha256::digest(recipient.to_string())), vector("SHA-256 of the recipient"));
    let name = Key::parse("example-key").unwrap();
    // It stands in the program, in lines.
    let lines = PAGE.split("sealed = \"\"\"").nth(1).expect("a value that the program opens");
    let text: String =
        lines.split("\"\"\"").next().unwrap_or_default().split_whitespace().collect();
    let sealed = SealedValue::parse(&text).unwrap();
    assert!(sealed.is_for_recipient());
    assert_eq!(sealed.key_id().to_string(), vector("key id"));
    let opened = ring.open_value(&name, &sealed).unwrap();
    assert_eq!(opened.expose(), vector("value for the recipient").as_bytes());
    assert_eq!(recipient.seal(&name, &opened).to_string().len(), text.len());
}
