//! The nodes that the kernel knows.

use std::collections::hash_map::Entry;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use blake2::{Blake2s256, Digest};
use foldhash::HashMap;
use parking_lot::{Mutex, RwLock};

use crate::vault::{NODE_LIMIT, RecordId, Value};

use super::directory_ids::directory_id;
use crate::fs::budget::{Account, Budget, Charge, OBJECT_BYTES};
use crate::fs::error::FsError;
use crate::fs::files::draft::Draft;
use crate::fs::files::encrypt::Encrypt;
use crate::fs::files::export::Exported;
use crate::fs::files::import::Import;
use crate::fs::files::scratch::Scratch;
use crate::fs::files::status::StatusFile;
use crate::fs::ops::rename_directory::renamed;

/// The node of the mount's root (`FUSE_ROOT_ID`).
pub const ROOT: u64 = 1;
/// The node of `.status`.
pub(in crate::fs) const STATUS: u64 = 2;
/// The nodes of the files in `.status` began here in older versions, for all callers.
const SHARED_STATUS_FILES: u64 = 16;

/// Node numbers above those of versions tell by their highest bit what they are.
const DIRECTORY: u64 = 1 << 62;
const SIDECAR: u64 = 1 << 61;
const PRIVATE: u64 = 1 << 60;
/// Files in `.status`: the UID, and the file in the lowest byte.
const STATUS_FILE: u64 = 1 << 59;
const _: () = assert!(NODE_LIMIT <= STATUS_FILE);

/// Whether a process before this one may have told the kernel of the node.
fn may_have_been_known_before(node: &Node) -> bool {
    match node {
        Node::Value(_) | Node::Directory(_) => true,
        Node::Draft(draft) => draft.is_open(),
        Node::Scratch(scratch) => scratch.last_handle().is_some(),
        _ => false,
    }
}

/// Which inherited nodes to ask the kernel about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fs) enum Review {
    All,
    Superseded,
}

impl Review {
    fn includes(self, node: &Node) -> bool {
        match node {
            Node::Value(value) => self == Self::All || value.is_superseded(),
            Node::Draft(_) | Node::Scratch(_) => true,
            _ => self == Self::All,
        }
    }
}

/// What the number of a node tells that is not known.
pub(in crate::fs) enum Clue {
    Sidecar(RecordId),
    Private,
    Status(StatusFile),
    Other,
}

impl Clue {
    pub(in crate::fs) fn of(number: u64) -> Self {
        match number {
            _ if number & DIRECTORY != 0 => Self::Other,
            _ if number & SIDECAR != 0 => Self::Sidecar(RecordId::from_u64(number & !SIDECAR)),
            _ if number & PRIVATE != 0 => Self::Private,
            _ => {
                let file = match number & STATUS_FILE {
                    0 => number.wrapping_sub(SHARED_STATUS_FILES),
                    _ => number & 0xff,
                };
                let found = StatusFile::ALL.into_iter().find(|&one| one as u64 == file);
                found.map_or(Self::Other, Self::Status)
            }
        }
    }
}

/// What a node is.
#[derive(Clone)]
pub(in crate::fs) enum Node {
    /// A directory, by its path; the root's is empty.
    Directory(Arc<str>),
    /// One version of a secret, immutable.
    Value(Arc<Value>),
    /// The lists of a secret.
    Sidecar(RecordId),
    /// What one writer is writing.
    Draft(Arc<Draft>),
    /// A scratch file.
    Scratch(Arc<Scratch>),
    /// `.status`.
    StatusDirectory,
    /// A file in `.status`, for one UID: callers must not share pages of the kernel's cache.
    Status(StatusFile, u32),
    /// `.encrypt` and what is in it.
    Encrypt(Encrypt),
    /// `.export.yaml`, `.export` and what is in it.
    Exported(Exported),
    /// `.import` and what is in it.
    Import(Import),
}

