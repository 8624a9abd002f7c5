//! The command line, held against a real mount by processes of several users: exact standard output,
//! standard error and exit code. One file per behaviour; the mount itself is that of `tests/mount`.

#[allow(dead_code, reason = "the mount's own tests need more of it")]
#[path = "../mount/daemon.rs"]
mod daemon;
#[allow(dead_code, reason = "the mount's own tests need more of it")]
#[path = "../mount/filter.rs"]
mod filter;
#[allow(dead_code, reason = "the mount's own tests need more of it")]
#[path = "../mount/harness.rs"]
mod harness;
#[allow(dead_code, reason = "the mount's own tests need more of it")]
#[path = "../mount/skip.rs"]
mod skip;

mod kit;
mod terminal;

mod acl;
mod completions;
mod edit;
mod encrypt;
mod exec;
mod help;
mod in_place;
mod list;
mod mount;
mod prompt;
mod read;
mod recipient;
mod reference;
mod remove;
mod save;
mod save_documents;
mod status;
mod unavailable;
mod verify;
