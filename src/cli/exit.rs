//! How the program ends.

use std::process::ExitCode;

/// The exit codes (contract, section 9). They are never renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// The answer is no: `is-secure`, `verify`, `audit verify`, `fsck`.
    No = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The caller may not.
    Denied = 3,
    /// It is not there, or not visible to the caller.
    NotFound = 4,
    /// A key, a value, a list or a document is wrong.
    BadInput = 5,
    /// The mount or the store is not available.
    Unavailable = 6,
    /// Nothing that should happen.
    Internal = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The codes as the help and the manual show them.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   the answer is no (is-secure, verify, audit verify, fsck)
  2   the command line is wrong
  3   denied
  4   not found
  5   bad input: a key, a value, a list or a document is wrong
  6   the mount or the store is not available
  70  internal error";
