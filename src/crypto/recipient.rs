//! Sealing for a public key: recipients, and version 2 of the envelope.
//!
//! The encryption is HPKE (RFC 9180) in base mode with the X-Wing KEM (X25519 and ML-KEM-768), HKDF-SHA256
//! and AES-256-GCM. An envelope is magic and version (4 bytes), key id (8), encapsulated key (1120),
//! text, tag (16). The `info` of HPKE is a purpose, then magic, version and key id, then the name of the
//! secret, so nothing of this can be changed without the key schedule giving another key.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use hpke::{single_shot_open, single_shot_seal};
use sha2::{Digest, Sha256};

use crate::model::{Key, Plaintext};

use super::document::{KEY_ID, MAGIC_BYTES, SealedValue};
use super::locked::Locked;
use super::master::KeyId;

/// `sfs` and the version of the envelope.
pub(super) const MAGIC: [u8; MAGIC_BYTES] = *b"sfs\x02";
const HEADER: usize = MAGIC_BYTES + KEY_ID;
/// Bytes of an encapsulated key.
const ENCAPSULATED: usize = 1120;
/// Bytes of an envelope around an empty value.
pub(super) const OVERHEAD: usize = HEADER + ENCAPSULATED + super::aead::TAG;

/// What the text of a recipient begins with: the version of its form is part of it.
const PREFIX: &str = "secretfs-recipient-1.";
/// Bytes of a public key.
const PUBLIC: usize = 1216;
/// Bytes of the checksum in the text.
const SUM: usize = 6;

type PublicKey = <XWing as Kem>::PublicKey;
type PrivateKey = <XWing as Kem>::PrivateKey;

/// A public key. It seals values that only the encryption key opens.
///
/// Its text is `secretfs-recipient-1.` and base64 (URL alphabet) of the id of the encryption key (8 bytes), the public
/// key of X-Wing (1216) and the first 6 bytes of the SHA-256 of both: a text that was damaged in transit
/// must not be taken for another key, whose private key does not exist.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    id: KeyId,
    key: PublicKey,
}

/// Why a text is not a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// Something else.
    #[error(
        "this is not a recipient, which begins with `{PREFIX}`; `secretfs recipient` prints that of a mount"
    )]
    NotARecipient,
    /// Cut off or changed.
    #[error(
        "the recipient is damaged or incomplete; copy the whole line that `secretfs recipient` prints"
    )]
    Damaged,
}

impl Recipient {
    /// The recipient of a private key.
    pub(super) fn of(id: KeyId, private: &RecipientKey) -> Self {
        Self { id, key: XWing::sk_to_pk(&private.0) }
    }

    /// Reads the text of a recipient.
    ///
    /// # Errors
    /// It is not one, or not all of it.
    pub fn parse(text: &str) -> Result<Self, RecipientError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(RecipientError::NotARecipient)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| RecipientError::Damaged)?;
        let parts = bytes.split_last_chunk::<SUM>();
        let (content, sum) = parts.ok_or(RecipientError::Damaged)?;
        if content.len() != KEY_ID + PUBLIC || *sum != checksum(content) {
            return Err(RecipientError::Damaged);
        }
        let (id, key) = content.split_first_chunk().ok_or(RecipientError::Damaged)?;
        let key = PublicKey::from_bytes(key).map_err(|_| RecipientError::Damaged)?;
        Ok(Self { id: KeyId(*id), key })
    }

    /// Whether a text is meant as a recipient and not as the name of a file.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The id of the encryption key that opens what is sealed for this recipient.
    pub fn key_id(&self) -> KeyId {
        self.id
    }

    /// Seals a value to the name of its secret. Without the encryption key it cannot be opened again.
    pub fn seal(&self, name: &Key, value: &Plaintext) -> SealedValue {
        let header = header(self.id);
        let (encapsulated, text) = single_shot_seal::<AesGcm256, HkdfSha256, XWing>(
            &OpModeS::Base,
            &self.key,
            &info(&header, name),
            value.expose(),
            b"",
        )
        .expect("X-Wing encapsulates to every valid key, and a value is far below the 64 GiB of AES-GCM");
        SealedValue::from_parts(&[&header, encapsulated.to_bytes().as_slice(), &text])
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [&self.id.0[..], self.key.to_bytes().as_slice()].concat();
        bytes.extend(checksum(&bytes));
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.id)
    }
}

/// The private key of a recipient, made from its seed once: that is a good part of what opening a value costs.
pub(super) struct RecipientKey(Locked<PrivateKey>);

impl RecipientKey {
    pub(super) fn of_seed(seed: &[u8; 32]) -> Self {
        let key = PrivateKey::from_bytes(seed).expect("every 32 bytes are a private key of X-Wing");
        Self(Locked::new(key))
    }
}

/// The plaintext of an envelope of version 2; none if anything about it was changed.
pub(super) fn open(private: &RecipientKey, name: &Key, envelope: &[u8]) -> Option<Plaintext> {
    let (header, rest) = envelope.split_first_chunk::<HEADER>()?;
    let (encapsulated, text) = rest.split_at_checked(ENCAPSULATED)?;
    let opened = single_shot_open::<AesGcm256, HkdfSha256, XWing>(
        &OpModeR::Base,
        &private.0,
        &<XWing as Kem>::EncappedKey::from_bytes(encapsulated).ok()?,
        &info(header, name),
        text,
        b"",
    );
    opened.ok().map(Plaintext::from)
}

fn header(id: KeyId) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..MAGIC_BYTES].copy_from_slice(&MAGIC);
    header[MAGIC_BYTES..].copy_from_slice(&id.0);
    header
}

fn info(header: &[u8; HEADER], name: &Key) -> Vec<u8> {
    [&b"secretfs v2 envelope "[..], header, name.as_str().as_bytes()].concat()
}

fn checksum(content: &[u8]) -> [u8; SUM] {
    *Sha256::digest(content).first_chunk().expect("a digest is longer")
}
