//! One change of the store under construction: whole or not at all.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::audit::Subject;
use crate::model::{Acl, Caller, Grant, Key, Operation, Plaintext, SecretId, Slug, Timestamp};
use crate::store::{Batch, MAX_RECORD_BYTES};

use super::staging::Journal;
use crate::vault::audit::subject_of;
use crate::vault::error::VaultError;
use crate::vault::index::Index;
use crate::vault::records::Address;
use crate::vault::records::secret::{RecordId, Secret, Value};
use crate::vault::{Shared, check};

/// What happened to one secret: it appeared, went, or became another.
#[derive(Clone)]
pub struct Change {
    /// The secret before; none if it is new.
    pub before: Option<Arc<Secret>>,
    /// The secret after; none if it is gone.
    pub after: Option<Arc<Secret>>,
}

impl Change {
    /// Whether the secret no longer has the value that it had.
    pub(in crate::vault) fn supersedes(&self) -> bool {
        let Some(before) = &self.before else { return false };
        self.after.as_ref().is_none_or(|after| !Arc::ptr_eq(&after.value, &before.value))
    }
}

/// A plan works on one of these: it looks at the index as it is published, and collects what is to
/// become of it. Plans run one after the other on the writer thread, so what they see stays true
/// until they are done; two that touch the same name or id never share a group.
pub(in crate::vault) struct Transaction<'a> {
    pub(in crate::vault) shared: &'a Shared,
    pub(in crate::vault) batch: Batch,
    pub(in crate::vault) changes: Vec<Change>,
    /// The secret whose value was to be replaced by the same bytes, before and after: nothing is stored for it.
    pub(in crate::vault) kept: Option<Change>,
    pub(in crate::vault) touched: HashSet<Touched>,
    /// What goes on record if it is done: a line each.
    pub(in crate::vault) subjects: Vec<Subject>,
    /// What allowed each change, where their lines are made of the changes themselves: those of a
    /// file, which are thousands.
    pub(in crate::vault) grants: Vec<Option<Grant>>,
    /// What allowed it: the first check that it passed since the last line.
    grant: Option<Grant>,
    /// What the batch makes valid that is stored already, and has to be put in its places.
    pub(in crate::vault) journal: Option<Journal>,
}

/// A name or id that a plan relies on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::vault) enum Touched {
    /// The path is, becomes or was a secret.
    Secret(String),
    /// The path is a directory because of what the plan creates. Plans may share one.
    Directory(String),
    Id(SecretId),
    /// Which keys are in use.
    Keys,
}

impl Touched {
    /// Whether a plan that touches this must not share a group with one that touched `others`.
    pub(in crate::vault) fn conflicts_with(&self, others: &HashSet<Self>) -> bool {
        match self {
            Self::Secret(path) => {
                others.contains(self) || others.contains(&Self::Directory(path.clone()))
            }
            Self::Directory(path) => others.contains(&Self::Secret(path.clone())),
            Self::Id(_) | Self::Keys => others.contains(self),
        }
    }
}

