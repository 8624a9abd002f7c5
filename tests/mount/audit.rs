//! Section 8: every decision is on record, before it is answered, or it is not made.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::errno::Errno::{EACCES, EEXIST, EIO};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, DAVE, IDENTITIES, KEY, Mount, ROOT, eventually, set_mode};
use crate::tmpfs::Tmpfs;
use crate::vitals::metrics;

/// All lines of the log, parsed.
pub(crate) fn lines(state: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(state.join("audit")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
        })
        .collect()
}

/// A mount whose log has a line for each decision.
pub(crate) fn start() -> Option<Mount> {
    Some(Mount::prepare()?.with_args(&["--audit-repeats", "each"]).started())
}

/// The lines about keys that were written since the last time it was asked.
pub(crate) struct Log {
    state: PathBuf,
    seen: usize,
}

impl Log {
    pub(crate) fn of(mount: &Mount) -> Self {
        let mut log = Self { state: mount.state(), seen: 0 };
        log.news();
        log
    }

    pub(crate) fn news(&mut self) -> Vec<Value> {
        let all: Vec<_> =
            lines(&self.state).into_iter().filter(|line| line.get("uid").is_some()).collect();
        let new = all[self.seen..].to_vec();
        self.seen = all.len();
        new
    }

    /// Exactly these lines are new; only the named fields are compared.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &[Value]) {
        let news = self.news();
        let fits = |line: &Value, wanted: &Value| {
            wanted.as_object().unwrap().iter().all(|(name, value)| line.get(name) == Some(value))
        };
        let all_fit = news.len() == expected.len()
            && news.iter().zip(expected).all(|(line, wanted)| fits(line, wanted));
        assert!(all_fit, "expected {expected:#?}\nfound {news:#?}");
    }
}

#[test]
fn one_line_for_each_operation_with_all_its_fields() {
    let Some(mount) = start() else { return };
    let (root, alice, bob, dave) =
        (mount.user(ROOT), mount.user(ALICE), mount.user(BOB), mount.user(DAVE));
    let mut log = Log::of(&mount);
    let own = json!({"rule": "own-folder"});
    alice.write("alice/K", "value-nobody-logs").unwrap();
    log.expect(&[
        json!({"op": "create", "outcome": "allowed", "errno": 0, "uid": 2100, "gid": 2100,
            "slug": "alice", "key": "alice/K", "grant": own}),
        json!({"op": "commit", "outcome": "allowed", "uid": 2100, "key": "alice/K", "version": 1,
            "grant": own}),
    ]);
    let listed = |list: &str, slug: &str| json!({"slug": slug, "list": list});
    for _ in 0..3 {
        assert_eq!(alice.read("alice/K").as_deref(), Ok("value-nobody-logs"));
        log.expect(&[json!({"op": "open", "access": "read", "version": 1, "key": "alice/K",
            "grant": listed("readers", "alice")})]);
    }
    // A writer's open is told to look again; that is still one open.
    alice.write("alice/K", "another-value").unwrap();
    log.expect(&[
        json!({"op": "open", "access": "write", "version": 1, "grant": listed("writers", "alice")}),
        json!({"op": "commit", "version": 2, "grant": listed("writers", "alice")}),
    ]);
    // So is a reader's who has the old version.
    assert_eq!(alice.read("alice/K").as_deref(), Ok("another-value"));
    log.expect(&[json!({"op": "open", "version": 2})]);
    assert_eq!(dave.read("alice/K"), Err(EACCES));
    log.expect(&[json!({"op": "open", "outcome": "denied", "errno": 13, "error": "EACCES",
        "uid": 2101, "slug": "dave", "key": "alice/K", "version": 2})]);
    alice.write("alice/K.acl", "readers: [alice, devops-team]\n").unwrap();
    log.expect(&[
        json!({"op": "open-lists", "key": "alice/K", "outcome": "allowed"}),
        json!({"op": "change-lists", "key": "alice/K", "lists": ["readers"],
            "grant": listed("canChangeReaders", "alice")}),
    ]);
    assert_eq!(dave.read("alice/K").as_deref(), Ok("another-value"));
    log.expect(&[json!({"op": "open", "grant": listed("readers", "devops-team")})]);
    assert_eq!(dave.write("alice/K.acl", "readers: [dave]\n"), Err(EACCES));
    log.expect(&[
        json!({"op": "open-lists", "outcome": "allowed"}),
        json!({"op": "change-lists", "outcome": "denied", "errno": 13, "slug": "dave", "key": "alice/K"}),
    ]);
    assert_eq!(bob.write("alice/K", "x"), Err(EACCES));
    assert_eq!(bob.write("alice/new", "x"), Err(EACCES));
    assert_eq!(bob.unlink("alice/K"), Err(EACCES));
    assert_eq!(bob.rename("alice/K", "bob/K"), Err(EACCES));
    log.expect(&[
        json!({"op": "open", "access": "write", "outcome": "denied", "slug": "bob"}),
        json!({"op": "create", "outcome": "denied", "key": "alice/new"}),
        json!({"op": "delete", "outcome": "denied", "key": "alice/K"}),
        json!({"op": "rename", "outcome": "denied", "key": "alice/K", "to": "bob/K"}),
    ]);
    alice.rename("alice/K", "alice/L").unwrap();
    log.expect(&[json!({"op": "rename", "key": "alice/K", "to": "alice/L", "outcome": "allowed",
        "version": 2, "grant": listed("deleters", "alice")})]);
    root.unlink("alice/L").unwrap();
    log.expect(&[json!({"op": "delete", "key": "alice/L", "uid": 0, "slug": "root",
        "grant": {"rule": "admin"}})]);
    // What is not there, or is not about a secret, is no decision.
    assert!(bob.read("alice/nothing").is_err() && bob.unlink("bob/nothing").is_err());
    assert!(alice.read(".status/whoami").is_ok());
    alice.write("alice/.scratch.tmp", "x").unwrap();
    alice.mkdir("alice/folder").unwrap();
    log.expect(&[]);
}

