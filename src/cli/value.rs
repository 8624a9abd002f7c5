//! Where a value comes from: the argument, standard input, a file, or a question without echo.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, stdin};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::model::Plaintext;

use super::client::read_value;
use super::echo::EchoGuard;
use super::error::{CliError, Result};
use super::style;

const PROMPT: &str = "Enter secret value: ";

/// The arguments that give a value.
#[derive(clap::Args)]
pub(super) struct ValueArgs {
    /// The value; `-` takes it from standard input; without it you are asked, without echo.
    ///
    /// Other users of the machine can see a program's arguments while it runs: prefer `-`,
    /// --from-file or the question.
    #[arg(allow_hyphen_values = true, conflicts_with = "from_file")]
    value: Option<OsString>,
    /// Take the value from this file, every byte of it.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    from_file: Option<PathBuf>,
    /// Take one newline off the end of the value.
    #[arg(long)]
    trim: bool,
}

impl ValueArgs {
    /// Whether the value need not be asked for.
    pub(super) fn is_given(&self) -> bool {
        self.value.is_some() || self.from_file.is_some()
    }

    /// The file that is named.
    pub(super) fn file(&self) -> Option<&Path> {
        self.from_file.as_deref()
    }

    /// The value, with a warning where it ends in a newline that was hardly meant.
    ///
    /// # Errors
    /// The source cannot be read, is too large, or there is nobody to ask.
    pub(super) fn take(self) -> Result<Plaintext> {
        let (mut value, typed) = match (self.value, self.from_file) {
            (_, Some(path)) => (from_file(path)?, false),
            (Some(dash), None) if dash == "-" => (from_stdin()?, false),
            (Some(value), None) => (Plaintext::from(value.into_vec()), true),
            (None, None) => (ask()?, true),
        };
        let newline = newline_at_end(value.expose());
        if self.trim {
            value.resize(value.len() - newline);
        } else if newline > 0 && !typed {
            style::warn("the value ends in a newline, which is kept; use --trim to take it off");
        }
        Ok(value)
    }
}

/// An error about the command line, without what may be a value: an unquoted or misplaced one is an
/// unexpected argument, and the log of a pipeline is no place for it.
pub(super) fn without_values(error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let takes_values = arguments.iter().any(|argument| argument == "save" || argument == "encrypt");
    let context = match error.kind() {
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        ErrorKind::TooManyValues => ContextKind::InvalidValue,
        _ => return error,
    };
    if takes_values && !error.get(context).is_some_and(is_flag) {
        let instead = "there is a word too many; put a value with spaces in quotes (see --help)\n";
        return clap::Error::raw(error.kind(), instead);
    }
    error
}

/// Whether it reads as a misspelt flag, which is worth showing.
fn is_flag(context: &ContextValue) -> bool {
    let ContextValue::String(text) = context else { return false };
    text.strip_prefix("--").is_some_and(|name| {
        name.len() < 20 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    })
}

fn from_file(path: PathBuf) -> Result<Plaintext> {
    let read = File::open(&path).and_then(|mut file| read_value(&mut file));
    read.map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => CliError::ValueTooLarge,
        _ => CliError::file("read", path)(error),
    })
}

fn from_stdin() -> Result<Plaintext> {
    // Not through `Stdin`, whose buffer would keep a copy.
    let descriptor = std::os::fd::AsFd::as_fd(&stdin()).try_clone_to_owned();
    let read = descriptor.and_then(|descriptor| read_value(&mut File::from(descriptor)));
    read.map_err(|source| match source.kind() {
        io::ErrorKind::FileTooLarge => CliError::ValueTooLarge,
        _ => CliError::Stream { action: "read standard input", source },
    })
}

/// Asks on the terminal and tells the length, the one thing that can be checked without seeing.
fn ask() -> Result<Plaintext> {
    // On Ctrl-C the question raises SIGINT before it has given the terminal its echo back.
    let guard = EchoGuard::of_terminal();
    let answer = rpassword::prompt_password(PROMPT);
    drop(guard);
    let value = answer.map_err(|source| match source.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => CliError::NoValueTyped,
        _ => CliError::NoTerminal,
    })?;
    let value = Plaintext::from(value.into_bytes());
    if value.is_empty() {
        return Err(CliError::NoValueTyped);
    }
    style::note(&format!("The value has {} bytes.", value.len()));
    Ok(value)
}

fn newline_at_end(value: &[u8]) -> usize {
    match value {
        [.., b'\r', b'\n'] => 2,
        [.., b'\n'] => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Secretfs;
    use clap::Parser;

    fn message(arguments: &[&str]) -> String {
        let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        let error = Secretfs::try_parse_from(&arguments).err().expect("this is a wrong line");
        without_values(error, &arguments).to_string()
    }

    #[test]
    fn no_value_gets_into_an_error() {
        for line in [
            &["secretfs", "save", "K", "my", "hunter2"][..],
            &["secretfs", "save", "K", "--from-file", "f", "hunter2"],
            &["secretfs", "encrypt", "K", "v", "-hunter2"],
            &["secretfs", "encrypt", "K", "v", "--hunter2=9"],
            &["secretfs", "save", "K", "v", "--trim=hunter2"],
        ] {
            assert!(!message(line).contains("hunter2"), "{}", message(line));
        }
        assert!(message(&["secretfs", "save", "K", "v", "--form-file"]).contains("--form-file"));
    }

    #[test]
    fn a_value_may_start_with_hyphens() {
        for value in ["-----BEGIN KEY", "-1", "-hunter2", "--x"] {
            assert!(Secretfs::try_parse_from(["secretfs", "save", "K", value]).is_ok(), "{value}");
        }
    }

    #[test]
    fn takes_off_one_newline() {
        for (text, length) in [("", 0), ("a", 0), ("a\n", 1), ("a\r\n", 2), ("a\n\n", 1)] {
            assert_eq!(newline_at_end(text.as_bytes()), length);
        }
    }

    #[test]
    fn reads_a_file_to_the_last_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("value");
        std::fs::write(&path, b"\xff\0v\r\n").unwrap();
        let args = |trim| ValueArgs { value: None, from_file: Some(path.clone()), trim };
        assert_eq!(args(false).take().unwrap().expose(), b"\xff\0v\r\n");
        assert_eq!(args(true).take().unwrap().expose(), b"\xff\0v");
    }
}