impl<'a> Transaction<'a> {
    pub(in crate::vault) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            batch: Batch::default(),
            changes: Vec::new(),
            kept: None,
            touched: HashSet::new(),
            subjects: Vec::new(),
            grants: Vec::new(),
            grant: None,
            journal: None,
        }
    }

    /// Removes what is stored ahead of a plan that is not carried out.
    pub(in crate::vault) fn abandon(&mut self) {
        self.journal.take().into_iter().for_each(|journal| journal.abandon(&self.shared.records));
    }

    pub(in crate::vault) fn by_key(&self, key: &str) -> Option<Arc<Secret>> {
        self.with_index(|index| index.by_key(key).cloned())
    }

    pub(in crate::vault) fn by_record(&self, record: RecordId) -> Option<Arc<Secret>> {
        self.with_index(|index| index.by_record(record).cloned())
    }

    pub(in crate::vault) fn by_id(&self, id: &SecretId) -> Option<Arc<Secret>> {
        self.with_index(|index| index.by_id(id).cloned())
    }

    /// The secrets below a directory, in the order of their keys, but no more than `limit`.
    pub(in crate::vault) fn below(&self, directory: &str, limit: usize) -> Vec<Arc<Secret>> {
        self.with_index(|index| {
            index.below(directory).take(limit).map(|(_, secret)| Arc::clone(secret)).collect()
        })
    }

    pub(in crate::vault) fn is_directory(&self, path: &str) -> bool {
        self.with_index(|index| index.is_directory(path))
    }

    pub(in crate::vault) fn check(
        &mut self,
        caller: &Caller,
        operation: Operation,
        secret: &Secret,
    ) -> Result<(), VaultError> {
        let grant = check(caller, operation, secret)?;
        self.allowed_by(grant);
        Ok(())
    }

    /// Takes note of what allowed the change.
    pub(in crate::vault) fn allowed_by(&mut self, grant: Grant) {
        self.grant.get_or_insert(grant);
    }

    /// Puts on record what was done, with what allowed it.
    pub(in crate::vault) fn note(&mut self, subject: Subject) {
        let grant = self.grant.take();
        self.subjects.push(Subject { grant, ..subject });
    }

    /// Puts the last change on record.
    pub(in crate::vault) fn note_last(&mut self) {
        let kept = self.kept.as_ref().map(|kept| Subject { unchanged: true, ..subject_of(kept) });
        let subject = kept.or_else(|| self.changes.last().map(subject_of));
        subject.into_iter().for_each(|subject| self.note(subject));
    }

    /// A new secret. `id` is taken if it is given and free; one is made up otherwise.
    pub(in crate::vault) fn create(
        &mut self,
        caller: &Caller,
        key: Key,
        id: Option<SecretId>,
        acl: Acl,
        value: &Plaintext,
    ) -> Result<(), VaultError> {
        self.with_index(|index| index.check_free(&key))?;
        let id = match id {
            Some(id) => self.free_id(&key, id)?,
            None => self.shared.fresh_id(),
        };
        let record = RecordId(self.shared.index.write().next_node());
        let now = now();
        let value = self.store_value(record, 1, now, caller, value);
        let acl = self.shared.intern(acl);
        self.touch(&key, &id);
        let secret = Secret { key, id, acl, created: now, value };
        self.put(None, secret)
    }

    /// A new value for a secret that exists. If it is the current one, nothing changes; but a caller that may not read
    /// the secret always makes a new version, so that it cannot test guesses.
    pub(in crate::vault) fn set_value(
        &mut self,
        caller: &Caller,
        before: Arc<Secret>,
        value: &Plaintext,
    ) -> Result<(), VaultError> {
        if check(caller, Operation::Read, &before).is_ok() && self.is_current(&before, value) {
            self.touch(&before.key, &before.id);
            self.kept = Some(Change { before: Some(Arc::clone(&before)), after: Some(before) });
            return Ok(());
        }
        let version = before.value.version + 1;
        let updated = before.value.updated.next(now());
        let value = self.store_value(before.record(), version, updated, caller, value);
        before.value.tombstone().mark(&mut self.batch);
        self.touch(&before.key, &before.id);
        let after = Secret { value, ..same(&before) };
        self.put(Some(before), after)
    }

    /// Whether the secret has this value. One that cannot be read is replaced.
    fn is_current(&self, secret: &Secret, value: &Plaintext) -> bool {
        value.len() == secret.value.size as usize
            && self.read_value(&secret.value).is_ok_and(|current| current == *value)
    }

    /// The same value, under another node.
    pub(in crate::vault) fn renumber(&mut self, before: Arc<Secret>) -> Result<(), VaultError> {
        let bytes = self.read_value(&before.value)?;
        let node = self.shared.index.write().next_node();
        self.shared.records.seal_chunks(node, &bytes, &mut self.batch);
        let old = &before.value;
        let value = Arc::new(Value {
            record: old.record,
            version: old.version,
            node,
            size: old.size,
            updated: old.updated,
            updated_by: old.updated_by.clone(),
            superseded: AtomicBool::new(false),
            garbage: Arc::clone(&old.garbage),
        });
        old.tombstone().mark(&mut self.batch);
        self.touch(&before.key, &before.id);
        let after = Secret { value, ..same(&before) };
        self.put(Some(before), after)
    }

    /// New lists for a secret that exists.
    pub(in crate::vault) fn set_acl(
        &mut self,
        before: Arc<Secret>,
        acl: Acl,
    ) -> Result<(), VaultError> {
        self.touch(&before.key, &before.id);
        let acl = self.shared.intern(acl);
        let after = Secret { acl, ..same(&before) };
        self.put(Some(before), after)
    }

    /// Another name for a secret that exists.
    pub(in crate::vault) fn set_key(
        &mut self,
        before: Arc<Secret>,
        key: Key,
    ) -> Result<(), VaultError> {
        self.with_index(|index| index.check_free(&key))?;
        self.touch(&before.key, &before.id);
        self.touch(&key, &before.id);
        let after = Secret { key, ..same(&before) };
        self.put(Some(before), after)
    }

    /// Another id for a secret that exists, so that another one can take its own.
    pub(in crate::vault) fn renew_id(&mut self, before: Arc<Secret>) -> Result<(), VaultError> {
        let id = self.shared.fresh_id();
        self.touch(&before.key, &before.id);
        self.touch(&before.key, &id);
        let after = Secret { id, ..same(&before) };
        self.put(Some(before), after)
    }

    /// The end of a secret.
    pub(in crate::vault) fn remove(&mut self, before: Arc<Secret>) {
        self.touch(&before.key, &before.id);
        self.batch.remove(Address::metadata(before.record()).as_bytes());
        before.value.tombstone().mark(&mut self.batch);
        self.changes.push(Change { before: Some(before), after: None });
    }

    fn put(&mut self, before: Option<Arc<Secret>>, after: Secret) -> Result<(), VaultError> {
        let (address, sealed) = self.shared.records.seal_metadata(&after);
        if sealed.len() > MAX_RECORD_BYTES {
            return Err(VaultError::ListsTooLong { key: after.key.to_string() });
        }
        self.batch.put(address.as_bytes(), sealed);
        self.changes.push(Change { before, after: Some(Arc::new(after)) });
        Ok(())
    }

    fn store_value(
        &mut self,
        record: RecordId,
        version: u64,
        updated: Timestamp,
        caller: &Caller,
        value: &Plaintext,
    ) -> Arc<Value> {
        let node = self.shared.index.write().next_node();
        self.shared.records.seal_chunks(node, value, &mut self.batch);
        Arc::new(Value {
            record,
            version,
            node,
            size: u32::try_from(value.len()).expect("a value has at most 1 MiB"),
            updated,
            updated_by: caller.own_slug().cloned().unwrap_or_else(|| Slug::of_uid(caller.uid())),
            superseded: AtomicBool::new(false),
            garbage: Arc::clone(&self.shared.garbage),
        })
    }

    pub(in crate::vault) fn touch(&mut self, key: &Key, id: &SecretId) {
        self.touched.insert(Touched::Secret(key.to_string()));
        self.touched
            .extend(key.ancestors().map(|directory| Touched::Directory(directory.to_owned())));
        self.touched.insert(Touched::Id(id.clone()));
    }

    /// All bytes of a version.
    pub(in crate::vault) fn read_value(&self, value: &Value) -> Result<Plaintext, VaultError> {
        self.shared.records.read_value(value, 0, usize::MAX)
    }

    fn free_id(&self, key: &Key, id: SecretId) -> Result<SecretId, VaultError> {
        match self.with_index(|index| index.by_id(&id).cloned()) {
            Some(owner) if !self.has_given_up(&owner) => {
                Err(VaultError::IdTaken { key: key.to_string(), id, owner: None })
            }
            Some(_) | None => Ok(id),
        }
    }

    /// Whether the plan has given a secret another id.
    fn has_given_up(&self, owner: &Secret) -> bool {
        let after = self.changes.iter().filter_map(|change| change.after.as_ref());
        after.into_iter().any(|now| now.record() == owner.record() && now.id != owner.id)
    }

    fn with_index<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.shared.index.read())
    }
}

