//! Checks every record of a store that no daemon uses.
//!
//! Records come in the order of their addresses: valid journals (`c`), garbage marks (`g`), heads (`h`) and packs
//! (`j`) before values (`v`). So one walk can assign each piece of a value to its secret.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::crypto::{Keyring, OpenError};
use crate::model::SecretId;
use crate::store::{Batch, Store};

use super::error::OpenVaultError;
use super::integrity::{Integrity, NOT_AS_LEFT};
use super::keys;
use super::records::garbage::{Garbage, Tombstone};
use super::records::interner::Interner;
use super::records::secret::{RecordId, Secret};
use super::records::{Address, CHUNK_BYTES, Records, StoreId, chunk_count, decode_metadata};
use super::writer::staging;

/// After how many records the progress is reported.
const STEP: u64 = 256;
/// How many removals one batch takes.
const BATCH: usize = 1024;

/// A store that is looked at and mended, not served.
pub struct Fsck {
    records: Records,
    /// Whether the store must have a sum.
    is_bound: bool,
}

/// What a look at a store found.
#[derive(Default)]
pub struct Findings {
    /// Records of all kinds.
    pub records: u64,
    /// Secrets whose record can be read.
    pub secrets: u64,
    /// What their values take together, in bytes.
    pub value_bytes: u64,
    /// Values that were replaced or removed and are still stored. The next start removes them.
    pub superseded: u64,
    /// Parts of a large import that was interrupted. The next start finishes or removes them.
    pub unfinished: u64,
    /// Pieces of values that no secret names.
    pub unreachable: u64,
    /// What is wrong.
    pub problems: Vec<Damage>,
    repairs: Repairs,
}

/// What [`Fsck::repair`] may remove: nothing of it can be reached any more.
#[derive(Default)]
struct Repairs {
    tombstone: Vec<Tombstone>,
    /// Marks on values that are current.
    wrong_marks: Vec<u64>,
    unreachable: Vec<Vec<u8>>,
    has_packs: bool,
    /// Something cannot be read that may name what seems unreachable.
    is_blind: bool,
    /// The sum that the secrets have.
    integrity: Option<Integrity>,
}

/// Something that is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The record of a secret.
    #[error(
        "record {record}: it does not unseal, and with it the name and the lists of a secret are lost; restore the secret from a backup: {source}"
    )]
    Metadata {
        /// Its number.
        record: u64,
        /// What the seal said.
        source: OpenError,
    },
    /// The record of a secret that unseals to something else.
    #[error("record {record}: it is not a secret's; restore the secret from a backup")]
    NotMetadata {
        /// Its number.
        record: u64,
    },
    /// A piece of a value.
    #[error("{key}: its stored value does not unseal; restore it from a backup: {source}")]
    Value {
        /// The secret.
        key: String,
        /// What the seal said.
        source: OpenError,
    },
    /// A value that lacks pieces, or has one of another size.
    #[error("{key}: its stored value is incomplete; restore it from a backup")]
    Incomplete {
        /// The secret.
        key: String,
    },
    /// A value that the next start would remove.
    #[error(
        "{key}: its value is marked as replaced, and the next start would remove it; `--repair` takes the mark away"
    )]
    Marked {
        /// The secret.
        key: String,
    },
    /// Two secrets of one name.
    #[error("{key}: two secrets have this name; remove one of them")]
    SameKey {
        /// The name.
        key: String,
    },
    /// Two secrets of one id.
    #[error("{first} and {second} have the same id {id}; save one of them anew")]
    SameId {
        /// The id.
        id: SecretId,
        /// A secret that has it.
        first: String,
        /// Another one.
        second: String,
    },
    /// A secret that is a directory of others.
    #[error("{key}: it is a secret and a directory of secrets too ({below}); rename one of them")]
    IsDirectory {
        /// The secret.
        key: String,
        /// A secret below it.
        below: String,
    },
    /// Part of an import that was interrupted.
    #[error(
        "a part of an interrupted import does not unseal, so the store does not open; restore the state directory from a backup"
    )]
    Pack,
    /// How far the audit log goes.
    #[error(
        "the note of how far the audit log goes does not unseal, so the store does not open; restore the state directory from a backup"
    )]
    AuditAnchor,
    /// Old copies of records, which unseal as well as the newest.
    #[error("{NOT_AS_LEFT}")]
    NotAsLeft,
    /// The sum of all secrets.
    #[error(
        "the sum of all secrets does not unseal, so the store does not open; restore the state directory from a backup"
    )]
    Sum,
    /// Records of a kind that is not known.
    #[error(
        "{count} records are of a kind that this version does not know; use the version that wrote them"
    )]
    Unknown {
        /// How many.
        count: u64,
    },
}

