//! The only place where lists, crypto, store and audit meet.
//!
//! A [`Vault`] answers everything local from an in-memory index (keys, lists, sizes, versions; never values), unseals
//! a value when it is needed, and makes every change durable through one writer thread before a caller can see it.
//!
//! Lock order: the index lock is a leaf. It is held for lookups and for the publication of a group
//! of changes, never across a store access, a callback or another lock.

mod audit;
mod error;
mod fsck;
mod index;
mod integrity;
mod keys;
mod open;
mod ops;
mod quota;
mod records;
mod replica;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::audit::Audit;
use crate::crypto::Keyring;
use crate::model::{Acl, Caller, Grant, Operation, SecretId, Timestamp, decide};
use crate::store::{Space, Store};
use crate::telemetry::Telemetry;

pub use audit::{NameError, audit_anchor, verify_audit};
pub use error::{OpenVaultError, VaultError};
pub use fsck::{Damage, Findings, Fsck, Repaired};
pub use index::{Child, ChildKind, Totals};
pub use keys::rekey::{RekeyState, RekeyStatus, RekeyTask};
pub use open::Opening;
pub use ops::apply::{Applied, AppliedDocument, Outcome, Refusal, Refusals};
pub use ops::export::Export;
pub use ops::rename::{RenameSource, RenameTarget};
pub use ops::write::{InheritedLists, WriteTarget};
pub use quota::Limits;
pub use records::secret::{RecordId, Secret, Value};
pub use replica::{
    MigrateError, Moved, Observer, ReplicaError, SharedStore, Sharing, SharingStatus, migrate_from,
};
pub use writer::Done;
pub use writer::reply_cache::{CachedReply, Inheritance, RequestId};
pub use writer::transaction::Change;

use index::Index;
use keys::KeysInUse;
use keys::rekey::Rekey;
use ops::apply::guess_limiter::GuessLimiter;
use records::Records;
use records::garbage::Garbage;
use replica::{Follower, Replica};
use writer::WriterHandle;

/// The first node number that a stored version may have; smaller ones are the file system's own.
pub const FIRST_NODE: u64 = 1 << 10;
/// Node numbers of stored versions are below this; the bits above tell other kinds apart.
pub const NODE_LIMIT: u64 = 1 << 56;

/// All secrets of one store, under one keyring.
pub struct Vault {
    shared: Arc<Shared>,
    // Before the writer: these submit plans until they are dropped.
    rekey: Rekey,
    follower: Mutex<Option<Follower>>,
    writer: WriterHandle,
}

/// What the writer thread and the callers both work on.
pub(crate) struct Shared {
    records: Records,
    keys_in_use: KeysInUse,
    telemetry: Arc<Telemetry>,
    index: RwLock<Index>,
    garbage: Arc<Garbage>,
    audit: Audit,
    name_error: NameError,
    guesses: GuessLimiter,
    limits: Limits,
    /// Why the store was not what was left, at the start.
    problem: Option<&'static str>,
    /// How many changes of secrets were stored since the store has a sum.
    stored_changes: AtomicU64,
    /// Whether heads of a large change are still on their way to their places.
    settling: AtomicBool,
    /// If many hosts share the store.
    replica: Option<Arc<Replica>>,
}

impl Shared {
    /// The one shared copy of these lists.
    fn intern(&self, acl: Acl) -> Arc<Acl> {
        let lists = self.index.read().lists();
        lists.lock().intern(acl)
    }
}

impl Vault {
    /// Opens a store that is this host's alone, without an audit log; [`Opening`] has more options.
    ///
    /// # Errors
    /// As [`Opening::open`].
    pub fn open(store: Arc<dyn Store>, keyring: Keyring) -> Result<Self, OpenVaultError> {
        Opening::new(store, keyring).open()
    }

    /// How many threads load a store while it is opened.
    pub fn loading_threads() -> usize {
        open::load::threads()
    }

    /// Health and metrics of the vault and of all layers above it, which report here.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.shared.telemetry
    }

    /// The secret of that key.
    pub fn secret(&self, key: &str) -> Option<Arc<Secret>> {
        self.shared.index.read().by_key(key).cloned()
    }

    /// The secret of that record: it stays the same through renames and rotations.
    pub fn secret_of(&self, record: RecordId) -> Option<Arc<Secret>> {
        self.shared.index.read().by_record(record).cloned()
    }

    /// The secret of that id.
    pub fn secret_by_id(&self, id: &SecretId) -> Option<Arc<Secret>> {
        self.shared.index.read().by_id(id).cloned()
    }

    /// Whether some key lies below this path.
    pub fn is_directory(&self, path: &str) -> bool {
        self.shared.index.read().is_directory(path)
    }

    /// What `caller` sees in a directory, in byte order of the names: its secrets and the directories that
    /// hold one which the caller sees.
    pub fn children(&self, caller: &Caller, directory: &str) -> Vec<Child> {
        self.shared.index.read().children(caller, directory)
    }

    /// Whether the caller sees a secret below the directory in a listing.
    pub fn sees_below(&self, caller: &Caller, directory: &str) -> bool {
        self.shared.index.read().sees_below(caller, directory)
    }

    /// How many secrets there are.
    pub fn len(&self) -> usize {
        self.shared.index.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What their values take together.
    pub fn totals(&self) -> Totals {
        self.shared.index.read().totals()
    }

    /// Why the store was not what the process before had left, if it was not.
    pub fn store_problem(&self) -> Option<&'static str> {
        self.shared.problem
    }

    /// How many changes of secrets were ever stored: fewer than before in an old copy of a store.
    pub fn stored_changes(&self) -> u64 {
        self.shared.stored_changes.load(Ordering::Relaxed)
    }

    /// When anything changed last; what directories show as their time.
    pub fn last_change(&self) -> Timestamp {
        self.shared.index.read().last_change()
    }

    /// The space of the file system that holds the store.
    ///
    /// # Errors
    /// The store cannot tell.
    pub fn space(&self) -> Result<Space, VaultError> {
        Ok(self.shared.records.space()?)
    }

    /// Decides whether `caller` may do `operation` to `secret`.
    ///
    /// # Errors
    /// [`VaultError::Denied`], which says what was missing.
    pub fn check(
        &self,
        caller: &Caller,
        operation: Operation,
        secret: &Secret,
    ) -> Result<Grant, VaultError> {
        check(caller, operation, secret)
    }
}

/// Every decision about a secret that exists passes here.
fn check(caller: &Caller, operation: Operation, secret: &Secret) -> Result<Grant, VaultError> {
    decide(caller, operation, secret.acl())
        .map_err(|denial| VaultError::Denied { key: secret.key().to_string(), denial })
}
