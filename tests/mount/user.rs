//! What a test does as one user: `mount.user(ALICE).read("alice/K")`.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

use crate::agent::{ENTRY, MARK};
use crate::harness::{Mount, Person};
use crate::protocol::{Operation, Shell, Stat, receive, send};
use crate::stress::Job;

/// Longer than any operation of a mount that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that acts as one UID. Paths are relative to the mountpoint.
pub(crate) struct User {
    name: String,
    point: PathBuf,
    scratch: PathBuf,
    agent: Mutex<Agent>,
}

struct Agent {
    process: Child,
    socket: UnixStream,
}

impl Mount {
    /// Acts as this person, in a new process.
    pub(crate) fn user(&self, person: Person) -> User {
        self.user_with_groups(person, &[])
    }

    /// As [`Mount::user`]; the process is in these groups as well.
    pub(crate) fn user_with_groups(&self, person: Person, groups: &[u32]) -> User {
        User::new(person.name, person.uid, groups, &self.point(), &self.outside())
    }
}

impl User {
    /// Starts the process and lets it become the user, with a group of the same number.
    /// `scratch` is a directory outside the mount, which scripts know as `$T`.
    pub(crate) fn new(name: &str, uid: u32, groups: &[u32], point: &Path, scratch: &Path) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        ours.set_read_timeout(Some(PATIENCE)).expect("a time that is not zero");
        let process = Command::new(std::env::current_exe().expect("the test binary"))
            .args([ENTRY, "--exact", "--nocapture", "--test-threads=1"])
            .env(MARK, "1")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .expect("the test binary runs");
        let user = Self {
            name: name.to_owned(),
            point: point.to_owned(),
            scratch: scratch.to_owned(),
            agent: Mutex::new(Agent { process, socket: ours }),
        };
        let become_user = Operation::Become { uid, gid: uid, groups: groups.to_vec() };
        assert_eq!(user.call(&become_user, &[]), Ok(uid.to_string().into_bytes()), "as {name}");
        user
    }

    /// Performs one operation.
    #[track_caller]
    pub(crate) fn call(&self, operation: &Operation, data: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = send(&mut agent.socket, operation, data)
            .and_then(|()| receive::<i32>(&mut agent.socket));
        match answer {
            Ok((0, answer)) => Ok(answer),
            Ok((errno, _)) => Err(Errno::from_raw(errno)),
            Err(error) => {
                let ended = agent.ended();
                panic!("{} did not get an answer to {operation:?}: {error}; {ended}", self.name)
            }
        }
    }

    /// Runs a part of the stress test, which takes its time, and gives its report.
    #[track_caller]
    pub(crate) fn stress(&self, job: &Job) -> String {
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = PATIENCE + Duration::from_secs(job.seconds);
        agent.socket.set_read_timeout(Some(patience)).expect("a time that is not zero");
        drop(agent);
        let report = self.call(&Operation::Stress(job.clone()), &[]);
        String::from_utf8(report.expect("a job ends with a report")).expect("a report is text")
    }

    /// Kills the process with SIGKILL and waits for it.
    #[track_caller]
    pub(crate) fn kill(self) {
        let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        agent.process.kill().expect("it runs");
        agent.process.wait().expect("it is our child");
    }

    /// Whom the process acts as.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The path of `name` in the mount.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.point.clone() } else { self.point.join(name) }
    }

    fn nothing(&self, operation: &Operation) -> Result<(), Errno> {
        self.call(operation, &[]).map(drop)
    }

    /// Opens with flags of `open(2)`; files that this creates get the mode 0600.
    pub(crate) fn open(&self, name: &str, flags: i32) -> Result<Handle<'_>, Errno> {
        let answer = self.call(&Operation::Open { path: self.path(name), flags }, &[])?;
        Ok(Handle { user: self, file: parse(&answer) })
    }

    /// A file that was opened before and not closed: they are numbered from 1 on.
    pub(crate) fn opened(&self, file: u32) -> Handle<'_> {
        Handle { user: self, file }
    }

    pub(crate) fn read_bytes(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let handle = self.open(name, libc::O_RDONLY)?;
        let value = handle.read_to_end()?;
        handle.close().map(|()| value)
    }

    pub(crate) fn read(&self, name: &str) -> Result<String, Errno> {
        self.read_bytes(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Opens with these flags for writing, writes all, closes. The first error counts.
    pub(crate) fn write_with(
        &self,
        name: &str,
        flags: i32,
        value: impl AsRef<[u8]>,
    ) -> Result<(), Errno> {
        let handle = self.open(name, libc::O_WRONLY | flags)?;
        let written = handle.write(value);
        let closed = handle.close();
        written.and(closed)
    }

    /// As `printf value > name` does.
    pub(crate) fn write(&self, name: &str, value: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.write_with(name, libc::O_CREAT | libc::O_TRUNC, value)
    }

    /// As `printf value >> name` does.
    pub(crate) fn append(&self, name: &str, value: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.write_with(name, libc::O_CREAT | libc::O_APPEND, value)
    }

    pub(crate) fn create_new(&self, name: &str, value: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.write_with(name, libc::O_CREAT | libc::O_EXCL, value)
    }

    pub(crate) fn truncate(&self, name: &str, length: i64) -> Result<(), Errno> {
        self.nothing(&Operation::Truncate { path: self.path(name), length })
    }

    pub(crate) fn unlink(&self, name: &str) -> Result<(), Errno> {
        self.nothing(&Operation::Unlink { path: self.path(name) })
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        self.rename_with(from, to, 0)
    }

    /// With flags of `renameat2(2)`.
    pub(crate) fn rename_with(&self, from: &str, to: &str, flags: u32) -> Result<(), Errno> {
        let (from, to) = (self.path(from), self.path(to));
        self.nothing(&Operation::Rename { from, to, flags })
    }

    pub(crate) fn mkdir(&self, name: &str) -> Result<(), Errno> {
        self.nothing(&Operation::Mkdir { path: self.path(name) })
    }

    pub(crate) fn rmdir(&self, name: &str) -> Result<(), Errno> {
        self.nothing(&Operation::Rmdir { path: self.path(name) })
    }

    pub(crate) fn stat(&self, name: &str) -> Result<Stat, Errno> {
        self.call(&Operation::Stat { path: self.path(name) }, &[]).map(|answer| parse(&answer))
    }

    /// With a mode of `access(2)`.
    pub(crate) fn access(&self, name: &str, mode: i32) -> Result<(), Errno> {
        self.nothing(&Operation::Access { path: self.path(name), mode })
    }

    /// The names in a directory, sorted; those at the top for the empty name, without the user's own
    /// directory, which is always there.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<String>, Errno> {
        let answer = self.call(&Operation::List { path: self.path(name) }, &[])?;
        let mut names: Vec<String> = parse(&answer);
        names.retain(|listed| !name.is_empty() || *listed != self.name);
        names.sort();
        Ok(names)
    }

    pub(crate) fn chmod(&self, name: &str, mode: u32) -> Result<(), Errno> {
        self.nothing(&Operation::Chmod { path: self.path(name), mode })
    }

    pub(crate) fn chown(
        &self,
        name: &str,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<(), Errno> {
        self.nothing(&Operation::Chown { path: self.path(name), uid, gid })
    }

    pub(crate) fn xattr(&self, name: &str, attribute: &str) -> Result<String, Errno> {
        let operation = Operation::Xattr { path: self.path(name), name: attribute.to_owned() };
        self.call(&operation, &[]).map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    /// The id of a secret.
    #[track_caller]
    pub(crate) fn id(&self, name: &str) -> String {
        self.xattr(name, "user.secretfs.id").unwrap_or_else(|errno| {
            panic!("{}: the id of {name} could not be read: {errno}", self.name)
        })
    }

    /// Runs a bash script in the mountpoint; `$T` is a directory outside that everyone may write to.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> Shell {
        let answer = self.call(
            &Operation::Shell {
                directory: self.point.clone(),
                script: script.to_owned(),
                variables: vec![("T".to_owned(), self.scratch.display().to_string())],
            },
            &[],
        );
        parse(&answer.unwrap_or_else(|errno| panic!("{}: bash did not start: {errno}", self.name)))
    }

    /// Runs a script that must succeed and gives its standard output.
    #[track_caller]
    pub(crate) fn sh_ok(&self, script: &str) -> String {
        let shell = self.sh(script);
        assert_eq!(shell.code, Some(0), "{}: `{script}` said: {}", self.name, shell.stderr);
        shell.stdout
    }
}

/// A file that a user holds open. Dropped without `close`, it stays open until the user ends.
pub(crate) struct Handle<'a> {
    user: &'a User,
    file: u32,
}

