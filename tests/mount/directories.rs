//! Section 4, "Directories" and listings: directories exist because keys do, and show what the caller may see.

use nix::errno::Errno::{EACCES, EEXIST, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY};

use crate::harness::{ALICE, BOB, Mount, ROOT, UNKNOWN, eventually};

#[test]
fn the_own_directory_is_always_there() {
    let Some(mount) = Mount::start() else { return };
    let (alice, unknown) = (mount.user(ALICE), mount.user(UNKNOWN));
    assert_eq!(alice.sh_ok("ls -A"), "alice\n");
    assert_eq!(alice.list("alice"), Ok(vec![]));
    assert_eq!(alice.mkdir("alice"), Err(EEXIST));
    alice.write("alice/K", "value").unwrap();
    alice.unlink("alice/K").unwrap();
    assert_eq!(alice.list("alice"), Ok(vec![]), "also after its last secret went");
    alice.write("alice/K", "value").unwrap();
    assert_eq!(unknown.list(""), Err(EACCES), "there is nothing that it could see");
}

#[test]
fn the_own_directory_stays_in_use_while_it_is_empty() {
    let Some(mount) = Mount::start() else { return };
    let (root, service, alice) = (mount.user(ROOT), mount.user(ROOT), mount.user(ALICE));
    alice.write("alice/K", "value").unwrap();
    // The kernel is told of what is removed after the answer.
    let script = "cd alice; rm K; sleep 0.3; /bin/pwd; echo again > K; cat K; /bin/pwd";
    let path = alice.sh_ok("cd alice; /bin/pwd").trim().to_owned();
    assert_eq!(alice.sh_ok(script), format!("{path}\nagain\n{path}\n"));
    std::thread::scope(|scope| {
        let masked = scope.spawn(|| {
            service.sh_ok(
                r#"export T; unshare --mount --propagation private sh -c '
                mount -t tmpfs none alice; touch $T/masked
                until [ -e $T/filled ]; do sleep 0.02; done
                stat -f -c %T alice; ls -A alice'"#,
            )
        });
        eventually("it is masked", || root.sh("[ -e $T/masked ]").code == Some(0));
        alice.sh_ok("rm alice/K; sleep 0.3; echo again > alice/K");
        root.sh_ok("touch $T/filled");
        assert_eq!(masked.join().unwrap(), "tmpfs\n");
    });
    assert_eq!(alice.read("alice/K").as_deref(), Ok("again\n"));
}

#[test]
fn a_directory_in_which_the_caller_sees_nothing_is_not_opened() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    let unknown = mount.user(UNKNOWN);
    root.put("svc/db/K", "value", "");
    alice.mkdir("alice/made").unwrap();
    let r_ok = libc::R_OK;
    for directory in ["svc", "svc/db", "alice", "alice/made", ".encrypt", ".export"] {
        assert_eq!(bob.list(directory), Err(EACCES), "{directory}");
        assert_eq!(bob.access(directory, r_ok), Err(EACCES), "{directory}");
        assert!(
            root.list(directory).is_ok() && root.access(directory, r_ok).is_ok(),
            "{directory}"
        );
    }
    assert_eq!(bob.sh_ok("ls -A"), "bob\n", "its own is always there");
    assert_eq!(bob.list("bob"), Ok(vec![]));
    assert!(bob.list(".status").is_ok() && bob.list(".import").is_ok());
    assert_eq!(unknown.list(""), Err(EACCES));
    assert_eq!(unknown.access("", libc::X_OK), Ok(()), "it may pass");
    // Any right on a secret below shows the directories above it.
    root.put("svc/db/K", "value", "canChangeReaders: ['uid:4242']\n");
    for (directory, listed) in [("", "svc"), ("svc", "db"), ("svc/db", "K")] {
        assert_eq!(unknown.list(directory), Ok(vec![listed.to_owned()]), "{directory}");
    }
    let told = bob.read(".status/last-error").unwrap();
    assert!(told.contains("you can see nothing in it"), "{told}");
    // What only its maker sees.
    assert_eq!(alice.list("alice/made"), Ok(vec![]));
    assert_eq!(alice.list("alice"), Ok(vec!["made".to_owned()]));
}

#[test]
fn directories_come_and_go_with_their_keys() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    assert_eq!(root.write("db/K", "value"), Err(ENOENT), "a parent that nobody made");
    root.put("db/main/K", "value", "");
    assert_eq!(root.list(""), Ok(vec!["db".to_owned()]));
    assert_eq!(root.list("db"), Ok(vec!["main".to_owned()]));
    root.unlink("db/main/K").unwrap();
    assert_eq!(root.list(""), Ok(vec![]));
    root.put("db/main/K", "again", "");
    // Even though a directory goes with its last key, `rm` finds what it expects.
    assert_eq!(root.sh_ok("rm -r db"), "");
    assert_eq!(root.list(""), Ok(vec![]));
}

