//! Messages of any length over a pair of sockets.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longer than any message: a page of large records.
const LONGEST: usize = 64 << 20;

/// One end of it. The other one's death ends it.
pub(super) struct Line(UnixStream);

impl Line {
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self(ours), theirs.into()))
    }

    pub(super) fn from_fd(socket: OwnedFd) -> Self {
        Self(socket.into())
    }

    pub(super) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        let bytes = postcard::to_extend(message, vec![0; 4]).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
        let mut bytes = bytes;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        (&self.0).write_all(&bytes)
    }

    /// Waits for a message; none if the other end is gone.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let mut length = [0; 4];
        match (&self.0).read_exact(&mut length) {
            Err(error) if is_end(&error) => return Ok(None),
            other => other?,
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length];
        match (&self.0).read_exact(&mut bytes) {
            Err(error) if is_end(&error) => return Ok(None),
            other => other?,
        }
        postcard::from_bytes(&bytes).map(Some).map_err(io::Error::other)
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}
