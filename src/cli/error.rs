//! Everything that can make a command fail, the text that says what to do, and the exit code.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::crypto::RecipientError;
use crate::identity::FileFault;
use crate::model::{KeyError, ListName, MAX_VALUE_BYTES, SlugError};

use crate::daemon::DaemonError;
use crate::vault::{OpenVaultError, VaultError};

use super::client::ClientError;
use super::exit::Exit;
use super::style;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The mount is not there, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Mounting or unmounting failed.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// An argument is not a key.
    #[error("`{text}`: {source}")]
    Key { text: String, source: KeyError },
    /// An argument is not a slug.
    #[error(transparent)]
    Slug(#[from] SlugError),
    /// An argument is not the name of a list.
    #[error("`{0}` is not a list; name one of {names}", names = list_names())]
    List(String),
    /// A file outside the mount.
    #[error("cannot {action} `{path}`: {reason}", reason = explain(.source))]
    File { action: &'static str, path: String, source: io::Error },
    /// Standard output or the terminal.
    #[error("cannot {action}: {reason}", reason = explain(.source))]
    Stream { action: &'static str, source: io::Error },
    /// A value over the limit, before it is sent.
    #[error("the value is longer than {MAX_VALUE_BYTES} bytes; a secret holds at most that much")]
    ValueTooLarge,
    /// A secret that cannot be edited.
    #[error(
        "cannot edit `{0}`: you may read it and not write it; ask for one of your slugs to be added to its `writers` list"
    )]
    ReadOnly(String),
    /// A secret that has another value than the one that was edited.
    #[error(
        "`{key}` was changed by another process and nothing was saved; what you wrote is in `{}` until secretfs is unmounted: compare both, and edit again", .draft.display()
    )]
    ChangedMeanwhile { key: String, draft: PathBuf },
    /// The editor did not start, or did not end well.
    #[error("the editor `{editor}` failed ({why}); set VISUAL or EDITOR to another one")]
    Editor { editor: String, why: String },
    /// A question that cannot be asked.
    #[error(
        "the value is missing and there is no terminal to ask for it; give it as an argument, with --from-file FILE, or as `-` on standard input"
    )]
    NoTerminal,
    /// A question that was answered with nothing.
    #[error("no value was typed and nothing was changed; an empty value is written as \"\"")]
    NoValueTyped,
    /// A value that no environment variable can hold.
    #[error(
        "the value of `{key}` holds a NUL byte, which no environment variable can; let the program read the file instead"
    )]
    NulInValue { key: String },
    /// A name that no environment variable can have.
    #[error("`{0}` cannot name an environment variable; name it yourself with --env NAME=KEY")]
    VariableName(String),
    /// A directory of the mount without secrets.
    #[error("no secret that you may see is right below `{0}`; `secretfs list` shows what is there")]
    NothingBelow(String),
    /// `--env` without a `=`.
    #[error("`{0}` is not NAME=KEY; write it like DB=auth-svc/DATABASE_URL")]
    NotAPair(String),
    /// No such command.
    #[error("there is no page about `{0}`; `--help` lists the commands")]
    NoSuchPage(String),
    /// A directory without documents.
    #[error("`{0}` holds no YAML file; documents are files that end in .yaml or .yml")]
    NoDocuments(PathBuf),
    /// Documents that are wrong, a sentence for each thing that is.
    #[error("{}", .0.join("\n"))]
    Documents(Vec<String>),
    /// Nothing there has this id.
    #[error("no secret that you may see has the id `{0}`; `secretfs list` shows the ids")]
    NoSuchId(String),
    /// Re-sealing stopped before its end.
    #[error(
        "it stopped before its end: {0}; then run `secretfs rekey` again, it goes on from there"
    )]
    Rekey(String),
    /// The answer is no; the reasons, one a line.
    #[error("{}", .0.join("\n"))]
    No(Vec<String>),
    /// `save --dry-run` found something that would be denied.
    #[error("{0} of the documents would be denied; nothing was changed")]
    WouldBeDenied(usize),
    /// An export that ended before its end.
    #[error(
        "the export ended after {copied} of {size} bytes, and nothing was kept of it; try again"
    )]
    CutOff { copied: u64, size: u64 },
    /// The store cannot be read or mended.
    #[error(transparent)]
    Store(#[from] OpenVaultError),
    /// A file that would be replaced.
    #[error("`{0}` is there already; name another file, or replace it with --force")]
    WouldReplace(PathBuf),
    /// A state directory that is not empty.
    #[error(
        "the state directory holds {0} secrets already; name an empty one, or restore over them with --force"
    )]
    NotEmpty(usize),
    /// A value that cannot be read from the store.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// `--to` names no recipient.
    #[error("{}{source}", at.iter().map(|at| format!("{at}: ")).collect::<String>())]
    Recipient { at: Option<String>, source: RecipientError },
    /// `--to` of a command that seals names several recipients, or a file without any.
    #[error("`{0}` must hold exactly one recipient; a value is sealed for one environment")]
    NotOneRecipient(String),
    /// A checksum that would not fit its value.
    #[error(
        "`{key}` in {file} has a checksum, which would be wrong; remove it there, or name an algorithm"
    )]
    HasChecksum { file: String, key: String },
    /// A file that was to be changed in place.
    #[error("`{}` was changed by another program; nothing was written to it, run this again", .0.display())]
    FileChangedMeanwhile(PathBuf),
    /// An identities file that is checked against is wrong.
    #[error("`{}`: {source}", path.display())]
    Identities { path: PathBuf, source: Box<FileFault> },
    /// Several things failed, each for its own reason.
    #[error("{}", join(.0))]
    Several(Vec<CliError>),
}

