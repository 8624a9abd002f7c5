//! Section 10, storage quotas: what one slug can store.

use nix::errno::Errno::EDQUOT;

use crate::harness::{ALICE, BOB, CAROL, Mount, ROOT};

#[test]
fn a_slug_stores_no_more_than_its_quota_and_nobody_else_notices() {
    let Some(mount) = Mount::prepare() else { return };
    let limits = ["--secrets-per-slug", "20", "--bytes-per-slug", "100K"];
    let mount = mount.with_args(&limits).started();
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    for number in 0..20 {
        assert_eq!(alice.write(&format!("alice/{number}"), "value"), Ok(()));
    }
    assert_eq!(alice.write("alice/20", "value"), Err(EDQUOT));
    assert!(alice.read("alice/20").is_err(), "nothing of it is there");
    let why = alice.read(".status/last-error").unwrap();
    assert!(why.contains("alice/: there may be at most 20 secrets"), "{why}");
    let file = "- {key: alice/0, value: new}\n- {key: alice/21, value: v}\n";
    assert_eq!(alice.write(".import/f.yaml", file), Err(EDQUOT));
    assert_eq!(alice.read("alice/0").as_deref(), Ok("value"), "all or nothing");
    let report = alice.read(".import/f.yaml.report").unwrap();
    assert!(report.contains("--secrets-per-slug"), "{report}");
    // What does not grow goes on, and so do others.
    assert_eq!(alice.write("alice/0", "VALUE"), Ok(()));
    assert_eq!(alice.rename("alice/0", "alice/x"), Ok(()));
    assert_eq!(bob.write("bob/K", vec![b'x'; 90_000]), Ok(()));
    assert_eq!(root.write("alice/of-root", "value"), Ok(()));
    assert_eq!(mount.user(CAROL).write("alice/of-carol", "value"), Ok(()));
    for number in 1..20 {
        assert_eq!(alice.unlink(&format!("alice/{number}")), Ok(()));
    }

    // Bytes: values, appends, lists. The same after a restart.
    for restarts in [false, true] {
        if restarts {
            mount.kill_server();
        }
        assert_eq!(alice.write("alice/large", vec![b'x'; 95_000]), Ok(()));
        assert_eq!(alice.write("alice/more", vec![b'x'; 10_000]), Err(EDQUOT));
        assert_eq!(alice.append("alice/large", vec![b'x'; 10_000]), Err(EDQUOT));
        assert_eq!(
            alice.stat("alice/large").map(|stat| stat.size),
            Ok(95_000),
            "all of what was there"
        );
        let slugs: Vec<_> = (0..200).map(|number| format!("team-{number}")).collect();
        let lists = format!("readers: [alice, {}]\n", slugs.join(", "));
        assert_eq!(alice.write("alice/large.acl", &lists), Err(EDQUOT));
        assert_eq!(alice.write("alice/large.acl", "readers: [alice, bob]\n"), Ok(()));
        assert_eq!(bob.read_bytes("alice/large").map(|value| value.len()), Ok(95_000));
        assert_eq!(alice.unlink("alice/large"), Ok(()));
    }
}

#[test]
fn whoever_may_only_write_fills_the_quota_of_the_secret() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--bytes-per-slug", "10K"]).started();
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    assert_eq!(alice.write("alice/K", "value"), Ok(()));
    assert_eq!(alice.write("alice/K.acl", "readers: [alice]\nwriters: [alice, bob]\n"), Ok(()));
    assert_eq!(bob.write("alice/K", vec![b'x'; 20_000]), Err(EDQUOT));
    assert_eq!(alice.read("alice/K").as_deref(), Ok("value"));
}
