//! A process that serves a mount.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than any start or end takes.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(2);

/// Where a process's standard output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Logged,
    AsGiven,
}

/// A mount and the process that serves it.
pub(super) struct Mounted {
    point: PathBuf,
    process: Child,
}

impl Mounted {
    /// Starts the program, which stays in the foreground, and waits until it has mounted and, if it
    /// says something then, has said so. What it says goes to a file beside the mountpoint, unless
    /// its standard output is somebody's already.
    pub(super) fn start(
        mut command: Command,
        point: &Path,
        output: Output,
        ready: &str,
    ) -> io::Result<Self> {
        let log = point.with_extension("log");
        let file = File::create(&log)?;
        if output == Output::Logged {
            command.stdout(file.try_clone()?);
        }
        command.stderr(file);
        // SAFETY: prctl(2) is a plain system call, which may be made between fork and exec.
        unsafe {
            // Who ends the comparison with SIGKILL gets no mount left behind either.
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?));
        }
        let process = command.spawn()?;
        let mut mounted = Self { point: point.to_owned(), process };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(&log)?;
            // Nobody may use the mount before: gocryptfs opens a file in it, to begin with, and hangs
            // if it finds somebody waiting for an answer.
            if is_mounted(point)? && said.contains(ready) {
                return Ok(mounted);
            }
            let ended = mounted.process.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let command = command.get_program().display();
                return Err(io::Error::other(format!("{command} did not mount:\n{said}")));
            }
            sleep(PAUSE);
        }
    }

    /// The process, for those who talk to it.
    pub(super) fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    /// Unmounts and ends the process; with SIGKILL if it does not end by itself.
    pub(super) fn end(&mut self) -> io::Result<()> {
        // The floor ends with its input.
        drop(self.process.stdin.take());
        if self.process.try_wait()?.is_none() {
            kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM)?;
        }
        let deadline = Instant::now() + PATIENCE;
        while self.process.try_wait()?.is_none() {
            if Instant::now() > deadline {
                // Those who wait for it, perhaps also itself, could not be killed before.
                unmount(&self.point)?;
                self.process.kill()?;
                self.process.wait()?;
            }
            sleep(PAUSE);
        }
        unmount(&self.point)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{} was left behind: {error}", self.point.display());
        }
    }
}

/// Whether something is mounted there.
pub(super) fn is_mounted(point: &Path) -> io::Result<bool> {
    let point = format!(" {} ", point.display());
    Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().any(|line| line.contains(&point)))
}

/// Unmounts what is mounted there, whether somebody uses it or not. Who waits for an answer gets an
/// error.
pub(super) fn unmount(point: &Path) -> io::Result<()> {
    while is_mounted(point)? {
        umount2(point, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH)?;
    }
    Ok(())
}

/// Whether a program is installed.
pub(super) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// The mountpoint of a file system.
pub(super) fn make_point(directory: &Path, name: &str) -> io::Result<PathBuf> {
    let point = directory.join(name);
    fs::create_dir(&point)?;
    Ok(point)
}

/// Makes the clients' directory and gives it to their user.
pub(super) fn make_directory(point: &Path) -> io::Result<()> {
    let directory = point.join(super::DIRECTORY);
    fs::create_dir(&directory)?;
    std::os::unix::fs::chown(directory, Some(crate::client::USER), Some(crate::client::USER))
}
