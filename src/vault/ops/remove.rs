//! Removing a secret.

use std::sync::Arc;

use crate::audit::{Action, Actor};
use crate::model::Operation;

use crate::vault::Vault;
use crate::vault::audit::AuditContext;
use crate::vault::error::VaultError;
use crate::vault::writer::Done;
use crate::vault::writer::reply_cache::RequestId;
use crate::vault::writer::transaction::Transaction;

impl Vault {
    /// Removes the secret of that key.
    pub fn remove(&self, actor: Actor, key: String, origin: Option<RequestId>, done: Done) {
        let caller = Arc::clone(&actor.caller);
        let context = AuditContext::new(actor, Action::Delete, Some(key.clone()));
        let plan = move |transaction: &mut Transaction<'_>| {
            let secret = transaction
                .by_key(&key)
                .ok_or_else(|| VaultError::NotFound { key: key.clone() })?;
            transaction.check(&caller, Operation::Delete, &secret)?;
            transaction.remove(secret);
            transaction.note_last();
            Ok(())
        };
        self.writer.submit_for(context, origin, Box::new(plan), done);
    }
}
