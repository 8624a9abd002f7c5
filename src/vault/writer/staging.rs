//! Large changes: whole or not at all, without one large batch.
//!
//! No reader runs while the store applies a batch, so a batch must stay small. A large change is stored ahead, in
//! slices: packs of its new heads, with the values that they name. Nothing of that is reachable. One small record
//! then makes all of it valid at once; after that the writer moves the heads to their places, a pack at a time, each
//! in one batch with the removal of the pack. A start that finds packs finishes what is valid and removes what is
//! not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::store::{Batch, MAX_RECORD_BYTES, StoreError};

use crate::vault::Shared;
use crate::vault::error::OpenVaultError;
use crate::vault::records::garbage::Tombstone;
use crate::vault::records::secret::{RecordId, Secret};
use crate::vault::records::{Address, Records, encode_metadata};

/// The largest head that fits a pack, in bytes.
pub(in crate::vault) const MAX_HEAD_BYTES: usize = MAX_RECORD_BYTES - 256;
/// A pack is closed when it is larger than this, in bytes.
const PACK_BYTES: usize = 24 << 10;
/// Or when the values beside it are larger than this, in bytes.
const SLICE_BYTES: usize = 256 << 10;

/// A large change that is stored and becomes valid with [`Journal::hold`].
pub(in crate::vault) struct Journal {
    id: u64,
    packs: Vec<Pack>,
    /// Values of secrets that were left out: unreachable if the journal is abandoned.
    strays: Vec<Tombstone>,
}

/// Heads that are stored together until they are in their places.
struct Pack {
    number: u32,
    metadata_records: Vec<Staged>,
}

/// One changed secret of a large change.
#[derive(Clone)]
pub(in crate::vault) struct Staged {
    /// The secret as it will be.
    pub(in crate::vault) after: Arc<Secret>,
    /// Whether its value is a new one.
    has_own: bool,
    /// The value that it no longer has: in a box, since most of a large change is new.
    superseded: Option<Box<Tombstone>>,
}

/// A head in a pack as it is encoded (postcard).
#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    record: u64,
    head: &'a [u8],
    own: Option<Tombstone>,
    superseded: Option<Tombstone>,
}

impl Staged {
    pub(in crate::vault) fn new(before: Option<&Secret>, after: Arc<Secret>) -> Self {
        let is_new = |old: &Secret| !Arc::ptr_eq(&old.value, &after.value);
        let superseded =
            before.filter(|old| is_new(old)).map(|old| Box::new(old.value.tombstone()));
        let has_own = before.is_none_or(is_new);
        Self { after, has_own, superseded }
    }

    /// Its value, if that is a new one.
    fn own(&self) -> Option<Tombstone> {
        self.has_own.then(|| self.after.value.tombstone())
    }

    fn encode(&self) -> Vec<u8> {
        let head = encode_metadata(&self.after);
        let entry = Entry {
            record: self.after.record().0,
            head: head.expose(),
            own: self.own(),
            superseded: self.superseded.as_deref().copied(),
        };
        postcard::to_stdvec(&entry).expect("bytes and numbers always encode")
    }
}

/// Stores a large change ahead. Runs on any thread; the writer goes on between the slices.
pub(in crate::vault) struct Stager<'a> {
    records: &'a Records,
    journal: Journal,
    metadata_records: Vec<Staged>,
    encoded: Vec<u8>,
    values: Batch,
}

impl<'a> Stager<'a> {
    /// `id` is a number that no other journal has.
    pub(in crate::vault) fn new(records: &'a Records, id: u64) -> Self {
        Self {
            records,
            journal: Journal { id, packs: Vec::new(), strays: Vec::new() },
            metadata_records: Vec::new(),
            encoded: Vec::new(),
            values: Batch::new(),
        }
    }

    /// Adds a changed secret and, through `seal`, its value's records.
    ///
    /// # Errors
    /// The store failed; the error is to be passed to [`Stager::finish`].
    pub(in crate::vault) fn add(
        &mut self,
        head: Staged,
        seal: impl FnOnce(&mut Batch),
    ) -> Result<(), StoreError> {
        let entry = head.encode();
        if self.encoded.len() + entry.len() > PACK_BYTES || self.values.bytes() > SLICE_BYTES {
            self.close_pack()?;
        }
        self.encoded.extend(entry);
        self.metadata_records.push(head);
        seal(&mut self.values);
        Ok(())
    }

