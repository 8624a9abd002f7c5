//! Moving a host's own store to a shared one, and back: whole, compared, and safe to interrupt.
//!
//! Keys, ids, lists, versions, times and bytes stay what they were; numbers of nodes and records are each store's
//! own. The destination's record `m` says that it is unfinished, and whose secrets it gets, from before the first
//! secret is there until all of them have been read back and compared: so no other process opens it, and an
//! interrupted migration can continue. A destination that holds anything else is left as it is.

mod error;
mod from;
#[cfg(test)]
mod tests;
mod to;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::crypto::Keyring;
use crate::model::{Plaintext, SecretId};
use crate::vault::records::secret::Secret;

pub use error::MigrateError;
pub use from::migrate_from;

use super::error::ReplicaError;
use super::large::{Order, read_order};
use super::wire::{self, Random, Wire};

/// What was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many secrets, each of which was read back and compared.
    pub secrets: u64,
    /// The bytes of their values.
    pub bytes: u64,
    /// Whether all of it was there before, and nothing was left to do but to compare.
    pub was_there: bool,
}

impl Moved {
    fn add(&mut self, sent: &wire::Sent) {
        self.secrets += 1;
        self.bytes += sent.value.len() as u64;
    }
}

/// A shared store as it was at one revision.
struct Snapshot<'a> {
    cluster: &'a dyn Cluster,
    wire: Wire,
    keyring: &'a Keyring,
    revision: u64,
}

impl Snapshot<'_> {
    /// Shows every secret of it, in no order that means anything.
    ///
    /// # Errors
    /// It cannot be read, or what was shown is refused.
    fn each(
        &self,
        show: &mut dyn FnMut(wire::Sent) -> Result<(), MigrateError>,
    ) -> Result<(), MigrateError> {
        let ahead = self.ahead()?;
        let (first, until) = wire::secrets();
        let mut from = first.to_vec();
        loop {
            let page = self.cluster.read(&from, until, Some(self.revision))?;
            let Some(end) = page.records.last() else { break };
            from = [&end.name[..], b"\0"].concat();
            for record in &page.records {
                if !ahead.contains_key(&record.name) {
                    show(self.open(&record.name, &record.sealed)?)?;
                }
            }
            if !page.more {
                break;
            }
        }
        for (name, sealed) in &ahead {
            if let Some(sealed) = sealed {
                show(self.open(name, sealed)?)?;
            }
        }
        Ok(())
    }

    /// Compares every secret of it with that of the same id which `find` finds, and `read` reads. Gives
    /// what there is, and how many different ones were found.
    ///
    /// # Errors
    /// One differs or is not found, or something cannot be read.
    fn compare(
        &self,
        find: impl Fn(&SecretId) -> Option<Arc<Secret>>,
        read: impl Fn(&Secret) -> Result<Plaintext, MigrateError>,
        progress: &dyn Fn(u64),
    ) -> Result<(Moved, u64), MigrateError> {
        let (mut moved, mut found) = (Moved::default(), HashSet::new());
        self.each(&mut |sent| {
            let absent =
                || MigrateError::Differs { key: sent.key.to_string(), what: "being there" };
            let secret = find(&sent.id).ok_or_else(absent)?;
            if let Some(what) = difference(&secret, &read(&secret)?, &sent) {
                return Err(MigrateError::Differs { key: secret.key().to_string(), what });
            }
            moved.add(&sent);
            found.insert(secret.record());
            progress(moved.secrets);
            Ok(())
        })?;
        Ok((moved, found.len() as u64))
    }

    /// What a large change brings that holds, and that has not been put in its places yet: by the
    /// names of records, what they are to be.
    fn ahead(&self) -> Result<HashMap<Vec<u8>, Option<Vec<u8>>>, MigrateError> {
        let after = [wire::ORDER, b"\0"].concat();
        let page = self.cluster.read(wire::ORDER, &after, Some(self.revision))?;
        let Some(record) = page.records.first() else { return Ok(HashMap::new()) };
        let order = Order::parse(&record.sealed).ok_or(ReplicaError::UnknownFormat)?;
        let mut changes = HashMap::new();
        if order.holds {
            read_order(self.cluster, &order, self.revision, &mut |change| {
                if wire::parse_secret_name(&change.name).is_some() {
                    changes.insert(change.name, change.sealed);
                }
                Ok(())
            })?;
        }
        Ok(changes)
    }

    fn open(&self, name: &[u8], sealed: &[u8]) -> Result<wire::Sent, MigrateError> {
        let bytes = self.wire.open(self.keyring, name, sealed).map_err(MigrateError::Unseal)?;
        wire::decode(&bytes).ok_or(MigrateError::NoSecret)
    }
}

/// In what a secret here differs from one there; nothing if they are the same.
fn difference(here: &Secret, value: &Plaintext, there: &wire::Sent) -> Option<&'static str> {
    let parts = [
        ("key", *here.key() == there.key),
        ("id", *here.id() == there.id),
        ("lists", **here.acl() == there.acl),
        ("time of creation", here.created() == there.created),
        ("version", here.value().version() == there.version),
        ("time of its last change", here.value().updated() == there.updated),
        ("author of its last change", *here.value().updated_by() == there.updated_by),
        ("value", value.expose() == there.value.expose()),
    ];
    parts.into_iter().find(|(_, is_same)| !is_same).map(|(part, _)| part)
}

/// Refuses a secret that differs.
/// The number of the record of a secret that came with a move. Those that come later have others, so
/// that it is known of a removed one that it was there before.
const BORN: u64 = 1;

/// The name of a record that holds no secret yet.
fn new_name() -> Vec<u8> {
    let id: Random = wire::random();
    wire::secret_name(&id)
}
