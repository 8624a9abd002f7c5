//! Keeping keys and values out of core dumps, other processes' reach and the environment.

use std::ffi::CStr;
use std::sync::Mutex;

use nix::sys::resource::{Resource, setrlimit};
use zeroize::{Zeroize, Zeroizing};

use super::error::DaemonError;

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
pub(super) fn inherit_encryption_key(key: Option<Zeroizing<String>>) {
    *TAKEN.lock().expect("no holder panics") = key;
}

/// Moves the key from the environment to where [`take_encryption_key`] finds it.
pub(super) fn wipe_environment() {
    // SAFETY: getenv gives a pointer into the environment, or null. Nothing changes the environment
    // meanwhile: there is no other thread that could.
    let value = unsafe { libc::getenv(VARIABLE.as_ptr()) };
    if value.is_null() {
        return;
    }
    // SAFETY: a value that getenv gave ends with a zero byte, and nobody else holds a reference.
    let length = unsafe { CStr::from_ptr(value) }.count_bytes();
    // SAFETY: these bytes are the process's own, writable, and nobody else refers to them.
    let bytes = unsafe { std::slice::from_raw_parts_mut(value.cast::<u8>(), length) };
    let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
    bytes.zeroize();
    // SAFETY: as above, there is no other thread.
    unsafe { libc::unsetenv(VARIABLE.as_ptr()) };
    *TAKEN.lock().expect("no holder panics") = Some(text);
}

/// No core dumps, and no other process of this user may look into this one.
pub(super) fn protect_memory() -> Result<(), DaemonError> {
    let system = |what| move |error: nix::Error| DaemonError::System { what, source: error.into() };
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(system("core dumps could not be turned off"))?;
    // SAFETY: this operation takes one number and touches no memory.
    let outcome = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    nix::errno::Errno::result(outcome)
        .map(drop)
        .map_err(system("the memory could not be protected from other processes"))
}
