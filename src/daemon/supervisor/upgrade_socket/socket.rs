//! The socket at which a supervisor accepts requests for an upgrade or a reload.
//!
//! It lies in a directory of mode 0700, so that only root and the mounting user can connect: a connection
//! of anybody else would wake the supervisor. Its name is the kernel's number of the mount, and its
//! directory follows from the user who mounted, so that it is found from the mount alone.

use std::cell::RefCell;
use std::fs::{DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, getsockopt, recv, sockopt};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{Pid, Uid, UnlinkatFlags, unlinkat};
use serde::Serialize;

use crate::daemon::host::mountpoint;
use crate::daemon::ipc::Control;

/// How many connections are accepted and kept at a time; more wait.
const MAX_ACCEPTED: usize = 64;
/// How long a process may take to say what it wants after it has connected.
const MAX_SILENCE: Duration = Duration::from_secs(2);

/// What a process may ask a supervisor for. A connection alone is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Request {
    /// To let the program that is installed serve.
    Upgrade,
    /// To read the identities and keys again; also to upgrade, if another program is installed.
    Reload,
    /// To tell what an upgrade does to callers: a sentence, if they notice more than a short wait.
    Explain,
    /// To tell the state directory.
    StateDir,
}

impl Request {
    const ALL: [Self; 4] = [Self::Upgrade, Self::Reload, Self::Explain, Self::StateDir];
    /// Longer than any.
    const MAX_BYTES: usize = 16;

    /// What is said on the connection. No longer than `upgrade`, which a supervisor of an older
    /// version reads: it hangs up if it does not know the word.
    fn word(self) -> &'static [u8] {
        match self {
            Self::Upgrade => b"upgrade",
            Self::Reload => b"reload",
            Self::Explain => b"explain",
            Self::StateDir => b"state",
        }
    }
}

/// Where the socket of a mount of this user may be, best first. `/run/user` is missing where no user logs in, and
/// `/run` is read-only in some containers.
fn directories(owner: Uid) -> [PathBuf; 2] {
    let first = match owner.is_root() {
        true => "/run/secretfs-upgrade".into(),
        false => format!("/run/user/{owner}/secretfs-upgrade"),
    };
    [first.into(), format!("/dev/shm/secretfs-upgrade-{owner}").into()]
}

/// The supervisor's end. Its name is removed when it is dropped.
pub(in crate::daemon) struct UpgradeSocket {
    listener: UnixListener,
    directory: OwnedFd,
    name: String,
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// What an upgrade does to callers, if they notice more than a short wait.
    effect: Option<String>,
    state_dir: PathBuf,
    /// Connections that have said nothing yet, and since when.
    silent: RefCell<Vec<(UnixStream, Instant)>>,
}

/// A process that waits for the outcome of its request. Dropping this tells the process that there is none.
pub(in crate::daemon) struct Requester {
    connection: Control,
    pub(in crate::daemon) request: Request,
}

impl Requester {
    pub(in crate::daemon) fn tell<T: Serialize>(&self, outcome: &T) {
        // It may have gone.
        let _ = self.connection.send(outcome, &[]);
    }
}

impl UpgradeSocket {
    /// Makes the socket of the mount at `mountpoint`, in the place of one that a dead supervisor left. `effect`
    /// is what an upgrade does to callers, if they notice more than a short wait.
    ///
    /// # Errors
    /// There is no such mount, or none of the directories can be used.
    pub(in crate::daemon) fn bind(
        mountpoint: &Path,
        effect: Option<&str>,
        state_dir: &Path,
    ) -> io::Result<Self> {
        let (name, _) = mountpoint::device(mountpoint)?.ok_or(io::ErrorKind::NotFound)?;
        let mut faults = Vec::new();
        for path in directories(Uid::effective()) {
            match Self::bind_in(&path, &name) {
                Ok(mut socket) => {
                    socket.effect = effect.map(str::to_owned);
                    socket.state_dir = state_dir.to_owned();
                    return Ok(socket);
                }
                Err(error) => faults.push(format!("{}: {error}", path.display())),
            }
        }
        Err(io::Error::other(faults.join("; ")))
    }

