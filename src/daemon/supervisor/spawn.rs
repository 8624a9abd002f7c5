//! Starting a server, and hearing from it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::crypto::LockedText;
use crate::fs::Outage;
use crate::fuse;
use crate::fuse::Device;

use super::progress::Progress;
use super::signals::Signals;
use super::upgrade_socket::Requester;
use super::{LOOK, MINUTE, system};
use crate::daemon::error::DaemonError;
use crate::daemon::host::start_notice;
use crate::daemon::ipc::{Control, KeyTexts, Order, Report};
use crate::daemon::sandbox::Account;
use crate::daemon::server;
use crate::daemon::settings::Resolved;

/// For how many looks a server that takes over may do nothing at all before it serves.
const IDLE_LOOKS: u32 = 15;

/// How servers are started.
pub(super) struct LaunchConfig {
    /// This program, even if its file is replaced.
    pub(super) program: File,
    /// Where it came from.
    pub(super) program_path: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// Why these are not the settings that the supervisor was given; servers report it.
    pub(super) settings_fault: Option<String>,
    pub(super) key: Option<LockedText>,
    /// Those with which a server has opened the store.
    pub(super) kept: Option<KeyTexts>,
    /// Whom the server and the kernel notifier become.
    pub(super) account: Option<Account>,
    /// Tells this mount from others that the store served.
    pub(super) mount: u64,
    /// Options of mount(2), each after a comma.
    pub(super) labels: String,
    pub(super) saved_state: OwnedFd,
    pub(super) state_dir: PathBuf,
    pub(super) crash_limit: usize,
}

pub(super) struct Server {
    pub(super) process: Child,
    pub(super) control: Control,
    pub(super) notifier: Option<Child>,
    /// It is to read everything again, once it serves.
    pub(super) reads_again: bool,
}

pub(super) enum Started {
    /// It has opened the store, and waits for the device.
    Ready(Server),
    /// It said why on standard error.
    Ended(ExitStatus),
    /// A signal came that ends everything.
    Stopped,
}

/// When a server is looked at: once a second, whatever else happens in between. Looks are counted and not
/// the time: a machine that was suspended is not a server that hangs.
pub(super) struct Looks {
    pub(super) next: Instant,
}

impl Looks {
    pub(super) fn new() -> Self {
        Self { next: Instant::now() + LOOK }
    }

    /// Whether it is time for one; the next one is a second later then.
    pub(super) fn are_due(&mut self) -> bool {
        let is_due = self.next <= Instant::now();
        if is_due {
            *self = Self::new();
        }
        is_due
    }
}

/// Why the supervisor stops waiting.
pub(super) enum Event {
    Signal(Signal),
    ServerEnded(ExitStatus),
    Report(Report),
    Requests(Vec<Requester>),
}

impl LaunchConfig {
    pub(super) fn new(
        settings: &Resolved,
        path: &Path,
        key: Option<LockedText>,
        account: Option<Account>,
        mount: u64,
        saved_state: OwnedFd,
    ) -> io::Result<Self> {
        Ok(Self {
            program: File::open("/proc/self/exe")?,
            program_path: std::env::current_exe()?,
            arguments: settings.to_flags_for(path),
            settings_fault: None,
            key,
            kept: None,
            account,
            mount,
            labels: settings.labels.to_mount_options(),
            saved_state,
            state_dir: std::path::absolute(&settings.state_dir)?,
            crash_limit: settings.crash_limit,
        })
    }

    /// Whether there is another program now where this one came from.
    pub(super) fn is_replaced(&self) -> bool {
        let own = self.program.metadata().map(|own| (own.dev(), own.ino()));
        let there = std::fs::metadata(&self.program_path).map(|there| (there.dev(), there.ino()));
        matches!((own, there), (Ok(own), Ok(there)) if own != there)
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        command.arg0(start_notice::PROGRAM).arg(what);
        for variable in start_notice::VARIABLES {
            command.env_remove(variable);
        }
        command
    }

    fn serve_command(&self) -> Command {
        let mut command = self.command("serve");
        command.args(&self.arguments);
        command.envs(self.settings_fault.iter().map(|fault| (server::SETTINGS_FAULT, fault)));
        command
    }

    fn spawn(&self, command: &mut Command) -> io::Result<(Child, Control)> {
        let (control, theirs) = Control::pair()?;
        Ok((command.stdin(Stdio::from(theirs)).spawn()?, control))
    }