impl Node {
    /// The node's number.
    pub(in crate::fs) fn number(&self) -> u64 {
        match self {
            Self::Directory(path) => directory_id(path),
            Self::Value(value) => value.node(),
            Self::Sidecar(record) => sidecar_number(*record),
            Self::Draft(draft) => draft.node(),
            Self::Scratch(scratch) => scratch.node(),
            Self::StatusDirectory => STATUS,
            Self::Status(file, uid) => STATUS_FILE | u64::from(*uid) << 8 | *file as u64,
            Self::Encrypt(node) => node.number(),
            Self::Exported(node) => node.number(),
            Self::Import(node) => node.number(),
        }
    }

    /// Whether every lookup makes it anew, for any name that a caller makes up, so that it can be dropped.
    pub(in crate::fs) fn is_transient(&self) -> bool {
        match self {
            Self::Encrypt(Encrypt::Directory(path)) => !path.is_empty(),
            Self::Status(..)
            | Self::Encrypt(Encrypt::File(_))
            | Self::Exported(Exported::File(_)) => true,
            _ => false,
        }
    }

    /// The only UID that paths lead to this node; none if they lead every caller there.
    pub(in crate::fs) fn owner(&self) -> Option<u32> {
        match self {
            Self::Draft(draft) => Some(draft.uid()),
            Self::Scratch(scratch) => Some(scratch.owner().0),
            Self::Encrypt(Encrypt::File(file)) => Some(file.uid()),
            Self::Exported(Exported::File(file)) => Some(file.uid()),
            Self::Import(Import::File(file)) => Some(file.owner().0),
            Self::Import(Import::Report(report)) => Some(report.uid),
            Self::Directory(_)
            | Self::Value(_)
            | Self::Sidecar(_)
            | Self::StatusDirectory
            | Self::Status(..)
            | Self::Encrypt(Encrypt::Directory(_))
            | Self::Exported(Exported::Directory(_))
            | Self::Import(Import::Directory(_)) => None,
        }
    }

    /// Whether a handle on this private node is open, as far as that is known.
    pub(in crate::fs) fn is_open(&self) -> bool {
        match self {
            Self::Draft(draft) => draft.is_open(),
            Self::Scratch(scratch) => scratch.last_handle().is_some(),
            Self::Encrypt(Encrypt::File(file)) => file.is_open(),
            Self::Exported(Exported::File(file)) => file.is_open(),
            Self::Import(Import::File(file)) => file.is_open(),
            _ => false,
        }
    }

    pub(in crate::fs) fn is_directory(&self) -> bool {
        matches!(
            self,
            Self::Directory(_)
                | Self::StatusDirectory
                | Self::Encrypt(Encrypt::Directory(_))
                | Self::Exported(Exported::Directory(_))
                | Self::Import(Import::Directory(_))
        )
    }
}

/// The number of a sidecar's node.
pub(in crate::fs) fn sidecar_number(of: RecordId) -> u64 {
    SIDECAR | of.as_u64()
}

/// The number of what lies at a path in some kind of tree.
pub(in crate::fs) fn path_number(kind: &str, path: &str) -> u64 {
    let digest = Blake2s256::new()
        .chain_update(b"secretfs ")
        .chain_update(kind)
        .chain_update(b" ")
        .chain_update(path)
        .finalize();
    let number = u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
    DIRECTORY | number & (PRIVATE - 1)
}

/// The nodes that the kernel has looked up and not yet forgotten, with how often.
pub(in crate::fs) struct Nodes {
    known: RwLock<HashMap<u64, Known>>,
    /// What the kernel may know from the process before this one. The kernel's count of lookups is not
    /// available, so the kernel is asked whether it knows the node.
    recalled: RwLock<HashMap<u64, Node>>,
    is_heir: AtomicBool,
    /// The newest version that the process before this one knew. Later ones have higher numbers.
    last_inherited: AtomicU64,
    next_private: AtomicU64,
    /// Nodes that exist for any name that is looked up, in the order of their lookups. Locked before `known`.
    transient: Mutex<HashMap<Account, VecDeque<u64>>>,
}

