//! The process that looks up for the server what is outside its sandbox: users and groups, which may take sockets and
//! any file, and the few files that are named at the start, which may be root's alone.
//!
//! The server receives requests of callers, and so may open neither. This process receives from the server alone. A
//! compromised server can ask it only for what servers get anyway.
//!
//! A name service may be slow, keep other questions waiting (some have one lock for a whole process), never answer,
//! or crash. So each question is asked by a child of this process that does nothing else at that time. The server
//! asks for as many children as it has questions at a time. One that has worked on a question for
//! [`QUESTION_TIMEOUT`] is killed by the kernel, which is an error for that question.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, signal as handle};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::{ForkResult, fork, getpid, getppid};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::identity::{Directory, Group, Lookup, Nss, NssError, Trust, User};

use super::error::DaemonError;
use super::ipc::Control;
use super::sandbox;
use super::sandbox::hardening;
use super::sandbox::{Account, Calls, Files, Needs};
use super::server::import_dir::{Kind, open_in};

/// What the name of its subcommand is.
const COMMAND: &str = "look-up";
/// How long a name service may take to answer one question.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(20);
/// When the server stops waiting even if the child cannot be killed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(25);
/// How many children are kept that have nothing to do.
const MAX_IDLE: usize = 4;

/// To the process.
#[derive(Serialize, Deserialize)]
enum Order {
    /// Said first.
    Begin { account: Option<Account>, readable: Readable },
    /// Start a child; the answer is a `Result<(), i32>` and brings the line to it.
    Start,
}

/// What the process may open for a server.
#[derive(Serialize, Deserialize)]
pub(super) struct Readable {
    pub(super) files: Vec<PathBuf>,
    /// A directory, with everything in it.
    pub(super) directory: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
enum Question {
    User(u32),
    UserByName(String),
    /// The GIDs of its groups.
    Groups(User),
    Group(u32),
    /// The answer brings the file.
    Open(PathBuf),
    GroupByName(String),
    /// Of a path in the directory, whose descriptor comes with the question. The answer is that of `Open`.
    OpenBelow(PathBuf, Kind),
}

#[derive(Serialize, Deserialize)]
enum Answer {
    User(Result<Option<User>, Failure>),
    UserByName(Result<Option<u32>, Failure>),
    Groups(Result<Vec<u32>, Failure>),
    Group(Result<Group, Failure>),
    Open(Result<(), Refusal>),
    GroupByName(Result<Option<u32>, Failure>),
}

#[derive(Serialize, Deserialize)]
struct Failure {
    lookup: Lookup,
    errno: i32,
}

/// Why a file was not opened.
#[derive(Serialize, Deserialize)]
struct Refusal {
    errno: Option<i32>,
    /// What was wrong, if it was not the kernel that refused.
    what: String,
}

/// The server's end of it.
#[derive(Clone)]
pub(super) struct LookupHelper(Arc<Lines>);

struct Lines {
    control: Mutex<Control>,
    /// Lines to children that have nothing to do.
    idle: Mutex<Vec<Control>>,
}

impl LookupHelper {
    /// Starts the process. It ends with this one.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(account: Option<&Account>, readable: Readable) -> io::Result<Self> {
        let control = Control::with_new_process(COMMAND)?;
        control.send(&Order::Begin { account: account.cloned(), readable }, &[])?;
        Ok(Self(Arc::new(Lines { control: Mutex::new(control), idle: Mutex::default() })))
    }