/// What was mended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Replaced values that were removed.
    pub superseded: u64,
    /// Pieces of values that nothing named and that were removed.
    pub unreachable: u64,
    /// Marks that were taken off current values.
    pub marks: u64,
}

impl Fsck {
    /// Opens a store and proves that the keyring is its own. Changes nothing.
    ///
    /// # Errors
    /// The store cannot be read, or was made with another key or by another version.
    pub fn open(store: Arc<dyn Store>, keyring: Keyring) -> Result<Self, OpenVaultError> {
        let id = match store.read(Address::META.as_bytes())? {
            Some(meta) => StoreId::of_whole(&meta)?,
            None => StoreId::random(),
        };
        let records = Records::new(store, keyring, id);
        let is_bound = keys::prove(&records)?.is_some_and(|proof| proof.is_bound);
        Ok(Self { records, is_bound })
    }

    /// Looks at every record; calls `seen` with their number from time to time. Changes nothing.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn check(&self, seen: impl Fn(u64)) -> Result<Findings, OpenVaultError> {
        let mut walk = Walk::new(&self.records, self.is_bound);
        self.records.scan_all(&mut |address, content| {
            walk.look_at(address, content);
            if walk.findings.records.is_multiple_of(STEP) {
                seen(walk.findings.records);
            }
            ControlFlow::Continue(())
        })?;
        Ok(walk.finish())
    }

    /// Takes the secrets as they are for those that were stored last. Whether they were not.
    ///
    /// # Errors
    /// The store failed.
    pub fn accept(&self, findings: &Findings) -> Result<bool, OpenVaultError> {
        let Some(integrity) = &findings.repairs.integrity else { return Ok(false) };
        if !findings.problems.contains(&Damage::NotAsLeft) {
            return Ok(false);
        }
        let mut batch = Batch::default();
        integrity.put(&self.records, &mut batch);
        self.records.commit(&batch)?;
        Ok(true)
    }

    /// Removes what can be reached no more, finishes what was interrupted, and takes marks off
    /// values that are current. Nothing that any secret names is lost.
    ///
    /// # Errors
    /// The store failed; what was done stays done.
    pub fn repair(&self, findings: &Findings) -> Result<Repaired, OpenVaultError> {
        let repairs = &findings.repairs;
        let mut repaired = Repaired::default();
        let mut batch = Batch::default();
        for &node in &repairs.wrong_marks {
            batch.remove(Address::garbage(node).as_bytes());
            repaired.marks += 1;
        }
        self.records.commit(&batch)?;
        if repairs.has_packs && !findings.problems.contains(&Damage::Pack) {
            staging::recover(&self.records)?;
        }
        for some in repairs.tombstone.chunks(BATCH / 32) {
            let mut batch = Batch::default();
            for tombstone in some {
                tombstone.remove(&mut batch);
                batch.remove(Address::garbage(tombstone.node).as_bytes());
            }
            self.records.commit(&batch)?;
            repaired.superseded += some.len() as u64;
        }
        if !repairs.is_blind {
            for some in repairs.unreachable.chunks(BATCH) {
                let mut batch = Batch::default();
                some.iter().for_each(|address| batch.remove(address));
                self.records.commit(&batch)?;
                repaired.unreachable += some.len() as u64;
            }
        }
        Ok(repaired)
    }
}

/// What is known so far.
struct Walk<'a> {
    records: &'a Records,
    is_bound: bool,
    stored: Option<Integrity>,
    findings: Findings,
    /// Lends its shared lists; nothing is put into it.
    common: Interner,
    garbage: Arc<Garbage>,
    journals: HashSet<u64>,
    marks: HashMap<u64, Tombstone>,
    secrets: HashMap<RecordId, Secret>,
    /// Values that a pack which is not valid brought.
    abandoned: HashSet<u64>,
    /// The current values by their node numbers; none before the first piece of a value.
    values: Option<HashMap<u64, Current>>,
    unknown: u64,
}