struct Known {
    node: Node,
    lookups: u64,
    /// Whether the kernel was given the version's bytes.
    filled: AtomicBool,
    /// How often the version is open through its own node.
    readers: AtomicU64,
    /// Of a transient node.
    _charge: Option<Charge>,
    /// Whether a transient node was used since it was last considered for removal.
    used: AtomicBool,
}

/// How many transient nodes are kept for one account. The kernel may know more; it looks a name up
/// again if its node is not known any more ([`FsError::Stale`]).
const MAX_TRANSIENT: usize = 1024;
/// How many are considered for removal when one more comes.
const MAX_CONSIDERED: usize = 16;

impl Nodes {
    /// Numbers of private nodes go on from `start`, which a clock makes larger on every start.
    pub(in crate::fs) fn new(start: u64) -> Self {
        Self {
            known: RwLock::default(),
            recalled: RwLock::default(),
            is_heir: AtomicBool::new(false),
            last_inherited: AtomicU64::new(0),
            next_private: AtomicU64::new(start & (PRIVATE - 1)),
            transient: Mutex::default(),
        }
    }

    /// A number for a transient node that no other path leads to. It is among those of directories: one that
    /// is not known is looked up again.
    pub(in crate::fs) fn next_transient(&self) -> u64 {
        DIRECTORY | self.next_private.fetch_add(1, Ordering::Relaxed) & (PRIVATE - 1)
    }

    /// A number for a node that no other path leads to.
    pub(in crate::fs) fn next_private(&self) -> u64 {
        PRIVATE | self.next_private.fetch_add(1, Ordering::Relaxed) & (PRIVATE - 1)
    }

    /// The node of that number, if the kernel can know it.
    pub(in crate::fs) fn find(&self, number: u64) -> Option<Node> {
        match number {
            ROOT => Some(Node::Directory("".into())),
            STATUS => Some(Node::StatusDirectory),
            _ => {
                let known = self.known.read().get(&number).map(|known| known.node.clone());
                known.or_else(|| self.recalled.read().get(&number).cloned())
            }
        }
    }

    /// Whether another process served the mount before.
    pub(in crate::fs) fn is_heir(&self) -> bool {
        self.is_heir.load(Ordering::Acquire)
    }

    /// The kernel may know these nodes, and others whose numbers tell what they are.
    pub(in crate::fs) fn inherit(&self, nodes: impl Iterator<Item = Node>) {
        self.is_heir.store(true, Ordering::Release);
        let mut recalled = self.recalled.write();
        recalled.extend(nodes.map(|node| (node.number(), node)));
        let versions = recalled.values().filter(|node| matches!(node, Node::Value(_)));
        let last = versions.map(Node::number).max().unwrap_or(0);
        self.last_inherited.store(last, Ordering::Release);
    }

    /// Asks the kernel for each inherited node (or for each superseded version, which takes space) whether it
    /// still knows it. Drops nodes that were unknown in two checks in a row, because a lookup reply may still
    /// be on its way. `unknown` holds those that were unknown in the last check.
    pub(in crate::fs) fn review(
        &self,
        which: Review,
        unknown: &mut HashSet<u64>,
        is_known: impl Fn(u64) -> bool,
    ) {
        let numbers: Vec<_> = {
            let recalled = self.recalled.read();
            let due = recalled.iter().filter(|(_, node)| which.includes(node));
            due.map(|(&number, _)| number).collect()
        };
        let now: HashSet<_> = numbers.into_iter().filter(|&number| !is_known(number)).collect();
        let gone: Vec<_> = now.intersection(unknown).copied().collect();
        *unknown = &now - &gone.iter().copied().collect();
        let mut recalled = self.recalled.write();
        let dropped: Vec<_> = gone.iter().filter_map(|number| recalled.remove(number)).collect();
        recalled.shrink_to_fit();
        // Dropped without the lock: this may be the last holder of a version.
        drop(recalled);
        drop(dropped);
    }

