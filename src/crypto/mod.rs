//! Encryption keys and what they seal.
//!
//! From one master key (32 bytes) every purpose gets a key of its own by HKDF-SHA256 (RFC 5869)
//! without salt: `HKDF-Expand(HKDF-Extract("", master), "secretfs v1 " + purpose, 32)` for the
//! purposes `records`, `documents`, `audit`, `index`, `recipient`, and 8 bytes for `key id`. `docs/keys.md`
//! specifies all of it, with test vectors.
//!
//! No AES-GCM key comes near the 2^32 messages that random nonces allow (NIST SP 800-38D, 8.3):
//! each record has a key of its own, BLAKE2s-256 keyed with the records key over its place, and each
//! document one derived from the documents key and 16 random bytes.

mod aead;
mod derive;
mod document;
mod error;
mod keyring;
mod locked;
mod master;
mod recipient;
mod record;
mod set;
mod upstream;
#[cfg(test)]
mod vectors;

pub use derive::Purpose;
pub use document::{SealedValue, SealedValueError, SealingSeed};
pub use error::OpenError;
pub use keyring::Keyring;
pub use locked::{LockedText, keys_are_locked};
pub use master::{BUILT_IN_KEY, KeyId, KeyTextError, MasterKey, Weakness};
pub use recipient::{Recipient, RecipientError};
pub use record::record_key_id;
pub use set::{SET_KEY_BYTES, SetKey, SetSum};
pub use upstream::{UpstreamError, open_upstream};