#[test]
fn each_form_of_a_rename_and_a_truncation_is_one_line() {
    let Some(mount) = start() else { return };
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    alice.write("alice/A", "a").unwrap();
    alice.write("alice/B", "b").unwrap();
    let mut log = Log::of(&mount);
    alice.rename("alice/A", "alice/B").unwrap();
    log.expect(&[json!({"op": "rename", "key": "alice/A", "to": "alice/B", "version": 2})]);
    alice.write("alice/.tmp", "c").unwrap();
    log.expect(&[]);
    alice.rename("alice/.tmp", "alice/B").unwrap();
    log.expect(&[json!({"op": "commit", "key": "alice/B", "version": 3})]);
    alice.write("alice/.lists.tmp", "readers: [bob]\n").unwrap();
    alice.rename("alice/.lists.tmp", "alice/B.acl").unwrap();
    log.expect(&[json!({"op": "change-lists", "key": "alice/B", "lists": ["readers"]})]);
    assert_eq!(bob.truncate("alice/B", 0), Err(EACCES));
    log.expect(&[json!({"op": "commit", "outcome": "denied", "key": "alice/B", "uid": 2200})]);
    alice.truncate("alice/B", 0).unwrap();
    log.expect(&[json!({"op": "commit", "outcome": "allowed", "version": 4})]);
    assert_eq!(
        alice.open("alice/B", libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY).err(),
        Some(EEXIST)
    );
    log.expect(&[]);
}

#[test]
fn exports_and_sealings_are_on_record() {
    let Some(mount) = start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("db/A", "a", "readers: [alice]\n");
    root.put("db/B", "b", "");
    root.put("db/C", "c", "readers: [devops-team]\n");
    let mut log = Log::of(&mount);
    alice.read(".export.yaml").unwrap();
    log.expect(&[
        json!({"op": "export", "key": "db/A", "version": 1, "uid": 2100,
            "grant": {"slug": "alice", "list": "readers"}}),
        json!({"op": "export", "key": "db/C", "grant": {"slug": "devops-team", "list": "readers"}}),
    ]);
    alice.sh_ok("exec 3<>.encrypt/some-key; printf v >&3; cat <&3");
    log.expect(&[json!({"op": "encrypt", "key": "some-key", "outcome": "allowed"})]);
}

