//! Section 10: nothing of a value, and nothing of a key, in anything that the daemon writes.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::harness::{ALICE, BOB, KEY, Mount, ROOT};

/// Values, each written in another way.
const VALUES: [&str; 7] = [
    "planted-by-redirection-5b1e",
    "planted-twice-77aa0c",
    "planted-in-a-scratch-file-c03d",
    "planted-and-denied-90ab12",
    "planted-in-lists-1fe2",
    "planted-in-a-document-66d0",
    "planted-to-be-sealed-aa01",
];
const PASSPHRASE: &str = "planted passphrase, not to be found";

/// What must not be found: each in the clear, in base64 and in hex.
fn needles() -> Vec<Vec<u8>> {
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let key: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&KEY[2 * at..2 * at + 2], 16).unwrap()).collect();
    let texts = VALUES.into_iter().chain([KEY, PASSPHRASE]);
    texts
        .flat_map(|text| {
            // Without the end, which depends on what follows.
            let base64 = STANDARD.encode(text)[..text.len() / 3 * 4].to_owned();
            [text.to_owned(), hex(text), base64].map(String::into_bytes)
        })
        .chain([key.clone(), STANDARD.encode(key).into_bytes()])
        .collect()
}

#[track_caller]
fn assert_clean(what: &str, bytes: &[u8]) {
    for needle in needles() {
        let found = memchr::memmem::find(bytes, &needle).is_some();
        assert!(!found, "{what} holds {}", String::from_utf8_lossy(&needle));
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn neither_values_nor_keys_are_found_in_what_the_daemon_writes() {
    let Some(mount) = Mount::prepare() else { return };
    let previous = mount.state().with_file_name("previous");
    fs::write(&previous, format!("{PASSPHRASE}\n")).unwrap();
    crate::harness::set_mode(&previous, 0o600);
    let mut mount = mount.with_args(&[
        "--log-level",
        "debug",
        "--previous-encryption-key-file",
        previous.to_str().unwrap(),
    ]);
    mount.go();
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    alice.write("alice/K", VALUES[0]).unwrap();
    alice.write("alice/K", VALUES[1]).unwrap();
    alice.append("alice/K", VALUES[1]).unwrap();
    alice.write("alice/.scratch.tmp", VALUES[2]).unwrap();
    assert!(bob.write("alice/K", VALUES[3]).is_err());
    assert!(bob.write("db/K", VALUES[3]).is_err());
    assert!(bob.write(&format!("bob/{}", "x".repeat(300)), VALUES[3]).is_err());
    assert!(alice.write("alice/K.acl", format!("readers: [{0}, \"{0}\n", VALUES[4])).is_err());
    // Documents, right and wrong; what the drop directory says about them is another test's matter.
    let right = format!("key: db/D\nvalue: {}\n", VALUES[5]);
    let wrong = format!("key: db/D\nvalue: {}\nencrypted: true\nchecksum: 0\nx: y\n", VALUES[5]);
    let cut = format!("key: db/D\nvalue: \"{}\n", VALUES[5]);
    for (name, document) in [("right", right), ("wrong", wrong), ("cut", cut)] {
        let _ = root.write(&format!(".import/{name}.yaml"), document);
    }
    let _ = root.write(".encrypt/db/K", VALUES[6]);
    assert_eq!(root.read("alice/K").unwrap(), VALUES[1].repeat(2));
    root.sh_ok("cat .status/*; ls -lR; getfattr -d alice/K 2>/dev/null || true");
    let shown = root.sh_ok("cat .status/*");
    assert_clean(".status", shown.as_bytes());
    assert_clean("last-error of alice", alice.read(".status/last-error").unwrap().as_bytes());
    assert_clean("last-error of bob", bob.read(".status/last-error").unwrap().as_bytes());
    root.rename("alice/K", "alice/moved").unwrap();
    root.unlink("alice/moved").unwrap();

    for file in ["environ", "cmdline", "status", "maps"] {
        let path = format!("/proc/{}/{file}", mount.pid());
        assert_clean(&path, &fs::read(&path).unwrap());
    }
    let look = |when: &str| {
        let all = files(&mount.state());
        assert!(all.len() > 2, "is this the state directory? {all:?}");
        for path in all {
            // What goes while it is looked at is gone.
            let Ok(bytes) = fs::read(&path) else { continue };
            assert_clean(&format!("{when}: {}", path.display()), &bytes);
        }
    };
    look("while it runs");
    assert_clean("the log", mount.said().as_bytes());
    let state = mount.state();
    let said = mount.stop();
    assert!(said.len() > 200, "a log at debug says more:\n{said}");
    assert_clean("the log", said.as_bytes());
    for path in files(&state) {
        assert_clean(&format!("at the end: {}", path.display()), &fs::read(&path).unwrap());
    }
}
