//! Another user, and no capabilities.

use std::ffi::{CString, OsString};
use std::io;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, getgrouplist, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

use super::super::error::DaemonError;

/// The user that the server becomes if none is named and this one exists.
const USUAL: &str = "secretfs";
/// capabilities(7).
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_IPC_LOCK: u32 = 14;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// A user of the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Account {
    pub(in super::super) name: String,
    pub(in super::super) uid: u32,
    pub(in super::super) gid: u32,
    groups: Vec<u32>,
}

impl Account {
    /// The account to serve as: the one that is named, else the usual one; none if this process is to keep its user.
    ///
    /// # Errors
    /// There is no such user, or only root could become it.
    pub(in super::super) fn choose(named: Option<&str>) -> Result<Option<Self>, DaemonError> {
        let own = nix::unistd::geteuid();
        let refused =
            |why: String| DaemonError::User { name: named.unwrap_or(USUAL).to_owned(), why };
        let look_up = |name: &str| {
            let found = match name.parse() {
                Ok(uid) => User::from_uid(Uid::from_raw(uid)),
                Err(_) => User::from_name(name),
            };
            found.map_err(|error| refused(error.to_string()))
        };
        let user = match named {
            Some(name) => {
                let user = look_up(name)?;
                user.ok_or_else(|| refused("there is no such user".to_owned()))?
            }
            None if !own.is_root() => return Ok(None),
            None => match look_up(USUAL)? {
                Some(user) => user,
                None => return Ok(None),
            },
        };
        if !own.is_root() {
            let is_own = user.uid == own;
            return if is_own {
                Ok(None)
            } else {
                Err(refused("only root can start it so".into()))
            };
        }
        Self::of(&user).map(Some).map_err(|error| refused(error.to_string()))
    }

    fn of(user: &User) -> nix::Result<Self> {
        let name = CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL)?;
        let groups = getgrouplist(&name, user.gid)?.into_iter().map(Gid::as_raw).collect();
        Ok(Self { name: user.name.clone(), uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups })
    }

    /// For a process that is started with nothing but arguments. It needs no groups.
    pub(in super::super) fn to_arguments(&self) -> Vec<OsString> {
        vec![self.uid.to_string().into(), self.gid.to_string().into()]
    }

    pub(super) fn from_arguments(arguments: &[OsString]) -> Option<Self> {
        let mut numbers = arguments.iter().map(|text| text.to_str()?.parse::<u32>().ok());
        let (uid, gid) = (numbers.next()??, numbers.next()??);
        Some(Self { name: String::new(), uid, gid, groups: Vec::new() })
    }
}

/// What is kept of what there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capabilities {
    pub(super) reads_all: bool,
    pub(super) locks_memory: bool,
}

/// Becomes that user, and keeps these capabilities alone.
pub(super) fn become_powerless(account: Option<&Account>, kept: Capabilities) -> io::Result<()> {
    // Only a process that could get them back has any to drop, and may drop them.
    drop_bounding_set();
    if let Some(account) = account {
        // SAFETY: this operation takes one number and touches no memory.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })?;
        let groups: Vec<_> = account.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
        setgroups(&groups)?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
        // SAFETY: as above.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0) })?;
    }
    keep(kept)
}

/// Drops all other capabilities.
pub(super) fn keep(kept: Capabilities) -> io::Result<()> {
    let bit = |keeps: bool, number: u32| u32::from(keeps) << number;
    let kept = bit(kept.reads_all, CAP_DAC_READ_SEARCH) | bit(kept.locks_memory, CAP_IPC_LOCK);
    set_capabilities(permitted()? & kept)
}

/// So that no program that this process could start has any.
fn drop_bounding_set() {
    for capability in 0..64 {
        // SAFETY: these operations take numbers and touch no memory.
        if unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) } < 0 {
            return;
        }
        // Refused to a process without the right to it; then none is worth dropping.
        // SAFETY: as above.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The permitted ones, of those with a number below 32.
fn permitted() -> io::Result<u32> {
    let mut header = Header { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: the kernel reads the header and writes two sets, as this version has them.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) })?;
    Ok(sets[0].permitted)
}

fn set_capabilities(kept: u32) -> io::Result<()> {
    // SAFETY: this operation takes numbers and touches no memory. A kernel without it has no such set.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let mut header = Header { version: CAPABILITY_VERSION_3, pid: 0 };
    let low = Sets { effective: kept, permitted: kept, inheritable: 0 };
    let sets = [low, Sets::default()];
    // SAFETY: the kernel reads the header and two sets, as this version has them.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) })?;
    Ok(())
}
