//! Which close means that a file is finished.
//!
//! A child process that inherits a descriptor closes its copy when it ends, so the kernel sends a FLUSH
//! for each child of `{ cat a; cat b; } > K`. Only the process that opened the file knows when the file is
//! finished. A process that a signal is killing has not finished it.

use super::task::{is_being_killed, process_of};

/// What the close of one descriptor means for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// The process that opened the file closed it: the file is finished.
    Finished,
    /// A child process closed the descriptor that it inherited: the file is not finished.
    Inherited,
    /// A signal is killing the process that closes it.
    Killed(Closer),
}

/// Who closes a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closer {
    /// The process that opened the file.
    Opener,
    /// A process that inherited the descriptor.
    Child,
}

impl Close {
    /// A close by the thread `thread` of a file that the process `opener` opened.
    pub(super) fn by(thread: u32, opener: Option<u32>) -> Self {
        let closer = Closer::of(thread, opener);
        match closer {
            _ if is_being_killed(thread) => Self::Killed(closer),
            Closer::Opener => Self::Finished,
            Closer::Child => Self::Inherited,
        }
    }
}

impl Closer {
    /// Where the opener is not known (it lives in a PID namespace that the daemon does not see), each
    /// close counts as the opener's. A known opener is never a thread that is not known.
    fn of(thread: u32, opener: Option<u32>) -> Self {
        match opener {
            Some(process) if process != thread && process_of(thread) != Some(process) => {
                Self::Child
            }
            _ => Self::Opener,
        }
    }
}

/// Whether a signal killed a process that had not finished the file. Nothing of such a file is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Abandoned {
    #[default]
    No,
    /// A child was killed, and no process has gone on with the file since.
    ByChild,
    /// The opener was killed. Children that go on cannot finish the file.
    ByOpener,
}

impl Abandoned {
    pub(super) fn is_abandoned(self) -> bool {
        self != Self::No
    }

    /// A signal killed this process.
    pub(super) fn killed(&mut self, closer: Closer) {
        match closer {
            Closer::Opener => *self = Self::ByOpener,
            Closer::Child if *self == Self::No => *self = Self::ByChild,
            Closer::Child => {}
        }
    }

    /// A process goes on with the file.
    pub(super) fn resumed(&mut self) {
        if *self == Self::ByChild {
            *self = Self::No;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_opener_finishes_a_file() {
        let process = std::process::id();
        let thread = std::thread::spawn(|| nix::unistd::gettid().as_raw().cast_unsigned());
        let ended = thread.join().unwrap();
        let own = nix::unistd::gettid().as_raw().cast_unsigned();
        assert_eq!(Close::by(process, Some(process)), Close::Finished);
        assert_eq!(Close::by(own, Some(process)), Close::Finished, "another thread of it");
        assert_eq!(Close::by(1, Some(process)), Close::Inherited);
        assert_eq!(Close::by(0, Some(process)), Close::Inherited, "of another PID namespace");
        assert_eq!(Close::by(ended, Some(process)), Close::Inherited, "it is gone");
        assert_eq!(Close::by(0, None), Close::Finished);
        assert_eq!(Close::by(own, None), Close::Finished);
    }

    #[test]
    fn who_goes_on_resumes_what_a_child_abandoned() {
        let mut abandoned = Abandoned::default();
        abandoned.killed(Closer::Child);
        assert!(abandoned.is_abandoned());
        abandoned.resumed();
        assert!(!abandoned.is_abandoned());
        abandoned.killed(Closer::Opener);
        abandoned.killed(Closer::Child);
        abandoned.resumed();
        assert!(abandoned.is_abandoned());
    }
}
