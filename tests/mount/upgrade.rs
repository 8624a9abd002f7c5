//! `secretfs upgrade`: another program serves the same mount, or the old one goes on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::harness::{ALICE, Mount, ROOT, eventually};

/// Device and inode of the program that serves.
fn serving(mount: &Mount) -> (u64, u64) {
    let server = mount.server().expect("it serves");
    let program = fs::metadata(format!("/proc/{server}/exe")).unwrap();
    (program.dev(), program.ino())
}

#[test]
fn the_new_program_serves_and_what_is_open_stays() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_copied_program().started();
    let root = mount.user(ROOT);
    root.put("K", "value", "");
    let held = root.open("K", libc::O_RDONLY).unwrap();
    let writer = root.open("L", libc::O_WRONLY | libc::O_CREAT).unwrap();
    writer.write("half").unwrap();
    let before = serving(&mount);
    mount.install(env!("CARGO_BIN_EXE_secretfs").as_ref(), "second");
    assert_eq!(serving(&mount), before, "nothing happens by itself");
    assert_eq!(mount.upgrade(), Ok(()));
    let after = serving(&mount);
    assert_ne!(after, before);
    assert_eq!(held.read_to_end().as_deref(), Ok(&b"value"[..]));
    writer.write(" and half").unwrap();
    writer.close().unwrap();
    assert_eq!(root.read("L").as_deref(), Ok("half and half"));
    // A crash later goes on with the new one.
    assert!(mount.kill_server());
    root.write("K", "another").unwrap();
    assert_eq!(serving(&mount), after);
}

#[test]
fn a_program_that_does_not_serve_leaves_the_old_one() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_copied_program().started();
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    let (before, server) = (serving(&mount), mount.server());
    // It does not even tell its version: nothing is tried.
    mount.install(Path::new("/bin/false"), "");
    let said = mount.upgrade().unwrap_err();
    assert!(said.contains("does not run") && said.contains("the old program goes on"), "{said}");
    assert_eq!(mount.server(), server);
    // It does, and ends when it is to serve.
    mount.install(Path::new("/bin/true"), "");
    for _ in 0..15 {
        let said = mount.upgrade().unwrap_err();
        assert!(said.contains("did not serve"), "{said}");
        assert_eq!(root.read("K").as_deref(), Ok("value"));
        assert_eq!(serving(&mount), before);
    }
    root.write("K", "another").unwrap();
}

#[test]
fn sighup_upgrades_if_the_program_was_replaced() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_copied_program().started();
    let root = mount.user(ROOT);
    let writer = root.open("K", libc::O_WRONLY | libc::O_CREAT).unwrap();
    writer.write("half").unwrap();
    let (before, server) = (serving(&mount), mount.server());
    let read_again = "the identities were read again";
    mount.signal(Signal::SIGHUP);
    eventually("it reads the identities", || mount.said().contains(read_again));
    assert_eq!(mount.server(), server, "the program is the same: it reads again, and no more");
    mount.install(env!("CARGO_BIN_EXE_secretfs").as_ref(), "second");
    mount.signal(Signal::SIGHUP);
    eventually("it is upgraded", || mount.said().contains("upgraded"));
    assert_ne!(serving(&mount), before);
    writer.write(" and half").unwrap();
    writer.close().unwrap();
    assert_eq!(root.read("K").as_deref(), Ok("half and half"));
    // One that does not run is told of, and what was asked for is done.
    let server = mount.server();
    mount.install(Path::new("/bin/false"), "");
    mount.signal(Signal::SIGHUP);
    eventually("it reads the identities", || mount.said().matches(read_again).count() == 2);
    assert!(mount.said().contains("not upgraded: "), "{}", mount.said());
    assert_eq!(mount.server(), server);
}

#[test]
fn only_root_and_its_owner_upgrade() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_copied_program().started();
    let server = mount.server();
    let program = env!("CARGO_BIN_EXE_secretfs");
    let point = mount.point();
    let said = mount.user(ALICE).sh(&format!("{program} upgrade {}", point.display()));
    assert_ne!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(mount.server(), server);
    let missing = std::process::Command::new(program).args(["upgrade", "/proc"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(6));
}
