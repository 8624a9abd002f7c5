//! What the file system shows of a node.

use std::time::{Duration, SystemTime};

/// Attributes of a version never change, so the kernel may keep them as long as it likes.
pub const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Ask again each time.
pub const NEVER: Duration = Duration::ZERO;

/// The mode of a secret.
pub(super) const SECRET_MODE: u16 = 0o400;
/// The mode of a directory.
pub(super) const DIRECTORY_MODE: u16 = 0o555;

/// The mode of a file of `.encrypt`: any caller may have a value sealed.
pub(super) const ENCRYPT_MODE: u16 = 0o666;

/// A file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
}

/// What `stat` shows.
#[derive(Clone, Debug)]
pub struct Attr {
    /// The node's number.
    pub node: u64,
    /// The inode number to show: for what is being written, that of the file as it was, because
    /// editors (vim) refuse to write into what looks like another file; where every lookup has a
    /// node of its own, one that stays.
    pub inode: u64,
    /// File or directory.
    pub kind: FileKind,
    /// The size in bytes.
    pub size: u64,
    /// The permission bits.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The time of the last change.
    pub modified: SystemTime,
    /// How long the kernel may keep these attributes.
    pub lifetime: Duration,
}

impl Attr {
    /// Of an empty file that belongs to root, and that the kernel keeps nothing of.
    pub(super) fn of_file(node: u64) -> Self {
        Self {
            node,
            inode: node,
            kind: FileKind::File,
            size: 0,
            mode: SECRET_MODE,
            uid: 0,
            gid: 0,
            modified: SystemTime::UNIX_EPOCH,
            lifetime: NEVER,
        }
    }
}

/// What a lookup finds.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The node's attributes.
    pub attr: Attr,
    /// How long the kernel may keep the name's meaning.
    pub lifetime: Duration,
}

/// What an open gives.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// The number of the handle; 0 where none is needed.
    pub handle: u64,
    /// How the kernel may treat the file's bytes.
    pub caching: Caching,
}

/// How the kernel may treat an open file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// They never change: keep them, and do not announce the close.
    Immutable,
    /// They are this handle's own: ask for every read, announce the close.
    Private,
    /// As `Private`, through a node that shows others something else: what is kept of its attributes
    /// is to be forgotten before the answer.
    Bound,
}
