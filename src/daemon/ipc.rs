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
use crate::model::{DecodeError, Numbered, decode, encode, numbered};

use super::host::start_notice;
use super::sandbox::Account;

/// Longer than any message: the first request of the kernel is the longest.
const LONGEST: usize = 128 * 1024;
/// Every message brings at most this many descriptors: the device and the lines.
const DESCRIPTORS: usize = 1 + crate::fuse::LINES;

numbered! {
    /// From the supervisor, which may be of another version than the server.
    pub(super) enum Order {
        0 => {
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
            }
        }
        1 => {
            /// To the kernel notifier: pass on. Brings the device, and the lines to the server.
            PassOn {
                /// Whom the kernel notifier is to become.
                account: Option<Account>,
            }
        }
        2 => {
            /// Serve the mount, and say [`Report::Serving`]. Brings the device, and the lines to the kernel notifier.
            Serve {
                /// What the kernel said first.
                first_request: Vec<u8>,
            }
        }
        3 => {
            /// Say how you are.
            Ask
        }
        4 => {
            /// Read the identities and keys again, and say [`Report::Reloaded`].
            Reload
        }
    }
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

numbered! {
    /// To the supervisor, which may be of another version than the server.
    pub(super) enum Report {
        0 => {
            /// These keys open the store.
            Keys(KeyTexts)
        }
        1 => {
            /// The store is open.
            Ready
        }
        2 => {
            /// Requests are being served.
            Serving
        }
        3 => {
            /// Asked: all is well.
            Alive
        }
        4 => {
            /// Asked: a request has been worked on for too long.
            Stuck
        }
        5 => {
            /// Asked: the files were read again. Or which were refused, a sentence each.
            Reloaded(Result<(), Vec<String>>)
        }
    }
}

/// A message with what it brought.
pub(super) type Heard<T> = (Result<T, DecodeError>, Vec<OwnedFd>);

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

    /// Sends a message to a process of this version. It is wiped afterwards: there may be a key in it.
    pub(super) fn send(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut room = room();
        let bytes = postcard::to_slice(message, &mut room).map_err(io::Error::other)?;
        self.send_bytes(bytes, descriptors)
    }

    /// Waits for a message of a process of this version; none if the other end is gone.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut room = room();
        let Some((bytes, descriptors)) = self.receive_bytes(&mut room)? else { return Ok(None) };
        Ok(Some((postcard::from_bytes(bytes).map_err(io::Error::other)?, descriptors)))
    }

    /// As [`Control::send`], to a process of any version.
    pub(super) fn tell(
        &self,
        message: &impl Numbered,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut room = room();
        let bytes = encode(message, &mut room).ok_or(io::ErrorKind::FileTooLarge)?;
        self.send_bytes(bytes, descriptors)
    }

    /// As [`Control::receive`], from a process of any version. What this version does not know is an error, which
    /// the caller logs or ends with.
    pub(super) fn hear<T: Numbered>(&self) -> io::Result<Option<Heard<T>>> {
        let mut room = room();
        let heard = self.receive_bytes(&mut room)?;
        Ok(heard.map(|(bytes, descriptors)| (decode(bytes), descriptors)))
    }

    fn send_bytes(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let descriptors: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<UnixAddr>(self.0.as_raw_fd(), &[IoSlice::new(bytes)], rights, flags, None)?;
        Ok(())
    }

    fn receive_bytes<'a>(
        &self,
        room: &'a mut [u8],
    ) -> io::Result<Option<(&'a mut [u8], Vec<OwnedFd>)>> {
        let mut space = nix::cmsg_space!([i32; DESCRIPTORS]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let mut received = Vec::new();
        let length = {
            let mut parts = [IoSliceMut::new(room)];
            let message = loop {
                match recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                    Err(nix::errno::Errno::EINTR) => {}
                    Err(nix::errno::Errno::ECONNRESET) => return Ok(None),
                    other => break other?,
                }
            };
            for control in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(descriptors) = control {
                    // SAFETY: the kernel has just made these descriptors for us alone.
                    let owned = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
                    received.extend(descriptors.into_iter().map(owned));
                }
            }
            message.bytes
        };
        Ok((length > 0).then(|| (&mut room[..length], received)))
    }
}

/// With room for any message: growing would leave copies behind.
fn room() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![0; LONGEST])
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of the first version that numbered none, in the order of their numbers.
    const MESSAGES: &str = include_str!("../../tests/formats/messages_1.txt");

    #[test]
    fn the_encoding_of_messages_does_not_change() {
        for (line, message) in MESSAGES.lines().enumerate() {
            let (hex, _name) = message.split_once(' ').unwrap();
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes: Vec<_> = (0..hex.len()).step_by(2).map(byte).collect();
            let (mut room, mut copy) = (room(), bytes.clone());
            let again = match line < Order::NUMBERS.len() {
                true => encode(&decode::<Order>(&mut copy).unwrap(), &mut room),
                false => encode(&decode::<Report>(&mut copy).unwrap(), &mut room),
            };
            assert_eq!(again.as_deref(), Some(&bytes[..]), "{message}");
        }
        assert_eq!(MESSAGES.lines().count(), Order::NUMBERS.len() + Report::NUMBERS.len());
    }

    #[test]
    fn a_message_of_another_version_is_no_other_message() {
        let (ours, theirs) = Control::pair().unwrap();
        let theirs = Control::from_fd(theirs);
        for (bytes, error) in
            [(vec![99, 1], DecodeError::UnknownKind(99)), (vec![1, 1], DecodeError::Malformed(1))]
        {
            theirs.send_bytes(&bytes, &[]).unwrap();
            let (heard, _) = ours.hear::<Report>().unwrap().unwrap();
            assert!(heard.is_err_and(|found| found == error));
        }
        theirs.tell(&Report::Ready, &[]).unwrap();
        assert!(matches!(ours.hear(), Ok(Some((Ok(Report::Ready), _)))));
    }
}
