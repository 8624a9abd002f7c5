//! The process that outlives the daemon: it mounts, keeps the kernel's device open, and starts the
//! server again when it dies. Callers notice a short wait, nothing else.
//!
//! It has one thread beside that of the log, reads nothing that a caller or the disk says, and does nothing else.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use zeroize::Zeroizing;

use crate::fs::Shelf;
use crate::fuse::{self, Device};

use super::control::{Control, Order, Report};
use super::error::DaemonError;
use super::logging::Log;
use super::progress::Progress;
use super::sandbox::Account;
use super::settings::Resolved;
use super::shortage::Shortage;
use super::upgrade::{self, Caller, Door};
use super::{hardening, mountpoint, notify};

/// How long callers that have files open may take to close them after an unmount.
const GRACE: Duration = Duration::from_secs(1);
/// Servers that died longer ago than this do not count.
const MINUTE: Duration = Duration::from_secs(60);
/// How long to wait before the next try, if a server died before it served; more after each.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a new program may take until it serves.
const UPGRADE: Duration = Duration::from_secs(30);
/// How often a server is asked how it is.
const LOOK: Duration = Duration::from_secs(1);
/// How many looks it may take to answer while requests wait.
const SILENT_LOOKS: u32 = 5;
/// For how many looks a server that takes over may do nothing at all before it serves.
const IDLE_LOOKS: u32 = 15;
/// How often in a row it must say that it is stuck.
const STUCK_REPORTS: u32 = 2;

/// Mounts, and sees to it that the mount is served until a signal or an unmount.
pub(super) fn run(settings: &Resolved) -> Result<(), DaemonError> {
    hardening::be_spared();
    hardening::protect_memory()?;
    let key = hardening::take_encryption_key();
    // Before the log has a thread: that is not to take them.
    let signals = Signals::new().map_err(system("signals could not be caught"))?;
    let log = Log::start(settings.log_level).map_err(system("the log could not be started"))?;
    hardening::lock_memory(settings.mlock_all)?;
    let path = mountpoint::check(&settings.mountpoint)?;
    let account = Account::choose(settings.user.as_deref())?;
    let plan = Plan::new(settings, &path, key, account)
        .map_err(system("the server could not be prepared"))?;

    // The store is opened before there is a mount: whatever is wrong is told before anybody waits.
    let server = match plan.start(&signals, None, None)? {
        Started::Ready(server) => server,
        Started::Ended(status) => return refused(status),
        Started::Stopped => return Ok(()),
    };
    mountpoint::make(&path)?;
    let device =
        Device::mount(&path).map_err(|source| DaemonError::Mount { path: path.clone(), source })?;
    let mut holder = Holder {
        plan,
        signals,
        device,
        path,
        log,
        deaths: VecDeque::new(),
        down_since: since_boot(),
        leaving: Vec::new(),
        upgrade: None,
        shortage: Shortage::new(),
    };
    let outcome = holder.hold(server);
    if outcome.is_err() {
        holder.unmount()?;
    }
    outcome
}

/// How servers are started.
struct Plan {
    /// This program, even if its file is replaced.
    program: File,
    /// Where it came from.
    program_path: PathBuf,
    arguments: Vec<std::ffi::OsString>,
    key: Option<Zeroizing<String>>,
    /// Whom the server and the messenger become.
    account: Option<Account>,
    /// Tells this mount from others that the store served.
    mount: u64,
    shelf: OwnedFd,
    crash_limit: usize,
}

struct Server {
    process: Child,
    control: Control,
    messenger: Option<Child>,
}

enum Started {
    /// It has opened the store, and waits for the device.
    Ready(Server),
    /// It said why on standard error.
    Ended(ExitStatus),
    /// A signal came that ends everything.
    Stopped,
}

struct Holder {
    plan: Plan,
    signals: Signals,
    device: Device,
    path: PathBuf,
    log: Log,
    deaths: VecDeque<Instant>,
    down_since: Duration,
    /// Messengers whose servers are gone.
    leaving: Vec<Child>,
    /// While a new program has yet to show that it serves.
    upgrade: Option<Upgrade>,
    shortage: Shortage,
}

struct Upgrade {
    caller: Caller,
    /// The program before.
    previous: File,
    until: Instant,
}

