//! Which system calls a process may make: a filter for seccomp(2).
//!
//! If all code of a process is known, the filter lists the calls that it makes; all others fail as if the kernel did
//! not have them. If foreign code runs in it (name services, TLS), which needs more calls from one release to the
//! next, the filter lists those that no code needs and an attacker would want.

use std::io;

use libc::{c_long, sock_filter};
use nix::errno::Errno;

use super::lists;

/// What a process asks of the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) enum Calls {
    /// Passing on what comes over descriptors that it has.
    #[default]
    PassingOn,
    /// The same, opening files by handle, and setting their times.
    Touching,
    /// Files, memory and threads, and, if it `connects`, a socket that it has.
    Serving {
        /// Whether it connects a socket.
        connects: bool,
    },
    /// What code of others asks for, sockets included.
    Others,
    /// The same, and processes that run no other program.
    LookingUp,
}

/// `AUDIT_ARCH_*` of this machine (`linux/audit.h`).
#[cfg(target_arch = "x86_64")]
const MACHINE: Option<u32> = Some(0xC000_003E);
#[cfg(target_arch = "aarch64")]
const MACHINE: Option<u32> = Some(0xC000_00B7);
#[cfg(target_arch = "riscv64")]
const MACHINE: Option<u32> = Some(0xC000_00F3);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const MACHINE: Option<u32> = None;

/// From this number on, x86_64 has a second set of numbers for the same calls.
const SECOND_SET: u32 = 0x4000_0000;
/// Where things are in `struct seccomp_data`, on a machine with the low half of a number first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
const SECOND_ARGUMENT: u32 = 24;

const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
/// The C library then takes `clone`, whose flags a filter can see.
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Forbids all threads of this process what it does not need, for ever.
///
/// # Errors
/// The kernel has no such filter.
pub(super) fn forbid(needs: Calls) -> io::Result<()> {
    let filter = filter(needs).ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
    // SAFETY: this operation takes one number and touches no memory.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    let length = u16::try_from(filter.len()).expect("it is short");
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
    // SAFETY: the kernel reads the program, as long as it says.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) })?;
    Ok(())
}

fn filter(needs: Calls) -> Option<Vec<sock_filter>> {
    let mut filter = vec![
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, MACHINE?, 1, 0),
        give(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
        jump(libc::BPF_JGE, SECOND_SET, 0, 1),
        give(DENY),
    ];
    for number in lists::denied(needs) {
        filter.extend([jump(libc::BPF_JEQ, call(number), 0, 1), give(DENY)]);
    }
    filter.extend([jump(libc::BPF_JEQ, call(libc::SYS_clone3), 0, 1), give(UNKNOWN)]);
    // A thread, and a process only where those are needed; no namespace.
    let kinds = match needs {
        Calls::LookingUp => u32::MAX,
        _ => libc::CLONE_THREAD.cast_unsigned(),
    };
    filter.extend([
        jump(libc::BPF_JEQ, call(libc::SYS_clone), 0, 5),
        load(FIRST_ARGUMENT),
        jump(libc::BPF_JSET, NAMESPACES.cast_unsigned(), 1, 0),
        jump(libc::BPF_JSET, kinds, 1, 0),
        give(DENY),
        give(libc::SECCOMP_RET_ALLOW),
    ]);
    // Typing into the terminal that standard error may be.
    filter.extend([
        jump(libc::BPF_JEQ, call(libc::SYS_ioctl), 0, 5),
        load(SECOND_ARGUMENT),
        jump(libc::BPF_JEQ, libc::TIOCSTI as u32, 1, 0),
        jump(libc::BPF_JEQ, libc::TIOCLINUX as u32, 0, 1),
        give(DENY),
        load(NUMBER),
    ]);
    let Some(allowed) = lists::allowed(needs) else {
        filter.push(give(libc::SECCOMP_RET_ALLOW));
        return Some(filter);
    };
    for number in allowed {
        let allow = give(libc::SECCOMP_RET_ALLOW);
        filter.extend([jump(libc::BPF_JEQ, call(number), 0, 1), allow]);
    }
    filter.push(give(UNKNOWN));
    Some(filter)
}

fn call(number: c_long) -> u32 {
    u32::try_from(number).expect("numbers of calls are small")
}

fn load(offset: u32) -> sock_filter {
    sock_filter { code: code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), jt: 0, jf: 0, k: offset }
}

fn jump(kind: u32, value: u32, if_true: u8, if_false: u8) -> sock_filter {
    sock_filter {
        code: code(libc::BPF_JMP | kind | libc::BPF_K),
        jt: if_true,
        jf: if_false,
        k: value,
    }
}

fn give(action: u32) -> sock_filter {
    sock_filter { code: code(libc::BPF_RET | libc::BPF_K), jt: 0, jf: 0, k: action }
}

fn code(bits: u32) -> u16 {
    u16::try_from(bits).expect("they are 16 bits")
}
