//! Why nothing was mounted.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    /// The source or the mountpoint is missing.
    #[error("a source and a mountpoint are needed; write `mount -t secretfs secretfs /secrets`")]
    Missing,
    /// There is an argument too many.
    #[error("`{0}` is one argument too many; write `mount -t secretfs secretfs /secrets`")]
    Extra(String),
    /// A letter that mount(8) does not give to helpers.
    #[error("`{0}` is no option of a mount helper; `mount.secretfs --help` shows what is")]
    Flag(String),
    /// `-o`, `-t` or `-N` without its value.
    #[error("`-{0}` needs a value; write it behind the letter")]
    Value(char),
    /// `-N`.
    #[error(
        "a mount for another namespace is made inside it: `nsenter --mount=NAMESPACE mount -t secretfs …`"
    )]
    Namespace,
    /// Another source.
    #[error(
        "the source is `{0}` and must be written as `secretfs`: this is how `mount -a` finds what is mounted already"
    )]
    Source(String),
    /// Options that nobody knows.
    #[error(
        "unknown option {}; `secretfs mount --help` lists the settings, and `-s` ignores what is unknown",
        quoted(.0)
    )]
    Unknown(Vec<String>),
    /// An option with a value that takes none.
    #[error("the option `{0}` takes no value; write it alone")]
    NoValue(String),
    /// An option without a value that needs one.
    #[error("the option `{0}` needs a value; write {0}=…")]
    NeedsValue(String),
    /// An argument that is not UTF-8 where only text makes sense.
    #[error("the options are not UTF-8; write paths in UTF-8")]
    NotText,
    /// The program is not there.
    #[error("the program `secretfs` is not at {}; install it there", listed(.0))]
    NoProgram(Vec<PathBuf>),
    /// The program cannot be started.
    #[error("{program} could not be started: {source}; is it installed whole?")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program said why.
    #[error("{point} was not mounted: the message above says why", point = .point.display())]
    Refused {
        /// The mountpoint.
        point: PathBuf,
        /// How the program ended.
        status: ExitStatus,
    },
    /// There is no mount to change, or the one just made has gone.
    #[error("secretfs is not mounted at {0}; mount it without `remount`, or see who unmounted it")]
    NotThere(PathBuf),
    /// The mountpoint cannot be looked at, or the mount cannot be made read-only.
    #[error("{point} could not be {action}: {source}")]
    Point {
        /// The mountpoint.
        point: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl HelperError {
    /// The exit code, as mount(8) numbers them.
    pub(crate) fn exit(&self) -> u8 {
        const INVOCATION: u8 = 1;
        const SYSTEM: u8 = 2;
        const FAILED: u8 = 32;
        match self {
            Self::Missing
            | Self::Extra(_)
            | Self::Flag(_)
            | Self::Value(_)
            | Self::Namespace
            | Self::Source(_)
            | Self::Unknown(_)
            | Self::NoValue(_)
            | Self::NeedsValue(_)
            | Self::NotText => INVOCATION,
            Self::NoProgram(_) | Self::Start { .. } => SYSTEM,
            // `secretfs` ends with 2 for wrong usage (a value of an option) and with 3 for a denial.
            Self::Refused { status, .. } if matches!(status.code(), Some(2 | 3)) => INVOCATION,
            Self::Refused { .. } | Self::NotThere(_) | Self::Point { .. } => FAILED,
        }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
}
