//! The current key and those before it.

use std::sync::{Arc, OnceLock};

use zeroize::Zeroizing;

use crate::model::{Key, Plaintext};

use super::derive::derive;
use super::locked::KeyBytes;
use super::recipient::RecipientKey;
use super::{
    KeyId, MasterKey, OpenError, Purpose, Recipient, SealedValue, SealingSeed, document, recipient,
    record, record_key_id,
};

/// Seals with the current key; opens with it and with those that were current once.
pub struct Keyring {
    /// The current one first; each once.
    keys: Vec<Arc<Keys>>,
}

/// What is derived from one master key.
struct Keys {
    id: KeyId,
    records: KeyBytes,
    documents: KeyBytes,
    audit: KeyBytes,
    index: KeyBytes,
    recipient: KeyBytes,
    /// What `recipient` is the seed of, once it is needed.
    private: OnceLock<RecipientKey>,
}

impl Keys {
    fn of(&self, purpose: Purpose) -> &KeyBytes {
        match purpose {
            Purpose::Records => &self.records,
            Purpose::Documents => &self.documents,
            Purpose::Audit => &self.audit,
            Purpose::Index => &self.index,
            Purpose::Recipient => &self.recipient,
        }
    }

    fn private(&self) -> &RecipientKey {
        self.private.get_or_init(|| RecipientKey::of_seed(&self.recipient))
    }

    /// The master key is gone after this.
    fn derive(master: MasterKey) -> Self {
        let of = |purpose| derive(master.expose(), purpose);
        Self {
            id: master.id(),
            records: of(Purpose::Records),
            documents: of(Purpose::Documents),
            audit: of(Purpose::Audit),
            index: of(Purpose::Index),
            recipient: of(Purpose::Recipient),
            private: OnceLock::new(),
        }
    }
}

impl Keyring {
    /// A keyring that seals with `current` and opens what any of these sealed.
    pub fn new(current: MasterKey, previous: Vec<MasterKey>) -> Self {
        Self::of(Arc::new(Keys::derive(current)), previous)
    }

    /// A keyring with the same current key and other previous ones: for a key that can be read only
    /// once (from the environment).
    pub fn with_previous(&self, previous: Vec<MasterKey>) -> Self {
        Self::of(Arc::clone(&self.keys[0]), previous)
    }

    /// The same keys, which are held once.
    pub fn share(&self) -> Self {
        Self { keys: self.keys.clone() }
    }

    fn of(current: Arc<Keys>, previous: Vec<MasterKey>) -> Self {
        let mut keys = vec![current];
        for master in previous {
            if keys.iter().all(|known| known.id != master.id()) {
                keys.push(Arc::new(Keys::derive(master)));
            }
        }
        Self { keys }
    }

    /// The id of the key that seals.
    pub fn current_id(&self) -> KeyId {
        self.current().id
    }

