//! `watch`: a command after each change of a secret.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::cli::client::Client;
use crate::cli::completion;
use crate::cli::error::{CliError, Result};
use crate::cli::style;
use crate::daemon;
use crate::model::Key;

/// Without an open file that the daemon wakes (no right to read, or no such secret yet), and after
/// a daemon that died, this is how long a change can go unseen.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A secret that changes without a pause is reported after this many times the pause that was asked
/// for.
const LONGEST_PAUSES: u32 = 10;
/// In `siginfo_t`: the terminal sent it, to the command as well.
const SI_KERNEL: i32 = 0x80;

/// Run a command after each change of a secret.
///
/// The daemon wakes it, so it costs nothing while nothing changes. Changes that follow each other
/// closely are one; those that come while the command runs make it run once more when it has ended,
/// so the last run is always after the last change. Removing and creating are changes, too. The
/// command finds the keys that changed in SECRETFS_KEY, one on each line. A secret that is not there
/// yet, or that you may not read, is looked for every second.
///
/// It ends by SIGTERM, SIGINT or SIGHUP, which the command gets as well, and waits for the command:
/// with the command's exit code if it was running (128 and the number of the signal that ended it),
/// with 0 otherwise. A command that fails is reported, and watching goes on.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs watch web/TLS_KEY web/TLS_CERT -- systemctl reload nginx
  secretfs watch --initial app/CONFIG -- sh -c 'app --check \"/secrets/$SECRETFS_KEY\"'
  secretfs watch --once migration/GO -- ./migrate")]
pub(in super::super) struct Args {
    /// The secrets.
    #[arg(required = true, value_name = "KEY", add = completion::keys())]
    keys: Vec<String>,
    /// Milliseconds without a further change before the command runs.
    #[arg(long, value_name = "MS", default_value_t = 200)]
    debounce: u64,
    /// Run the command at the start as well, for the first key.
    #[arg(long)]
    initial: bool,
    /// End after the first run, with the command's exit code.
    #[arg(long)]
    once: bool,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(in super::super) fn run(client: &Client, args: Args) -> Result {
    // The commands get the names of secrets, and not the key to everything.
    drop(daemon::take_encryption_key());
    let keys = args.keys.iter().map(|key| super::parse_key(key)).collect::<Result<Vec<_>>>()?;
    let pause = Duration::from_millis(args.debounce);
    let failed = |action| move |source| CliError::Stream { action, source };
    let signals = Signals::new().map_err(failed("wait for signals"))?;
    let mut watched: Vec<_> = keys.into_iter().map(|key| Watched::new(client, key)).collect();
    watched.iter().filter_map(Watched::hindrance).for_each(|note| style::note(&note));
    let mut due = Due::default();
    if args.initial {
        due.change(watched[0].key.clone());
    }
    let mut running: Option<Child> = None;
    loop {
        let wait = match &running {
            None => due.wait(pause).unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN),
            Some(_) => LOOK_AGAIN,
        };
        wait_for_news(&signals, &watched, wait).map_err(failed("wait for changes"))?;
        while let Some((signal, from_terminal)) = signals.next().map_err(failed("get signals"))? {
            if signal == Signal::SIGCHLD {
                continue;
            }
            let code = match running.take() {
                Some(child) => code_of(end(child, (!from_terminal).then_some(signal))?),
                None => 0,
            };
            std::process::exit(code);
        }
        for secret in &mut watched {
            if secret.has_changed() {
                due.change(secret.key.clone());
            }
        }
        if let Some(child) = &mut running {
            let Some(status) = child.try_wait().map_err(failed("wait for the command"))? else {
                continue;
            };
            running = None;
            if args.once {
                std::process::exit(code_of(status));
            }
            if !status.success() {
                style::note(&format!("The command ended with {status}; watching goes on."));
            }
        }
        if let Some(keys) = due.take(pause) {
            running = Some(start(&args.command, &keys)?);
        }
    }
}

