//! What the supervisor of a mount and the process that serves it say to each other.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::crypto::LockedText;
use crate::fs::Outage;

use super::host::start_notice;
use super::sandbox::Account;

/// Longer than any message: the first request of the kernel is the longest.
const LONGEST: usize = 128 * 1024;
/// Every message brings at most this many descriptors: the device and the lines.
const DESCRIPTORS: usize = 1 + crate::fuse::LINES;

/// From the supervisor.
#[derive(Serialize, Deserialize)]
pub(super) enum Order {
    /// Open the store, and say [`Report::Ready`]. Brings the saved state.
    Prepare {
        /// The encryption key of the supervisor's environment.
        key: Option<LockedText>,
        /// The keys of the previous server, which need not be read again: their files may be gone.
        kept: Option<KeyTexts>,
        /// A number for the mount.
        mount: u64,
        /// If a process before this one served the mount: the end of that.
        outage: Option<Outage>,
        /// Whom the server is to become.
        account: Option<Account>,
    },
    /// To the kernel notifier: pass on. Brings the device, and the lines to the server.
    PassOn {
        /// Whom the kernel notifier is to become.
        account: Option<Account>,
    },
    /// Serve the mount, and say [`Report::Serving`]. Brings the device, and the lines to the kernel notifier.
    Serve {
        /// What the kernel said first.
        first_request: Vec<u8>,
    },
    /// Say how you are.
    Ask,
    /// Read the identities and keys again, and say [`Report::Reloaded`].
    Reload,
}

/// What encryption keys were made of, to be kept for the next server. No `Debug`.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct KeyTexts {
    /// Of the file of the current key; none if it is in no file.
    pub(super) current: Option<LockedText>,
    /// Of the file of the previous ones; none if there is no such file.
    pub(super) previous: Option<LockedText>,
}

impl KeyTexts {
    /// Whether a message can bring them.
    pub(super) fn fit(&self) -> bool {
        let texts = [&self.current, &self.previous].into_iter().flatten();
        texts.map(|text| text.len()).sum::<usize>() <= LONGEST / 2
    }
}

/// To the supervisor.
#[derive(Serialize, Deserialize)]
pub(super) enum Report {
    /// These keys open the store.
    Keys(KeyTexts),
    /// The store is open.
    Ready,
    /// Requests are being served.
    Serving,
    /// Asked: all is well.
    Alive,
    /// Asked: a request has been worked on for too long.
    Stuck,
    /// Asked: the files were read again. Or which were refused, a sentence each. Sent to a supervisor that has asked
    /// and to no other, since an older one does not know it.
    Reloaded(Result<(), Vec<String>>),
}

/// One end of the conversation. The other one's death ends it.
pub(super) struct Control(OwnedFd);

impl Control {
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(ours), theirs))
    }

    /// Starts this program again to do what `command` says, with the other end as standard input and
    /// nothing of the environment: there may be a key in it.
    pub(super) fn with_new_process(command: &str) -> io::Result<Self> {
        let (control, theirs) = Self::pair()?;
        Command::new("/proc/self/exe")
            .arg0(start_notice::PROGRAM)
            .arg(command)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(if start_notice::is_in_background() { Stdio::null() } else { Stdio::inherit() })
            .spawn()?;
        Ok(control)
    }

    pub(super) fn from_fd(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Sends a message, which is wiped afterwards: there may be a key in it.
    pub(super) fn send(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        // With room for any: growing would leave copies behind.
        let mut room = Zeroizing::new(vec![0; LONGEST]);
        let bytes = &*postcard::to_slice(message, &mut room).map_err(io::Error::other)?;
        let descriptors: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<UnixAddr>(self.0.as_raw_fd(), &[IoSlice::new(bytes)], rights, flags, None)?;
        Ok(())
    }

    /// Waits for a message; none if the other end is gone.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = Zeroizing::new(vec![0; LONGEST]);
        let mut space = nix::cmsg_space!([i32; DESCRIPTORS]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = loop {
            match recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::ECONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        let mut received = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                // SAFETY: the kernel has just made these descriptors for us alone.
                let owned = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
                received.extend(descriptors.into_iter().map(owned));
            }
        }
        let length = message.bytes;
        if length == 0 {
            return Ok(None);
        }
        let message = postcard::from_bytes(&bytes[..length]).map_err(io::Error::other)?;
        Ok(Some((message, received)))
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