/// Why the holder stops waiting.
enum Event {
    Signal(Signal),
    ServerEnded(ExitStatus),
    Report(Report),
    Upgrade(Caller),
}

impl Plan {
    fn new(
        settings: &Resolved,
        path: &Path,
        key: Option<Zeroizing<String>>,
        account: Option<Account>,
    ) -> io::Result<Self> {
        let mut mount = [0; 8];
        getrandom::fill(&mut mount).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self {
            program: File::open("/proc/self/exe")?,
            program_path: std::env::current_exe()?,
            arguments: settings.to_flags_for(path),
            key,
            account,
            mount: u64::from_le_bytes(mount),
            shelf: memfd_create(c"secretfs-shelf", MFdFlags::MFD_CLOEXEC)?,
            crash_limit: settings.crash_limit,
        })
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        command.arg0(notify::PROGRAM).arg(what).env_remove(notify::SOCKET);
        command
    }

    fn spawn(&self, command: &mut Command) -> io::Result<(Child, Control)> {
        let (control, theirs) = Control::pair()?;
        Ok((command.stdin(Stdio::from(theirs)).spawn()?, control))
    }

    /// Starts a messenger for a server, and lets both of them have the device.
    fn connect(&self, server: &mut Server, device: &Device, order: &Order) -> io::Result<()> {
        let (process, control) = self.spawn(&mut self.command("notify"))?;
        server.messenger = Some(process);
        let [a, b, c] = fuse::lines()?;
        let (device, serves) = (device.as_fd(), [a.0.as_fd(), b.0.as_fd(), c.0.as_fd()]);
        let pass_on = Order::PassOn { account: self.account.clone() };
        control.send(&pass_on, &[device, a.1.as_fd(), b.1.as_fd(), c.1.as_fd()])?;
        server.control.send(order, &[&[device], &serves[..]].concat())
    }

    /// Starts a server and waits until it has opened the store.
    fn start(
        &self,
        signals: &Signals,
        down_since: Option<Duration>,
        until: Option<Instant>,
    ) -> Result<Started, DaemonError> {
        let failed = || system("the server could not be started");
        let (process, control) =
            self.spawn(self.command("serve").args(&self.arguments)).map_err(failed())?;
        let order = Order::Prepare {
            key: self.key.as_deref().cloned(),
            mount: self.mount,
            down_since,
            account: self.account.clone(),
        };
        if let Err(error) = control.send(&order, &[self.shelf.as_fd()]) {
            tracing::debug!(%error, "the server died before it was told what to do");
        }
        let mut progress = Progress::of(&process);
        let mut server = Server { process, control, messenger: None };
        // Nobody waits for the first one but whoever mounts.
        let somebody_waits = down_since.is_some();
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                // It may have ended by itself.
                let _ = server.process.kill();
            }
            let time = somebody_waits.then(|| left.map_or(LOOK, |left| left.min(LOOK)));
            match server.wait(signals, time)? {
                None if somebody_waits => server.kill_if_idle(&mut progress),
                Some(Event::Report(Report::Ready)) => return Ok(Started::Ready(server)),
                Some(Event::ServerEnded(status)) => return Ok(Started::Ended(status)),
                Some(Event::Signal(Signal::SIGTERM | Signal::SIGINT)) => {
                    server.stop()?;
                    return Ok(Started::Stopped);
                }
                // It reads everything anew anyway.
                Some(Event::Signal(_) | Event::Report(_) | Event::Upgrade(_)) | None => {}
            }
        }
    }
}

impl Server {
    /// Waits until something happens; nothing if the time is over before.
    fn wait(
        &mut self,
        signals: &Signals,
        time: Option<Duration>,
    ) -> Result<Option<Event>, DaemonError> {
        let lost = || system("the server was lost");
        if let Some(status) = self.process.try_wait().map_err(lost())? {
            return Ok(Some(Event::ServerEnded(status)));
        }
        let wakeup = signals.wait(Some(&self.control), time.unwrap_or(MINUTE))?;
        if let Some(signal) = wakeup.signal.filter(|&signal| signal != Signal::SIGCHLD) {
            return Ok(Some(Event::Signal(signal)));
        }
        if let Some(caller) = wakeup.caller {
            return Ok(Some(Event::Upgrade(caller)));
        }
        if !wakeup.message {
            return Ok(None);
        }
        match self.control.receive().map_err(lost())? {
            Some((report, _)) => Ok(Some(Event::Report(report))),
            // It is dying.
            None => self.process.wait().map(Event::ServerEnded).map(Some).map_err(lost()),
        }
    }

