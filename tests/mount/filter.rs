//! What the kernel does not do for the daemon: filters for seccomp(2).

use std::io;
use std::mem;
use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter,
};

/// A filter; the default one lets everything pass.
#[derive(Clone, Default)]
pub(crate) struct Filter {
    /// System calls that the kernel seems not to have.
    pub(crate) missing: Vec<libc::c_long>,
    /// System calls that are refused (EPERM).
    pub(crate) refused: Vec<libc::c_long>,
    /// A system call that ends its process if its third argument, a length, is in a range.
    pub(crate) deadly: Option<(libc::c_long, RangeInclusive<u32>)>,
}

impl Filter {
    /// Lets a program, and all that it starts, run under the filter. Where everything passes, there is
    /// none: it would keep the program from gaining privileges.
    pub(crate) fn apply(&self, command: &mut Command) {
        if self.missing.is_empty() && self.refused.is_empty() && self.deadly.is_none() {
            return;
        }
        let filter = self.instructions();
        // SAFETY: what it calls is async-signal-safe, and nothing is allocated.
        unsafe { command.pre_exec(move || take(&filter)) };
    }

    fn instructions(&self) -> Vec<sock_filter> {
        // The number of the call comes first.
        let mut filter = vec![load(0)];
        let missing = self.missing.iter().map(|call| (call, libc::ENOSYS));
        let refused = self.refused.iter().map(|call| (call, libc::EPERM));
        for (&call, errno) in missing.chain(refused) {
            filter.push(jump(BPF_JEQ, number(call), 0, 1));
            filter.push(give(libc::SECCOMP_RET_ERRNO | errno as u32));
        }
        if let Some((call, lengths)) = &self.deadly {
            // The lower half of the argument, where numbers begin with it.
            let third = mem::offset_of!(libc::seccomp_data, args) + 2 * mem::size_of::<u64>();
            filter.push(jump(BPF_JEQ, number(*call), 0, 4));
            filter.push(load(u32::try_from(third).expect("it is small")));
            filter.push(jump(BPF_JGE, *lengths.start(), 0, 2));
            filter.push(jump(BPF_JGT, *lengths.end(), 1, 0));
            filter.push(give(libc::SECCOMP_RET_KILL_PROCESS));
        }
        filter.push(give(libc::SECCOMP_RET_ALLOW));
        filter
    }
}

fn load(k: u32) -> sock_filter {
    sock_filter { code: code(BPF_LD | BPF_W | BPF_ABS), jt: 0, jf: 0, k }
}

fn jump(test: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code(BPF_JMP | test | BPF_K), jt, jf, k }
}

fn give(k: u32) -> sock_filter {
    sock_filter { code: code(BPF_RET), jt: 0, jf: 0, k }
}

fn code(bits: u32) -> u16 {
    u16::try_from(bits).expect("they are 16 bits")
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).expect("numbers of calls are small")
}

fn take(filter: &[sock_filter]) -> io::Result<()> {
    let len = u16::try_from(filter.len()).expect("it is short");
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads the program, as long as it says.
    let outcome = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
