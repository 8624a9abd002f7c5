//! Records as sled entries that stay small.
//!
//! sled splits a page by the number of its entries (16), not by their size, and puts a page over a
//! quarter of a segment into a file of its own, which it never gives back. So a record is cut into
//! pieces of at most 1/128 of a segment: a page of 24 of them still fits.
//!
//! The first piece is at `0 address` and begins with the number of the others, which are at
//! `1 address number`. A record's pieces change only together, in one sled batch.

use std::collections::BTreeMap;
use std::ops::Bound;

use ::sled::{Db, IVec};

use super::{Batch, Change};

const HEAD: u8 = 0;
const TAIL: u8 = 1;

/// What sled reads back may be damaged.
#[derive(Debug)]
pub(super) enum ReadError {
    Sled(::sled::Error),
    /// A piece that the first one announced is not there.
    Missing,
}

impl From<::sled::Error> for ReadError {
    fn from(error: ::sled::Error) -> ReadError {
        ReadError::Sled(error)
    }
}

/// The record at `address`.
pub(super) fn read(database: &Db, address: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
    match database.get(head(address))? {
        Some(first) => {
            let mut sealed = Vec::new();
            join(database, address, &first, &mut sealed)?;
            Ok(Some(sealed))
        }
        None => Ok(None),
    }
}

/// Records with their addresses, in one buffer: a scan of many allocates nothing for each.
#[derive(Default)]
pub(super) struct Step {
    bytes: Vec<u8>,
    /// Where in `bytes` an address begins, its record begins, and that ends.
    places: Vec<[usize; 3]>,
}

impl Step {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Address and record.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        let parts = |&[address, record, end]: &[usize; 3]| {
            (&self.bytes[address..record], &self.bytes[record..end])
        };
        self.places.iter().map(parts)
    }
}

/// Up to `limit` records in order of address whose address starts with `prefix`, from `start` on.
pub(super) fn read_some(
    database: &Db,
    prefix: &[u8],
    start: Bound<&[u8]>,
    limit: usize,
) -> Result<Step, ReadError> {
    let range = (start.map(head), Bound::Excluded(vec![TAIL]));
    let mut step = Step::default();
    for entry in database.range(range).take(limit) {
        let (place, first) = entry?;
        let address = &place[1..];
        if !address.starts_with(prefix) {
            break;
        }
        let start = step.bytes.len();
        step.bytes.extend_from_slice(address);
        let record = step.bytes.len();
        join(database, address, &first, &mut step.bytes)?;
        step.places.push([start, record, step.bytes.len()]);
    }
    Ok(step)
}

/// A batch as sled entries.
#[derive(Default)]
pub(super) struct Plan {
    entries: ::sled::Batch,
    /// Where each of them is.
    places: Vec<IVec>,
    pub(super) room: Room,
}

impl Plan {
    fn insert(&mut self, place: Vec<u8>, piece: impl Into<IVec>) {
        let place = IVec::from(place);
        self.places.push(place.clone());
        self.entries.insert(place, piece);
    }

    fn remove(&mut self, place: Vec<u8>) {
        let place = IVec::from(place);
        self.places.push(place.clone());
        self.entries.remove(place);
    }

    /// Changes the database, all or nothing. [`settle`] what was changed then.
    pub(super) fn apply(self, database: &Db) -> ::sled::Result<Vec<IVec>> {
        database.apply_batch(self.entries).map(|()| self.places)
    }
}

/// Has sled split and merge pages at these places. Sled does that at the next access to a page. Without this call,
/// that could be the access of a reader, for which no disk space was freed.
pub(super) fn settle(database: &Db, places: &[IVec]) -> ::sled::Result<()> {
    places.iter().try_for_each(|place| database.get(place).map(drop))
}

/// The batch as sled entries of at most `piece` bytes and their addresses, with the pieces of
/// overwritten and removed records taken away.
pub(super) fn plan(database: &Db, batch: &Batch, piece: usize) -> Result<Plan, ReadError> {
    let mut plan = Plan::default();
    let mut room = Room::default();
    for (address, sealed) in last_changes(batch) {
        let old = database.get(head(address))?;
        let old_pieces = old.as_deref().and_then(|first| first.first().copied()).unwrap_or(0);
        room.freed += old.map_or(0, |first| address.len() + first.len());
        // All but the last, which may be short.
        room.freed += usize::from(old_pieces).saturating_sub(1) * (address.len() + piece);
        let new_pieces = match sealed {
            Some(sealed) => {
                let tails = sealed.len().saturating_sub(1) / piece;
                let tails = u8::try_from(tails)
                    .expect("a record is at most 32 KiB, a piece at least 1 KiB");
                let (first, rest) = sealed.split_at(sealed.len().min(piece));
                plan.insert(head(address), [&[tails], first].concat());
                for (number, part) in (0..tails).zip(rest.chunks(piece)) {
                    plan.insert(tail(address, number), part);
                }
                room.written +=
                    sealed.len() + (usize::from(tails) + 1) * (address.len() + 2 + ENTRY_BYTES);
                tails
            }
            None => {
                plan.remove(head(address));
                0
            }
        };
        (new_pieces..old_pieces).for_each(|number| plan.remove(tail(address, number)));
    }
    plan.room = room;
    Ok(plan)
}

/// Whether the store holds exactly what the batch leaves behind.
pub(super) fn holds(database: &Db, batch: &Batch) -> Result<bool, ReadError> {
    for (address, sealed) in last_changes(batch) {
        if read(database, address)?.as_deref() != sealed {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many bytes all entries take.
pub(super) fn live_bytes(database: &Db) -> Result<u64, ReadError> {
    database.iter().try_fold(0, |sum, entry| {
        let (place, piece) = entry?;
        Ok(sum + (place.len() + piece.len() + ENTRY_BYTES) as u64)
    })
}

/// What sled adds to an entry, about.
const ENTRY_BYTES: usize = 8;

/// What a batch does to the space that records take, in bytes: writes at most, frees at least.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Room {
    pub(super) written: usize,
    pub(super) freed: usize,
}

/// Only the last change of an address counts.
fn last_changes(batch: &Batch) -> BTreeMap<&[u8], Option<&[u8]>> {
    let changes = batch.changes().iter().map(|change| match change {
        Change::Put { address, sealed } => (address.as_slice(), Some(sealed.as_slice())),
        Change::Remove { address } => (address.as_slice(), None),
    });
    changes.collect()
}

/// Adds the pieces of a record to `sealed`.
fn join(
    database: &Db,
    address: &[u8],
    first: &IVec,
    sealed: &mut Vec<u8>,
) -> Result<(), ReadError> {
    let (&tails, first) = first.split_first().ok_or(ReadError::Missing)?;
    sealed.extend_from_slice(first);
    for number in 0..tails {
        sealed.extend_from_slice(&database.get(tail(address, number))?.ok_or(ReadError::Missing)?);
    }
    Ok(())
}

fn head(address: &[u8]) -> Vec<u8> {
    [&[HEAD], address].concat()
}

fn tail(address: &[u8], number: u8) -> Vec<u8> {
    [&[TAIL], address, &[number]].concat()
}