    fn stop(mut self) -> Result<(), DaemonError> {
        // It may have ended by itself.
        let _ = self.process.kill();
        self.process.wait().map(drop).map_err(system("the server was lost"))
    }

    /// Takes one look at a server that does not serve yet.
    fn kill_if_idle(&mut self, progress: &mut Progress) {
        if progress.look() == IDLE_LOOKS {
            tracing::error!("the server that is to take over hangs; it is killed");
            // It may have ended by itself.
            let _ = self.process.kill();
        }
    }

    fn forward(&self, signal: Signal) {
        let process = i32::try_from(self.process.id()).expect("Linux's ids fit");
        if let Err(error) = kill(Pid::from_raw(process), signal) {
            tracing::debug!(%error, "a signal came while no server ran");
        }
    }
}

/// Notices a server that hangs: it does not answer its holder while requests wait, or says itself that
/// one of its requests does not come to an end. A disk or a name service that is slow is no reason: the
/// server answers all the same, and knows whom it waits for.
struct Watchdog {
    is_asked: bool,
    /// How often the holder has looked in vain since it asked. No clock: a machine that was suspended
    /// is not a server that hangs.
    silent: u32,
    /// How often in a row the server said that it is stuck.
    stuck: u32,
}

impl Watchdog {
    fn new() -> Self {
        Self { is_asked: false, silent: 0, stuck: 0 }
    }

    fn hear(&mut self, stuck: bool) {
        (self.is_asked, self.silent) = (false, 0);
        self.stuck = if stuck { self.stuck + 1 } else { 0 };
    }

    /// Nothing happened for the time of a look. Asks, one question at a time: a server that does not
    /// read must not make this process wait.
    fn look(&mut self, control: &Control) {
        if std::mem::replace(&mut self.is_asked, true) {
            self.silent += 1;
        } else if let Err(error) = control.send(&Order::Ask, &[]) {
            tracing::debug!(%error, "the server died before it was asked");
        }
    }

    fn sees_a_hang(&self, somebody_waits: impl FnOnce() -> bool) -> bool {
        self.stuck >= STUCK_REPORTS || (self.silent >= SILENT_LOOKS && somebody_waits())
    }
}

impl Holder {
    /// Opens the door, unless it is. Its name may still be that of a mount that is just ending: then
    /// it is tried again at the next look.
    fn open_door(&mut self) {
        if self.signals.door.is_none() {
            self.signals.door = Door::open(&self.path)
                .inspect_err(|error| tracing::debug!(%error, "nobody can knock yet"))
                .ok();
        }
    }

