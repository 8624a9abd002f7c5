//! Section 6: the encryption key is replaced while readers read and writers write.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use nix::errno::Errno::{EACCES, EINVAL};
use nix::sys::signal::Signal;

use crate::harness::{ALICE, Mount, ROOT, eventually, set_mode};
use crate::user::User;

const KEYS: [&str; 4] = [
    "8f1d3c5b7a99e0f2143658daecb1073f5e6a7b8c9d0e1f2031425364758697a8",
    "19c4e7a03b5d8f62718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8",
    "a1b2c3d4e5f60718293a4b5c6d7e8f9019c4e7a03b5d8f62718293a4b5c6d7e8",
    "c0ffee04e5f60718293a4b5c6d7e8f9019c4e7a03b5d8f62718293a4b5c6d7e9",
];

/// A mount whose keys are in two files.
struct Rotating {
    mount: Mount,
    current: PathBuf,
    previous: PathBuf,
}

impl Rotating {
    fn start() -> Option<Self> {
        let mount = Mount::prepare()?.with_env("OB_ENCRYPTION_KEY", None);
        let current = mount.state().with_file_name("current");
        let previous = mount.state().with_file_name("previous");
        let files = [
            "--encryption-key-file",
            current.to_str().unwrap(),
            "--previous-encryption-key-file",
            previous.to_str().unwrap(),
        ];
        let mut this = Self { mount: mount.with_args(&files), current, previous };
        this.keys(KEYS[0], &[]);
        this.mount.go();
        Some(this)
    }

    /// Writes the key files.
    fn keys(&self, current: &str, previous: &[&str]) {
        fs::write(&self.current, format!("{current}\n")).unwrap();
        fs::write(&self.previous, previous.join("\n")).unwrap();
        set_mode(&self.current, 0o600);
        set_mode(&self.previous, 0o600);
    }

    /// Sends SIGHUP and waits until the log holds `answer` once more.
    #[track_caller]
    fn hangup(&self, answer: &str) {
        let count = || self.mount.said().matches(answer).count();
        let before = count();
        self.mount.signal(Signal::SIGHUP);
        eventually(&format!("`{answer}` in the log"), || count() > before);
    }

    fn root(&self) -> User {
        self.mount.user(ROOT)
    }

    /// `secretfs` as root, with the mount or the state directory that it needs.
    fn secretfs(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secretfs"));
        command.args(arguments).env("SECRETFS_MOUNT", self.mount.point());
        command.env("SECRETFS_STATE_DIR", self.mount.state()).env_remove("OB_ENCRYPTION_KEY");
        command.output().expect("the program was built")
    }

