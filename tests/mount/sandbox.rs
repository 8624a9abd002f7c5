//! What serves has no power of its own: it is another user, without capabilities, without files
//! other than its own, without programs and sockets. What was root's business still works.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{ALICE, KEY, Mount, ROOT, UNKNOWN, eventually, set_mode};
use crate::preload::build_library;

/// On every machine there is this user, and it owns nothing.
const SERVER: &str = "nobody";
const NEW_KEY: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

/// A mount that is not started yet, whose server is to be another user, and that user.
fn prepare() -> Option<(Mount, u32)> {
    let user = nix::unistd::User::from_name(SERVER).unwrap().expect("every machine has it");
    Some((Mount::prepare()?.with_args(&["--user", SERVER]), user.uid.as_raw()))
}

fn status(process: Pid, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells it");
    line.trim().to_owned()
}

/// What each process may still do.
#[track_caller]
fn assert_powerless(mount: &Mount, uid: u32) {
    let [server, notifier, lookup_helper, inotify_helper] =
        [mount.server(), mount.notifier(), mount.lookup_helper(), mount.inotify_helper()]
            .map(|process| process.expect("it runs"));
    // The last two get there by themselves.
    eventually("all are confined", || {
        [server, notifier, lookup_helper, inotify_helper]
            .into_iter()
            .all(|one| status(one, "Seccomp:") == "2")
    });
    const NONE: &str = "0000000000000000";
    const READS_ALL: &str = "0000000000000004";
    for (process, capabilities) in
        [(server, NONE), (notifier, NONE), (lookup_helper, READS_ALL), (inotify_helper, READS_ALL)]
    {
        assert_eq!(status(process, "CapEff:"), capabilities);
        assert_eq!(status(process, "CapPrm:"), capabilities);
        assert_eq!(status(process, "CapBnd:"), NONE);
        assert_eq!(status(process, "NoNewPrivs:"), "1");
        assert_eq!(status(process, "Uid:"), format!("{uid}\t{uid}\t{uid}\t{uid}"));
    }
    for process in [server, notifier, lookup_helper, inotify_helper] {
        for thread in fs::read_dir(format!("/proc/{process}/task")).unwrap() {
            let thread = thread.unwrap().path();
            let text = fs::read_to_string(thread.join("status")).unwrap();
            assert!(text.contains("\nSeccomp:\t2\n") && text.contains("\nNoNewPrivs:\t1\n"));
        }
    }
}

#[test]
fn a_server_of_roots_has_no_power() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--user", "root", "--require-sandbox"]).started();
    assert_powerless(&mount, 0);
    assert!(mount.kill_server());
    mount.user(ROOT).write("K", "value").unwrap();
    assert_powerless(&mount, 0);
    assert_eq!(mount.user(ROOT).read(".status/health").as_deref(), Ok("ok\n"));
}

#[test]
fn a_server_of_another_user_serves_all_the_same() {
    let Some((mount, uid)) = prepare() else { return };
    let mut mount = mount.with_args(&["--require-sandbox"]).started();
    assert_powerless(&mount, uid);
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("db/K", "value", "readers: [alice]\n");
    root.write("large", vec![7; 1 << 20]).unwrap();
    assert_eq!(alice.read("db/K").as_deref(), Ok("value"));
    assert_eq!(root.read(".status/health").as_deref(), Ok("ok\n"));
    assert!(mount.kill_server());
    assert_eq!(alice.read("db/K").as_deref(), Ok("value"));
    assert_powerless(&mount, uid);
    // Users and groups are looked up for it.
    assert!(root.read(".status/whoami").unwrap().contains("root"));
    assert_eq!(fs::metadata(mount.state()).unwrap().uid(), uid);
    mount.restart();
    assert_eq!(mount.user(ALICE).read("db/K").as_deref(), Ok("value"));
    assert!(mount.user(ROOT).read_bytes("large") == Ok(vec![7; 1 << 20]));
}

#[test]
fn a_state_directory_of_roots_is_handed_over() {
    let Some(mut mount) = Mount::prepare() else { return };
    mount = mount.with_args(&["--user", "root"]).started();
    mount.user(ROOT).write("K", "value").unwrap();
    assert_eq!(fs::metadata(mount.state()).unwrap().uid(), 0);
    mount.stop();
    let Some((other, uid)) = prepare() else { return };
    let mut other = other.on_state_of(&mount).started();
    assert_eq!(other.user(ROOT).read("K").as_deref(), Ok("value"));
    other.stop();
    // Root works on it offline; what it makes there is handed over at the next start.
    let output = Command::new(env!("CARGO_BIN_EXE_secretfs"))
        .args(["backup", "-", "--offline", "--state-dir"])
        .arg(other.state())
        .env("OB_ENCRYPTION_KEY", KEY)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    other.go();
    assert_eq!(other.user(ROOT).read("K").as_deref(), Ok("value"));
    fn all_belong_to(directory: &Path, uid: u32) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(fs::symlink_metadata(&path).unwrap().uid(), uid, "{path:?}");
            if path.is_dir() {
                all_belong_to(&path, uid);
            }
        }
    }
    all_belong_to(&other.state(), uid);
    other.stop();

    chown(other.state(), Some(4242), None).unwrap();
    assert!(other.refused().contains("belongs to UID 4242"));
}

