//! The process that touches files of the mount, so that the kernel raises events for them.
//!
//! A separate process and not a thread: a thread that touches a file waits until the daemon has answered, and
//! cannot be killed until then. If it belonged to the daemon, a killed daemon could not end, and the mount
//! that the thread waits for would stay. This process holds nothing, and the end of the daemon ends its wait.

use std::ffi::{CString, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::fs::{Executor, Limits, Touch, Touched};

/// The name under which the program is started to run as this process.
const NAME: &str = "secretfs-touch";
/// How many files are touched at a time: a caller can keep a directory locked, or a file of its own, and a
/// touch there waits for that.
const LIMITS: Limits = Limits { threads: 32, per_key: 1, kept: 0 };
/// How many touches wait below one name in the root. More are dropped: watchers get the events of those before.
const MAX_WAITING: usize = 4096;

/// The daemon's end of it. The process is started before anything is served.
#[derive(Debug)]
pub struct InotifyHelper {
    process: Option<Child>,
}

impl InotifyHelper {
    /// Starts the process; `confinement` is for what confines it. The process that serves cannot
    /// start one later any more.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        mountpoint: &Path,
        confinement: impl IntoIterator<Item = OsString>,
    ) -> io::Result<Self> {
        // It gets nothing of the daemon: no environment, no descriptor.
        let mut command = Command::new("/proc/self/exe");
        command.arg0(NAME).arg(mountpoint).args(confinement).env_clear().current_dir("/");
        let process =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { process: Some(process) })
    }
}

impl Touch for InotifyHelper {
    fn touch(&mut self, touched: &[Touched]) -> io::Result<()> {
        let gone = || io::Error::other("the process that touches files has died");
        let process = self.process.as_mut().ok_or_else(gone)?;
        let pipe = process.stdin.as_mut().expect("it was started with a pipe");
        let sent = pipe.write_all(&encode(touched));
        if sent.is_err()
            && let Some(mut process) = self.process.take()
        {
            tracing::error!(
                "the process that touches files has died; inotify tells less until the next server"
            );
            // Its end of the pipe is closed, so it has ended.
            drop(process.stdin.take());
            process.wait()?;
        }
        sent
    }
}

impl Drop for InotifyHelper {
    /// The end of its input ends it.
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            // Whether it has ended is init's business, should the daemon end now.
            let _ = process.try_wait();
        }
    }
}

/// A line ends with a NUL, which stands in no path.
fn encode(touched: &[Touched]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for one in touched {
        match one {
            Touched::Path(path) => bytes.extend_from_slice(path.as_bytes()),
            // No path begins so.
            Touched::Node(node) => bytes.extend_from_slice(format!("/{node}").as_bytes()),
        }
        bytes.push(0);
    }
    bytes
}

fn decode(line: &[u8]) -> Option<Touched> {
    let text = std::str::from_utf8(line).ok()?;
    Some(match text.strip_prefix('/') {
        Some(number) => Touched::Node(number.parse().ok()?),
        None => Touched::Path(text.to_owned()),
    })
}