    /// `secretfs rekey`, which must succeed; gives the records of each key.
    #[track_caller]
    fn rekey(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.secretfs(&[&["rekey", "--output", "json"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "secretfs rekey said: {said}");
        serde_json::from_slice(&output.stdout).expect("it gives JSON")
    }
}

fn counts(status: &serde_json::Value) -> Vec<u64> {
    let records = status["records"].as_object().expect("the records of each key");
    records.values().map(|count| count.as_u64().expect("a number")).collect()
}

#[test]
fn a_key_is_replaced_without_a_restart() {
    let Some(mut rotating) = Rotating::start() else { return };
    let (root, alice) = (rotating.root(), rotating.mount.user(ALICE));
    for number in 0..300 {
        root.put(&format!("K{number}"), format!("value {number}"), "readers: [alice]\n");
    }
    root.put("large", "x".repeat(300_000), "readers: [alice]\n");
    let held = alice.open("K7", libc::O_RDONLY).unwrap();

    rotating.keys(KEYS[1], &[KEYS[0]]);
    rotating.hangup("the encryption keys were read again");
    assert_eq!(alice.read("K8").as_deref(), Ok("value 8"));
    root.write("K9", "sealed with the new key").unwrap();
    let counted = rotating.rekey(&["--count"]);
    assert_eq!(counts(&counted).len(), 2, "{counted}");
    assert_eq!(counted["needed"].as_array().map(Vec::len), Some(2), "{counted}");

    let done = rotating.rekey(&[]);
    assert_eq!(counts(&done).len(), 1, "{done}");
    assert!(counts(&done)[0] > 600 && done["resealed"].as_u64() > Some(600), "{done}");
    assert_eq!(done["needed"], serde_json::json!([done["current"]]), "{done}");
    assert_eq!(held.read_to_end().unwrap(), b"value 7");

    // Now the old key can go.
    rotating.keys(KEYS[1], &[]);
    rotating.hangup("the encryption keys were read again");
    rotating.mount.restart();
    let alice = rotating.mount.user(ALICE);
    assert_eq!(alice.read("K8").as_deref(), Ok("value 8"));
    assert_eq!(alice.read("K9").as_deref(), Ok("sealed with the new key"));
    assert_eq!(alice.read("large").map(|value| value.len()), Ok(300_000));
    let said = rotating.mount.stop();
    assert!(KEYS.iter().all(|key| !said.contains(key)), "a key was logged");
}

#[test]
fn what_cannot_be_used_leaves_the_keys_as_they_were() {
    let Some(mut rotating) = Rotating::start() else { return };
    rotating.root().write("K", "value").unwrap();
    let stay = "the encryption keys stay as they were";
    // The old key is not among the previous ones: what it sealed could not be read.
    rotating.keys(KEYS[1], &[]);
    rotating.hangup(stay);
    assert!(rotating.mount.said().contains("--previous-encryption-key-file"));
    for (current, previous) in [(&b""[..], &b""[..]), (b"\xff\xfe", b""), (b"new", b"\xff\xfe")] {
        fs::write(&rotating.current, current).unwrap();
        fs::write(&rotating.previous, previous).unwrap();
        rotating.hangup(stay);
    }
    fs::remove_file(&rotating.current).unwrap();
    rotating.hangup(stay);
    rotating.root().write("L", "written meanwhile").unwrap();
    rotating.keys(KEYS[0], &[]);
    rotating.mount.restart();
    assert_eq!(rotating.root().read("K").as_deref(), Ok("value"));
    assert_eq!(rotating.root().read("L").as_deref(), Ok("written meanwhile"));
}

#[test]
fn the_old_key_is_asked_for_as_long_as_it_is_needed() {
    let Some(mut rotating) = Rotating::start() else { return };
    rotating.root().write("K", "value").unwrap();
    rotating.keys(KEYS[1], &[KEYS[0]]);
    rotating.mount.restart();
    rotating.mount.stop();
    rotating.keys(KEYS[1], &[]);
    let said = rotating.mount.refused();
    assert!(said.contains("still sealed with the key") && said.contains("rekey"), "{said}");
    rotating.keys(KEYS[1], &[KEYS[2], KEYS[0]]);
    rotating.mount.go();
    assert_eq!(rotating.root().read("K").as_deref(), Ok("value"));
}

#[test]
fn rekey_is_for_admins() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    assert_eq!(alice.read(".status/rekey"), Err(EACCES));
    assert_eq!(alice.write(".status/rekey", "start\n"), Err(EACCES));
    assert_eq!(alice.access(".status/rekey", libc::W_OK), Err(EACCES));
    assert!(alice.read(".status/last-error").unwrap().contains("only an admin may"));
    assert_eq!(root.access(".status/rekey", libc::R_OK | libc::W_OK), Ok(()));
    assert!(root.read(".status/rekey").unwrap().starts_with("state: idle\n"));
    assert_eq!(root.write(".status/rekey", "explode\n"), Err(EINVAL));
    assert_eq!(root.sh("echo start > .status/rekey").code, Some(0));
    eventually("done", || root.read(".status/rekey").unwrap().starts_with("state: done\n"));
    let script = format!("{} rekey --mount .", env!("CARGO_BIN_EXE_secretfs"));
    assert_eq!(alice.sh(&script).code, Some(3), "denied");
}

#[test]
fn a_state_directory_is_rekeyed_without_a_daemon() {
    let Some(mut rotating) = Rotating::start() else { return };
    rotating.root().put("K", "value", "");
    let in_use = rotating.secretfs(&["rekey", "--offline", "--encryption-key-file", "/dev/null"]);
    assert_eq!(in_use.status.code(), Some(5), "an empty key");
    rotating.keys(KEYS[1], &[KEYS[0]]);
    let (current, previous) =
        (rotating.current.display().to_string(), rotating.previous.display().to_string());
    let offline = [
        "--offline",
        "--encryption-key-file",
        &current,
        "--previous-encryption-key-file",
        &previous,
    ];
    let in_use = rotating.secretfs(&[&["rekey"], &offline[..]].concat());
    assert_eq!(in_use.status.code(), Some(6), "a daemon uses the directory");
    rotating.mount.stop();

    let no_key =
        rotating.secretfs(&["rekey", "--offline", "--previous-encryption-key-file", &previous]);
    assert_eq!(no_key.status.code(), Some(5), "nothing says with which key");
    let done = rotating.rekey(&offline);
    let records = counts(&done);
    assert!(
        records.len() == 1 && records[0] >= 4,
        "head, value, list of keys, anchor of the audit log: {done}"
    );
    rotating.keys(KEYS[1], &[]);
    rotating.mount.go();
    assert_eq!(rotating.root().read("K").as_deref(), Ok("value"));
}

/// How often it is killed: `SECRETFS_TEST_KILLS` asks for more.
fn kills() -> u32 {
    let asked = std::env::var("SECRETFS_TEST_KILLS").ok();
    asked.map_or(4, |kills| kills.parse().expect("SECRETFS_TEST_KILLS is a number"))
}

#[test]
fn killed_at_any_moment_it_goes_on_where_it_was() {
    let Some(mut rotating) = Rotating::start() else { return };
    let script = "for n in $(seq 600); do echo value $n > K$n; done
        head -c 400000 /dev/zero | tr '\\0' x > large";
    rotating.root().sh_ok(script);
    let mut current = 0;
    let mut cut_off = 0;
    for _ in 0..kills() {
        // Those that it was cut off under before stay among the previous ones.
        current = (current + 1) % KEYS.len();
        let previous: Vec<_> = KEYS.iter().filter(|key| **key != KEYS[current]).copied().collect();
        rotating.keys(KEYS[current], &previous);
        rotating.hangup("the encryption keys were read again");
        let root = rotating.root();
        root.write(".status/rekey", "start\n").unwrap();
        let random = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(random.subsec_nanos() % 60_000)));
        root.write("K1", "value 1").unwrap();
        drop(root);
        rotating.mount.kill9();
        rotating.mount.go();
        let counted = rotating.rekey(&["--count"]);
        // Heads, small values, the chunks of the large one, the list of keys, the anchor of the
        // audit log; at least.
        let records: u64 = counts(&counted).iter().sum();
        assert!(records > 601 + 600 + 14, "{counted}");
        cut_off += u32::from(counts(&counted).len() > 1);
        assert_eq!(rotating.root().read("K1").as_deref(), Ok("value 1"), "it was closed before");
        for number in [2, 300, 600] {
            let value = rotating.root().read(&format!("K{number}"));
            assert_eq!(value, Ok(format!("value {number}\n")));
        }
    }
    let done = rotating.rekey(&[]);
    assert_eq!(counts(&done).len(), 1, "after {cut_off} cuts: {done}");
    rotating.keys(KEYS[current], &[]);
    rotating.mount.restart();
    let check = "for n in $(seq 2 600); do [ \"$(cat K$n)\" = \"value $n\" ] || exit 1; done; wc -c < large";
    assert_eq!(rotating.root().sh_ok(check).trim(), "400000");
}
