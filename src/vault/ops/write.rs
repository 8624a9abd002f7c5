//! Writing a value: a new secret, or a new version of one.

use std::sync::Arc;

use crate::audit::{Action, Actor};
use crate::model::{
    Acl, Caller, Grant, Key, MAX_VALUE_BYTES, Operation, Plaintext, SecretId, decide, may_create,
};

use crate::vault::Vault;
use crate::vault::audit::AuditContext;
use crate::vault::error::VaultError;
use crate::vault::records::secret::{RecordId, Secret};
use crate::vault::writer::Done;
use crate::vault::writer::reply_cache::RequestId;
use crate::vault::writer::transaction::{Change, Transaction};

/// Where a value goes.
#[derive(Clone)]
pub enum WriteTarget {
    /// To a secret that exists. If it is removed before the commit, nothing is written: it stays removed.
    Existing(RecordId),
    /// To a key that is to be new. If another caller creates it before the commit, this is an update of that secret,
    /// unless it had to be new.
    New {
        /// The key.
        key: Key,
        /// Whether a secret that exists is an error (`O_EXCL`).
        exclusive: bool,
        /// What the new secret takes over.
        inherited_lists: Option<InheritedLists>,
    },
}

/// What a secret leaves to the one that a program puts in its place: editors and archivers replace
/// a file by removing it, or moving it away, and creating it anew.
#[derive(Clone)]
pub struct InheritedLists {
    id: Option<SecretId>,
    acl: Arc<Acl>,
    /// The secret that was moved away and has the id until another one takes its place.
    moved: Option<RecordId>,
}

impl InheritedLists {
    pub(in crate::vault) fn new(id: Option<SecretId>, acl: Acl) -> Self {
        Self { id, acl: Arc::new(acl), moved: None }
    }

    /// The id, if no secret has it any more.
    pub(in crate::vault) fn free_id(&self) -> Option<&SecretId> {
        self.id.as_ref().filter(|_| self.moved.is_none())
    }

    /// Whether it is that secret which was moved away.
    pub(in crate::vault) fn is_of(&self, secret: &Secret) -> bool {
        self.moved == Some(secret.record())
    }

    pub(in crate::vault) fn acl(&self) -> &Acl {
        &self.acl
    }

    /// What a change left under a name that it took away.
    pub fn of(change: &Change) -> Option<(&Key, Self)> {
        let before = change.before.as_ref()?;
        match &change.after {
            None => Some((before.key(), Self::of_removed(before))),
            Some(after) if after.key() != before.key() => {
                Some((before.key(), Self::of_moved(before)))
            }
            Some(_) => None,
        }
    }

    /// Of a secret that was removed: its id and lists.
    fn of_removed(secret: &Secret) -> Self {
        let (id, acl) = (Some(secret.id().clone()), Arc::clone(secret.acl()));
        Self { id, acl, moved: None }
    }

    /// Of a secret that was moved away. If another one takes its place, that gets the id, and this one, which
    /// is its backup, a new one.
    fn of_moved(secret: &Secret) -> Self {
        Self { moved: Some(secret.record()), ..Self::of_removed(secret) }
    }
}

impl Vault {
    /// Whether `caller` may create `key`, or put it in the place of what left the `inherited_lists`.
    ///
    /// # Errors
    /// [`VaultError::Denied`].
    pub fn check_create(
        &self,
        caller: &Caller,
        key: &Key,
        inherited_lists: Option<&InheritedLists>,
    ) -> Result<Grant, VaultError> {
        check_create(caller, key, inherited_lists)
    }

    /// Stores a value. Rights are checked when it is stored, with the lists of that moment.
    pub fn write(
        &self,
        actor: Actor,
        target: WriteTarget,
        value: Plaintext,
        origin: Option<RequestId>,
        done: Done,
    ) {
        self.store(actor, target, value, update, origin, done);
    }

    /// As [`Vault::write`]; a secret that exists gets the value that it has at that moment and `tail`
    /// behind it.
    pub fn append(
        &self,
        actor: Actor,
        target: WriteTarget,
        tail: Plaintext,
        origin: Option<RequestId>,
        done: Done,
    ) {
        self.store(actor, target, tail, append, origin, done);
    }

