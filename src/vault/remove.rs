//! Removing a secret.

use std::sync::Arc;

use crate::model::{Caller, Operation};

use super::Vault;
use super::committer::Done;
use super::error::VaultError;
use super::receipts::Origin;
use super::transaction::Transaction;

impl Vault {
    /// Removes the secret of that key.
    pub fn remove(&self, caller: Arc<Caller>, key: String, origin: Option<Origin>, done: Done) {
        let plan = move |transaction: &mut Transaction<'_>| {
            let secret = transaction
                .by_key(&key)
                .ok_or_else(|| VaultError::NotFound { key: key.clone() })?;
            transaction.check(&caller, Operation::Delete, &secret)?;
            transaction.remove(secret);
            Ok(())
        };
        self.committer.submit_for(origin, Box::new(plan), done);
    }
}
