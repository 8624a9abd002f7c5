//! Keeping keys and values out of core dumps, other processes' reach and the environment.

use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use zeroize::{Zeroize, Zeroizing};

use crate::daemon::error::DaemonError;
use crate::daemon::server::security::plain_swap;

const VARIABLE: &CStr = c"OB_ENCRYPTION_KEY";

/// What was taken at the start of the program; given away once.
static TAKEN: Mutex<Option<Zeroizing<String>>> = Mutex::new(None);

/// The encryption key from the environment, if there is one. The first call wipes it from the
/// process's environment, where `/proc/<pid>/environ` would show it for ever; it must be made before
/// there is a second thread.
pub fn take_encryption_key() -> Option<Zeroizing<String>> {
    wipe_environment();
    TAKEN.lock().expect("no holder panics").take()
}

/// Puts the key that another process took from its environment where [`take_encryption_key`] finds it.
pub(in crate::daemon) fn inherit_encryption_key(key: Option<Zeroizing<String>>) {
    *TAKEN.lock().expect("no holder panics") = key;
}

/// Moves the key from the environment to where [`take_encryption_key`] finds it.
pub(in crate::daemon) fn wipe_environment() {
    // SAFETY: getenv gives a pointer into the environment, or null. Nothing changes the environment at the same time:
    // there is no other thread that could.
    let value = unsafe { libc::getenv(VARIABLE.as_ptr()) };
    if value.is_null() {
        return;
    }
    // SAFETY: a value that getenv gave ends with a zero byte, and there is no other reference to it.
    let length = unsafe { CStr::from_ptr(value) }.count_bytes();
    // SAFETY: these bytes are the process's own, writable, and there is no other reference to them.
    let bytes = unsafe { std::slice::from_raw_parts_mut(value.cast::<u8>(), length) };
    let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
    bytes.zeroize();
    // SAFETY: as above, there is no other thread.
    unsafe { libc::unsetenv(VARIABLE.as_ptr()) };
    *TAKEN.lock().expect("no holder panics") = Some(text);
}

/// Keeps all memory of this process out of swap: if it must be, or if there is swap space that is not encrypted.
/// Gives whether it is. A process that drops capabilities later must check [`locked_memory_is_limited`].
///
/// # Errors
/// It must be, and the system does not let it.
pub(in crate::daemon) fn lock_memory(must: bool) -> Result<bool, DaemonError> {
    if !must && plain_swap().is_none() {
        return Ok(false);
    }
    match lock_all() {
        Ok(()) => Ok(true),
        Err(error) if must => Err(DaemonError::MemoryLock(error.into())),
        Err(error) => {
            tracing::debug!(%error, "the memory could not be kept out of swap");
            Ok(false)
        }
    }
}

/// Whether more memory can be locked with CAP_IPC_LOCK alone.
pub(in crate::daemon) fn locked_memory_is_limited() -> bool {
    !matches!(getrlimit(Resource::RLIMIT_MEMLOCK), Ok((libc::RLIM_INFINITY, _)))
}

fn lock_all() -> nix::Result<()> {
    // With a limit in place, locking would work now and some later allocation fail.
    let unlimited = setrlimit(Resource::RLIMIT_MEMLOCK, libc::RLIM_INFINITY, libc::RLIM_INFINITY);
    if !may_lock_without_limit() {
        unlimited?;
    }
    // Pages that are never touched need no room.
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: this operation takes one number and touches no memory.
    Errno::result(unsafe { libc::mlockall(flags) }).map(drop)
}

/// Whether this process has CAP_IPC_LOCK (capabilities(7)).
fn may_lock_without_limit() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits & 1 << CAP_IPC_LOCK != 0)
}

/// Gives this process the name that `ps`, `top` and the kernel's messages show (at most 15 bytes). A program that is
/// started by its descriptor would have the name of that.
pub(in crate::daemon) fn name_process(name: &CStr) {
    if let Err(error) = nix::sys::prctl::set_name(name) {
        tracing::debug!(%error, "the process keeps its name");
    }
}

/// What the kernel's out-of-memory killer thinks of this process (proc_pid_oom_score_adj(5)).
const OOM: &str = "/proc/self/oom_score_adj";
/// As in the unit for systemd: all readers of a secret wait for this process.
const SPARED: i32 = -900;
/// By how much its children are likelier to be taken.
const LIKELIER: i32 = 100;
const LIKELIEST: i32 = 1000;

/// Keeps the out-of-memory killer away from the supervisor, as far as its user may. To be called before
/// [`protect_memory`], which gives the file to root.
pub(in crate::daemon) fn be_spared() {
    let lowered = oom_adjustment().map(|now| now.min(SPARED));
    if let Err(error) = lowered.and_then(|wanted| std::fs::write(OOM, wanted.to_string())) {
        tracing::debug!(%error, "the out-of-memory killer may take the supervisor");
    }
}

/// Lets the out-of-memory killer take this process rather than the supervisor, which starts another one. To be called
/// as [`be_spared`] is.
pub(in crate::daemon) fn die_before_the_supervisor() {
    let raised = oom_adjustment().map(|supervisor| (supervisor + LIKELIER).min(LIKELIEST));
    if let Err(error) = raised.and_then(|wanted| std::fs::write(OOM, wanted.to_string())) {
        tracing::warn!(%error, "the out-of-memory killer may take the supervisor before this process");
    }
}

fn oom_adjustment() -> io::Result<i32> {
    std::fs::read_to_string(OOM)?.trim().parse().map_err(io::Error::other)
}

/// Keeps descriptors that this process has inherited, other than the standard ones, from every program that
/// it starts: a lock or a pipe of the caller would last as long as the daemon.
///
/// # Errors
/// There is no /proc.
pub(in crate::daemon) fn keep_descriptors_to_itself() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number: Option<RawFd> = name.to_str().and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|&number| number > libc::STDERR_FILENO) else { continue };
        // SAFETY: the table of this process has it, and no other thread could close it.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        match fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
            Ok(_) | Err(Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// No core dumps, and no other process of this user may look into this one.
pub(in crate::daemon) fn protect_memory() -> Result<(), DaemonError> {
    let system = |what| move |error: nix::Error| DaemonError::System { what, source: error.into() };
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(system("core dumps could not be turned off"))?;
    // SAFETY: this operation takes one number and touches no memory.
    let outcome = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    Errno::result(outcome)
        .map(drop)
        .map_err(system("the memory could not be protected from other processes"))
}
