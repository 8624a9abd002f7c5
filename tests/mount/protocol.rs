//! What a test tells its agents, and what they answer.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::stress::Job;

/// What an agent can be told to do. Paths are absolute; a `file` is the number that `Open` answered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Operation {
    /// Give up root: the first operation of every agent.
    Become {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
    },
    Open {
        path: PathBuf,
        flags: i32,
    },
    /// Everything from the file's position to its end.
    ReadToEnd {
        file: u32,
    },
    ReadAt {
        file: u32,
        offset: u64,
        length: usize,
    },
    Write {
        file: u32,
    },
    WriteAt {
        file: u32,
        offset: u64,
    },
    SetLength {
        file: u32,
        length: u64,
    },
    Sync {
        file: u32,
    },
    StatFile {
        file: u32,
    },
    Lock {
        file: u32,
        operation: i32,
    },
    MapPrivate {
        file: u32,
        length: usize,
    },
    Close {
        file: u32,
    },
    Stat {
        path: PathBuf,
    },
    Access {
        path: PathBuf,
        mode: i32,
    },
    List {
        path: PathBuf,
    },
    /// As the kernel gives it, into the first page of a file.
    ListInto {
        path: PathBuf,
        file: PathBuf,
    },
    Truncate {
        path: PathBuf,
        length: i64,
    },
    Unlink {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        flags: u32,
    },
    Mkdir {
        path: PathBuf,
    },
    Rmdir {
        path: PathBuf,
    },
    Chmod {
        path: PathBuf,
        mode: u32,
    },
    Chown {
        path: PathBuf,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    Symlink {
        path: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Mkfifo {
        path: PathBuf,
    },
    MknodDevice {
        path: PathBuf,
    },
    SetTimes {
        path: PathBuf,
    },
    StatFs {
        path: PathBuf,
    },
    XattrNames {
        path: PathBuf,
    },
    Xattr {
        path: PathBuf,
        name: String,
    },
    SetXattr {
        path: PathBuf,
        name: String,
    },
    RemoveXattr {
        path: PathBuf,
        name: String,
    },
    /// A bash script, with the mount as its working directory.
    Shell {
        directory: PathBuf,
        script: String,
        variables: Vec<(String, String)>,
    },
    Stress(Job),
}

/// What `stat(2)` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stat {
    pub(crate) inode: u64,
    /// Type and permissions.
    pub(crate) mode: u32,
    pub(crate) links: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Whole seconds.
    pub(crate) mtime: i64,
}

/// How a script ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shell {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Writes one message: a header and some bytes, each after its length.
pub(crate) fn send(
    socket: &mut UnixStream,
    header: &impl Serialize,
    data: &[u8],
) -> io::Result<()> {
    let header = serde_json::to_vec(header)?;
    for part in [header.as_slice(), data] {
        socket.write_all(&(part.len() as u64).to_le_bytes())?;
        socket.write_all(part)?;
    }
    Ok(())
}

/// Reads one message.
pub(crate) fn receive<H: for<'a> Deserialize<'a>>(
    socket: &mut UnixStream,
) -> io::Result<(H, Vec<u8>)> {
    let mut part = || {
        let mut length = [0; 8];
        socket.read_exact(&mut length)?;
        let mut bytes = vec![0; usize::try_from(u64::from_le_bytes(length)).expect("64-bit")];
        socket.read_exact(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    let header = serde_json::from_slice(&part()?)?;
    Ok((header, part()?))
}
