//! Attaching to the kernel: a process serves a mount that another one holds, and that a process
//! before it may have served.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use fuser::{Config, Session, SessionACL};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::fs::{Fs, KernelCache};
use crate::model::MAX_VALUE_BYTES;
use crate::telemetry::request_watchdog;

use super::device::Device;
use super::errno::{IS_UNKNOWN, NOT_SUPPORTED_BY_KERNEL};
use super::execute::Handler;
use super::notifier::{Lines, notice};
use super::touch::InotifyHelper;

/// How large a buffer the library allocates for requests, one for each thread that serves
/// (`fuser::read_buf`).
pub const REQUEST_BUFFER_BYTES: usize = (16 << 20) + 4096;
/// How much of it a request can fill: the bytes of a write, and what goes before them.
pub const REQUEST_BYTES: usize = MAX_VALUE_BYTES + 4096;
/// How the library's names for the threads that read requests begin.
const THREADS: &str = "fuser-";
/// Larger than any answer to the first request.
const FIRST_ANSWER_BYTES: usize = 4096;
/// Notifications as the kernel knows them (`fuse_notify_code`).
const NOTIFY_POLL: i32 = 1;
const NOTIFY_INVAL_INODE: i32 = 2;
const NOTIFY_INVAL_ENTRY: i32 = 3;
const NOTIFY_STORE: i32 = 4;
const NOTIFY_RESEND: i32 = 7;
/// `FUSE_EXPIRE_ONLY` (Linux 6.2). Older kernels do not look at it, and forget the name.
const EXPIRE_ONLY: u32 = 1;

/// A mount that is being served.
pub struct Served {
    threads: JoinHandle<io::Result<()>>,
    /// Whether the kernel sends unanswered requests again to the next server.
    pub resends: bool,
}

/// How a mount is served.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// For all users, or for the user of this process alone.
    pub for_all: bool,
    /// How many threads serve requests.
    pub threads: usize,
}

/// Serves `fs` on the device; `lines` lead to the kernel notifier. `first_request` is what the kernel sent
/// when it was mounted. `when_over` is called when serving has ended because the mount is gone.
///
/// # Errors
/// Another process served this connection and the kernel does not send again what that process left
/// unanswered (Linux 6.9 and later do), or a thread cannot be started.
pub fn serve(
    fs: Arc<Fs>,
    device: &Device,
    lines: Vec<OwnedFd>,
    first_request: &[u8],
    inotify_helper: InotifyHelper,
    service: Service,
    when_over: impl FnOnce() + Send + 'static,
) -> io::Result<Served> {
    let mut config = Config::default();
    config.n_threads = Some(service.threads);
    request_watchdog::requests_are_read_by(THREADS);
    let acl = if service.for_all { SessionACL::All } else { SessionACL::Owner };

    // The library insists on a first request, which the kernel says only once: it gets a copy.
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let mut ours = File::from(ours);
    ours.write_all(first_request)?;
    let session = Session::from_fd(Handler::new(Arc::clone(&fs)), theirs, acl, config)?;
    let mut answer = [0; FIRST_ANSWER_BYTES];
    let length = ours.read(&mut answer)?;
    let is_new = match device.file().write_all(&answer[..length]) {
        Ok(()) => true,
        // A process before this one has answered it.
        Err(error) if error.raw_os_error() == Some(IS_UNKNOWN) => false,
        Err(error) => return Err(error),
    };
    replace(&session, device)?;

    fs.serve_caches(Cache { lines: Lines::new(lines), device: device.file().try_clone()? })?;
    fs.serve_watchers(inotify_helper)?;
    let resends = resend(device)?;
    if !resends && !is_new {
        return Err(io::Error::other(
            "this kernel does not send unanswered requests again; Linux 6.9 and later do",
        ));
    }
    let threads = std::thread::Builder::new().name("session".to_owned()).spawn(move || {
        let outcome = session.run();
        when_over();
        outcome
    })?;
    Ok(Served { threads, resends })
}

impl Served {
    /// How serving ended. Waits for it.
    ///
    /// # Errors
    /// The device failed.
    pub fn join(self) -> io::Result<()> {
        self.threads.join().map_err(|_| io::Error::other("a request thread panicked"))?
    }
}

