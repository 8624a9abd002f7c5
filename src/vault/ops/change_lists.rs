//! Changing the six lists.

use std::sync::Arc;

use crate::audit::{Action, Actor, Subject};
use crate::document::parse_lists;
use crate::model::{AclPatch, Caller, ListName, Operation, Plaintext};

use crate::vault::audit::AuditContext;
use crate::vault::error::VaultError;
use crate::vault::records::secret::{RecordId, Secret};
use crate::vault::writer::Done;
use crate::vault::writer::reply_cache::RequestId;
use crate::vault::writer::transaction::Transaction;
use crate::vault::{Vault, check};

impl Vault {
    /// Replaces the lists that `document` names. Each list that would really change is checked for itself; writing
    /// back what stands needs nothing and changes nothing. A secret that has been removed since stays removed.
    pub fn change_lists(
        &self,
        actor: Actor,
        record: RecordId,
        document: &Plaintext,
        origin: Option<RequestId>,
        done: Done,
    ) {
        let parsed = parse_lists(document.expose());
        let caller = Arc::clone(&actor.caller);
        let key = self.secret_of(record).map(|secret| secret.key().to_string());
        let plan = move |transaction: &mut Transaction<'_>| {
            let Some(secret) = transaction.by_record(record) else { return Ok(()) };
            match &parsed {
                Ok(patch) => {
                    let lists = change(transaction, &caller, &secret, patch)?;
                    transaction.note(subject(&secret, lists));
                    Ok(())
                }
                Err(errors) => {
                    Err(VaultError::Lists { key: secret.key().to_string(), errors: errors.clone() })
                }
            }
        };
        let context = AuditContext::new(actor, Action::ChangeLists, key);
        self.writer.submit_for(context, origin, Box::new(plan), done);
    }
}

/// The lists of a secret that changed, for the record.
pub(in crate::vault) fn subject(secret: &Secret, lists: Vec<ListName>) -> Subject {
    let version = Some(secret.value().version());
    Subject { version, lists, ..Subject::of(secret.key().as_str()) }
}

/// Changes lists, and tells which.
pub(in crate::vault) fn change(
    transaction: &mut Transaction<'_>,
    caller: &Caller,
    secret: &Arc<Secret>,
    patch: &AclPatch,
) -> Result<Vec<ListName>, VaultError> {
    // This denial comes first: a caller in none of the lists must not learn whether they are unchanged.
    check(caller, Operation::ReadLists, secret)?;
    let acl = secret.acl().patched(patch);
    let changed: Vec<_> = secret.acl().differing(&acl).collect();
    for &list in &changed {
        transaction.check(caller, Operation::ChangeList(list), secret)?;
    }
    // Where nothing changes, this is what is recorded as the grant.
    transaction.check(caller, Operation::ReadLists, secret)?;
    if !changed.is_empty() {
        transaction.set_acl(Arc::clone(secret), acl)?;
    }
    Ok(changed)
}
