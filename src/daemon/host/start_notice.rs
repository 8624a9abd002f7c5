//! Announces that requests are served: to systemd, or to the parent of a start in the background.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, send, sendmsg};

use crate::daemon::error::DaemonError;
use crate::daemon::sandbox::hardening::{keep_descriptors_to_itself, take_encryption_key};
use crate::daemon::settings::Resolved;

/// Where to say it (sd_notify(3)).
const SOCKET: &str = "NOTIFY_SOCKET";
/// What the service manager kept for this process: how many, for whom, and their names
/// (sd_listen_fds(3)).
const COUNT: &str = "LISTEN_FDS";
const PID: &str = "LISTEN_PID";
const NAMES: &str = "LISTEN_FDNAMES";
/// Where they begin.
const FIRST_KEPT: RawFd = 3;
/// How often the service manager wants to hear of this process, in microseconds, and of which one.
const WATCHDOG: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";
/// None of the service manager's words to this process is meant for its children.
pub(in crate::daemon) const VARIABLES: [&str; 6] =
    [SOCKET, COUNT, PID, NAMES, WATCHDOG, WATCHDOG_PID];
/// Set for a daemon that was started in the background: it lets go of standard error when it serves.
const BACKGROUND: &str = "SECRETFS_BACKGROUND";
/// The name under which this program starts itself: whatever it was called, the arguments that follow
/// are those of `secretfs`.
pub(crate) const PROGRAM: &str = "secretfs";
const READY: &str = "READY=1";
/// How often the parent looks whether the daemon has ended instead.
const LOOK: Duration = Duration::from_millis(50);

/// Says that requests are served.
pub(in crate::daemon) fn ready() -> io::Result<()> {
    if !is_in_background() {
        return tell(READY, None).map(drop);
    }
    // Before the caller goes on: it may unmount the file system that its output is on.
    let_go_of_stderr()?;
    tell_parent()
}

/// Tells the process that started this one in the background. Its socket is standard input: a name could
/// be taken by others, who could also say that this process is ready.
fn tell_parent() -> io::Result<()> {
    send(io::stdin().as_raw_fd(), READY.as_bytes(), MsgFlags::MSG_NOSIGNAL)?;
    nix::unistd::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(())
}

/// Sends the message to the service manager, or to the waiting parent; gives whether there is one.
///
/// # Errors
/// The message cannot be sent.
pub(in crate::daemon) fn tell(
    message: &str,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<bool> {
    let Some(name) = std::env::var_os(SOCKET) else { return Ok(false) };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
        path => UnixAddr::new(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    let descriptors: Vec<_> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    let message = [IoSlice::new(message.as_bytes())];
    sendmsg(socket.as_raw_fd(), &message, rights, flags, Some(&address))?;
    Ok(true)
}

/// What the service manager kept for this process, with the names that it was given. To be called
/// once, before this process opens anything.
pub(in crate::daemon) fn take_kept() -> Vec<(String, OwnedFd)> {
    if number(PID) != Some(u64::from(std::process::id())) {
        return Vec::new();
    }
    let names = std::env::var(NAMES).unwrap_or_default();
    let count = number(COUNT).and_then(|count| RawFd::try_from(count).ok()).unwrap_or(0);
    let numbers = FIRST_KEPT..FIRST_KEPT.saturating_add(count);
    let take = |(number, name): (RawFd, &str)| {
        // SAFETY: nothing was opened yet, so that what has this number, if anything has, is what was kept.
        let found = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(found, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
        // SAFETY: it is open, and nothing else in this process uses it.
        Some((name.to_owned(), unsafe { OwnedFd::from_raw_fd(number) }))
    };
    numbers.zip(names.split(':')).filter_map(take).collect()
}

/// Tells the service manager's watchdog that this process goes on (sd_watchdog_enabled(3)).
pub(in crate::daemon) struct Heart {
    /// None if no service manager listens.
    pause: Option<Duration>,
    last: Cell<Instant>,
}

impl Heart {
    pub(in crate::daemon) fn new() -> Self {
        let pid = number(WATCHDOG_PID);
        let is_meant = pid.is_none_or(|pid| pid == u64::from(std::process::id()));
        // Twice as often as it must be.
        let pause =
            number(WATCHDOG).filter(|_| is_meant).map(|time| Duration::from_micros(time / 2));
        Self { pause, last: Cell::new(Instant::now()) }
    }

    /// To be called more often than the service manager listens.
    pub(in crate::daemon) fn beat(&self) {
        if self.pause.is_some_and(|pause| self.last.get().elapsed() >= pause) {
            self.last.set(Instant::now());
            if let Err(error) = tell("WATCHDOG=1", None) {
                tracing::warn!(%error, "the service manager does not hear that all is well");
            }
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Whether this daemon was started in the background.
pub(in crate::daemon) fn is_in_background() -> bool {
    std::env::var_os(BACKGROUND).is_some()
}

/// In the background, leaves the caller's session and terminal. Only once the mount is there: below an automount of
/// systemd, processes of another process group than that of the caller wait for the mount as soon as they look at the
/// mountpoint.
pub(in crate::daemon) fn leave_session() -> io::Result<()> {
    if is_in_background() {
        nix::unistd::setsid()?;
    }
    Ok(())
}

/// In the background, standard error is the caller's until the daemon serves. A reader of it waits for its end.
pub(in crate::daemon) fn let_go_of_stderr() -> io::Result<()> {
    if is_in_background() {
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        nix::unistd::dup2_stderr(&null)?;
    }
    Ok(())
}

/// Starts this program again, as a daemon of its own, and waits until it serves.
pub(in crate::daemon) fn start_in_background(settings: Resolved) -> Result<(), DaemonError> {
    let failed = |source| DaemonError::System { what: "the daemon could not be started", source };
    let (socket, theirs) = UnixDatagram::pair().map_err(failed)?;
    socket.set_read_timeout(Some(LOOK)).map_err(failed)?;
    keep_descriptors_to_itself().map_err(failed)?;
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command
        .arg0(PROGRAM)
        .arg("mount")
        .args(settings.into_absolute_flags().map_err(failed)?)
        .current_dir("/")
        .env(BACKGROUND, "1")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null());
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    if let Some(key) = take_encryption_key() {
        command.env("OB_ENCRYPTION_KEY", &*key);
    }
    let mut daemon = command.spawn().map_err(failed)?;
    drop(command);
    let mut message = [0; 64];
    loop {
        match socket.recv(&mut message) {
            Ok(length) if message[..length].starts_with(READY.as_bytes()) => return Ok(()),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::Interrupted
                ) =>
            {
                if daemon.try_wait().map_err(failed)?.is_some() {
                    return Err(DaemonError::BackgroundFailed);
                }
            }
            Err(error) => return Err(failed(error)),
        }
    }
}
