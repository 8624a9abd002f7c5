//! Section 3, "No side channels": what a caller may not read, it cannot learn by other means.

use nix::errno::Errno::{self, EACCES, EINVAL, EPERM};

use crate::acl::LISTS;
use crate::harness::{ALICE, BOB, CAROL, Mount, ROOT, eventually};

#[test]
fn renaming_onto_an_existing_secret_needs_readers_of_the_source() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    alice.write("alice/own", "own").unwrap();
    root.put("svc/K", "hidden", "");
    for list in LISTS {
        root.only_list("svc/K", list, "alice");
        for target in ["alice/own", "alice/own.acl"] {
            assert_eq!(alice.rename("svc/K", target), Err(EACCES), "{list} alone, onto {target}");
        }
        let exchange = alice.rename_with("svc/K", "alice/own", libc::RENAME_EXCHANGE);
        assert_eq!(exchange, Err(EINVAL), "{list} alone");
        assert_eq!(alice.sh("ln svc/K alice/link").code, Some(1), "{list} alone");
    }
    assert_eq!(alice.read("alice/own").as_deref(), Ok("own"));
    assert_eq!(root.read("svc/K").as_deref(), Ok("hidden"));
    let said = alice.read(".status/last-error").unwrap();
    assert!(said.contains("svc/K: you may not read it") && !said.contains("hidden"), "{said}");
}

#[test]
fn a_secret_that_moves_brings_its_mover_onto_no_list() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("svc/K", "hidden", "");
    root.only_list("svc/K", "deleters", "alice");
    let lists = root.lists("svc/K");
    alice.mkdir("alice/sub").unwrap();
    for (from, to) in [("svc/K", "alice/K"), ("alice/K", "alice/sub/K")] {
        assert_eq!(alice.rename(from, to), Ok(()), "{from} to {to}");
        assert_eq!((root.lists(to), alice.read(to)), (lists.clone(), Err(EACCES)), "{to}");
    }
    assert_eq!(alice.rename("alice/sub/K.acl", "alice/own"), Err(EPERM), "a sidecar");
    // What is put in its place later has the lists of what was there.
    assert_eq!(alice.unlink("alice/sub/K"), Ok(()));
    assert_eq!(alice.stat("alice/sub/K").map(drop), Err(Errno::ENOENT));
}

#[test]
fn a_writer_that_is_no_reader_learns_nothing_of_the_value() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("svc/K", "hidden", "writers: [alice]\n");
    assert_eq!(alice.open("svc/K", libc::O_RDWR).map(drop), Err(EACCES));
    let draft = alice.open("svc/K", libc::O_WRONLY).unwrap();
    assert_eq!(draft.read_at(0, 6), Err(Errno::EBADF));
    assert!(draft.map_private(6).is_err());
    assert_eq!(draft.write_at(5, "N"), Ok(()));
    // The same buffer through its descriptor.
    let script = "exec 3>>svc/K; cat /proc/self/fd/3; exec 4<>/proc/self/fd/3";
    let shell = alice.sh(script);
    assert!(shell.stdout.is_empty() && shell.code != Some(0), "{shell:?}");
    assert_eq!(draft.close(), Ok(()));
    assert_eq!(root.read("svc/K").as_deref(), Ok("hiddeN"), "the base is there for the merge");
    // Whether a guess is right shows nowhere: each import is a new version.
    let version = || root.xattr("svc/K", "user.secretfs.version").unwrap();
    let mut versions = std::collections::HashSet::from([version()]);
    for guess in ["hiddeN", "hiddeN", "wrong", "hiddeN"] {
        assert_eq!(alice.import("guess.yaml", format!("key: svc/K\nvalue: {guess}\n")), Ok(()));
        assert_eq!(alice.report("guess.yaml"), "line 1: svc/K: updated\n");
        assert!(versions.insert(version()), "{guess}");
    }
    let alice_sees = alice.read(".status/metrics").unwrap();
    assert!(!alice_sees.contains("unchanged"), "{alice_sees}");
}

