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
        Some(first) => Ok(Some(join(database, address, &first)?)),
        None => Ok(None),
    }
}

/// Up to `limit` records in order of address whose address starts with `prefix` and is after
/// `after`.
#[allow(clippy::type_complexity)] // address and record, used once
pub(super) fn read_some(
    database: &Db,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ReadError> {
    let start = match after {
        Some(address) => Bound::Excluded(head(address)),
        None => Bound::Included(head(prefix)),
    };
    let mut found = Vec::new();
    for entry in database.range((start, Bound::Excluded(vec![TAIL]))).take(limit) {
        let (place, first) = entry?;
        let address = &place[1..];
        if !address.starts_with(prefix) {
            break;
        }
        found.push((address.to_vec(), join(database, address, &first)?));
    }
    Ok(found)
}

/// The batch as sled entries of at most `piece` bytes and their addresses, with the pieces of
/// overwritten and removed records taken away.
pub(super) fn plan(
    database: &Db,
    batch: &Batch,
    piece: usize,
) -> Result<(::sled::Batch, Room), ReadError> {
    let mut plan = ::sled::Batch::default();
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
    Ok((plan, room))
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

fn join(database: &Db, address: &[u8], first: &IVec) -> Result<Vec<u8>, ReadError> {
    let (&tails, first) = first.split_first().ok_or(ReadError::Missing)?;
    let mut sealed = first.to_vec();
    for number in 0..tails {
        sealed.extend_from_slice(&database.get(tail(address, number))?.ok_or(ReadError::Missing)?);
    }
    Ok(sealed)
}

fn head(address: &[u8]) -> Vec<u8> {
    [&[HEAD], address].concat()
}

fn tail(address: &[u8], number: u8) -> Vec<u8> {
    [&[TAIL], address, &[number]].concat()
}
