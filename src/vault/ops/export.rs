//! What a caller may read, as one text of sealed documents.
//!
//! The text is fixed when it is asked for, but no part of it is made before it is read: the length
//! of each document follows from its secret's key, id, lists and size, so any piece can be made
//! alone, and made again with the same bytes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::audit::Subject;
use crate::crypto::{Keyring, SealedValue, SealingSeed};
use crate::document::{DocumentValue, Emission, Layout, emit};
use crate::model::{Acl, Caller, Operation, decide, may_see};

use crate::vault::Vault;
use crate::vault::error::VaultError;
use crate::vault::records::secret::Secret;

/// The text when there is nothing to export: an empty list.
const NOTHING: &str = "[]\n";
/// The most that one read gives, in bytes: it occupies one of the threads that serve all callers.
const MOST_AT_ONCE: usize = 128 << 10;
/// So many secrets are put on record at once.
const RECORDED_AT_ONCE: usize = 4096;

/// The secrets that one caller might read at one moment, as a text. Their values can be read for as
/// long as this lives, whatever becomes of them.
pub struct Export {
    /// The keys of that moment: the text stays the same when the current one changes.
    keyring: Arc<Keyring>,
    seed: SealingSeed,
    /// In the order of their keys.
    documents: Box<[Place]>,
    /// The document that was made last: a reader goes on in the middle of it.
    last: Mutex<Option<(usize, Arc<str>)>>,
}

/// Where the document of a secret ends in the text.
struct Place {
    end: u64,
    secret: Arc<Secret>,
}

impl Export {
    /// How long the text is, in bytes.
    pub fn size(&self) -> u64 {
        self.documents.last().map_or(NOTHING.len() as u64, |last| last.end)
    }

    /// How many secrets there are.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Some of its secrets (4,096 at most) from the document `first` on, as the audit log tells of them
    /// when they are given to `caller`; none at the end.
    pub fn subjects(&self, caller: &Caller, first: usize) -> Vec<Subject> {
        let subject = |Place { secret, .. }: &Place| {
            let version = Some(secret.value().version());
            let grant = decide(caller, Operation::Read, secret.acl()).ok();
            Subject { version, grant, ..Subject::of(secret.key().as_str()) }
        };
        self.documents.iter().skip(first).take(RECORDED_AT_ONCE).map(subject).collect()
    }

    fn start(&self, number: usize) -> u64 {
        number.checked_sub(1).map_or(0, |before| self.documents[before].end)
    }
}

impl Vault {
    /// Whether `caller` sees the secret of that path or one below it.
    pub fn sees(&self, caller: &Caller, path: &str) -> bool {
        self.shared.index.read().at_and_below(caller, path, may_see).next().is_some()
    }

    /// A number that is another after every change: until then, exports are as long as they were.
    pub fn changes(&self) -> u64 {
        self.shared.index.read().changes()
    }

    /// What `caller` may read at a path and below it (all, if it is empty), as it is now.
    pub fn export(&self, caller: &Caller, path: &str) -> Export {
        let secrets: Vec<_> = {
            let index = self.shared.index.read();
            index.at_and_below(caller, path, may_read).cloned().collect()
        };
        let mut measure = Measure::default();
        let mut end = 0;
        let documents = secrets.into_iter().map(|secret| {
            end += measure.document(&secret);
            Place { end, secret }
        });
        Export {
            keyring: self.shared.records.keyring(),
            seed: SealingSeed::random(),
            documents: documents.collect(),
            last: Mutex::new(None),
        }
    }

