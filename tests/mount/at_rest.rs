//! Section 7: nothing in the state directory can be read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{ALICE, KEY, Mount, ROOT};

const VALUE: &str = "needle-value-4f1c9a";
const LARGE: &str = "needle-large-77b2e0";
const SCRATCH: &str = "needle-scratch-c03d";
const NAME: &str = "needle-key-e1a88b";
const SLUG: &str = "needle-slug-90ab12";

/// Calls `look` with every file below `directory`.
fn each_file(directory: &Path, look: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { each_file(&path, look) } else { look(&path) }
    }
}

/// Fails if one of the needles is in the store; the audit log may name keys and slugs.
fn assert_sealed(state: &Path, when: &str) {
    let mut bytes = 0;
    each_file(state, &mut |path| {
        let content = fs::read(path).unwrap();
        bytes += content.len();
        let audit = path.starts_with(state.join("audit"));
        let never = [VALUE, LARGE, SCRATCH, KEY].into_iter();
        for needle in never.chain([NAME, SLUG].into_iter().filter(|_| !audit)) {
            let found = content.windows(needle.len()).any(|window| window == needle.as_bytes());
            assert!(!found, "{when}: {needle} stands in {}", path.display());
        }
        let mode = fs::metadata(path).unwrap().permissions().mode();
        if audit {
            assert_eq!(mode & 0o7777, 0o600, "{when}: the mode of {}", path.display());
        }
    });
    assert!(bytes > 1000, "{when}: only {bytes} bytes: is this the store?");
}

#[test]
fn neither_values_nor_names_nor_lists_can_be_read() {
    let Some(mut mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put(&format!("db/{NAME}"), VALUE, &format!("readers: [{SLUG}]\n"));
    root.put(&format!("db/{NAME}-large"), LARGE.repeat(10_000), "");
    alice.write(&format!("alice/{NAME}"), VALUE).unwrap();
    alice.write("alice/.scratch.tmp", SCRATCH).unwrap();
    root.rename(&format!("db/{NAME}"), &format!("{NAME}-moved")).unwrap();
    root.unlink(&format!("alice/{NAME}")).unwrap();
    assert_sealed(&mount.state(), "while it runs");
    mount.restart();
    assert_eq!(mount.user(ROOT).read(&format!("{NAME}-moved")).as_deref(), Ok(VALUE));
    assert_sealed(&mount.state(), "after a restart");
    let said = mount.stop();
    for needle in [VALUE, LARGE, SCRATCH] {
        assert!(!said.contains(needle), "a value was logged:\n{said}");
    }
    assert_sealed(&mount.state(), "when it has ended");
}

#[test]
fn the_state_directory_is_for_its_owner() {
    let Some(mut mount) = Mount::prepare() else { return };
    fs::remove_dir(mount.state()).unwrap();
    mount.go();
    let mode = fs::metadata(mount.state()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700, "a state directory that was missing");
    mount.stop();
    for mode in [0o755, 0o750, 0o701, 0o770] {
        crate::harness::set_mode(&mount.state(), mode);
        let said = mount.refused();
        assert!(said.contains(mount.state().to_str().unwrap()), "it should name it:\n{said}");
        assert!(mount.mounted().is_none());
    }
    crate::harness::set_mode(&mount.state(), 0o700);
    mount.go();
}
