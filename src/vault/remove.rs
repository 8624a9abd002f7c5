//! Removing a secret.

use std::sync::Arc;

use crate::audit::{Action, Actor};
use crate::model::Operation;

use super::Vault;
use super::committer::Done;
use super::error::VaultError;
use super::trail::Ask;
use super::transaction::Transaction;

impl Vault {
    /// Removes the secret of that key.
    pub fn remove(&self, actor: Actor, key: String, done: Done) {
        let caller = Arc::clone(&actor.caller);
        let ask = Ask::new(actor, Action::Delete, Some(key.clone()));
        let plan = move |transaction: &mut Transaction<'_>| {
            let secret = transaction
                .by_key(&key)
                .ok_or_else(|| VaultError::NotFound { key: key.clone() })?;
            transaction.check(&caller, Operation::Delete, &secret)?;
            transaction.remove(secret);
            transaction.note_last();
            Ok(())
        };
        self.committer.submit_for(ask, Box::new(plan), done);
    }
}
