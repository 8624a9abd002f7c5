//! Section 2: who is calling, from the identities file and the system's users and groups.

use std::fs;
use std::os::unix::fs::chown;

use nix::errno::Errno::{EACCES, ENOENT};
use nix::sys::signal::Signal;

use crate::harness::{
    ALICE, BOB, CAROL, IDENTITIES, KEY, Mount, Person, ROOT, eventually, set_mode,
};

/// On every Debian system, in the group `nogroup`, which is no user's name.
const NOBODY: Person = Person { name: "nobody", uid: 65534 };
/// On every Debian system, in the group `games` (GID 60).
const GAMES: Person = Person { name: "games", uid: 5 };

#[test]
fn users_and_groups_of_the_system_are_slugs() {
    let Some(mount) = Mount::start() else { return };
    let (root, nobody, games) = (mount.user(ROOT), mount.user(NOBODY), mount.user(GAMES));
    assert_eq!(nobody.write("nobody/K", "value"), Ok(()), "a user name is an own slug");
    root.put("K", "value", "");
    for (slug, nobody_may, games_may) in [
        ("nobody", true, false),
        ("uid:65534", true, false),
        ("nogroup", true, false),
        ("gid:65534", true, false),
        ("games", false, true),
        ("gid:60", false, true),
    ] {
        root.only_list("K", "readers", slug);
        assert_eq!(nobody.read("K").is_ok(), nobody_may, "nobody with readers: [{slug}]");
        assert_eq!(games.read("K").is_ok(), games_may, "games with readers: [{slug}]");
    }
}

#[test]
fn groups_of_the_process_say_nothing() {
    let Some(mount) = Mount::start() else { return };
    // 4 is `adm`, 65534 is `nogroup`: the process is in them, the user is not.
    let (root, bob) = (mount.user(ROOT), mount.user_with_groups(BOB, &[0, 4, 65534]));
    root.put("K", "value", "readers: [adm, 'gid:4', root, 'gid:0', nogroup, 'gid:65534']\n");
    assert_eq!(bob.read("K"), Err(EACCES));
    root.put("K", "value", "readers: [bob]\n");
    assert_eq!(bob.read("K").as_deref(), Ok("value"));
}

#[test]
fn a_group_called_like_a_user_gives_no_slug() {
    let Some(mount) = Mount::prepare() else { return };
    let taken = "identities: [{slug: nogroup, uid: 2300}]\n";
    let mount = mount.with_identities(taken).started();
    let (root, nobody) = (mount.user(ROOT), mount.user(NOBODY));
    root.put("K", "value", "readers: [nogroup]\n");
    assert_eq!(nobody.read("K"), Err(EACCES), "`nogroup` is a user's name here");
    assert_eq!(mount.user(Person { name: "nogroup", uid: 2300 }).read("K").as_deref(), Ok("value"));
    root.put("K", "value", "readers: ['gid:65534']\n");
    assert_eq!(nobody.read("K").as_deref(), Ok("value"), "the number stays");
}

#[test]
fn the_identities_file_goes_before_the_user_name() {
    let Some(mount) = Mount::prepare() else { return };
    let renamed = "identities: [{slug: payment-svc, uid: 65534}]\n";
    let mount = mount.with_identities(renamed).started();
    let (root, nobody) = (mount.user(ROOT), mount.user(NOBODY));
    assert_eq!(nobody.write("payment-svc/K", "value"), Ok(()));
    root.put("nobody/present", "value", "readers: [payment-svc]\n");
    assert_eq!(nobody.write("nobody/K", "value"), Err(EACCES));
}

#[test]
fn a_user_name_that_is_a_team_gives_no_slug() {
    let Some(mount) = Mount::prepare() else { return };
    let text = "admins: [root, nobody]\nidentities: [{slug: bob, uid: 2200, teams: [games]}]\n";
    let mount = mount.with_identities(text).started();
    let (root, games, nobody) = (mount.user(ROOT), mount.user(GAMES), mount.user(NOBODY));
    root.put("K", "value", "readers: [games]\n");
    assert_eq!(games.read("K"), Err(EACCES), "it is not in the team");
    assert_eq!(games.write("games/K", "value"), Err(ENOENT), "the directory is not its own");
    assert_eq!(mount.user(BOB).read("K").as_deref(), Ok("value"));
    assert_eq!(nobody.write("L", "value"), Ok(()), "an admin by its user name");
}

