//! One open file of `.encrypt`: a value goes in, its sealed document comes out.
//!
//! What a descriptor's position means: a write goes on from where the value that is being written
//! ends, and the first one after an open or a read starts a value, wherever it is. The first read
//! that follows a value seals it. A read where the value ended (`cat <&3` after `printf v >&3`)
//! starts the document there; a read before that (`lseek`, `pread`) starts it at 0.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::{Key, MAX_VALUE_BYTES, Plaintext};

use crate::fs::budget::{Charge, OBJECT_BYTES, buffer_bytes};
use crate::fs::error::FsError;

/// What is written into an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fs) enum Written {
    /// A plaintext.
    Value,
    /// The text of a sealed value.
    SealedValue,
}

impl Written {
    /// The most bytes of it.
    fn limit(self) -> usize {
        match self {
            Self::Value => MAX_VALUE_BYTES,
            // Base64 of the value and of what an envelope has around it.
            Self::SealedValue => (MAX_VALUE_BYTES + 4_096).div_ceil(3) * 4,
        }
    }
}

/// The state of one open file, private to its descriptor. Its lock is held while the value is sealed; only
/// the descriptor's own users wait for that.
pub(in crate::fs) struct EncryptSession {
    key: Key,
    written: Written,
    state: Mutex<Charged>,
}

struct Charged {
    state: State,
    /// For the file and what is in its state.
    charge: Charge,
}

enum State {
    /// A value that begins at the position `start`.
    Writing { start: u64, value: Plaintext, cut_off: bool },
    /// A document that begins at the position `start`.
    Reading { start: u64, document: Arc<Plaintext> },
}

/// Some of a document.
pub(in crate::fs) struct Excerpt {
    pub(in crate::fs) document: Arc<Plaintext>,
    pub(in crate::fs) offset: u64,
}

impl EncryptSession {
    /// What an open file takes without its bytes.
    pub(in crate::fs) const BYTES: usize = 2 * OBJECT_BYTES;

    /// `charge` is for [`Self::BYTES`].
    pub(in crate::fs) fn new(key: Key, written: Written, charge: Charge) -> Self {
        Self { key, written, state: Mutex::new(Charged { state: State::nothing(0), charge }) }
    }

    /// Where the file ends.
    pub(in crate::fs) fn end(&self) -> u64 {
        match &self.state.lock().state {
            State::Writing { start, value, .. } => start + value.len() as u64,
            State::Reading { start, document } => start + document.len() as u64,
        }
    }

    /// Takes some of a value; nothing is allocated if it would be over the limit.
    pub(in crate::fs) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), FsError> {
        let Charged { state, charge } = &mut *self.state.lock();
        let continues = match state {
            State::Writing { start, value, .. } => !value.is_empty() && offset >= *start,
            State::Reading { .. } => false,
        };
        if !continues {
            *state = State::nothing(offset);
            charge.shrink(Self::BYTES);
        }
        let State::Writing { start, value, cut_off } = state else { return Ok(()) };
        let within = self.within_limit(offset - *start, bytes.len()).and_then(|start| {
            self.charge_up_to(charge, value.len().max(start + bytes.len()))?;
            Ok(start)
        });
        // What did fit must not be sealed as if it were all.
        *cut_off |= within.is_err();
        value.write_at(within?, bytes);
        Ok(())
    }

    /// Cuts or extends the value; after a read, that of the next one.
    pub(in crate::fs) fn resize(&self, size: u64) -> Result<(), FsError> {
        let size = self.within_limit(size, 0)?;
        let Charged { state, charge } = &mut *self.state.lock();
        if size == 0 || matches!(state, State::Reading { .. }) {
            *state = State::nothing(0);
            charge.shrink(Self::BYTES);
        }
        self.charge_up_to(charge, size)?;
        if let State::Writing { value, .. } = state {
            value.resize(size);
        }
        Ok(())
    }

    /// The document from `offset` on. `seal` makes it of a key and what was written.
    pub(in crate::fs) fn read(
        &self,
        offset: u64,
        seal: impl FnOnce(&Key, Written, &Plaintext) -> Result<String, FsError>,
    ) -> Result<Excerpt, FsError> {
        let Charged { state, charge } = &mut *self.state.lock();
        if let State::Writing { start, value, cut_off } = state {
            if *cut_off {
                return Err(FsError::TooLarge(self.path()));
            }
            // Base64 of the value, and the rest of the document.
            charge.resize(Self::BYTES + 2 * value.len() + 2 * OBJECT_BYTES, &self.path())?;
            let end = *start + value.len() as u64;
            let document =
                Arc::new(Plaintext::from(seal(&self.key, self.written, value)?.into_bytes()));
            *state = State::Reading { start: end, document };
        }
        match state {
            State::Reading { start, document } => {
                if offset < *start {
                    *start = 0;
                }
                Ok(Excerpt { document: Arc::clone(document), offset: offset - *start })
            }
            State::Writing { .. } => unreachable!("it was sealed just now"),
        }
    }

    /// Where a write or a size begins in memory, if its end is within the limit.
    fn within_limit(&self, offset: u64, length: usize) -> Result<usize, FsError> {
        let limit = self.written.limit();
        usize::try_from(offset)
            .ok()
            .filter(|start| start.checked_add(length).is_some_and(|end| end <= limit))
            .ok_or_else(|| FsError::TooLarge(self.path()))
    }

    fn charge_up_to(&self, charge: &mut Charge, end: usize) -> Result<(), FsError> {
        let bytes = Self::BYTES + buffer_bytes(end);
        if bytes > charge.bytes() { charge.resize(bytes, &self.path()) } else { Ok(()) }
    }

    fn path(&self) -> String {
        format!(".encrypt/{}", self.key)
    }
}

