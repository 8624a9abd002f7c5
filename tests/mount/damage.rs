//! A disk that does not keep what it was given.

use std::ops::ControlFlow;

use secretfs::store::{Batch, SledStore, Store};

use crate::harness::Mount;

/// A copy of the records of all secrets. The daemon must not run.
#[track_caller]
pub(crate) fn copy_of_heads(mount: &Mount) -> Batch {
    let store = SledStore::open(&mount.state()).expect("nobody else has the store");
    let mut copy = Batch::default();
    store
        .scan(b"h", &mut |address, sealed| {
            copy.put(address, sealed.to_vec());
            ControlFlow::Continue(())
        })
        .expect("the store can be read");
    copy
}

/// Puts records in their places again. The daemon must not run.
#[track_caller]
pub(crate) fn put_back(mount: &Mount, records: &Batch) {
    let store = SledStore::open(&mount.state()).expect("nobody else has the store");
    store.commit(records).expect("the store takes records");
}

/// Changes a bit in the first stored value, that of the secret that was created first. The daemon
/// must not run.
#[track_caller]
pub(crate) fn spoil_one_value(mount: &Mount) {
    let store = SledStore::open(&mount.state()).expect("nobody else has the store");
    let mut damage = Batch::default();
    store
        .scan(b"v", &mut |address, sealed| {
            let mut sealed = sealed.to_vec();
            *sealed.last_mut().expect("a record is not empty") ^= 1;
            damage.put(address, sealed);
            ControlFlow::Break(())
        })
        .expect("the store can be read");
    assert!(!damage.is_empty(), "there is a value");
    store.commit(&damage).expect("the store takes records");
}
