//! A mount that nobody serves any more: whoever waits gets an error at once, and the next start needs nobody's help.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Mount, ROOT, eventually, set_mode};

/// How long a caller may wait for a mount that was given up.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long the next start may take.
pub(crate) const LONGEST_START: Duration = Duration::from_secs(5);

/// Writers, readers and removers in one directory, until an operation fails.
pub(crate) struct Load(Vec<Child>);

impl Load {
    pub(crate) fn on(directory: &Path) -> Self {
        let script =
            "while :; do echo x > $0/$1 && cat $0/$1 && rm $0/$1 && stat $0 || exit 0; done";
        let start = |number: usize| {
            Command::new("bash")
                .args(["-c", script])
                .arg(directory)
                .arg((number % 3).to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("bash is there")
        };
        Self((0..6).map(start).collect())
    }

    /// Until no process of it waits for the mount.
    #[track_caller]
    pub(crate) fn ends_within(mut self, longest: Duration) {
        let end = Instant::now() + longest;
        for process in &mut self.0 {
            // One that works on a directory without the mount goes on.
            kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGKILL).unwrap();
        }
        for process in &mut self.0 {
            while process.try_wait().unwrap().is_none() {
                assert!(Instant::now() < end, "a caller still waits after {longest:?}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Takes one of the descriptors of another process (pidfd_getfd(2)).
fn take_device(process: Pid) -> OwnedFd {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten();
    let is_device = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|target| target == Path::new("/dev/fuse"))
    };
    let device = descriptors.into_iter().find(is_device).expect("it holds /dev/fuse");
    let number: i32 = device.file_name().to_str().unwrap().parse().unwrap();
    // SAFETY: numbers only; the kernel makes new descriptors, which are nobody else's.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0);
        assert!(process >= 0, "the process is there");
        let process = OwnedFd::from_raw_fd(process as i32);
        let taken = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0);
        assert!(taken >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(taken as i32)
    }
}

#[test]
fn who_waits_for_a_server_that_is_given_up_gets_an_error() {
    for round in 0..3 {
        let Some(mut mount) = Mount::prepare() else { return };
        mount = mount.with_args(&["--crash-limit", "1"]).started();
        mount.user(ROOT).put("d/first", "value", "");
        let load = Load::on(&mount.point().join("d"));
        // Two are allowed for.
        let mut killed = 0;
        while mount.is_running() {
            std::thread::sleep(Duration::from_millis(40 + 15 * round));
            killed += usize::from(mount.kill_server());
            assert!(killed < 50, "it was never given up");
        }
        let (status, said) = mount.ended();
        assert!(!status.success() && said.contains("times"), "{status}: {said}");
        load.ends_within(LONGEST_WAIT);
        assert!(mount.mounted().is_none());
        let start = Instant::now();
        mount.go();
        assert!(start.elapsed() < LONGEST_START);
        assert_eq!(mount.user(ROOT).read("d/first"), Ok("value".to_owned()));
    }
}

#[test]
fn a_stop_under_load_ends_whoever_waits() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).put("d/first", "value", "");
    for _ in 0..3 {
        let load = Load::on(&mount.point().join("d"));
        std::thread::sleep(Duration::from_millis(200));
        mount.stop();
        load.ends_within(LONGEST_WAIT);
        mount.go();
    }
}

/// As after the last attempt of a service manager, which keeps the device: the kernel takes the mount to be served.
#[test]
fn a_mount_that_nobody_serves_is_replaced() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).put("d/first", "value", "");
    let load = Load::on(&mount.point().join("d"));
    let kept = take_device(mount.pid());
    mount.kill9();
    let point = mount.point();
    let waits = Command::new("cat").arg(point.join("d/first")).stderr(Stdio::null()).spawn();
    let mut waits = waits.unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(waits.try_wait().unwrap().is_none(), "nobody answers");
    let start = Instant::now();
    mount.go();
    assert!(start.elapsed() < LONGEST_START, "{:?}", start.elapsed());
    eventually("who waited has an answer", || waits.try_wait().unwrap().is_some());
    load.ends_within(LONGEST_WAIT);
    assert_eq!(mount.user(ROOT).read("d/first"), Ok("value".to_owned()));
    drop(kept);
}

#[test]
fn a_mount_that_is_slow_is_not_replaced() {
    let Some(mount) = Mount::start() else { return };
    mount.user(ROOT).put("first", "value", "");
    let server = mount.server().unwrap();
    kill(server, Signal::SIGSTOP).unwrap();
    let other = Mount::prepare().unwrap().at_point_of(&mount).refused();
    kill(server, Signal::SIGCONT).unwrap();
    assert!(other.contains("mount"), "{other}");
    assert_eq!(mount.user(ROOT).read("first"), Ok("value".to_owned()));
}

/// What the unit runs after the end of the service, with this mount in the place of `/secrets`.
fn after_the_stop(mount: &Mount) -> Command {
    let unit = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/mount/secretfs.service"));
    let unit = unit.unwrap().replace("\\\n", "");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStopPost=-/bin/sh -c '"));
    let script = line.and_then(|line| line.strip_suffix('\'')).expect("the unit has such a line");
    let script = script
        .replace("/usr/bin/secretfs", env!("CARGO_BIN_EXE_secretfs"))
        .replace("/secrets", mount.point().to_str().unwrap());
    let programs = mount.roots().join("programs");
    fs::create_dir_all(&programs).unwrap();
    // There is no job.
    fs::write(programs.join("systemctl"), "#!/bin/sh\n").unwrap();
    set_mode(&programs.join("systemctl"), 0o755);
    let mut command = Command::new("sh");
    command.args(["-c", &script]).stderr(Stdio::null()).stdout(Stdio::null());
    command.env("PATH", format!("{}:/usr/bin:/bin", programs.display()));
    command
}

#[test]
fn what_the_unit_does_after_a_stop_does_not_wait_for_a_dead_mount() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).put("d/first", "value", "");
    let load = Load::on(&mount.point().join("d"));
    // A process that holds the device, as the service manager may.
    let kept = take_device(mount.pid());
    mount.kill9();
    let start = Instant::now();
    let after = |result: &str| {
        let mut command = after_the_stop(&mount);
        command.env("SERVICE_RESULT", result).status().unwrap()
    };
    after("signal");
    assert!(mount.mounted().is_some(), "the next supervisor goes on with it");
    after("exit-code");
    assert!(start.elapsed() < LONGEST_START, "{:?}", start.elapsed());
    assert!(mount.mounted().is_none());
    load.ends_within(LONGEST_WAIT);
    // Where there is nothing, nothing is done and nothing is wrong.
    assert!(after("success").success());
    drop(kept);
    mount.go();
}
