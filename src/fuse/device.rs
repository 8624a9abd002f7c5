//! `/dev/fuse`: mounting, and the first request of the kernel. Done by the supervisor, which outlives the servers.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::MsFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, socketpair,
};

use super::errno::MAY_NOT_MOUNT;

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";
/// Where the helper finds the socket on which it passes the device back.
const HELPER_SOCKET: &str = "_FUSE_COMMFD";
/// Larger than any first request; the kernel wants room for 8 KiB at least (`FUSE_MIN_READ_BUFFER`).
const FIRST_REQUEST_BYTES: usize = 64 * 1024;

/// A mount's end of `/dev/fuse`. The mount works as long as a process holds it.
pub struct Device {
    file: File,
}

impl Device {
    /// Mounts on `mountpoint`: for all users if this process is root, for its own user otherwise
    /// (through `fusermount3`). `labels` are options of mount(2), each after a comma; only root may give them.
    ///
    /// # Errors
    /// The kernel or `fusermount3` refuses.
    pub fn mount(mountpoint: &Path, labels: &str) -> io::Result<Self> {
        match Self::mount_directly(mountpoint, labels)? {
            Some(device) => Ok(device),
            // `fusermount3` takes no labels.
            None if labels.is_empty() => Ok(Self { file: mount_by_helper(mountpoint)? }),
            None => Err(io::Error::from_raw_os_error(MAY_NOT_MOUNT)),
        }
    }

    /// As [`Device::mount`], but never through `fusermount3`, which accepts no mountpoint that does not answer.
    /// None if this process may not mount.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mount_directly(mountpoint: &Path, labels: &str) -> io::Result<Option<Self>> {
        match mount_directly(mountpoint, labels) {
            Ok(file) => Ok(Some(Self { file })),
            Err(error) if error.raw_os_error() == Some(MAY_NOT_MOUNT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether this process may open the device, without which no mount is possible.
    ///
    /// # Errors
    /// It may not, or there is none.
    pub fn check() -> io::Result<()> {
        open_device().map(drop)
    }

    /// The device that another process passed to this one.
    pub fn from_fd(device: OwnedFd) -> Self {
        Self { file: device.into() }
    }

    /// The first request, which opens the conversation (`FUSE_INIT`). To be called once.
    ///
    /// # Errors
    /// The mount is gone.
    pub fn first_request(&self) -> io::Result<Vec<u8>> {
        let mut request = vec![0; FIRST_REQUEST_BYTES];
        let length = (&self.file).read(&mut request)?;
        request.truncate(length);
        Ok(request)
    }

    /// Whether the mount is still there.
    pub fn is_mounted(&self) -> bool {
        let mut device = [PollFd::new(self.file.as_fd(), PollFlags::empty())];
        match poll(&mut device, PollTimeout::ZERO) {
            Ok(_) => {
                !device[0].revents().unwrap_or(PollFlags::empty()).contains(PollFlags::POLLERR)
            }
            Err(_) => true,
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open_device() -> io::Result<File> {
    File::options().read(true).write(true).open(DEVICE)
}

fn mount_directly(mountpoint: &Path, labels: &str) -> io::Result<File> {
    let file = open_device()?;
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    // Sends no request to the mountpoint: it may be a mount without a server.
    let mut options = format!(
        "fd={},rootmode={:o},user_id={user},group_id={group},subtype=secretfs",
        file.as_raw_fd(),
        libc::S_IFDIR,
    );
    if user.is_root() {
        options.push_str(",allow_other");
    }
    options.push_str(labels);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    nix::mount::mount(Some("secretfs"), mountpoint, Some("fuse"), flags, Some(options.as_str()))?;
    Ok(file)
}

/// `fusermount3` is setuid root, mounts, and passes the device over a socket.
fn mount_by_helper(mountpoint: &Path) -> io::Result<File> {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    // No other thread of this process can start a program that would inherit the descriptor.
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let helper = Command::new(HELPER)
        .args(["-o", "fsname=secretfs,subtype=secretfs,nosuid,nodev,noexec,noatime", "--"])
        .arg(mountpoint)
        .env(HELPER_SOCKET, theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{HELPER}: {error}")))?;
    drop(theirs);
    let device = receive_device(&ours);
    let output = helper.wait_with_output()?;
    match device {
        Ok(device) => {
            fcntl(&device, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
            Ok(device.into())
        }
        Err(error) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(if said.is_empty() { error } else { io::Error::other(said) })
        }
    }
}

fn receive_device(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(i32);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let Some(&device) = descriptors.first()
        {
            // SAFETY: the kernel has just made this descriptor for this process, and it has no other owner.
            return Ok(unsafe { OwnedFd::from_raw_fd(device) });
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
