//! Section 9: how a mount begins and ends.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::errno::Errno::{ENOENT, ENOTCONN};
use nix::sys::signal::Signal;

use crate::harness::{ALICE, Mount, ROOT};

#[test]
fn both_signals_end_it_with_0() {
    let Some(mut mount) = Mount::start() else { return };
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // `stop_with` checks the exit code and that the mount is gone.
        mount.stop_with(signal);
        mount.go();
    }
}

#[test]
fn it_ends_while_files_are_open() {
    let Some(mut mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "readers: [alice]\n");
    let held = alice.open("K", libc::O_RDONLY).unwrap();
    let writer = root.open("K", libc::O_WRONLY | libc::O_TRUNC).unwrap();
    writer.write("never committed").unwrap();
    mount.stop();
    assert!(writer.close().is_err(), "a close that stored nothing said that it did");
    let _ = held.close();
    mount.go();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
}

#[test]
fn everything_is_there_after_a_restart() {
    let Some(mut mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("db/deep/K", "value", "readers: [alice]\nwriters: [bob]\n");
    root.write("L", vec![7; 1 << 20]).unwrap();
    let (id, lists, stat) = (root.id("db/deep/K"), root.lists("db/deep/K"), root.stat("db/deep/K"));
    mount.restart();
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    assert_eq!(alice.read("db/deep/K").as_deref(), Ok("value"));
    assert_eq!((root.id("db/deep/K"), root.lists("db/deep/K")), (id, lists));
    assert_eq!(root.stat("db/deep/K").unwrap().mtime, stat.unwrap().mtime);
    assert!(root.read_bytes("L") == Ok(vec![7; 1 << 20]), "a large value changed");
}

#[test]
fn a_missing_mountpoint_is_made() {
    let Some(mount) = Mount::prepare() else { return };
    fs::remove_dir(mount.point()).unwrap();
    // As in the unit.
    let mut mount = mount.with_umask(0o077).started();
    assert_eq!(mount.user(ROOT).write("K", "value"), Ok(()));
    // Who comes before the next mount finds nothing, and is not refused.
    mount.stop();
    assert_eq!(fs::metadata(mount.point()).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_dead_mount_is_cleared() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).write("K", "value").unwrap();
    mount.kill9();
    mount.go();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
    mount.stop();
}

#[test]
fn a_mountpoint_in_use_is_an_error() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    let mut another = Mount::prepare().expect("it was possible").at_point_of(&mount);
    let said = another.refused();
    assert!(said.contains(mount.point().to_str().unwrap()), "it should name it:\n{said}");
    assert_eq!(root.read("K").as_deref(), Ok("value"), "the mount that was there goes on");
}

#[test]
fn a_state_directory_in_use_is_an_error() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    let mut another = Mount::prepare().expect("it was possible").on_state_of(&mount);
    let said = another.refused();
    assert!(said.contains(mount.state().to_str().unwrap()), "it should name it:\n{said}");
    assert_eq!(root.read("K").as_deref(), Ok("value"));
}

#[test]
fn a_mountpoint_that_is_a_file_is_an_error() {
    let Some(mut mount) = Mount::prepare() else { return };
    fs::remove_dir(mount.point()).unwrap();
    fs::write(mount.point(), "a file").unwrap();
    let said = mount.refused();
    assert!(said.contains(mount.point().to_str().unwrap()), "it should name it:\n{said}");
    assert_eq!(fs::read_to_string(mount.point()).unwrap(), "a file");
}

#[test]
fn systemd_is_told_when_it_is_ready() {
    let Some(mount) = Mount::prepare() else { return };
    let path = mount.state().with_file_name("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mount = mount.with_env("NOTIFY_SOCKET", path.to_str()).started();
    let mut buffer = [0; 1024];
    let told = std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec()))
        .any(|message| message.split(|&byte| byte == b'\n').any(|line| line == b"READY=1"));
    assert!(told, "no READY=1 came");
    assert_eq!(mount.user(ROOT).write("K", "value"), Ok(()));
}

#[test]
fn wrong_usage_is_refused_with_2() {
    let Some(mount) = Mount::prepare() else { return };
    let mut mount = mount.with_args(&["--no-such-flag"]);
    let refusal = mount.try_start().unwrap_err();
    assert_eq!(refusal.status.code(), Some(2), "{}", refusal.stderr);
    assert!(refusal.stderr.contains("--no-such-flag"), "{}", refusal.stderr);
}

#[test]
fn who_reads_while_it_is_killed_gets_an_error_and_does_not_hang() {
    let Some(mut mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    mount.kill9();
    // Either nobody serves the mount any more, or it has been taken down.
    let read = root.read("K");
    assert!(matches!(read, Err(ENOTCONN | ENOENT)), "{read:?}");
    mount.go();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
}