/// Makes changes that are stored visible to all readers, all at once.
pub(in crate::vault) fn publish<'a>(index: &mut Index, changes: impl Iterator<Item = &'a Change>) {
    let now = now();
    for change in changes {
        if let Some(before) = &change.before {
            index.remove(before, now);
        }
        if let Some(after) = &change.after {
            index.insert(Arc::clone(after));
        }
        mark_superseded(change);
    }
}

/// As [`publish`], for changes that may pass names on to each other.
pub(in crate::vault) fn publish_together(index: &mut Index, changes: &[Change]) {
    let now = now();
    changes.iter().filter_map(|it| it.before.as_ref()).for_each(|it| index.remove(it, now));
    changes.iter().filter_map(|it| it.after.as_ref()).for_each(|it| index.insert(Arc::clone(it)));
    changes.iter().for_each(mark_superseded);
}

fn mark_superseded(change: &Change) {
    if let Some(before) = change.before.as_ref().filter(|_| change.supersedes()) {
        before.value.superseded.store(true, Ordering::Release);
    }
}

fn same(secret: &Secret) -> Secret {
    Secret {
        key: secret.key.clone(),
        id: secret.id.clone(),
        acl: Arc::clone(&secret.acl),
        created: secret.created,
        value: Arc::clone(&secret.value),
    }
}

#[cfg(not(test))]
pub(in crate::vault) fn now() -> Timestamp {
    SystemTime::now().into()
}

#[cfg(test)]
pub(in crate::vault) use skewed::now;

/// A clock that goes wrong, for tests: each thread has its own, and each vault one writer thread.
#[cfg(test)]
pub(in crate::vault) mod skewed {
    use std::cell::Cell;

    use super::{SystemTime, Timestamp};

    thread_local! {
        static SKEW: Cell<i64> = const { Cell::new(0) };
    }

    /// The clock of this thread is so many seconds ahead from now on.
    pub(in crate::vault) fn set(seconds: i64) {
        SKEW.set(seconds);
    }

    pub(in crate::vault) fn now() -> Timestamp {
        let now = Timestamp::from(SystemTime::now()).as_nanos();
        Timestamp::from_nanos(now.saturating_add_signed(SKEW.get() * 1_000_000_000))
    }
}
