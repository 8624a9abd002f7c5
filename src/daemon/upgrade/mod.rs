//! Replacing the program of the server while it serves.

mod socket;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::error::DaemonError;
use super::notify;

pub(super) use socket::{Requester, UpgradeSocket};

/// How long a program may take to tell its version.
const TRIAL: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

/// Lets the mount be served by the program that is now where its program was, and waits for it. Calls `tell`
/// before that with what it does to callers, if they notice more than a short wait.
///
/// # Errors
/// There is no mount, or the new program does not serve: the old one goes on.
pub fn upgrade(path: &Path, tell: impl FnOnce(&str)) -> Result<(), DaemonError> {
    let failed = |source| DaemonError::Unreachable { path: path.to_owned(), source };
    let path = std::fs::canonicalize(path).map_err(failed)?;
    if let Some(effect) = socket::effect(&path).map_err(failed)? {
        tell(&effect);
    }
    let Some(supervisor) = socket::request(&path).map_err(failed)? else {
        return Err(DaemonError::NotMounted(path));
    };
    match supervisor.receive::<Result<(), String>>().map_err(failed)? {
        Some((Ok(()), _)) => Ok(()),
        Some((Err(why), _)) => Err(DaemonError::Upgrade { why }),
        None => Err(failed(io::ErrorKind::ConnectionRefused.into())),
    }
}

/// Whether the supervisor of the mount at `mountpoint` lives. Asks the mount nothing.
pub(super) fn has_supervisor(mountpoint: &Path) -> bool {
    socket::is_listened_to(mountpoint).unwrap_or(false)
}

/// Opens a program and sees whether it runs at all.
pub(super) fn try_out(path: &Path) -> Result<File, String> {
    let told = |error: io::Error| format!("{} cannot be started: {error}", path.display());
    let program = File::open(path).map_err(told)?;
    let mut trial = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg0(notify::PROGRAM)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(told)?;
    let deadline = Instant::now() + TRIAL;
    loop {
        match trial.try_wait().map_err(told)? {
            Some(status) if status.success() => return Ok(program),
            Some(status) => return Err(format!("{} does not run ({status})", path.display())),
            None if Instant::now() < deadline => std::thread::sleep(LOOK),
            None => {
                // It may have ended by itself.
                let _ = trial.kill();
                let _ = trial.wait();
                return Err(format!("{} does not tell its version", path.display()));
            }
        }
    }
}
