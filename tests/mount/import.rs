//! Section 4, "Drop directory", and section 5: files of documents through `.import/`.

use nix::errno::Errno::{
    self, EACCES, EBADMSG, EEXIST, EFBIG, EINVAL, EISDIR, ENOENT, ENOTEMPTY, EPERM, EXDEV,
};

use crate::acl::all_six;
use crate::harness::{ALICE, BOB, CAROL, Mount, ROOT, eventually};
use crate::skip::has;
use crate::user::User;

impl User {
    /// Drops a document as `cp` does.
    pub(crate) fn import(&self, name: &str, text: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.write(&format!(".import/{name}"), text)
    }

    /// The report on a file.
    #[track_caller]
    pub(crate) fn report(&self, name: &str) -> String {
        self.read(&format!(".import/{name}.report")).expect("its importer may read the report")
    }

    /// The sealed document of a value.
    #[track_caller]
    pub(crate) fn seal(&self, key: &str, value: &str) -> String {
        let path = match key.rsplit_once('/') {
            Some((directory, name)) => format!(
                ".encrypt/{}/{name}",
                directory.split('/').map(|one| format!(".in:{one}")).collect::<Vec<_>>().join("/")
            ),
            None => format!(".encrypt/{key}"),
        };
        self.sh_ok(&format!("exec 3<>'{path}'; printf %s '{value}' >&3; cat <&3"))
    }

    /// The base64 of a sealed value.
    #[track_caller]
    pub(crate) fn sealed_value(&self, key: &str, value: &str) -> String {
        let document = self.seal(key, value);
        let line = document.lines().find_map(|line| line.strip_prefix("value: ")).expect("a value");
        line.trim_matches('"').to_owned()
    }
}

fn last_error(user: &User) -> String {
    let failures = user.read(".status/last-error").unwrap();
    failures.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_file_is_applied_at_close_and_reported() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    let text = "- id: one\n  key: app/K\n  value: v\n  readers: [alice, bob]\n- key: app/L\n  value: |\n    two\n    lines\n";
    mount.user(ROOT).sh_ok(&format!("cat > $T/a.yaml <<'X'\n{text}X\ncp $T/a.yaml .import/"));
    assert_eq!(root.read("app/K").as_deref(), Ok("v"));
    assert_eq!(root.read("app/L").as_deref(), Ok("two\nlines\n"));
    assert_eq!(root.id("app/K"), "one");
    assert_eq!(root.lists("app/K")["readers"], ["alice", "bob"]);
    assert_eq!(root.report("a.yaml"), "line 1: app/K: created\nline 5: app/L: created\n");
    let counted = "secretfs_imports_total{result=\"created\"} 2\n";
    assert!(root.read(".status/metrics").unwrap().contains(counted));
    // The file itself is gone: its values are where they belong.
    assert_eq!(root.list(".import"), Ok(vec!["a.yaml.report".to_owned()]));
    assert_eq!(root.read(".import/a.yaml"), Err(ENOENT));
    assert!(
        !root.list("").unwrap().contains(&".import".to_owned()),
        "dot directories are not listed"
    );

    let before = root.stat("app/K").unwrap();
    root.sh_ok("cp $T/a.yaml .import/");
    assert_eq!(root.report("a.yaml"), "line 1: app/K: unchanged\nline 5: app/L: unchanged\n");
    assert_eq!(root.stat("app/K"), Ok(before), "nothing changed, no version either");
    root.import("b.yaml", "key: app/K\nvalue: w\n").unwrap();
    assert_eq!(root.report("b.yaml"), "line 1: app/K: updated\n");
    assert_eq!(root.xattr("app/K", "user.secretfs.version").as_deref(), Ok("2"));
    assert_eq!(root.lists("app/K")["readers"], ["alice", "bob"], "absent lists stay");
}

#[test]
fn what_is_applied_is_there_after_kill_9() {
    let Some(mut mount) = Mount::start() else { return };
    let text: String = (0..2000).map(|n| format!("- key: k/{n}\n  value: v{n}\n")).collect();
    mount.user(ROOT).import("a.yaml", text).unwrap();
    mount.kill9();
    mount.go();
    let root = mount.user(ROOT);
    assert_eq!(root.list("k").unwrap().len(), 2000);
    assert_eq!(root.read("k/1999").as_deref(), Ok("v1999"));
}

