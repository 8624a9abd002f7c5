//! How the replica is doing, for the metrics.

use std::time::Duration;

use crate::telemetry::Counter;
use crate::vault::Vault;
use crate::vault::writer::transaction::now;

/// How the replica of a shared store is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharingStatus {
    /// Whether etcd tells what happens there.
    pub is_connected: bool,
    /// All changes up to this revision are here.
    pub revision: u64,
    /// For how long it has not been known whether that is all: zero while it is connected.
    pub age: Duration,
    /// Changes of this host that were refused because another one was quicker.
    pub conflicts: u64,
    /// How often everything was read.
    pub resyncs: u64,
    /// How often the connection was lost.
    pub disconnects: u64,
}

/// What is counted of it.
#[derive(Default)]
pub(in crate::vault) struct Counts {
    pub(in crate::vault) conflicts: Counter,
    pub(super) resyncs: Counter,
    pub(super) disconnects: Counter,
}

impl Vault {
    /// How this host's replica is doing; nothing if its store is its own.
    pub fn sharing_status(&self) -> Option<SharingStatus> {
        let replica = self.shared.replica.as_ref()?;
        let stored = replica.state.lock().seen.at;
        let since_stored = Duration::from_nanos(now().as_nanos().saturating_sub(stored));
        Some(SharingStatus {
            is_connected: replica.link.is_up(),
            revision: replica.link.seen(),
            age: replica.link.down_for().unwrap_or(since_stored),
            conflicts: replica.counts.conflicts.get(),
            resyncs: replica.counts.resyncs.get(),
            disconnects: replica.counts.disconnects.get(),
        })
    }
}
