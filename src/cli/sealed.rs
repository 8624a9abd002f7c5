//! A sealed value as a document.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::crypto::Recipient;
use crate::document::{self, Checksum, ChecksumAlgorithm, DocumentValue, NewDocument};
use crate::model::{Key, MAX_VALUE_BYTES, Plaintext, SecretId};

use super::client::{Client, ClientError};
use super::error::{CliError, Result};
use super::recipients;
use super::yaml::{Fields, Scalar};

/// A checksum algorithm, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChecksumChoice(pub(super) Option<ChecksumAlgorithm>);

impl Default for ChecksumChoice {
    /// The contract's default.
    fn default() -> Self {
        Self(Some(ChecksumAlgorithm::Crc32))
    }
}

impl ValueEnum for ChecksumChoice {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self(Some(ChecksumAlgorithm::Crc32)),
            Self(Some(ChecksumAlgorithm::Sha256)),
            Self(Some(ChecksumAlgorithm::Sha512)),
            Self(Some(ChecksumAlgorithm::Blake2s)),
            Self(None),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.map_or("none", ChecksumAlgorithm::as_str)))
    }
}

/// What seals values.
pub(super) enum Sealer {
    /// The daemon of a mount, with its encryption key.
    Daemon(Client),
    /// This process, for a recipient.
    Recipient(Box<Recipient>),
}

impl Sealer {
    /// The recipient that `to` names; without one the mount, which is looked for only then.
    ///
    /// # Errors
    /// There is no such recipient, or no mount.
    pub(super) fn new(
        to: Option<&str>,
        client: impl FnOnce() -> Result<Client, ClientError>,
    ) -> Result<Self> {
        Ok(match to {
            Some(argument) => Self::Recipient(Box::new(recipients::one(argument)?)),
            None => Self::Daemon(client()?),
        })
    }

    /// The checksum of a document where none is asked for: that of the contract. With a recipient none:
    /// the checksum of a short value reveals it to those who can read the document and must not be able to open it.
    pub(super) fn usual_checksum(&self) -> ChecksumChoice {
        match self {
            Self::Daemon(_) => ChecksumChoice::default(),
            Self::Recipient(_) => ChecksumChoice(None),
        }
    }

    /// Seals a value for a key, under a new id.
    ///
    /// # Errors
    /// The mount failed, or its answer is not a sealed document for this key.
    pub(super) fn seal(
        &self,
        key: &Key,
        value: &Plaintext,
        checksum: ChecksumChoice,
    ) -> Result<Sealed> {
        if value.len() > MAX_VALUE_BYTES {
            return Err(CliError::ValueTooLarge);
        }
        let (id, sealed) = match self {
            Self::Daemon(client) => sealed_value_in(&client.encrypt(key, value)?, key)?,
            Self::Recipient(recipient) => {
                let id = SecretId::from_random(std::iter::repeat_with(random_byte));
                (Some(id), recipient.seal(key, value).to_string())
            }
        };
        let checksum = checksum.0.map(|algorithm| Checksum::of(algorithm, value));
        Ok(Sealed { id, key: key.clone(), value: sealed, checksum })
    }
}

/// The id and the sealed value of a document that the daemon made.
///
/// # Errors
/// It is not a sealed document for this key.
pub(super) fn sealed_value_in(text: &str, key: &Key) -> Result<(Option<SecretId>, String)> {
    let not_understood = || ClientError::not_understood(&format!(".encrypt/{key}"));
    let mut documents = document::parse(text.as_bytes()).map_err(|_| not_understood())?;
    let mut document = documents.pop().ok_or_else(not_understood)?;
    match document.take_value() {
        Some(DocumentValue::Sealed(sealed)) if document.key() == key => {
            Ok((document.id().cloned(), sealed))
        }
        _ => Err(not_understood().into()),
    }
}

fn random_byte() -> u8 {
    let mut byte = [0];
    getrandom::fill(&mut byte).expect("the kernel's random source answers once it is seeded");
    byte[0]
}

/// A sealed document.
pub(super) struct Sealed {
    id: Option<SecretId>,
    key: Key,
    value: String,
    checksum: Option<Checksum>,
}

impl Sealed {
    /// A value that is sealed already, with the checksum that stands beside it.
    pub(super) fn existing(key: &Key, value: String, checksum: Option<Checksum>) -> Self {
        Self { id: None, key: key.clone(), value, checksum }
    }

    /// The same under another id, or none.
    pub(super) fn with_id(self, id: Option<SecretId>) -> Self {
        Self { id, ..self }
    }

    /// The sealed value.
    pub(super) fn value(&self) -> &str {
        &self.value
    }

    /// The checksum of the plaintext, if there is to be one.
    pub(super) fn checksum(&self) -> Option<&Checksum> {
        self.checksum.as_ref()
    }

    /// The document for a file that has none of this key.
    pub(super) fn into_new(self) -> NewDocument {
        let Self { id, key, value, checksum } = self;
        NewDocument { id, key, sealed: value, checksum }
    }

    /// The fields of the document, in the order of the contract.
    pub(super) fn fields(&self) -> Fields<'_> {
        let mut fields = Vec::with_capacity(6);
        fields.extend(self.id.iter().map(|id| ("id", Scalar::Text(id.as_str()))));
        fields.push(("key", Scalar::Text(self.key.as_str())));
        fields.push(("value", Scalar::Text(&self.value)));
        fields.push(("encrypted", Scalar::Flag(true)));
        if let Some(checksum) = &self.checksum {
            fields.push(("checksum", Scalar::Text(checksum.as_str())));
            fields.push(("checksumAlgorithm", Scalar::Text(checksum.algorithm().as_str())));
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::yaml;

    fn sealed(choice: ChecksumChoice) -> Sealed {
        let value = Plaintext::copy_of(b"example-value");
        let checksum = choice.0.map(|algorithm| Checksum::of(algorithm, &value));
        Sealed::existing(&Key::parse("example-key").unwrap(), "c2Zz".into(), checksum)
            .with_id(SecretId::parse("secr_eR6LbYOBK2").ok())
    }

    #[test]
    fn has_the_form_of_the_reference() {
        assert_eq!(
            *yaml::mapping(&sealed(ChecksumChoice::default()).fields()),
            "id: \"secr_eR6LbYOBK2\"\nkey: \"example-key\"\nvalue: \"c2Zz\"\nencrypted: true\n\
             checksum: \"45a3b25f\"\nchecksumAlgorithm: \"CRC32\"\n"
        );
        assert!(!yaml::mapping(&sealed(ChecksumChoice(None)).fields()).contains("checksum"));
    }

    #[test]
    fn algorithms_are_written_as_in_the_contract() {
        for name in ["CRC32", "SHA-256", "SHA-512", "BLAKE2s", "none"] {
            let choice = ChecksumChoice::from_str(name, false).unwrap();
            assert_eq!(choice.to_possible_value().unwrap().get_name(), name);
        }
        assert!(ChecksumChoice::from_str("MD5", true).is_err());
    }
}