    fn bind_in(path: &Path, name: &str) -> io::Result<Self> {
        let directory = own_directory(path)?;
        match unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let through = through(&directory, name);
        let listener = UnixListener::bind(&through)?;
        std::fs::set_permissions(&through, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let identity = identity(&directory, name)?;
        let (path, name, silent) = (path.join(name), name.to_owned(), RefCell::default());
        Ok(Self {
            listener,
            directory,
            name,
            path,
            identity,
            effect: None,
            state_dir: PathBuf::new(),
            silent,
        })
    }

    /// Whether the socket can still be found: the directory of a user is removed when he logs out.
    pub(in crate::daemon) fn is_in_place(&self) -> bool {
        let found = nix::sys::stat::lstat(&self.path);
        found.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.identity)
    }

    /// Accepts connections of processes that may ask for something, those of root and of the mounting
    /// user. Gives those that have asked for more than a sentence, and answers the others.
    pub(in crate::daemon) fn accept(&self) -> Vec<Requester> {
        let mut silent = self.silent.borrow_mut();
        let room = MAX_ACCEPTED.saturating_sub(silent.len());
        let accepted = std::iter::from_fn(|| self.listener.accept().ok()).take(room);
        let accepted = accepted.map(|(stream, _)| stream);
        let trusted = accepted.filter(|stream| is_trusted(stream, &[Uid::effective()]));
        silent.extend(trusted.map(|stream| (stream, Instant::now())));
        let mut requesters = Vec::new();
        for (stream, since) in std::mem::take(&mut *silent) {
            match asks(&stream) {
                Some(Some(Request::Explain)) => {
                    // It may have gone.
                    let _ = Control::from_fd(stream.into()).send(&self.effect, &[]);
                }
                Some(Some(Request::StateDir)) => {
                    // As above.
                    let _ = Control::from_fd(stream.into()).send(&self.state_dir, &[]);
                }
                Some(Some(request)) => {
                    let connection = Control::from_fd(stream.into());
                    requesters.push(Requester { connection, request });
                }
                None if since.elapsed() < MAX_SILENCE => silent.push((stream, since)),
                Some(None) | None => {}
            }
        }
        requesters
    }

    /// Whether a connection was accepted that has said nothing yet.
    pub(in crate::daemon) fn is_listening(&self) -> bool {
        !self.silent.borrow().is_empty()
    }
}