/// A current value while its pieces come by.
struct Current {
    key: String,
    size: usize,
    pieces: u16,
    is_damaged: bool,
}

impl<'a> Walk<'a> {
    fn new(records: &'a Records, is_bound: bool) -> Self {
        Self {
            records,
            is_bound,
            stored: None,
            findings: Findings::default(),
            common: Interner::default(),
            garbage: Arc::default(),
            journals: HashSet::new(),
            marks: HashMap::new(),
            secrets: HashMap::new(),
            abandoned: HashSet::new(),
            values: None,
            unknown: 0,
        }
    }

    fn look_at(&mut self, address: &[u8], content: &[u8]) {
        self.findings.records += 1;
        match (address.first(), number(address)) {
            (Some(b'm' | b'k' | b'r' | b'e'), _) => {}
            (Some(b'a'), _) => {
                if self.records.unseal_audit_anchor(content).is_err() {
                    self.findings.problems.push(Damage::AuditAnchor);
                }
            }
            (Some(b's'), _) => match self.records.unseal_sum(content) {
                Ok(stored) => self.stored = Some(stored),
                Err(_) => self.findings.problems.push(Damage::Sum),
            },
            (Some(b'c'), Some(journal)) => drop(self.journals.insert(journal)),
            (Some(b'g'), Some(_)) => match Tombstone::of_mark(address, content) {
                Some(tombstone) => drop(self.marks.insert(tombstone.node, tombstone)),
                None => self.unknown += 1,
            },
            (Some(b'h'), Some(record)) => self.metadata(record, address, content),
            (Some(b'j'), Some(journal)) => self.pack(journal, address, content),
            (Some(b'v'), Some(node)) => self.piece(node, address, content),
            _ => self.unknown += 1,
        }
    }

    fn metadata(&mut self, record: u64, address: &[u8], content: &[u8]) {
        match self.records.unseal_metadata(address, content, &self.garbage, &mut self.common) {
            Ok(secret) => drop(self.secrets.insert(secret.record(), secret)),
            Err(error) => {
                self.findings.repairs.is_blind = true;
                self.findings.problems.push(match error {
                    OpenVaultError::Unseal(source) => Damage::Metadata { record, source },
                    _ => Damage::NotMetadata { record },
                });
            }
        }
    }

    /// The heads of a valid pack are as good as in their places.
    fn pack(&mut self, journal: u64, address: &[u8], content: &[u8]) {
        self.findings.unfinished += 1;
        self.findings.repairs.has_packs = true;
        let is_valid = self.journals.contains(&journal);
        let Some(address) = Address::parse(address) else {
            self.unknown += 1;
            return;
        };
        let read = staging::unpack(self.records, &address, content, &mut |head| {
            if !is_valid {
                self.abandoned.extend(head.own.map(|own| own.node));
                return Ok(());
            }
            let secret =
                decode_metadata(head.record, head.encoded, &self.garbage, &mut self.common);
            let secret = secret.ok_or(OpenVaultError::BrokenRecord)?;
            self.secrets.insert(head.record, secret);
            self.marks.extend(head.superseded.map(|old| (old.node, old)));
            Ok(())
        });
        if read.is_err() {
            self.findings.repairs.is_blind = true;
            self.findings.problems.push(Damage::Pack);
        }
    }

    fn piece(&mut self, node: u64, address: &[u8], content: &[u8]) {
        if self.values.is_none() {
            self.values = Some(self.current_values());
        }
        let number = address.get(9..).and_then(|rest| <[u8; 2]>::try_from(rest).ok());
        let (Some(number), Some(address)) = (number, Address::parse(address)) else {
            self.unknown += 1;
            return;
        };
        let number = u16::from_be_bytes(number);
        let current = self.values.as_mut().and_then(|values| values.get_mut(&node));
        match current {
            Some(value) if number < chunk_count(value.size) => {
                let problem = value.check(number, self.records.unseal(&address, content));
                self.findings.problems.extend(problem);
            }
            _ if self.marks.contains_key(&node) || self.abandoned.contains(&node) => {}
            _ => {
                self.findings.unreachable += 1;
                self.findings.repairs.unreachable.push(address.as_bytes().to_vec());
            }
        }
    }

