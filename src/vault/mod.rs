//! The only place where lists, crypto, store and audit meet.
//!
//! A [`Vault`] answers everything local from an in-memory index (keys, lists, sizes, versions; never
//! values), unseals a value when it is needed, and makes every change durable through one writer
//! thread before anybody can see it.
//!
//! Lock order: the index lock is a leaf. It is held for look-ups and for the publication of a group
//! of changes, never across a store access, a callback or another lock.

mod apply;
mod committer;
mod common;
mod error;
mod export;
mod fsck;
mod garbage;
mod guesses;
mod index;
mod journal;
mod keys;
mod lists;
mod load;
mod memory;
mod read;
mod receipts;
mod record;
mod rekey;
mod remove;
mod rename;
mod replica;
mod seal;
mod secret;
mod trail;
mod transaction;
mod write;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};

use crate::audit::{Audit, ErrorCode};
use crate::crypto::Keyring;
use crate::model::{Caller, Grant, Operation, SecretId, Timestamp, decide};
use crate::store::{Space, Store};
use crate::telemetry::Telemetry;

pub use apply::{Applied, AppliedDocument, Outcome, Refusal, Refusals};
pub use committer::Done;
pub use error::{OpenVaultError, VaultError};
pub use export::Export;
pub use fsck::{Damage, Findings, Fsck, Repaired};
pub use index::{Child, ChildKind, Totals};
pub use receipts::{Inheritance, Origin, Receipt};
pub use rekey::{RekeyState, RekeyStatus, RekeyTask};
pub use rename::{RenameSource, RenameTarget};
pub use replica::{
    MigrateError, Moved, Observer, ReplicaError, SharedStore, Sharing, SharingStatus, migrate_from,
};
pub use secret::{RecordId, Secret, Value};
pub use trail::{NameError, verify_audit};
pub use transaction::Change;
pub use write::{Heritage, WriteTarget};

use committer::Committer;
use garbage::Garbage;
use guesses::Guesses;
use index::Index;
use keys::KeysInUse;
use receipts::Receipts;
use record::{Address, Records, StoreId};
use rekey::Rekey;
use replica::{Follower, Replica};

/// The first node number that a stored version may have; smaller ones are the file system's own.
pub const FIRST_NODE: u64 = 1 << 10;
/// Node numbers of stored versions are below this; the bits above tell other kinds apart.
pub const NODE_LIMIT: u64 = 1 << 56;

/// All secrets of one store, under one keyring.
pub struct Vault {
    shared: Arc<Shared>,
    // Before the committer: these hand in until they are dropped.
    rekey: Rekey,
    follower: Mutex<Option<Follower>>,
    committer: Committer,
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
    guesses: Guesses,
    /// Whether heads of a large change are still on their way to their places.
    settling: AtomicBool,
    /// If many hosts share the store.
    replica: Option<Arc<Replica>>,
}

impl Vault {
    /// Opens the store and builds the index, without an audit log. A store without records is made
    /// this keyring's own. Values that were superseded are removed: nobody has them open.
    ///
    /// # Errors
    /// The store cannot be read, was made with another key, or holds a record that does not unseal.
    pub fn open(store: Arc<dyn Store>, keyring: Keyring) -> Result<Self, OpenVaultError> {
        let nameless = |_: &VaultError| ErrorCode { number: 0, name: String::new(), denied: false };
        Self::open_audited(store, keyring, &crate::audit::Options::off(), nameless)
    }

    /// As [`Vault::open`], with an audit log; `name_error` tells what number an error has there.
    ///
    /// # Errors
    /// As [`Vault::open`], or the audit log cannot be opened.
    pub fn open_audited(
        store: Arc<dyn Store>,
        keyring: Keyring,
        audit: &crate::audit::Options,
        name_error: NameError,
    ) -> Result<Self, OpenVaultError> {
        Self::load(store, &Sharing::Alone, keyring, audit, name_error)
            .map(|(vault, _superseded)| vault)
    }

    /// As [`Vault::open_audited`]; the store may be this host's replica of one that many hosts share.
    /// [`Vault::follow`] then keeps it so.
    ///
    /// # Errors
    /// As [`Vault::open_audited`], or the shared store is not the right one.
    pub fn open_shared(
        store: Arc<dyn Store>,
        sharing: &Sharing,
        keyring: Keyring,
        audit: &crate::audit::Options,
        name_error: NameError,
    ) -> Result<Self, OpenVaultError> {
        Self::load(store, sharing, keyring, audit, name_error).map(|(vault, _superseded)| vault)
    }

    /// As [`Vault::open_shared`], in the place of a process that died: superseded values stay as long
    /// as the caller holds them.
    ///
    /// # Errors
    /// As [`Vault::open_audited`].
    pub fn take_over(
        store: Arc<dyn Store>,
        sharing: &Sharing,
        keyring: Keyring,
        audit: &crate::audit::Options,
        name_error: NameError,
    ) -> Result<(Self, Inheritance), OpenVaultError> {
        let (vault, mut versions) = Self::load(store, sharing, keyring, audit, name_error)?;
        versions.extend(vault.shared.index.read().values().cloned());
        let receipts = receipts::read_all(&vault.shared.records)?;
        Ok((vault, Inheritance { versions, receipts }))
    }

    /// How many threads load a store while it is opened.
    pub fn loading_threads() -> usize {
        load::threads()
    }

    fn load(
        store: Arc<dyn Store>,
        sharing: &Sharing,
        keyring: Keyring,
        audit: &crate::audit::Options,
        name_error: NameError,
    ) -> Result<(Self, Vec<Arc<Value>>), OpenVaultError> {
        let id = match store.read(Address::META.as_bytes())? {
            Some(meta) => StoreId::of_whole(&meta)?,
            None => StoreId::random(),
        };
        let chain_keys = trail::chain_keys(&keyring);
        let records = Records::new(store, keyring, id);
        // First: a store that is not to be changed is not made another key's either.
        replica::check(&records, sharing)?;
        let keys_in_use = keys::claim(&records)?;
        let revision = &audit.revision;
        let audit_log = Audit::open(audit, &chain_keys, records.read_audit_anchor()?)?;
        journal::recover(&records)?;
        let replica = Replica::open(&records, sharing, revision)?.map(Arc::new);
        let garbage = Arc::new(Garbage::default());
        let (index, superseded) = load::load(&records, &garbage)?;
        let receipts = Receipts::load(&records)?;
        let shared = Arc::new(Shared {
            records,
            keys_in_use,
            telemetry: Arc::default(),
            index: RwLock::new(index),
            garbage,
            audit: audit_log,
            name_error,
            guesses: Guesses::default(),
            settling: AtomicBool::new(false),
            replica,
        });
        let committer =
            Committer::start(Arc::clone(&shared), receipts).map_err(OpenVaultError::NoThread)?;
        let follower = Mutex::default();
        Ok((Self { shared, rekey: Rekey::idle(), follower, committer }, superseded))
    }

    /// How the vault and all that is built on it is doing; whoever learns something reports it here.
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
    pub fn is_folder(&self, path: &str) -> bool {
        self.shared.index.read().is_folder(path)
    }

    /// What `caller` sees in a folder, in byte order of the names: its secrets and the folders that
    /// hold one which the caller sees.
    pub fn children(&self, caller: &Caller, folder: &str) -> Vec<Child> {
        self.shared.index.read().children(caller, folder)
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

    /// When anything changed last; what folders show as their time.
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