#[test]
fn every_way_to_be_wrong_has_its_number_and_its_line() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.import(
        "base",
        "- id: secr_taken\n  key: app/K\n  value: v\n- key: app/sub/L\n  value: v\n",
    )
    .unwrap();
    let sealed = root.sealed_value("alice/S", "value");
    // Byte 45 of the envelope is one of the value's own.
    let other = if &sealed[60..61] == "A" { "B" } else { "A" };
    let flipped = format!("{}{other}{}", &sealed[..60], &sealed[61..]);
    let other_mount = Mount::prepare().expect("this one mounts too");
    let other = other_mount.with_env("OB_ENCRYPTION_KEY", Some(&"01".repeat(32))).started();
    let foreign = other.user(ROOT).sealed_value("alice/S", "value");
    let upstream = "a37/KUAr4SOYi6Xw9i9T8qo3QCk8WvnzONo47jHAkwk=";
    let encrypted = |key: &str, value: &str| {
        format!("key: {key}\n# a comment\nvalue: \"{value}\"\nencrypted: true\n")
    };
    let crc = "key: alice/K\nvalue: example-value\nchecksum: '00000000'\n";
    let deep = format!("key: alice/K\nvalue: {}x{}\n", "[".repeat(99), "]".repeat(99));
    let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
    let huge = format!("key: alice/K\nvalue: {}\n", "x".repeat((1 << 20) + 1));
    for (what, text, errno, line, reason) in [
        (
            "unknown field",
            "key: alice/K\nreadrs: []\n".to_owned(),
            EINVAL,
            2,
            "did you mean `readers`",
        ),
        (
            "a key twice in a mapping",
            "key: alice/K\nkey: alice/L\n".to_owned(),
            EINVAL,
            2,
            "stands already in line 1",
        ),
        ("a wrong type", "key: alice/K\nvalue: [x]\n".to_owned(), EINVAL, 2, "must be a text"),
        ("a bad slug", "key: alice/K\nreaders: [a b]\n".to_owned(), EINVAL, 2, "is not a slug"),
        ("a bad key", "key: alice//K\nvalue: x\n".to_owned(), EINVAL, 1, "empty component"),
        ("an alias bomb", bomb.to_owned(), EINVAL, 1, "anchor"),
        ("deep nesting", deep, EINVAL, 2, "deep"),
        ("a tab", "key: alice/K\n\tvalue: x\n".to_owned(), EINVAL, 2, "tab"),
        ("no YAML", "key: [alice\n".to_owned(), EINVAL, 1, "not closed"),
        (
            "the same secret twice",
            "- key: alice/K\n  value: x\n- key: alice/K\n  value: y\n".to_owned(),
            EINVAL,
            3,
            "stands already in line 1",
        ),
        (
            "a secret and a directory",
            "- key: alice/K\n  value: x\n- key: alice/K/L\n  value: y\n".to_owned(),
            EINVAL,
            3,
            "a secret and a directory",
        ),
        ("a value over 1 MiB", huge, EFBIG, 2, "larger than"),
        (
            "no right to create",
            "key: app/N\nvalue: x\n".to_owned(),
            EACCES,
            1,
            "only below `alice/`",
        ),
        ("no right to write", "key: app/K\nvalue: x\n".to_owned(), EACCES, 2, "`writers`"),
        (
            "no right to the lists",
            "key: app/K\nreaders: [alice]\n".to_owned(),
            EACCES,
            2,
            "`canChangeReaders`",
        ),
        (
            "an id of another",
            "key: alice/K\nvalue: x\nid: secr_taken\n".to_owned(),
            EEXIST,
            3,
            "another secret",
        ),
        (
            "an id that could be a key",
            "key: alice/K\nvalue: x\nid: STRIPE_KEY\n".to_owned(),
            EACCES,
            3,
            "secr_",
        ),
        ("a wrong checksum", crc.to_owned(), EBADMSG, 3, "CRC32"),
        ("a value of another key", encrypted("alice/T", &sealed), EBADMSG, 3, "another key name"),
        ("a flipped bit", encrypted("alice/S", &flipped), EBADMSG, 3, "was changed"),
        (
            "a truncated value",
            encrypted("alice/S", &sealed[..sealed.len() - 8]),
            EBADMSG,
            3,
            "alice/S",
        ),
        (
            "no sealed value",
            encrypted("alice/S", "encrypted-db-connection"),
            EBADMSG,
            3,
            "secretfs encrypt",
        ),
        (
            "another encryption key",
            encrypted("alice/S", &foreign),
            EBADMSG,
            3,
            "--previous-encryption-key-file",
        ),
        ("upstream's own", encrypted("alice/S", upstream), EBADMSG, 3, "secretfs convert"),
    ] {
        let text = format!("{text}---\nkey: alice/good\nvalue: x\n");
        assert_eq!(alice.import("bad.yaml", &text), Err(errno), "{what}");
        let report = alice.report("bad.yaml");
        let told = report
            .lines()
            .any(|one| one.starts_with(&format!("line {line}: ")) && one.contains(reason));
        assert!(told, "{what}: no line {line} with {reason} in\n{report}");
        assert!(
            last_error(&alice).contains(".import/bad.yaml") && last_error(&alice).contains(reason),
            "{what}: {}",
            last_error(&alice)
        );
        assert_eq!(alice.read("alice/good"), Err(ENOENT), "{what}: a part was applied");
    }
    assert_eq!(alice.import("bad.yaml", "# nothing\n"), Err(EINVAL));
    assert!(alice.report("bad.yaml").contains("line 1: the file holds no document"));
    let id = other.user(ROOT).read(".status/rekey").unwrap();
    let id = id
        .lines()
        .find_map(|line| line.strip_prefix("current: "))
        .unwrap()
        .trim_matches('"')
        .to_owned();
    alice.import("bad.yaml", encrypted("alice/S", &foreign)).unwrap_err();
    assert!(alice.report("bad.yaml").contains(&id), "the key that sealed it is not named");
    // For root these are questions of names.
    for (text, line) in [("key: app\nvalue: x\n", 1), ("value: x\nkey: app/K/below\n", 2)] {
        assert_eq!(root.import("bad.yaml", text), Err(EEXIST), "{text}");
        assert!(root.report("bad.yaml").contains(&format!("line {line}: ")), "{text}");
    }
    assert_eq!(alice.import("bad.yaml", b"key: alice/K\nvalue: \xff\n"), Err(EINVAL));
    assert!(alice.report("bad.yaml").contains("line 2: "));
    for good in ["\u{feff}key: alice/bom\nvalue: x\n", "key: alice/crlf\r\nvalue: x\r\n"] {
        assert_eq!(alice.import("good.yaml", good), Ok(()));
    }
    assert_eq!(alice.read("alice/crlf").as_deref(), Ok("x"));
}

