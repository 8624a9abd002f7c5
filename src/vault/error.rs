//! Why the vault said no.

use std::io;
use std::sync::Arc;

use crate::audit::{NotRecorded, OpenAuditError};
use crate::crypto::{KeyId, OpenError, SealedValueError};
use crate::document::{ChecksumAlgorithm, DocumentErrors};
use crate::model::{Denial, KeyError, SecretId};
use crate::store::StoreError;

use super::ops::apply::Refusals;
use super::records::secret::Secret;
use super::replica::ReplicaError;

/// Why an operation on secrets failed. Carries names, never values.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The lists say no.
    #[error("{key}: {denial}")]
    Denied {
        /// The secret.
        key: String,
        /// What was missing.
        #[source]
        denial: Denial,
    },
    /// Something that is not about one secret, and that only an admin may.
    #[error("you may not {what}: only an admin may; ask one")]
    AdminOnly {
        /// What was asked for.
        what: &'static str,
    },
    /// There is no such secret.
    #[error("{key}: there is no such secret; create it first")]
    NotFound {
        /// The key that was asked for.
        key: String,
    },
    /// The key is taken and was to be new.
    #[error("{key}: there is a secret of this name already; choose another name or replace it")]
    Exists {
        /// The key that is taken.
        key: String,
    },
    /// A directory has that name.
    #[error(
        "{key}: this is a directory of secrets, so it cannot be a secret too; choose another name"
    )]
    IsDirectory {
        /// The path of the directory.
        key: String,
    },
    /// A secret stands where a directory would have to be.
    #[error(
        "{path}: this is a secret, so it cannot be a directory of secrets too; choose another name"
    )]
    NotDirectory {
        /// The path of the secret.
        path: String,
    },
    /// A directory is not empty.
    #[error("{path}: the directory is not empty; remove what is in it, or choose another name")]
    NotEmpty {
        /// The path of the directory.
        path: String,
    },
    /// A directory with more keys than are renamed at once.
    #[error(
        "{path}: more than {limit} keys are not renamed at once; copy them and remove the originals"
    )]
    TooManyToMove {
        /// The path of the directory.
        path: String,
        /// How many are.
        limit: usize,
    },
    /// A key would get a name that no key can have.
    #[error("{path}: {error}")]
    BadKey {
        /// The name.
        path: String,
        /// The rule that it breaks.
        #[source]
        error: KeyError,
    },
    /// The id belongs to another key.
    #[error(
        "{key}: the id {id} belongs to {}; give this one an id of its own",
        .owner.as_ref().map_or_else(|| "another secret".to_owned(), |owner| format!("the secret {owner}"))
    )]
    IdTaken {
        /// The secret that was to get the id.
        key: String,
        /// The id.
        id: SecretId,
        /// The secret that has it, if the caller may see it.
        owner: Option<String>,
    },
    /// Only an admin may give such an id: it can be the name of another user's key.
    #[error(
        "{key}: only an admin may give the id {id}; leave the id out, or give one that starts with secr_"
    )]
    IdOfAdmins {
        /// The secret that was to get the id.
        key: String,
        /// The id.
        id: SecretId,
    },
    /// The new list document is not one.
    #[error("{key}: the lists were not changed: {errors}")]
    Lists {
        /// The secret.
        key: String,
        /// What is wrong with the document.
        #[source]
        errors: DocumentErrors,
    },
    /// The six lists do not fit a record.
    #[error(
        "{key}: its lists are longer than 32 KiB in all; put teams into them instead of each user"
    )]
    ListsTooLong {
        /// The secret.
        key: String,
    },
    /// A namespace has as many secrets as it may have.
    #[error(
        "{namespace}/: there may be at most {limit} secrets below this name (--secrets-per-slug); remove some of them, or ask an admin for more"
    )]
    TooManySecrets {
        /// The first component of the key.
        namespace: String,
        /// How many there may be.
        limit: u64,
    },
    /// A namespace has as many bytes as it may have.
    #[error("{}", full_namespace(namespace, *limit, *is_open))]
    TooManyBytes {
        /// The first component of the key.
        namespace: String,
        /// How many bytes there may be.
        limit: u64,
        /// Superseded values take them, which are stored as long as a process has them open.
        is_open: bool,
    },
    /// A document's value is not a sealed one.
    #[error("{key}: {source}")]
    NotSealed {
        /// The secret.
        key: String,
        /// What it looks like instead.
        source: SealedValueError,
    },
    /// A document's sealed value does not open.
    #[error("{key}: the value does not open: {source}")]
    NotOpened {
        /// The secret.
        key: String,
        /// What the seal said.
        source: OpenError,
    },
    /// The value is larger than a value may be: a document's, or with what is to be appended.
    #[error("{key}: the value is larger than 1 MiB; shorten it")]
    TooLarge {
        /// The secret.
        key: String,
    },
    /// A document's checksum is not that of its value.
    #[error(
        "{key}: the {algorithm} checksum is not that of the value; take both from one source again"
    )]
    Checksum {
        /// The secret.
        key: String,
        /// How it was computed.
        algorithm: ChecksumAlgorithm,
    },
    /// The encryption key was replaced between sealing and storing.
    #[error("the encryption key was replaced meanwhile; apply the file again")]
    KeyReplaced,
    /// A file of documents was refused.
    #[error("{0}")]
    Refused(Refusals),
    /// A stored value does not unseal.
    #[error("{key}: its stored value does not unseal; restore it from an export: {source}")]
    Unseal {
        /// The secret, or its record if the name is not at hand.
        key: String,
        /// What the seal said.
        source: OpenError,
    },
    /// A stored value is not there.
    #[error("{key}: its stored value is incomplete; restore it from an export")]
    Incomplete {
        /// The secret, or its record if the name is not at hand.
        key: String,
    },
    /// Records are sealed with keys that are not given.
    #[error("{}", needed(missing))]
    MissingKeys {
        /// The ids of these keys.
        missing: Vec<KeyId>,
    },
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Another host changed it at the same moment.
    #[error(
        "{key}: another host changed it at the same moment, and its change holds; look at it, then make yours again"
    )]
    Conflict {
        /// The secret.
        key: String,
    },
    /// The store that many hosts share could not do it.
    #[error("{0}")]
    Replica(#[from] ReplicaError),
    /// No thread could be started.
    #[error("a thread could not be started; raise the limit of threads: {0}")]
    NoThread(#[source] Arc<io::Error>),
    /// It cannot be put on record, so it was not done.
    #[error("{0}")]
    NotRecorded(#[from] NotRecorded),
    /// The daemon is stopping.
    #[error("the daemon is stopping; try again once it is back")]
    Stopping,
}

impl VaultError {
    /// The key that it is about, if it is about one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Denied { key, .. }
            | Self::NotFound { key }
            | Self::Exists { key }
            | Self::IsDirectory { key }
            | Self::NotDirectory { path: key }
            | Self::NotEmpty { path: key }
            | Self::TooManyToMove { path: key, .. }
            | Self::BadKey { path: key, .. }
            | Self::IdTaken { key, .. }
            | Self::IdOfAdmins { key, .. }
            | Self::Lists { key, .. }
            | Self::ListsTooLong { key }
            | Self::NotSealed { key, .. }
            | Self::NotOpened { key, .. }
            | Self::TooLarge { key }
            | Self::Checksum { key, .. }
            | Self::Unseal { key, .. }
            | Self::Conflict { key }
            | Self::Incomplete { key } => Some(key),
            Self::Refused(refusals) => refusals.first()?.error.key(),
            Self::AdminOnly { .. }
            | Self::TooManySecrets { .. }
            | Self::TooManyBytes { .. }
            | Self::MissingKeys { .. }
            | Self::Store(_)
            | Self::Replica(_)
            | Self::NoThread(_)
            | Self::NotRecorded(_)
            | Self::KeyReplaced
            | Self::Stopping => None,
        }
    }

    /// Whether another host was quicker, so that it may succeed as soon as it is tried again.
    pub fn is_overtaken(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::Replica(ReplicaError::Busy))
    }

    /// The same, about a value that is known by its record alone, with the name of its secret.
    pub(super) fn of(self, secret: &Secret) -> Self {
        let key = secret.key().to_string();
        match self {
            Self::Unseal { source, .. } => Self::Unseal { key, source },
            Self::Incomplete { .. } => Self::Incomplete { key },
            other => other,
        }
    }
}

