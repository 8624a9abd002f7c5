//! Sealing a value for a document that is kept elsewhere.

use crate::crypto::SealedValue;
use crate::document::{DocumentValue, Emission, Layout, emit};
use crate::model::{Key, MAX_VALUE_BYTES, Plaintext, SecretId};

use crate::vault::records::Address;
use crate::vault::{Shared, Vault, VaultError};

impl Vault {
    /// The sealed document of a value for `key`: what an operator keeps in git and imports later. It has an id that
    /// no secret has, and no checksum: that of a short value reveals it. No right is needed, because the caller knows
    /// the value.
    pub fn seal(&self, key: &Key, value: &Plaintext) -> String {
        let sealed = self.shared.records.seal_value(key, value);
        let emission = Emission {
            id: Some(&self.shared.fresh_id()),
            key,
            value: &DocumentValue::Sealed(sealed.to_string()),
            checksum: None,
            lists: None,
        };
        let mut document = String::new();
        emit(&emission, Layout::Single, &mut document).expect("a string takes all");
        document
    }

    /// The document of a value that is sealed already, by one of the keys here or for its recipient, sealed with
    /// the current one. The caller does not learn the value.
    ///
    /// # Errors
    /// The text is not a sealed value of this key, or no key here opens it.
    pub fn seal_again(&self, key: &Key, sealed: &str) -> Result<String, VaultError> {
        let name = || key.to_string();
        let sealed = SealedValue::parse(sealed)
            .map_err(|source| VaultError::NotSealed { key: name(), source })?;
        let value = self.shared.records.open_value(key, &sealed);
        let value = value.map_err(|source| VaultError::NotOpened { key: name(), source })?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(VaultError::TooLarge { key: name() });
        }
        Ok(self.seal(key, &value))
    }

    /// Seals a page of a buffer that is to lie in memory outside this process, to its place there.
    pub fn seal_aside(&self, node: u64, page: u64, bytes: &[u8]) -> Vec<u8> {
        self.shared.records.seal(&Address::aside(node, page), bytes)
    }

    /// Opens what [`Vault::seal_aside`] sealed; none if it is something else.
    pub fn open_aside(&self, node: u64, page: u64, sealed: &[u8]) -> Option<Plaintext> {
        self.shared.records.unseal(&Address::aside(node, page), sealed).ok()
    }
}

impl Shared {
    /// An id that no secret has.
    pub(in crate::vault) fn fresh_id(&self) -> SecretId {
        loop {
            let mut random = [0; 32];
            getrandom::fill(&mut random)
                .expect("the kernel's random source answers once it is seeded");
            let id = SecretId::from_random(random);
            // 32 bytes are too few for ten characters once in 10^20; a taken id is rarer still.
            let whole = id.as_str().len() == "secr_".len() + 10;
            if whole && self.index.read().by_id(&id).is_none() {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::crypto::{Keyring, MasterKey, SealedValue};
    use crate::document::parse;
    use crate::store::MemoryStore;

    #[test]
    fn the_document_opens_to_the_value_under_its_key() {
        let master = || MasterKey::parse(&"07".repeat(32)).unwrap();
        let ring = || Keyring::new(master(), Vec::new());
        let vault = Vault::open(Arc::new(MemoryStore::new()), ring()).unwrap();
        let key = Key::parse("a/b \"K\"").unwrap();
        let mut ids = std::collections::HashSet::new();
        for value in [&b"example-value"[..], b"", b"\xff\0\n", &[7; 1 << 20]] {
            let value = Plaintext::copy_of(value);
            let text = vault.seal(&key, &value);
            let mut documents = parse(text.as_bytes()).unwrap();
            let mut document = documents.pop().unwrap();
            assert!(documents.is_empty() && document.key() == &key);
            assert!(document.checksum().is_none());
            assert!(ids.insert(document.id().unwrap().clone()), "each has an id of its own");
            let Some(DocumentValue::Sealed(sealed)) = document.take_value() else {
                panic!("the value is not sealed")
            };
            let sealed = SealedValue::parse(&sealed).unwrap();
            assert!(ring().open_value(&key, &sealed).unwrap() == value);
        }
        assert!(vault.is_empty(), "nothing is stored");
    }
}