#[test]
fn all_errors_are_told_not_only_the_first() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    assert_eq!(
        alice.import(
            "a",
            "key: x/K\nvalue: a\n---\nkey: alice/L\nvalue: a\n---\nkey: y/K\nvalue: a\n"
        ),
        Err(EACCES)
    );
    let report = alice.report("a");
    assert_eq!(report.lines().count(), 3, "{report}");
    assert!(report.contains("line 1: x/K: ") && report.contains("line 7: y/K: "), "{report}");
    assert!(!report.contains("alice/L"), "{report}");
}

#[test]
fn rights_are_asked_for_what_changes() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    let text =
        "key: app/K\nvalue: v\nreaders: [alice]\nwriters: [bob]\ncanChangeReaders: [alice]\n";
    root.import("a", text).unwrap();
    for user in [&alice, &mount.user(CAROL)] {
        assert_eq!(user.import("a", text), Ok(()), "nothing changes");
        assert_eq!(user.report("a"), "line 1: app/K: unchanged\n");
    }
    assert_eq!(bob.import("a", text.replace("value: v", "value: w")), Ok(()), "a writer");
    assert_eq!(alice.import("a", text.replace("value: v", "value: x")), Err(EACCES));
    assert_eq!(alice.import("a", "key: app/K\nreaders: [alice, dave]\n"), Ok(()));
    assert_eq!(alice.import("a", "key: app/K\nwriters: [alice]\nvalue: x\n"), Err(EACCES));
    assert_eq!(alice.import("a", "key: app/K\ncanChangeReaders: []\n"), Err(EACCES), "an admin's");
    assert_eq!(root.read("app/K").as_deref(), Ok("w"));
    // A new secret: what the document does not name is its creator's; an admin's is nobody's.
    alice.import("a", "key: alice/N\nvalue: v\nreaders: [alice, bob]\n").unwrap();
    let mut lists = all_six(&["alice"]);
    lists.get_mut("readers").unwrap().push("bob".to_owned());
    assert_eq!(root.lists("alice/N"), lists);
    root.import("a", "key: N\nvalue: v\n").unwrap();
    assert_eq!(root.lists("N"), all_six(&[]));
}

