//! One file for each command: its arguments with their help, and `run`.

pub(super) mod acl;
pub(super) mod audit;
pub(super) mod backup;
pub(super) mod completions;
pub(super) mod convert;
mod dry_run;
pub(super) mod edit;
pub(super) mod encrypt;
pub(super) mod exec;
pub(super) mod fsck;
pub(super) mod get;
mod import;
pub(super) mod is_secure;
pub(super) mod keygen;
pub(super) mod list;
pub(super) mod man;
pub(super) mod migrate;
pub(super) mod mount;
pub(super) mod read;
pub(super) mod recipient;
pub(super) mod rekey;
pub(super) mod reload;
pub(super) mod remove;
pub(super) mod reseal;
pub(super) mod restore;
pub(super) mod save;
pub(super) mod textconv;
pub(super) mod unmount;
pub(super) mod upgrade;
pub(super) mod verify;
pub(super) mod watch;
pub(super) mod whoami;

use crate::model::Key;

use super::error::{CliError, Result};

/// An argument as a key.
fn parse_key(text: &str) -> Result<Key> {
    Key::parse(text).map_err(|source| CliError::Key { text: text.to_owned(), source })
}
