//! Asking the supervisor of a mount: to replace the program of the server while it serves, or to read files again.

mod socket;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde::{Deserialize, Serialize};

use crate::daemon::error::DaemonError;
use crate::daemon::host::start_notice;
use socket::Supervisor;

pub(in crate::daemon) use socket::{Request, Requester, UpgradeSocket};

/// How long a program may take to report its version.
const TRIAL: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

/// Lets the mount be served by the program that is now where its program was, and waits for it. Calls `tell`
/// before that with what it does to callers, if they notice more than a short wait.
///
/// # Errors
/// There is no mount, or the new program does not serve: the old one goes on.
pub fn upgrade(path: &Path, tell: impl FnOnce(&str)) -> Result<(), DaemonError> {
    let (question, failed) = ask(path, Request::Explain)?;
    // An older version says nothing, and hangs up.
    if let Some((Some(effect), _)) = question.connection.receive().map_err(failed)? {
        let effect: String = effect;
        tell(&effect);
    }
    let (supervisor, failed) = ask(path, Request::Upgrade)?;
    match supervisor.connection.receive::<Result<(), String>>().map_err(failed)? {
        Some((Ok(()), _)) => Ok(()),
        Some((Err(why), _)) => Err(DaemonError::Upgrade { why }),
        None => Err(failed(io::ErrorKind::ConnectionRefused.into())),
    }
}

/// The state directory of the mount at `path`; none if there is no such mount, or its supervisor has an older version.
///
/// # Errors
/// The supervisor does not answer to this user.
pub fn state_dir_of(path: &Path) -> Result<Option<PathBuf>, DaemonError> {
    let (supervisor, failed) = match ask(path, Request::StateDir) {
        Err(DaemonError::NotMounted(_)) => return Ok(None),
        Err(DaemonError::Unreachable { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            return Ok(None);
        }
        asked => asked?,
    };
    Ok(supervisor.connection.receive::<PathBuf>().map_err(failed)?.map(|(answer, _)| answer))
}

/// How a reload went that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// Everything was read, and holds.
    Done,
    /// The supervisor does not report. It was sent a signal.
    OnlyAsked,
}

/// Why a reload did not do all that it was to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::daemon) enum ReloadFault {
    /// These files were refused, a sentence each. What they said before holds.
    Refused(Vec<String>),
    /// The files were not read, or not by the program that was to read them.
    Failed(String),
}

/// Lets the daemon read the identities and keys again, and waits until it has.
///
/// # Errors
/// There is no mount, or a file is refused: what it said before holds.
pub fn reload(path: &Path) -> Result<Reloaded, DaemonError> {
    let (supervisor, failed) = ask(path, Request::Reload)?;
    match supervisor.connection.receive::<Result<(), ReloadFault>>().map_err(failed)? {
        Some((Ok(()), _)) => Ok(Reloaded::Done),
        Some((Err(ReloadFault::Refused(why)), _)) => Err(DaemonError::ReloadRefused { why }),
        Some((Err(ReloadFault::Failed(why)), _)) => Err(DaemonError::ReloadFailed { why }),
        // An older version, which does not know the request.
        None if has_supervisor(path) => {
            kill(supervisor.pid, Signal::SIGHUP).map_err(|error| failed(error.into()))?;
            Ok(Reloaded::OnlyAsked)
        }
        None => Err(failed(io::ErrorKind::ConnectionAborted.into())),
    }
}

/// Asks the supervisor of the mount at `path`. Also gives what an error in its answer means.
fn ask(
    path: &Path,
    request: Request,
) -> Result<(Supervisor, impl Fn(io::Error) -> DaemonError + Copy), DaemonError> {
    let failed = move |source| DaemonError::Unreachable { path: path.to_owned(), source };
    let path = std::fs::canonicalize(path).map_err(failed)?;
    let asked = socket::ask(&path, request).map_err(failed)?;
    Ok((asked.ok_or(DaemonError::NotMounted(path))?, failed))
}

/// Whether the supervisor of the mount at `mountpoint` lives. Asks the mount nothing.
pub(in crate::daemon) fn has_supervisor(mountpoint: &Path) -> bool {
    socket::is_listened_to(mountpoint).unwrap_or(false)
}

/// Opens a program and sees whether it runs at all.
pub(in crate::daemon) fn try_out(path: &Path) -> Result<File, String> {
    let told = |error: io::Error| format!("{} cannot be started: {error}", path.display());
    let program = File::open(path).map_err(told)?;
    let mut trial = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg0(start_notice::PROGRAM)
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
