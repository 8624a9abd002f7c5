//! The floor: a bare file system over the same library, with as many threads, the same mount options,
//! capabilities, lifetimes and flags of open as ours, that answers every request at once. It checks
//! nobody, keeps everything in memory and stores nothing. A process of its own (this program again).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Arc;

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use nix::sys::signal::{SigHandler, Signal, signal};

use super::mounted::{Mounted, Output, make_directory, make_point};
use super::{Counts, Subject};
use crate::bare::{Bare, Contents};

/// The argument that makes this program the floor.
pub(crate) const ARGUMENT: &str = "--as-floor";
/// The same, for one that appends to a file for each open: what it would cost if a line of the audit
/// log took nothing but its write(2).
pub(crate) const APPENDING: &str = "--as-appending-floor";
/// As many threads as our daemon has by default.
const THREADS: usize = 4;

const COUNT: &str = "count";
const REMOUNT: &str = "remount";

/// Serves the floor until standard input ends. A line each way for every command.
pub(crate) fn serve(point: &OsStr, log: Option<&Path>) -> io::Result<()> {
    // It is the end of the input that ends it, also when the comparison was killed: then it unmounts.
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) }?;
    let append = |log| File::options().append(true).create(true).open(log);
    let contents = Arc::new(Contents::new(log.map(append).transpose()?));
    let mut session = mount(&contents, Path::new(point))?;
    for line in io::stdin().lines() {
        match line?.as_str() {
            COUNT => println!("{}", serde_json::to_string(&contents.counts())?),
            REMOUNT => {
                session.umount_and_join()?;
                session = mount(&contents, Path::new(point))?;
                println!();
            }
            other => return Err(io::Error::other(format!("no command: {other}"))),
        }
    }
    session.umount_and_join()
}

fn mount(contents: &Arc<Contents>, point: &Path) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("floor".to_owned()),
        MountOption::CUSTOM("subtype=floor".to_owned()),
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
        MountOption::NoAtime,
    ];
    config.acl = SessionACL::All;
    config.n_threads = Some(THREADS);
    Session::new(Bare(Arc::clone(contents)), point, &config)?.spawn()
}

/// What an appending floor on that mountpoint appends to.
pub(crate) fn log_of(point: &OsStr) -> PathBuf {
    Path::new(point).with_extension("log")
}

/// The floor's process.
pub(crate) struct Floor {
    name: &'static str,
    point: PathBuf,
    mounted: Mounted,
    answers: BufReader<ChildStdout>,
}

impl Floor {
    pub(super) fn start(directory: &Path) -> io::Result<Self> {
        Self::start_as(directory, "floor", ARGUMENT)
    }

    /// One that appends to a file for each open.
    pub(super) fn start_appending(directory: &Path) -> io::Result<Self> {
        Self::start_as(directory, "appending", APPENDING)
    }

    fn start_as(directory: &Path, name: &'static str, role: &str) -> io::Result<Self> {
        let point = make_point(directory, name)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(role).arg(&point).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut mounted = Mounted::start(command, &point, Output::AsGiven, "")?;
        let answers = mounted.process().stdout.take();
        let answers = BufReader::new(answers.ok_or_else(|| io::Error::other("no pipe"))?);
        let subject = Self { name, point, mounted, answers };
        make_directory(&subject.point)?;
        Ok(subject)
    }

    fn ask(&mut self, command: &str) -> io::Result<String> {
        let commands = self.mounted.process().stdin.as_mut();
        writeln!(commands.ok_or_else(|| io::Error::other("no pipe"))?, "{command}")?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(io::Error::other("the floor ended"));
        }
        Ok(answer)
    }
}

impl Subject for Floor {
    fn name(&self) -> &'static str {
        self.name
    }

    fn point(&self) -> &Path {
        &self.point
    }

    fn remount(&mut self) -> io::Result<()> {
        self.ask(REMOUNT).map(drop)
    }

    fn requests(&mut self) -> io::Result<Option<Counts>> {
        Ok(Some(serde_json::from_str(&self.ask(COUNT)?)?))
    }
}
