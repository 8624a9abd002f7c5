//! Which files a process may open: Landlock, with which a process gives up rights.

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::missing::{Because, Missing};

/// The newest form that is asked for (Linux 6.12).
const NEWEST: ABI = ABI::V6;

/// Files and directories with all below them. Descriptors that are open already are not concerned.
#[derive(Debug, Default)]
pub(in super::super) struct Files {
    pub(in super::super) readable: Vec<PathBuf>,
    pub(in super::super) writable: Vec<PathBuf>,
    /// Whether it may use the network (none of it, otherwise, nor sockets without a path).
    pub(in super::super) network: bool,
}

impl Files {
    pub(super) fn reads(&self, path: &str) -> bool {
        self.readable.iter().any(|readable| readable == Path::new(path))
    }

    pub(super) fn reads_everything(&self) -> bool {
        self.reads("/")
    }
}

/// What is in force.
pub(super) struct Enforced {
    /// Whether it reads no other files than those that it was to.
    pub(super) bounds_reading: bool,
    pub(super) missing: Option<Missing>,
}

/// The rules, ready to be enforced.
pub(super) struct Rules(RulesetCreated);

impl Rules {
    /// What is not there cannot be opened later either.
    pub(super) fn new(files: &Files) -> io::Result<Self> {
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))
            .map_err(other)?;
        if !files.network {
            rules = rules
                .handle_access(AccessNet::from_all(NEWEST))
                .and_then(|rules| rules.scope(Scope::AbstractUnixSocket))
                .map_err(other)?;
        }
        let rules = rules.scope(Scope::Signal).and_then(Ruleset::create).map_err(other)?;
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let rules = add(rules, &files.readable, read)?;
        let write = AccessFs::WriteFile
            | AccessFs::Truncate
            | AccessFs::MakeReg
            | AccessFs::MakeDir
            | AccessFs::RemoveFile
            | AccessFs::RemoveDir
            | AccessFs::Refer;
        add(rules, &files.writable, read | write).map(Self)
    }

    pub(super) fn enforce(self) -> io::Result<Enforced> {
        let status = self.0.restrict_self().map_err(other)?;
        // The first Landlock confines reading already.
        let bounds_reading = status.ruleset != RulesetStatus::NotEnforced;
        let (what, because) = match status.ruleset {
            RulesetStatus::FullyEnforced => return Ok(Enforced { bounds_reading, missing: None }),
            RulesetStatus::PartiallyEnforced => (
                "this kernel's Landlock is older than that of Linux 6.12: it does not confine signals and sockets without a path",
                Because::Kernel,
            ),
            RulesetStatus::NotEnforced => (
                "this kernel has no Landlock: the server may open whatever its user may; boot Linux 5.13 or later with landlock in lsm=",
                why_not(),
            ),
        };
        let missing = Some(Missing { what: what.to_owned(), because });
        Ok(Enforced { bounds_reading, missing })
    }
}

fn add(
    mut rules: RulesetCreated,
    paths: &[PathBuf],
    access: BitFlags<AccessFs>,
) -> io::Result<RulesetCreated> {
    for path in paths {
        let Ok(file) = PathFd::new(path) else { continue };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
        rules = rules.add_rule(PathBeneath::new(file, access)).map_err(other)?;
    }
    Ok(rules)
}

/// Why there is no Landlock: what the question for its version fails with.
fn why_not() -> Because {
    const VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the call takes no address.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION) };
    Because::of(&io::Error::last_os_error())
}

fn other(error: landlock::RulesetError) -> io::Error {
    io::Error::other(error)
}
