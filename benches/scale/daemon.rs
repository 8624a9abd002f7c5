//! A daemon that is measured.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

use super::fill::ENCRYPTION_KEY;

/// A mount; it is unmounted when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    point: PathBuf,
    /// The process that has the secrets.
    server: u32,
}

impl Daemon {
    /// Mounts the state directory, and returns when requests are served.
    pub(crate) fn start(state: &Path, point: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_secretfs"))
            .args(["mount", "--user", "root", "--state-dir"])
            .args([state, point])
            .env("OB_ENCRYPTION_KEY", ENCRYPTION_KEY)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.contains("mounted at"))));
        std::thread::spawn(move || lines.for_each(drop));
        let server = server_of(child.id());
        Self { child, point: point.to_owned(), server }
    }

    /// Where it is mounted.
    pub(crate) fn point(&self) -> &Path {
        &self.point
    }

    /// The processor time that the server has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        let fields = stat.rsplit_once(") ").expect("the form of proc(5)").1.split(' ');
        let ticks: u64 =
            fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let second = sysconf(SysconfVar::CLK_TCK).ok().flatten().expect("it is always known");
        Duration::from_secs_f64(ticks as f64 / second as f64)
    }

    /// The memory of the server that is resident, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|text| text.strip_prefix("VmRSS:"));
        let number = line.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        number.expect("the form of proc(5)") * 1024
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.server)).expect("it runs")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("an id"));
        kill(pid, Signal::SIGTERM).expect("it runs");
        self.child.wait().expect("it ends");
    }
}

/// What was started is the holder of the mount; the server is a child of it.
fn server_of(holder: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{holder}/task/{holder}/children"));
    let children = children.expect("Linux tells it");
    let serves = |child: &u32| {
        let arguments = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        arguments.split('\0').nth(1) == Some("serve")
    };
    let mut numbers = children.split_whitespace().filter_map(|child| child.parse().ok());
    numbers.find(serves).expect("it serves")
}
