//! Which system calls a process may make: a filter for seccomp(2).
//!
//! It names what a process of ours never needs and an attacker would want; all else is allowed, since
//! what the C library asks for changes from one release to the next. For a process that does little it
//! names what that needs instead, and the kernel seems not to have the rest.

use std::io;

use libc::{c_long, sock_filter};
use nix::errno::Errno;

/// What a process asks of the kernel beyond files, memory and threads.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Calls {
    /// Sockets of any kind, for name services.
    pub(in super::super) sockets: bool,
    /// To connect a socket that it has.
    pub(in super::super) connects: bool,
    /// Opening files by handle, and setting times.
    pub(in super::super) touches: bool,
    /// Nothing but passing on what comes over descriptors that it has.
    pub(in super::super) only_passes_on: bool,
}

/// No other program, and no process.
const PROCESSES: &[c_long] = &[libc::SYS_execve, libc::SYS_execveat];

const SOCKETS: &[c_long] =
    &[libc::SYS_socket, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4];

const CONNECTS: &[c_long] = &[libc::SYS_connect];

const TOUCHES: &[c_long] = &[libc::SYS_open_by_handle_at, libc::SYS_utimensat];

/// What passing on takes, and memory and threads for it. Derived from what the messenger was seen to
/// call from its first thread to its end; the last few are how a process waits and dies.
const PASSING_ON: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_ppoll,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The older form of one of them.
#[cfg(target_arch = "x86_64")]
const PASSING_ON_OLDER: &[c_long] = &[libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const PASSING_ON_OLDER: &[c_long] = &[];

/// Nobody needs these.
const ALWAYS: &[c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    // Attributes of files: Landlock does not judge them.
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_fchownat,
    libc::SYS_fchown,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_mknodat,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    // Large and seldom used parts of the kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
    // The machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
];

/// The same number everywhere; the C library does not name it yet.
const SYS_FCHMODAT2: c_long = 452;

/// What only this kind of machine has: older forms of the above.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_mknod,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

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
pub(super) fn forbid(needs: &Calls) -> io::Result<()> {
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

fn filter(needs: &Calls) -> Option<Vec<sock_filter>> {
    let mut filter = vec![
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, MACHINE?, 1, 0),
        give(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
        jump(libc::BPF_JGE, SECOND_SET, 0, 1),
        give(DENY),
    ];
    let lists = [
        (PROCESSES, false),
        (SOCKETS, needs.sockets),
        (CONNECTS, needs.sockets || needs.connects),
        (TOUCHES, needs.touches),
        (ALWAYS, false),
        (OLDER, false),
    ];
    for number in lists.into_iter().filter(|(_, needed)| !needed).flat_map(|(list, _)| list) {
        filter.extend([jump(libc::BPF_JEQ, call(*number), 0, 1), give(DENY)]);
    }
    filter.extend([jump(libc::BPF_JEQ, call(libc::SYS_clone3), 0, 1), give(UNKNOWN)]);
    // A thread and no process; no namespace.
    filter.extend([
        jump(libc::BPF_JEQ, call(libc::SYS_clone), 0, 5),
        load(FIRST_ARGUMENT),
        jump(libc::BPF_JSET, NAMESPACES.cast_unsigned(), 1, 0),
        jump(libc::BPF_JSET, libc::CLONE_THREAD.cast_unsigned(), 1, 0),
        give(DENY),
        give(libc::SECCOMP_RET_ALLOW),
    ]);
    if needs.only_passes_on {
        for number in PASSING_ON.iter().chain(PASSING_ON_OLDER) {
            let allow = give(libc::SECCOMP_RET_ALLOW);
            filter.extend([jump(libc::BPF_JEQ, call(*number), 0, 1), allow]);
        }
        filter.push(give(UNKNOWN));
        return Some(filter);
    }
    // Typing into the terminal that standard error may be.
    filter.extend([
        jump(libc::BPF_JEQ, call(libc::SYS_ioctl), 0, 4),
        load(SECOND_ARGUMENT),
        jump(libc::BPF_JEQ, libc::TIOCSTI as u32, 1, 0),
        jump(libc::BPF_JEQ, libc::TIOCLINUX as u32, 0, 1),
        give(DENY),
        give(libc::SECCOMP_RET_ALLOW),
    ]);
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
