//! Buffers that survive the process which serves the mount: what was written and not yet closed is in the
//! saved state too, sealed, page by page.
//!
//! A page is sealed to its node and its place in it, and written by one system call that crosses no page of
//! the file's. A write that was not answered is repeated with the same bytes at the same place, so a page
//! that is newer than its slot does no harm.

use std::ops::Range;
use std::sync::Arc;

use crate::model::Plaintext;
use crate::vault::Vault;

use super::{BLOCK_BYTES, Room, SavedBytes, SavedState};
use crate::fs::budget::{Account, Charge};

/// The plaintext in one block: what its length and the seal leave.
const PAGE_BYTES: usize = BLOCK_BYTES - 2 - 64;

/// The bytes of one buffer, as they lie in the saved state. Dropping it gives the room back.
pub(in crate::fs) struct Aside {
    room: Arc<Room>,
    node: u64,
    size: usize,
    blocks: Vec<u32>,
    charge: Charge,
}

impl Aside {
    /// Puts the bytes of a node there. Those in `changed` differ from what `before` holds, if that
    /// holds anything; none if there is no room. Gives `before` back if another took its place: it must
    /// stay until nothing in the saved state names it.
    pub(in crate::fs) fn keep(
        before: Option<Self>,
        saved_state: &SavedState,
        vault: &Vault,
        (node, account): (u64, Account),
        bytes: &Plaintext,
        changed: Range<usize>,
    ) -> (Option<Self>, Option<Self>) {
        match before {
            // What is beyond the old end changed as well, be it only from nothing to zeros.
            Some(aside) if aside.size <= bytes.len() => {
                let start = changed.start.min(aside.size);
                (aside.put(vault, bytes, start..changed.end), None)
            }
            before => {
                let aside = saved_state.room().map(|room| {
                    let charge = room.budget.nothing(account);
                    Self { room, node, size: 0, blocks: Vec::new(), charge }
                });
                (aside.and_then(|aside| aside.put(vault, bytes, 0..bytes.len())), before)
            }
        }
    }

    fn put(mut self, vault: &Vault, bytes: &Plaintext, changed: Range<usize>) -> Option<Self> {
        self.size = bytes.len();
        let pages = changed.start / PAGE_BYTES..changed.end.div_ceil(PAGE_BYTES);
        for page in pages {
            let content = bytes.slice((page * PAGE_BYTES) as u64, PAGE_BYTES);
            let sealed = vault.seal_aside(self.node, page as u64, content);
            while self.blocks.len() <= page {
                self.charge.resize((self.blocks.len() + 1) * BLOCK_BYTES, "").ok()?;
                let block = self.room.take()?;
                self.blocks.push(block);
            }
            self.room.write(self.blocks[page], &sealed)?;
        }
        Some(self)
    }

    /// What the next process must know to find them.
    pub(in crate::fs) fn kept(&self) -> SavedBytes {
        let size = u32::try_from(self.size).expect("a buffer has at most 1 MiB");
        SavedBytes { size, blocks: self.blocks.clone() }
    }

    /// The bytes that the process before this one left.
    pub(in crate::fs) fn inherit(
        saved_state: &SavedState,
        vault: &Vault,
        (node, uid): (u64, u32),
        kept: &SavedBytes,
    ) -> Option<(Self, Plaintext)> {
        let (room, size) = (saved_state.room()?, kept.size as usize);
        let mut bytes = Plaintext::with_capacity(size);
        for (page, &block) in kept.blocks.iter().enumerate() {
            let sealed = room.read(block)?;
            // Another's block is left to that: it is not given back from here.
            let content = vault.open_aside(node, page as u64, &sealed)?;
            // The last page may be newer than its slot.
            bytes.push(content.slice(0, size.saturating_sub(bytes.len())));
        }
        let blocks = kept.blocks.clone();
        let charge = room.budget.restore(Account::User(uid), blocks.len() * BLOCK_BYTES);
        let aside = Self { room, node, size, blocks, charge };
        (bytes.len() == size).then_some((aside, bytes))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.blocks.iter().for_each(|&block| self.room.give_back(block));
    }
}
