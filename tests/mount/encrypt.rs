//! Section 4, `.encrypt/<key>`: write a plaintext, read back the sealed YAML on the same descriptor.

use std::collections::HashSet;

use nix::errno::Errno::{EDQUOT, EFBIG, EINVAL, EISDIR, ENAMETOOLONG, ENOTDIR, EPERM};

use crate::harness::{ALICE, BOB, Mount, ROOT, UNKNOWN, eventually};
use crate::skip::has;
use crate::user::{Handle, User};

const READ_WRITE: i32 = libc::O_RDWR | libc::O_CREAT;

/// The fields of the one document in a text, in their order.
#[track_caller]
fn fields(document: &str) -> Vec<(String, String)> {
    let document: serde_yaml::Mapping = serde_yaml::from_str(document)
        .unwrap_or_else(|error| panic!("not YAML ({error}): {document}"));
    let text = |value: &serde_yaml::Value| match value {
        serde_yaml::Value::Bool(flag) => flag.to_string(),
        value => value.as_str().expect("text or a truth value").to_owned(),
    };
    document.iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[track_caller]
fn field(document: &str, name: &str) -> String {
    let fields = fields(document);
    fields.into_iter().find(|(field, _)| field == name).expect("the document has the field").1
}

/// What the value of a document is: root imports it and reads it.
#[track_caller]
fn opened(root: &User, document: &[u8]) -> String {
    root.import("opened.yaml", document).unwrap();
    root.read(&field(&String::from_utf8_lossy(document), "key")).unwrap()
}

#[track_caller]
fn seal(user: &User, key: &str, value: &[u8]) -> String {
    let file = user.open(&format!(".encrypt/{key}"), READ_WRITE).unwrap();
    file.write(value).unwrap();
    let document = String::from_utf8(file.read_to_end().unwrap()).unwrap();
    file.close().unwrap();
    document
}

#[test]
fn a_shell_gets_the_document_on_the_same_descriptor() {
    let Some(mount) = Mount::start() else { return };
    for person in [ROOT, ALICE, UNKNOWN] {
        let user = mount.user(person);
        let document = user
            .sh_ok("exec 3<>.encrypt/example-key; printf example-value >&3; cat <&3; exec 3<&-");
        let found = fields(&document);
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["id", "key", "value", "encrypted"]);
        assert!(found[0].1.starts_with("secr_") && found[0].1.len() == 15, "{document}");
        assert_eq!(found[1].1, "example-key");
        assert_eq!(found[3].1, "true");
        assert!(!document.contains("example-value"));
    }
    let root = mount.user(ROOT);
    assert_eq!(root.list(""), Ok(vec![]), "nothing was saved");
    assert_eq!(root.list(".encrypt"), Ok(vec![]), "and nothing is listed");
}

#[test]
fn each_document_has_its_own_id_and_bytes() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    let (mut ids, mut values) = (HashSet::new(), HashSet::new());
    for _ in 0..20 {
        let document = seal(&alice, "K", b"value");
        assert!(ids.insert(field(&document, "id")) && values.insert(field(&document, "value")));
    }
}

#[test]
fn keys_with_directories() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("svc.acl/deep/K", "value", "");
    root.mkdir("empty").unwrap();
    root.put("shared/deep/K", "value", "readers: [alice]\n");
    for (user, key) in [
        (&alice, "alice/K"),         // the caller's own
        (&alice, "shared/deep/new"), // a directory with something that the caller sees
        (&root, "payment-svc/K"),    // for an admin: an identity's own,
        (&root, "svc.acl/deep/new"), // a directory of secrets,
        (&root, "empty/K"),          // and one that was made
    ] {
        assert_eq!(field(&seal(user, key, b"v"), "key"), key);
    }
    for (path, key) in [
        (".in:a/.in:b/K", "a/b/K"),
        (".in:alice/K", "alice/K"),
        ("alice/.in:unknown/K", "alice/unknown/K"),
    ] {
        assert_eq!(field(&seal(&alice, path, b"v"), "key"), key);
    }
    let longest = format!(".in:{0}/.in:{0}/.in:{0}/{0}", "x".repeat(255));
    let document = seal(&alice, &longest, b"v");
    assert_eq!(field(&document, "key").len(), 4 * 255 + 3);
    assert_eq!(alice.open(".encrypt/alice", READ_WRITE).err(), Some(EISDIR));
}