/// What most commands give.
pub(super) type Result<T = (), E = CliError> = std::result::Result<T, E>;

impl CliError {
    /// A failed operation on a file outside the mount.
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into().display().to_string();
        move |source| Self::File { action, path, source }
    }

    /// One error for several: none if there are none, itself if it is alone.
    pub(super) fn all(mut errors: Vec<Self>) -> Result {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }

    /// How the program ends because of this.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Client(error) => error.exit(),
            // The server is the same program: these are its codes.
            Self::Daemon(DaemonError::Refused { code }) => {
                code.and_then(Exit::of_code).unwrap_or(Exit::Internal)
            }
            Self::Daemon(error) if error.is_bad_input() => Exit::BadInput,
            Self::Daemon(DaemonError::Unreachable { source, .. })
                if source.kind() == ErrorKind::PermissionDenied =>
            {
                Exit::Denied
            }
            Self::Daemon(
                DaemonError::Unreadable { source, .. }
                | DaemonError::NewKey { source, .. }
                | DaemonError::Mountpoint { source, .. }
                | DaemonError::Unmount { source, .. },
            ) => exit_of(source),
            Self::Daemon(_) | Self::Rekey(_) => Exit::Unavailable,
            Self::File { source, .. } => exit_of(source),
            Self::Stream { .. } => Exit::Internal,
            Self::Vault(_) | Self::Store(_) | Self::CutOff { .. } => Exit::Unavailable,
            Self::Key { .. }
            | Self::Slug(_)
            | Self::ValueTooLarge
            | Self::NulInValue { .. }
            | Self::NoDocuments(_)
            | Self::Documents(_)
            | Self::Recipient { .. }
            | Self::NotOneRecipient(_)
            | Self::HasChecksum { .. }
            | Self::FileChangedMeanwhile(_)
            | Self::Identities { .. }
            | Self::WouldReplace(_)
            | Self::ChangedMeanwhile { .. }
            | Self::NotEmpty(_) => Exit::BadInput,
            Self::List(_)
            | Self::NoTerminal
            | Self::NoValueTyped
            | Self::Editor { .. }
            | Self::VariableName(_)
            | Self::NotAPair(_) => Exit::Usage,
            Self::NoSuchId(_) | Self::NoSuchPage(_) | Self::NothingBelow(_) => Exit::NotFound,
            Self::No(_) => Exit::No,
            Self::WouldBeDenied(_) | Self::ReadOnly(_) => Exit::Denied,
            Self::Several(errors) => errors.first().map_or(Exit::Internal, Self::exit),
        }
    }

    /// Shows the error on standard error, `Error: ` in front of each line.
    pub(super) fn print(&self) {
        // Said by the server itself.
        if matches!(self, Self::Daemon(DaemonError::Refused { .. })) {
            return;
        }
        let prefix = style::bold_red("Error:");
        for line in self.to_string().lines() {
            style::raw_note(&format!("{prefix} {}", style::printable(line)));
        }
    }
}

