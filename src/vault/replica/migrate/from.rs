//! From a shared store to a host's own.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::cluster::Cluster;
use crate::crypto::{Keyring, SetKey};
use crate::model::SecretId;
use crate::store::{Batch, Store};
use crate::vault::index::Index;
use crate::vault::open::load;
use crate::vault::records::garbage::Garbage;
use crate::vault::records::secret::{RecordId, Secret, Value};
use crate::vault::records::{Address, Meta, Records, StoreId};
use crate::vault::replica::connect;
use crate::vault::replica::error::ReplicaError;
use crate::vault::replica::wire::{self, Wire};
use crate::vault::writer::transaction::now;
use crate::vault::{OpenVaultError, keys};

use super::{MigrateError, Moved, Snapshot};

/// A batch takes so many records, or so many bytes.
const RECORDS: usize = 1024;
const BYTES: usize = 2 << 20;

/// Moves all secrets of a shared store, as they are at one moment, into an empty store, and compares them there. They
/// stay where they are as well. Calls `progress` with the number that was moved or compared.
///
/// # Errors
/// The store holds something else, or something failed: it can be run again then.
pub fn migrate_from(
    cluster: &dyn Cluster,
    store: Arc<dyn Store>,
    keyring: Keyring,
    progress: &dyn Fn(u64),
) -> Result<Moved, MigrateError> {
    let own = connect::read(cluster)?.ok_or(ReplicaError::NoStore)?;
    connect::prove(&own, &keyring)?;
    let (destination, is_whole) = destination(&*store, own.store)?;
    let records = Records::new(store, keyring, destination);
    let keyring = records.keyring();
    let (wire, revision) = (Wire(own.store), own.revision);
    let from = From {
        snapshot: Snapshot { cluster, wire, keyring: &keyring, revision },
        records: &records,
        progress,
    };
    if is_whole {
        keys::prove(&records)?;
        let moved = from.compare().map_err(|error| match error {
            MigrateError::Differs { .. } | MigrateError::Count { .. } => {
                MigrateError::DirectoryInUse
            }
            other => other,
        })?;
        return Ok(Moved { was_there: true, ..moved });
    }
    from.begin(Meta::Unfinished { id: destination, source: own.store })?;
    from.fill()?;
    let moved = from.compare()?;
    let mut batch = Batch::default();
    batch.put(Address::META.as_bytes(), Meta::Whole(destination).to_bytes());
    records.commit(&batch)?;
    Ok(moved)
}

/// The id of the store that the secrets come into, and whether it is whole already.
fn destination(store: &dyn Store, source: StoreId) -> Result<(StoreId, bool), MigrateError> {
    let Some(meta) = store.read(Address::META.as_bytes())? else {
        let mut is_empty = true;
        store.scan(b"", &mut |_, _| {
            is_empty = false;
            ControlFlow::Break(())
        })?;
        let id = StoreId::random();
        return if is_empty { Ok((id, false)) } else { Err(MigrateError::DirectoryInUse) };
    };
    match Meta::parse(&meta).ok_or(OpenVaultError::UnknownFormat)? {
        // A replica of it has the same secrets, and is no store of its own.
        Meta::Whole(id) if store.read(Address::REPLICA.as_bytes())?.is_none() => Ok((id, true)),
        Meta::Unfinished { id, source: of } if of == source => Ok((id, false)),
        Meta::Whole(_) => Err(MigrateError::DirectoryInUse),
        Meta::Unfinished { .. } => Err(MigrateError::OthersUnfinished),
    }
}

struct From<'a> {
    snapshot: Snapshot<'a>,
    records: &'a Records,
    progress: &'a dyn Fn(u64),
}

impl From<'_> {
    /// Removes what an earlier attempt has brought, which may be another moment's, and has the store
    /// say that it is unfinished.
    fn begin(&self, meta: Meta) -> Result<(), MigrateError> {
        let mut batch = Batch::default();
        batch.put(Address::META.as_bytes(), meta.to_bytes());
        let ids = keys::encode(&[self.snapshot.keyring.current_id()]);
        batch.put(Address::KEYS.as_bytes(), self.records.seal(&Address::KEYS, &ids));
        self.records.commit(&batch)?;
        loop {
            let mut batch = Batch::default();
            self.records.scan_all(&mut |address, _| {
                if ![Address::META.as_bytes(), Address::KEYS.as_bytes()].contains(&address) {
                    batch.remove(address);
                }
                match batch.changes().len() < RECORDS {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
            if batch.is_empty() {
                return Ok(());
            }
            self.records.commit(&batch)?;
        }
    }

    fn fill(&self) -> Result<(), MigrateError> {
        let garbage = Arc::new(Garbage::default());
        let mut numbers = Index::new(now());
        let (mut keys, mut ids) = (HashSet::new(), HashSet::new());
        let (mut batch, mut count) = (Batch::default(), 0);
        self.snapshot.each(&mut |sent| {
            if !keys.insert(sent.key.clone()) || !ids.insert(sent.id.clone()) {
                return Err(ReplicaError::Clash { key: sent.key.to_string() }.into());
            }
            let record = RecordId(numbers.next_node());
            let node = numbers.next_node();
            self.records.seal_chunks(node, &sent.value, &mut batch);
            let secret = secret_of(sent, record, node, &garbage);
            let (address, sealed) = self.records.seal_metadata(&secret);
            batch.put(address.as_bytes(), sealed);
            if batch.changes().len() >= RECORDS || batch.bytes() >= BYTES {
                self.records.commit(&std::mem::take(&mut batch))?;
            }
            count += 1;
            (self.progress)(count);
            Ok(())
        })?;
        if !batch.is_empty() {
            self.records.commit(&batch)?;
        }
        Ok(())
    }

    /// Compares everything here with everything there.
    fn compare(&self) -> Result<Moved, MigrateError> {
        let (index, _, _) = load::load(self.records, &Arc::default(), &SetKey::random())?;
        let find = |id: &SecretId| index.by_id(id).cloned();
        let read = |secret: &Secret| {
            let value = self.records.read_value(secret.value(), 0, usize::MAX);
            Ok(value.map_err(|error| error.of(secret))?)
        };
        let (moved, found) = self.snapshot.compare(find, read, self.progress)?;
        let there = index.len() as u64;
        if (moved.secrets, found) != (there, there) {
            return Err(MigrateError::Count { here: moved.secrets, there });
        }
        Ok(moved)
    }
}

fn secret_of(sent: wire::Sent, record: RecordId, node: u64, garbage: &Arc<Garbage>) -> Secret {
    let value = Value {
        record,
        version: sent.version,
        node,
        size: u32::try_from(sent.value.len()).expect("a value has at most 1 MiB"),
        updated: sent.updated,
        updated_by: sent.updated_by,
        superseded: AtomicBool::new(false),
        garbage: Arc::clone(garbage),
    };
    let (key, id, acl) = (sent.key, sent.id, Arc::new(sent.acl));
    Secret { key, id, acl, created: sent.created, value: Arc::new(value) }
}