    /// The journal, all of it durable; if adding to it went wrong, what was stored is removed.
    ///
    /// # Errors
    /// The store failed.
    pub(in crate::vault) fn finish(
        mut self,
        added: Result<(), StoreError>,
    ) -> Result<Journal, StoreError> {
        match added.and_then(|()| self.close_pack()) {
            Ok(()) => Ok(self.journal),
            Err(error) => {
                self.journal.abandon(self.records);
                Err(error)
            }
        }
    }

    fn close_pack(&mut self) -> Result<(), StoreError> {
        if self.metadata_records.is_empty() {
            return Ok(());
        }
        let number = u32::try_from(self.journal.packs.len()).expect("a file has few packs");
        // Noted before it is tried, so that abandoning the journal removes the pack too.
        self.metadata_records.shrink_to_fit();
        self.journal
            .packs
            .push(Pack { number, metadata_records: std::mem::take(&mut self.metadata_records) });
        let address = Address::pack(self.journal.id, number);
        let mut batch = std::mem::take(&mut self.values);
        batch.put(address.as_bytes(), self.records.seal(&address, &self.encoded));
        self.encoded.clear();
        self.records.commit(&batch)
    }
}

impl Journal {
    /// Adds to `batch` what makes the journal valid, without the secrets of `left_out`, which are
    /// not what they were when they were staged.
    pub(in crate::vault) fn hold(
        &mut self,
        records: &Records,
        left_out: &HashSet<RecordId>,
        batch: &mut Batch,
    ) {
        let mark = Address::holds(self.id);
        batch.put(mark.as_bytes(), records.seal(&mark, b""));
        let stays = |head: &Staged| !left_out.contains(&head.after.record());
        for pack in &mut self.packs {
            if pack.metadata_records.iter().all(stays) {
                continue;
            }
            let (kept, left_out): (Vec<_>, Vec<_>) =
                pack.metadata_records.drain(..).partition(stays);
            pack.metadata_records = kept;
            self.strays.extend(left_out.iter().filter_map(Staged::own));
            let encoded: Vec<u8> = pack.metadata_records.iter().flat_map(Staged::encode).collect();
            let address = Address::pack(self.id, pack.number);
            batch.put(address.as_bytes(), records.seal(&address, &encoded));
        }
    }

    /// Removes what was stored of a journal that is not to be valid. What cannot be removed now is
    /// removed at the next start.
    pub(in crate::vault) fn abandon(self, records: &Records) {
        let mut batch = Batch::new();
        self.strays.iter().for_each(|stray| stray.remove(&mut batch));
        for pack in self.packs {
            pack.metadata_records
                .iter()
                .filter_map(Staged::own)
                .for_each(|own| own.remove(&mut batch));
            batch.remove(Address::pack(self.id, pack.number).as_bytes());
            if let Err(error) = records.commit(&batch) {
                let journal = self.id;
                tracing::warn!(%error, journal, "a refused file is still stored, sealed; it is removed at the next start");
                return;
            }
            batch = Batch::new();
        }
    }
}

impl Shared {
    /// Whether heads are still on their way to their places. On the writer thread this stays true
    /// until the plan's group is stored.
    pub(in crate::vault) fn is_settling(&self) -> bool {
        self.settling.load(Ordering::Relaxed)
    }
}

/// Heads of valid journals that are not in their places yet. The writer alone has it.
#[derive(Default)]
pub(in crate::vault) struct Pending {
    packs: BTreeMap<(u64, u32), Pack>,
    by_record: HashMap<RecordId, (u64, u32)>,
}

impl Pending {
    pub(in crate::vault) fn add(&mut self, journal: Journal) {
        for pack in journal.packs {
            let place = (journal.id, pack.number);
            self.by_record
                .extend(pack.metadata_records.iter().map(|head| (head.after.record(), place)));
            self.packs.insert(place, pack);
        }
    }

    pub(in crate::vault) fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Puts the heads of one pack in their places.
    ///
    /// # Errors
    /// The store failed; they stay pending.
    pub(in crate::vault) fn settle_one(&mut self, records: &Records) -> Result<(), StoreError> {
        match self.packs.keys().next() {
            Some(&place) => self.settle(records, place),
            None => Ok(()),
        }
    }