    /// The ids of all keys, the current one first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(|keys| keys.id)
    }

    /// Whether it holds the key of that id.
    pub fn holds(&self, id: KeyId) -> bool {
        self.find(id).is_ok()
    }

    /// A copy of what is derived from the current key for a purpose.
    pub fn derived(&self, purpose: Purpose) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(**self.current().of(purpose))
    }

    /// Copies of what is derived for a purpose from each key, the current one first.
    pub fn all_derived(
        &self,
        purpose: Purpose,
    ) -> impl Iterator<Item = (KeyId, Zeroizing<[u8; 32]>)> {
        self.keys.iter().map(move |keys| (keys.id, Zeroizing::new(**keys.of(purpose))))
    }

    /// Seals a record to its place in the store.
    pub fn seal_record(&self, place: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let keys = self.current();
        record::seal(&keys.records, keys.id, place, plaintext)
    }

    /// Opens a record.
    ///
    /// # Errors
    /// It was changed, or sealed to another place, or with a key that is not here.
    pub fn open_record(&self, place: &[u8], sealed: &[u8]) -> Result<Plaintext, OpenError> {
        let id = record_key_id(sealed).ok_or(OpenError::Malformed)?;
        record::open(&self.find(id)?.records, place, sealed).ok_or(OpenError::NotAuthentic)
    }

    /// Seals a value for a document, to the name of its secret.
    pub fn seal_value(&self, name: &Key, value: &Plaintext) -> SealedValue {
        let keys = self.current();
        document::seal(&keys.documents, keys.id, name, value)
    }

    /// As [`Keyring::seal_value`]; with the same seed, the same again.
    pub fn seal_value_seeded(
        &self,
        seed: &SealingSeed,
        name: &Key,
        value: &Plaintext,
    ) -> SealedValue {
        let keys = self.current();
        document::seal_seeded(seed, &keys.documents, keys.id, name, value)
    }

    /// The recipient of the current key: others seal values for it that only this keyring opens.
    pub fn recipient(&self) -> Recipient {
        let keys = self.current();
        Recipient::of(keys.id, keys.private())
    }

    /// Opens a value from a document.
    ///
    /// # Errors
    /// It was changed, or sealed for another name, or with a key that is not here.
    pub fn open_value(&self, name: &Key, sealed: &SealedValue) -> Result<Plaintext, OpenError> {
        let (id, envelope) = (sealed.key_id(), sealed.envelope());
        let opened = match (self.find(id), sealed.is_for_recipient()) {
            (Ok(keys), false) => document::open(&keys.documents, name, envelope),
            (Ok(keys), true) => recipient::open(keys.private(), name, envelope),
            (Err(error), false) => return Err(error),
            (Err(_), true) => return Err(OpenError::OtherRecipient(id)),
        };
        opened.ok_or(OpenError::NotAuthentic)
    }

    fn current(&self) -> &Keys {
        self.keys.first().expect("a keyring is made with a current key")
    }

    fn find(&self, id: KeyId) -> Result<&Keys, OpenError> {
        let found = self.keys.iter().find(|keys| keys.id == id);
        found.map(Arc::as_ref).ok_or(OpenError::UnknownKey(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SealedValueError;
    use proptest::prelude::*;

    /// A raw key: no password hash, so that the tests are quick.
    fn master(byte: u8) -> MasterKey {
        MasterKey::parse(&format!("{byte:02x}").repeat(32)).unwrap()
    }

    fn keyring(byte: u8) -> Keyring {
        Keyring::new(master(byte), vec![])
    }

    fn key(name: &str) -> Key {
        Key::parse(name).unwrap()
    }

    #[test]
    fn a_record_opens_in_its_place_alone() {
        let ring = keyring(1);
        let sealed = ring.seal_record(b"place", b"value");
        assert_eq!(ring.open_record(b"place", &sealed).unwrap().expose(), b"value");
        assert_eq!(ring.open_record(b"other", &sealed).err(), Some(OpenError::NotAuthentic));
        let stranger = keyring(2).open_record(b"place", &sealed);
        assert_eq!(stranger.err(), Some(OpenError::UnknownKey(master(1).id())));
        assert_ne!(sealed, ring.seal_record(b"place", b"value"));
    }

    #[test]
    fn a_document_opens_under_its_name_alone() {
        let (ring, value) = (keyring(1), Plaintext::copy_of(b"value"));
        let sealed = ring.seal_value(&key("a/K"), &value);
        let read = SealedValue::parse(&sealed.to_string()).unwrap();
        assert_eq!(ring.open_value(&key("a/K"), &read).unwrap().expose(), b"value");
        assert_eq!(ring.open_value(&key("b/K"), &read).err(), Some(OpenError::NotAuthentic));
        assert_eq!(
            keyring(2).open_value(&key("a/K"), &read).err(),
            Some(OpenError::UnknownKey(master(1).id()))
        );
        assert_ne!(sealed.to_string(), ring.seal_value(&key("a/K"), &value).to_string());
    }

    #[test]
    fn a_seed_gives_the_same_again_and_never_one_nonce_for_two() {
        let (ring, seed) = (keyring(1), SealingSeed::random());
        let seal = |seed: &SealingSeed, name: &str, value: &[u8]| {
            ring.seal_value_seeded(seed, &key(name), &Plaintext::copy_of(value)).to_string()
        };
        let sealed = seal(&seed, "a/K", b"value");
        assert_eq!(sealed, seal(&seed, "a/K", b"value"));
        assert_eq!(sealed.len(), SealedValue::text_length(5));
        // What is before the text (magic, key id, salt, nonce) is the first 40 bytes.
        let start = |sealed: &str| sealed[..53].to_owned();
        let others = [
            seal(&seed, "a/K", b"valuf"),
            seal(&seed, "a/L", b"value"),
            seal(&seed, "a/Kv", b"alue"),
            seal(&SealingSeed::random(), "a/K", b"value"),
        ];
        for other in others {
            assert_ne!(start(&other), start(&sealed));
        }
        let parsed = SealedValue::parse(&sealed).unwrap();
        assert_eq!(ring.open_value(&key("a/K"), &parsed).unwrap().expose(), b"value");
    }

    #[test]
    fn previous_keys_open_what_they_sealed() {
        let old = keyring(1);
        let new = Keyring::new(master(2), vec![master(1)]);
        let record = old.seal_record(b"place", b"value");
        assert_eq!(new.open_record(b"place", &record).unwrap().expose(), b"value");
        assert_eq!(record_key_id(&new.seal_record(b"place", b"")), Some(master(2).id()));
        let value = old.seal_value(&key("K"), &Plaintext::copy_of(b"value"));
        assert_eq!(new.open_value(&key("K"), &value).unwrap().expose(), b"value");
    }

    #[test]
    fn what_is_sealed_for_a_recipient_opens_with_its_key_and_under_its_name_alone() {
        let (ring, value) = (keyring(1), Plaintext::copy_of(b"value"));
        let recipient = Recipient::parse(&ring.recipient().to_string()).unwrap();
        assert_eq!((&recipient, recipient.key_id()), (&ring.recipient(), ring.current_id()));
        let sealed = recipient.seal(&key("a/K"), &value);
        let read = SealedValue::parse(&sealed.to_string()).unwrap();
        assert!(read.is_for_recipient() && read.key_id() == ring.current_id());
        assert_eq!(ring.open_value(&key("a/K"), &read).unwrap().expose(), b"value");
        assert_eq!(ring.open_value(&key("b/K"), &read).err(), Some(OpenError::NotAuthentic));
        assert_eq!(
            keyring(2).open_value(&key("a/K"), &read).err(),
            Some(OpenError::OtherRecipient(master(1).id()))
        );
        let next = Keyring::new(master(2), vec![master(1)]);
        assert_eq!(next.open_value(&key("a/K"), &read).unwrap().expose(), b"value");
        assert_ne!(next.recipient(), recipient);
        assert_ne!(sealed.to_string(), recipient.seal(&key("a/K"), &value).to_string());
    }

    #[test]
    fn a_damaged_recipient_is_refused() {
        use crate::crypto::RecipientError::{Damaged, NotARecipient};
        let text = keyring(1).recipient().to_string();
        assert_eq!(Recipient::parse(&format!(" {text}\r\n")).unwrap(), keyring(1).recipient());
        let error = |text: &str| Recipient::parse(text).err();
        assert_eq!(error(&text[1..]), Some(NotARecipient));
        assert_eq!(error(&text.replace("recipient-1", "recipient-2")), Some(NotARecipient));
        for length in 21..text.len() {
            assert_eq!(error(&text[..length]), Some(Damaged), "length {length}");
        }
        for at in 21..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(error(&changed), Some(Damaged), "byte {at}");
        }
    }

    #[test]
    fn a_key_counts_once_and_the_current_one_can_be_kept() {
        let ring = Keyring::new(master(2), vec![master(1), master(2), master(1)]);
        assert_eq!(ring.ids().collect::<Vec<_>>(), [master(2).id(), master(1).id()]);
        let next = ring.with_previous(vec![master(3)]);
        assert_eq!(next.ids().collect::<Vec<_>>(), [master(2).id(), master(3).id()]);
        assert!(next.holds(master(3).id()) && !next.holds(master(1).id()));
        let record = ring.seal_record(b"place", b"value");
        assert_eq!(next.open_record(b"place", &record).unwrap().expose(), b"value");
    }

    #[test]
    fn no_bit_can_change_and_no_byte_be_missing() {
        let ring = keyring(1);
        let record = ring.seal_record(b"place", b"value");
        for bit in 0..record.len() * 8 {
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(ring.open_record(b"place", &changed).is_err(), "bit {bit}");
        }
        for length in 0..record.len() {
            assert!(ring.open_record(b"place", &record[..length]).is_err(), "length {length}");
        }
        use base64::Engine;
        let base64 = base64::engine::general_purpose::STANDARD;
        let value = Plaintext::copy_of(b"value");
        let both = [ring.seal_value(&key("K"), &value), ring.recipient().seal(&key("K"), &value)];
        for sealed in both {
            let bytes = base64.decode(sealed.to_string()).unwrap();
            let opens = |bytes: &[u8]| {
                SealedValue::parse(&base64.encode(bytes))
                    .is_ok_and(|sealed| ring.open_value(&key("K"), &sealed).is_ok())
            };
            assert!(opens(&bytes));
            // Each bit of the first 100 bytes and of the last, one in each byte of the encapsulated key.
            let near = |byte: usize| byte < 100 || byte + 40 > bytes.len();
            let bits = (0..bytes.len() * 8).filter(|bit| near(bit / 8) || bit % 8 == bit / 8 % 8);
            for bit in bits {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(!opens(&changed), "bit {bit}");
            }
            assert!((0..bytes.len()).all(|length| !opens(&bytes[..length])));
        }
    }

    #[test]
    fn what_is_no_envelope_is_told_apart() {
        let error = |text| SealedValue::parse(text).err();
        assert_eq!(error("not base64!"), Some(SealedValueError::NotBase64));
        assert_eq!(error(""), Some(SealedValueError::Malformed));
        assert_eq!(error("c2ZzAQ=="), Some(SealedValueError::Malformed));
        assert_eq!(error("c2ZzAgAA"), Some(SealedValueError::Malformed));
        assert_eq!(error("c2ZzAwAA"), Some(SealedValueError::UnknownVersion(3)));
        let upstream = "a37/KUAr4SOYi6Xw9i9T8qo3QCk8WvnzONo47jHAkwk=";
        assert_eq!(error(upstream), Some(SealedValueError::Upstream));
        assert!(SealedValueError::Upstream.to_string().contains("secretfs convert"));
    }

    proptest! {
        #[test]
        fn any_bytes_survive(value in prop::collection::vec(any::<u8>(), 0..5000), place in prop::collection::vec(any::<u8>(), 0..40)) {
            let ring = keyring(3);
            let sealed = ring.seal_record(&place, &value);
            prop_assert!(ring.open_record(&place, &sealed).unwrap().expose() == value);
            let sealed = ring.seal_value(&key("K"), &Plaintext::copy_of(&value));
            prop_assert!(ring.open_value(&key("K"), &sealed).unwrap().expose() == value);
            let sealed = ring.recipient().seal(&key("K"), &Plaintext::copy_of(&value));
            prop_assert!(ring.open_value(&key("K"), &sealed).unwrap().expose() == value);
        }

        #[test]
        fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,200}") {
            prop_assert!(keyring(3).open_record(b"place", &bytes).is_err());
            prop_assert!(SealedValue::parse(&text).is_err());
        }
    }
}