#[test]
fn sealed_values_open_and_lose_their_seal() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    let document = mount.user(BOB).seal("alice/S", "it is me");
    assert!(!document.contains("it is me"));
    assert_eq!(alice.import("sealed.yaml", &document), Ok(()));
    assert_eq!(alice.read("alice/S").as_deref(), Ok("it is me"));
    // Sealed anew under another id, it is the same value of the same secret.
    let again = mount.user(BOB).seal("alice/S", "it is me");
    assert_ne!(again, document);
    assert_eq!(alice.import("sealed.yaml", &again), Ok(()));
    let report = alice.report("sealed.yaml");
    assert!(report.starts_with("line 1: alice/S: unchanged; it keeps its id secr_"), "{report}");
    assert_eq!(root.xattr("alice/S", "user.secretfs.version").as_deref(), Ok("1"));
}

#[test]
fn only_importer_and_admins_see_a_report() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    alice.mkdir(".import/prod").unwrap();
    alice.import("prod/a.yaml", "key: alice/K\nvalue: v\n").unwrap();
    let report = ".import/prod/a.yaml.report";
    assert_eq!(bob.read(report), Err(ENOENT));
    assert_eq!(bob.list(".import"), Ok(vec![]));
    assert_eq!(bob.import("a.yaml", "key: bob/K\nvalue: v\n"), Ok(()));
    assert_eq!(root.read(report).as_deref(), Ok("line 1: alice/K: created\n"));
    assert_eq!(mount.user(CAROL).list(".import"), Ok(vec!["a.yaml.report".into(), "prod".into()]));
    assert_eq!(alice.list(".import"), Ok(vec!["prod".to_owned()]));
    assert_eq!(alice.write(report, "x"), Err(EPERM));
    assert_eq!(bob.unlink(report), Err(ENOENT));
    assert_eq!(alice.rmdir(".import/prod"), Err(ENOTEMPTY));
    assert_eq!(alice.unlink(report), Ok(()));
    assert_eq!(alice.rmdir(".import/prod"), Ok(()));
    assert_eq!(alice.list(".import"), Ok(vec![]));
}

#[test]
fn the_last_256_reports_are_kept() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.import("first", "key: K\nvalue: v\n").unwrap();
    alice.sh_ok("for n in $(seq 257); do echo 'key: alice/K' > .import/f$n; done");
    assert_eq!(alice.read(".import/f1.report"), Err(ENOENT));
    assert_eq!(alice.report("f2"), "line 1: alice/K: unchanged\n");
    assert_eq!(alice.list(".import").unwrap().len(), 256);
    assert_eq!(root.report("first"), "line 1: K: created\n", "others' do not push it out");
}

#[test]
fn programs_drop_files() {
    if !has(&["python3", "rsync"]) {
        return;
    }
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    alice.sh_ok("mkdir -p $T/a/sub && echo 'key: alice/K1' > $T/a/one.yaml && echo 'key: alice/K2' > $T/a/sub/two.yaml");
    for (script, keys) in [
        ("cp -r $T/a .import/", vec!["K1", "K2"]),
        ("cp -r $T/a .import/", vec!["K1", "K2"]),
        ("cp -a $T/a/. .import/", vec!["K1", "K2"]),
        ("mkdir .import/x && cp -p $T/a/one.yaml .import/x/", vec!["K1"]),
        ("install -m 600 $T/a/one.yaml .import/", vec!["K1"]),
        ("rsync -r $T/a .import/", vec!["K1", "K2"]),
        ("rsync -a $T/a/ .import/synced", vec!["K1", "K2"]),
        ("tar -C $T -c a | tar -C .import -x", vec!["K1", "K2"]),
        ("cp $T/a/one.yaml $T/m.yaml; mv $T/m.yaml .import/", vec!["K1"]),
        ("cat $T/a/one.yaml > .import/x.yaml", vec!["K1"]),
        (
            "{ cat $T/a/one.yaml; echo ---; cat $T/a/sub/two.yaml; } > .import/x.yaml",
            vec!["K1", "K2"],
        ),
        ("{ echo 'key: alice/K3'; echo 'value: whole'; } > .import/x.yaml", vec!["K3"]),
        ("(echo 'key: alice/K4'; echo 'value: x') > .import/x.yaml", vec!["K4"]),
        ("for n in 5 6; do echo \"- key: alice/K$n\"; done > .import/x.yaml", vec!["K5", "K6"]),
        ("tee .import/t.yaml < $T/a/one.yaml > /dev/null", vec!["K1"]),
        ("dd if=$T/a/one.yaml of=.import/d.yaml bs=3 status=none conv=fsync", vec!["K1"]),
        (
            "cp $T/a/one.yaml .import/.one.yaml.X3; mv .import/.one.yaml.X3 .import/one.yaml",
            vec!["K1"],
        ),
        (
            "cp $T/a/one.yaml .import/one.yaml.tmp; mv .import/one.yaml.tmp .import/one.yaml",
            vec!["K1"],
        ),
        (
            "cp $T/a/one.yaml .import/; cp $T/a/one.yaml .import/; cp $T/a/one.yaml .import/one.yaml",
            vec!["K1"],
        ),
        (
            "python3 -c \"import os; f=open('.import/p.yaml','w'); f.write('key: alice/K7'); f.close(); f=open('.import/p.yaml','w'); f.write('key: alice/K8'); f.close()\"",
            vec!["K7", "K8"],
        ),
        (
            "python3 -c \"import os; f=open('.import/q','w'); f.write('key: alice/K9'); f.close(); os.chmod('.import/q', 0o600); os.rename('.import/q', '.import/q.yaml')\"",
            vec!["K9"],
        ),
    ] {
        let shell = alice.sh(script);
        assert_eq!((shell.code, &*shell.stderr), (Some(0), ""), "{script}");
        for key in keys {
            assert!(root.read(&format!("alice/{key}")).is_ok(), "{script}: no {key}");
            root.unlink(&format!("alice/{key}")).unwrap();
        }
    }
    assert_eq!(
        alice.report("x.yaml"),
        "line 1: alice/K5: created, empty: the document gives no value\nline 2: alice/K6: created, empty: the document gives no value\n"
    );
    assert_eq!(
        alice.sh_ok("cat .import/a/sub/two.yaml.report"),
        "line 1: alice/K2: created, empty: the document gives no value\n"
    );
    let listed = alice.sh_ok("find .import -type f ! -name '*.report'");
    assert_eq!(listed, "", "files stayed");
}

