//! The bytes of a draft: those of a version, its own, or bytes to append.

use std::sync::Arc;

use crate::fs::FsError;
use crate::model::Plaintext;
use crate::vault::{Value, Vault};

use super::{State, within_limit};

pub(super) enum Content {
    /// Still what it was when it was opened.
    Base(Arc<Value>),
    /// All bytes of the new value.
    Own(Plaintext),
    /// Bytes that were written through O_APPEND and nothing else was done. They go to the end of the value
    /// that is current at the commit, so they are kept apart from the base, which is what the descriptor
    /// shows in front of them. A new file has none.
    Appended { base: Option<Arc<Value>>, tail: Plaintext },
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fs) enum WriteAt {
    /// To an offset.
    Offset(u64),
    /// To the end, whatever offset the kernel thinks that is: the descriptor has O_APPEND.
    End,
}

impl WriteAt {
    /// What the kernel's WRITE asks for, by the flags of the descriptor.
    pub(in crate::fs) fn new(offset: u64, flags: i32) -> Self {
        if flags & libc::O_APPEND == 0 { Self::Offset(offset) } else { Self::End }
    }
}

impl Content {
    pub(super) fn size(&self) -> usize {
        let of = |value: &Arc<Value>| value.size() as usize;
        match self {
            Self::Base(value) => of(value),
            Self::Own(bytes) => bytes.len(),
            Self::Appended { base, tail } => base.as_ref().map_or(0, of) + tail.len(),
        }
    }

    pub(super) fn read(
        &self,
        vault: &Vault,
        offset: u64,
        length: usize,
    ) -> Result<Plaintext, FsError> {
        match self {
            Self::Base(value) => Ok(vault.read(value, offset, length)?),
            Self::Own(bytes) => Ok(Plaintext::copy_of(bytes.slice(offset, length))),
            Self::Appended { base: None, tail } => {
                Ok(Plaintext::copy_of(tail.slice(offset, length)))
            }
            Self::Appended { base: Some(base), tail } => {
                let size = u64::from(base.size());
                if offset >= size {
                    return Ok(Plaintext::copy_of(tail.slice(offset - size, length)));
                }
                let mut bytes = vault.read(base, offset, length)?;
                let left = length.saturating_sub(bytes.len());
                bytes.push(tail.slice(0, left));
                Ok(bytes)
            }
        }
    }

    /// All bytes as a buffer, to be changed anywhere.
    pub(super) fn make_own(&mut self, vault: &Vault) -> Result<&mut Plaintext, FsError> {
        if !matches!(self, Self::Own(_)) {
            *self = Self::Own(self.read(vault, 0, usize::MAX)?);
        }
        match self {
            Self::Own(bytes) => Ok(bytes),
            Self::Base(_) | Self::Appended { .. } => unreachable!("it was made own just now"),
        }
    }

    /// Appends, and gives the buffer with where it was changed. `is_new` says that the file does not exist
    /// yet: another process may create it first, and loses nothing by what is appended.
    pub(super) fn append(&mut self, bytes: &[u8], is_new: bool) -> (&Plaintext, usize) {
        match self {
            Self::Base(value) => {
                let base = Some(Arc::clone(value));
                *self = Self::Appended { base, tail: Plaintext::default() };
            }
            Self::Own(own) if is_new && own.is_empty() => {
                *self = Self::Appended { base: None, tail: Plaintext::default() };
            }
            Self::Own(_) | Self::Appended { .. } => {}
        }
        match self {
            Self::Own(buffer) | Self::Appended { tail: buffer, .. } => {
                let end = buffer.len();
                buffer.push(bytes);
                (buffer, end)
            }
            Self::Base(_) => unreachable!("it was replaced just now"),
        }
    }

    /// The bytes that are not stored elsewhere.
    pub(super) fn buffer(&self) -> Option<&Plaintext> {
        match self {
            Self::Base(_) => None,
            Self::Own(buffer) | Self::Appended { tail: buffer, .. } => Some(buffer),
        }
    }

    pub(super) fn is_appended(&self) -> bool {
        matches!(self, Self::Appended { .. })
    }

    /// The first `length` of the appended bytes are part of `stored` now, or were refused.
    pub(super) fn append_settled(&mut self, length: usize, stored: Option<&Arc<Value>>) {
        let Self::Appended { base, tail } = self else { return };
        let base = stored.cloned().or(base.take());
        let rest = Plaintext::copy_of(tail.slice(length as u64, usize::MAX));
        *self = match base {
            Some(base) if rest.is_empty() => Self::Base(base),
            None if rest.is_empty() => Self::Own(rest),
            base => Self::Appended { base, tail: rest },
        };
    }
}

impl State {
    /// Where a write starts, if its end is within the limit.
    pub(super) fn start_of_write(&self, at: WriteAt, length: usize) -> Result<usize, FsError> {
        let offset = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => self.content.size() as u64,
        };
        within_limit(offset, length, &self.path)
    }
}