    /// Until a signal or an unmount.
    fn hold(&mut self, mut server: Server) -> Result<(), DaemonError> {
        let lost = || system("the mount was lost");
        let first_request = self.device.first_request().map_err(lost())?;
        let serve = Order::Serve { first_request };
        let mut announced = false;
        loop {
            let mut served = false;
            let mut watchdog = Watchdog::new();
            let mut progress = Progress::of(&server.process);
            if let Err(error) = self.plan.connect(&mut server, &self.device, &serve) {
                tracing::debug!(%error, "the server died before it got the mount");
            }
            let status = loop {
                let looks = served || announced || self.upgrade.is_some();
                self.signals.answers_door = served && self.upgrade.is_none();
                match server.wait(&self.signals, looks.then_some(LOOK))? {
                    Some(Event::Report(Report::Serving)) => {
                        served = true;
                        watchdog = Watchdog::new();
                        self.open_door();
                        if let Some(upgrade) = self.upgrade.take() {
                            tracing::info!(program = %self.plan.program_path.display(), "upgraded");
                            upgrade.caller.tell(&Ok(()));
                        }
                        if !announced {
                            announced = true;
                            self.announce()?;
                        }
                    }
                    Some(Event::Signal(Signal::SIGTERM | Signal::SIGINT)) => {
                        return self.end(server);
                    }
                    Some(Event::Signal(other)) => server.forward(other),
                    Some(Event::ServerEnded(status)) => break status,
                    Some(Event::Upgrade(caller)) => {
                        if self.begin_upgrade(caller) {
                            // As good as a crash, which nobody notices.
                            let _ = server.process.kill();
                        }
                    }
                    Some(Event::Report(Report::Alive)) => watchdog.hear(false),
                    Some(Event::Report(Report::Stuck)) => watchdog.hear(true),
                    None if served => watchdog.look(&server.control),
                    None if announced => server.kill_if_idle(&mut progress),
                    Some(Event::Report(Report::Ready)) | None => {}
                }
                if served {
                    self.open_door();
                }
                if let Some(upgrade) = self.upgrade.as_ref().filter(|_| !served)
                    && upgrade.until < Instant::now()
                {
                    // It may have ended by itself.
                    let _ = server.process.kill();
                }
                if watchdog.sees_a_hang(|| self.somebody_waits()) {
                    tracing::error!("the server hangs; it is killed");
                    // It may have ended by itself.
                    let _ = server.process.kill();
                    watchdog = Watchdog::new();
                }
            };
            self.signals.answers_door = false;
            // It ends without its server, as soon as it does not wait for a caller any more.
            self.leaving.extend(server.messenger.take());
            self.leaving.retain_mut(|process| matches!(process.try_wait(), Ok(None)));
            // A server that did not come so far has told nobody anything.
            if served {
                self.down_since = since_boot();
            }
            if !self.device.is_mounted() {
                return Ok(());
            }
            if !announced {
                // It said why.
                self.unmount()?;
                return refused(status);
            }
            self.free_memory_after(&status);
            let is_wanted = served && self.upgrade.is_some();
            if !is_wanted && !self.give_up_upgrade(&status) {
                tracing::warn!("the server ended ({status}); another one takes over");
            }
            match self.replace(served, is_wanted)? {
                Some(next) => server = next,
                None => return Ok(()),
            }
        }
    }

    /// A server in the place of one that died; none if the end came meanwhile.
    fn replace(
        &mut self,
        mut served: bool,
        mut is_wanted: bool,
    ) -> Result<Option<Server>, DaemonError> {
        let mut pause = FIRST_PAUSE;
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
            match self.plan.start(&self.signals, Some(self.down_since), until)? {
                Started::Ready(server) => return Ok(Some(server)),
                Started::Stopped => {
                    self.unmount()?;
                    return Ok(None);
                }
                // The old program goes on at once.
                Started::Ended(status) if self.give_up_upgrade(&status) => is_wanted = true,
                Started::Ended(status) => {
                    self.free_memory_after(&status);
                    tracing::error!("the next server did not come up ({status})");
                    served = false;
                }
            }
        }
    }

    /// Where there is not enough memory for what writers have not closed, they are told that it is lost:
    /// an error beats a wait without end.
    fn free_memory_after(&mut self, status: &ExitStatus) {
        if !self.shortage.was_the_end(status) {
            return;
        }
        match Shelf::give_up_buffers(&self.plan.shelf) {
            Ok(()) => tracing::error!(
                "memory is short: what was written and not closed is lost, and its writers are told"
            ),
            Err(error) => tracing::error!(%error, "memory is short, and none can be given back"),
        }
    }

    /// Takes the program that is where this one came from. Whether the server is to make way for it.
    fn begin_upgrade(&mut self, caller: Caller) -> bool {
        match upgrade::try_out(&self.plan.program_path) {
            Ok(program) => {
                let previous = std::mem::replace(&mut self.plan.program, program);
                let until = Instant::now() + UPGRADE;
                self.upgrade = Some(Upgrade { caller, previous, until });
                true
            }
            Err(why) => {
                caller.tell(&Err(why));
                false
            }
        }
    }

    /// Goes back to the program before, if the one that ended was to show that it serves.
    fn give_up_upgrade(&mut self, status: &ExitStatus) -> bool {
        let Some(upgrade) = self.upgrade.take() else { return false };
        self.plan.program = upgrade.previous;
        let why = format!("the new program did not serve ({status}); the log tells why");
        tracing::error!("not upgraded: {why}");
        upgrade.caller.tell(&Err(why));
        true
    }

    /// Whether a request is not answered yet. Where that cannot be told, one may be.
    fn somebody_waits(&self) -> bool {
        let number = mountpoint::device_number(&self.path).ok().flatten();
        let minor =
            number.as_deref().and_then(|number| number.split_once(':')).map(|(_, minor)| minor);
        let waiting = minor.and_then(|minor| {
            let path = format!("/sys/fs/fuse/connections/{minor}/waiting");
            std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()
        });
        waiting != Some(0)
    }

    /// Waits. Whether the end came meanwhile.
    fn pause(&mut self, time: Duration) -> Result<bool, DaemonError> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if let Some(Signal::SIGTERM | Signal::SIGINT) = self.signals.wait(None, left)?.signal {
                self.unmount()?;
                return Ok(true);
            }
        }
        Ok(!self.device.is_mounted())
    }

    fn announce(&self) -> Result<(), DaemonError> {
        tracing::info!(mountpoint = %self.path.display(), "serving");
        self.log.flush();
        // For scripts and people, whatever the form of the log. Whoever closed standard error does
        // not want to know.
        let _ = writeln!(io::stderr(), "mounted at {}", self.path.display());
        notify::ready().map_err(system("readiness could not be announced"))
    }

    /// Unmounts, and waits a moment for those who have files open. What they closed is stored; what
    /// they did not close was never promised.
    fn end(&self, mut server: Server) -> Result<(), DaemonError> {
        self.unmount()?;
        let deadline = Instant::now() + GRACE;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            if let Some(Event::ServerEnded(_)) = server.wait(&self.signals, Some(left))? {
                return Ok(());
            }
        }
        tracing::info!("some files are still open; they end with the daemon");
        // As long as the messenger waits for a caller, that caller must be answered.
        if let Some(mut messenger) = server.messenger.take() {
            // It may have ended by itself.
            let _ = messenger.kill();
            let deadline = Instant::now() + GRACE;
            while matches!(messenger.try_wait(), Ok(None)) && Instant::now() < deadline {
                self.signals.wait(None, FIRST_PAUSE)?;
            }
        }
        server.stop()
    }

    /// Unmounts even if the mount is in use: a daemon that was told to stop stops.
    fn unmount(&self) -> Result<(), DaemonError> {
        if !self.device.is_mounted() {
            return Ok(());
        }
        mountpoint::take_down(&self.path)
    }
}

