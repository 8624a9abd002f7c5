//! The addresses of records, and what an address says about its record.

use super::secret::RecordId;
use crate::vault::NODE_LIMIT;

/// The address of a record.
pub(in crate::vault) struct Address {
    bytes: [u8; 19],
    length: usize,
}

impl Address {
    pub(in crate::vault) const META: Self = Self::single(b'm');
    pub(in crate::vault) const KEYS: Self = Self::single(b'k');
    pub(in crate::vault) const HEADS: Self = Self::single(b'h');
    pub(in crate::vault) const AUDIT: Self = Self::single(b'a');
    pub(in crate::vault) const SUM: Self = Self::single(b's');
    pub(in crate::vault) const GARBAGE: Self = Self::single(b'g');
    pub(in crate::vault) const PACKS: Self = Self::single(b'j');
    pub(in crate::vault) const JOURNALS: Self = Self::single(b'c');
    pub(in crate::vault) const REPLY_CACHE: Self = Self::single(b'r');
    pub(in crate::vault) const REPLICA: Self = Self::single(b'e');

    const fn single(kind: u8) -> Self {
        let mut bytes = [0; 19];
        bytes[0] = kind;
        Self { bytes, length: 1 }
    }

    fn with(mut self, number: &[u8]) -> Self {
        self.bytes[self.length..self.length + number.len()].copy_from_slice(number);
        self.length += number.len();
        self
    }

    pub(in crate::vault) fn metadata(record: RecordId) -> Self {
        Self::HEADS.with(&record.0.to_be_bytes())
    }

    /// A value is stored under its node id, which no other version of any secret has: it can be stored before it is
    /// decided which secret gets it.
    pub(in crate::vault) fn chunk(node: u64, chunk: u16) -> Self {
        Self::single(b'v').with(&node.to_be_bytes()).with(&chunk.to_be_bytes())
    }

    pub(in crate::vault) fn garbage(node: u64) -> Self {
        Self::GARBAGE.with(&node.to_be_bytes())
    }

    pub(in crate::vault) fn pack(journal: u64, number: u32) -> Self {
        Self::PACKS.with(&journal.to_be_bytes()).with(&number.to_be_bytes())
    }

    pub(in crate::vault) fn holds(journal: u64) -> Self {
        Self::JOURNALS.with(&journal.to_be_bytes())
    }

    pub(in crate::vault) fn cached_reply(number: u64) -> Self {
        Self::REPLY_CACHE.with(&number.to_be_bytes())
    }

    pub(in crate::vault) fn replicated(record: RecordId) -> Self {
        Self::REPLICA.with(&record.0.to_be_bytes())
    }

    pub(in crate::vault) fn parse_replicated(address: &[u8]) -> Option<RecordId> {
        let number = address.strip_prefix(b"e")?.try_into().ok()?;
        Some(RecordId(u64::from_be_bytes(number)))
    }

    /// Not in the store: a page of a buffer that lies in memory.
    pub(in crate::vault) fn aside(node: u64, page: u64) -> Self {
        Self::single(b'b').with(&node.to_be_bytes()).with(&page.to_be_bytes())
    }

    /// An address as it was read from the store.
    pub(in crate::vault) fn parse(address: &[u8]) -> Option<Self> {
        let mut bytes = [0; 19];
        bytes.get_mut(..address.len())?.copy_from_slice(address);
        Some(Self { bytes, length: address.len() })
    }

    pub(in crate::vault) fn parse_cached_reply(address: &[u8]) -> Option<u64> {
        let number = u64::from_be_bytes(address.strip_prefix(b"r")?.try_into().ok()?);
        // A larger number is not one that was written here: there must be numbers after it.
        (number < NODE_LIMIT).then_some(number)
    }

    pub(in crate::vault) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The kind of record at an address, as far as re-sealing is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::vault) enum RecordKind {
    /// Not sealed; or a cached reply, which is of use for seconds, and passed over when its key is gone.
    Clear,
    Metadata(RecordId),
    /// Of the value with that node number.
    Chunk(u64),
    /// On its way: it goes by itself.
    Journal,
    /// Sealed, and never changed but by its own plans.
    Other,
}

impl RecordKind {
    pub(in crate::vault) fn of(address: &[u8]) -> Self {
        let number = || Some(u64::from_be_bytes(address.get(1..9)?.try_into().ok()?));
        match (address.first(), number()) {
            (Some(b'm' | b'g' | b'r' | b'e'), _) => Self::Clear,
            (Some(b'h'), Some(record)) => Self::Metadata(RecordId(record)),
            (Some(b'v'), Some(node)) => Self::Chunk(node),
            (Some(b'j' | b'c'), _) => Self::Journal,
            _ => Self::Other,
        }
    }
}