#[test]
fn admins_are_whom_the_file_names() {
    let Some(mount) = Mount::prepare() else { return };
    let no_root = IDENTITIES.replace("[root, secret-admins]", "[secret-admins]");
    let mount = mount.with_identities(&no_root).started();
    let (root, carol) = (mount.user(ROOT), mount.user(CAROL));
    assert_eq!(carol.write("K", "value"), Ok(()));
    assert_eq!(root.read("K"), Err(EACCES), "root is nobody special unless it is named");
    assert_eq!(root.write("L", "value"), Err(EACCES));
    assert_eq!(root.write("root/K", "value"), Ok(()), "it has a slug of its own");
}

#[test]
fn without_a_list_of_admins_root_is_one() {
    for text in ["identities: []\n", "identities:\n  - slug: alice\n    uid: 2100\n"] {
        let Some(mount) = Mount::prepare() else { return };
        let mount = mount.with_identities(text).started();
        assert_eq!(mount.user(ROOT).write("K", "value"), Ok(()), "with {text}");
    }
}

#[test]
fn sighup_reads_the_file_again() {
    let Some(mount) = Mount::start() else { return };
    let (root, bob) = (mount.user(ROOT), mount.user(BOB));
    root.put("K", "value", "readers: [devops-team]\n");
    assert_eq!(bob.read("K"), Err(EACCES));
    let joined = IDENTITIES.replace("  - slug: bob\n", "  - slug: bob\n    teams: [devops-team]\n");
    let mount = mount.with_identities(&joined);
    mount.signal(Signal::SIGHUP);
    eventually("bob is in the team", || bob.read("K").as_deref() == Ok("value"));
    let mount = mount.with_identities(IDENTITIES);
    mount.signal(Signal::SIGHUP);
    eventually("bob is no longer in the team", || bob.read("K") == Err(EACCES));
}

/// Identities files that break a rule.
const BAD: [(&str, &str); 9] = [
    ("no YAML", "identities: [\n"),
    ("no mapping", "- alice\n"),
    ("an unknown field", "identities: []\nadmin: [root]\n"),
    ("an unknown field of an entry", "identities: [{slug: alice, uid: 2100, team: [x]}]\n"),
    ("no slug", "identities: [{uid: 2100}]\n"),
    ("no UID", "identities: [{slug: alice}]\n"),
    ("a bad slug", "identities: [{slug: 'a b', uid: 2100}]\n"),
    ("a UID twice", "identities: [{slug: alice, uid: 2100}, {slug: bob, uid: 2100}]\n"),
    ("a UID that is none", "identities: [{slug: alice, uid: -1}]\n"),
];

#[test]
fn a_bad_file_refuses_the_start() {
    let Some(mut mount) = Mount::prepare() else { return };
    for (what, text) in BAD {
        mount = mount.with_identities(text);
        let said = mount.refused();
        assert!(said.contains("identities"), "{what}: it said\n{said}");
        assert!(mount.mounted().is_none(), "{what}: it left a mount");
    }
    std::fs::remove_file(mount.identities()).unwrap();
    let said = mount.refused();
    assert!(said.contains("identities"), "a file that was named and is missing: it said\n{said}");
}

#[test]
fn a_bad_file_on_sighup_is_reported_and_the_old_one_stays() {
    let Some(mut mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "readers: [alice]\n");
    for (what, text) in BAD {
        mount = mount.with_identities(text);
        let said_before = mount.said().len();
        mount.signal(Signal::SIGHUP);
        eventually(&format!("{what} is reported"), || {
            mount.said()[said_before..].contains("identities")
        });
        assert_eq!(alice.read("K").as_deref(), Ok("value"), "{what}");
        assert_eq!(root.read("none"), Err(ENOENT), "{what}: root is still an admin");
    }
}