    /// Some of the text from `offset` on: at most `length` bytes, none at its end alone.
    ///
    /// # Errors
    /// A value cannot be read or does not unseal; the error names the secret.
    pub fn read_export(
        &self,
        export: &Export,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, VaultError> {
        if export.is_empty() {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(NOTHING.len());
            let end = start.saturating_add(length).min(NOTHING.len());
            return Ok(NOTHING.as_bytes()[start..end].to_vec());
        }
        let length = length.min(MOST_AT_ONCE);
        let mut bytes = Vec::with_capacity(length);
        let mut number = export.documents.partition_point(|place| place.end <= offset);
        while bytes.len() < length && number < export.documents.len() {
            let text = self.document_of(export, number)?;
            let at = offset + bytes.len() as u64 - export.start(number);
            let rest = &text.as_bytes()[usize::try_from(at).expect("a document fits memory")..];
            bytes.extend_from_slice(&rest[..rest.len().min(length - bytes.len())]);
            number += 1;
        }
        Ok(bytes)
    }

    fn document_of(&self, export: &Export, number: usize) -> Result<Arc<str>, VaultError> {
        if let Some((last, text)) = &*export.last.lock()
            && *last == number
        {
            return Ok(Arc::clone(text));
        }
        let secret = &export.documents[number].secret;
        let value = self.read_all(secret.value()).map_err(|error| error.of(secret))?;
        let sealed = export.keyring.seal_value_seeded(&export.seed, secret.key(), &value);
        let mut text = String::new();
        write(secret, sealed.to_string(), Some(secret.acl()), &mut text);
        debug_assert_eq!(text.len() as u64, export.documents[number].end - export.start(number));
        let text: Arc<str> = text.into();
        *export.last.lock() = Some((number, Arc::clone(&text)));
        Ok(text)
    }
}

fn may_read(caller: &Caller, acl: &Acl) -> bool {
    decide(caller, Operation::Read, acl).is_ok()
}

fn write(secret: &Secret, sealed: String, lists: Option<&Acl>, out: &mut impl fmt::Write) {
    let emission = Emission {
        id: Some(secret.id()),
        key: secret.key(),
        value: &DocumentValue::Sealed(sealed),
        // A checksum of a short value reveals it, and the seal finds damage.
        checksum: None,
        lists,
    };
    emit(&emission, Layout::Item, out).expect("memory takes all");
}

/// Tells how long documents are without making them.
#[derive(Default)]
struct Measure {
    /// The length of a document without its id, key, value and lists.
    frame: Option<u64>,
    /// Lists are measured once, however many secrets share them.
    lists: HashMap<*const Acl, u64>,
}

impl Measure {
    fn document(&mut self, secret: &Secret) -> u64 {
        let sealed = SealedValue::text_length(secret.value().size() as usize) as u64;
        self.names(secret) + self.lists(secret) + sealed
    }

    /// Everything but value and lists. What needs no escape is as long as it is.
    fn names(&mut self, secret: &Secret) -> u64 {
        let plain = |&byte: &u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        if !secret.key().as_str().as_bytes().iter().all(plain) {
            return self.length(secret, None);
        }
        let names = (secret.id().as_str().len() + secret.key().as_str().len()) as u64;
        let frame = match self.frame {
            Some(frame) => frame,
            None => *self.frame.insert(self.length(secret, None) - names),
        };
        frame + names
    }

    fn lists(&mut self, secret: &Secret) -> u64 {
        let acl = Arc::as_ptr(secret.acl());
        if let Some(&length) = self.lists.get(&acl) {
            return length;
        }
        let length = self.length(secret, Some(secret.acl())) - self.length(secret, None);
        self.lists.insert(acl, length);
        length
    }

    fn length(&self, secret: &Secret, lists: Option<&Acl>) -> u64 {
        let mut counter = Counter(0);
        write(secret, String::new(), lists, &mut counter);
        counter.0
    }
}

struct Counter(u64);

impl fmt::Write for Counter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::mpsc::channel;

    use proptest::prelude::*;

    use super::*;
    use crate::audit::{Actor, Process};
    use crate::crypto::MasterKey;
    use crate::document::parse;
    use crate::model::{Key, ListName, Plaintext, SecretId, Slug, SlugList};
    use crate::store::MemoryStore;
    use crate::vault::records::Address;
    use crate::vault::writer::transaction::Transaction;

    /// What an export carries of a secret, by its key.
    type Secrets = BTreeMap<String, (String, Vec<u8>, Acl)>;

    fn keyring() -> Keyring {
        Keyring::new(MasterKey::parse(&"07".repeat(32)).unwrap(), Vec::new())
    }

    fn vault() -> (Arc<MemoryStore>, Vault) {
        let store = Arc::new(MemoryStore::new());
        (Arc::clone(&store), Vault::open(store, keyring()).unwrap())
    }

    fn admin() -> Caller {
        Caller::new(0, Slug::parse("root").ok(), [], true)
    }

