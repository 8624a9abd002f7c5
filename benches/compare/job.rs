//! What a client does: the system calls that are measured, and nothing else between them.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Larger than any file that is read.
const BUFFER: usize = 64 << 10;

/// What is done with each file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    /// open, fstat, read to the end, close.
    Read,
    /// A new value is written without being measured, then the file is read.
    ReadAfterRotation,
    /// A new file: open, write, close; with an fsync before the close if `synced`.
    Create { synced: bool },
    /// A new value for a file, with `O_TRUNC`, as the shell's `>` does.
    Rotate { synced: bool },
    /// One file of documents for the drop directory, which is the job's directory, with so many new secrets.
    Import,
    /// Makes the directory.
    MakeDirectory,
    /// Reads the directory's names; with `stat` also the attributes of each.
    List { stat: bool },
}

/// Work for one client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) action: Action,
    pub(crate) directory: PathBuf,
    /// The files are called so, with a number behind.
    pub(crate) prefix: String,
    /// The first file's number, how many there are, and with which of them to begin.
    pub(crate) files: (usize, usize),
    pub(crate) begin: usize,
    /// All files again and again for so long; without it, each once.
    pub(crate) milliseconds: Option<u64>,
}

/// How long that took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Took {
    pub(crate) operations: u64,
    pub(crate) nanoseconds: u64,
}

impl Took {
    /// Operations a second.
    pub(crate) fn rate(self) -> f64 {
        self.operations as f64 * 1e9 / self.nanoseconds.max(1) as f64
    }
}

/// The name of a file.
pub(crate) fn name(prefix: &str, number: usize) -> String {
    format!("{prefix}{number:05}")
}

/// The bytes of a value: 44 of them, as a connection string has, different for each number.
pub(crate) fn value(number: u64) -> String {
    format!("postgresql://user:pass@db.int:5432/a{:08}", number % 100_000_000)
}

impl Job {
    /// Does it.
    ///
    /// # Errors
    /// A system call fails, or a file is not what was written.
    pub(crate) fn run(&self) -> io::Result<Took> {
        match self.action {
            Action::List { stat } => {
                return self.timed(|| list(&self.directory, stat, self.files.1));
            }
            Action::MakeDirectory => return self.timed(|| std::fs::create_dir(&self.directory)),
            Action::Import => return self.import(),
            _ => {}
        }
        let (first, count) = self.files;
        let paths = (0..count)
            .map(|number| path(&self.directory.join(name(&self.prefix, first + number))))
            .collect::<io::Result<Vec<_>>>()?;
        let mut buffer = vec![0; BUFFER];
        let mut reads = Vec::new();
        let mut operations = 0;
        let started = Instant::now();
        let limit = self.milliseconds.map(Duration::from_millis);
        loop {
            for number in 0..count {
                let path = &paths[(self.begin + number) % count];
                let text = value(started.elapsed().as_nanos() as u64 + operations);
                if self.action == Action::ReadAfterRotation {
                    write(path, libc::O_TRUNC, text.as_bytes(), false)?;
                    let began = Instant::now();
                    read(path, &mut buffer)?;
                    reads.push(began.elapsed().as_nanos() as u64);
                } else {
                    self.once(path, &mut buffer, text.as_bytes())?;
                }
                operations += 1;
                if limit.is_some_and(|limit| started.elapsed() >= limit) {
                    break;
                }
            }
            if limit.is_none_or(|limit| started.elapsed() >= limit) {
                break;
            }
        }
        let mut nanoseconds = started.elapsed().as_nanos() as u64;
        if !reads.is_empty() {
            // Their median: a few that waited for the disk or for a turn say nothing about the rest.
            reads.sort_unstable();
            nanoseconds = reads[reads.len() / 2] * operations;
        }
        Ok(Took { operations, nanoseconds })
    }

