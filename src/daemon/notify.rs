//! Telling whoever waits that requests are served: systemd, or a parent that goes to the background.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::error::DaemonError;
use super::hardening::take_encryption_key;
use super::settings::Resolved;

/// Where to say it (sd_notify(3)).
pub(super) const SOCKET: &str = "NOTIFY_SOCKET";
/// Set for a daemon that was started in the background: it lets go of standard error when it serves.
const BACKGROUND: &str = "SECRETFS_BACKGROUND";
/// The name under which this program starts itself: whatever it was called, the arguments that follow
/// are those of `secretfs`.
pub(crate) const PROGRAM: &str = "secretfs";
const READY: &[u8] = b"READY=1";
/// How often the parent looks whether the daemon has ended instead.
const LOOK: Duration = Duration::from_millis(50);

/// Says that requests are served.
pub(super) fn ready() -> io::Result<()> {
    if let Some(name) = std::env::var_os(SOCKET) {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
        };
        UnixDatagram::unbound()?.send_to_addr(READY, &address)?;
    }
    let_go_of_stderr()
}

/// Whether this daemon was started in the background.
pub(super) fn is_in_background() -> bool {
    std::env::var_os(BACKGROUND).is_some()
}

/// In the background nobody reads the log of a daemon that serves.
pub(super) fn let_go_of_stderr() -> io::Result<()> {
    if is_in_background() {
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        nix::unistd::dup2_stderr(&null)?;
    }
    Ok(())
}

/// Starts this program again, as a daemon of its own, and waits until it serves.
pub(super) fn start_in_background(settings: &Resolved) -> Result<(), DaemonError> {
    let failed = |source| DaemonError::System { what: "the daemon could not be started", source };
    let name = format!("secretfs-ready-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).map_err(failed)?;
    let socket = UnixDatagram::bind_addr(&address).map_err(failed)?;
    socket.set_read_timeout(Some(LOOK)).map_err(failed)?;
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command
        .arg0(PROGRAM)
        .arg("mount")
        .args(settings.to_flags())
        .env(SOCKET, format!("@{name}"))
        .env(BACKGROUND, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if let Some(key) = take_encryption_key() {
        command.env("OB_ENCRYPTION_KEY", &*key);
    }
    // SAFETY: setsid is async-signal-safe and touches no memory.
    unsafe { command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?)) };
    let mut daemon = command.spawn().map_err(failed)?;
    let mut message = [0; 64];
    loop {
        match socket.recv(&mut message) {
            Ok(length) if message[..length].starts_with(READY) => return Ok(()),
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
