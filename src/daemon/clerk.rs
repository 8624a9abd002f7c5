//! The process that looks up for the server what lies outside: users and groups, which may take
//! sockets and any file, and the few files that are named at the start, which may be root's alone.
//!
//! The server hears callers, and so may open neither. The clerk hears the server alone, and all that a
//! server that was taken over could ask it for is what servers are told anyway.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::identity::{Directory, Group, Lookup, Nss, NssError, User};
use crate::telemetry::pulse;

use super::control::Control;
use super::error::DaemonError;
use super::hardening;
use super::sandbox::{self, Account, Calls, Files, Needs};

/// How many questions are answered at a time: a slow name service holds up one of them.
const LINES: usize = 4;
/// What the name of its subcommand is.
const COMMAND: &str = "look-up";

/// Said to the clerk first. Brings the lines.
#[derive(Serialize, Deserialize)]
struct Begin {
    account: Option<Account>,
    /// What it may open.
    files: Vec<PathBuf>,
}

#[derive(Serialize, Deserialize)]
enum Question {
    User(u32),
    UserByName(String),
    Groups(User),
    /// The answer brings the file.
    Open(PathBuf),
}

#[derive(Serialize, Deserialize)]
enum Answer {
    User(Result<Option<User>, Failure>),
    UserByName(Result<Option<u32>, Failure>),
    Groups(Result<Vec<Group>, Failure>),
    Open(Result<(), i32>),
}

#[derive(Serialize, Deserialize)]
struct Failure {
    lookup: Lookup,
    errno: i32,
}

/// The server's end of it.
#[derive(Clone)]
pub(super) struct Clerk(Arc<[Mutex<Control>; LINES]>);

impl Clerk {
    /// Starts the process. It ends with this one.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(account: Option<&Account>, files: Vec<PathBuf>) -> io::Result<Self> {
        let control = Control::with_new_process(COMMAND)?;
        let mut lines = Vec::with_capacity(LINES);
        let mut ends = Vec::with_capacity(LINES);
        for _ in 0..LINES {
            let (line, end) = Control::pair()?;
            lines.push(Mutex::new(line));
            ends.push(end);
        }
        let ends: Vec<_> = ends.iter().map(AsFd::as_fd).collect();
        control.send(&Begin { account: account.cloned(), files }, &ends)?;
        let lines = <[_; LINES]>::try_from(lines).map_err(|_| io::ErrorKind::Other)?;
        Ok(Self(Arc::new(lines)))
    }

    /// Opens one of the files that were named at the start.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        match self.ask(&Question::Open(path.to_owned())) {
            (Answer::Open(Ok(())), Some(file)) => Ok(file.into()),
            (Answer::Open(Err(errno)), _) => Err(io::Error::from_raw_os_error(errno)),
            _ => gone(),
        }
    }

    fn ask(&self, question: &Question) -> (Answer, Option<OwnedFd>) {
        // A name service may take its time.
        let _waiting = pulse::waiting();
        // One that nobody waits at, or else any.
        let line = self.0.iter().find_map(Mutex::try_lock).unwrap_or_else(|| self.0[0].lock());
        match line.send(question, &[]).and_then(|()| line.receive()) {
            Ok(Some((answer, mut files))) => (answer, files.pop()),
            Ok(None) | Err(_) => gone(),
        }
    }
}

/// Without its clerk this process cannot tell who anybody is: it ends, and another one takes over.
fn gone() -> ! {
    tracing::error!("the process that looks up users is gone; this server ends");
    std::process::abort();
}

impl Directory for Clerk {
    fn user_by_uid(&self, uid: u32) -> Result<Option<User>, NssError> {
        match self.ask(&Question::User(uid)).0 {
            Answer::User(found) => found.map_err(NssError::from),
            _ => gone(),
        }
    }

    fn uid_by_name(&self, name: &str) -> Result<Option<u32>, NssError> {
        match self.ask(&Question::UserByName(name.to_owned())).0 {
            Answer::UserByName(found) => found.map_err(NssError::from),
            _ => gone(),
        }
    }

    fn groups_of(&self, user: &User) -> Result<Vec<Group>, NssError> {
        match self.ask(&Question::Groups(user.clone())).0 {
            Answer::Groups(found) => found.map_err(NssError::from),
            _ => gone(),
        }
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        Self::open(self, path)
    }
}

impl From<Failure> for NssError {
    fn from(Failure { lookup, errno }: Failure) -> Self {
        Self { lookup, errno: Errno::from_raw(errno) }
    }
}

impl From<NssError> for Failure {
    fn from(NssError { lookup, errno }: NssError) -> Self {
        Self { lookup, errno: errno as i32 }
    }
}

/// Answers until the server is gone.
pub(super) fn run() -> Result<(), DaemonError> {
    hardening::protect_memory()?;
    let failed = |source| DaemonError::System { what: "the server cannot be understood", source };
    let control = super::server::take_control()?;
    let Some((Begin { account, files }, lines)) = control.receive().map_err(failed)? else {
        return Err(DaemonError::NoHolder);
    };
    // Name services read and connect to what they like. They write nothing.
    let everything = Files { readable: vec!["/".into()], network: true, ..Files::default() };
    sandbox::enter(&Needs {
        account: account.as_ref(),
        reads_all: true,
        files: everything,
        calls: Calls::Others,
        ..Needs::default()
    })?;
    // A look-up may last longer than the server does.
    set_pdeathsig(Signal::SIGKILL).map_err(|error| failed(error.into()))?;
    let files: Arc<[PathBuf]> = files.into();
    let threads = lines.into_iter().map(|line| {
        let (line, files) = (Control::from_fd(line), Arc::clone(&files));
        std::thread::Builder::new().name("line".to_owned()).spawn(move || answer_all(&line, &files))
    });
    let threads: Vec<_> = threads.collect::<io::Result<_>>().map_err(failed)?;
    threads.into_iter().map(JoinHandle::join).for_each(drop);
    Ok(())
}

fn answer_all(line: &Control, files: &[PathBuf]) {
    while let Ok(Some((question, _))) = line.receive() {
        let (answer, file) = answer(question, files);
        let file = file.as_ref().map(AsFd::as_fd);
        // The server is gone, or about to be: so is this one's purpose.
        if line.send(&answer, file.as_slice()).is_err() {
            return;
        }
    }
}

fn answer(question: Question, files: &[PathBuf]) -> (Answer, Option<File>) {
    let found = match question {
        Question::User(uid) => Answer::User(Nss.user_by_uid(uid).map_err(Failure::from)),
        Question::UserByName(name) => {
            Answer::UserByName(Nss.uid_by_name(&name).map_err(Failure::from))
        }
        Question::Groups(user) => Answer::Groups(Nss.groups_of(&user).map_err(Failure::from)),
        Question::Open(path) => {
            let opened = match files.contains(&path) {
                true => File::open(&path),
                false => Err(Errno::EACCES.into()),
            };
            return match opened {
                Ok(file) => (Answer::Open(Ok(())), Some(file)),
                Err(error) => (Answer::Open(Err(errno(&error))), None),
            };
        }
    };
    (found, None)
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::EIO as i32)
}
