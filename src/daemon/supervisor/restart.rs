//! With which settings a supervisor goes on with the mount of the supervisor before: those that it was given, or those of
//! before, if it was given some that a start would refuse. Callers wait by then, and a mistake in a file is no
//! reason to take the secrets away from them.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::iter;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use clap::Parser;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::daemon::error::DaemonError;
use crate::daemon::host::start_notice;
use crate::daemon::settings::{MountSettings, Resolved};

/// Longer than any command line.
const MAX_BYTES: u64 = 1 << 20;

/// The form of a record: its first item.
const FORM: &[u8] = b"1";

/// How long a check of settings may take.
const CHECK_SECONDS: u32 = 10;

/// The command line of a supervisor, as its service manager keeps it.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(flatten)]
    settings: MountSettings,
}

/// What a supervisor serves with.
pub(super) struct Choice {
    pub(super) settings: Resolved,
    /// Why these are not the settings that it was given.
    pub(super) fault: Option<String>,
    /// Why those of before were ignored.
    pub(super) ignored: Option<String>,
}

/// Chooses; `before` is what [`record`] made for the supervisor before, if there is a mount to go on with.
///
/// # Errors
/// Those in `given`, if there are no settings of before.
pub(super) fn choose(
    given: Result<Resolved, DaemonError>,
    before: Option<&OwnedFd>,
) -> Result<Choice, DaemonError> {
    let (before, ignored) = match before.map(read).transpose() {
        Ok(before) => (before, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let Some(before) = before else {
        let settings = match (given, &ignored) {
            (Err(given), Some(before)) => {
                Err(DaemonError::NothingBefore { given: given.into(), before: before.clone() })
            }
            (given, _) => given,
        };
        return Ok(Choice { settings: settings?, fault: None, ignored });
    };
    let fault = match given {
        Err(error) => error.to_string(),
        // What is wrong with the files that they name was wrong before, or a server says it.
        Ok(given) if flags_of(&given) == flags_of(&before) => {
            return Ok(Choice { settings: given, fault: None, ignored });
        }
        Ok(given) => match refusal(&given) {
            None => return Ok(Choice { settings: given, fault: None, ignored }),
            Some(why) => why,
        },
    };
    Ok(Choice { settings: before, fault: Some(fault), ignored })
}

/// The settings in a form that outlives this process.
///
/// # Errors
/// There is no memory.
pub(super) fn record(flags: &[OsString]) -> io::Result<OwnedFd> {
    let file = File::from(memfd_create(c"secretfs-settings", MFdFlags::MFD_CLOEXEC)?);
    let lines: Vec<_> = iter::once(FORM).chain(flags.iter().map(|flag| flag.as_bytes())).collect();
    file.write_all_at(&lines.join(&0), 0)?;
    Ok(file.into())
}

/// The command line that comes to these settings.
pub(super) fn flags_of(settings: &Resolved) -> Vec<OsString> {
    settings.to_flags_for(&settings.mountpoint)
}

fn read(kept: &OwnedFd) -> Result<Resolved, DaemonError> {
    let unreadable = |source| DaemonError::System { what: "the settings of before", source };
    let file = File::from(kept.try_clone().map_err(unreadable)?);
    let length = file.metadata().map_err(unreadable)?.len().min(MAX_BYTES);
    let mut bytes = vec![0; usize::try_from(length).expect("it is short")];
    file.read_exact_at(&mut bytes, 0).map_err(unreadable)?;
    let mut items = bytes.split(|&byte| byte == 0);
    let form = items.next().unwrap_or_default();
    if form != FORM {
        let form = form.escape_ascii();
        let why = format!("they have the form `{form}`, which this version does not know");
        return Err(unreadable(io::Error::other(why)));
    }
    let flags = items.map(|flag| OsString::from_vec(flag.to_vec()));
    let line = Line::try_parse_from(flags).map_err(|error| unreadable(io::Error::other(error)))?;
    Resolved::from(line.settings)
}

/// Why a start with these settings would be refused. Another process finds out, because this one reads no keys.
fn refusal(settings: &Resolved) -> Option<String> {
    let mut check = Command::new("/proc/self/exe");
    check.arg0(start_notice::PROGRAM).arg("mount").arg("--check").args(flags_of(settings));
    for variable in start_notice::VARIABLES {
        check.env_remove(variable);
    }
    // SAFETY: alarm(2) takes one number. The alarm ends a check that waits for a file on a dead network.
    unsafe {
        check.pre_exec(|| {
            libc::alarm(CHECK_SECONDS);
            Ok(())
        });
    }
    let checked = check.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    match checked {
        Ok(checked) if checked.status.success() => None,
        Ok(checked) if checked.status.code().is_none() => {
            Some(format!("`secretfs mount --check` did not answer ({})", checked.status))
        }
        Ok(checked) => {
            let said = String::from_utf8_lossy(&checked.stderr);
            let why: Vec<_> = said.lines().map(|line| line.trim_start_matches("Error: ")).collect();
            Some(why.join("; "))
        }
        Err(error) => Some(format!("`secretfs mount --check` cannot be run: {error}")),
    }
}