/// The server has said why it does not serve; its exit code is this program's.
fn refused(status: ExitStatus) -> Result<(), DaemonError> {
    Err(DaemonError::Refused { code: status.code().and_then(|code| u8::try_from(code).ok()) })
}

fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock").into()
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}

struct Signals {
    signals: SignalFd,
    door: Option<Door>,
    /// Whoever knocks while there is no server to replace waits until there is one.
    answers_door: bool,
}

struct Wakeup {
    signal: Option<Signal>,
    caller: Option<Caller>,
    message: bool,
}

impl Signals {
    /// Signals are read in turn with all else, so that nothing happens in between.
    fn new() -> io::Result<Self> {
        let caught =
            [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGCHLD];
        let mask: SigSet = caught.into_iter().collect();
        mask.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&mask, flags)?;
        Ok(Self { signals, door: None, answers_door: false })
    }

    /// Waits for a signal or a message, at most that long.
    fn wait(&self, control: Option<&Control>, time: Duration) -> Result<Wakeup, DaemonError> {
        let failed = || system("waiting for signals failed");
        let mut sources = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let door = self.door.as_ref().filter(|_| self.answers_door);
        sources.extend(door.map(|door| PollFd::new(door.as_fd(), PollFlags::POLLIN)));
        let others = sources.len();
        sources.extend(control.map(|control| PollFd::new(control.as_fd(), PollFlags::POLLIN)));
        // Rounded up: to be early would mean to wait for nothing.
        let time =
            PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut sources, time) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(failed()(error.into())),
        }
        let is_due = |source: &PollFd<'_>| source.any().unwrap_or(false);
        let message = sources.get(others).is_some_and(is_due);
        let signal = self.signals.read_signal().map_err(|error| failed()(error.into()))?;
        let signal = signal
            .and_then(|info| i32::try_from(info.ssi_signo).ok())
            .and_then(|number| Signal::try_from(number).ok());
        // One thing at a time.
        let caller = match signal {
            None | Some(Signal::SIGCHLD) => door.and_then(Door::knock),
            Some(_) => None,
        };
        Ok(Wakeup { signal, caller, message })
    }
}