    fn once(&self, path: &CString, buffer: &mut [u8], text: &[u8]) -> io::Result<()> {
        match self.action {
            Action::Read => read(path, buffer),
            Action::Create { synced } => write(path, libc::O_CREAT | libc::O_EXCL, text, synced),
            Action::Rotate { synced } => write(path, libc::O_TRUNC, text, synced),
            _ => unreachable!("the others have ways of their own"),
        }
    }

    fn import(&self) -> io::Result<Took> {
        let (directory, (first, count)) = (super::subjects::DIRECTORY, self.files);
        let document = |number| {
            let (name, value) = (name("", first + number), value(number as u64));
            format!("key: {directory}/{}/{name}\nvalue: {value}\n", self.prefix)
        };
        let text = (0..count).map(document).collect::<Vec<_>>().join("---\n");
        let path = path(&self.directory.join(format!("{}.yaml", self.prefix)))?;
        let started = Instant::now();
        write(&path, libc::O_CREAT | libc::O_EXCL, text.as_bytes(), false)?;
        Ok(Took { operations: count as u64, nanoseconds: started.elapsed().as_nanos() as u64 })
    }

    /// Does something until the time is over, at least once.
    fn timed(&self, mut action: impl FnMut() -> io::Result<()>) -> io::Result<Took> {
        let started = Instant::now();
        let limit = self.milliseconds.map(Duration::from_millis);
        let mut operations = 0;
        loop {
            action()?;
            operations += 1;
            if limit.is_none_or(|limit| started.elapsed() >= limit) {
                return Ok(Took { operations, nanoseconds: started.elapsed().as_nanos() as u64 });
            }
        }
    }
}

fn path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn open(path: &CString, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the path ends with a NUL and outlives the call.
    let file = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o600) };
    if file < 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::new(error.kind(), format!("{}: {error}", path.to_string_lossy())));
    }
    // SAFETY: the call gave a descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

fn read(path: &CString, buffer: &mut [u8]) -> io::Result<()> {
    let file = open(path, libc::O_RDONLY)?;
    let size = nix::sys::stat::fstat(&file)?.st_size as usize;
    let mut length = 0;
    loop {
        match nix::unistd::read(&file, &mut buffer[length..])? {
            0 => break,
            more => length += more,
        }
    }
    if length != size || length == 0 {
        let name = path.to_string_lossy();
        return Err(io::Error::other(format!("{name}: {length} bytes, and fstat says {size}")));
    }
    close(file)
}

fn write(path: &CString, flags: i32, text: &[u8], synced: bool) -> io::Result<()> {
    let file = open(path, libc::O_WRONLY | flags)?;
    if nix::unistd::write(&file, text)? != text.len() {
        return Err(io::Error::other("a short write"));
    }
    if synced {
        nix::unistd::fsync(&file)?;
    }
    close(file)
}

/// Not by dropping: the error of `close` counts.
fn close(file: OwnedFd) -> io::Result<()> {
    Ok(nix::unistd::close(file)?)
}

fn list(directory: &Path, stat: bool, expected: usize) -> io::Result<()> {
    let mut directory = nix::dir::Dir::open(
        directory,
        nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_DIRECTORY,
        nix::sys::stat::Mode::empty(),
    )?;
    let mut names = Vec::with_capacity(expected);
    for entry in directory.iter() {
        let name = entry?.file_name().to_owned();
        if !name.to_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    if names.len() != expected {
        let found = names.len();
        return Err(io::Error::other(format!("{found} files in the directory, not {expected}")));
    }
    for name in names.iter().filter(|_| stat) {
        // SAFETY: all zeros is a `stat`.
        let mut attributes: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the name ends with a NUL, and there is room for the answer.
        let outcome = unsafe {
            let flags = libc::AT_SYMLINK_NOFOLLOW;
            libc::fstatat(directory.as_raw_fd(), name.as_ptr(), &raw mut attributes, flags)
        };
        if outcome != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