#[test]
fn a_bad_file_does_not_keep_the_next_server_from_serving() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("K", "value", "readers: [devops-team]\n");
    let mut mount = mount.with_identities("identities: [");
    for _ in 0..3 {
        assert!(mount.kill_server());
        assert_eq!(
            alice.read("K").as_deref(),
            Ok("value"),
            "the team is that of the last good file"
        );
        assert_eq!(bob.read("K"), Err(EACCES));
        assert!(mount.said().contains("the identities stay as they were"));
        let health = root.read(".status/health").unwrap();
        assert!(health.contains("identities"), "{health}");
    }
    mount = mount.with_identities(&IDENTITIES.replace("teams: [devops-team]", "teams: []"));
    mount.signal(Signal::SIGHUP);
    eventually("it reads the new one", || mount.said().contains("the identities were read again"));
    assert_eq!(alice.read("K"), Err(EACCES));
    assert_eq!(root.read(".status/health").as_deref(), Ok("ok\n"));
    // That is the one to go on with now.
    mount = mount.with_identities("identities: [");
    assert!(mount.kill_server());
    assert_eq!(alice.read("K"), Err(EACCES));
    mount.stop();
    assert!(mount.refused().contains("identities"), "a start is another matter");
}

#[test]
fn what_others_can_change_refuses_the_start_and_no_reload() {
    let Some(mut mount) = Mount::prepare() else { return };
    let directory = mount.roots();
    let [config, key, previous] = ["config", "key", "previous"].map(|name| directory.join(name));
    fs::write(&config, "list-acl: false\n").unwrap();
    for path in [&key, &previous] {
        fs::write(path, KEY).unwrap();
        set_mode(path, 0o600);
    }
    let files = [("--config", &config), ("--encryption-key-file", &key)];
    for (flag, path) in files.into_iter().chain([("--previous-encryption-key-file", &previous)]) {
        mount = mount.with_args(&[flag, path.to_str().unwrap()]);
    }
    for path in [&mount.identities(), &config, &key, &previous] {
        for mode in [0o620, 0o602, 0o666] {
            set_mode(path, mode);
            let said = mount.refused();
            assert!(
                said.contains(&format!("(mode {mode:04o}); run chmod go-w")),
                "{path:?}: {said}"
            );
        }
        set_mode(path, 0o600);
        chown(path, Some(BOB.uid), None).unwrap();
        assert!(mount.refused().contains("belongs to UID 2200, who is neither root"), "{path:?}");
        chown(path, Some(0), None).unwrap();
    }
    // Whoever may write to the directory puts another file of root's in the place of one.
    set_mode(&directory, 0o777);
    assert!(mount.refused().contains("roots (mode 0777)"));
    set_mode(&directory, 0o755);
    mount.go();
    let (root, bob) = (mount.user(ROOT), mount.user(BOB));
    root.put("K", "value", "readers: [devops-team]\n");
    let joined = IDENTITIES.replace("  - slug: bob\n", "  - slug: bob\n    teams: [devops-team]\n");
    let mount = mount.with_identities(&joined);
    set_mode(&mount.identities(), 0o664);
    mount.signal(Signal::SIGHUP);
    let stays = "the identities stay as they were";
    eventually("the file is refused", || mount.said().contains(stays));
    assert!(mount.said().contains("(mode 0664)"), "{}", mount.said());
    assert_eq!(bob.read("K"), Err(EACCES));
    let health = || bob.read(".status/health").unwrap();
    assert!(health().contains("identities: ") && health().contains("mode 0664"), "{}", health());
    let told = || bob.read(".status/is-secure").unwrap();
    assert!(told().contains("is not read again: others than its owner may write"), "{}", told());
    set_mode(&mount.identities(), 0o644);
    set_mode(&key, 0o620);
    mount.signal(Signal::SIGHUP);
    eventually("bob is in the team", || bob.read("K").as_deref() == Ok("value"));
    eventually("the key is refused", || mount.said().contains("the encryption keys stay"));
    assert!(told().contains("key is not read again"), "{}", told());
}
