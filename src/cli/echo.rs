//! A terminal whose echo is off gets it back, also when a signal ends the program meanwhile.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::termios::tcgetattr;

/// What ends a program that waits for somebody to type.
const SIGNALS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// The terminal and its settings as they were, for the handler.
static TERMINAL: OnceLock<(File, libc::termios)> = OnceLock::new();

/// While it lives, these signals restore the terminal before they end the program.
pub(super) struct EchoGuard(());

impl EchoGuard {
    /// None where there is no terminal.
    pub(super) fn of_terminal() -> Option<Self> {
        let terminal = File::open("/dev/tty").ok()?;
        let settings = tcgetattr(&terminal).ok()?.into();
        _ = TERMINAL.set((terminal, settings));
        handle(SigHandler::Handler(restore));
        Some(Self(()))
    }
}

impl Drop for EchoGuard {
    fn drop(&mut self) {
        handle(SigHandler::SigDfl);
    }
}

fn handle(handler: SigHandler) {
    // The default comes back before the handler runs, so that it can raise the signal again.
    let action = SigAction::new(handler, SaFlags::SA_RESETHAND, SigSet::empty());
    for signal in SIGNALS {
        // SAFETY: `restore` calls only what is async-signal-safe.
        _ = unsafe { sigaction(signal, &action) };
    }
}

extern "C" fn restore(signal: libc::c_int) {
    if let Some((terminal, settings)) = TERMINAL.get() {
        // SAFETY: the descriptor stays open for ever, the settings are what tcgetattr gave.
        unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, settings) };
    }
    // SAFETY: it takes a number and touches no memory.
    unsafe { libc::raise(signal) };
}
