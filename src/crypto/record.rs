//! Sealed records of the store: version (1 byte), key id (8), nonce (12), text, tag (16).

use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput, KeyInit, Update};
use zeroize::Zeroizing;

use super::aead;
use super::master::KeyId;

const VERSION: u8 = 1;
const HEADER: usize = 1 + 8;

/// The id of the key that sealed a record, read without opening it.
pub fn record_key_id(sealed: &[u8]) -> Option<KeyId> {
    let (&VERSION, rest) = sealed.split_first()? else { return None };
    Some(KeyId(*rest.first_chunk()?))
}

pub(super) fn seal(key: &[u8; 32], id: KeyId, place: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut header = [VERSION; HEADER];
    header[1..].copy_from_slice(&id.0);
    aead::seal(&place_key(key, place), &header, place, plaintext)
}

pub(super) fn open(key: &[u8; 32], place: &[u8], sealed: &[u8]) -> Option<crate::model::Plaintext> {
    aead::open(&place_key(key, place), HEADER, place, sealed)
}

/// Each place has a key of its own.
fn place_key(key: &[u8; 32], place: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = <Blake2sMac256 as KeyInit>::new(key.into());
    mac.update(place);
    Zeroizing::new(mac.finalize_fixed().into())
}
