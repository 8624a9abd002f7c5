//! A server that hangs is replaced; one that waits for a slow disk is not.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};

use crate::harness::{ALICE, Mount, ROOT, set_mode, skip};

#[test]
fn a_server_that_hangs_is_replaced() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "readers: [alice]\n");
    let file = root.open("L", libc::O_WRONLY | libc::O_CREAT).unwrap();
    file.write("written before").unwrap();
    let server = mount.server().unwrap();
    kill(server, Signal::SIGSTOP).unwrap();
    let start = Instant::now();
    assert_eq!(alice.read("K").as_deref(), Ok("value"));
    let waited = start.elapsed();
    assert!(waited > Duration::from_secs(3), "it was killed after {waited:?} already");
    assert!(waited < Duration::from_secs(30), "readers waited {waited:?}");
    assert_ne!(mount.server(), Some(server));
    let said = mount.said();
    assert!(said.contains("the server hangs") && said.contains("another one takes over"), "{said}");
    file.close().unwrap();
    assert_eq!(root.read("L").as_deref(), Ok("written before"));
}

/// A file system that can be made to wait, in the place of a directory.
struct Disk<'a>(&'a std::path::Path);

impl Disk<'_> {
    fn run(program: &str, arguments: &[&str]) -> bool {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    }

    fn freeze(&self, option: &str) -> bool {
        Self::run("fsfreeze", &[option, self.0.to_str().unwrap()])
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        self.freeze("-u");
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_slow_disk_is_no_hang() {
    let Some(mut mount) = Mount::prepare() else { return };
    let (state, image) = (mount.state(), mount.outside().join("disk"));
    std::fs::File::create(&image).unwrap().set_len(96 << 20).unwrap();
    let image = image.to_str().unwrap();
    let made = Disk::run("mkfs.ext4", &["-q", image])
        && Disk::run("mount", &["-o", "loop", image, state.to_str().unwrap()]);
    if !made {
        return skip("needs mkfs.ext4 and a loop device");
    }
    let disk = Disk(&state);
    set_mode(&state, 0o700);
    mount.go();
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "readers: [alice]\n");
    let server = mount.server();
    assert!(disk.freeze("-f"), "it does not freeze");
    let start = Instant::now();
    std::thread::scope(|scope| {
        let waiting = [
            scope.spawn(|| root.write("K", "another")),
            // To open it is on record too.
            scope.spawn(|| alice.read("K").map(drop)),
        ];
        std::thread::sleep(Duration::from_secs(9));
        assert!(disk.freeze("-u"), "it does not thaw");
        waiting.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    });
    assert!(start.elapsed() >= Duration::from_secs(9));
    assert_eq!(mount.server(), server, "{}", mount.said());
    assert_eq!(alice.read("K").as_deref(), Ok("another"));
    mount.stop();
}