    /// Opens one of the files that were named at the start.
    ///
    /// # Errors
    /// It cannot be opened, or others than root and the mounting user could change it.
    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        self.ask_to_open(&Question::Open(path.to_owned()), &[]).map(File::from)
    }

    /// Opens a path in the directory that was named at the start.
    ///
    /// # Errors
    /// It cannot be opened, or another directory is there now (ESTALE).
    pub(super) fn open_below(
        &self,
        directory: BorrowedFd<'_>,
        path: &Path,
        kind: Kind,
    ) -> io::Result<OwnedFd> {
        self.ask_to_open(&Question::OpenBelow(path.to_owned(), kind), &[directory])
    }

    fn ask_to_open(&self, question: &Question, brought: &[BorrowedFd<'_>]) -> io::Result<OwnedFd> {
        match self.ask(question, brought)? {
            (Answer::Open(Ok(())), Some(file)) => Ok(file),
            (Answer::Open(Err(refusal)), _) => Err(refusal.into()),
            _ => Err(misunderstood().into()),
        }
    }

    fn ask(
        &self,
        question: &Question,
        brought: &[BorrowedFd<'_>],
    ) -> Result<(Answer, Option<OwnedFd>), Errno> {
        let start = Instant::now();
        let idle = self.0.idle.lock().pop();
        let is_used = idle.is_some();
        let mut line = idle.map_or_else(|| self.new_line(), Ok)?;
        let mut answered = line.send(question, brought).and_then(|()| line.receive());
        if !matches!(answered, Ok(Some(_))) {
            // The child is gone, or hangs. So may be the whole process; then this does not return.
            line = self.new_line()?;
            // It may have ended before it was asked.
            if is_used && start.elapsed() < QUESTION_TIMEOUT {
                answered = line.send(question, brought).and_then(|()| line.receive());
            }
        }
        let Ok(Some((answer, mut files))) = answered else { return Err(Errno::ETIMEDOUT) };
        let mut idle = self.0.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(line);
        }
        Ok((answer, files.pop()))
    }

    /// As [`LookupHelper::ask`], of a name service.
    fn ask_about(
        &self,
        lookup: impl Fn() -> Lookup,
        question: &Question,
    ) -> Result<Answer, NssError> {
        let answer = self.ask(question, &[]);
        answer.map(|(answer, _)| answer).map_err(|errno| NssError { lookup: lookup(), errno })
    }

    fn new_line(&self) -> Result<Control, Errno> {
        let control = self.0.control.lock();
        let answer = control.send(&Order::Start, &[]).and_then(|()| control.receive());
        match answer {
            Ok(Some((Ok(()), mut lines))) => match lines.pop() {
                Some(line) => Ok(Control::from_fd(line)),
                None => Err(misunderstood()),
            },
            Ok(Some((Err(errno), _))) => Err(Errno::from_raw(errno)),
            Ok(None) | Err(_) => gone(),
        }
    }
}

fn misunderstood() -> Errno {
    Errno::EPROTO
}

/// Without the lookup helper the server cannot identify callers: it ends, and another one takes over.
fn gone() -> ! {
    tracing::error!("the process that looks up users is gone; this server ends");
    std::process::abort();
}

impl Directory for LookupHelper {
    fn user_by_uid(&self, uid: u32) -> Result<Option<User>, NssError> {
        let lookup = || Lookup::User(uid);
        match self.ask_about(lookup, &Question::User(uid))? {
            Answer::User(found) => found.map_err(NssError::from),
            _ => Err(NssError { lookup: lookup(), errno: misunderstood() }),
        }
    }

    fn uid_by_name(&self, name: &str) -> Result<Option<u32>, NssError> {
        let lookup = || Lookup::UserName(name.to_owned());
        match self.ask_about(lookup, &Question::UserByName(name.to_owned()))? {
            Answer::UserByName(found) => found.map_err(NssError::from),
            _ => Err(NssError { lookup: lookup(), errno: misunderstood() }),
        }
    }

    fn gid_by_name(&self, name: &str) -> Result<Option<u32>, NssError> {
        let lookup = || Lookup::GroupName(name.to_owned());
        match self.ask_about(lookup, &Question::GroupByName(name.to_owned()))? {
            Answer::GroupByName(found) => found.map_err(NssError::from),
            _ => Err(NssError { lookup: lookup(), errno: misunderstood() }),
        }
    }

    fn groups_of(&self, user: &User) -> Result<Vec<Group>, NssError> {
        let lookup = || Lookup::GroupsOf(user.name.clone());
        let gids = match self.ask_about(lookup, &Question::Groups(user.clone()))? {
            Answer::Groups(found) => found.map_err(NssError::from)?,
            _ => return Err(NssError { lookup: lookup(), errno: misunderstood() }),
        };
        let group = |gid| match self.ask_about(|| Lookup::Group(gid), &Question::Group(gid))? {
            Answer::Group(found) => found.map_err(NssError::from),
            _ => Err(NssError { lookup: Lookup::Group(gid), errno: misunderstood() }),
        };
        gids.into_iter().map(group).collect()
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        Self::open(self, path)
    }
}

