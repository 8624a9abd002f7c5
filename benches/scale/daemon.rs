//! A daemon that is measured.

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
}

impl Daemon {
    /// Mounts the state folder, and returns when requests are served.
    pub(crate) fn start(state: &Path, point: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_secretfs"))
            .args(["mount", "--state-dir"])
            .args([state, point])
            .env("OB_ENCRYPTION_KEY", ENCRYPTION_KEY)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.contains("mounted at"))));
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, point: point.to_owned() }
    }

    /// Where it is mounted.
    pub(crate) fn point(&self) -> &Path {
        &self.point
    }

    /// The processor time that it has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        let fields = stat.rsplit_once(") ").expect("the form of proc(5)").1.split(' ');
        let ticks: u64 =
            fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let second = sysconf(SysconfVar::CLK_TCK).ok().flatten().expect("it is always known");
        Duration::from_secs_f64(ticks as f64 / second as f64)
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(path).expect("it runs")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("an id"));
        kill(pid, Signal::SIGTERM).expect("it runs");
        self.child.wait().expect("it ends");
    }
}

/// A line of /proc/PID/status, such as `VmRSS`, in units of 1,024 bytes.
pub(crate) fn kilobytes(daemon: &Daemon, line: &str) -> u64 {
    let status = daemon.proc("status");
    let line = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let number = line.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
    number.expect("the form of proc(5)")
}