#[test]
fn only_admins_rekey_and_it_is_on_record() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    let mut log = Log::of(&mount);
    assert_eq!(alice.write(".status/rekey", "start\n"), Err(EACCES));
    log.expect(&[json!({"op": "rekey", "outcome": "denied", "uid": 2100})]);
    root.write(".status/rekey", "start\n").unwrap();
    log.expect(&[json!({"op": "rekey", "outcome": "allowed", "grant": {"rule": "admin"}})]);
}

#[test]
fn the_program_is_named_with_its_process() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    alice.write("alice/K", "value").unwrap();
    let mut log = Log::of(&mount);
    let pid = alice.sh_ok("sh -c 'echo $$; exec cat alice/K >/dev/null'");
    let pid: u64 = pid.trim().parse().unwrap();
    log.expect(&[json!({"op": "open", "program": "cat", "pid": pid})]);
}

#[test]
fn the_daemons_log_tells_of_the_same_request() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--log-level", "debug"]).started();
    mount.user(ROOT).write("K", "value").unwrap();
    assert_eq!(mount.user(BOB).read("K"), Err(EACCES));
    let lines = lines(&mount.state());
    let denied = lines.iter().find(|line| line["outcome"] == "denied").unwrap();
    let request = denied["request"].as_u64().unwrap();
    eventually("the log tells of it", || {
        let said = mount.said();
        let mut refused = said.lines().filter(|line| line.contains("\"refused\""));
        refused.any(|line| line.contains(&format!("\"request\":{request},")))
    });
}

#[test]
fn no_value_is_ever_in_it() {
    const NEEDLE: &str = "needle-5e1f";
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    alice.write("alice/K", NEEDLE).unwrap();
    alice.read("alice/K").unwrap();
    assert!(bob.write("alice/K", NEEDLE).is_err());
    assert!(alice.write("alice/K.acl", format!("readers: {{{NEEDLE}\n")).is_err());
    root.write("alice/K", NEEDLE.repeat(1000)).unwrap();
    let text = format!("{:?}", lines(&mount.state()));
    assert!(text.len() > 1000 && !text.contains(NEEDLE));
}

#[test]
fn the_chain_goes_through_rotations_and_restarts() {
    let Some(mut mount) = start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    let files = |mount: &Mount| fs::read_dir(mount.state().join("audit")).unwrap().count();
    for rotation in 2..5 {
        mount.signal(Signal::SIGUSR1);
        eventually("a new file", || files(&mount) == rotation);
        root.read("K").unwrap();
    }
    mount.restart();
    mount.user(ROOT).read("K").unwrap();
    mount.kill9();
    mount.go();
    let seqs: Vec<_> =
        lines(&mount.state()).iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "{seqs:?}");
}

