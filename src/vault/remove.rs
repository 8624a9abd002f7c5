//! Removing a secret.

use std::sync::Arc;

use crate::model::{Caller, Operation};

use super::Vault;
use super::committer::Done;
use super::error::VaultError;
use super::transaction::Transaction;

impl Vault {
    /// Removes the secret of that key.
    pub fn remove(&self, caller: Arc<Caller>, key: String, done: Done) {
        let plan = move |transaction: &mut Transaction<'_>| {
            let secret = transaction
                .by_key(&key)
                .ok_or_else(|| VaultError::NotFound { key: key.clone() })?;
            transaction.check(&caller, Operation::Delete, &secret)?;
            transaction.remove(secret);
            Ok(())
        };
        self.committer.submit(Box::new(plan), done);
    }
}
