//! The system calls that each process needs, and those that none does.

use libc::c_long;

use super::Calls;

/// What is refused, for all to see that it is.
pub(super) fn denied(calls: Calls) -> impl Iterator<Item = c_long> {
    let (sockets, touches) =
        (matches!(calls, Calls::Others | Calls::LookingUp), matches!(calls, Calls::Touching));
    let connects = sockets || matches!(calls, Calls::Serving { connects: true });
    let lists = [
        (SOCKETS, sockets),
        (CONNECTS, connects),
        (TOUCHES, touches),
        (NOBODYS, false),
        (NOBODYS_OLDER, false),
    ];
    lists.into_iter().filter(|(_, needed)| !needed).flat_map(|(list, _)| list).copied()
}

/// What the process has, and nothing else but threads; anything, if none is given.
pub(super) fn allowed(calls: Calls) -> Option<impl Iterator<Item = c_long>> {
    const NONE: &[c_long] = &[];
    let more = match calls {
        Calls::PassingOn => [NONE, NONE, NONE],
        Calls::Touching => [TOUCHES, TOUCHING, NONE],
        Calls::Serving { .. } => [CONNECTS, SERVING, SERVING_OLDER],
        Calls::Others | Calls::LookingUp => return None,
    };
    Some([PASSING_ON, PASSING_ON_OLDER].into_iter().chain(more).flatten().copied())
}

const SOCKETS: &[c_long] =
    &[libc::SYS_socket, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4];

const CONNECTS: &[c_long] = &[libc::SYS_connect];

const TOUCHES: &[c_long] = &[libc::SYS_open_by_handle_at, libc::SYS_utimensat];

/// What passing on takes, and memory and threads for it. Derived from what the kernel notifier was seen to
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

/// What serving takes beside that. Derived from what it was seen to call while all tests of the mount ran;
/// with each comes what else the C library may take for the same.
const SERVING: &[c_long] = &[
    // Files: the store, the files to import, callers in `/proc`.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_readlinkat,
    libc::SYS_fstatfs,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_flock,
    libc::SYS_fchmod,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_ioctl,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    // The event loop.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_socketpair,
    libc::SYS_dup3,
    // Keys that stay out of swap.
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    // Its own UID, how much memory there is, and whether a helper has ended.
    libc::SYS_geteuid,
    libc::SYS_sysinfo,
    libc::SYS_wait4,
    libc::SYS_waitid,
];

/// The older forms of some of them.
#[cfg(target_arch = "x86_64")]
const SERVING_OLDER: &[c_long] = &[
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_mkdir,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const SERVING_OLDER: &[c_long] = &[];

/// What touching takes beside passing on.
const TOUCHING: &[c_long] = &[libc::SYS_openat, libc::SYS_statx, libc::SYS_chdir, libc::SYS_fchdir];

/// Calls that no process needs.
const NOBODYS: &[c_long] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
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
const NOBODYS_OLDER: &[c_long] = &[
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
const NOBODYS_OLDER: &[c_long] = &[];