#[test]
fn what_is_not_finished_waits_for_its_rename() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    alice.import(".x", "key: alice/K\nvalue: v\n").unwrap();
    assert_eq!(root.read("alice/K"), Err(ENOENT));
    assert_eq!(alice.read(".import/.x").as_deref(), Ok("key: alice/K\nvalue: v\n"));
    assert_eq!(bob.read(".import/.x"), Err(ENOENT));
    assert_eq!(root.read(".import/.x"), Err(ENOENT), "not even an admin");
    assert_eq!(alice.rename(".import/.x", ".import/y.yaml"), Ok(()));
    assert_eq!(root.read("alice/K").as_deref(), Ok("v"));
    assert_eq!(alice.report("y.yaml"), "line 1: alice/K: created\n");
    // A bad file keeps its name and can be mended.
    alice.import(".x", "key: bob/K\nvalue: v\n").unwrap();
    assert_eq!(alice.rename(".import/.x", ".import/y.yaml"), Err(EACCES));
    assert!(alice.report("y.yaml").contains("line 1: bob/K: "));
    assert_eq!(alice.list(".import"), Ok(vec![".x".into(), "y.yaml.report".into()]));
    alice.import(".x", "key: alice/L\nvalue: v\n").unwrap();
    assert_eq!(alice.rename(".import/.x", ".import/y.yaml"), Ok(()));
    assert_eq!(root.read("alice/L").as_deref(), Ok("v"));
    alice.import(".z", "x").unwrap();
    assert_eq!(alice.unlink(".import/.z"), Ok(()));
    assert_eq!(alice.read(".import/.z"), Err(ENOENT));
    // Neither in nor out by renaming.
    alice.write("alice/.scratch.tmp", "key: alice/N\n").unwrap();
    assert_eq!(alice.rename("alice/.scratch.tmp", ".import/n.yaml"), Err(EXDEV));
    assert_eq!(alice.rename("alice/K", ".import/n.yaml"), Err(EXDEV));
}

#[test]
fn a_killed_writer_applies_nothing() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    let doomed = mount.user(ALICE);
    let file = doomed.open(".import/a.yaml", libc::O_WRONLY | libc::O_CREAT).unwrap();
    file.write("key: alice/K\nvalue: half").unwrap();
    doomed.kill();
    let alice = mount.user(ALICE);
    alice.import("b.yaml", "key: alice/L\nvalue: v\n").unwrap();
    assert_eq!(root.read("alice/K"), Err(ENOENT));
    assert_eq!(alice.list(".import"), Ok(vec!["b.yaml.report".to_owned()]));
    alice.sh("(echo 'key: alice/K'; kill -9 $BASHPID) > .import/c.yaml; true");
    alice.sh_ok(
        "timeout -s KILL 0.3 bash -c 'exec > .import/d.yaml; echo key: alice/K; sleep 9' || true",
    );
    eventually("the killed are gone", || {
        alice.sh_ok("ls -A .import | grep -v report || true").is_empty()
    });
    assert_eq!(root.read("alice/K"), Err(ENOENT));
}

