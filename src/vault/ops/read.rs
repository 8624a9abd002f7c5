//! Reading a value.

use crate::crypto::OpenError;
use crate::model::{MAX_VALUE_BYTES, Plaintext};

use crate::vault::Vault;
use crate::vault::error::VaultError;
use crate::vault::records::secret::Value;
use crate::vault::records::{Address, CHUNK_BYTES, Records};

impl Vault {
    /// At most `length` bytes of one version from `offset` on; fewer at its end. A superseded version can be read as
    /// long as its `Value` is held.
    ///
    /// # Errors
    /// The store failed, or what it holds does not unseal.
    pub fn read(&self, value: &Value, offset: u64, length: usize) -> Result<Plaintext, VaultError> {
        self.shared.records.read_value(value, offset, length)
    }

    /// All bytes of one version.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub fn read_all(&self, value: &Value) -> Result<Plaintext, VaultError> {
        self.read(value, 0, MAX_VALUE_BYTES)
    }
}

impl Records {
    /// Unseals only the chunks that hold the wanted bytes.
    pub(in crate::vault) fn read_value(
        &self,
        value: &Value,
        offset: u64,
        length: usize,
    ) -> Result<Plaintext, VaultError> {
        let size = value.size as usize;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(size);
        let end = start.saturating_add(length).min(size);
        let mut bytes = Plaintext::with_capacity(end - start);
        for number in start / CHUNK_BYTES..end.div_ceil(CHUNK_BYTES) {
            let chunk = self.read_chunk(value, number)?;
            let first = number * CHUNK_BYTES;
            let expected = CHUNK_BYTES.min(size - first);
            if chunk.len() != expected {
                return Err(VaultError::Incomplete { key: name(value) });
            }
            let wanted = start.max(first) - first..end.min(first + expected) - first;
            bytes.push(&chunk.expose()[wanted]);
        }
        Ok(bytes)
    }

    fn read_chunk(&self, value: &Value, number: usize) -> Result<Plaintext, VaultError> {
        let number = u16::try_from(number).expect("a value has at most 32 chunks");
        let address = Address::chunk(value.node, number);
        let mut tried = false;
        loop {
            let sealed = self
                .read_raw(&address)?
                .ok_or_else(|| VaultError::Incomplete { key: name(value) })?;
            match self.unseal(&address, &sealed) {
                // It was re-sealed, and its key removed, since it was read.
                Err(OpenError::UnknownKey(_)) if !tried => tried = true,
                outcome => {
                    return outcome
                        .map_err(|source| VaultError::Unseal { key: name(value), source });
                }
            }
        }
    }
}

/// How a version is called where its key is not at hand.
fn name(value: &Value) -> String {
    format!("record {} version {}", value.record.0, value.version)
}
