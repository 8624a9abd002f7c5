//! The processes of a mount: their names, and signals that are meant for the supervisor alone.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Mount, ROOT, UNKNOWN, eventually};

/// The server and its helpers.
fn others(mount: &Mount) -> [Option<Pid>; 4] {
    [mount.server(), mount.notifier(), mount.lookup_helper(), mount.inotify_helper()]
}

#[test]
fn each_process_says_what_it_is() {
    let Some(mount) = Mount::start() else { return };
    let name = |pid: Pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name(mount.pid()), "secretfs\n");
    let names = ["secretfs-server", "secretfs-notify", "secretfs-lookup", "secretfs-touch"];
    for (pid, expected) in others(&mount).into_iter().zip(names) {
        assert_eq!(name(pid.expect(expected)).trim_end(), expected);
    }
}

/// `systemctl kill -s HUP` sends the signal to all processes of the service.
#[test]
fn signals_to_all_processes_end_none_of_them() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("K", "value", "");
    let before = others(&mount);
    assert!(before.iter().all(Option::is_some), "{before:?}");
    for signal in [Signal::SIGHUP, Signal::SIGUSR1] {
        before.into_iter().flatten().for_each(|pid| kill(pid, signal).unwrap());
        mount.signal(signal);
    }
    // The supervisor leaves the mount because of this one, where a service manager keeps it.
    before.into_iter().flatten().for_each(|pid| kill(pid, Signal::SIGUSR2).unwrap());
    eventually("it read again", || mount.said().contains("the identities were read again"));
    // Each of them has something to do in this.
    root.write("K", "another").unwrap();
    assert_eq!(root.read("K").as_deref(), Ok("another"));
    assert!(mount.user(UNKNOWN).read(".status/whoami").unwrap().contains("4242"));
    assert_eq!(others(&mount), before);
}
