//! `exec`: a program with secrets in its environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cli::client::Client;
use crate::cli::error::{CliError, Result};
use crate::daemon;
use crate::model::Key;

/// Run a program with secrets in its environment.
///
/// The program takes this one's place: same process id, its own signals, its own exit code, and
/// nothing of the values is left behind elsewhere. A program's environment is open to its user and
/// inherited by what it starts: a program that can read a file should read /secrets/<key>.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs exec --env DB=auth-svc/DATABASE_URL -- ./server --port 80
  secretfs exec --env-file-dir auth-svc -- ./server     # each secret right below auth-svc/")]
pub(in super::super) struct Args {
    /// Set NAME to the value of KEY; may be repeated.
    #[arg(long, value_name = "NAME=KEY")]
    env: Vec<String>,
    /// Set a variable for each secret right below this directory of the mount, named as it is; those
    /// of --env come first. May be repeated.
    #[arg(long, value_name = "DIR")]
    env_file_dir: Vec<String>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

pub(in super::super) fn run(client: &Client, args: Args) -> Result {
    // The program gets what it is given here, and not the key to everything.
    drop(daemon::take_encryption_key());
    let mut variables = BTreeMap::new();
    for directory in &args.env_file_dir {
        let directory = directory.trim_matches('/');
        let keys = client.keys(Some(directory))?;
        let mut right_below =
            keys.into_iter().filter(|key| key.directory() == directory).peekable();
        if right_below.peek().is_none() {
            return Err(CliError::NothingBelow(directory.to_owned()));
        }
        variables.extend(right_below.map(|key| (key.name().to_owned(), key)));
    }
    for pair in &args.env {
        let (name, key) = pair.split_once('=').ok_or(CliError::NotAPair(pair.clone()))?;
        variables.insert(name.to_owned(), super::parse_key(key)?);
    }
    let (program, arguments) = args.program.split_first().expect("clap requires one");
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, key) in variables {
        command.env(variable_name(&name)?, value(client, key)?);
    }
    let error = command.exec();
    Err(CliError::file("run", OsStr::new(program))(error))
}

/// What shells and programs can look up: letters, digits and underscores, no digit first.
fn variable_name(name: &str) -> Result<&str> {
    let valid = !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if valid { Ok(name) } else { Err(CliError::VariableName(name.to_owned())) }
}

fn value(client: &Client, key: Key) -> Result<OsString> {
    let value = client.read(&key)?;
    if value.expose().contains(&0) {
        return Err(CliError::NulInValue { key: key.to_string() });
    }
    // The environment of this process image ends with it, at `execve`.
    Ok(OsString::from_vec(value.expose().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables() {
        for (name, valid) in [
            ("DB", true),
            ("_x1", true),
            ("", false),
            ("1A", false),
            ("A B", false),
            ("A-B", false),
            ("A=B", false),
            ("É", false),
        ] {
            assert_eq!(variable_name(name).is_ok(), valid, "{name:?}");
        }
    }
}
