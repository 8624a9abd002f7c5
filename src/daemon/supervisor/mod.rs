//! The process that outlives the daemon: it mounts, keeps the kernel's device open, and starts the
//! server again when it dies. Callers notice a short wait, nothing else.
//!
//! It has one thread beside that of the log, reads nothing that a caller or the disk says, and does nothing else.

mod begin;
mod end;
mod fdstore;
pub(super) mod oom;
mod program_change;
pub(super) mod progress;
mod reloads;
mod renew;
mod restart;
mod signals;
mod spawn;
pub(super) mod upgrade_socket;
mod watchdog;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};

use crate::crypto::LockedText;
use crate::fs::{Outage, SavedState};
use crate::fuse::Device;

use begin::Begin;
use fdstore::{FdStoreEntry, Note};
use program_change::Upgrade;
use reloads::Reloads;
use renew::number_of;
use restart::Choice;
use signals::Signals;
use spawn::{Event, LaunchConfig, Looks, Server, Started};
use watchdog::Watchdog;

use super::error::DaemonError;
use super::host::connection::Connection;
use super::host::start_notice;
use super::ipc::{Order, Report};
use super::logging::Log;
use super::sandbox::Account;
use super::sandbox::hardening;
use super::settings::Resolved;
use oom::Shortage;
use progress::Progress;

/// Servers that died longer ago than this do not count.
const MINUTE: Duration = Duration::from_secs(60);
/// How long to wait before the next try, if a server died before it served; more after each.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often a server is asked how it is.
const LOOK: Duration = Duration::from_secs(1);