    fn current_values(&self) -> HashMap<u64, Current> {
        let current = |secret: &Secret| Current {
            key: secret.key().to_string(),
            size: secret.value().size() as usize,
            pieces: 0,
            is_damaged: false,
        };
        self.secrets.values().map(|secret| (secret.value().node(), current(secret))).collect()
    }

    fn finish(mut self) -> Findings {
        let values = self.values.take().unwrap_or_else(|| self.current_values());
        let findings = &mut self.findings;
        findings.secrets = values.len() as u64;
        for (node, value) in values {
            findings.value_bytes += value.size as u64;
            if !value.is_damaged && value.pieces < chunk_count(value.size) {
                findings.problems.push(Damage::Incomplete { key: value.key.clone() });
            }
            if self.marks.remove(&node).is_some() {
                findings.problems.push(Damage::Marked { key: value.key });
                findings.repairs.wrong_marks.push(node);
            }
        }
        findings.superseded = self.marks.len() as u64;
        findings.repairs.tombstone = std::mem::take(&mut self.marks).into_values().collect();
        if self.unknown > 0 {
            findings.repairs.is_blind = true;
            findings.problems.push(Damage::Unknown { count: self.unknown });
        }
        findings.problems.extend(name_problems(self.secrets.values()));
        self.compare_sum();
        let findings = &mut self.findings;
        findings.problems.sort_by_cached_key(ToString::to_string);
        self.findings
    }
}

impl Walk<'_> {
    /// Whether the secrets are those that were stored last. Where one cannot be read, that is a problem of
    /// its own, and the sum says no more.
    fn compare_sum(&mut self) {
        let cannot_tell = |problem: &Damage| {
            matches!(
                problem,
                Damage::Metadata { .. } | Damage::NotMetadata { .. } | Damage::Pack | Damage::Sum
            )
        };
        if !self.is_bound || self.findings.problems.iter().any(cannot_tell) {
            return;
        }
        let stored = self.stored.as_ref().map(|integrity| integrity.sum);
        let integrity = self.stored.take().unwrap_or_else(Integrity::without);
        let sum = integrity.sum_of(self.secrets.values());
        if stored != Some(sum) {
            self.findings.problems.push(Damage::NotAsLeft);
        }
        self.findings.repairs.integrity = Some(Integrity { sum, ..integrity });
    }
}

impl Current {
    /// What is wrong with a piece, if that is the first thing that is wrong with the value.
    fn check(
        &mut self,
        number: u16,
        piece: Result<crate::model::Plaintext, OpenError>,
    ) -> Option<Damage> {
        let first = usize::from(number) * CHUNK_BYTES;
        let key = || self.key.clone();
        let problem = match piece {
            Ok(piece) if piece.len() == CHUNK_BYTES.min(self.size - first) => {
                self.pieces += 1;
                return None;
            }
            Ok(_) => Damage::Incomplete { key: key() },
            Err(source) => Damage::Value { key: key(), source },
        };
        (!std::mem::replace(&mut self.is_damaged, true)).then_some(problem)
    }
}

fn name_problems<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Vec<Damage> {
    let mut problems = Vec::new();
    let (mut keys, mut ids) = (BTreeMap::new(), HashMap::new());
    for secret in secrets {
        let key = secret.key();
        if keys.insert(key.as_str(), secret).is_some() {
            problems.push(Damage::SameKey { key: key.to_string() });
        }
        if let Some(other) = ids.insert(secret.id(), key) {
            let (first, second) = if other < key { (other, key) } else { (key, other) };
            problems.push(Damage::SameId {
                id: secret.id().clone(),
                first: first.to_string(),
                second: second.to_string(),
            });
        }
    }
    for (below, secret) in &keys {
        let above = secret.key().ancestors().filter(|directory| keys.contains_key(directory));
        problems.extend(above.map(|directory| Damage::IsDirectory {
            key: directory.to_owned(),
            below: (*below).to_owned(),
        }));
    }
    problems
}

/// The number that follows the kind in an address.
fn number(address: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(address.get(1..9)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
