//! A program that was built without etcd says so.

use crate::harness::Mount;

#[test]
fn a_shared_store_is_refused_with_a_sentence() {
    let Some(mount) = Mount::prepare() else { return };
    let said = mount.with_args(&["--store", "etcd://127.0.0.1/fleet"]).refused();
    assert!(said.contains("--features etcd"), "{said}");
}
