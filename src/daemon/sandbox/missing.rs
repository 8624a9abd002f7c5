//! What a sandbox lacks, and whether an administrator can change that.

use std::io;

/// A means of confinement that is not in force.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Missing {
    /// A phrase about it, with what helps.
    pub(in super::super) what: String,
    pub(in super::super) because: Because,
}

/// Why a means of confinement is not in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Because {
    /// The running kernel does not have it: the sandbox is as good as this kernel allows.
    Kernel,
    /// The kernel has it, and it was turned off or is refused.
    SetUp,
}

impl Because {
    /// By what the system call that was to confine the process failed with.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            // No such call, or no such operation of it.
            Some(libc::ENOSYS | libc::EINVAL) => Self::Kernel,
            // EOPNOTSUPP: Landlock is not in `lsm=`. EPERM: a container's own filter refuses the call.
            _ => Self::SetUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_that_the_kernel_does_not_have_is_its_limit() {
        let because = |errno| Because::of(&io::Error::from_raw_os_error(errno));
        assert_eq!(because(libc::ENOSYS), Because::Kernel);
        assert_eq!(because(libc::EINVAL), Because::Kernel);
        for errno in [libc::EOPNOTSUPP, libc::EPERM, libc::EACCES, libc::ENOMEM] {
            assert_eq!(because(errno), Because::SetUp, "{errno}");
        }
        // No filter was written for this processor.
        assert_eq!(Because::of(&io::ErrorKind::Unsupported.into()), Because::SetUp);
    }
}
