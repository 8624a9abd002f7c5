//! Kernels before Linux 6.9 do not send unanswered requests to the next server. There a dead server costs the
//! connection: callers get an error at once, and a new mount takes the place of the old one.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{ALICE, Mount, ROOT, eventually};
use crate::preload::{NO_RESEND, build_library};
use crate::user::User;

/// How long the mount may be away, and a caller may wait.
const LONGEST: Duration = Duration::from_secs(2);
/// What the start, `health` and `secretfs upgrade` say.
const NOTE: &str = "this kernel does not send unanswered requests to the next server";

/// A mount whose kernel seems to be old, not started yet.
fn prepare() -> Option<Mount> {
    let mount = Mount::prepare()?;
    let library = build_library(&mount.roots(), NO_RESEND)?;
    Some(mount.with_env("LD_PRELOAD", library.to_str()))
}

/// Ends the threads of a test when it is dropped, also where the test fails: it would wait for them.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Creates secrets one after the other until it is over. How many were acknowledged, and how many failed.
fn create_until(over: &AtomicBool, user: &User, name: &str) -> (Vec<u32>, usize) {
    let (mut acknowledged, mut failed) = (Vec::new(), 0);
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        let outcome = user.create_new(&format!("{name}-{number}"), number.to_string());
        assert!(start.elapsed() < LONGEST, "a writer waited {:?}", start.elapsed());
        match outcome {
            Ok(()) => acknowledged.push(number),
            Err(_) => {
                failed += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
    (acknowledged, failed)
}

/// Kills the server, and waits until the mount is served again. How long that took.
#[track_caller]
fn kill_and_wait(mount: &Mount, reader: &User) -> Duration {
    let start = Instant::now();
    assert!(mount.kill_server());
    while reader.read("K").as_deref() != Ok("value") {
        assert!(start.elapsed() < LONGEST, "the mount is not back: {}", mount.said());
    }
    start.elapsed()
}

#[test]
fn a_killed_server_costs_open_files_and_nothing_that_was_acknowledged() {
    let Some(mut mount) = prepare() else { return };
    mount = mount.with_args(&["--crash-limit", "20"]).started();
    let root = mount.user(ROOT);
    root.put("K", "value", "readers: [alice]\n");
    let writers: Vec<_> = (0..4).map(|_| mount.user(ROOT)).collect();
    let over = AtomicBool::new(false);
    let (mut longest, mut failures) = (Duration::ZERO, 0);
    let acknowledged: Vec<_> = std::thread::scope(|scope| {
        let end = End(&over);
        let write = |(number, user)| {
            let over = &over;
            scope.spawn(move || create_until(over, user, &format!("new{number}")))
        };
        let writing: Vec<_> = writers.iter().enumerate().map(write).collect();
        for _ in 0..8 {
            let unfinished = root.open("L", libc::O_WRONLY | libc::O_CREAT).unwrap();
            unfinished.write("half").unwrap();
            std::thread::sleep(Duration::from_millis(150));
            longest = longest.max(kill_and_wait(&mount, &root));
            assert!(unfinished.write(" and half").is_err() && unfinished.close().is_err());
            assert!(root.read("L").is_err(), "nothing of it was published");
        }
        drop(end);
        writing.into_iter().map(|writing| writing.join().unwrap()).collect()
    });
    for (number, (values, failed)) in acknowledged.iter().enumerate() {
        assert!(!values.is_empty());
        failures += failed;
        for value in values {
            let read = root.read(&format!("new{number}-{value}"));
            assert_eq!(read, Ok(value.to_string()), "it was acknowledged");
        }
    }
    assert!(failures > 0, "no caller noticed anything, so that nothing was tested");
    assert_eq!(mount.user(ALICE).read("K").as_deref(), Ok("value"));
    println!("the longest of 8 outages took {longest:?}");
    mount.stop();
    let left: Vec<_> = fs::read_dir(mount.point()).unwrap().collect();
    assert!(left.is_empty(), "secrets were written to the directory below: {left:?}");
}

#[test]
fn an_old_kernel_is_told_of_and_is_no_fault() {
    let Some(mount) = prepare() else { return };
    let mount = mount.started();
    let root = mount.user(ROOT);
    root.put("K", "value", "");
    let is_told = || {
        let health = root.read(".status/health").unwrap();
        assert!(health.starts_with(&format!("ok\nnote: {NOTE}")), "{health}");
        assert_eq!(health.lines().count(), 2, "{health}");
    };
    is_told();
    assert_eq!(mount.said().matches(NOTE).count(), 1, "{}", mount.said());
    kill_and_wait(&mount, &root);
    is_told();
    // A kernel that can says nothing.
    let other = Mount::start().unwrap();
    assert_eq!(other.user(ROOT).read(".status/health").as_deref(), Ok("ok\n"));
    assert!(!other.said().contains(NOTE));
}

#[test]
fn an_upgrade_says_what_it_costs_and_succeeds() {
    let Some(mount) = prepare() else { return };
    let mount = mount.with_copied_program().started();
    let root = mount.user(ROOT);
    root.put("K", "value", "");
    let unfinished = root.open("L", libc::O_WRONLY | libc::O_CREAT).unwrap();
    unfinished.write("half").unwrap();
    for mark in ["second", "third"] {
        mount.install(env!("CARGO_BIN_EXE_secretfs").as_ref(), mark);
        let server = mount.server();
        let mut command = Command::new(env!("CARGO_BIN_EXE_secretfs"));
        let output = command.arg("upgrade").arg(mount.point()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let (told, done) = (said.find(NOTE), said.find("Upgraded"));
        assert!(told.is_some() && told < done, "{said}");
        assert_ne!(mount.server(), server);
        assert_eq!(root.read("K").as_deref(), Ok("value"));
    }
    assert!(unfinished.close().is_err() && root.read("L").is_err());
    // One that does not serve leaves the old one.
    mount.install(Path::new("/bin/true"), "");
    let said = mount.upgrade().unwrap_err();
    assert!(said.contains("the old program goes on serving"), "{said}");
    assert_eq!(root.read("K").as_deref(), Ok("value"));
    root.write("K", "another").unwrap();
    mount.install(env!("CARGO_BIN_EXE_secretfs").as_ref(), "fourth");
    let upgrades = || mount.said().matches("\"upgraded\"").count();
    let before = upgrades();
    mount.signal(Signal::SIGHUP);
    eventually("it is upgraded", || upgrades() > before);
    assert_eq!(root.read("K").as_deref(), Ok("another"));
}

#[test]
fn a_server_that_dies_again_and_again_is_given_up() {
    let Some(mount) = prepare() else { return };
    let mut mount = mount.with_args(&["--crash-limit", "2"]).started();
    let root = mount.user(ROOT);
    root.put("K", "value", "");
    for _ in 0..2 {
        kill_and_wait(&mount, &root);
    }
    assert!(mount.kill_server());
    let (status, said) = mount.ended();
    assert!(!status.success() && said.contains("died 3 times"), "{status}: {said}");
    assert_eq!(said.matches("another one takes over").count(), 3, "{said}");
    assert!(mount.mounted().is_none(), "nothing stays, neither served nor dead");
    mount.go();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
}

#[test]
fn an_unmount_is_the_end_whatever_lies_below() {
    let Some(mount) = prepare() else { return };
    for unmount in [vec!["umount"], vec![env!("CARGO_BIN_EXE_secretfs"), "unmount", "--mount"]] {
        let mut mount = Mount::prepare().unwrap().on_state_of(&mount);
        let library = build_library(&mount.roots(), NO_RESEND).unwrap();
        mount = mount.with_env("LD_PRELOAD", library.to_str()).started();
        let root = mount.user(ROOT);
        root.put("K", "value", "");
        for _ in 0..2 {
            kill_and_wait(&mount, &root);
        }
        drop(root);
        let output =
            Command::new(unmount[0]).args(&unmount[1..]).arg(mount.point()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let (status, said) = mount.ended();
        assert!(status.success(), "{status}: {said}");
        assert!(mount.mounted().is_none());
    }
}

#[test]
fn locks_and_directories_of_the_old_connection_are_gone() {
    let Some(mount) = prepare() else { return };
    let mount = mount.started();
    let (root, other) = (mount.user(ROOT), mount.user(ROOT));
    root.put("K", "value", "");
    root.put("d/K", "value", "");
    let locked = root.open("K", libc::O_RDONLY).unwrap();
    locked.lock(libc::LOCK_EX | libc::LOCK_NB).unwrap();
    root.mkdir("made").unwrap();
    root.write("d/.K.swp", "scratch").unwrap();
    let second = other.open("K", libc::O_RDONLY).unwrap();
    assert!(second.lock(libc::LOCK_EX | libc::LOCK_NB).is_err());
    kill_and_wait(&mount, &root);
    let second = other.open("K", libc::O_RDONLY).unwrap();
    second.lock(libc::LOCK_EX | libc::LOCK_NB).unwrap();
    assert!(root.stat("made").is_err() && root.stat("d/.K.swp").is_err());
}
