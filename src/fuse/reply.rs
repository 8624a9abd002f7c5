//! The forms of answers that several requests have.

use fuser::{FileHandle, ReplyAttr, ReplyCreate, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyXattr};

use crate::fs::{Attr, Entry, FsError, Listed, NEVER, Opened};

use super::convert::{GENERATION, file_attr, open_flags, shown_attr};
use super::errno::{BUFFER_TOO_SMALL, errno};

/// An entry of a directory as the kernel wants it.
pub(super) enum DirEntry<'a> {
    Dot(&'static str),
    Listed(&'a Listed),
}

/// The entries after `offset`, each with the offset that stands for "after this one".
pub(super) fn entries(listed: &[Listed], offset: u64) -> impl Iterator<Item = (u64, DirEntry<'_>)> {
    let dots = [".", ".."].into_iter().map(DirEntry::Dot);
    let all = dots.chain(listed.iter().map(DirEntry::Listed));
    (1..).zip(all).skip(usize::try_from(offset).unwrap_or(usize::MAX))
}

pub(super) fn reply_xattr(reply: ReplyXattr, size: u32, outcome: Result<Vec<u8>, FsError>) {
    match outcome {
        Ok(bytes) if size == 0 => {
            reply.size(u32::try_from(bytes.len()).expect("attributes are short"))
        }
        Ok(bytes) if bytes.len() <= size as usize => reply.data(&bytes),
        Ok(_) => reply.error(BUFFER_TOO_SMALL),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn reply_entry(reply: ReplyEntry, outcome: Result<Entry, FsError>) {
    match outcome {
        Ok(entry) => {
            let attr = file_attr(&entry.attr);
            reply.entry_with_ttls(&entry.attr.lifetime, &entry.lifetime, &attr, GENERATION);
        }
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn reply_attr(reply: ReplyAttr, outcome: Result<Attr, FsError>) {
    match outcome {
        Ok(attr) => reply.attr(&attr.lifetime, &shown_attr(&attr)),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn reply_empty(reply: ReplyEmpty, outcome: Result<(), FsError>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn reply_opened(reply: ReplyOpen, outcome: Result<Opened, FsError>) {
    match outcome {
        Ok(opened) => reply.opened(FileHandle(opened.handle), open_flags(&opened)),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn reply_created(reply: ReplyCreate, outcome: Result<(Entry, Opened), FsError>) {
    match outcome {
        Ok((entry, opened)) => reply.created(
            &NEVER,
            &file_attr(&entry.attr),
            GENERATION,
            FileHandle(opened.handle),
            open_flags(&opened),
        ),
        Err(error) => reply.error(errno(&error)),
    }
}
