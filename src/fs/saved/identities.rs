//! What the end of the saved state holds for the next process: the text of the last identities file that was
//! good, and the counts of decisions that are not in the audit log yet.

use std::io;
use std::os::unix::fs::FileExt;

use crate::audit::CountMemory;
use crate::identity::{Keeper, MAX_IDENTITIES_BYTES};

use super::{BLOCK_BYTES, SavedState};

/// Number, length and checksum (CRC-32) of a copy, before its text.
const HEADER: usize = 8 + 4 + 4;
/// A copy begins with a page.
const COPY_BYTES: u64 = (HEADER + MAX_IDENTITIES_BYTES).next_multiple_of(BLOCK_BYTES) as u64;
/// A process that is killed while it writes one leaves the other.
const COPIES: u64 = 2;
/// Where the counts begin: with a page.
const COUNTS_AT: u64 = SavedState::END + COPIES * COPY_BYTES;
/// Where they end.
pub(super) const COUNTS_END: u64 = COUNTS_AT + CountMemory::BYTES;

impl Keeper for SavedState {
    fn keep(&self, text: &[u8]) -> io::Result<()> {
        let Some(saved_state) = self.file() else { return Ok(()) };
        let newest = self.newest();
        if newest.as_ref().is_some_and(|newest| newest.text == text) {
            return Ok(());
        }
        let number = newest.map_or(1, |newest| newest.number + 1);
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        let mut copy = [&number.to_le_bytes()[..], &length.to_le_bytes(), &[0; 4], text].concat();
        let sum = checksum(number, text);
        copy[12..HEADER].copy_from_slice(&sum.to_le_bytes());
        saved_state.write_all_at(&copy, place(number))
    }

    fn kept(&self) -> Option<Vec<u8>> {
        self.newest().map(|newest| newest.text)
    }
}

impl SavedState {
    /// Memory for the counts of the audit log; nothing if there is no saved state.
    ///
    /// # Errors
    /// There is no memory.
    pub fn audit_counts(&self) -> io::Result<Option<CountMemory>> {
        self.file().map(|file| CountMemory::shared(file, COUNTS_AT)).transpose()
    }
}

struct Copy {
    number: u64,
    text: Vec<u8>,
}

impl SavedState {
    fn newest(&self) -> Option<Copy> {
        (0..COPIES).filter_map(|copy| self.copy(place(copy))).max_by_key(|copy| copy.number)
    }

    /// The copy at that place, if it is whole.
    fn copy(&self, place: u64) -> Option<Copy> {
        let file = self.file()?;
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, place).ok()?;
        let (number, rest) = header.split_first_chunk::<8>()?;
        let (length, sum) = rest.split_first_chunk::<4>()?;
        let number = u64::from_le_bytes(*number);
        let length = u32::from_le_bytes(*length) as usize;
        if number == 0 || length > MAX_IDENTITIES_BYTES {
            return None;
        }
        let mut text = vec![0; length];
        file.read_exact_at(&mut text, place + HEADER as u64).ok()?;
        (checksum(number, &text).to_le_bytes() == *sum).then_some(Copy { number, text })
    }
}

fn place(number: u64) -> u64 {
    SavedState::END + number % COPIES * COPY_BYTES
}

fn checksum(number: u64, text: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(text);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_copy_counts() {
        let file = tempfile::tempfile().unwrap();
        let saved_state = || SavedState::new(file.try_clone().unwrap()).unwrap();
        assert_eq!(saved_state().kept(), None);
        for text in ["one", "two", "two", "", "four"] {
            saved_state().keep(text.as_bytes()).unwrap();
            assert_eq!(saved_state().kept().as_deref(), Some(text.as_bytes()));
        }
        // Its writer was killed: some of it is there.
        file.write_all_at(b"5", place(4) + HEADER as u64).unwrap();
        assert_eq!(saved_state().kept().as_deref(), Some(&b""[..]));
        let long = vec![b'x'; MAX_IDENTITIES_BYTES];
        saved_state().keep(&long).unwrap();
        assert!(saved_state().kept() == Some(long));
    }

    #[test]
    fn nothing_is_kept_where_there_is_no_saved_state() {
        SavedState::default().keep(b"text").unwrap();
        assert_eq!(SavedState::default().kept(), None);
    }
}
