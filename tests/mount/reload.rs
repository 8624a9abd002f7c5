//! `secretfs reload`: returns when the files were read, and says if they were refused.

use std::fs;
use std::path::Path;
use std::process::Output;

use nix::sys::signal::{Signal, kill};

use crate::harness::{ALICE, BOB, IDENTITIES, Mount, ROOT};

fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Identities in which Bob's UID has that slug.
fn identities_with(slug: &str) -> String {
    IDENTITIES.replace("slug: bob", &format!("slug: {slug}"))
}

#[test]
fn it_returns_when_the_identities_hold() {
    let Some(mount) = Mount::start() else { return };
    for round in 0..3 {
        let slug = format!("bob-{round}");
        fs::write(mount.identities(), identities_with(&slug)).unwrap();
        assert_eq!(said(&mount.reload()), (Some(0), String::new()));
        let whoami = mount.user(BOB).read(".status/whoami").unwrap();
        assert!(whoami.contains(&slug), "{whoami}");
    }
}

#[test]
fn it_fails_with_the_reason_and_everything_stays() {
    let Some(mount) = Mount::start() else { return };
    fs::write(mount.identities(), "identities:\n  - slug: bob\n    uid: nobody\n").unwrap();
    for _ in 0..2 {
        let (code, text) = said(&mount.reload());
        assert_eq!(code, Some(5), "{text}");
        assert!(text.starts_with("Error: ") && text.contains("is not valid"), "{text}");
        assert!(mount.user(BOB).read(".status/whoami").unwrap().contains("bob"));
        assert!(mount.user(ROOT).read(".status/health").unwrap().contains("identities"));
    }
    fs::write(mount.identities(), IDENTITIES).unwrap();
    assert_eq!(said(&mount.reload()), (Some(0), String::new()));
    assert_eq!(mount.user(ROOT).read(".status/health").unwrap().trim_end(), "ok");
}

#[test]
fn it_is_for_root_and_the_owner_and_needs_a_mount() {
    let Some(mount) = Mount::start() else { return };
    let command = format!("{} reload {}", env!("CARGO_BIN_EXE_secretfs"), mount.point().display());
    assert_eq!(mount.user(ALICE).sh(&command).code, Some(3));
    let elsewhere = format!("{} reload /proc", env!("CARGO_BIN_EXE_secretfs"));
    assert_eq!(mount.user(ROOT).sh(&elsewhere).code, Some(6));
}

#[test]
fn it_takes_the_program_that_was_installed_and_then_reads() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_copied_program().started();
    let server = mount.server();
    mount.install(Path::new(env!("CARGO_BIN_EXE_secretfs")), "second");
    fs::write(mount.identities(), "identities: 7\n").unwrap();
    let (code, text) = said(&mount.reload());
    assert!(code == Some(5) && text.contains("is not valid"), "{code:?}: {text}");
    assert_ne!(mount.server(), server, "the new program serves");
    fs::write(mount.identities(), identities_with("robert")).unwrap();
    assert_eq!(said(&mount.reload()), (Some(0), String::new()));
    assert!(mount.user(BOB).read(".status/whoami").unwrap().contains("robert"));
    // One that does not run is refused, and what was asked for is done.
    mount.install(Path::new("/bin/false"), "");
    let (code, text) = said(&mount.reload());
    assert!(code == Some(6) && text.contains("does not run"), "{code:?}: {text}");
}

#[test]
fn it_says_when_the_server_ends_meanwhile() {
    let Some(mount) = Mount::start() else { return };
    let server = mount.server().unwrap();
    kill(server, Signal::SIGSTOP).unwrap();
    let reload = std::thread::scope(|scope| {
        let reload = scope.spawn(|| said(&mount.reload()));
        // Whether it has asked by then or asks the next server, it gets an answer.
        std::thread::sleep(std::time::Duration::from_millis(300));
        kill(server, Signal::SIGKILL).unwrap();
        reload.join().unwrap()
    });
    assert!(reload.0 == Some(0) || reload.0 == Some(6), "{reload:?}");
    assert_eq!(said(&mount.reload()).0, Some(0));
}
