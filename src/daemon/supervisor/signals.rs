//! What the supervisor waits for: signals, its server, and requests for an upgrade.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::system;
use super::upgrade_socket::{Requester, UpgradeSocket};
use crate::daemon::error::DaemonError;
use crate::daemon::host::start_notice::Heart;
use crate::daemon::ipc::Control;

/// How long requests for an upgrade wait after others were accepted: a flood of them must not occupy the
/// supervisor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long after an upgrade was asked for.
const UPGRADE_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Signals {
    heart: Heart,
    signals: SignalFd,
    pub(super) upgrade_socket: Option<UpgradeSocket>,
    /// Requests wait while there is no server to replace.
    pub(super) accepts_requests: bool,
    next_accept: Cell<Instant>,
    /// Whether the last event was a signal: a message goes before the next one.
    was_signal: Cell<bool>,
}

/// What there is; nothing, if the time is over or the wake-up had no content.
#[derive(Default)]
pub(super) struct Wakeup {
    pub(super) signal: Option<Signal>,
    pub(super) requesters: Vec<Requester>,
    pub(super) message: bool,
}

impl Signals {
    /// Signals are read in turn with all else, so that nothing happens in between.
    pub(super) fn new() -> io::Result<Self> {
        let caught = [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGCHLD,
        ];
        let mask: SigSet = caught.into_iter().collect();
        mask.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&mask, flags)?;
        Ok(Self {
            heart: Heart::new(),
            signals,
            upgrade_socket: None,
            accepts_requests: false,
            next_accept: Cell::new(Instant::now()),
            was_signal: Cell::new(false),
        })
    }

    /// Waits for a signal, a message or a request for an upgrade, at most that long. Gives one of them.
    pub(super) fn wait(
        &self,
        control: Option<&Control>,
        mut time: Duration,
    ) -> Result<Wakeup, DaemonError> {
        self.heart.beat();
        let failed = || system("waiting for signals failed");
        let mut sources = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        sources.extend(control.map(|control| PollFd::new(control.as_fd(), PollFlags::POLLIN)));
        let others = sources.len();
        let mut socket = self.upgrade_socket.as_ref().filter(|_| self.accepts_requests);
        if let Some(accepting) = socket {
            // They are looked at again in turn.
            if accepting.is_listening() {
                time = time.min(ACCEPT_PAUSE);
            }
            let pause = self.next_accept.get().saturating_duration_since(Instant::now());
            if !pause.is_zero() {
                (socket, time) = (None, time.min(pause));
            }
        }
        sources.extend(socket.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        // Rounded up: to be early would mean to wait for nothing.
        let time =
            PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut sources, time) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => return Ok(Wakeup::default()),
            Err(error) => return Err(failed()(error.into())),
        }
        let is_due = |source: &PollFd<'_>| source.any().unwrap_or(false);
        let message = control.is_some() && sources.get(1).is_some_and(is_due);
        // In turn, so that neither of them can hold up the other.
        if message && self.was_signal.replace(false) {
            return Ok(Wakeup { message, ..Wakeup::default() });
        }
        let signal = self.signals.read_signal().map_err(|error| failed()(error.into()))?;
        let signal = signal
            .and_then(|info| i32::try_from(info.ssi_signo).ok())
            .and_then(|number| Signal::try_from(number).ok());
        if signal.is_some() {
            self.was_signal.set(true);
            return Ok(Wakeup { signal, ..Wakeup::default() });
        }
        let mut wakeup = Wakeup { message, ..Wakeup::default() };
        if let Some(socket) = socket
            && !message
            && (socket.is_listening() || sources.get(others).is_some_and(is_due))
        {
            wakeup.requesters = socket.accept();
            let pause = if wakeup.requesters.is_empty() { ACCEPT_PAUSE } else { UPGRADE_PAUSE };
            self.next_accept.set(Instant::now() + pause);
        }
        Ok(wakeup)
    }
}