#[test]
fn without_room_for_a_line_nothing_is_done_until_there_is() {
    let Some(mount) = Mount::prepare() else { return };
    let audit = mount.state().join("audit");
    fs::create_dir(&audit).unwrap();
    let Some(tmpfs) = Tmpfs::mount(&audit, "1m") else { return };
    let mut mount = mount.with_args(&["--audit-repeats", "each"]).started();
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "readers: [alice]\n");
    assert_eq!(alice.read("K").as_deref(), Ok("value"));
    let mut log = Log::of(&mount);
    tmpfs.fill();
    // A part of the small disk is kept for lines that must not fail.
    eventually("the end of the reserve", || root.read("K") == Err(EIO));
    log.news();
    assert_eq!(root.write("K", "another"), Err(EIO));
    assert_eq!(root.write("new", "value"), Err(EIO));
    assert_eq!(root.unlink("K"), Err(EIO));
    assert_eq!(root.rename("K", "L"), Err(EIO));
    assert_eq!(root.write("K.acl", "readers: []\n"), Err(EIO));
    // Each is counted once, as a failure; the only open that succeeds is the one of the metrics.
    let before = metrics(&root);
    (0..10).for_each(|_| assert_eq!(alice.read("K"), Err(EIO)));
    let after = metrics(&root);
    let more = |outcome| {
        let opens =
            &*format!("secretfs_operations_total{{operation=\"open\",outcome=\"{outcome}\"}}");
        after[opens] - before[opens]
    };
    assert_eq!(["ok", "refused", "failed"].map(more), [1.0, 0.0, 10.0]);
    // What is not about a secret goes on.
    assert!(alice.read(".status/whoami").is_ok());
    log.expect(&[]);
    tmpfs.empty();
    assert_eq!(
        alice.read("K").as_deref(),
        Ok("value"),
        "it resumes by itself, and nothing was done"
    );
    assert!(root.stat("new").is_err());
    log.expect(&[json!({"op": "open", "key": "K"})]);
    root.write("K", "another").unwrap();
    log.expect(&[json!({"op": "open"}), json!({"op": "commit", "version": 2})]);
    mount.stop();
}

#[test]
fn best_effort_goes_on_and_off_keeps_nothing() {
    let Some(mount) = Mount::prepare() else { return };
    let audit = mount.state().join("audit");
    fs::create_dir(&audit).unwrap();
    let Some(tmpfs) = Tmpfs::mount(&audit, "64k") else { return };
    let mut mount = mount.with_args(&["--audit", "best-effort"]).started();
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    tmpfs.fill();
    for _ in 0..100 {
        assert_eq!(root.read("K").as_deref(), Ok("value"));
    }
    root.write("K", "another").unwrap();
    mount.user(ALICE).write("alice/K", "value").unwrap();
    mount.stop();
    drop(tmpfs);
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--audit", "off"]).started();
    mount.user(ROOT).write("K", "value").unwrap();
    assert!(!mount.state().join("audit").exists());
}

/// Runs `secretfs audit verify` on a state directory; it must end with that exit code. Gives both
/// outputs.
#[track_caller]
pub(crate) fn verify(state: &Path, code: i32) -> String {
    let output = secretfs(state, &["audit", "verify"]);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

fn secretfs(state: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_secretfs"))
        .args(arguments)
        .env("SECRETFS_STATE_DIR", state)
        .env("OB_ENCRYPTION_KEY", KEY)
        .output()
        .unwrap()
}

#[test]
fn verify_says_yes_or_no_while_the_daemon_runs_and_after() {
    let Some(mut mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    for _ in 0..20 {
        root.write("K", "value").unwrap();
    }
    let text = verify(&mount.state(), 0);
    assert!(text.contains("as it was written"), "{text}");
    mount.stop();
    verify(&mount.state(), 0);
    let json = secretfs(&mount.state(), &["audit", "verify", "--output", "json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["valid"], &json["problems"]), (&json!(true), &json!([])));
    let newest = newest_file(&mount.state());
    let good = fs::read_to_string(&newest).unwrap();
    let lines: Vec<_> = good.lines().collect();
    let last = lines.len() - 1;
    let tampered = [
        ("changed", good.replacen("\"uid\":0", "\"uid\":7", 1)),
        ("missing", [&lines[..5], &lines[6..]].concat().join("\n") + "\n"),
        ("inserted", [&lines[..6], &lines[5..]].concat().join("\n") + "\n"),
        ("cut off", lines[..last].join("\n") + "\n"),
    ];
    for (what, text) in tampered {
        fs::write(&newest, text).unwrap();
        let said = verify(&mount.state(), 1);
        assert!(said.contains(what), "{what} in {said}");
    }
    fs::remove_file(&newest).unwrap();
    verify(&mount.state(), 1);
    fs::write(&newest, &good).unwrap();
    verify(&mount.state(), 0);
    // What was cut off while it was down stays on record when it runs again.
    fs::write(&newest, lines[..last].join("\n") + "\n").unwrap();
    mount.go();
    assert!(mount.said().contains("the audit log is not as it was left"), "{}", mount.said());
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
    let said = verify(&mount.state(), 1);
    assert!(said.contains("when the daemon started"), "{said}");
}

#[test]
fn a_log_that_is_cut_off_under_the_daemon_is_noticed() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    let newest = newest_file(&mount.state());
    let file = fs::File::options().write(true).open(&newest).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    verify(&mount.state(), 1);
    eventually("the daemon says so", || mount.said().contains("cut off, replaced or removed"));
    root.read("K").unwrap();
    verify(&mount.state(), 1);
}

#[test]
fn verify_needs_the_key_of_each_time() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).write("K", "value").unwrap();
    mount.stop();
    let another = "11".repeat(32);
    let previous = mount.roots().join("previous");
    fs::write(&previous, KEY).unwrap();
    let previous = previous.to_str().unwrap().to_owned();
    let mut mount = mount
        .with_env("OB_ENCRYPTION_KEY", Some(&another))
        .with_args(&["--previous-encryption-key-file", &previous]);
    mount.go();
    mount.user(ROOT).write("K", "another").unwrap();
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_secretfs"))
            .args(["audit", "verify"])
            .args(arguments)
            .env("SECRETFS_STATE_DIR", mount.state())
            .env("OB_ENCRYPTION_KEY", &another)
            .output()
            .unwrap()
    };
    assert_eq!(run(&["--previous-encryption-key-file", &previous]).status.code(), Some(0));
    let without = run(&[]);
    assert_eq!(without.status.code(), Some(1));
    let said = String::from_utf8(without.stderr).unwrap();
    assert!(said.contains("--previous-encryption-key-file"), "{said}");
}

