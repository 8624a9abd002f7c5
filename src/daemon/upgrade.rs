//! Replacing the program of the server while it serves: whoever may is let in at the holder's door.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};

use super::control::Control;
use super::error::DaemonError;
use super::mountpoint;
use super::notify;

/// How long a program may take to tell its version.
const TRIAL: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

/// Where the holder listens. It hears nothing there: whoever may knock asks for an upgrade.
pub(super) struct Door(UnixListener);

impl Door {
    /// The door of the mount at `path`.
    ///
    /// # Errors
    /// There is no such mount, or somebody has taken its name.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let door = UnixListener::bind_addr(&address(path)?)?;
        door.set_nonblocking(true)?;
        Ok(Self(door))
    }

    /// Who has knocked, if he may: root, and whoever mounted it.
    pub(super) fn knock(&self) -> Option<Caller> {
        let (stream, _) = self.0.accept().ok()?;
        is_trusted(&stream).then(|| Caller(Control::from_fd(stream.into())))
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Who waits to be told what became of it. Dropped, he is told that nothing did.
pub(super) struct Caller(Control);

impl Caller {
    pub(super) fn tell(&self, outcome: &Result<(), String>) {
        // He may have gone.
        let _ = self.0.send(outcome, &[]);
    }
}

/// Lets the mount be served by the program that is now where its program was, and waits for it.
///
/// # Errors
/// There is no mount, or the new program does not serve: the old one goes on.
pub fn upgrade(path: &Path) -> Result<(), DaemonError> {
    let failed = |source| DaemonError::Unreachable { path: path.to_owned(), source };
    let path = std::fs::canonicalize(path).map_err(failed)?;
    if !mountpoint::is_secretfs(&path).map_err(failed)? {
        return Err(DaemonError::NotMounted(path));
    }
    let stream = address(&path).and_then(|address| UnixStream::connect_addr(&address));
    let stream = stream.map_err(failed)?;
    if !is_trusted(&stream) {
        return Err(failed(io::ErrorKind::PermissionDenied.into()));
    }
    let outcome = Control::from_fd(stream.into()).receive::<Result<(), String>>();
    match outcome.map_err(failed)? {
        Some((Ok(()), _)) => Ok(()),
        Some((Err(why), _)) => Err(DaemonError::Upgrade { why }),
        None => Err(failed(io::ErrorKind::ConnectionRefused.into())),
    }
}

/// The other end is root's, or this process's own user's.
fn is_trusted(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    getsockopt(stream, sockopt::PeerCredentials).is_ok_and(|peer| [0, own].contains(&peer.uid()))
}

/// The kernel gives each mount a number that no other one has.
fn address(path: &Path) -> io::Result<SocketAddr> {
    let number = mountpoint::device_number(path)?.ok_or(io::ErrorKind::NotFound)?;
    SocketAddr::from_abstract_name(format!("secretfs-holder-{number}"))
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