/// A change that the command has not been run for.
#[derive(Default)]
struct Due {
    keys: Vec<Key>,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Due {
    fn change(&mut self, key: Key) {
        let now = Instant::now();
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// How long until the command is due; none if nothing changed.
    fn wait(&self, pause: Duration) -> Option<Duration> {
        let due = (self.last? + pause).min(self.first? + pause * LONGEST_PAUSES);
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// The keys that changed, if the command is due.
    fn take(&mut self, pause: Duration) -> Option<Vec<Key>> {
        if self.wait(pause)? > Duration::ZERO {
            return None;
        }
        Some(std::mem::take(self).keys)
    }
}

struct Watched {
    key: Key,
    path: std::path::PathBuf,
    /// Changes with every version; none while there is no such secret.
    version: Option<u64>,
    /// Wakes us when there is a newer version.
    open: Option<File>,
    is_denied: bool,
}

impl Watched {
    fn new(client: &Client, key: Key) -> Self {
        let path = client.path(&key);
        let mut watched = Self { key, path, version: None, open: None, is_denied: false };
        watched.has_changed();
        watched
    }

    /// What keeps a change from being noticed at once, as a sentence: a mistyped key looks like one
    /// that is yet to come.
    fn hindrance(&self) -> Option<String> {
        let key = &self.key;
        match self.version {
            None => Some(format!("`{key}` is not there yet; it is watched for.")),
            Some(_) if self.is_denied => Some(format!(
                "You may not read `{key}`; that it changes is noticed up to a second later."
            )),
            Some(_) => None,
        }
    }

    /// Whether there is another version than the last time.
    fn has_changed(&mut self) -> bool {
        if self.open.as_ref().is_some_and(|file| !is_outdated(file)) {
            return false;
        }
        self.open = None;
        let mut version = match std::fs::metadata(&self.path) {
            Ok(metadata) => Some(metadata.ino()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            // The daemon is not there. It will be, with the same versions.
            Err(_) => return false,
        };
        // What may not be read is not tried again before it changes: each time is logged.
        if version.is_some() && !(self.is_denied && version == self.version) {
            let opened = File::open(&self.path);
            self.is_denied =
                opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
            // From this version on a change wakes.
            let of_open = opened.as_ref().ok().and_then(|file| Some(file.metadata().ok()?.ino()));
            version = of_open.or(version);
            self.open = opened.ok();
        }
        std::mem::replace(&mut self.version, version) != version
    }
}

/// Whether there is a newer version than the open one, or the mount that it belongs to is gone.
fn is_outdated(file: &File) -> bool {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn wait_for_news(signals: &Signals, watched: &[Watched], wait: Duration) -> io::Result<()> {
    let files = watched.iter().filter_map(|secret| secret.open.as_ref());
    let mut fds: Vec<_> = files.map(|file| PollFd::new(file.as_fd(), PollFlags::POLLPRI)).collect();
    fds.push(PollFd::new(signals.0.as_fd(), PollFlags::POLLIN));
    // Rounded up: to be early would mean to wait for nothing.
    let wait = PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, wait) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn start(command: &[OsString], keys: &[Key]) -> Result<Child> {
    let (program, arguments) = command.split_first().expect("clap requires one");
    let mut command = Command::new(program);
    let keys: Vec<_> = keys.iter().map(Key::as_str).collect();
    command.args(arguments).env("SECRETFS_KEY", keys.join("\n"));
    // SAFETY: this one system call touches no memory that another thread could hold.
    unsafe { command.pre_exec(|| Ok(Signals::caught().thread_unblock()?)) };
    command.spawn().map_err(CliError::file("run", program))
}

/// Waits for the end of the command, after telling it to end.
fn end(mut child: Child, signal: Option<Signal>) -> Result<ExitStatus> {
    if let (Some(signal), Ok(id)) = (signal, i32::try_from(child.id())) {
        // It may have ended by itself: its status is there to be read.
        let _ = kill(Pid::from_raw(id), signal);
    }
    child.wait().map_err(|source| CliError::Stream { action: "wait for the command", source })
}

/// As shells number it.
fn code_of(status: ExitStatus) -> i32 {
    status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1)
}

struct Signals(SignalFd);

impl Signals {
    fn new() -> io::Result<Self> {
        let mask = Self::caught();
        mask.thread_block()?;
        Ok(Self(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    fn caught() -> SigSet {
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD].into_iter().collect()
    }

    /// The next signal, and whether the terminal sent it to all of its programs.
    fn next(&self) -> io::Result<Option<(Signal, bool)>> {
        let Some(info) = self.0.read_signal()? else { return Ok(None) };
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|it| Signal::try_from(it).ok());
        Ok(signal.map(|signal| (signal, info.ssi_code == SI_KERNEL)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_due_when_it_is_quiet_and_not_too_late() {
        let key = |text| Key::parse(text).unwrap();
        let pause = Duration::from_secs(3600);
        let mut due = Due::default();
        assert!(due.wait(pause).is_none() && due.take(Duration::ZERO).is_none());
        due.change(key("a"));
        due.change(key("b"));
        due.change(key("a"));
        assert!(due.take(pause).is_none(), "it is not quiet yet");
        assert_eq!(due.take(Duration::ZERO), Some(vec![key("a"), key("b")]));
        assert!(due.take(Duration::ZERO).is_none(), "once");
        due.change(key("a"));
        due.first = due.first.and_then(|first| first.checked_sub(pause * LONGEST_PAUSES));
        assert_eq!(due.take(pause), Some(vec![key("a")]), "changes without a pause");
    }

    #[test]
    fn codes_are_those_of_a_shell() {
        assert_eq!(code_of(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(code_of(ExitStatus::from_raw(15)), 143);
    }
}
