//! Writers in the ways in which programs change files.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::{Job, Report, Watch, value};

/// Each has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Writer {
    /// open with O_TRUNC, several writes, close.
    InPlace,
    /// bash's `>`, of a command of its own or of children.
    Bash,
    /// A temporary name, then rename: in turn one with a dot and one without.
    Rename,
    /// Create, unlink, create: odd numbers are values, even ones removals.
    Churn,
    /// As `InPlace`, and killed at some moment.
    Killed,
}

impl Writer {
    pub(super) const ALL: [Self; 5] =
        [Self::InPlace, Self::Bash, Self::Rename, Self::Churn, Self::Killed];

    pub(super) fn key(self) -> &'static str {
        match self {
            Self::InPlace => "in-place",
            Self::Bash => "bash",
            Self::Rename => "rename",
            Self::Churn => "churn",
            Self::Killed => "killed",
        }
    }

    /// Whether there is a value with this number.
    pub(super) fn writes(self, sequence: u64) -> bool {
        self != Self::Churn || sequence % 2 == 1
    }
}

/// Writes until the time is over; whatever fails is an anomaly.
pub(super) fn run(writer: Writer, job: &Job, ledger: &Ledger) -> Report {
    let path = job.directory.join(writer.key());
    let mut report = Report::default();
    let mut watch = Watch::new(job);
    while watch.goes_on() {
        let sequence = ledger.begin(writer);
        let outcome = watch.time(|| match writer {
            Writer::InPlace => {
                write_chunks(OpenOptions::new().write(true).truncate(true), &path, sequence)
                    .map(|()| true)
            }
            Writer::Bash => with_bash(&path, sequence).map(|()| true),
            Writer::Rename => replace(&job.directory, &path, sequence).map(|()| true),
            Writer::Churn if writer.writes(sequence) => {
                write_chunks(OpenOptions::new().write(true).create_new(true), &path, sequence)
                    .map(|()| true)
            }
            Writer::Churn => fs::remove_file(&path).map(|()| true),
            Writer::Killed => killed(&path, sequence),
        });
        report.operations += 1;
        match outcome {
            Ok(true) => ledger.acknowledge(writer, sequence),
            Ok(false) => {}
            Err(error) if error.raw_os_error() == Some(libc::EIO) => report.lost += 1,
            Err(error) => {
                report.anomaly("a writer failed", format!("{} {sequence}: {error}", writer.key()));
                // A churn that lost its place would only report what follows from that.
                if writer == Writer::Churn {
                    return report;
                }
            }
        }
    }
    report.longest = watch.longest();
    report
}

fn write_chunks(options: &OpenOptions, path: &Path, sequence: u64) -> io::Result<()> {
    let mut file = options.open(path)?;
    for chunk in value::of(sequence).chunks(1000) {
        file.write_all(chunk)?;
    }
    Ok(nix::unistd::close(file)?)
}

fn with_bash(path: &Path, sequence: u64) -> io::Result<()> {
    let value = String::from_utf8(value::of(sequence)).expect("letters");
    // In turn by the shell, and by two children that inherit the descriptor.
    let script = match sequence % 2 {
        0 => "printf %s \"$1$2\" > \"$3\"",
        _ => "{ sh -c 'printf %s \"$0\"' \"$1\"; sh -c 'printf %s \"$0\"' \"$2\"; } > \"$3\"",
    };
    let (first, second) = value.split_at(value.len() / 2);
    let output =
        Command::new("bash").args(["-c", script, "bash", first, second]).arg(path).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match said.contains("Input/output error") {
        true => Err(io::Error::from_raw_os_error(libc::EIO)),
        false => Err(io::Error::other(said)),
    }
}

fn replace(directory: &Path, path: &Path, sequence: u64) -> io::Result<()> {
    let temporary = directory.join(["rename.new", ".rename.new.tmp"][(sequence % 2) as usize]);
    write_chunks(OpenOptions::new().write(true).create_new(true), &temporary, sequence)?;
    fs::rename(&temporary, path)
}

/// Whether the writer finished before it was killed.
fn killed(path: &Path, sequence: u64) -> io::Result<bool> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let value = value::of(sequence);
    // SAFETY: the child calls only what is safe after a fork, and ends with `_exit`.
    match unsafe { fork() }? {
        ForkResult::Child => {
            // SAFETY: the path ends in NUL, every chunk is as long as is said; system calls only.
            unsafe {
                let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_TRUNC);
                let mut error = if file < 0 { *libc::__errno_location() } else { 0 };
                for chunk in value.chunks(500) {
                    let count = libc::write(file, chunk.as_ptr().cast(), chunk.len());
                    if usize::try_from(count) != Ok(chunk.len()) && error == 0 {
                        error = *libc::__errno_location();
                    }
                }
                if libc::close(file) != 0 && error == 0 {
                    error = *libc::__errno_location();
                }
                libc::_exit(error)
            }
        }
        ForkResult::Parent { child } => {
            // Any moment of the writing will do: the numbers spread over it.
            std::thread::sleep(Duration::from_micros(sequence * 7919 % 3000));
            // It may have ended by itself.
            let _ = kill(child, Signal::SIGKILL);
            match waitpid(child, None)? {
                WaitStatus::Exited(_, 0) => Ok(true),
                WaitStatus::Signaled(..) => Ok(false),
                // An error while it was written, which none of its system calls may tell otherwise.
                WaitStatus::Exited(_, code) => Err(io::Error::from_raw_os_error(code)),
                status => Err(io::Error::other(format!("{status:?}"))),
            }
        }
    }
}