    /// Whether the kernel knows that node.
    pub(in crate::fs) fn knows(&self, number: u64) -> bool {
        number == ROOT
            || self.known.read().contains_key(&number)
            || self.recalled.read().contains_key(&number)
    }

    /// The kernel is about to learn of this node.
    pub(in crate::fs) fn look_up(&self, node: &Node) {
        let number = node.number();
        if matches!(number, ROOT | STATUS) {
            return;
        }
        self.add(number, node, None);
    }

    fn add(&self, number: u64, node: &Node, charge: Option<Charge>) {
        let mut known = self.known.write();
        let known = known.entry(number).or_insert_with(|| Known {
            node: node.clone(),
            lookups: 0,
            filled: AtomicBool::new(false),
            readers: AtomicU64::new(0),
            _charge: charge,
            used: AtomicBool::new(false),
        });
        // That of a directory may have followed it to another name.
        if let Node::Directory(_) = node {
            known.node = node.clone();
        }
        known.lookups += 1;
    }

    /// Lets the nodes of a directory that was renamed, and of those below it, mean the directories that they were
    /// in the kernel's eyes: it goes on with them until it has looked the new names up.
    pub(in crate::fs) fn rename_below(&self, from: &str, to: &str) {
        let follow = |node: &mut Node| {
            if let Node::Directory(path) = node
                && let Some(path) = renamed(path, from, to)
            {
                *node = Node::Directory(path.into());
            }
        };
        self.known.write().values_mut().for_each(|known| follow(&mut known.node));
        self.recalled.write().values_mut().for_each(follow);
    }