    fn alice() -> Caller {
        Caller::new(2100, Slug::parse("alice").ok(), [], false)
    }

    fn change(
        vault: &Vault,
        plan: impl Fn(&mut Transaction<'_>) -> Result<(), VaultError> + Send + 'static,
    ) -> Result<(), VaultError> {
        let (done, finished) = channel();
        let answer = Box::new(move |outcome: Result<_, _>| done.send(outcome.map(drop)).unwrap());
        vault.writer.submit(Box::new(plan), answer);
        finished.recv().unwrap()
    }

    fn create(
        vault: &Vault,
        key: &str,
        id: Option<SecretId>,
        acl: Acl,
        value: &[u8],
    ) -> Result<(), VaultError> {
        let (key, value) = (Key::parse(key).unwrap(), Plaintext::copy_of(value));
        change(vault, move |transaction| {
            transaction.create(&admin(), key.clone(), id.clone(), acl.clone(), &value)
        })
    }

    fn readers(names: &[&str]) -> Acl {
        let mut acl = Acl::default();
        acl.set(ListName::Readers, names.iter().map(|name| Slug::parse(name).unwrap()).collect());
        acl
    }

    /// The whole text, read in steps of this size.
    fn text(vault: &Vault, export: &Export, step: usize) -> Result<String, VaultError> {
        let mut text = Vec::new();
        loop {
            let piece = vault.read_export(export, text.len() as u64, step)?;
            if piece.is_empty() {
                assert_eq!(text.len() as u64, export.size());
                return Ok(String::from_utf8(text).unwrap());
            }
            text.extend(piece);
        }
    }

    fn keys(text: &str) -> Vec<String> {
        let documents = parse(text.as_bytes()).unwrap();
        documents.iter().map(|document| document.key().to_string()).collect()
    }

    fn contents(vault: &Vault) -> Secrets {
        let export = vault.export(&admin(), "");
        let described = |place: &Place| {
            let secret = &place.secret;
            let value = vault.read_all(secret.value()).unwrap().expose().to_vec();
            let acl = Acl::clone(secret.acl());
            (secret.key().to_string(), (secret.id().to_string(), value, acl))
        };
        export.documents.iter().map(described).collect()
    }

    fn import(vault: &Vault, text: &str) {
        let documents = parse(text.as_bytes()).unwrap();
        for document in &documents {
            assert!(document.id().is_some() && document.checksum().is_none());
            assert!(matches!(document.value(), Some(DocumentValue::Sealed(_))));
            assert_eq!(document.lists().iter().count(), 6);
        }
        let actor = Actor { caller: Arc::new(admin()), process: Process::default() };
        vault.apply(&actor, documents).unwrap();
    }

    #[test]
    fn holds_what_the_caller_may_read() {
        let (_, vault) = vault();
        for (key, names) in [
            ("a", &["bob"][..]),
            ("b/x", &["alice"]),
            ("b/y/z", &["bob", "alice"]),
            ("bb", &["alice"]),
        ] {
            create(&vault, key, None, readers(names), key.as_bytes()).unwrap();
        }
        let exported = |caller: &Caller, path: &str| {
            let export = vault.export(caller, path);
            text(&vault, &export, 1000).unwrap()
        };
        assert_eq!(keys(&exported(&admin(), "")), ["a", "b/x", "b/y/z", "bb"]);
        assert_eq!(keys(&exported(&alice(), "")), ["b/x", "b/y/z", "bb"]);
        assert_eq!(keys(&exported(&alice(), "b")), ["b/x", "b/y/z"]);
        assert_eq!(keys(&exported(&alice(), "b/y")), ["b/y/z"]);
        assert_eq!(keys(&exported(&alice(), "bb")), ["bb"]);
        assert_eq!(exported(&alice(), "a"), "[]\n");
        assert_eq!(exported(&admin(), "nothing"), "[]\n");
        assert!(vault.sees(&alice(), "b") && !vault.sees(&alice(), "a"));
    }

    #[test]
    fn stays_as_it_was() {
        let (_, vault) = vault();
        create(&vault, "K", None, Acl::default(), b"old").unwrap();
        create(&vault, "L", None, Acl::default(), b"removed").unwrap();
        let before = contents(&vault);
        let export = vault.export(&admin(), "");
        change(&vault, |transaction| {
            let secret = transaction.by_key("K").unwrap();
            transaction.set_value(&admin(), secret, &Plaintext::copy_of(b"new"))?;
            let secret = transaction.by_key("L").unwrap();
            transaction.remove(secret);
            Ok(())
        })
        .unwrap();
        // A commit also removes the values that are no longer held.
        create(&vault, "M", None, Acl::default(), b"later").unwrap();
        let (_, copy) = self::vault();
        import(&copy, &text(&vault, &export, 10).unwrap());
        assert_eq!(contents(&copy), before);
        assert_eq!(keys(&text(&vault, &vault.export(&admin(), ""), 10).unwrap()), ["K", "M"]);
    }

    #[test]
    fn what_does_not_unseal_is_an_error_that_names_it() {
        let (store, vault) = vault();
        for key in ["a", "b", "c"] {
            create(&vault, key, None, Acl::default(), b"value").unwrap();
        }
        let damaged = vault.secret("b").unwrap();
        let address = Address::chunk(damaged.value().node(), 0);
        for content in [Some(vec![1; 60]), None] {
            store.tamper(address.as_bytes(), content);
            let export = vault.export(&admin(), "");
            for step in [10, 100_000] {
                let error = text(&vault, &export, step).unwrap_err().to_string();
                assert!(error.starts_with("b: its stored value "), "{error}");
            }
        }
    }

    #[test]
    fn large_values_come_in_pieces() {
        let (_, vault) = vault();
        let largest = vec![0xff; 1 << 20];
        create(&vault, "large", None, Acl::default(), &largest).unwrap();
        create(&vault, "none", None, Acl::default(), b"").unwrap();
        let export = vault.export(&admin(), "");
        assert_eq!(vault.read_export(&export, 0, 1 << 20).unwrap().len(), MOST_AT_ONCE);
        let (_, copy) = self::vault();
        import(&copy, &text(&vault, &export, 1 << 20).unwrap());
        assert_eq!(contents(&copy), contents(&vault));
    }

    fn any_acl() -> impl Strategy<Value = Acl> {
        let slug = prop::sample::select(vec!["alice", "bob", "uid:7", "null", "0x1f", "gid:0"]);
        let list = prop::collection::vec(slug, 0..4).prop_map(|names| {
            names.into_iter().map(|name| Slug::parse(name).unwrap()).collect::<SlugList>()
        });
        prop::collection::vec(list, 6).prop_map(|lists| {
            let mut acl = Acl::default();
            ListName::ALL.into_iter().zip(lists).for_each(|(name, list)| acl.set(name, list));
            acl
        })
    }

    fn any_secret() -> impl Strategy<Value = (String, Option<String>, Acl, Vec<u8>)> {
        let key = r#"[a-c"'\\ :#\-é\u{2028}]{1,6}(/[a-b]{1,2}){0,2}"#;
        let value = prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 0..100),
            1 => (0usize..40_000).prop_map(|size| vec![b'x'; size]),
        ];
        (key, prop::option::of("[A-Za-z0-9_-]{1,64}"), any_acl(), value)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn any_secrets_exported_and_imported_are_the_same(
            secrets in prop::collection::vec(any_secret(), 1..12),
            step in 20usize..5000,
            pieces in prop::collection::vec((any::<prop::sample::Index>(), 0usize..3000), 10),
        ) {
            let (_, vault) = vault();
            for (key, id, acl, value) in secrets {
                let id = id.map(|id| SecretId::parse(&id).unwrap());
                // A name or an id that is taken leaves the set as it is.
                _ = create(&vault, &key, id, acl, &value);
            }
            let export = vault.export(&admin(), "");
            let whole = text(&vault, &export, step).unwrap();
            let (_, copy) = self::vault();
            import(&copy, &whole);
            prop_assert!(contents(&copy) == contents(&vault));
            for (start, length) in pieces {
                let start = start.index(whole.len() + 10);
                let piece = vault.read_export(&export, start as u64, length).unwrap();
                let end = (start + length).min(whole.len());
                prop_assert_eq!(piece.as_slice(), &whole.as_bytes()[start.min(end)..end]);
            }
        }
    }
}