impl AsFd for UpgradeSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for UpgradeSocket {
    fn drop(&mut self) {
        // Another supervisor may have its own socket there, because the kernel reuses numbers.
        if identity(&self.directory, &self.name).is_ok_and(|found| found == self.identity) {
            // What stays is replaced by the next one that is made.
            let _ = unlinkat(&self.directory, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// A supervisor that was asked for something.
pub(super) struct Supervisor {
    pub(super) connection: Control,
    pub(super) pid: Pid,
}

/// Asks the supervisor of the mount at `mountpoint`; none if there is no such mount.
///
/// # Errors
/// It has no socket that can be used; the error has the reasons.
pub(super) fn ask(mountpoint: &Path, request: Request) -> io::Result<Option<Supervisor>> {
    let Some((name, owner)) = mountpoint::device(mountpoint)? else { return Ok(None) };
    let owner = Uid::from_raw(owner);
    let mut faults = Vec::new();
    let mut kind = io::ErrorKind::NotFound;
    for path in directories(owner) {
        match connect_in(&path, &name, owner) {
            Ok(mut stream) => {
                let pid = Pid::from_raw(getsockopt(&stream, sockopt::PeerCredentials)?.pid());
                stream.write_all(request.word())?;
                return Ok(Some(Supervisor { connection: Control::from_fd(stream.into()), pid }));
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    kind = error.kind();
                }
                faults.push(format!("{}: {error}", path.join(&name).display()));
            }
        }
    }
    Err(io::Error::new(kind, faults.join("; ")))
}

/// Whether a supervisor listens on the socket of the mount at `mountpoint`.
///
/// # Errors
/// The table of mounts cannot be read.
pub(super) fn is_listened_to(mountpoint: &Path) -> io::Result<bool> {
    let Some((name, owner)) = mountpoint::device(mountpoint)? else { return Ok(false) };
    let owner = Uid::from_raw(owner);
    Ok(directories(owner).iter().any(|path| connect_in(path, &name, owner).is_ok()))
}

fn connect_in(path: &Path, name: &str, owner: Uid) -> io::Result<UnixStream> {
    let directory = open(path, directory_flags(), Mode::empty())?;
    is_private(&directory, &[owner])?;
    // A link could lead to the socket of another service.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let socket = openat(&directory, name, flags, Mode::empty())?;
    let kind = SFlag::from_bits_truncate(fstat(&socket)?.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFSOCK {
        return Err(io::Error::other("it is not a socket; remove it"));
    }
    let stream = UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd()))?;
    if !is_trusted(&stream, &[owner]) {
        return Err(io::Error::other("a process of another user listens there"));
    }
    Ok(stream)
}

fn directory_flags() -> OFlag {
    OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// Opens a directory of this user's alone, and makes it if it is missing.
fn own_directory(path: &Path) -> io::Result<OwnedFd> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let directory = open(path, directory_flags(), Mode::empty())?;
    let own = Uid::effective();
    if fstat(&directory)?.st_uid == own.as_raw() {
        let through = format!("/proc/self/fd/{}", directory.as_raw_fd());
        std::fs::set_permissions(through, Permissions::from_mode(0o700))?;
    }
    is_private(&directory, &[own])?;
    Ok(directory)
}

/// An error that tells whose the directory is, if others than these users and root may enter it.
fn is_private(directory: &OwnedFd, users: &[Uid]) -> io::Result<()> {
    let stat = fstat(directory)?;
    let owner = Uid::from_raw(stat.st_uid);
    if !owner.is_root() && !users.contains(&owner) {
        let what = format!("the directory belongs to UID {owner}, who must not have it; remove it");
        return Err(io::Error::other(what));
    }
    if stat.st_mode & 0o077 != 0 {
        return Err(io::Error::other("others may enter the directory; give it mode 0700"));
    }
    Ok(())
}

/// A path of a name in the directory that does not resolve that of the directory again.
fn through(directory: &OwnedFd, name: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()).into()
}

fn identity(directory: &OwnedFd, name: &str) -> io::Result<(u64, u64)> {
    let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The other end is root's, or that of one of these users.
fn is_trusted(stream: &UnixStream, users: &[Uid]) -> bool {
    let peer = getsockopt(stream, sockopt::PeerCredentials).map(|peer| Uid::from_raw(peer.uid()));
    peer.is_ok_and(|peer| peer.is_root() || users.contains(&peer))
}

/// What a process asks for and waits for, if that is known; none as long as it has said nothing.
fn asks(stream: &UnixStream) -> Option<Option<Request>> {
    let mut said = [0; Request::MAX_BYTES];
    match recv(stream.as_raw_fd(), &mut said, MsgFlags::MSG_DONTWAIT) {
        Err(Errno::EAGAIN | Errno::EINTR) => None,
        Err(_) => Some(None),
        Ok(length) => {
            let word = &said[..length];
            let request = Request::ALL.into_iter().find(|request| request.word() == word);
            Some(request.filter(|_| !has_hung_up(stream)))
        }
    }
}

fn has_hung_up(stream: &UnixStream) -> bool {
    let mut source = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut source, PollTimeout::ZERO).is_ok_and(|found| found > 0)
}