/// If this process was started to touch files: does that until its input ends, once `confine` has taken
/// from it what it does not need.
pub fn touch_if_asked(confine: impl FnOnce(&[OsString]) -> io::Result<()>) -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    if arguments.next() != Some(OsString::from(NAME)) {
        return None;
    }
    let mountpoint = arguments.next();
    let confinement: Vec<_> = arguments.collect();
    let serve = |mountpoint: OsString| serve(Path::new(&mountpoint), || confine(&confinement));
    Some(match mountpoint.map(serve) {
        Some(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn serve(mountpoint: &Path, confine: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // What was inherited by mistake (the mount's own device would be the worst) is closed.
    // SAFETY: this process has opened nothing but standard input, output and error.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    // Not `exe`, as it was started.
    let name = CString::new(NAME).expect("it holds no NUL");
    // SAFETY: the name ends in NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    confine()?;
    let executor = Executor::new("touch", LIMITS);
    let (mut input, mut piece, mut rest) = (io::stdin().lock(), vec![0; 64 << 10], Vec::new());
    loop {
        let length = input.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        rest.extend_from_slice(&piece[..length]);
        let Some(end) = rest.iter().rposition(|&byte| byte == 0) else { continue };
        let lines: Vec<u8> = rest.drain(..=end).take(end).collect();
        for one in lines.split(|&byte| byte == 0).filter_map(decode) {
            let key = key_of(&one);
            if executor.waiting(key) < MAX_WAITING {
                let mountpoint = mountpoint.to_owned();
                executor.submit(key, Box::new(move || touch(&mountpoint, &one)));
            }
        }
    }
}

/// The key of the thread that touches this: one for all that is below one name in the root, one for all versions.
fn key_of(touched: &Touched) -> u64 {
    let mut hasher = DefaultHasher::new();
    match touched {
        Touched::Path(path) => path.split_once('/').map_or("", |(top, _)| top).hash(&mut hasher),
        // No name in the root is this.
        Touched::Node(_) => "/".hash(&mut hasher),
    }
    hasher.finish()
}

/// Sets times to now, which the daemon ignores. What is not there any more needs no event, and an ordinary user's
/// daemon may open nothing by its handle.
fn touch(mountpoint: &Path, touched: &Touched) {
    // The mount is held only during a touch, so that it can be unmounted.
    let Some(root) = root_of(mountpoint) else { return };
    match touched {
        Touched::Path(path) => {
            let Ok(path) = CString::new(path.as_bytes()) else { return };
            set_times(root.as_raw_fd(), &path, libc::AT_SYMLINK_NOFOLLOW);
        }
        Touched::Node(node) => {
            // A handle is opened by the current directory, or by a descriptor that the daemon would have
            // to be asked for. One thread does this.
            if nix::unistd::fchdir(&root).is_ok() {
                if let Some(file) = open_node(*node) {
                    set_times(file.as_raw_fd(), c"", libc::AT_EMPTY_PATH);
                }
                // There is always a root.
                let _ = nix::unistd::chdir("/");
            }
        }
    }
}

/// The root of the mount, if it is there.
fn root_of(mountpoint: &Path) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = nix::fcntl::open(mountpoint, flags, Mode::empty()).ok()?;
    // If the mount is gone, this directory does not belong to it.
    is_root_of_mount(&directory).then_some(directory)
}

/// Asks nothing of the daemon.
fn is_root_of_mount(directory: &OwnedFd) -> bool {
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: all that it has are numbers.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in NUL, and the kernel fills in the structure.
    let outcome =
        unsafe { libc::statx(directory.as_raw_fd(), c"".as_ptr(), flags, 0, &raw mut found) };
    outcome == 0 && found.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0
}

/// Raises IN_ATTRIB, which a `PathChanged=` of systemd looks for, and then IN_MODIFY: if both times are set,
/// the kernel raises the first, and if only that of the last change is set, the second.
fn set_times(directory: i32, path: &std::ffi::CStr, flags: i32) {
    let time = |tv_nsec| libc::timespec { tv_sec: 0, tv_nsec };
    let now = time(libc::UTIME_NOW);
    for times in [[now, now], [time(libc::UTIME_OMIT), now]] {
        // SAFETY: the path ends in NUL, there are two times.
        unsafe { libc::utimensat(directory, path.as_ptr(), times.as_ptr(), flags) };
    }
}

/// How the kernel's `fuse_encode_fh` names a node: `FILEID_INO64_GEN`, and the one generation of ours.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    node_high: u32,
    node_low: u32,
    generation: u32,
}

/// Opens a node that the kernel knows. Sends no request to the daemon.
fn open_node(node: u64) -> Option<OwnedFd> {
    const FILEID_INO64_GEN: i32 = 0x81;
    let (node_high, node_low) = ((node >> 32) as u32, node as u32);
    let mut handle =
        Handle { bytes: 12, kind: FILEID_INO64_GEN, node_high, node_low, generation: 0 };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the handle has the layout of `struct file_handle` and tells how long it is; a descriptor that
    // comes back has no other owner.
    unsafe {
        let file = libc::open_by_handle_at(libc::AT_FDCWD, (&raw mut handle).cast(), flags);
        (file >= 0).then(|| OwnedFd::from_raw_fd(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_understood() {
        let all = [Touched::Path("a/ü K".to_owned()), Touched::Node(u64::MAX), Touched::Node(7)];
        let bytes = encode(&all);
        let lines = bytes.strip_suffix(&[0]).unwrap().split(|&byte| byte == 0);
        assert_eq!(lines.filter_map(decode).collect::<Vec<_>>(), all);
    }
}