#[test]
fn what_a_name_is_does_not_depend_on_what_the_caller_cannot_know() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("svc/K", "value", "");
    root.mkdir("made").unwrap();
    alice.mkdir("alice/made").unwrap();
    let mode = |path: &str| bob.stat(&format!(".encrypt/{path}")).unwrap().mode;
    let is_directory = |path: &str| mode(path) & libc::S_IFMT == libc::S_IFDIR;
    for hidden in ["alice", "payment-svc", "secret-admins", "svc", "made", "no-such-slug"] {
        assert!(!is_directory(hidden), "{hidden}");
        assert_eq!(bob.open(&format!(".encrypt/{hidden}/K"), READ_WRITE).err(), Some(ENOTDIR));
        assert_eq!(
            field(&seal(&bob, &format!(".in:{hidden}/K"), b"v"), "key"),
            format!("{hidden}/K")
        );
    }
    assert!(is_directory("bob"));
    root.put("svc/L", "value", "deleters: [bob]\n");
    assert!(is_directory("svc"), "there is something that the caller may delete");
}

#[test]
fn bad_keys() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    let error = |key: &str| alice.open(&format!(".encrypt/{key}"), READ_WRITE).err();
    for key in [".hidden", "K.acl", "a\nb", "a\u{7f}", "alice/.K.swp", "alice/K.acl", ".in:.a/K"] {
        assert_eq!(error(key), Some(EINVAL), "{key:?}");
    }
    assert_eq!(error(&"x".repeat(256)), Some(ENAMETOOLONG));
    let longest = format!(".in:{0}/.in:{0}/.in:{0}/.in:{0}/K", "x".repeat(255));
    assert_eq!(error(&longest), Some(ENAMETOOLONG));
    let shell = alice.sh(r"exec 3<>$'.encrypt/a\xff'");
    assert!(shell.stderr.contains("Invalid argument"), "{}", shell.stderr);
    let told = alice.read(".status/last-error").unwrap();
    assert!(told.contains("encrypt .encrypt/K.acl: the key ends in `.acl`"), "{told}");
}

#[test]
fn positions() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    let file = alice.open(".encrypt/K", READ_WRITE).unwrap();
    for part in ["example", "-", "value"] {
        file.write(part).unwrap();
    }
    let size = file.stat().unwrap().size;
    assert_eq!(size, 13);
    let document = file.read_to_end().unwrap();
    assert_eq!(opened(&root, &document), "example-value");
    assert_eq!(file.read_at(0, 1 << 20).unwrap(), document, "pread from 0");
    let pieces: Vec<u8> =
        (0..document.len()).flat_map(|at| file.read_at(at as u64, 1).unwrap()).collect();
    assert_eq!(pieces, document, "byte by byte");
    assert_eq!(file.read_at(document.len() as u64, 10).unwrap(), b"");
    // Writing again makes another document.
    file.write("another").unwrap();
    let second = file.read_to_end().unwrap();
    assert_eq!(opened(&root, &second), "another");
    assert_ne!(document, second);
    file.close().unwrap();
}

#[test]
fn programs_read_it_all() {
    if !has(&["python3"]) {
        return;
    }
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    for read in [
        "cat <&3",
        "cat /dev/fd/3 <&3 || true; cat <&3",
        "head -c 100000 <&3",
        "dd bs=7 status=none <&3",
    ] {
        let script = format!("exec 3<>.encrypt/K; printf example-value >&3; {read}");
        let document = alice.sh_ok(&script);
        assert_eq!(opened(&root, document.as_bytes()), "example-value", "{read}");
    }
    let python = "\
import os
d = os.open('.encrypt/K', os.O_RDWR)
os.write(d, b'example-value')
assert os.read(d, 10) and os.lseek(d, 0, os.SEEK_SET) == 0
whole = os.read(d, 100000)
assert os.pread(d, 100000, 0) == whole and os.fstat(d).st_size == len(whole)
print(whole.decode(), end='')
with open('.encrypt/K', 'r+b') as f:
    f.write(b'example-value'); f.flush(); f.seek(0)
    assert f.read().endswith(b'\\nencrypted: true\\n')
";
    let document = alice.sh_ok(&format!("python3 - <<'END'\n{python}END\n"));
    assert_eq!(opened(&root, document.as_bytes()), "example-value");
}

