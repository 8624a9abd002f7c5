//! The kernel's end of a mount: it can be ended at once, so that every caller who waits gets an error
//! (`Documentation/filesystems/fuse.rst`, "The fuse control filesystem").
//!
//! Unmounting is not enough. A process that holds `/dev/fuse` may itself be blocked in the kernel, behind a caller
//! that waits for an answer: then neither of them ends, not even by SIGKILL.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::mountpoint;

/// What follows from a kernel that does not know `FUSE_NOTIFY_RESEND`.
pub(in crate::daemon) const NO_RESEND: &str = "this kernel does not send unanswered requests to the next server (Linux 6.9 and later do): \
when the server ends or is upgraded, requests in flight and open files fail, and a new mount takes the place of the old one";

/// Where the control filesystem usually is.
const CONTROL: &str = "/sys/fs/fuse/connections";
/// `enum fsconfig_command`, `linux/mount.h`.
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

/// Ends the connection of one mount. It works after the mount was detached, too.
pub(in crate::daemon) struct Connection(File);

impl Connection {
    /// Of the secretfs that is mounted exactly there. Asks the mount nothing.
    ///
    /// # Errors
    /// There is none, or there is no control filesystem and this process may not have one.
    pub(in crate::daemon) fn of(mountpoint: &Path) -> io::Result<Self> {
        let number = mountpoint::device_number(mountpoint)?.ok_or(io::ErrorKind::NotFound)?;
        let (_, minor) = number.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        let open = |directory: PathBuf| {
            OpenOptions::new().write(true).open(directory.join(minor).join("abort"))
        };
        match open(CONTROL.into()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let control = own_control()?;
                Ok(Self(open(format!("/proc/self/fd/{}", control.as_raw_fd()).into())?))
            }
            other => other.map(Self),
        }
    }

    /// As [`Connection::of`]; none, with a warning, where it cannot be had.
    pub(in crate::daemon) fn to_end_later(mountpoint: &Path) -> Option<Self> {
        let connection = Self::of(mountpoint);
        if let Err(error) = &connection {
            tracing::warn!(
                %error,
                "the mount cannot be ended at once; mount fusectl on /sys/fs/fuse/connections"
            );
        }
        connection.ok()
    }

    /// Every request that waits fails with ECONNABORTED, and every later one with ENOTCONN.
    pub(in crate::daemon) fn abort(&self) {
        // It may have ended by itself.
        let _ = (&self.0).write_all(b"1");
    }
}

/// The control filesystem, where it is not mounted (in a container). This one has no mountpoint either.
fn own_control() -> io::Result<OwnedFd> {
    let checked = |value: libc::c_long| match value {
        ..0 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just made it, and nothing else owns it.
        descriptor => Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) }),
    };
    // SAFETY: the name ends in NUL and outlives the call; flags are numbers.
    let context = checked(unsafe {
        libc::syscall(libc::SYS_fsopen, c"fusectl".as_ptr(), libc::FSOPEN_CLOEXEC)
    })?;
    let none = std::ptr::null::<libc::c_char>();
    let context_fd = context.as_raw_fd();
    // SAFETY: this command takes neither key nor value.
    let created = unsafe {
        libc::syscall(libc::SYS_fsconfig, context_fd, FSCONFIG_CMD_CREATE, none, none, 0)
    };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: flags are numbers.
    checked(unsafe { libc::syscall(libc::SYS_fsmount, context_fd, libc::FSMOUNT_CLOEXEC, 0) })
}
