//! AES-256-GCM over a buffer that holds header, nonce, text and tag.

use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};

/// Bytes of a nonce.
pub(super) const NONCE: usize = 12;
/// Bytes of a tag.
pub(super) const TAG: usize = 16;

/// `header`, a fresh nonce, the encrypted `plaintext` and its tag, bound to the header and `context`.
pub(super) fn seal(key: &[u8; 32], header: &[u8], context: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut nonce = [0; NONCE];
    random(&mut nonce);
    seal_with(nonce, key, header, context, plaintext)
}

/// As [`seal`], with a nonce that the caller answers for.
pub(super) fn seal_with(
    nonce: [u8; NONCE],
    key: &[u8; 32],
    header: &[u8],
    context: &[u8],
    plaintext: &[u8],
) -> Vec<u8> {
    let text = header.len() + NONCE;
    let mut sealed = Vec::with_capacity(text + plaintext.len() + TAG);
    sealed.extend_from_slice(header);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plaintext);
    let tag = Aes256Gcm::new(key.into())
        .encrypt_in_place_detached(&nonce.into(), &associated(header, context), &mut sealed[text..])
        .expect("a value is far below the 64 GiB of AES-GCM");
    sealed.extend_from_slice(&tag);
    sealed
}

/// The plaintext of what [`seal`] made, if nothing of it was changed.
pub(super) fn open(
    key: &[u8; 32],
    header: usize,
    context: &[u8],
    sealed: &[u8],
) -> Option<crate::model::Plaintext> {
    let (header, rest) = sealed.split_at_checked(header)?;
    let (nonce, rest) = rest.split_at_checked(NONCE)?;
    let (text, tag) = rest.split_at_checked(rest.len().checked_sub(TAG)?)?;
    let mut plaintext = crate::model::Plaintext::copy_of(text);
    Aes256Gcm::new(key.into())
        .decrypt_in_place_detached(
            Nonce::from_slice(nonce),
            &associated(header, context),
            plaintext.expose_mut(),
            Tag::from_slice(tag),
        )
        .ok()?;
    Some(plaintext)
}

/// The header has a fixed length, so this is unambiguous.
fn associated(header: &[u8], context: &[u8]) -> Vec<u8> {
    [header, context].concat()
}

pub(super) fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel's random source answers once it is seeded");
}
