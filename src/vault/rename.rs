//! Renaming, in all its forms: whole or not at all.

use std::sync::Arc;

use crate::document::parse_lists;
use crate::model::{Caller, Key, Operation, Plaintext};

use super::committer::Done;
use super::error::VaultError;
use super::receipts::Origin;
use super::secret::Secret;
use super::transaction::Transaction;
use super::write::{Heritage, check_create, create, update};
use super::{Vault, lists};

/// What is moved.
pub enum RenameSource {
    /// The secret of that key. It is gone afterwards.
    Secret(Key),
    /// Bytes that were never a secret: a scratch file's.
    Bytes(Plaintext),
}

/// Where it goes.
pub enum RenameTarget {
    /// To a key: onto the secret that has it, or a free one.
    Key {
        /// The key.
        key: Key,
        /// Whether a secret that exists is an error (`RENAME_NOREPLACE`).
        exclusive: bool,
        /// What the secret takes over that had this name before.
        heritage: Option<Heritage>,
    },
    /// Onto the sidecar of that key: the bytes are the new list document.
    Sidecar(Key),
}

impl Vault {
    /// Moves `source` to `target`.
    pub fn rename(
        &self,
        caller: Arc<Caller>,
        source: RenameSource,
        target: RenameTarget,
        origin: Option<Origin>,
        done: Done,
    ) {
        let plan = move |transaction: &mut Transaction<'_>| {
            let source = Source::find(transaction, &caller, &source)?;
            match &target {
                RenameTarget::Sidecar(key) => onto_sidecar(transaction, &caller, &source, key),
                RenameTarget::Key { key, exclusive, heritage } => {
                    match transaction.by_key(key.as_str()) {
                        Some(_) if *exclusive => Err(VaultError::Exists { key: key.to_string() }),
                        Some(target) => onto_secret(transaction, &caller, &source, target),
                        None => to_free(transaction, &caller, source, key, heritage.as_ref()),
                    }
                }
            }
        };
        self.committer.submit_for(origin, Box::new(plan), done);
    }
}

enum Source<'a> {
    Secret(Arc<Secret>),
    Bytes(&'a Plaintext),
}

impl<'a> Source<'a> {
    /// The source, if `caller` may take it away.
    fn find(
        transaction: &Transaction<'_>,
        caller: &Caller,
        source: &'a RenameSource,
    ) -> Result<Self, VaultError> {
        match source {
            RenameSource::Bytes(bytes) => Ok(Self::Bytes(bytes)),
            RenameSource::Secret(key) => {
                let secret = transaction
                    .by_key(key.as_str())
                    .ok_or_else(|| VaultError::NotFound { key: key.to_string() })?;
                transaction.check(caller, Operation::Delete, &secret)?;
                Ok(Self::Secret(secret))
            }
        }
    }

    /// Lets `take` have the bytes, and removes the secret that they came from.
    fn consume(
        &self,
        transaction: &mut Transaction<'_>,
        take: impl FnOnce(&mut Transaction<'_>, &Plaintext) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        match self {
            Self::Bytes(bytes) => take(transaction, bytes),
            Self::Secret(secret) => {
                let bytes = transaction.read_value(secret.value())?;
                take(transaction, &bytes)?;
                transaction.remove(Arc::clone(secret));
                Ok(())
            }
        }
    }
}

fn onto_sidecar(
    transaction: &mut Transaction<'_>,
    caller: &Caller,
    source: &Source<'_>,
    key: &Key,
) -> Result<(), VaultError> {
    let target = transaction
        .by_key(key.as_str())
        .ok_or_else(|| VaultError::NotFound { key: key.to_string() })?;
    source.consume(transaction, |transaction, bytes| {
        let patch = parse_lists(bytes.expose())
            .map_err(|errors| VaultError::Lists { key: key.to_string(), errors })?;
        lists::change(transaction, caller, &target, &patch)
    })
}

/// The target takes the value and keeps its own id and lists.
fn onto_secret(
    transaction: &mut Transaction<'_>,
    caller: &Caller,
    source: &Source<'_>,
    target: Arc<Secret>,
) -> Result<(), VaultError> {
    if let Source::Secret(source) = source
        && Arc::ptr_eq(source, &target)
    {
        return Ok(());
    }
    source.consume(transaction, |transaction, bytes| update(transaction, caller, target, bytes))
}

/// A secret moves with its id and lists; bytes become a new one.
fn to_free(
    transaction: &mut Transaction<'_>,
    caller: &Caller,
    source: Source<'_>,
    key: &Key,
    heritage: Option<&Heritage>,
) -> Result<(), VaultError> {
    match source {
        Source::Bytes(bytes) => create(transaction, caller, key, heritage, bytes),
        Source::Secret(secret) => {
            check_create(caller, key, heritage)?;
            transaction.set_key(secret, key.clone())
        }
    }
}
