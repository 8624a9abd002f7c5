//! Takes from a process what it does not need, before it gets input from a possible attacker.
//!
//! A user of its own, no capability, no new privileges, no file that is not named here (Landlock), no
//! system call that it never makes (seccomp). Each stands in for the others where they have a hole.

mod account;
mod calls;
mod files;
pub(super) mod hardening;
mod lists;
mod missing;

use std::io;
use std::path::PathBuf;

use account::Capabilities;

pub(super) use account::Account;
pub(super) use calls::Calls;
pub(super) use files::Files;
pub(super) use missing::{Because, Missing};

use super::error::DaemonError;

/// What a process needs; all else is taken from it.
#[derive(Debug, Default)]
pub(super) struct Needs<'a> {
    /// The account that it switches to; if none, it keeps its user.
    pub(super) account: Option<&'a Account>,
    /// Whether it reads files of others (CAP_DAC_READ_SEARCH).
    pub(super) reads_all: bool,
    /// Whether all memory that it takes later is to be locked, over its limit (CAP_IPC_LOCK).
    pub(super) locks_memory: bool,
    /// The files that it opens.
    pub(super) files: Files,
    /// What it asks of the kernel.
    pub(super) calls: Calls,
}

/// What is in force, for the log.
#[derive(Debug)]
pub(super) struct Sandbox {
    /// What is not in force.
    pub(super) missing: Vec<Missing>,
}

/// Confines this process for ever. To be called before it has a second thread.
///
/// # Errors
/// It cannot become the user, or let go of a capability. What the kernel does not have is no error.
pub(super) fn enter(needs: &Needs<'_>) -> Result<Sandbox, DaemonError> {
    let failed = |source| DaemonError::System { what: "the sandbox could not be entered", source };
    // What it may open is looked up with the rights that it still has.
    let rules = files::Rules::new(&needs.files);
    let kept = Capabilities { reads_all: needs.reads_all, locks_memory: needs.locks_memory };
    account::become_powerless(needs.account, kept).map_err(failed)?;
    let enforced = rules.and_then(files::Rules::enforce).map_err(failed)?;
    // With nothing to bound it, this would read everything.
    if !enforced.bounds_reading && !needs.files.reads_everything() {
        account::keep(Capabilities { reads_all: false, ..kept }).map_err(failed)?;
    }
    let mut missing = Vec::from_iter(enforced.missing);
    missing.extend(calls::forbid(needs.calls).err().map(|error| Missing {
        what: format!(
            "this kernel does not filter system calls ({error}); it needs CONFIG_SECCOMP_FILTER"
        ),
        because: Because::of(&error),
    }));
    // Becoming another user may have allowed it again.
    hardening::protect_memory()?;
    if needs.files.reads("/proc") && std::fs::metadata("/proc/1/stat").is_err() {
        let what = "it does not see other users' processes in /proc (hidepid); put its user into the group of that mount's gid= option";
        missing.push(Missing { what: what.to_owned(), because: Because::SetUp });
    }
    Ok(Sandbox { missing })
}

impl Sandbox {
    /// What is not in force for that reason, a phrase each.
    pub(super) fn missing_because(&self, because: Because) -> impl Iterator<Item = &str> {
        let missing = self.missing.iter().filter(move |missing| missing.because == because);
        missing.map(|missing| &*missing.what)
    }

    /// Well, unless the set-up keeps it from being as good as the kernel allows.
    ///
    /// # Errors
    /// What to correct, in a sentence.
    pub(super) fn health(&self) -> Result<(), String> {
        let faults: Vec<_> = self.missing_because(Because::SetUp).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }
}

/// What a process needs that passes on messages over descriptors that it has.
pub(super) fn of_notifier(account: Option<&Account>) -> Needs<'_> {
    Needs { account, calls: Calls::PassingOn, ..Needs::default() }
}

/// Confines the process that touches files; `arguments` say as whom it goes on.
///
/// # Errors
/// As for [`enter`].
pub(super) fn enter_to_touch(arguments: &[std::ffi::OsString]) -> io::Result<()> {
    let account = Account::from_arguments(arguments);
    let calls = Calls::Touching;
    let needs = Needs { account: account.as_ref(), reads_all: true, calls, ..Needs::default() };
    // Nothing is opened by it but handles, which are no paths that Landlock judges.
    enter(&needs).map(drop).map_err(|error| io::Error::other(error.to_string()))
}

/// What the server reads of the system, beside what is its own.
pub(super) fn system_files() -> Vec<PathBuf> {
    // The callers, what the machine swaps to, how many processors there are.
    ["/proc", "/sys/devices", "/sys/fs/cgroup"].map(PathBuf::from).into()
}

#[cfg(test)]
mod tests;
