//! What a document comes to: decided field by field, against what really changes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::crypto::SealedValue;
use crate::document::{Document, DocumentValue, Field};
use crate::model::{
    Caller, Grant, Key, MAX_VALUE_BYTES, Operation, Plaintext, SecretId, Slug, Timestamp, may_see,
};
use crate::store::Batch;
use crate::vault::error::VaultError;
use crate::vault::ops::write::{check_create, initial_lists};
use crate::vault::records::encode_metadata;
use crate::vault::records::secret::{RecordId, Secret, Value};
use crate::vault::writer::staging::MAX_HEAD_BYTES;
use crate::vault::writer::transaction::{Change, now};
use crate::vault::{Shared, check};

use super::Outcome;
use super::refusal::Refusals;

/// A document on its way, with the numbers that it takes if it needs them.
pub(super) struct PreparedDocument {
    /// With the value in the clear, until that is stored ahead.
    document: Document,
    /// The value, once it is stored ahead.
    stored: Option<Arc<Value>>,
    /// The document says nothing of the value.
    is_valueless: bool,
    /// For a new secret its record; the next number for a new value.
    number: u64,
}

/// The value that a document wants a secret to have.
enum Wanted<'a> {
    /// The one it has.
    Any,
    Held(&'a Plaintext),
    /// Stored ahead.
    Stored(&'a Arc<Value>),
}

/// What becomes of a secret.
#[derive(Clone)]
pub(super) struct DocumentPlan {
    pub(super) before: Option<Arc<Secret>>,
    /// None if nothing changes.
    pub(super) after: Option<Arc<Secret>>,
    /// What allowed it: the first right that it needed.
    pub(super) grant: Option<Grant>,
    /// What the caller may learn about the secret before the change.
    knows: Knows,
}

/// What a caller may learn about a secret that exists.
#[derive(Clone, Copy, Default)]
struct Knows {
    /// Its value: a reader.
    value: bool,
    /// Its lists and its id: in one of the six lists.
    lists: bool,
}

impl Knows {
    fn of(caller: &Caller, secret: &Secret) -> Self {
        Self {
            value: check(caller, Operation::Read, secret).is_ok(),
            lists: check(caller, Operation::ReadLists, secret).is_ok(),
        }
    }
}

impl DocumentPlan {
    /// The value that the secret did not have before.
    pub(super) fn new_value(&self) -> Option<&Arc<Value>> {
        let value = &self.after.as_ref()?.value;
        let is_old = |before: &Arc<Secret>| Arc::ptr_eq(&before.value, value);
        (!self.before.as_ref().is_some_and(is_old)).then_some(value)
    }

    /// The id of a secret that is to be new.
    pub(super) fn new_id(&self) -> Option<&SecretId> {
        self.after.as_ref().filter(|_| self.before.is_none()).map(|after| &after.id)
    }

    /// Adds the head of the changed secret, and that its old value is garbage.
    pub(super) fn put_metadata(&self, shared: &Shared, batch: &mut Batch) {
        let Some(after) = &self.after else { return };
        let (address, sealed) = shared.records.seal_metadata(after);
        batch.put(address.as_bytes(), sealed);
        if let (Some(before), Some(_)) = (&self.before, self.new_value()) {
            before.value.tombstone().mark(batch);
        }
    }

    pub(super) fn change(&self) -> Change {
        Change { before: self.before.clone(), after: self.after.clone() }
    }

    /// What is reported to the caller. One that may not read the secret does not learn that its value is unchanged.
    pub(super) fn outcome(&self, prepared: &PreparedDocument) -> Outcome {
        match (&self.before, &self.after) {
            (_, None) if self.knows.value => Outcome::Unchanged,
            (_, None) => Outcome::Updated,
            (Some(_), Some(_)) => Outcome::Updated,
            (None, Some(_)) if prepared.is_valueless => Outcome::CreatedEmpty,
            (None, Some(_)) => Outcome::Created,
        }
    }

    /// The key, as the secret has it.
    pub(super) fn key(&self, prepared: &PreparedDocument) -> Key {
        let secret = self.after.as_ref().or(self.before.as_ref());
        secret.map_or(prepared.key(), |secret| secret.key()).clone()
    }

    /// The id that the secret has, if the document gives another one and the caller may know it.
    pub(super) fn kept_id(&self, prepared: &PreparedDocument) -> Option<SecretId> {
        let secret = match &self.before {
            Some(before) => Some(before).filter(|_| self.knows.lists),
            None => self.after.as_ref(),
        }?;
        (prepared.document.id()? != secret.id()).then(|| secret.id().clone())
    }
}

/// Why a document is refused, by the field at fault.
type Refused = Vec<(Field, VaultError)>;

/// The caller who applies a file, and the vault that it is applied to.
pub(super) struct Evaluator<'a> {
    shared: &'a Shared,
    caller: &'a Caller,
    now: Timestamp,
    /// The ids that the file's new secrets have so far.
    pub(super) ids: HashSet<SecretId>,
    refusals: Refusals,
}