    /// Starts a kernel notifier for a server, and lets both of them have the device.
    pub(super) fn connect(
        &self,
        server: &mut Server,
        device: &Device,
        order: &Order,
    ) -> io::Result<()> {
        let (process, control) = self.spawn(&mut self.command("notify"))?;
        server.notifier = Some(process);
        let lines = fuse::lines()?;
        let pass_on = Order::PassOn { account: self.account.clone() };
        let (serves, passes): (Vec<_>, Vec<_>) =
            lines.iter().map(|(ours, theirs)| (ours.as_fd(), theirs.as_fd())).unzip();
        let device = [device.as_fd()];
        control.tell(&pass_on, &[&device[..], &passes].concat())?;
        server.control.tell(order, &[&device[..], &serves].concat())
    }

    /// Starts a server and waits until it has opened the store; it reads the files of keys if it is told
    /// to, or if none are kept.
    pub(super) fn start(
        &mut self,
        signals: &Signals,
        outage: Option<Outage>,
        until: Option<Instant>,
        reads_keys: bool,
    ) -> Result<Started, DaemonError> {
        let failed = || system("the server could not be started");
        let (process, control) = self.spawn(&mut self.serve_command()).map_err(failed())?;
        let order = Order::Prepare {
            key: self.key.clone(),
            kept: self.kept.clone().filter(|_| !reads_keys),
            mount: self.mount,
            outage,
            account: self.account.clone(),
        };
        if let Err(error) = control.tell(&order, &[self.saved_state.as_fd()]) {
            tracing::debug!(%error, "the server died before it was told what to do");
        }
        let mut progress = Progress::of(&process);
        let mut server = Server { process, control, notifier: None, reads_again: false };
        // Only the mounting user waits for the first one.
        let somebody_waits = outage.is_some();
        let mut looks = Looks::new();
        loop {
            if until.is_some_and(|until| until <= Instant::now()) {
                // It may have ended by itself.
                let _ = server.process.kill();
            }
            let event = server.wait(signals, somebody_waits.then_some(looks.next))?;
            if somebody_waits && looks.are_due() {
                server.kill_if_idle(&mut progress);
            }
            match event {
                Some(Event::Report(Report::Ready)) => return Ok(Started::Ready(server)),
                Some(Event::ServerEnded(status)) => return Ok(Started::Ended(status)),
                Some(Event::Signal(Signal::SIGTERM | Signal::SIGINT)) => {
                    server.stop()?;
                    return Ok(Started::Stopped);
                }
                Some(Event::Report(Report::Keys(texts))) => self.kept = Some(texts),
                // It may have been given what it would read.
                Some(Event::Signal(Signal::SIGHUP)) => server.reads_again = true,
                Some(Event::Signal(_) | Event::Report(_) | Event::Requests(_)) | None => {}
            }
        }
    }
}

impl Server {
    /// Waits until something happens; nothing at this time, and only then.
    pub(super) fn wait(
        &mut self,
        signals: &Signals,
        until: Option<Instant>,
    ) -> Result<Option<Event>, DaemonError> {
        let lost = || system("the server was lost");
        loop {
            if let Some(status) = self.process.try_wait().map_err(lost())? {
                return Ok(Some(Event::ServerEnded(status)));
            }
            let left =
                until.map_or(MINUTE, |until| until.saturating_duration_since(Instant::now()));
            let wakeup = signals.wait(Some(&self.control), left)?;
            if let Some(signal) = wakeup.signal.filter(|&signal| signal != Signal::SIGCHLD) {
                return Ok(Some(Event::Signal(signal)));
            }
            if !wakeup.requesters.is_empty() {
                return Ok(Some(Event::Requests(wakeup.requesters)));
            }
            if wakeup.message {
                match self.control.hear().map_err(lost())? {
                    Some((Ok(report), _)) => return Ok(Some(Event::Report(report))),
                    Some((Err(error), _)) => {
                        tracing::warn!("the server sent a message of {error}: it is dropped");
                    }
                    // It is dying.
                    None => {
                        let ended = self.process.wait().map(Event::ServerEnded);
                        return ended.map(Some).map_err(lost());
                    }
                }
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                return Ok(None);
            }
        }
    }

    pub(super) fn stop(mut self) -> Result<(), DaemonError> {
        // It may have ended by itself.
        let _ = self.process.kill();
        self.process.wait().map(drop).map_err(system("the server was lost"))
    }

    /// Takes one look at a server that does not serve yet.
    pub(super) fn kill_if_idle(&mut self, progress: &mut Progress) {
        if progress.look() == IDLE_LOOKS {
            tracing::error!("the server that is to take over hangs; it is killed");
            // It may have ended by itself.
            let _ = self.process.kill();
        }
    }

    pub(super) fn forward(&self, signal: Signal) {
        let process = i32::try_from(self.process.id()).expect("Linux's ids fit");
        if let Err(error) = kill(Pid::from_raw(process), signal) {
            tracing::debug!(%error, "a signal came while no server ran");
        }
    }
}