/// From now on the session talks to the kernel.
fn replace(session: &Session<Handler>, device: &Device) -> io::Result<()> {
    let (from, to) = (device.as_fd().as_raw_fd(), session.as_fd().as_raw_fd());
    // SAFETY: both are open, `to` belongs to the session and goes on belonging to it: what it stands for is
    // replaced, and no thread uses it, for the session does not run yet.
    nix::errno::Errno::result(unsafe { libc::dup3(from, to, libc::O_CLOEXEC) })?;
    Ok(())
}

/// Makes the kernel send again every request that was read and not answered. Whether this kernel does that;
/// kernels before Linux 6.9 do not. On a connection without such a request it does nothing else.
///
/// No process may read or answer requests during this: the request would be carried out twice.
///
/// # Errors
/// The mount is gone.
pub fn resend(device: &Device) -> io::Result<bool> {
    match device.file().write_all(&notice(NOTIFY_RESEND, &[])) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(NOT_SUPPORTED_BY_KERNEL) => Ok(false),
        Err(error) => Err(error),
    }
}

struct Cache {
    lines: Lines,
    device: File,
}

impl Cache {
    /// `fuse_notify_inval_entry_out`.
    fn change_entry(&self, parent: u64, name: &str, flags: u32) {
        let length = u32::try_from(name.len()).expect("a name has at most 255 bytes");
        let about =
            [&parent.to_ne_bytes()[..], &length.to_ne_bytes(), &flags.to_ne_bytes()].concat();
        let message = notice(NOTIFY_INVAL_ENTRY, &[&about, name.as_bytes(), &[0]]);
        let errno = self.lines.say(&message);
        if errno != 0 {
            // The kernel does not know the name, or the mount is gone: nothing is cached then.
            tracing::debug!(errno, "the kernel did not forget a name");
        }
    }

    /// `fuse_notify_inval_inode_out`: the attributes, and the bytes from `offset` on; one below zero spares them.
    fn forget_inode(&self, node: u64, offset: i64) {
        let about = [node.to_ne_bytes(), offset.to_ne_bytes(), [0; 8]].concat();
        let errno = self.lines.say(&notice(NOTIFY_INVAL_INODE, &[&about]));
        if errno != 0 {
            tracing::debug!(errno, "the kernel did not forget what it knows of a file");
        }
    }
}

impl KernelCache for Cache {
    fn forget_name(&self, parent: u64, name: &str) {
        self.change_entry(parent, name, 0);
    }

    fn expire_name(&self, parent: u64, name: &str) {
        self.change_entry(parent, name, EXPIRE_ONLY);
    }

    fn keep_bytes(&self, node: u64, bytes: &[u8]) {
        let errno = self.lines.say(&notice(NOTIFY_STORE, &[&store(node, bytes.len()), bytes]));
        if errno != 0 {
            tracing::debug!(errno, "the kernel did not take a file's bytes; it reads them");
        }
    }

    fn forget_attributes(&self, node: u64) {
        self.forget_inode(node, -1);
    }

    fn forget_bytes(&self, node: u64) {
        self.forget_inode(node, 0);
    }

    fn wake(&self, waiter: u64) {
        let errno = self.lines.say(&notice(NOTIFY_POLL, &[&waiter.to_ne_bytes()]));
        if errno != 0 {
            tracing::debug!(errno, "the kernel did not wake who polls a file");
        }
    }

    /// Gives it no bytes of the file: all that this can change is the answer.
    fn knows(&self, node: u64) -> bool {
        self.lines.say(&notice(NOTIFY_STORE, &[&store(node, 0)])) != IS_UNKNOWN
    }

    fn has_unread(&self) -> bool {
        let mut device = [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
        // A device that fails has nothing to read.
        let _ = poll(&mut device, PollTimeout::ZERO);
        device[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN))
    }
}

/// `fuse_notify_store_out`, from the beginning of a file on.
fn store(node: u64, length: usize) -> [u8; 24] {
    let mut about = [0; 24];
    about[..8].copy_from_slice(&node.to_ne_bytes());
    let length = u32::try_from(length).expect("a value has at most 1 MiB");
    about[16..20].copy_from_slice(&length.to_ne_bytes());
    about
}