/// The exit code for an error of the system.
pub(super) fn exit_of(error: &io::Error) -> Exit {
    match error.kind() {
        ErrorKind::PermissionDenied => Exit::Denied,
        ErrorKind::NotFound => Exit::NotFound,
        ErrorKind::AlreadyExists
        | ErrorKind::InvalidInput
        | ErrorKind::InvalidData
        | ErrorKind::InvalidFilename
        | ErrorKind::FileTooLarge
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::DirectoryNotEmpty => Exit::BadInput,
        ErrorKind::NotConnected
        | ErrorKind::ConnectionAborted
        | ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::StaleNetworkFileHandle
        | ErrorKind::ResourceBusy
        | ErrorKind::TimedOut => Exit::Unavailable,
        _ if is(error, nix::errno::Errno::EBADMSG) => Exit::BadInput,
        _ if is(error, nix::errno::Errno::EIO) => Exit::Unavailable,
        _ => Exit::Internal,
    }
}

/// What an error of the system means and what to do, as the second half of a sentence.
pub(super) fn explain(error: &io::Error) -> String {
    let advice = match error.kind() {
        ErrorKind::PermissionDenied => "you may not; ask its owner or use another account",
        ErrorKind::NotFound => "it is not there; check the spelling",
        ErrorKind::IsADirectory => "it is a directory; name a file",
        ErrorKind::NotADirectory => "a part of the path is a file; name a directory there",
        ErrorKind::StorageFull => "the disk is full; make room and try again",
        ErrorKind::QuotaExceeded => {
            "a quota is used up; `.status/last-error` in the mount says which"
        }
        ErrorKind::InvalidFilename => "the name is too long; shorten it",
        _ => return format!("{error}; see to that and try again"),
    };
    advice.to_owned()
}

fn is(error: &io::Error, errno: nix::errno::Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

fn list_names() -> String {
    ListName::ALL.map(ListName::as_str).join(", ")
}

fn join(errors: &[impl fmt::Display]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(errno: nix::errno::Errno) -> Exit {
        exit_of(&io::Error::from_raw_os_error(errno as i32))
    }

    #[test]
    fn each_error_of_the_contract_has_its_exit_code() {
        use nix::errno::Errno::*;
        for (exit, errnos) in [
            (Exit::Denied, [EACCES, EPERM].as_slice()),
            (Exit::NotFound, &[ENOENT]),
            (Exit::BadInput, &[EINVAL, EBADMSG, EEXIST, EFBIG, ENAMETOOLONG, EISDIR, ENOTDIR]),
            (Exit::Unavailable, &[ENOTCONN, ENOSPC, EDQUOT, EIO, EROFS, ESTALE, ECONNABORTED]),
            (Exit::Internal, &[ENOMEM, EMFILE]),
        ] {
            for &errno in errnos {
                assert_eq!(system(errno), exit, "{errno}");
            }
        }
    }

    #[test]
    fn several_errors_are_one_line_each_and_end_as_the_first() {
        let errors = || vec![CliError::NoSuchId("a".into()), CliError::ValueTooLarge];
        let several = CliError::all(errors()).unwrap_err();
        assert_eq!(several.to_string().lines().count(), 2);
        assert_eq!(several.exit(), Exit::NotFound);
        assert!(CliError::all(Vec::new()).is_ok());
        assert_eq!(CliError::all(errors().split_off(1)).unwrap_err().exit(), Exit::BadInput);
    }

    #[test]
    fn a_wrong_list_is_told_the_right_ones() {
        assert_eq!(
            CliError::List("readrs".into()).to_string(),
            "`readrs` is not a list; name one of readers, writers, deleters, canChangeReaders, \
             canChangeWriters, canChangeDeleters"
        );
    }
}
