//! Below an automount of systemd: only processes of its own process group may look at the mountpoint while it mounts, all
//! others wait for the mount.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{getpgrp, pipe2};

use crate::harness::{Mount, skip};

#[test]
fn it_is_mounted_in_the_background_while_somebody_waits_for_it() {
    let Some(prepared) = Mount::prepare() else { return };
    if !Path::new("/dev/autofs").exists() {
        return skip("needs /dev/autofs");
    }
    let point = prepared.point();
    let (ours, kernels) = pipe2(OFlag::O_CLOEXEC).unwrap();
    // As systemd does it: the kernel says on the pipe that somebody waits.
    let options = format!(
        "fd={},pgrp={},minproto=5,maxproto=5,direct",
        kernels.as_raw_fd(),
        getpgrp().as_raw()
    );
    mount(Some("automount"), &point, Some("autofs"), MsFlags::empty(), Some(&*options)).unwrap();
    let mut waits = Command::new("stat");
    waits.arg(point.join("K")).process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
    let mut waits = waits.spawn().unwrap();
    let mut packet = [0; 8];
    File::from(ours.try_clone().unwrap()).read_exact(&mut packet).unwrap();
    let mut background = prepared.command();
    let started = background.arg("--background").output().unwrap();
    // Without its pipe the kernel lets everybody through.
    drop((ours, kernels));
    umount2(&point, MntFlags::MNT_DETACH).unwrap();
    let said = String::from_utf8_lossy(&started.stderr);
    waits.kill().unwrap();
    waits.wait().unwrap();
    let _ = umount2(&point, MntFlags::MNT_DETACH);
    assert!(started.status.success() && said.contains("mounted at"), "{}: {said}", started.status);
}