#[test]
fn a_made_directory_lasts_until_it_is_emptied_or_removed() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    assert_eq!(alice.mkdir("alice/made"), Ok(()));
    assert_eq!(alice.mkdir("alice/made"), Err(EEXIST));
    assert_eq!(alice.list("alice"), Ok(vec!["made".to_owned()]));
    alice.write("alice/made/K", "value").unwrap();
    assert_eq!(alice.rmdir("alice/made"), Err(ENOTEMPTY));
    assert_eq!(root.rmdir("alice/made"), Err(ENOTEMPTY));
    alice.unlink("alice/made/K").unwrap();
    assert_eq!(alice.list("alice"), Ok(vec![]));

    alice.sh_ok("mkdir -p alice/x/y/z && rmdir alice/x/y/z && mkdir -p alice/x/y");
    assert_eq!(alice.rmdir("alice/x"), Err(ENOTEMPTY));
    assert_eq!(alice.rmdir("alice/x/y"), Ok(()));
    assert_eq!(alice.rmdir("alice/none"), Err(ENOENT));
}

#[test]
fn a_made_directory_is_gone_after_a_restart() {
    let Some(mut mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.mkdir("empty").unwrap();
    root.put("full/K", "value", "");
    mount.restart();
    assert_eq!(mount.user(ROOT).list(""), Ok(vec!["full".to_owned()]));
}

#[test]
fn directories_are_not_files() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("db/K", "value", "");
    assert_eq!(root.unlink("db"), Err(EISDIR));
    assert_eq!(root.rmdir("db/K"), Err(ENOTDIR));
    assert_eq!(root.read("db"), Err(EISDIR));
    assert_eq!(root.list("db/K"), Err(ENOTDIR));
    root.sh_ok("rm -r db");
    assert_eq!(root.list(""), Ok(vec![]));
}

#[test]
fn removing_in_somebody_elses_directory_needs_the_list() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    alice.write("alice/K", "value").unwrap();
    assert_eq!(bob.unlink("alice/K"), Err(EACCES));
    root.only_list("alice/K", "deleters", "bob");
    assert_eq!(
        alice.unlink("alice/K"),
        Err(EACCES),
        "its own directory gives no right to what is there"
    );
    assert_eq!(bob.unlink("alice/K"), Ok(()));
    assert_eq!(bob.unlink("alice/K"), Err(ENOENT));
}

#[test]
fn listings_show_what_the_caller_may_see() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("top", "value", "");
    root.put("db/alices", "value", "deleters: [alice]\n");
    root.put("db/teams", "value", "readers: [devops-team]\n");
    root.put("db/deep/er/bobs", "value", "canChangeWriters: ['uid:2200']\n");
    root.put("db/nobodys", "value", "");
    let names = |names: &[&str]| Ok(names.iter().map(|&name| name.to_owned()).collect());
    assert_eq!(root.list(""), names(&["db", "top"]));
    assert_eq!(root.list("db"), names(&["alices", "deep", "nobodys", "teams"]));
    assert_eq!(alice.list(""), names(&["db"]));
    assert_eq!(alice.list("db"), names(&["alices", "teams"]));
    assert_eq!(bob.list(""), names(&["db"]));
    assert_eq!(bob.list("db"), names(&["deep"]));
    assert_eq!(bob.list("db/deep/er"), names(&["bobs"]));
    // At once: what one caller listed is not cached for the other.
    assert_eq!(alice.list("db"), names(&["alices", "teams"]));
}

#[test]
fn sidecars_and_dot_directories_are_found_by_name_only() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    alice.write("alice/K", "value").unwrap();
    for user in [&root, &alice] {
        assert!(user.sh_ok("ls -A").lines().all(|name| name == "alice" || name == "root"));
        assert_eq!(user.sh_ok("ls -A alice"), "K\n");
        assert_eq!(user.sh_ok("find . -type f | sort"), "./alice/K\n");
        assert!(user.stat("alice/K.acl").is_ok());
        assert!(user.stat(".status/whoami").is_ok());
        assert_eq!(user.sh_ok("cat alice/*"), "value");
    }
    assert_eq!(alice.sh_ok("rm -rf alice/*; ls -A alice"), "");
}

#[test]
fn list_acl_shows_sidecars_to_those_who_may_read_them() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--list-acl"]).started();
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("db/K", "value", "readers: [alice]\n");
    root.put("db/L", "value", "");
    assert_eq!(root.sh_ok("ls -A db"), "K\nK.acl\nL\nL.acl\n");
    assert_eq!(alice.sh_ok("ls -A db"), "K\nK.acl\n");
    assert_eq!(bob.list(""), Ok(vec![]));
}

#[test]
fn a_listing_of_many_names_is_complete() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.mkdir("many").unwrap();
    root.sh_ok("for n in {1000..1299}; do echo $n > many/a-rather-long-name-of-a-secret-$n; done");
    let names = root.list("many").unwrap();
    assert_eq!(names.len(), 300);
    assert_eq!(names[0], "a-rather-long-name-of-a-secret-1000");
    assert_eq!(root.sh_ok("rm -r many"), "");
    assert_eq!(root.list(""), Ok(vec![]));
}