#[test]
fn any_value_up_to_a_mebibyte() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    let nothing = alice.open(".encrypt/K", READ_WRITE).unwrap();
    let empty = String::from_utf8(nothing.read_to_end().unwrap()).unwrap();
    assert_eq!(opened(&root, empty.as_bytes()), "");
    root.import("bytes.yaml", seal(&alice, "K", b"\xff\0\n")).unwrap();
    assert_eq!(root.read_bytes("K").as_deref(), Ok(&b"\xff\0\n"[..]));
    let largest = vec![b'x'; 1 << 20];
    let document = seal(&alice, "K", &largest);
    assert!(field(&document, "value").len() > (1 << 20) * 4 / 3);
    let file = alice.open(".encrypt/K", READ_WRITE).unwrap();
    file.write(&largest).unwrap();
    assert_eq!(file.write("x"), Err(EFBIG));
    assert_eq!(file.read_to_end(), Err(EFBIG), "half a value is not sealed");
    file.set_length(0).unwrap();
    file.write("v").unwrap();
    assert!(file.read_at(0, 1000).is_ok());
}

#[test]
fn it_is_private_to_the_descriptor() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    let first = alice.open(".encrypt/K", READ_WRITE).unwrap();
    first.write("example-value").unwrap();
    let second = alice.open(".encrypt/K", READ_WRITE).unwrap();
    let other = bob.open(".encrypt/K", READ_WRITE).unwrap();
    assert_eq!(opened(&root, &second.read_to_end().unwrap()), "");
    other.write("another").unwrap();
    // Not even through the kernel's cache.
    let mapped = |file: &Handle<'_>| {
        file.read_at(0, 1).unwrap();
        let size = file.stat().unwrap().size;
        opened(&root, &file.map_private(usize::try_from(size).unwrap()).unwrap())
    };
    for _ in 0..3 {
        assert_eq!(mapped(&first), "example-value");
        assert_eq!(mapped(&other), "another");
    }
    assert_eq!(opened(&root, &first.read_at(0, 10_000).unwrap()), "example-value");
}

#[test]
fn reading_or_writing_alone_leads_to_nothing() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    for flags in [libc::O_RDONLY, libc::O_WRONLY, libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC] {
        assert_eq!(root.open(".encrypt/K", flags).err(), Some(EPERM), "{flags:o}");
    }
    assert_eq!(root.unlink(".encrypt/K"), Err(EPERM));
    assert_eq!(root.rename(".encrypt/K", "K"), Err(EPERM));
    assert_eq!(root.rmdir(".encrypt"), Err(EPERM));
    assert_eq!(root.write(".encrypt/K.acl", "readers: []"), Err(EINVAL));
}

#[test]
fn as_many_at_a_time_as_a_user_has_memory_for() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--memory-per-user", "8M"]).started();
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    let value = vec![b'x'; 1 << 20];
    let mut open: Vec<_> = (0..7)
        .map(|_| {
            let file = alice.open(".encrypt/K", READ_WRITE).unwrap();
            file.write(&value).unwrap();
            file
        })
        .collect();
    let refused = alice.open(".encrypt/K", READ_WRITE).unwrap();
    assert_eq!(refused.write(&value), Err(EDQUOT));
    assert_eq!(refused.close(), Ok(()));
    assert!(bob.open(".encrypt/K", READ_WRITE).unwrap().write(&value).is_ok(), "his own limit");
    open.pop().unwrap().close().unwrap();
    eventually("there is room", || {
        alice.open(".encrypt/K", READ_WRITE).unwrap().write(&value).is_ok()
    });
}

#[test]
fn the_command_line_needs_no_known_directory() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    let secretfs = env!("CARGO_BIN_EXE_secretfs");
    let run = |arguments: &str| alice.sh_ok(&format!("{secretfs} --mount \"$PWD\" {arguments}"));
    let document = run("encrypt example-key example-value");
    assert_eq!(field(&document, "checksum"), "45a3b25f");
    assert_eq!(field(&run("encrypt un/known/K example-value"), "key"), "un/known/K");
    assert_eq!(field(&run("encrypt K ''"), "checksum"), "00000000");
    let document = run("encrypt K example-value --checksum-algorithm SHA-256");
    assert_eq!(field(&document, "checksumAlgorithm"), "SHA-256");
    assert!(field(&document, "checksum").starts_with("818e58a6"));
    let none = run("encrypt K example-value --checksum-algorithm none");
    assert!(!none.contains("checksum"));
    let upstream = "key: production/API_KEY\nvalue: a37/KUAr4SOYi6Xw9i9T8qo3QCk8WvnzONo47jHAkwk=\nencrypted: true\n";
    let converted = alice.sh_ok(&format!(
        "printf '{upstream}' > $T/upstream.yaml; {secretfs} --mount \"$PWD\" convert $T/upstream.yaml"
    ));
    assert_eq!(field(&converted, "key"), "production/API_KEY");
    assert_eq!(field(&converted, "checksum"), format!("{:08x}", crc32fast::hash(b"example")));
}
