//! Renaming a directory: all keys below it at once, or none.

use std::sync::Arc;

use crate::audit::{Action, Actor, Subject};
use crate::model::{Caller, Key, Operation, may_see};

use super::write::check_create;
use crate::vault::audit::AuditContext;
use crate::vault::error::VaultError;
use crate::vault::records::secret::Secret;
use crate::vault::writer::Done;
use crate::vault::writer::reply_cache::RequestId;
use crate::vault::writer::transaction::Transaction;
use crate::vault::{Vault, check};

/// More keys are not renamed at once: the writer thread, and so every other write, waits for it.
const MAX_KEYS: usize = 50_000;

impl Vault {
    /// Gives all keys below `from` names below `to`, below which there must be none.
    pub fn rename_directory(
        &self,
        actor: Actor,
        from: String,
        to: String,
        origin: Option<RequestId>,
        done: Done,
    ) {
        let caller = Arc::clone(&actor.caller);
        let mut context = AuditContext::new(actor, Action::Rename, Some(from.clone()));
        context.subject.to = Some(to.clone());
        let plan = move |transaction: &mut Transaction<'_>| {
            let secrets = transaction.below(&from, MAX_KEYS + 1);
            if secrets.is_empty() {
                return Err(VaultError::NotFound { key: from.clone() });
            }
            if secrets.len() > MAX_KEYS {
                return Err(VaultError::TooManyToMove { path: from.clone(), limit: MAX_KEYS });
            }
            let mut moves = Vec::with_capacity(secrets.len());
            for secret in secrets {
                moves.push(Move::of(secret, &caller, &from, &to)?);
            }
            // After the rights: a caller without them must not learn what is there.
            if transaction.is_directory(&to) {
                return Err(VaultError::NotEmpty { path: to.clone() });
            }
            for Move { secret, key, grant } in moves {
                let subject = Subject {
                    to: Some(key.to_string()),
                    version: Some(secret.value().version()),
                    ..Subject::of(secret.key().as_str())
                };
                transaction.allowed_by(grant);
                transaction.set_key(secret, key)?;
                transaction.note(subject);
            }
            Ok(())
        };
        self.writer.submit_alone(context, origin, Box::new(plan), done);
    }
}

struct Move {
    secret: Arc<Secret>,
    key: Key,
    grant: crate::model::Grant,
}

impl Move {
    /// The move of one secret, if `caller` may make it.
    fn of(secret: Arc<Secret>, caller: &Caller, from: &str, to: &str) -> Result<Self, VaultError> {
        let path = format!("{to}{}", &secret.key().as_str()[from.len()..]);
        let key = Key::parse(&path).map_err(|error| VaultError::BadKey { path, error })?;
        let grant = check(caller, Operation::Delete, &secret)
            .and_then(|grant| check_create(caller, &key, None).map(|_| grant));
        match grant {
            Ok(grant) => Ok(Self { secret, key, grant }),
            // What the caller does not see is not named.
            Err(VaultError::Denied { denial, .. })
                if !caller.is_admin() && !may_see(caller, secret.acl()) =>
            {
                Err(VaultError::Denied { key: from.to_owned(), denial })
            }
            Err(error) => Err(error),
        }
    }
}