impl PreparedDocument {
    /// Opens the value of a document. None if the caller may not create the secret, or the value does
    /// not open or is not what its checksum says.
    pub(super) fn new(
        mut document: Document,
        number: u64,
        evaluator: &mut Evaluator<'_>,
    ) -> Option<Self> {
        let value = document.take_value();
        let is_valueless = value.is_none();
        if let Some(value) = value {
            let opened = evaluator.check_sealed(&document, &value).and_then(|counts| {
                let opened = open(value, &document, evaluator.shared)?;
                counts.into_iter().for_each(|of| evaluator.shared.guesses.was_right(of));
                Ok(opened)
            });
            match opened {
                Ok(value) => document.opened(value),
                Err((field, error)) => {
                    evaluator.refusals.add(line(&document, field), error);
                    return None;
                }
            }
        }
        Some(Self { document, stored: None, is_valueless, number })
    }

    fn value(&self) -> Wanted<'_> {
        match (&self.stored, self.document.value()) {
            (Some(value), _) => Wanted::Stored(value),
            (None, Some(DocumentValue::Plain(value))) => Wanted::Held(value),
            (None, Some(DocumentValue::Sealed(_)) | None) => Wanted::Any,
        }
    }

    pub(super) fn line(&self) -> usize {
        self.document.line()
    }

    pub(super) fn key(&self) -> &Key {
        self.document.key()
    }

    fn id(&self) -> Option<&SecretId> {
        self.document.id()
    }

    /// Whether the stored value is the wanted one.
    fn is_met_by(&self, stored: &Value, shared: &Shared) -> Result<bool, VaultError> {
        let read = |value| shared.records.read_value(value, 0, usize::MAX);
        match self.value() {
            Wanted::Any => Ok(true),
            _ if self.size() != stored.size as usize => Ok(false),
            Wanted::Held(bytes) => Ok(*bytes == read(stored)?),
            Wanted::Stored(value) => Ok(read(value)? == read(stored)?),
        }
    }

    /// Adds the records of the new value of a plan, if it has one.
    pub(super) fn seal(
        &self,
        shared: &Shared,
        plan: &DocumentPlan,
        batch: &mut Batch,
    ) -> Result<(), VaultError> {
        let Some(new) = plan.new_value() else { return Ok(()) };
        match self.value() {
            Wanted::Any => {}
            Wanted::Held(bytes) => shared.records.seal_chunks(new.node, bytes, batch),
            Wanted::Stored(value) => {
                let bytes = shared.records.read_value(value, 0, usize::MAX)?;
                shared.records.seal_chunks(new.node, &bytes, batch);
            }
        }
        Ok(())
    }

    /// Gives the bytes away to where `value` is about to be stored.
    pub(super) fn hand_out(&mut self, value: &Arc<Value>) -> Plaintext {
        self.stored = Some(Arc::clone(value));
        match self.document.take_value() {
            Some(DocumentValue::Plain(bytes)) => bytes,
            // A new secret whose document gives no value is empty.
            Some(DocumentValue::Sealed(_)) | None => Plaintext::default(),
        }
    }

    fn size(&self) -> usize {
        match self.value() {
            Wanted::Any => 0,
            Wanted::Held(bytes) => bytes.len(),
            Wanted::Stored(value) => value.size as usize,
        }
    }
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(shared: &'a Shared, caller: &'a Caller) -> Self {
        let (ids, refusals) = (HashSet::new(), Refusals::default());
        Self { shared, caller, now: now(), ids, refusals }
    }

    /// # Errors
    /// Everything that was refused.
    pub(super) fn finish(mut self) -> Result<(), VaultError> {
        if self.refusals.is_empty() {
            return Ok(());
        }
        self.refusals.sort();
        Err(VaultError::Refused(self.refusals))
    }

    /// What the document comes to now. None if it is refused; why is among the refusals.
    pub(super) fn evaluate(&mut self, prepared: &PreparedDocument) -> Option<DocumentPlan> {
        let before = self.shared.index.read().by_key(prepared.key().as_str()).cloned();
        let judged = match &before {
            None => self.create(prepared).map(|(after, grant)| (Some(after), Some(grant))),
            Some(secret) => self.update(prepared, secret),
        };
        match judged {
            Ok((after, grant)) => {
                let knows = before.as_ref().map(|secret| Knows::of(self.caller, secret));
                let knows = knows.unwrap_or_default();
                Some(DocumentPlan { before, after: after.map(Arc::new), grant, knows })
            }
            Err(refused) => {
                for (field, error) in refused {
                    self.refusals.add(line(&prepared.document, field), error);
                }
                None
            }
        }
    }

    /// Whether a plan is still what its document comes to.
    pub(super) fn still_holds(&self, prepared: &PreparedDocument, plan: &DocumentPlan) -> bool {
        let index = self.shared.index.read();
        match (&plan.before, &plan.after) {
            (Some(before), _) => {
                let now = index.by_record(before.record());
                now.is_some_and(|now| Arc::ptr_eq(now, before))
            }
            (None, Some(after)) => {
                index.by_key(prepared.key().as_str()).is_none()
                    && index.check_free(prepared.key()).is_ok()
                    && index.by_id(&after.id).is_none()
            }
            (None, None) => false,
        }
    }

    fn create(&mut self, prepared: &PreparedDocument) -> Result<(Secret, Grant), Refused> {
        let key = prepared.key();
        let grant = check_create(self.caller, key, None).map_err(|no| vec![(Field::Key, no)])?;
        let in_the_way = self.shared.index.read().check_free(key).err();
        let mut refused: Vec<_> = in_the_way.map(|error| (Field::Key, error)).into_iter().collect();
        let id = match self.given_id(prepared, None) {
            Ok(id) => id.cloned(),
            Err(error) => {
                refused.push((Field::Id, error));
                None
            }
        };
        if !refused.is_empty() {
            return Err(refused);
        }
        let id = id.unwrap_or_else(|| self.fresh_id());
        self.ids.insert(id.clone());
        let lists = initial_lists(self.caller).patched(prepared.document.lists());
        let value = self.value(prepared, RecordId(prepared.number), 1, self.now);
        let acl = self.shared.intern(lists);
        // Its own copy: the document is freed soon, and a key between others would hold their pages.
        let secret = Secret { key: key.copy(), id, acl, created: self.now, value };
        Ok((self.within_limits(secret)?, grant))
    }

    fn fresh_id(&self) -> SecretId {
        loop {
            let id = self.shared.fresh_id();
            if !self.ids.contains(&id) {
                return id;
            }
        }
    }

    /// What is to change of a secret that exists; none if nothing is.
    fn update(
        &self,
        prepared: &PreparedDocument,
        secret: &Arc<Secret>,
    ) -> Result<(Option<Secret>, Option<Grant>), Refused> {
        let mut grant = None;
        let mut refused = Vec::new();
        let knows = Knows::of(self.caller, secret);
        if let Err(error) = self.given_id(prepared, Some((secret, knows))) {
            refused.push((Field::Id, error));
        }
        let named = prepared.document.lists();
        let lists = secret.acl().patched(named);
        let mut lists_change = false;
        // A caller that may not read the lists is denied unchanged lists as well as changed ones.
        let differing: Vec<_> = secret.acl().differing(&lists).collect();
        let judged = match knows.lists {
            true => differing,
            false => named.iter().map(|(list, _)| list).collect(),
        };
        for list in judged {
            lists_change = true;
            match check(self.caller, Operation::ChangeList(list), secret) {
                Ok(one) => {
                    grant.get_or_insert(one);
                }
                Err(error) => refused.push((Field::List(list), error)),
            }
        }
        let value_changes = match self.value_changes(prepared, secret, knows) {
            Ok(None) => false,
            Ok(Some(one)) => {
                grant.get_or_insert(one);
                true
            }
            Err(error) => {
                refused.push((Field::Value, error));
                false
            }
        };
        if !refused.is_empty() {
            return Err(refused);
        }
        if !value_changes && !lists_change {
            return Ok((None, None));
        }
        let old = &secret.value;
        let after = Secret {
            key: secret.key.clone(),
            id: secret.id.clone(),
            acl: if lists_change { self.shared.intern(lists) } else { Arc::clone(&secret.acl) },
            created: secret.created,
            value: if value_changes {
                self.value(prepared, old.record, old.version + 1, old.updated.next(self.now))
            } else {
                Arc::clone(old)
            },
        };
        Ok((Some(self.within_limits(after)?), grant))
    }

    /// What allows the new value; none if the value is the stored one, which takes no right. A writer
    /// that may not read the secret always makes a new version, so that it learns nothing.
    fn value_changes(
        &self,
        prepared: &PreparedDocument,
        secret: &Secret,
        knows: Knows,
    ) -> Result<Option<Grant>, VaultError> {
        if prepared.is_valueless {
            return Ok(None);
        }
        let allowed = check(self.caller, Operation::Write, secret);
        if knows.value {
            let is_met = prepared.is_met_by(&secret.value, self.shared)?;
            return if is_met { Ok(None) } else { allowed.map(Some) };
        }
        if allowed.is_ok() || !self.shared.guesses.take(secret.record()) {
            return allowed.map(Some);
        }
        if prepared.is_met_by(&secret.value, self.shared)? {
            self.shared.guesses.was_right(secret.record());
            return Ok(None);
        }
        allowed.map(Some)
    }

    /// Whether a value may be opened. Whether it is what the document's checksum says is an answer to a
    /// guess about it if it is sealed and the caller may not read the secret. Gives the secret for which
    /// that counts.
    fn check_sealed(
        &self,
        document: &Document,
        value: &DocumentValue,
    ) -> Result<Option<RecordId>, (Field, VaultError)> {
        let secret = self.shared.index.read().by_key(document.key().as_str()).cloned();
        let Some(secret) = secret else {
            let allowed = check_create(self.caller, document.key(), None);
            return allowed.map(|_| None).map_err(|no| (Field::Key, no));
        };
        let is_guess = matches!(value, DocumentValue::Sealed(_)) && document.checksum().is_some();
        match check(self.caller, Operation::Read, &secret) {
            Err(no) if is_guess && !self.shared.guesses.take(secret.record()) => {
                Err((Field::Checksum, no))
            }
            Err(_) if is_guess => Ok(Some(secret.record())),
            _ => Ok(None),
        }
    }

    /// The id that a document gives to its secret, if it gives one. A secret that exists keeps its id
    /// whatever a document says (`encrypt` makes up a new one each time), but the id must not be
    /// another secret's. One that is the key, which is what documents of the upstream service have
    /// instead of a key, is a name first: it is passed over if it is another secret's.
    fn given_id<'w>(
        &self,
        prepared: &'w PreparedDocument,
        before: Option<(&Secret, Knows)>,
    ) -> Result<Option<&'w SecretId>, VaultError> {
        let Some(id) = prepared.id() else { return Ok(None) };
        let (key, is_key) = (prepared.key(), id.as_str() == prepared.key().as_str());
        let may_know = before.is_none_or(|(_, knows)| knows.lists);
        let is_own = may_know && before.is_some_and(|(secret, _)| secret.id() == id);
        if !(self.caller.is_admin() || id.has_given_prefix() || is_key || is_own) {
            return Err(VaultError::IdOfAdmins { key: key.to_string(), id: id.clone() });
        }
        let index = self.shared.index.read();
        match index.by_id(id).filter(|owner| may_know && owner.key != *key) {
            None => Ok(Some(id)),
            Some(_) if is_key => Ok(None),
            Some(owner) => {
                let may_see = may_see(self.caller, owner.acl());
                let owner = may_see.then(|| owner.key.to_string());
                Err(VaultError::IdTaken { key: key.to_string(), id: id.clone(), owner })
            }
        }
    }

    fn value(
        &self,
        prepared: &PreparedDocument,
        record: RecordId,
        version: u64,
        updated: Timestamp,
    ) -> Arc<Value> {
        let own = self.caller.own_slug().cloned();
        Arc::new(Value {
            record,
            version,
            node: prepared.number + 1,
            size: u32::try_from(prepared.size()).expect("a value has at most 1 MiB"),
            updated,
            updated_by: own.unwrap_or_else(|| Slug::of_uid(self.caller.uid())),
            superseded: AtomicBool::new(false),
            garbage: Arc::clone(&self.shared.garbage),
        })
    }

    fn within_limits(&self, secret: Secret) -> Result<Secret, Refused> {
        if encode_metadata(&secret).len() > MAX_HEAD_BYTES {
            return Err(vec![(
                Field::Key,
                VaultError::ListsTooLong { key: secret.key.to_string() },
            )]);
        }
        Ok(secret)
    }
}

fn open(
    value: DocumentValue,
    document: &Document,
    shared: &Shared,
) -> Result<Plaintext, (Field, VaultError)> {
    let key = || document.key().to_string();
    let value = match value {
        DocumentValue::Plain(value) => value,
        DocumentValue::Sealed(text) => SealedValue::parse(&text)
            .map_err(|source| VaultError::NotSealed { key: key(), source })
            .and_then(|sealed| {
                let opened = shared.records.open_value(document.key(), &sealed);
                opened.map_err(|source| VaultError::NotOpened { key: key(), source })
            })
            .map_err(|error| (Field::Value, error))?,
    };
    if value.len() > MAX_VALUE_BYTES {
        return Err((Field::Value, VaultError::TooLarge { key: key() }));
    }
    match document.checksum() {
        Some(checksum) if !checksum.matches(&value) => {
            let algorithm = checksum.algorithm();
            Err((Field::Checksum, VaultError::Checksum { key: key(), algorithm }))
        }
        _ => Ok(value),
    }
}

/// The line of a field; that of the document where the field is not in it.
fn line(document: &Document, field: Field) -> usize {
    document.line_of(field).unwrap_or(document.line())
}
