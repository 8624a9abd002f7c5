//! Why the mount did not do what was asked.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::super::error::{exit_of, explain};
use super::super::exit::Exit;

/// Why the mount did not do what was asked. Names paths and keys, never a value.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum ClientError {
    /// No secretfs there.
    #[error("secretfs is not mounted at `{}`{}", .path.display(), to_mount(own.as_deref()))]
    NotMounted {
        path: PathBuf,
        /// Where this user has mounted one.
        own: Option<PathBuf>,
    },
    /// A mount whose daemon is gone.
    #[error("the daemon behind `{0}` is gone; start it again with `secretfs mount {0}`")]
    Dead(PathBuf),
    /// The system does not tell what is mounted.
    #[error("cannot find out what is mounted at `{path}`: {source}; is /proc mounted?")]
    Unknown { path: PathBuf, source: io::Error },
    /// What the daemon says cannot be understood.
    #[error(
        "`{0}` does not say what this version expects; use the same version of secretfs as the daemon"
    )]
    NotUnderstood(String),
    /// An operation on the mount failed.
    #[error("{}", sentence(action, name, source, reason.as_deref()))]
    Refused {
        /// What was to be done: `read`, `save`, …
        action: &'static str,
        /// The key or the file it was to be done to.
        name: String,
        /// What the kernel said.
        source: io::Error,
        /// The daemon's own sentence, from `.status/last-error`.
        reason: Option<String>,
    },
    /// The drop box refused documents; its report, a line each.
    #[error("{}", report.join("\n"))]
    Import {
        /// What was wrong, line by line.
        report: Vec<String>,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ClientError {
    /// How the program ends because of this.
    pub(in super::super) fn exit(&self) -> Exit {
        match self {
            Self::NotMounted { .. }
            | Self::Dead(_)
            | Self::Unknown { .. }
            | Self::NotUnderstood(_) => Exit::Unavailable,
            Self::Refused { source, .. } | Self::Import { source, .. } => exit_of(source),
        }
    }

    /// A file of the mount whose text makes no sense.
    pub(in super::super) fn not_understood(name: &str) -> Self {
        Self::NotUnderstood(name.to_owned())
    }

    /// Whether it failed because nothing (visible) is there.
    pub(in super::super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if source.kind() == ErrorKind::NotFound)
    }

    /// Whether it failed for want of a right.
    pub(in super::super) fn is_denied(&self) -> bool {
        self.exit() == Exit::Denied
    }
}

fn to_mount(own: Option<&Path>) -> String {
    match own {
        Some(own) => format!(
            "; you have mounted it at `{}`: name that with --mount or SECRETFS_MOUNT",
            own.display()
        ),
        None => {
            "; mount it with `secretfs mount`, or name the right place with --mount or SECRETFS_MOUNT"
                .to_owned()
        }
    }
}

fn sentence(action: &str, name: &str, source: &io::Error, reason: Option<&str>) -> String {
    match (reason, source.kind()) {
        (Some(reason), _) => format!("cannot {action} `{name}`: {reason}"),
        (None, ErrorKind::NotFound) => format!(
            "cannot {action} `{name}`: nothing of that name is visible to you; `secretfs list` shows what is"
        ),
        (None, ErrorKind::IsADirectory) if action == "save" => format!(
            "cannot save `{name}`: it is a directory of secrets; choose a key below it, or another one"
        ),
        (None, ErrorKind::NotADirectory) => format!(
            "cannot {action} `{name}`: a part of it is a secret, and nothing can be below a secret; choose another key"
        ),
        (None, ErrorKind::IsADirectory) => format!(
            "cannot {action} `{name}`: it is a directory of secrets; name one of those that `secretfs list -n {name}` shows"
        ),
        (None, ErrorKind::FileTooLarge) => {
            format!("cannot {action} `{name}`: it is too large; a secret holds at most 1 MiB")
        }
        (None, _) => format!("cannot {action} `{name}`: {}", explain(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    fn refused(errno: Errno, reason: Option<&str>) -> ClientError {
        ClientError::Refused {
            action: "read",
            name: "alice/K".into(),
            source: errno.into(),
            reason: reason.map(str::to_owned),
        }
    }

    #[test]
    fn the_daemons_sentence_comes_first() {
        let error = refused(Errno::EACCES, Some("you may not read it"));
        assert_eq!(error.to_string(), "cannot read `alice/K`: you may not read it");
        assert_eq!(error.exit(), Exit::Denied);
        assert!(error.is_denied() && !error.is_not_found());
    }

    #[test]
    fn without_one_the_errno_is_explained() {
        for (errno, exit, text) in [
            (Errno::ENOENT, Exit::NotFound, "visible to you"),
            (Errno::EISDIR, Exit::BadInput, "directory of secrets"),
            (Errno::EFBIG, Exit::BadInput, "1 MiB"),
        ] {
            let error = refused(errno, None);
            assert!(error.to_string().contains(text), "{error}");
            assert_eq!(error.exit(), exit);
        }
    }
}
