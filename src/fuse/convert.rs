//! Between the library's types and ours.

use std::time::SystemTime;

use fuser::{
    AccessFlags, FileAttr, FileType, FopenFlags, Generation, INodeNo, PollEvents, TimeOrNow,
};

use crate::fs::{Attr, Caching, FileKind, Opened, Readiness, Request, Wanted};

/// A node number never means something else later, so one generation is enough.
pub(super) const GENERATION: Generation = Generation(0);

/// The kernel marks a request that it sends again (`FUSE_UNIQUE_RESEND`, Linux 6.9).
const RESENT: u64 = 1 << 63;

const BLOCK_BYTES: u64 = 512;

/// A request as the kernel reports it.
pub(super) fn request(sent: &fuser::Request) -> Request {
    let unique = sent.unique().0;
    let mut request = Request::default();
    (request.uid, request.gid, request.task) = (sent.uid(), sent.gid(), sent.pid());
    (request.unique, request.is_resent) = (unique & !RESENT, unique & RESENT != 0);
    request
}

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
    }
}

/// For answers that tell attributes alone: there the inode number need not be the node's.
pub(super) fn shown_attr(attr: &Attr) -> FileAttr {
    FileAttr { ino: INodeNo(attr.inode), ..file_attr(attr) }
}

/// For answers that tell the kernel of a node.
pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.node),
        size: attr.size,
        blocks: attr.size.div_ceil(BLOCK_BYTES),
        atime: attr.modified,
        mtime: attr.modified,
        ctime: attr.modified,
        crtime: attr.modified,
        kind: file_type(attr.kind),
        perm: attr.mode,
        nlink: match attr.kind {
            FileKind::File => 1,
            FileKind::Directory => 2,
        },
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// An immutable version needs no FLUSH at close: closing it stays a local matter.
pub(super) fn open_flags(opened: &Opened) -> FopenFlags {
    match opened.caching {
        Caching::Immutable => FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH,
        Caching::Private | Caching::Bound => FopenFlags::FOPEN_DIRECT_IO,
    }
}

pub(super) fn wanted(mask: AccessFlags) -> Wanted {
    Wanted {
        read: mask.contains(AccessFlags::R_OK),
        write: mask.contains(AccessFlags::W_OK),
        execute: mask.contains(AccessFlags::X_OK),
    }
}

pub(super) fn time(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

pub(super) fn poll_events(readiness: Readiness) -> PollEvents {
    let read = PollEvents::POLLIN | PollEvents::POLLRDNORM;
    match readiness {
        Readiness::Always => read | PollEvents::POLLOUT | PollEvents::POLLWRNORM,
        Readiness::Version { superseded: true } => read | PollEvents::POLLPRI,
        Readiness::Version { superseded: false } => read,
    }
}