#[test]
fn an_import_tells_an_outsider_nothing() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    let text =
        "key: svc/K\nid: secr_0123456789\nvalue: hidden\nreaders: [alice]\nwriters: [alice]\n";
    root.import("K.yaml", text).unwrap();
    let version = root.xattr("svc/K", "user.secretfs.version").unwrap();
    // Lists: the same answer whether they stand or not.
    let told = ["readers: [alice]\n", "readers: [bob]\n"].map(|lists| {
        assert_eq!(
            bob.import("lists.yaml", format!("key: svc/K\n{lists}")),
            Err(EACCES),
            "{lists}"
        );
        bob.report("lists.yaml")
    });
    assert_eq!(told[0], told[1]);
    // Ids: neither this one's nor whose another one is.
    for id in ["secr_0123456789", "secr_9876543210"] {
        assert_eq!(bob.import("id.yaml", format!("key: svc/K\nid: {id}\nvalue: x\n")), Err(EACCES));
        assert!(!bob.report("id.yaml").contains("secr_"), "{}", bob.report("id.yaml"));
    }
    let taken = "key: bob/K\nid: secr_0123456789\nvalue: x\n";
    assert_eq!(bob.import("id.yaml", taken), Err(Errno::EEXIST));
    assert!(!bob.report("id.yaml").contains("svc/K"), "{}", bob.report("id.yaml"));
    for attribute in ["id", "version", "created", "updated", "updated-by"] {
        let attribute = format!("user.secretfs.{attribute}");
        assert_eq!(bob.xattr("svc/K", &attribute), Err(EACCES), "{attribute}");
    }
    // The sidecar.
    assert_eq!(bob.stat("svc/K.acl").map(|it| it.size), Ok(0));
    assert!(alice.stat("svc/K.acl").unwrap().size > 0 && root.stat("svc/K.acl").unwrap().size > 0);
    // Guesses: few are answered, and all UIDs share them.
    let guess = |user: &crate::user::User, value: &str| {
        user.import("guess.yaml", format!("key: svc/K\nvalue: {value}\n"))
    };
    assert_eq!(guess(&bob, "hidden"), Ok(()), "what stands needs no right");
    assert_eq!(bob.report("guess.yaml"), "line 1: svc/K: updated\n");
    for at in 0..4 {
        let name = Box::leak(format!("guesser{at}").into_boxed_str());
        let person = crate::harness::Person { name, uid: 3000 + at };
        let user = mount.user(person);
        (0..4).for_each(|pin| assert_eq!(guess(&user, &format!("{at}{pin}")), Err(EACCES)));
    }
    assert_eq!(guess(&bob, "hidden"), Err(EACCES), "guessed at too often, by others");
    assert_eq!(guess(&alice, "hidden"), Ok(()));
    assert_eq!(alice.report("guess.yaml"), "line 1: svc/K: unchanged\n");
    assert_eq!(root.xattr("svc/K", "user.secretfs.version"), Ok(version));
}

#[test]
fn replacing_a_sidecar_tells_an_outsider_nothing() {
    let Some(mount) = Mount::start() else { return };
    let (root, bob) = (mount.user(ROOT), mount.user(BOB));
    root.put("svc/K", "hidden", "readers: [alice]\n");
    let told = ["alice", "bob"].map(|reader| {
        bob.write("bob/.lists.tmp", format!("readers: [{reader}]\n")).unwrap();
        assert_eq!(bob.rename("bob/.lists.tmp", "svc/K.acl"), Err(EACCES), "{reader}");
        let said = bob.read(".status/last-error").unwrap();
        said.lines().next_back().unwrap().split_once(' ').unwrap().1.to_owned()
    });
    assert_eq!(told[0], told[1], "whether the list stands or not");
    assert_eq!(bob.open("svc/K.acl", libc::O_RDWR).map(drop), Err(EACCES));
    assert_eq!(bob.truncate("svc/K.acl", 0), Err(EACCES));
    assert_eq!(root.lists("svc/K")["readers"], ["alice"]);
}

#[test]
fn an_id_occupies_no_key() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    let occupies = "key: alice/K\nid: STRIPE_KEY\nvalue: v\n";
    assert_eq!(alice.import("a.yaml", occupies), Err(EACCES));
    // As a store of an older version has it.
    root.import("a.yaml", occupies).unwrap();
    for value in ["v", "w"] {
        let file = format!("id: STRIPE_KEY\nvalue: {value}\n");
        assert_eq!(mount.user(CAROL).import("stripe.yaml", file), Ok(()), "{value}");
        assert_eq!(root.read("STRIPE_KEY").as_deref(), Ok(value));
    }
    assert_eq!(root.id("alice/K"), "STRIPE_KEY");
    assert!(root.id("STRIPE_KEY").starts_with("secr_"));
}

#[test]
fn the_number_of_secrets_is_for_admins() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    let used = || mount.user(BOB).sh_ok("df --output=iused . | tail -1");
    let before = used();
    (0..20).for_each(|number| root.put(&format!("svc/K{number}"), "value", ""));
    assert_eq!(used().trim(), before.trim());
    let seen = mount.user(BOB).stat("").unwrap();
    assert_eq!(seen.links, root.stat("svc").unwrap().links, "a count of directories");
}

#[test]
fn the_log_quotes_nothing_that_was_not_understood() {
    let Some(mount) = Mount::prepare() else { return };
    let directory = mount.roots().join("import");
    std::fs::create_dir(&directory).unwrap();
    let values = ["hunter2 is a value\u{202e}", "hunter3\\nFAKE LINE"];
    let text = format!(
        "key: K\nvalue: v\nreaders: [\"{}\", \"{}\"]\nvalu: hunter4\nhunter5: x\n",
        values[0], values[1]
    );
    std::fs::write(directory.join("bad\u{202e}.yaml"), text).unwrap();
    let mount = mount.with_args(&["--import-dir", directory.to_str().unwrap()]).started();
    eventually("the file is refused", || mount.said().contains("nothing was applied"));
    let said = mount.said();
    for part in ["hunter", "FAKE", "\u{202e}", "`valu`"] {
        assert!(!said.contains(part), "{part} in the log:\n{said}");
    }
    assert!(said.contains("line 3: ") && said.contains("readers"), "{said}");
    let status = mount.user(ROOT).read(".status/import-dir").unwrap();
    assert!(!status.contains("hunter2") && status.contains("line 3: "), "{status}");
}