#[test]
fn two_writers_do_not_mix() {
    let Some(mount) = Mount::start() else { return };
    let (one, other, root) = (mount.user(ALICE), mount.user(ALICE), mount.user(ROOT));
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
    let first = one.open(".import/a.yaml", flags).unwrap();
    let second = other.open(".import/a.yaml", flags).unwrap();
    first.write("key: alice/K\n").unwrap();
    second.write("key: alice/L\n").unwrap();
    first.write("value: one\n").unwrap();
    second.write("value: two\n").unwrap();
    assert_eq!(first.close(), Ok(()));
    assert_eq!(root.read("alice/K").as_deref(), Ok("one"));
    assert_eq!(root.read("alice/L"), Err(ENOENT));
    assert_eq!(second.close(), Ok(()));
    assert_eq!(root.read("alice/L").as_deref(), Ok("two"));
    assert_eq!(one.report("a.yaml"), "line 1: alice/L: created\n");
}

#[test]
fn limits_hold_before_memory_is_taken() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    let file = alice.open(".import/big.yaml", libc::O_WRONLY | libc::O_CREAT).unwrap();
    for length in [(64 << 20) + 1, 1_000_000_000_000_000, i64::MAX as u64] {
        assert_eq!(file.set_length(length), Err(EFBIG));
    }
    assert_eq!(file.set_length(64 << 20), Ok(()));
    for offset in [64 << 20, 1 << 40, 1 << 62] {
        assert_eq!(file.write_at(offset, "x"), Err(EFBIG));
    }
    assert_eq!(file.close(), Err(EFBIG), "what was cut off is not applied");
    assert!(alice.report("big.yaml").contains("64 MiB"));
    let file = alice.open(".import/zeros.yaml", libc::O_WRONLY | libc::O_CREAT).unwrap();
    file.set_length(64 << 20).unwrap();
    assert_eq!(file.close(), Err(EINVAL));
    alice.sh("head -c 70M /dev/zero > .import/zeros.yaml");
    assert!(alice.report("zeros.yaml").contains("64 MiB"));
    assert_eq!(
        root.sh("head -c 65M /dev/zero | tr '\\0' '#' > $T/c; cp $T/c .import/c").code,
        Some(1)
    );
    assert_eq!(alice.import("after.yaml", "key: alice/K\nvalue: v\n"), Ok(()));
}

#[test]
fn nothing_else_can_be_made_there() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    for script in ["ln -s x .import/l", "mkfifo .import/p", "mknod .import/n c 1 3"] {
        assert_ne!(root.sh(script).code, Some(0), "{script}");
    }
    alice.mkdir(".import/d").unwrap();
    assert_eq!(alice.mkdir(".import/d"), Err(EEXIST));
    assert_eq!(alice.open(".import", libc::O_WRONLY).map(drop), Err(EISDIR));
    assert_eq!(alice.write(".import/d", "x"), Err(EISDIR));
    assert_eq!(mount.user(BOB).list(".import/d"), Err(ENOENT));
    assert_eq!(root.unlink(".import"), Err(EISDIR));
    assert!(root.rmdir(".import").is_err());
    assert_eq!(alice.access(".import", libc::W_OK), Ok(()));
    alice.sh_ok("touch .import/empty.yaml");
    eventually("the empty file is reported", || {
        alice.read(".import/empty.yaml.report").is_ok_and(|text| text.contains("no document"))
    });
}

/// The kernel releases a file after its close was answered, perhaps when it is open again already.
#[test]
fn a_file_that_is_written_again_and_again_is_applied_whole_each_time() {
    let Some(mount) = Mount::start() else { return };
    let document = |slug: &str| format!("key: {slug}/K\nvalue: {}\n", "v".repeat(20_000));
    std::thread::scope(|scope| {
        for (uid, slug) in [(ALICE, "alice"), (BOB, "bob")] {
            let user = mount.user(uid);
            scope.spawn(move || {
                for round in 0..1500 {
                    let written = user.write(".import/again.yaml", document(slug));
                    assert_eq!(written, Ok(()), "{slug}, round {round}");
                }
            });
        }
    });
}
