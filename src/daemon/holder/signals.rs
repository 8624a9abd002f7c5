//! What the holder waits for: signals, its server, and who knocks at its door.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::super::control::Control;
use super::super::error::DaemonError;
use super::super::notify::Heart;
use super::super::upgrade::{Caller, Door};
use super::system;

pub(super) struct Signals {
    heart: Heart,
    signals: SignalFd,
    pub(super) door: Option<Door>,
    /// Whoever knocks while there is no server to replace waits until there is one.
    pub(super) answers_door: bool,
}

pub(super) struct Wakeup {
    pub(super) signal: Option<Signal>,
    pub(super) caller: Option<Caller>,
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
        Ok(Self { heart: Heart::new(), signals, door: None, answers_door: false })
    }

    /// Waits for a signal or a message, at most that long.
    pub(super) fn wait(
        &self,
        control: Option<&Control>,
        time: Duration,
    ) -> Result<Wakeup, DaemonError> {
        self.heart.beat();
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