    /// Puts the head of that record in its place, if it is pending: nothing newer may be stored
    /// there before.
    ///
    /// # Errors
    /// As [`Pending::settle_one`].
    pub(in crate::vault) fn settle_record(
        &mut self,
        records: &Records,
        record: RecordId,
    ) -> Result<(), StoreError> {
        match self.by_record.get(&record) {
            Some(&place) => self.settle(records, place),
            None => Ok(()),
        }
    }

    fn settle(&mut self, records: &Records, place: (u64, u32)) -> Result<(), StoreError> {
        let Some(pack) = self.packs.get(&place) else { return Ok(()) };
        let (journal, number) = place;
        let mut batch = Batch::new();
        for head in &pack.metadata_records {
            let (address, sealed) = records.seal_metadata(&head.after);
            batch.put(address.as_bytes(), sealed);
            head.superseded.iter().for_each(|old| old.mark(&mut batch));
        }
        batch.remove(Address::pack(journal, number).as_bytes());
        if self.packs.range((journal, 0)..=(journal, u32::MAX)).count() == 1 {
            batch.remove(Address::holds(journal).as_bytes());
        }
        records.commit(&batch)?;
        if let Some(pack) = self.packs.remove(&place) {
            for head in &pack.metadata_records {
                self.by_record.remove(&head.after.record());
            }
        }
        Ok(())
    }
}

/// Finishes valid journals that a crash left, and removes the others.
pub(in crate::vault) fn recover(records: &Records) -> Result<(), OpenVaultError> {
    let mut valid = HashSet::new();
    let mut packs = Vec::new();
    records.scan(&Address::JOURNALS, &mut |address, _| {
        valid.insert(address[1..].to_vec());
        ControlFlow::Continue(())
    })?;
    records.scan(&Address::PACKS, &mut |address, _| {
        packs.push(address.to_vec());
        ControlFlow::Continue(())
    })?;
    for pack in packs {
        let journal = pack.get(1..9).ok_or(OpenVaultError::BrokenRecord)?;
        let batch = recovery_of(records, &pack, valid.contains(journal))?;
        records.commit(&batch)?;
    }
    let mut batch = Batch::new();
    valid.iter().for_each(|journal| batch.remove(&[b"c", journal.as_slice()].concat()));
    Ok(records.commit(&batch)?)
}

fn recovery_of(records: &Records, pack: &[u8], valid: bool) -> Result<Batch, OpenVaultError> {
    let mut batch = Batch::new();
    batch.remove(pack);
    let address = Address::parse(pack).ok_or(OpenVaultError::BrokenRecord)?;
    let Some(sealed) = records.read_raw(&address)? else { return Ok(batch) };
    unpack(records, &address, &sealed, &mut |head| {
        if valid {
            let place = Address::metadata(head.record);
            batch.put(place.as_bytes(), records.seal(&place, head.encoded));
            head.superseded.into_iter().for_each(|old| old.mark(&mut batch));
        } else {
            head.own.into_iter().for_each(|own| own.remove(&mut batch));
        }
        Ok(())
    })?;
    Ok(batch)
}

/// One head in a pack.
pub(in crate::vault) struct Packed<'a> {
    pub(in crate::vault) record: RecordId,
    /// As `encode_head` made it.
    pub(in crate::vault) encoded: &'a [u8],
    /// Its value, if that is a new one.
    pub(in crate::vault) own: Option<Tombstone>,
    /// The value that it no longer has.
    pub(in crate::vault) superseded: Option<Tombstone>,
}

/// Shows every head in a pack.
pub(in crate::vault) fn unpack(
    records: &Records,
    address: &Address,
    sealed: &[u8],
    show: &mut dyn FnMut(Packed<'_>) -> Result<(), OpenVaultError>,
) -> Result<(), OpenVaultError> {
    let encoded = records.unseal(address, sealed).map_err(OpenVaultError::Unseal)?;
    let mut rest = encoded.expose();
    while !rest.is_empty() {
        let entry: Entry<'_>;
        (entry, rest) =
            postcard::take_from_bytes(rest).map_err(|_| OpenVaultError::BrokenRecord)?;
        if !entry.own.iter().chain(&entry.superseded).all(Tombstone::is_possible) {
            return Err(OpenVaultError::BrokenRecord);
        }
        show(Packed {
            record: RecordId(entry.record),
            encoded: entry.head,
            own: entry.own,
            superseded: entry.superseded,
        })?;
    }
    Ok(())
}