#[test]
fn keys_and_identities_may_be_roots_alone() {
    let Some((mount, _)) = prepare() else { return };
    let key = mount.state().with_file_name("key");
    let previous = mount.state().with_file_name("previous");
    let write = |path: &Path, text: &str| {
        // A new file each time.
        let next = path.with_extension("next");
        fs::write(&next, text).unwrap();
        set_mode(&next, 0o600);
        fs::rename(next, path).unwrap();
    };
    write(&key, KEY);
    write(&previous, "");
    set_mode(&mount.identities(), 0o600);
    let mount = mount
        .with_env("OB_ENCRYPTION_KEY", None)
        .with_args(&["--encryption-key-file", key.to_str().unwrap()])
        .with_args(&["--previous-encryption-key-file", previous.to_str().unwrap()])
        .started();
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    write(&previous, KEY);
    write(&key, NEW_KEY);
    write(&mount.identities(), "identities: [{slug: newcomer, uid: 4242}]\n");
    mount.signal(Signal::SIGHUP);
    eventually("all was read again", || mount.said().contains("the identities were read again"));
    assert!(mount.said().contains("the encryption keys were read again"), "{}", mount.said());
    assert_eq!(root.read("K").as_deref(), Ok("value"));
    assert!(mount.user(UNKNOWN).read(".status/whoami").unwrap().contains("newcomer"));
    assert!(mount.kill_server());
    assert_eq!(root.read("K").as_deref(), Ok("value"));
    let path = mount.point();
    let rekeyed = Command::new(env!("CARGO_BIN_EXE_secretfs"))
        .args(["rekey", "--mount"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(rekeyed.status.success(), "{}", String::from_utf8_lossy(&rekeyed.stderr));
}

#[test]
fn files_to_import_may_be_their_owners_alone() {
    let Some((mount, _)) = prepare() else { return };
    let directory = mount.roots().join("import");
    fs::create_dir(&directory).unwrap();
    set_mode(&directory, 0o700);
    let put = |name: &str, uid: u32, text: &str| {
        fs::write(directory.join(".new"), text).unwrap();
        set_mode(&directory.join(".new"), 0o600);
        chown(directory.join(".new"), Some(uid), Some(uid)).unwrap();
        fs::rename(directory.join(".new"), directory.join(name)).unwrap();
    };
    put("a.yaml", 2100, "key: alice/K\nvalue: v\n");
    let mount = mount.with_args(&["--import-dir", directory.to_str().unwrap()]).started();
    let alice = mount.user(ALICE);
    assert_eq!(alice.read("alice/K").as_deref(), Ok("v"));
    put("a.yaml", 2100, "key: alice/K\nvalue: w\n");
    eventually("it is noticed", || alice.read("alice/K").as_deref() == Ok("w"));
    // It may read that directory, and only for that.
    let server = mount.server().unwrap();
    assert_eq!(status(server, "CapEff:"), "0000000000000004");

    // So is another directory in its place, which this server may not read itself.
    fs::rename(&directory, directory.with_extension("old")).unwrap();
    fs::create_dir(&directory).unwrap();
    put("a.yaml", 2100, "key: alice/K\nvalue: x\n");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(40);
    while alice.read("alice/K").as_deref() != Ok("x") {
        assert!(std::time::Instant::now() < deadline, "the other directory is not read");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(mount.server(), Some(server));
}

#[test]
fn inotify_tells_as_much_as_from_root() {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let Some((mount, _)) = prepare() else { return };
    let mount = mount.started();
    let root = mount.user(ROOT);
    root.put("svc/K", "value", "");
    root.read("svc/K").unwrap();
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    inotify.add_watch(&mount.point().join("svc/K"), AddWatchFlags::IN_MODIFY).unwrap();
    root.import("k.yaml", "key: svc/K\nvalue: import\n").unwrap();
    eventually("a watch on the secret tells", || inotify.read_events().is_ok());
}

#[test]
fn a_lookup_helper_that_dies_is_replaced_with_its_server() {
    let Some((mount, _)) = prepare() else { return };
    let mount = mount.started();
    let (server, lookup_helper) = (mount.server().unwrap(), mount.lookup_helper().unwrap());
    kill(lookup_helper, Signal::SIGKILL).unwrap();
    mount.user(ALICE).write("alice/K", "value").unwrap();
    assert_eq!(mount.user(ALICE).read("alice/K").as_deref(), Ok("value"));
    assert_ne!(mount.server(), Some(server));
    let old = format!("/proc/{lookup_helper}/cmdline");
    eventually("nothing is left of it", || fs::read(&old).map_or(true, |text| text.is_empty()));
}

#[test]
fn nobody_is_left_when_the_supervisor_is_killed() {
    let Some((mut mount, _)) = prepare() else { return };
    mount.go();
    let all = [mount.server(), mount.notifier(), mount.lookup_helper(), mount.inotify_helper()];
    mount.kill9();
    eventually("all have ended", || {
        all.iter().flatten().all(|one| !Path::new(&format!("/proc/{one}/cmdline")).exists())
    });
    mount.go();
}

#[test]
fn a_user_that_is_not_there_refuses_the_start() {
    let Some(mount) = Mount::prepare() else { return };
    let mut mount = mount.with_args(&["--user", "no-such-user-here"]);
    assert!(mount.refused().contains("no-such-user-here: there is no such user"));
}

/// Landlock and seccomp, and what is said where they are missing.
const MEANS: [(&[libc::c_long], &str); 2] = [
    (&[libc::SYS_landlock_create_ruleset], "Landlock"),
    (&[libc::SYS_seccomp], "CONFIG_SECCOMP_FILTER"),
];

/// Lets Landlock be that of Linux 6.1. The library with which the daemon asks for it calls `syscall`.
const OLD_LANDLOCK: &str = "
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/syscall.h>

long syscall(long number, ...)
{
    long (*next)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, \"syscall\");
    long arguments[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_landlock_create_ruleset && !arguments[0] && (int)arguments[2] == 1)
        return 2;
    return next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                arguments[5]);
}
";

/// Health is ok but for one note, also after the server was replaced.
#[track_caller]
fn assert_is_told_as_a_note(mount: &Mount, name: &str) {
    assert!(mount.said().contains(name), "{}", mount.said());
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    for _ in 0..2 {
        assert_eq!(root.read("K").as_deref(), Ok("value"));
        let health = root.read(".status/health").unwrap();
        let says = health.starts_with("ok\nnote: the server is as confined as this kernel allows");
        assert!(says && health.contains(name) && health.lines().count() == 2, "{health}");
        let secure = root.read(".status/is-secure").unwrap();
        assert!(!secure.contains(name), "{secure}");
        assert!(mount.kill_server());
    }
}

/// Landlock came with Linux 5.13, and may be left out; so may seccomp.
#[test]
fn what_a_kernel_lacks_is_a_note_and_may_refuse_the_start() {
    for (calls, name) in MEANS {
        let Some((mount, _)) = prepare() else { return };
        let mut mount = mount.without_calls(calls).started();
        assert_is_told_as_a_note(&mount, name);
        mount.stop();
        let mut mount = mount.with_args(&["--require-sandbox"]);
        assert!(mount.refused().contains(name));
    }
}

#[test]
fn an_old_landlock_is_a_note_and_may_refuse_the_start() {
    let Some((mount, _)) = prepare() else { return };
    let Some(library) = build_library(&mount.roots(), OLD_LANDLOCK) else { return };
    let mut mount = mount.with_env("LD_PRELOAD", library.to_str()).started();
    assert_is_told_as_a_note(&mount, "older than that of Linux 6.12");
    mount.stop();
    let mut mount = mount.with_args(&["--require-sandbox"]);
    assert!(mount.refused().contains("older than that of Linux 6.12"));
}

/// It bounds what is read, so that the server may read what is others' alone.
#[test]
fn an_old_landlock_takes_no_right_to_read_away() {
    let Some((mount, _)) = prepare() else { return };
    let Some(library) = build_library(&mount.roots(), OLD_LANDLOCK) else { return };
    let directory = mount.roots().join("import");
    fs::create_dir(&directory).unwrap();
    let file = directory.join("a.yaml");
    fs::write(&file, "key: alice/K\nvalue: v\n").unwrap();
    set_mode(&file, 0o600);
    chown(&file, Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    set_mode(&directory, 0o700);
    let mount = mount.with_args(&["--import-dir", directory.to_str().unwrap()]);
    let mount = mount.with_env("LD_PRELOAD", library.to_str()).started();
    assert!(mount.said().contains("older than that of Linux 6.12"), "{}", mount.said());
    assert_eq!(mount.user(ALICE).read("alice/K").as_deref(), Ok("v"));
    assert_eq!(status(mount.server().unwrap(), "CapEff:"), "0000000000000004");
}

#[test]
fn what_the_set_up_refuses_is_a_fault() {
    for (calls, name) in MEANS {
        let Some((mount, _)) = prepare() else { return };
        let mut mount = mount.refusing_calls(calls).started();
        let root = mount.user(ROOT);
        let health = root.read(".status/health").unwrap();
        assert!(health.starts_with("degraded\nsandbox: ") && health.contains(name), "{health}");
        let secure = root.read(".status/is-secure").unwrap();
        assert!(secure.contains("is not secure: ") && secure.contains(name), "{secure}");
        mount.stop();
        let mut mount = mount.with_args(&["--require-sandbox"]);
        assert!(mount.refused().contains(name));
    }
}
