//! Opening a store.

pub(super) mod load;
pub(super) mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::{Mutex, RwLock};

use crate::audit;
use crate::audit::{Audit, ErrorCode, Known};
use crate::crypto::{Keyring, SetKey};
use crate::store::Store;

use super::audit::NameError;
use super::audit::chain_keys;
use super::error::{OpenVaultError, VaultError};
use super::keys::rekey::Rekey;
use super::ops::apply::guess_limiter::GuessLimiter;
use super::quota::Limits;
use super::records::garbage::Garbage;
use super::records::secret::Value;
use super::records::{Address, Records, StoreId};
use super::replica;
use super::replica::{Replica, Sharing};
use super::writer::WriterHandle;
use super::writer::reply_cache;
use super::writer::reply_cache::{Inheritance, ReplyCache};
use super::writer::staging;
use super::{Shared, Vault, integrity, keys};

/// A store that is to be opened, and how.
pub struct Opening {
    /// One without records is made the keyring's own.
    pub store: Arc<dyn Store>,
    /// What its records are sealed with.
    pub keyring: Keyring,
    /// Whether it is this host's replica of one that many hosts share. [`Vault::follow`] then keeps it
    /// so.
    pub sharing: Sharing,
    /// The audit log.
    pub audit: audit::Options,
    /// What the secrets of one namespace may take.
    pub limits: Limits,
    /// Tells what number an error has there.
    pub name_error: NameError,
}

impl Opening {
    /// That of a store that is this host's alone, without an audit log.
    pub fn new(store: Arc<dyn Store>, keyring: Keyring) -> Self {
        let name_error =
            |_: &VaultError| ErrorCode { number: 0, name: String::new(), denied: false };
        let audit = audit::Options::off();
        let limits = Limits::default();
        Self { store, keyring, sharing: Sharing::Alone, audit, limits, name_error }
    }

    /// Opens the store and builds the index. Superseded values are removed: no handle has them open.
    ///
    /// # Errors
    /// The store cannot be read, was made with another key, or holds a record that does not unseal; the
    /// audit log cannot be opened; the shared store is not the right one.
    pub fn open(self) -> Result<Vault, OpenVaultError> {
        self.load().map(|(vault, _superseded)| vault)
    }

    /// As [`Opening::open`], in the place of a process that died: superseded values stay as long as the
    /// caller holds them.
    ///
    /// # Errors
    /// As [`Opening::open`].
    pub fn take_over(self) -> Result<(Vault, Inheritance), OpenVaultError> {
        let (vault, mut versions) = self.load()?;
        versions.extend(vault.shared.index.read().values().cloned());
        let reply_cache = reply_cache::read_all(&vault.shared.records)?;
        Ok((vault, Inheritance { versions, reply_cache }))
    }

    fn load(self) -> Result<(Vault, Vec<Arc<Value>>), OpenVaultError> {
        let Self { store, keyring, sharing, audit, limits, name_error } = self;
        let meta = store.read(Address::META.as_bytes())?;
        let id = meta.as_deref().map_or_else(|| Ok(StoreId::random()), StoreId::of_whole)?;
        let chain_keys = chain_keys(&keyring, &id.to_bytes());
        let records = Records::new(store, keyring, id);
        // First: a store that is not to be changed is not made another key's either.
        replica::check(&records, &sharing)?;
        let (keys_in_use, is_bound) = keys::claim(&records)?;
        let anchor = records.read_audit_anchor()?;
        let known = if meta.is_some() { Known::Line(anchor) } else { Known::New };
        let audit_log = Audit::open(&audit, &chain_keys, known)?;
        staging::recover(&records)?;
        let replica = Replica::open(&records, &sharing, &audit.revision)?.map(Arc::new);
        let garbage = Arc::new(Garbage::default());
        let stored = records.read_sum()?;
        let key = stored.as_ref().map(|integrity| Arc::clone(&integrity.key));
        let key = key.unwrap_or_else(|| Arc::new(SetKey::random()));
        let (index, superseded, sum) = load::load(&records, &garbage, &key)?;
        let (integrity, problem) = integrity::compare(&records, stored, is_bound, key, sum)?;
        if let Some(problem) = problem {
            tracing::error!("the store is not as it was left: {problem}");
        }
        let reply_cache = ReplyCache::load(&records)?;
        let shared = Arc::new(Shared {
            records,
            keys_in_use,
            telemetry: Arc::default(),
            index: RwLock::new(index),
            garbage,
            audit: audit_log,
            name_error,
            guesses: GuessLimiter::default(),
            limits,
            problem,
            stored_changes: AtomicU64::new(integrity.changes),
            settling: AtomicBool::new(false),
            replica,
        });
        let writer = WriterHandle::start(Arc::clone(&shared), reply_cache, anchor, integrity)
            .map_err(OpenVaultError::NoThread)?;
        let follower = Mutex::default();
        Ok((Vault { shared, rekey: Rekey::idle(), follower, writer }, superseded))
    }
}
