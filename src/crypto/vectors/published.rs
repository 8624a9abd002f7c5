//! The published vectors of X-Wing (draft-connolly-cfrg-xwing-kem) and of HPKE with it (draft-ietf-hpke-pq), and
//! version 2 of the envelope opened without the HPKE crate.
//!
//! HPKE's vectors for X-Wing and HKDF-SHA256 have ChaCha20Poly1305 as their AEAD. What the AEAD changes
//! is its number in the key schedule, which is therefore computed here, held to the vector, and then used
//! with the number of AES-256-GCM.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, Serializable};
use serde::Deserialize;
use sha2::Sha256;
use x_wing::{Decapsulate, DecapsulationKey, Decapsulator, KeyExport};

use super::{Purpose, derive, hex, master, unhex};
use crate::crypto::recipient::{Recipient, RecipientKey};
use crate::model::{Key, Plaintext};

#[derive(Deserialize)]
struct XWingVector {
    seed: String,
    eseed: String,
    sk: String,
    pk: String,
    ct: String,
    ss: String,
}

#[derive(Deserialize)]
struct HpkeVector {
    mode: u8,
    kem_id: u16,
    kdf_id: u16,
    aead_id: u16,
    info: String,
    #[serde(rename = "ikmR")]
    ikm: String,
    #[serde(rename = "skRm")]
    private: String,
    #[serde(rename = "pkRm")]
    public: String,
    enc: String,
    shared_secret: String,
    key: String,
    base_nonce: String,
}

const X_WING: u16 = 0x647a;
const HKDF_SHA256: u16 = 1;
const AES_256_GCM: u16 = 2;

fn private(seed: &[u8]) -> DecapsulationKey {
    DecapsulationKey::from(<[u8; 32]>::try_from(seed).unwrap())
}

fn decapsulate(seed: &[u8], encapsulated: &[u8]) -> Vec<u8> {
    private(seed).decapsulate(&encapsulated.try_into().unwrap()).to_vec()
}

/// RFC 9180, section 5.1, in base mode: the key and the base nonce.
fn key_schedule(aead_id: u16, shared_secret: &[u8], info: &[u8]) -> ([u8; 32], [u8; 12]) {
    let ids = [X_WING, HKDF_SHA256, aead_id].map(u16::to_be_bytes).concat();
    let suite = [&b"HPKE"[..], &ids].concat();
    let extract = |salt: &[u8], label: &str, input: &[u8]| {
        let input = [b"HPKE-v1", &suite[..], label.as_bytes(), input].concat();
        Hkdf::<Sha256>::extract(Some(salt), &input)
    };
    let (psk_id_hash, _) = extract(b"", "psk_id_hash", b"");
    let (info_hash, _) = extract(b"", "info_hash", info);
    let context = [&[0][..], &psk_id_hash, &info_hash].concat();
    let (_, secret) = extract(shared_secret, "secret", b"");
    let expand = |label: &str, output: &mut [u8]| {
        let length = u16::try_from(output.len()).unwrap().to_be_bytes();
        let info = [&length[..], b"HPKE-v1", &suite, label.as_bytes(), &context].concat();
        secret.expand(&info, output).unwrap();
    };
    let (mut key, mut nonce) = ([0; 32], [0; 12]);
    expand("key", &mut key);
    expand("base_nonce", &mut nonce);
    (key, nonce)
}

#[test]
fn x_wing_gives_what_its_draft_says() {
    let vectors: Vec<XWingVector> = serde_json::from_str(include_str!("x-wing.json")).unwrap();
    assert_eq!(vectors.len(), 3);
    for XWingVector { seed, eseed, sk, pk, ct, ss } in vectors {
        assert_eq!(seed, sk, "the private key is the seed");
        let private = private(&unhex(&sk));
        assert_eq!(hex(&private.encapsulation_key().to_bytes()), pk);
        let randomness = unhex(&eseed).as_slice().try_into().unwrap();
        let (encapsulated, shared) =
            private.encapsulation_key().encapsulate_deterministic(&randomness);
        assert_eq!((hex(&encapsulated), hex(&shared)), (ct.clone(), ss.clone()));
        assert_eq!(hex(&decapsulate(&unhex(&sk), &unhex(&ct))), ss);
    }
}

#[test]
fn hpke_gives_what_its_draft_says() {
    let vector: HpkeVector = serde_json::from_str(include_str!("hpke.json")).unwrap();
    assert_eq!((vector.mode, vector.kem_id, vector.kdf_id), (0, X_WING, HKDF_SHA256));
    let (private, public) = XWing::derive_keypair(&unhex(&vector.ikm));
    assert_eq!(hex(&private.to_bytes()), vector.private);
    assert_eq!(hex(&public.to_bytes()), vector.public);
    let again = <XWing as Kem>::PrivateKey::from_bytes(&unhex(&vector.private)).unwrap();
    assert!(XWing::sk_to_pk(&again) == public);
    let shared = decapsulate(&unhex(&vector.private), &unhex(&vector.enc));
    assert_eq!(hex(&shared), vector.shared_secret);
    let (key, nonce) = key_schedule(vector.aead_id, &shared, &unhex(&vector.info));
    assert_eq!((hex(&key), hex(&nonce)), (vector.key, vector.base_nonce));
}

#[test]
fn an_envelope_of_version_2_is_hpke_and_nothing_else() {
    let (master, name) = (master(), Key::parse("a/K").unwrap());
    let seed = derive(master.expose(), Purpose::Recipient);
    let sealed = Recipient::of(master.id(), &RecipientKey::of_seed(&seed))
        .seal(&name, &Plaintext::copy_of(b"value"));
    let (header, rest) = sealed.envelope().split_at(12);
    let (encapsulated, text) = rest.split_at(1120);
    assert_eq!(header, [b"sfs\x02", &master.id().to_bytes()[..]].concat());
    let info = [b"secretfs v2 envelope ", header, b"a/K"].concat();
    let shared = decapsulate(&seed[..], encapsulated);
    let (key, nonce) = key_schedule(AES_256_GCM, &shared, &info);
    let opened =
        Aes256Gcm::new(&key.into()).decrypt(Nonce::from_slice(&nonce), Payload::from(text));
    assert_eq!(opened.unwrap(), b"value");
}