    /// As [`Nodes::look_up`], of a transient node. Older ones of the account make way for it.
    ///
    /// # Errors
    /// [`FsError::OutOfMemory`].
    pub(in crate::fs) fn look_up_transient(
        &self,
        node: &Node,
        budget: &Budget,
        account: Account,
        path: &str,
    ) -> Result<(), FsError> {
        let number = node.number();
        if let Some(known) = self.known.write().get_mut(&number) {
            known.lookups += 1;
            known.used.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let mut transient = self.transient.lock();
        let own = transient.entry(account).or_default();
        if own.len() >= MAX_TRANSIENT {
            self.give_up_one(own);
        }
        let bytes = OBJECT_BYTES + path.len();
        let charge = budget.charge(account, bytes, path).or_else(|error| {
            if self.give_up_one(own) { budget.charge(account, bytes, path) } else { Err(error) }
        });
        match charge {
            Ok(charge) => {
                own.push_back(number);
                self.add(number, node, Some(charge));
                Ok(())
            }
            Err(error) => {
                if own.is_empty() {
                    transient.remove(&account);
                }
                Err(error)
            }
        }
    }

    /// A lookup below a transient node.
    pub(in crate::fs) fn touch(&self, number: u64) {
        if let Some(known) = self.known.read().get(&number) {
            known.used.store(true, Ordering::Relaxed);
        }
    }

    /// Gives up the node that was used longest ago, as far as that is known. Whether there is room for
    /// another one.
    fn give_up_one(&self, own: &mut VecDeque<u64>) -> bool {
        for _ in 0..MAX_CONSIDERED.min(own.len()) {
            let Some(number) = own.pop_front() else { break };
            let mut known = self.known.write();
            match known.get(&number) {
                None => return true,
                Some(one) if one.node.is_open() || one.used.swap(false, Ordering::Relaxed) => {
                    own.push_back(number);
                }
                Some(_) => {
                    let gone = known.remove(&number);
                    drop(known);
                    drop(gone);
                    return true;
                }
            }
        }
        false
    }

    /// Counts an open of a version through its own node. Gives the version the first time, for the prefill of
    /// its bytes.
    pub(in crate::fs) fn open(&self, number: u64) -> Option<Arc<Value>> {
        let known = self.known.read();
        let known = known.get(&number)?;
        known.readers.fetch_add(1, Ordering::SeqCst);
        match known {
            Known { node: Node::Value(value), filled, .. }
                if !filled.load(Ordering::Relaxed) && !filled.swap(true, Ordering::Relaxed) =>
            {
                Some(Arc::clone(value))
            }
            _ => None,
        }
    }

    /// The version of that node is closed again. Those that were opened before this process began were
    /// not counted.
    pub(in crate::fs) fn close(&self, number: u64) {
        if let Some(known) = self.known.read().get(&number) {
            let less = |readers: u64| readers.checked_sub(1);
            // Nothing to count down is no error.
            let _ = known.readers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        }
    }

    /// Whether the version of that node was there before this process began.
    pub(in crate::fs) fn is_inherited(&self, number: u64) -> bool {
        number <= self.last_inherited.load(Ordering::Acquire)
    }

    /// How many opens of the version through its node this process has counted.
    pub(in crate::fs) fn readers(&self, number: u64) -> u64 {
        self.known.read().get(&number).map_or(0, |known| known.readers.load(Ordering::SeqCst))
    }

    /// The kernel has forgotten that many lookups of a node. If those were all, `gone` is called before
    /// another lookup of the node is possible: what it drops cannot be of that lookup.
    pub(in crate::fs) fn forget(&self, number: u64, lookups: u64, gone: impl FnOnce()) {
        let forgotten = {
            let mut known = self.known.write();
            match known.entry(number) {
                Entry::Occupied(mut entry) => {
                    let left = entry.get().lookups.saturating_sub(lookups);
                    entry.get_mut().lookups = left;
                    (left == 0).then(|| {
                        gone();
                        entry.remove()
                    })
                }
                Entry::Vacant(_) => None,
            }
        };
        if let Some(Known { node, .. }) = &forgotten
            && self.is_heir.load(Ordering::Acquire)
            && may_have_been_known_before(node)
        {
            // The kernel may have more lookups of it, from before this process.
            self.recalled.write().insert(number, node.clone());
        }
        // Dropped without the lock: it may be the last holder of a version.
        drop(forgotten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::budget::MemoryLimits;

    fn directory(number: usize) -> Node {
        Node::Encrypt(Encrypt::Directory(format!("f{number}").into()))
    }

    #[test]
    fn transient_nodes_are_bounded_and_the_used_ones_stay() {
        let (nodes, budget) = (Nodes::new(1), Budget::new(MemoryLimits::default()));
        let look_up = |node: &Node, uid| {
            nodes.look_up_transient(node, &budget, Account::User(uid), "f").unwrap();
        };
        let (used, other) = (directory(1_000_000), directory(2_000_000));
        look_up(&used, 7);
        look_up(&other, 8);
        for number in 0..10 * MAX_TRANSIENT {
            look_up(&directory(number), 7);
            nodes.touch(used.number());
        }
        assert!(nodes.find(used.number()).is_some(), "it is used all the time");
        assert!(nodes.find(other.number()).is_some(), "it is another user's");
        assert!(nodes.find(directory(0).number()).is_none());
        assert!(nodes.known.read().len() <= MAX_TRANSIENT + 1);
        let known: Vec<u64> = nodes.known.read().keys().copied().collect();
        known.into_iter().for_each(|number| nodes.forget(number, u64::MAX, || {}));
        assert_eq!(budget.used(), 0, "what the kernel forgot takes nothing");
    }

    #[test]
    fn transient_nodes_make_way_for_each_other_in_a_full_account() {
        let limits = MemoryLimits { per_user: 10 << 10, total: 1 << 20 };
        let (nodes, budget) = (Nodes::new(1), Budget::new(limits));
        for number in 0..100 {
            nodes
                .look_up_transient(&directory(number), &budget, Account::User(7), "f")
                .expect("an older one makes way");
        }
        let left = 10 << 10;
        let all = budget.charge(Account::User(8), left, "f").unwrap();
        assert!(budget.used() <= 2 * left);
        drop(all);
    }
}
