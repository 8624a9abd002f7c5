//! The store, wrapped for the watchdog: a request that waits for the disk does not count as hanging.

use std::ops::ControlFlow;

use crate::store::{Batch, SledStore, Space, Store, StoreError};
use crate::telemetry::request_watchdog;

/// A store each of whose operations may take its time.
pub(in crate::daemon) struct OnDisk(pub(in crate::daemon) SledStore);

impl Store for OnDisk {
    fn read(&self, address: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let _waiting = request_watchdog::waiting();
        self.0.read(address)
    }

    fn scan_from(
        &self,
        prefix: &[u8],
        start: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let _waiting = request_watchdog::waiting();
        self.0.scan_from(prefix, start, visit)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let _waiting = request_watchdog::waiting();
        self.0.commit(batch)
    }

    fn space(&self) -> Result<Space, StoreError> {
        let _waiting = request_watchdog::waiting();
        self.0.space()
    }

    fn note_keys(&self, ids: &[String]) {
        let _waiting = request_watchdog::waiting();
        self.0.note_keys(ids);
    }
}
