//! `secretfs mount --check`: says whether a start would be refused, and changes nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Output;

use crate::harness::{ALICE, IDENTITIES, KEY, Mount, ROOT};

/// Another key than that of the tests.
const OTHER_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Exit code and standard error.
fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Name, time of the last change of name or content, mode and owner of all below a directory.
fn all_below(directory: &Path) -> Vec<(String, i64, i64, u32, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let metadata = entry.metadata().unwrap();
        let name = entry.path().display().to_string();
        let owner = metadata.uid();
        found.push((name, metadata.ctime(), metadata.ctime_nsec(), metadata.mode(), owner));
        if metadata.is_dir() {
            found.extend(all_below(&entry.path()));
        }
    }
    found.sort();
    found
}

#[test]
fn it_accepts_what_serves_and_changes_nothing() {
    let Some(mut mount) = Mount::prepare() else { return };
    assert_eq!(said(&mount.check(&[])).0, Some(0), "before there is a store");
    assert!(all_below(&mount.state()).is_empty());
    mount.go();
    mount.user(ROOT).write("K", "value").unwrap();
    let server = mount.server();
    let (code, text) = said(&mount.check(&[]));
    assert_eq!((code, text.lines().count()), (Some(0), 1), "{text}");
    assert_eq!(mount.server(), server);
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
    mount.stop();
    let before = all_below(&mount.state());
    assert_eq!(said(&mount.check(&[])).0, Some(0), "with a store that no daemon uses");
    assert_eq!(all_below(&mount.state()), before);
    assert!(mount.mounted().is_none());
}

#[test]
fn it_names_what_a_start_would_refuse() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).write("K", "value").unwrap();
    let at = |name: &str, text: &str| {
        let path = mount.roots().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let bad_config = at("config.yaml", "muontpoint: /x\n");
    let other_key = at("other-key", OTHER_KEY);
    let own_key = at("own-key", KEY);
    let empty_key = at("empty-key", "");
    let refused = |code: i32, what: &str, arguments: &[&str]| {
        let (found, text) = said(&mount.check(arguments));
        assert!(found == Some(code) && text.contains(what), "{arguments:?}: {found:?}\n{text}");
        assert!(text.starts_with("Error: "), "{text}");
    };
    refused(5, "muontpoint", &["--config", &bad_config]);
    refused(6, "another encryption key", &["--encryption-key-file", &other_key]);
    refused(5, "the encryption key is empty", &["--encryption-key-file", &empty_key]);
    refused(4, "/nope cannot be used", &["--encryption-key-file", "/nope"]);
    refused(6, "there is no such user", &["--user", "no-such-user"]);
    refused(6, "--import-dir /nope", &["--import-dir", "/nope"]);
    fs::set_permissions(mount.identities(), fs::Permissions::from_mode(0o666)).unwrap();
    refused(5, "chmod go-w", &[]);
    fs::set_permissions(mount.identities(), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(mount.identities(), "identities:\n  - slug: alice\n    uid: nobody\n").unwrap();
    refused(5, "is not valid", &[]);
    // All of it at once.
    let (code, text) = said(&mount.check(&["--encryption-key-file", &other_key]));
    assert_eq!((code, text.lines().count()), (Some(6), 2), "{text}");
    fs::write(mount.identities(), IDENTITIES).unwrap();
    // None of this reached the service.
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
    assert_eq!(mount.user(ROOT).read(".status/health").unwrap().trim_end(), "ok");
    assert_eq!(said(&mount.check(&["--encryption-key-file", &own_key])).0, Some(0));
    mount.stop();
    let (code, text) = said(&mount.check(&["--encryption-key-file", &other_key]));
    assert!(code == Some(6) && text.contains("another encryption key"), "{text}");
}

#[test]
fn it_follows_the_keys_of_the_store() {
    let Some(mount) = Mount::prepare() else { return };
    let key = mount.roots().join("key");
    let previous = mount.roots().join("previous");
    let write = |path: &Path, text: &str| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(&key, KEY);
    write(&previous, "");
    let flags = [
        "--encryption-key-file",
        key.to_str().unwrap(),
        "--previous-encryption-key-file",
        previous.to_str().unwrap(),
    ];
    let mount = mount.with_args(&flags).started();
    mount.user(ROOT).write("K", "value").unwrap();
    write(&previous, KEY);
    write(&key, OTHER_KEY);
    assert_eq!(said(&mount.reload()), (Some(0), String::new()));
    // Records are sealed with both until a rekey.
    write(&previous, "");
    let (code, text) = said(&mount.check(&[]));
    assert!(code == Some(6) && text.contains("previous-encryption-key-file"), "{text}");
    write(&previous, KEY);
    assert_eq!(said(&mount.check(&[])).0, Some(0));
    let rekeyed = mount.user(ROOT).sh(&format!(
        "{} rekey --mount {}",
        env!("CARGO_BIN_EXE_secretfs"),
        mount.point().display()
    ));
    assert_eq!(rekeyed.code, Some(0), "{}", rekeyed.stderr);
    write(&previous, "");
    assert_eq!(said(&mount.check(&[])).0, Some(0), "no other key is needed");
    assert_eq!(mount.user(ALICE).stat("K").unwrap().size, 5);
}
