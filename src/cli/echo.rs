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
pub(super) struct EchoGuard(Vec<(Signal, SigAction)>);

impl EchoGuard {
    /// None where there is no terminal.
    pub(super) fn of_terminal() -> Option<Self> {
        let terminal = File::open("/dev/tty").ok()?;
        let settings = tcgetattr(&terminal).ok()?.into();
        _ = TERMINAL.set((terminal, settings));
        Some(Self(SIGNALS.into_iter().filter_map(handle).collect()))
    }
}

impl Drop for EchoGuard {
    fn drop(&mut self) {
        for (signal, before) in &self.0 {
            // SAFETY: the action was there before.
            _ = unsafe { sigaction(*signal, before) };
        }
    }
}

/// Gives what the signal did before; nothing if it is ignored (`nohup`) and stays so.
fn handle(signal: Signal) -> Option<(Signal, SigAction)> {
    // The default comes back before the handler runs, so that it can raise the signal again.
    let handler = SigHandler::Handler(restore);
    let action = SigAction::new(handler, SaFlags::SA_RESETHAND, SigSet::empty());
    // SAFETY: `restore` calls only what is async-signal-safe.
    let before = unsafe { sigaction(signal, &action) }.ok()?;
    if matches!(before.handler(), SigHandler::SigIgn) {
        // SAFETY: the action was there before.
        _ = unsafe { sigaction(signal, &before) };
        return None;
    }
    Some((signal, before))
}

extern "C" fn restore(signal: libc::c_int) {
    if let Some((terminal, settings)) = TERMINAL.get() {
        // SAFETY: the descriptor stays open for ever, the settings are what tcgetattr gave.
        unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, settings) };
    }
    // SAFETY: it takes a number and touches no memory.
    unsafe { libc::raise(signal) };
}