/// Why a vault could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenVaultError {
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Another key made the store.
    #[error(
        "the store was made with another encryption key (its key id is {}, the given one's {given}); give the key that made it, or put it into --previous-encryption-key-file",
        .store.map_or_else(|| "unreadable".to_owned(), |id| id.to_string())
    )]
    OtherKey {
        /// The id of the key that made the store, as far as it can be read.
        store: Option<KeyId>,
        /// The id of the key that was given.
        given: KeyId,
    },
    /// The key is right, but records are still sealed with others.
    #[error("{}", needed(missing))]
    MissingKeys {
        /// The ids of these keys.
        missing: Vec<KeyId>,
    },
    /// The store was written by another version.
    #[error(
        "the store has a format that this version does not know; use the version that wrote it"
    )]
    UnknownFormat,
    /// A move into it was interrupted.
    #[error(
        "secrets were being moved into this store, and not all are here: run the same `secretfs migrate` again until it says that it is done, or remove the directory `store` in the state directory"
    )]
    Unfinished,
    /// A record does not unseal although the key is right.
    #[error(
        "a record of the store does not unseal; restore the state directory from a backup: {0}"
    )]
    Unseal(#[source] OpenError),
    /// A record unseals to something that is not a secret.
    #[error("a record of the store is damaged; restore the state directory from a backup")]
    BrokenRecord,
    /// It is not a replica of the store that many hosts share, or is one.
    #[error("{0}")]
    Replica(#[from] ReplicaError),
    /// The audit log cannot be opened.
    #[error("{0}")]
    Audit(#[from] OpenAuditError),
    /// No thread could be started.
    #[error("the writer thread could not be started; raise the limit of threads: {0}")]
    NoThread(#[source] io::Error),
}

fn full_namespace(namespace: &str, limit: u64, is_open: bool) -> String {
    if is_open {
        return format!(
            "{namespace}/: processes keep more than {limit} bytes of replaced values below this name open (--bytes-per-slug); end the processes that have opened old versions and do not close them, or ask an admin for more"
        );
    }
    format!(
        "{namespace}/: the secrets below this name may take at most {limit} bytes in the store, with their lists (--bytes-per-slug); remove or shorten some of them, or ask an admin for more"
    )
}

pub(super) fn needed(missing: &[KeyId]) -> String {
    let ids: Vec<_> = missing.iter().map(ToString::to_string).collect();
    format!(
        "records of the store are still sealed with the key {}, which is not here; put it into --previous-encryption-key-file until `secretfs rekey` is done",
        ids.join(" and ")
    )
}
