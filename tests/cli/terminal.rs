//! A command in front of a real terminal: a pseudo-terminal of its own, with a size.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::harness::{Person, eventually};
use crate::kit::Cli;

/// A line of bash that runs as somebody's session on a terminal.
pub(crate) struct Terminal {
    process: Child,
    master: File,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts the line on a terminal of so many columns.
    pub(crate) fn run(cli: &Cli, person: Person, columns: u16, line: &str) -> Self {
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).expect("a pseudo-terminal");
        for side in [&pty.master, &pty.slave] {
            nix::unistd::fchown(side, Some(person.uid.into()), None).ok();
        }
        let mut command = cli.command(person, "bash");
        let side = || pty.slave.try_clone().expect("a descriptor is left");
        command.args(["-c", line]).env("TERM", "xterm-256color");
        command.stdin(side()).stdout(side()).stderr(Stdio::from(side()));
        // SAFETY: these calls are async-signal-safe and touch no memory of ours.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                // A test run in the background ignores some of these, and so would its children.
                for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
                Ok(())
            });
        }
        let process = command.spawn().expect("bash is there");
        drop((command, pty.slave));
        let shown = Arc::new(Mutex::new(Vec::new()));
        let reader = listen(&pty.master, Arc::clone(&shown));
        Self { process, master: pty.master.into(), shown, reader: Some(reader) }
    }

    /// What has been shown so far; lines end in `\n`.
    pub(crate) fn shown(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).replace("\r\n", "\n")
    }

    /// Waits until this is on the screen.
    #[track_caller]
    pub(crate) fn expect(&self, text: &str) {
        eventually(&format!("`{text}` on the terminal"), || self.shown().contains(text));
    }

    /// Waits until this is asked for and what is typed is hidden.
    #[track_caller]
    pub(crate) fn expect_question(&self, text: &str) {
        self.expect(text);
        eventually("the echo is off", || !self.echoes());
    }

    /// Types.
    pub(crate) fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("the terminal is open");
    }

    /// Whether what is typed is shown.
    pub(crate) fn echoes(&self) -> bool {
        let settings = tcgetattr(self.master.as_fd()).expect("it is a terminal");
        settings.local_flags.contains(LocalFlags::ECHO)
    }

    /// Waits for the end; gives the exit code, or minus the signal, and everything that was shown.
    #[track_caller]
    pub(crate) fn end(mut self) -> (i32, String) {
        use std::os::unix::process::ExitStatusExt;
        let mut status = None;
        eventually("the command ends", || {
            status = self.process.try_wait().expect("it is our child");
            status.is_some()
        });
        let status = status.expect("it ended");
        self.reader.take().map(JoinHandle::join);
        (status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)), self.shown())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Collects what is shown until the last user of the terminal has gone.
fn listen(master: &OwnedFd, shown: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let mut master = File::from(master.try_clone().expect("a descriptor is left"));
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = master.read(&mut chunk) {
            shown.lock().unwrap_or_else(PoisonError::into_inner).extend(&chunk[..length]);
        }
    })
}
