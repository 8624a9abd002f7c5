//! Changing the six lists.

use std::sync::Arc;

use crate::document::parse_lists;
use crate::model::{AclPatch, Caller, Operation, Plaintext};

use super::Vault;
use super::committer::Done;
use super::error::VaultError;
use super::receipts::Origin;
use super::secret::{RecordId, Secret};
use super::transaction::Transaction;

impl Vault {
    /// Replaces the lists that `document` names. Each list that would really change is checked for
    /// itself; writing back what stands needs nothing and changes nothing. A secret that was removed
    /// meanwhile stays removed.
    pub fn change_lists(
        &self,
        caller: Arc<Caller>,
        record: RecordId,
        document: &Plaintext,
        origin: Option<Origin>,
        done: Done,
    ) {
        let parsed = parse_lists(document.expose());
        let plan = move |transaction: &mut Transaction<'_>| {
            let Some(secret) = transaction.by_record(record) else { return Ok(()) };
            match &parsed {
                Ok(patch) => change(transaction, &caller, &secret, patch),
                Err(errors) => {
                    Err(VaultError::Lists { key: secret.key().to_string(), errors: errors.clone() })
                }
            }
        };
        self.committer.submit_for(origin, Box::new(plan), done);
    }
}

pub(super) fn change(
    transaction: &mut Transaction<'_>,
    caller: &Caller,
    secret: &Arc<Secret>,
    patch: &AclPatch,
) -> Result<(), VaultError> {
    let acl = secret.acl().patched(patch);
    let changed: Vec<_> = secret.acl().differing(&acl).collect();
    for &list in &changed {
        transaction.check(caller, Operation::ChangeList(list), secret)?;
    }
    // Who is in none of the lists may not even learn that they stand as written.
    transaction.check(caller, Operation::ReadLists, secret)?;
    if changed.is_empty() {
        return Ok(());
    }
    transaction.set_acl(Arc::clone(secret), acl)
}
