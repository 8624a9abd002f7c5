//! Sections 1 and 4: a name that begins with a dot is a secret's, unless it has the form of a temporary file.

use nix::errno::Errno::{EINVAL, EISDIR, ENOENT};

use crate::acl::all_six;
use crate::harness::{ALICE, BOB, Mount, ROOT};

const SECRETS: [&str; 9] = [
    ".dockerconfigjson",
    ".env",
    ".env.Docker",
    ".env.prod01",
    ".htpasswd",
    ".netrc",
    ".pgpass",
    ".ssh/.known/id",
    "web/.env.local",
];

#[test]
fn they_are_secrets_that_stay() {
    let Some(mut mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    for name in SECRETS {
        alice.sh_ok(&format!("mkdir -p $(dirname alice/{name}); printf v > alice/{name}"));
    }
    let names: Vec<String> = SECRETS[..7].iter().map(|&name| name.to_owned()).collect();
    let listed = [&names[..], &[".ssh".to_owned(), "web".to_owned()]].concat();
    for user in [&alice, &root] {
        assert_eq!(user.list("alice"), Ok(listed.clone()));
        assert_eq!(user.list("alice/.ssh/.known"), Ok(vec!["id".to_owned()]));
    }
    assert_eq!(bob.sh_ok("ls -A . | grep -c alice || true"), "0\n");
    assert_eq!(alice.lists("alice/.env"), all_six(&["alice"]));
    root.write("alice/.env.acl", "readers: [alice, bob]\n").unwrap();
    assert_eq!(bob.read("alice/.env").as_deref(), Ok("v"));
    assert_eq!(bob.list("alice"), Ok(vec![".env".to_owned()]));
    let export = alice.read(".export/alice.yaml").unwrap();
    assert!(export.contains("alice/.env\"\n"), "{export}");

    mount.restart();
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    assert_eq!(alice.list("alice"), Ok(listed));
    for name in SECRETS {
        assert_eq!(alice.read(&format!("alice/{name}")).as_deref(), Ok("v"), "{name}");
    }
    assert_eq!(bob.read("alice/.env").as_deref(), Ok("v"));
    alice.sh_ok("mv alice/.env alice/.env.old; mv alice/.env.old alice/.env; rm -r alice/.ssh");
    assert_eq!(alice.stat("alice/.ssh"), Err(ENOENT));
    assert_eq!(alice.sh_ok("rm -r alice/.e* alice/.[dhnp]* alice/web; ls -A alice"), "");
}

#[test]
fn documents_name_them() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    let sealed = alice.sealed_value("alice/.d/.env", "sealed");
    let document = format!(
        "- key: alice/.env\n  value: v\n- {{key: alice/.d/.env, encrypted: true, value: \"{sealed}\"}}\n"
    );
    assert_eq!(alice.import("a.yaml", &document), Ok(()));
    assert_eq!(
        alice.report("a.yaml"),
        "line 1: alice/.env: created\nline 3: alice/.d/.env: created\n"
    );
    assert_eq!(root.read("alice/.env").as_deref(), Ok("v"));
    assert_eq!(root.read("alice/.d/.env").as_deref(), Ok("sealed"));
    for key in [
        "alice/.K.swp",
        "alice/.K~/L",
        "alice/.env.Xy1z2Q",
        ".env",
        ".d/K",
        "alice/..",
        "alice/./K",
    ] {
        assert_eq!(root.import("b.yaml", format!("key: {key}\nvalue: v\n")), Err(EINVAL), "{key}");
    }
    let path = root.path(".encrypt/.in:alice/.K.swp");
    let open = root.sh_ok(&format!("exec 2>&1; true 3<> {} || true", path.display()));
    assert!(open.contains("Invalid argument"), "{open}");
}

#[test]
fn temporary_files_are_not_stored() {
    let Some(mut mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("web/K", "v", "");
    let names = [
        ".K.swp",
        ".K.swpx",
        ".#K",
        ".env.Xy1z2Q",
        ".~lock.K#",
        ".goutputstream-Z1XY2W",
        ".ansible_tmpq1w2e3K",
        ".nfs00000000000a0001",
        ".tmpAbC123",
        ".K.tmp",
        ".K.lock",
        ".K~",
    ];
    for name in names {
        let path = format!("alice/{name}");
        assert_eq!(alice.write(&path, "v"), Ok(()), "{name}");
        assert_eq!(alice.read(&path).as_deref(), Ok("v"), "{name}");
        assert_eq!(root.stat(&path), Err(ENOENT), "{name}");
        assert_eq!(root.mkdir(&format!("web/{name}")), Err(EINVAL), "{name}");
    }
    assert_eq!(alice.list("alice").map(|names| names.len()), Ok(names.len()));
    // An admin's temporary files in the root are hidden like any other.
    assert_eq!(root.write(".K.swp", "v"), Ok(()));
    assert_eq!(alice.stat(".K.swp"), Err(ENOENT));
    mount.restart();
    let alice = mount.user(ALICE);
    assert_eq!(alice.list("alice"), Ok(Vec::new()));
}

#[test]
fn the_root_has_no_others() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    assert_eq!(root.write(".env", "v"), Err(EINVAL));
    assert_eq!(root.mkdir(".ssh"), Err(EINVAL));
    assert_eq!(root.stat(".env"), Err(ENOENT));
    root.write("K", "v").unwrap();
    assert_eq!(root.rename("K", ".env"), Err(EINVAL));
    assert_eq!(root.write(".status", "v"), Err(EISDIR));
    let said = root.read(".status/last-error").unwrap();
    assert!(said.contains("reserved for the filesystem"), "{said}");
}

/// What copying programs make that is not recognised goes the way of a secret.
#[test]
fn an_unrecognised_temporary_file_works_as_well() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    alice.write("alice/K", "old").unwrap();
    root.write("alice/K.acl", "readers: [alice, bob]\n").unwrap();
    let (id, lists) = (root.id("alice/K"), root.lists("alice/K"));
    for temporary in ["alice/.K.abcdef", "alice/sedXy1z2Q", "alice/.K1234567890"] {
        alice.write(temporary, temporary).unwrap();
        assert_eq!(bob.list("alice"), Ok(vec!["K".to_owned()]));
        assert_eq!(alice.rename(temporary, "alice/K"), Ok(()));
        assert_eq!(bob.read("alice/K").as_deref(), Ok(temporary));
        assert_eq!((root.id("alice/K"), root.lists("alice/K")), (id.clone(), lists.clone()));
        assert_eq!(alice.list("alice"), Ok(vec!["K".to_owned()]));
    }
}