    /// Stores the value of a secret once more, under a node of its own, if `node` is its current one. It
    /// stays the same version.
    pub fn renumber(&self, record: RecordId, node: u64, done: Done) {
        let plan = move |transaction: &mut Transaction<'_>| match transaction.by_record(record) {
            Some(secret) if secret.value().node() == node => transaction.renumber(secret),
            _ => Ok(()),
        };
        self.writer.submit(Box::new(plan), done);
    }

    /// `change` is for a secret that exists.
    fn store(
        &self,
        actor: Actor,
        target: WriteTarget,
        value: Plaintext,
        change: fn(
            &mut Transaction<'_>,
            &Caller,
            Arc<Secret>,
            &Plaintext,
        ) -> Result<(), VaultError>,
        origin: Option<RequestId>,
        done: Done,
    ) {
        let caller = Arc::clone(&actor.caller);
        let key = match &target {
            WriteTarget::Existing(record) => {
                self.secret_of(*record).map(|one| one.key().to_string())
            }
            WriteTarget::New { key, .. } => Some(key.to_string()),
        };
        let plan = move |transaction: &mut Transaction<'_>| {
            match &target {
                WriteTarget::Existing(record) => match transaction.by_record(*record) {
                    Some(secret) => change(transaction, &caller, secret, &value)?,
                    None => return Ok(()),
                },
                WriteTarget::New { key, exclusive, inherited_lists } => {
                    match transaction.by_key(key.as_str()) {
                        Some(_) if *exclusive => {
                            return Err(VaultError::Exists { key: key.to_string() });
                        }
                        Some(secret) => change(transaction, &caller, secret, &value)?,
                        None => {
                            create(transaction, &caller, key, inherited_lists.as_ref(), &value)?
                        }
                    }
                }
            }
            transaction.note_last();
            Ok(())
        };
        let context = AuditContext::new(actor, Action::Commit, key);
        self.writer.submit_for(context, origin, Box::new(plan), done);
    }
}

pub(in crate::vault) fn check_create(
    caller: &Caller,
    key: &Key,
    inherited_lists: Option<&InheritedLists>,
) -> Result<Grant, VaultError> {
    may_create(caller, key.as_str()).or_else(|denial| {
        let replaces =
            inherited_lists.and_then(|left| decide(caller, Operation::Write, &left.acl).ok());
        replaces.ok_or_else(|| VaultError::Denied { key: key.to_string(), denial })
    })
}

pub(in crate::vault) fn update(
    transaction: &mut Transaction<'_>,
    caller: &Caller,
    secret: Arc<Secret>,
    value: &Plaintext,
) -> Result<(), VaultError> {
    transaction.check(caller, Operation::Write, &secret)?;
    transaction.set_value(caller, secret, value)
}

fn append(
    transaction: &mut Transaction<'_>,
    caller: &Caller,
    secret: Arc<Secret>,
    tail: &Plaintext,
) -> Result<(), VaultError> {
    transaction.check(caller, Operation::Write, &secret)?;
    let length = secret.value().size() as usize + tail.len();
    if length > MAX_VALUE_BYTES {
        return Err(VaultError::TooLarge { key: secret.key().to_string() });
    }
    let mut value = transaction.read_value(secret.value())?;
    value.push(tail.expose());
    transaction.set_value(caller, secret, &value)
}

pub(in crate::vault) fn create(
    transaction: &mut Transaction<'_>,
    caller: &Caller,
    key: &Key,
    inherited_lists: Option<&InheritedLists>,
    value: &Plaintext,
) -> Result<(), VaultError> {
    transaction.allowed_by(check_create(caller, key, inherited_lists)?);
    let acl = inherited_lists.map_or_else(|| initial_lists(caller), |left| Acl::clone(&left.acl));
    let id = match inherited_lists {
        Some(left) => take_id(transaction, left)?,
        None => None,
    };
    transaction.create(caller, key.clone(), id, acl, value)
}

/// The id of a secret that another one replaces; none if another secret has taken the id since.
fn take_id(
    transaction: &mut Transaction<'_>,
    left: &InheritedLists,
) -> Result<Option<SecretId>, VaultError> {
    let Some(id) = &left.id else { return Ok(None) };
    match transaction.by_id(id) {
        None => Ok(Some(id.clone())),
        Some(owner) if left.moved == Some(owner.record()) => {
            transaction.renew_id(owner)?;
            Ok(Some(id.clone()))
        }
        Some(_) => Ok(None),
    }
}

/// The lists of a secret that `caller` creates without saying more.
pub(in crate::vault) fn initial_lists(caller: &Caller) -> Acl {
    match caller.own_slug() {
        Some(own) if !caller.is_admin() => Acl::all_of(own),
        _ => Acl::default(),
    }
}