impl From<Refusal> for io::Error {
    fn from(Refusal { errno, what }: Refusal) -> Self {
        let other = || Self::new(io::ErrorKind::PermissionDenied, what);
        errno.map_or_else(other, Self::from_raw_os_error)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { errno: error.raw_os_error(), what: error.to_string() }
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

/// Starts children until the server is gone. They end with this process.
pub(super) fn run() -> Result<(), DaemonError> {
    hardening::name_process(c"secretfs-lookup");
    hardening::protect_memory()?;
    let failed = |source| DaemonError::System { what: "the server cannot be understood", source };
    let control = super::server::take_control()?;
    // The server is gone already.
    let Some((order, _)) = control.receive().map_err(failed)? else { return Ok(()) };
    let Order::Begin { account, readable } = order else { return Err(DaemonError::NoHolder) };
    let trust = Trust::in_this_user();
    // Name services read and connect to what they like. They write nothing.
    let everything = Files { readable: vec!["/".into()], network: true, ..Files::default() };
    sandbox::enter(&Needs {
        account: account.as_ref(),
        reads_all: true,
        files: everything,
        calls: Calls::LookingUp,
        ..Needs::default()
    })?;
    // A look-up may last longer than the server does.
    set_pdeathsig(Signal::SIGKILL).map_err(|error| failed(error.into()))?;
    // Children that have ended are not waited for.
    // SAFETY: ignoring runs no code of ours.
    unsafe { handle(Signal::SIGCHLD, SigHandler::SigIgn) }.map_err(|error| failed(error.into()))?;
    while let Ok(Some((Order::Start, _))) = control.receive() {
        let (started, line) = match start_child(&control, &readable, trust) {
            Ok(line) => (Ok(()), Some(line)),
            Err(error) => (Err(errno(&error)), None),
        };
        let line = line.as_ref().map(AsFd::as_fd);
        // The server is gone, or about to be: so is this one's purpose.
        if control.send(&started, line.as_slice()).is_err() {
            break;
        }
    }
    Ok(())
}

/// Starts a child that answers questions. Gives the server's end of the line to it.
fn start_child(control: &Control, readable: &Readable, trust: Trust) -> io::Result<OwnedFd> {
    let (ours, theirs) = Control::pair()?;
    let wait = TimeVal::seconds(ANSWER_TIMEOUT.as_secs().cast_signed());
    setsockopt(&theirs, ReceiveTimeout, &wait)?;
    let parent = getpid();
    // SAFETY: this process has one thread, so the child may do whatever a process may.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(theirs),
        ForkResult::Child => {
            drop(theirs);
            // SAFETY: only the parent uses it again.
            unsafe { libc::close(control.as_fd().as_raw_fd()) };
            let is_tied = set_pdeathsig(Signal::SIGKILL).is_ok() && getppid() == parent;
            if is_tied && let Ok(limit) = Limit::new() {
                answer_all(&ours, readable, trust, &limit);
            }
            // Nothing of the parent's is to be done again here.
            // SAFETY: it ends this process.
            unsafe { libc::_exit(0) }
        }
    }
}

fn answer_all(line: &Control, readable: &Readable, trust: Trust, limit: &Limit) {
    while let Ok(Some((question, brought))) = line.receive() {
        limit.set(QUESTION_TIMEOUT);
        let (answer, file) = answer(question, brought, readable, trust);
        limit.set(Duration::ZERO);
        let file = file.as_ref().map(AsFd::as_fd);
        if line.send(&answer, file.as_slice()).is_err() {
            return;
        }
    }
}

/// Kills this process after some time. By SIGKILL, since name services block other signals.
struct Limit(libc::timer_t);

impl Limit {
    fn new() -> io::Result<Self> {
        // SAFETY: all zeros is a valid value of both; the kernel writes the timer before it is read.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_SIGNAL;
            event.sigev_signo = libc::SIGKILL;
            let mut timer: libc::timer_t = std::mem::zeroed();
            Errno::result(libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer))?;
            Ok(Self(timer))
        }
    }

    /// Begins anew; never, for zero.
    fn set(&self, time: Duration) {
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: 0 };
        let times = libc::itimerspec { it_interval: none, it_value: value };
        // SAFETY: the timer exists as long as this, and the old time is not asked for.
        let set = unsafe { libc::timer_settime(self.0, 0, &times, std::ptr::null_mut()) };
        debug_assert_eq!(set, 0, "the timer and its times are valid");
    }
}

fn answer(
    question: Question,
    brought: Vec<OwnedFd>,
    readable: &Readable,
    trust: Trust,
) -> (Answer, Option<OwnedFd>) {
    let found = match question {
        Question::User(uid) => Answer::User(Nss.user_by_uid(uid).map_err(Failure::from)),
        Question::UserByName(name) => {
            Answer::UserByName(Nss.uid_by_name(&name).map_err(Failure::from))
        }
        Question::GroupByName(name) => {
            Answer::GroupByName(Nss.gid_by_name(&name).map_err(Failure::from))
        }
        Question::Groups(user) => Answer::Groups(Nss.gids_of(&user).map_err(Failure::from)),
        Question::Group(gid) => Answer::Group(Nss.group(gid).map_err(Failure::from)),
        Question::Open(path) => {
            return opened(match readable.files.contains(&path) {
                true => trust.open(&path).map(OwnedFd::from),
                false => Err(Errno::EACCES.into()),
            });
        }
        Question::OpenBelow(path, kind) => {
            return opened(match (&readable.directory, brought.first()) {
                (Some(dir), Some(directory)) => open_in(dir, directory.as_fd(), &path, kind),
                _ => Err(Errno::EACCES.into()),
            });
        }
    };
    (found, None)
}

fn opened(outcome: io::Result<OwnedFd>) -> (Answer, Option<OwnedFd>) {
    match outcome {
        Ok(file) => (Answer::Open(Ok(())), Some(file)),
        Err(error) => (Answer::Open(Err(error.into())), None),
    }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::EIO as i32)
}