impl Handle<'_> {
    pub(crate) fn read_to_end(&self) -> Result<Vec<u8>, Errno> {
        self.user.call(&Operation::ReadToEnd { file: self.file }, &[])
    }

    pub(crate) fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
        self.user.call(&Operation::ReadAt { file: self.file, offset, length }, &[])
    }

    pub(crate) fn write(&self, data: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.user.call(&Operation::Write { file: self.file }, data.as_ref()).map(drop)
    }

    pub(crate) fn write_at(&self, offset: u64, data: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.user.call(&Operation::WriteAt { file: self.file, offset }, data.as_ref()).map(drop)
    }

    pub(crate) fn set_length(&self, length: u64) -> Result<(), Errno> {
        self.user.nothing(&Operation::SetLength { file: self.file, length })
    }

    pub(crate) fn sync(&self) -> Result<(), Errno> {
        self.user.nothing(&Operation::Sync { file: self.file })
    }

    pub(crate) fn stat(&self) -> Result<Stat, Errno> {
        self.user.call(&Operation::StatFile { file: self.file }, &[]).map(|answer| parse(&answer))
    }

    /// With an operation of `flock(2)`.
    pub(crate) fn lock(&self, operation: i32) -> Result<(), Errno> {
        self.user.nothing(&Operation::Lock { file: self.file, operation })
    }

    /// What a private mapping of the first bytes shows.
    pub(crate) fn map_private(&self, length: usize) -> Result<Vec<u8>, Errno> {
        self.user.call(&Operation::MapPrivate { file: self.file, length }, &[])
    }

    pub(crate) fn close(self) -> Result<(), Errno> {
        self.user.nothing(&Operation::Close { file: self.file })
    }
}

impl Agent {
    /// How the process ended, if it did.
    fn ended(&mut self) -> String {
        // The socket closes a moment before the process can be waited for.
        std::thread::sleep(Duration::from_millis(100));
        match self.process.try_wait() {
            Ok(Some(status)) => match status.signal() {
                Some(signal) => format!("the process died of signal {signal}"),
                None => format!("the process ended: {status}"),
            },
            Ok(None) => "the process still runs: the operation hangs".to_owned(),
            Err(error) => format!("waiting for it failed: {error}"),
        }
    }
}

impl Drop for Agent {
    /// One that hangs in the mount cannot be waited for; it ends with the mount.
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.process.kill();
        for _ in 0..1000 {
            match self.process.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                _ => return,
            }
        }
    }
}

/// What an agent wrote as JSON.
fn parse<T: for<'a> serde::Deserialize<'a>>(answer: &[u8]) -> T {
    serde_json::from_slice(answer).expect("an agent answers what its operation says")
}