/// Mounts, and sees to it that the mount is served until a signal or an unmount. A mount that the supervisor
/// before left with the service manager is served as if nothing had been, also if the settings are not valid any
/// more: those of before hold then.
pub(super) fn run(settings: Result<Resolved, DaemonError>) -> Result<(), DaemonError> {
    let kept = start_notice::take_kept();
    hardening::keep_descriptors_to_itself()
        .map_err(system("inherited descriptors could not be kept from other processes"))?;
    // Whatever its file is called.
    hardening::name_process(c"secretfs");
    hardening::be_spared();
    hardening::protect_memory()?;
    // Before the key is taken from the environment, which a check of the settings inherits.
    let Choice { settings, fault, ignored } =
        restart::choose(settings, fdstore::settings_of(&kept))?;
    let key = hardening::take_encryption_key().map(|key| LockedText::copy_of(key.as_bytes()));
    // Before the log has a thread: that is not to take them.
    let signals = Signals::new().map_err(system("signals could not be caught"))?;
    let log = Log::start(settings.log_level).map_err(system("the log could not be started"))?;
    if let Some(fault) = &fault {
        tracing::error!("the settings are refused, and those of before hold: {fault}");
    }
    if let Some(why) = ignored {
        tracing::warn!("the settings of before are ignored: {why}");
    }
    hardening::lock_memory(settings.mlock_all)?;
    let found = fdstore::find(kept, &settings.mountpoint)?;
    let account = Account::choose(settings.user.as_deref())?;
    let begin = Begin { settings: &settings, fault, key, account, signals, log };
    let begun = match found {
        Some(found) => begin.with(found)?,
        None => begin.anew()?,
    };
    let Some((mut supervisor, server)) = begun else { return Ok(()) };
    let outcome = match server {
        Ok(Some(server)) => supervisor.hold(server, &settings),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if outcome.is_err() {
        supervisor.give_up()?;
    }
    outcome
}

struct Supervisor {
    plan: LaunchConfig,
    signals: Signals,
    device: Device,
    /// None where it cannot be had.
    connection: Option<Connection>,
    /// What the kernel said first.
    first_request: Vec<u8>,
    path: PathBuf,
    /// The kernel's number of the mount.
    number: Option<String>,
    /// Whether the kernel sends unanswered requests to the next server. Otherwise that gets a new connection.
    resends: bool,
    /// The number of the mount that stays below the one that is served.
    below: Option<String>,
    /// Whether another supervisor made the mount.
    is_heir: bool,
    /// What the next supervisor finds.
    entry: Option<FdStoreEntry>,
    log: Log,
    deaths: VecDeque<Instant>,
    outage: Outage,
    /// Kernel notifiers whose servers are gone.
    leaving: Vec<Child>,
    /// While a new program has yet to show that it serves.
    upgrade: Option<Upgrade>,
    reloads: Reloads,
    /// Why there is no upgrade socket.
    socket_fault: Option<String>,
    shortage: Shortage,
}

impl Supervisor {
    fn new(
        plan: LaunchConfig,
        signals: Signals,
        log: Log,
        device: Device,
        path: PathBuf,
        first_request: Vec<u8>,
    ) -> Self {
        Self {
            plan,
            signals,
            device,
            connection: Connection::to_end_later(&path),
            first_request,
            number: number_of(&path),
            resends: true,
            below: None,
            path,
            is_heir: false,
            entry: None,
            log,
            deaths: VecDeque::new(),
            outage: Outage { since: since_boot(), by_crash: false },
            leaving: Vec::new(),
            upgrade: None,
            reloads: Reloads::default(),
            socket_fault: None,
            shortage: Shortage::new(),
        }
    }

    /// Until a signal or an unmount.
    fn hold(&mut self, mut server: Server, settings: &Resolved) -> Result<(), DaemonError> {
        let mut announced = false;
        let mut somebody_waits = self.is_heir;
        loop {
            let (mut served, mut hung) = (false, false);
            let mut watchdog = Watchdog::new();
            let mut progress = Progress::of(&server.process);
            let serve = Order::Serve { first_request: self.first_request.clone() };
            if let Err(error) = self.plan.connect(&mut server, &self.device, &serve) {
                tracing::debug!(%error, "the server died before it got the mount");
            }
            let mut looks = Looks::new();
            let status = loop {
                let is_looked_at = served || somebody_waits || self.upgrade.is_some();
                self.signals.accepts_requests = served && self.upgrade.is_none();
                let event = server.wait(&self.signals, is_looked_at.then_some(looks.next))?;
                let is_look = is_looked_at && looks.are_due();
                match event {
                    Some(Event::Report(Report::Serving)) => {
                        served = true;
                        watchdog = Watchdog::new();
                        if server.reads_again {
                            server.forward(Signal::SIGHUP);
                        }
                        self.keep_upgrade_socket();
                        if let Some(upgrade) = self.upgrade.take() {
                            tracing::info!(program = %self.plan.program_path.display(), "upgraded");
                            upgrade
                                .requesters
                                .iter()
                                .for_each(|requester| requester.tell(&Ok::<(), String>(())));
                        }
                        self.reloads.ask(&server.control);
                        if !announced {
                            (announced, somebody_waits) = (true, true);
                            self.announce(settings)?;
                        }
                    }
                    Some(Event::Signal(Signal::SIGTERM | Signal::SIGINT)) => {
                        return self.end(server);
                    }
                    Some(Event::Signal(Signal::SIGUSR2)) => {
                        if self.leave_the_mount() {
                            return server.stop();
                        }
                    }
                    Some(Event::Signal(Signal::SIGHUP))
                        if served
                            && self.upgrade.is_none()
                            && self.plan.is_replaced()
                            && self.begin_upgrade(Vec::new()) =>
                    {
                        // The next one reads everything anew.
                        let _ = server.process.kill();
                    }
                    Some(Event::Signal(Signal::SIGHUP)) if !served => server.reads_again = true,
                    Some(Event::Signal(other)) if served => server.forward(other),
                    Some(Event::ServerEnded(status)) => break status,
                    Some(Event::Requests(requesters)) => {
                        if self.take_requests(requesters, &server.control) {
                            // The same as a crash, which callers do not notice.
                            let _ = server.process.kill();
                        }
                    }
                    Some(Event::Report(Report::Keys(texts))) => self.plan.kept = Some(texts),
                    Some(Event::Report(Report::Reloaded(outcome))) => {
                        self.tell_of_reload(outcome, &server.control);
                    }
                    Some(Event::Report(Report::Alive)) => watchdog.hear(false),
                    Some(Event::Report(Report::Stuck)) => watchdog.hear(true),
                    Some(Event::Signal(_) | Event::Report(Report::Ready)) | None => {}
                }
                if is_look && served {
                    watchdog.look(&server.control);
                    self.keep_upgrade_socket();
                    self.note_that_all_is_well();
                } else if is_look && somebody_waits {
                    server.kill_if_idle(&mut progress);
                }
                if let Some(upgrade) = self.upgrade.as_ref().filter(|_| !served)
                    && upgrade.until < Instant::now()
                {
                    // It may have ended by itself.
                    let _ = server.process.kill();
                }
                if watchdog.sees_a_hang(|| self.somebody_waits()) {
                    tracing::error!("the server hangs; it is killed");
                    hung = true;
                    // It may have ended by itself.
                    let _ = server.process.kill();
                    watchdog = Watchdog::new();
                }
            };
            self.signals.accepts_requests = false;
            self.reloads.server_ended();
            // It ends without its server, as soon as it does not wait for a caller any more.
            self.leaving.extend(server.notifier.take());
            self.leaving.retain_mut(|process| matches!(process.try_wait(), Ok(None)));
            // A server that was never ready has answered no caller.
            if served {
                let aborted = status.signal().is_some_and(|signal| signal != libc::SIGKILL);
                self.outage = Outage { since: since_boot(), by_crash: hung || aborted };
            }
            if !self.device.is_mounted() || (!self.resends && !self.is_in_place()) {
                return self.give_up();
            }
            if !somebody_waits {
                // It said why.
                self.give_up()?;
                return refused(status);
            }
            self.free_memory_after(&status);
            let is_wanted = served && self.upgrade.is_some();
            if !is_wanted && !self.give_up_upgrade(&status) {
                tracing::warn!("the server ended ({status}); another one takes over");
            }
            if !self.resends {
                self.renew()?;
            }
            match self.replace(served, is_wanted)? {
                Some(next) => server = next,
                None => return Ok(()),
            }
        }
    }

    /// Starts a server in the place of one that died; none if a signal or an unmount ended the mount before that.
    fn replace(
        &mut self,
        mut served: bool,
        mut is_wanted: bool,
    ) -> Result<Option<Server>, DaemonError> {
        let mut pause = FIRST_PAUSE;
        // A new program reads them anyway.
        let mut reads_keys = false;
        loop {
            if !std::mem::take(&mut is_wanted) {
                self.deaths.push_back(Instant::now());
            }
            while self.deaths.front().is_some_and(|death| death.elapsed() > MINUTE) {
                self.deaths.pop_front();
            }
            if self.deaths.len() > self.plan.crash_limit {
                return Err(DaemonError::GaveUp { times: self.deaths.len() });
            }
            if !served && self.pause(pause)? {
                return Ok(None);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            let until = self.upgrade.as_ref().map(|upgrade| upgrade.until);
            let reads = reads_keys || until.is_some();
            match self.plan.start(&self.signals, Some(self.outage), until, reads)? {
                Started::Ready(server) => return Ok(Some(server)),
                Started::Stopped => {
                    self.give_up()?;
                    return Ok(None);
                }
                // The old program goes on at once.
                Started::Ended(status) if self.give_up_upgrade(&status) => is_wanted = true,
                Started::Ended(status) => {
                    self.free_memory_after(&status);
                    tracing::error!("the next server did not come up ({status})");
                    served = false;
                    // They may have been changed since they were kept.
                    reads_keys = !reads_keys;
                }
            }
        }
    }

    /// If there is not enough memory for what writers have not closed, it is dropped, and they get an error: that is
    /// better than a wait without end.
    fn free_memory_after(&mut self, status: &ExitStatus) {
        if !self.shortage.was_the_end(status) {
            return;
        }
        match SavedState::give_up_buffers(&self.plan.saved_state) {
            Ok(()) => tracing::error!(
                "memory is short: what was written and not closed is lost, and its writers are told"
            ),
            Err(error) => tracing::error!(%error, "memory is short, and none can be given back"),
        }
    }

    /// Whether a request is not answered yet; true if that cannot be determined.
    fn somebody_waits(&self) -> bool {
        let number = self.number.as_deref();
        let minor = number.and_then(|number| number.split_once(':')).map(|(_, minor)| minor);
        let waiting = minor.and_then(|minor| {
            let path = format!("/sys/fs/fuse/connections/{minor}/waiting");
            std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()
        });
        waiting != Some(0)
    }

    /// Waits. Gives whether a signal to stop came, or the mount is gone.
    fn pause(&mut self, time: Duration) -> Result<bool, DaemonError> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if let Some(Signal::SIGTERM | Signal::SIGINT) = self.signals.wait(None, left)?.signal {
                self.give_up()?;
                return Ok(true);
            }
        }
        Ok(!self.device.is_mounted())
    }

    fn announce(&mut self, settings: &Resolved) -> Result<(), DaemonError> {
        // A mount that the next supervisor cannot serve is not left to it.
        if self.resends && !start_notice::is_in_background() {
            self.leave_with_the_manager(settings)
                .map_err(system("the service manager was not told"))?;
        }
        start_notice::leave_session()
            .map_err(system("the session of the caller could not be left"))?;
        tracing::info!(mountpoint = %self.path.display(), "serving");
        self.log.flush();
        // For scripts and people, whatever the form of the log. Standard error may be closed: then the line is not
        // wanted.
        let _ = writeln!(io::stderr(), "mounted at {}", self.path.display());
        start_notice::ready().map_err(system("readiness could not be announced"))
    }

    /// Leaves with the service manager what the next supervisor needs.
    fn leave_with_the_manager(&mut self, settings: &Resolved) -> io::Result<()> {
        let record = restart::record(&restart::flags_of(settings))?;
        fdstore::keep_settings(&record, self.is_heir)?;
        if self.entry.is_none() {
            let note =
                Note::of(&settings.mountpoint, &self.path, self.plan.mount, &self.first_request)?;
            self.entry =
                FdStoreEntry::make(&note, self.device.as_fd(), self.plan.saved_state.as_fd())?;
        }
        Ok(())
    }

    /// For the next supervisor, should this one be killed.
    fn note_that_all_is_well(&self) {
        if let Some(Err(error)) = self.entry.as_ref().map(FdStoreEntry::note_that_all_is_well) {
            tracing::debug!(%error, "the next supervisor will take the mount to be idle for longer");
        }
    }

    /// Whether this supervisor may end and the mount stay, for the one that the service manager starts.
    fn leave_the_mount(&mut self) -> bool {
        self.note_that_all_is_well();
        // The fd store entry stays as well: the service manager is not told to drop it.
        let may = self.entry.is_some();
        if !may {
            tracing::warn!("no service manager keeps the mount; it is not left alone");
        }
        may
    }
}

/// The server has said why it does not serve; its exit code is this program's.
fn refused(status: ExitStatus) -> Result<(), DaemonError> {
    Err(DaemonError::Refused { code: status.code().and_then(|code| u8::try_from(code).ok()) })
}

fn prepared() -> impl FnOnce(io::Error) -> DaemonError {
    system("the server could not be prepared")
}

fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock").into()
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}