impl State {
    fn nothing(start: u64) -> Self {
        Self::Writing { start, value: Plaintext::default(), cut_off: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::budget::{Account, Budget, MemoryLimits};

    fn sealing() -> EncryptSession {
        let budget = Budget::new(MemoryLimits::default());
        let charge = budget.charge(Account::User(7), EncryptSession::BYTES, "").unwrap();
        EncryptSession::new(Key::parse("a/K").unwrap(), Written::Value, charge)
    }

    /// A "document" that shows the value.
    fn seal(key: &Key, _: Written, value: &Plaintext) -> Result<String, FsError> {
        Ok(format!("{key}={};", String::from_utf8_lossy(value.expose())))
    }

    fn read(sealing: &EncryptSession, offset: u64) -> String {
        let excerpt = sealing.read(offset, seal).unwrap();
        let bytes = excerpt.document.slice(excerpt.offset, usize::MAX);
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn the_document_is_where_the_value_ended_and_at_0() {
        let file = sealing();
        file.write(0, b"se").unwrap();
        file.write(2, b"cret").unwrap();
        assert_eq!(file.end(), 6);
        assert_eq!(read(&file, 6), "a/K=secret;", "as `cat` reads");
        assert_eq!(file.end(), 17);
        assert_eq!(read(&file, 10), "secret;", "in pieces");
        assert_eq!(read(&file, 17), "", "and then it ends");
        assert_eq!(read(&file, 0), "a/K=secret;", "after a seek");
        assert_eq!(read(&file, 4), "secret;");
        assert_eq!(read(&file, 11), "");
        assert_eq!(read(&file, u64::MAX), "");
    }

    #[test]
    fn from_0_in_pieces_across_where_the_value_ended() {
        let file = sealing();
        file.write(0, b"v").unwrap();
        assert_eq!(read(&file, 0), "a/K=v;");
        assert_eq!(read(&file, 1), "/K=v;");
    }

    #[test]
    fn a_write_after_a_read_starts_anew() {
        let file = sealing();
        file.write(0, b"one").unwrap();
        assert_eq!(read(&file, 3), "a/K=one;");
        file.write(11, b"tw").unwrap();
        file.write(13, b"o").unwrap();
        assert_eq!(read(&file, 14), "a/K=two;");
        file.write(0, b"three").unwrap();
        assert_eq!(read(&file, 0), "a/K=three;");
        file.write(5, b"four").unwrap();
        assert_eq!(read(&file, 9), "a/K=four;", "wherever it is");
    }

    #[test]
    fn what_comes_before_the_start_starts_anew() {
        let file = sealing();
        file.write(100, b"junk").unwrap();
        file.write(0, b"value").unwrap();
        assert_eq!(read(&file, 0), "a/K=value;");
    }

    #[test]
    fn nothing_is_an_empty_value() {
        assert_eq!(read(&sealing(), 0), "a/K=;");
        let file = sealing();
        file.write(0, b"secret").unwrap();
        file.resize(0).unwrap();
        assert_eq!(read(&file, 0), "a/K=;");
        file.resize(2).unwrap();
        assert_eq!(read(&file, 0), "a/K=\0\0;");
    }

    #[test]
    fn what_does_not_fit_is_not_sealed() {
        let file = sealing();
        file.write(0, &vec![b'x'; MAX_VALUE_BYTES]).unwrap();
        let too_large = |outcome: Result<(), FsError>| matches!(outcome, Err(FsError::TooLarge(_)));
        assert!(too_large(file.write(MAX_VALUE_BYTES as u64, b"y")));
        assert!(too_large(file.read(0, seal).map(|_| ())));
        file.resize(0).unwrap();
        assert_eq!(read(&file, 0), "a/K=;");
        assert!(too_large(file.resize(u64::MAX)));
        file.write(u64::MAX, b"").unwrap();
        file.write(1, b"v").unwrap();
        assert!(too_large(file.write(u64::MAX, b"y")));
    }
}