#[test]
fn tail_shows_what_is_asked_for() {
    let Some(mount) = Mount::start() else { return };
    let (root, bob) = (mount.user(ROOT), mount.user(BOB));
    root.mkdir("db").unwrap();
    root.write("db/K", "value").unwrap();
    root.write("db/L", "value").unwrap();
    assert_eq!(bob.read("db/K"), Err(EACCES));
    let tail = |arguments: &[&str]| {
        let output = secretfs(&mount.state(), &[&["audit", "tail"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let denied = tail(&["--outcome", "denied"]);
    assert_eq!(denied.lines().count(), 1, "{denied}");
    for part in ["denied", "open", "db/K v1", "bob (uid 2200,", "EACCES"] {
        assert!(denied.contains(part), "{part} in {denied}");
    }
    assert_eq!(tail(&["--key", "*/L"]).lines().count(), 2);
    assert_eq!(tail(&["--slug", "bob"]), denied);
    assert_eq!(tail(&["-n", "2"]).lines().count(), 2);
    assert_eq!(tail(&["-n", "1000", "--since", "1h"]), tail(&["-n", "1000"]));
    assert_eq!(tail(&["--since", "2100-01-01"]), "");
    let json: Value = serde_json::from_str(&tail(&["--slug", "bob", "--output", "json"])).unwrap();
    assert_eq!(json["key"], "db/K");
    let nothing = secretfs(Path::new("/nonexistent"), &["audit", "tail"]);
    assert_eq!(nothing.status.code(), Some(4));
}

#[test]
fn tail_follows_through_a_rotation() {
    let Some(mount) = start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    let mut follower = Command::new(env!("CARGO_BIN_EXE_secretfs"))
        .args(["audit", "tail", "-f", "-n", "1", "--key", "K", "--output", "json"])
        .env("SECRETFS_STATE_DIR", mount.state())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let mut seq = next()["seq"].as_u64().unwrap();
    for _ in 0..3 {
        let files = fs::read_dir(mount.state().join("audit")).unwrap().count();
        mount.signal(Signal::SIGUSR1);
        eventually("a new file", || {
            fs::read_dir(mount.state().join("audit")).unwrap().count() > files
        });
        root.read("K").unwrap();
        let line = next();
        assert_eq!((&line["op"], &line["key"]), (&json!("open"), &json!("K")));
        assert_eq!(line["seq"], seq + 2, "the first line of the file, then this one");
        seq += 2;
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
}

fn newest_file(state: &Path) -> PathBuf {
    fs::read_dir(state.join("audit")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap()
}

/// The lines about administration, without what differs from run to run.
fn administration(state: &Path) -> Vec<Value> {
    let is_of_it = |line: &Value| {
        let op = line["op"].as_str().unwrap();
        ["configuration", "reload"].contains(&op) || op.starts_with("change-")
    };
    lines(state).into_iter().filter(is_of_it).collect()
}

#[test]
fn what_a_reload_changes_is_on_record() {
    let Some(mount) = Mount::prepare() else { return };
    let directory = mount.roots();
    let (key, previous) = (directory.join("key"), directory.join("previous"));
    for path in [&key, &previous] {
        fs::write(path, KEY).unwrap();
        set_mode(path, 0o600);
    }
    fs::write(&previous, "").unwrap();
    let flags = ["--encryption-key-file", key.to_str().unwrap()];
    let more = ["--previous-encryption-key-file", previous.to_str().unwrap()];
    let mount = mount.with_args(&flags).with_args(&more).started();
    mount.user(ROOT).write("K", "value").unwrap();
    let state = mount.state();
    let start = administration(&state);
    assert_eq!(start.len(), 1, "{start:?}");
    assert_eq!(start[0]["admins"], json!(["root", "secret-admins"]));
    let fields = ["mountedBy", "identities", "audit"].map(|name| start[0][name].clone());
    assert_eq!(fields, [json!(0), json!(5), json!("required")]);
    let old_keys = start[0]["keys"].clone();
    assert_eq!(old_keys.as_array().unwrap().len(), 1);

    // Who became an admin, and which identity is another one now.
    let changed = IDENTITIES
        .replace("[root, secret-admins]", "[root, alice]")
        .replace("  - slug: bob\n    uid: 2200\n", "  - slug: eve\n    uid: 2300\n")
        .replace("uid: 2101\n    teams: [devops-team]", "uid: 2101\n    teams: [a, b]");
    let mount = mount.with_identities(&changed);
    mount.signal(Signal::SIGHUP);
    eventually("it reads them", || mount.said().contains("the identities were read again"));
    let lines = administration(&state);
    let shown: Vec<_> = lines[1..]
        .iter()
        .map(|line| {
            let mut line = line.as_object().unwrap().clone();
            ["seq", "time", "hash", "host"].iter().for_each(|name| drop(line.remove(*name)));
            Value::Object(line)
        })
        .collect();
    let expected = json!([
        {"op": "change-admins", "change": "added", "slug": "alice"},
        {"op": "change-admins", "change": "removed", "slug": "secret-admins"},
        {"op": "change-identity", "change": "changed", "ofUid": 2101, "slug": "dave",
            "teams": ["a", "b"], "oldSlug": "dave", "oldTeams": ["devops-team"]},
        {"op": "change-identity", "change": "removed", "ofUid": 2200, "oldSlug": "bob",
            "oldTeams": []},
        {"op": "change-identity", "change": "added", "ofUid": 2300, "slug": "eve", "teams": []},
    ]);
    assert_eq!(Value::Array(shown), expected);

    // A file that is refused changes nothing, and that is told as well.
    let mount = mount.with_identities("admins: [\n");
    mount.signal(Signal::SIGHUP);
    let last = || administration(&state).pop().unwrap();
    eventually("it is refused", || last()["op"] == "reload");
    assert_eq!((&last()["outcome"], &last()["what"]), (&json!("failed"), &json!("identities")));

    // Keys by their ids.
    let mount = mount.with_identities(&changed);
    fs::write(&previous, KEY).unwrap();
    fs::write(&key, "another key that is a phrase").unwrap();
    mount.signal(Signal::SIGHUP);
    eventually("the keys are told", || last()["op"] == "change-keys");
    assert_eq!(last()["oldKeys"], old_keys);
    assert_eq!(last()["keys"][1], old_keys[0]);
    let text = fs::read_to_string(mount.state().join("audit/audit-00000001.jsonl")).unwrap();
    assert!(!text.contains(KEY) && !text.contains("a phrase"));

    // What changed while no server ran is told by the next one.
    assert!(mount.kill_server());
    mount.user(ROOT).write("K", "another").unwrap();
    let before = administration(&state).len();
    let mount = mount.with_identities(&changed.replace("[root, alice]", "[root, alice, dave]"));
    assert!(mount.kill_server());
    mount.user(ROOT).write("K", "a third").unwrap();
    let news = administration(&state).split_off(before);
    assert_eq!(news.len(), 2, "{news:?}");
    assert_eq!((&news[1]["op"], &news[1]["slug"]), (&json!("change-admins"), &json!("dave")));
}

#[test]
fn a_change_that_cannot_be_recorded_is_not_made() {
    let Some(mount) = Mount::prepare() else { return };
    let audit = mount.state().join("audit");
    fs::create_dir(&audit).unwrap();
    let Some(tmpfs) = Tmpfs::mount(&audit, "64k") else { return };
    let mount = mount.started();
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.write("K", "value").unwrap();
    tmpfs.fill();
    eventually("nothing can be recorded", || root.read("K") == Err(EIO));
    let changed = IDENTITIES.replace("[root, secret-admins]", "[root, alice]");
    let mount = mount.with_identities(&changed);
    mount.signal(Signal::SIGHUP);
    eventually("it is refused", || mount.said().contains("since that cannot be recorded"));
    assert!(alice.read(".status/whoami").unwrap().contains("admin: false"));
    drop(mount);
    drop(tmpfs);
}

#[test]
fn that_the_log_is_turned_off_is_its_last_word() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).write("K", "value").unwrap();
    mount.stop();
    mount = mount.with_args(&["--audit", "off"]).started();
    mount.user(ROOT).write("K", "another").unwrap();
    mount.stop();
    let told = administration(&mount.state()).pop().unwrap();
    assert_eq!((&told["op"], &told["audit"]), (&json!("change-audit"), &json!("off")));
    verify(&mount.state(), 0);
}

#[test]
fn root_follows_nothing_that_the_servers_user_left_in_its_state_directory() {
    /// The user of the server.
    const USER: u32 = 60_315;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir_all(at("state/audit")).unwrap();
    set_mode(&at("state"), 0o700);
    fs::write(at("private"), "root's own text\n").unwrap();
    std::os::unix::fs::chown(at("state"), Some(USER), None).unwrap();
    let refuses = |what: &str| {
        for action in [&["audit", "tail"][..], &["audit", "verify"]] {
            let output = secretfs(&at("state"), action);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_ne!(output.status.code(), Some(0), "{action:?}: {said}");
            assert!(said.contains(what), "{action:?}: {said}");
            assert!(!String::from_utf8_lossy(&output.stdout).contains("root's"), "{action:?}");
        }
    };
    let line = at("state/audit/audit-00000001.jsonl");
    std::os::unix::fs::symlink(at("private"), &line).unwrap();
    refuses("symbolic link");
    fs::remove_file(&line).unwrap();
    // Nobody ever writes to it.
    nix::unistd::mkfifo(&line, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refuses("not a regular file");
    fs::remove_file(&line).unwrap();
    let head = at("state/audit.head");
    nix::unistd::mkfifo(&head, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let output = secretfs(&at("state"), &["audit", "verify"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("audit.head") && said.contains("not a regular file"), "{said}");
    fs::remove_file(&head).unwrap();
    fs::create_dir(at("state/store")).unwrap();
    nix::unistd::mkfifo(&at("state/store/db"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let output = secretfs(&at("state"), &["audit", "verify"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("neither a file nor a directory"), "{said}");
}
