//! Changes that are committed together.

use super::{MAX_ADDRESS_BYTES, MAX_RECORD_BYTES, StoreError};

/// Puts and removes, applied in the order in which they were added, all or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
    bytes: usize,
    uses_reserve: bool,
}

/// One change of a [`Batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Writes a record, over the one that may be there.
    Put {
        /// Where.
        address: Vec<u8>,
        /// The ciphertext.
        sealed: Vec<u8>,
    },
    /// Removes a record; nothing happens if there is none.
    Remove {
        /// Where.
        address: Vec<u8>,
    },
}

impl Batch {
    /// A batch without changes.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds: write `sealed` at `address`.
    pub fn put(&mut self, address: &[u8], sealed: Vec<u8>) {
        self.bytes += address.len() + sealed.len();
        self.changes.push(Change::Put { address: address.to_vec(), sealed });
    }

    /// Adds: remove what is at `address`.
    pub fn remove(&mut self, address: &[u8]) {
        self.bytes += address.len();
        self.changes.push(Change::Remove { address: address.to_vec() });
    }

    /// Adds all changes of `other` after the present ones.
    pub fn append(&mut self, mut other: Batch) {
        self.bytes += other.bytes;
        self.changes.append(&mut other.changes);
    }

    /// It removes something, even if it writes more than it frees: it may use the room that is kept for
    /// that.
    pub fn use_reserve(&mut self) {
        self.uses_reserve = true;
    }

    /// Whether it may use the room that is kept for removals.
    pub(super) fn uses_reserve(&self) -> bool {
        self.uses_reserve
    }

    /// The bytes of all addresses and records in it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Refuses a batch with an address or a record over the limits.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        for change in &self.changes {
            let (address, bytes) = match change {
                Change::Put { address, sealed } => (address, sealed.len()),
                Change::Remove { address } => (address, 0),
            };
            if address.len() > MAX_ADDRESS_BYTES {
                return Err(StoreError::AddressTooLong { bytes: address.len() });
            }
            if bytes > MAX_RECORD_BYTES {
                return Err(StoreError::TooLarge { bytes });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_keeps_order_and_counts() {
        let mut first = Batch::new();
        assert!(first.is_empty());
        first.put(b"a", vec![1, 2]);
        let mut second = Batch::new();
        second.remove(b"bc");
        first.append(second);
        assert_eq!((first.len(), first.bytes()), (2, 5));
        assert_eq!(first.changes()[1], Change::Remove { address: b"bc".to_vec() });
    }

    #[test]
    fn only_what_is_over_the_limits_is_refused() {
        let mut batch = Batch::new();
        batch.put(&[0; MAX_ADDRESS_BYTES], vec![0; MAX_RECORD_BYTES]);
        assert!(batch.check().is_ok());
        let mut long = batch.clone();
        long.remove(&[0; MAX_ADDRESS_BYTES + 1]);
        assert!(matches!(long.check(), Err(StoreError::AddressTooLong { bytes: 81 })));
        batch.put(b"b", vec![0; MAX_RECORD_BYTES + 1]);
        assert!(
            matches!(batch.check(), Err(StoreError::TooLarge { bytes }) if bytes == MAX_RECORD_BYTES + 1)
        );
    }
}
