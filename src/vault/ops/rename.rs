//! Renaming, in all its forms: whole or not at all.

use std::sync::Arc;

use crate::audit::{Action, Actor, Subject};
use crate::document::parse_lists;
use crate::model::{Caller, Key, ListName, Operation, Plaintext, SIDECAR_SUFFIX};

use super::change_lists;
use super::write::{InheritedLists, check_create, create, update};
use crate::vault::Vault;
use crate::vault::audit::{AuditContext, subject_of};
use crate::vault::error::VaultError;
use crate::vault::records::secret::Secret;
use crate::vault::writer::Done;
use crate::vault::writer::reply_cache::RequestId;
use crate::vault::writer::transaction::Transaction;

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
        inherited_lists: Option<InheritedLists>,
    },
    /// Onto the sidecar of that key: the bytes are the new list document.
    Sidecar(Key),
}

impl Vault {
    /// Moves `source` to `target`.
    pub fn rename(
        &self,
        actor: Actor,
        source: RenameSource,
        target: RenameTarget,
        origin: Option<RequestId>,
        done: Done,
    ) {
        let caller = Arc::clone(&actor.caller);
        let context = context(actor, &source, &target);
        let named = context.subject.clone();
        let plan = move |transaction: &mut Transaction<'_>| {
            let source = Source::find(transaction, &caller, &source)?;
            let mut lists = Vec::new();
            match &target {
                RenameTarget::Sidecar(key) => {
                    lists = onto_sidecar(transaction, &caller, &source, key)?;
                }
                RenameTarget::Key { key, exclusive, inherited_lists } => {
                    match transaction.by_key(key.as_str()) {
                        Some(_) if *exclusive => {
                            return Err(VaultError::Exists { key: key.to_string() });
                        }
                        Some(target) => onto_secret(transaction, &caller, &source, target)?,
                        None => {
                            to_free(transaction, &caller, source, key, inherited_lists.as_ref())?
                        }
                    }
                }
            }
            // The last one: before it, a backup may have got another id.
            let changed = || transaction.changes.iter().rfind(|change| change.after.is_some());
            let unchanged = transaction.kept.is_some();
            let written = transaction.kept.as_ref().or_else(changed);
            let version = written.and_then(|change| subject_of(change).version);
            transaction.note(Subject { version, lists, unchanged, ..named.clone() });
            Ok(())
        };
        self.writer.submit_for(context, origin, Box::new(plan), done);
    }
}

/// What goes on record. Bytes that were no secret become one, or its lists: that is no move.
fn context(actor: Actor, source: &RenameSource, target: &RenameTarget) -> AuditContext {
    let (to, instead) = match target {
        RenameTarget::Key { key, .. } => (key.to_string(), Action::Commit),
        RenameTarget::Sidecar(key) => (format!("{key}{SIDECAR_SUFFIX}"), Action::ChangeLists),
    };
    match (source, target) {
        (RenameSource::Secret(from), _) => {
            let mut context = AuditContext::new(actor, Action::Rename, Some(from.to_string()));
            context.subject.to = Some(to);
            context
        }
        (RenameSource::Bytes(_), RenameTarget::Key { key, .. } | RenameTarget::Sidecar(key)) => {
            AuditContext::new(actor, instead, Some(key.to_string()))
        }
    }
}

enum Source<'a> {
    Secret(Arc<Secret>),
    Bytes(&'a Plaintext),
}

impl<'a> Source<'a> {
    /// The source, if `caller` may take it away.
    fn find(
        transaction: &mut Transaction<'_>,
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

    /// Lets `take` have the bytes, and removes the secret that they came from. The bytes become those of
    /// another secret, or are parsed: this requires the right to read them.
    fn consume<T>(
        &self,
        transaction: &mut Transaction<'_>,
        caller: &Caller,
        take: impl FnOnce(&mut Transaction<'_>, &Plaintext) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        match self {
            Self::Bytes(bytes) => take(transaction, bytes),
            Self::Secret(secret) => {
                transaction.check(caller, Operation::Read, secret)?;
                let bytes = transaction.read_value(secret.value())?;
                let taken = take(transaction, &bytes)?;
                transaction.remove(Arc::clone(secret));
                Ok(taken)
            }
        }
    }
}

fn onto_sidecar(
    transaction: &mut Transaction<'_>,
    caller: &Caller,
    source: &Source<'_>,
    key: &Key,
) -> Result<Vec<ListName>, VaultError> {
    let target = transaction
        .by_key(key.as_str())
        .ok_or_else(|| VaultError::NotFound { key: key.to_string() })?;
    source.consume(transaction, caller, |transaction, bytes| {
        let patch = parse_lists(bytes.expose())
            .map_err(|errors| VaultError::Lists { key: key.to_string(), errors })?;
        change_lists::change(transaction, caller, &target, &patch)
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
    source.consume(transaction, caller, |transaction, bytes| {
        update(transaction, caller, target, bytes)
    })
}

/// A secret moves with its id and lists; bytes become a new one. What takes the place of a secret that was
/// removed or moved away takes over its id and lists.
fn to_free(
    transaction: &mut Transaction<'_>,
    caller: &Caller,
    source: Source<'_>,
    key: &Key,
    inherited_lists: Option<&InheritedLists>,
) -> Result<(), VaultError> {
    match source {
        Source::Bytes(bytes) => create(transaction, caller, key, inherited_lists, bytes),
        Source::Secret(ref secret) if inherited_lists.is_some_and(|left| !left.is_of(secret)) => {
            source.consume(transaction, caller, |transaction, bytes| {
                create(transaction, caller, key, inherited_lists, bytes)
            })
        }
        // Or what was moved away comes back.
        Source::Secret(secret) => {
            transaction.allowed_by(check_create(caller, key, inherited_lists)?);
            transaction.set_key(secret, key.clone())
        }
    }
}
