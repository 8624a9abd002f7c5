//! Readers in the styles of real programs.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::{Job, Report, Watch, Writer, value};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Style {
    /// open, fstat, read to the end: the size must be the length.
    Whole,
    /// open, read 100 bytes at a time.
    Chunks,
    /// open, fstat, a private mapping.
    Map,
    /// One descriptor read again and again: it shows one version.
    Held,
    /// stat alone.
    Stat,
    /// `cat`.
    Cat,
}

impl Style {
    pub(super) const ALL: [Self; 6] =
        [Self::Whole, Self::Chunks, Self::Map, Self::Held, Self::Stat, Self::Cat];
}

enum Seen {
    Value(Vec<u8>),
    Size(u64),
    /// The descriptor or its attributes contradict the value.
    Contradiction(String),
}

pub(super) fn run(style: Style, churn_too: bool, job: &Job, ledger: &Ledger) -> Report {
    let mut report = Report::default();
    let mut watch = Watch::new(job);
    while watch.goes_on() {
        for writer in Writer::ALL {
            if writer == Writer::Churn && !churn_too {
                continue;
            }
            let oldest = ledger.acknowledged(writer);
            let seen = watch.time(|| look(style, &job.directory.join(writer.key())));
            let newest = ledger.begun(writer);
            report.operations += 1;
            if let Err((kind, what)) = judge(writer, oldest, newest, seen) {
                report.anomaly(kind, format!("{} in {oldest}..={newest}: {what}", writer.key()));
            }
        }
    }
    report.longest = watch.longest();
    report
}

fn look(style: Style, path: &Path) -> io::Result<Seen> {
    let contradiction = |what: &str, one: u64, other: usize| {
        Ok(Seen::Contradiction(format!("{what}: {one} and {other}")))
    };
    match style {
        Style::Whole => {
            let mut file = File::open(path)?;
            let size = file.metadata()?.len();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            if size != bytes.len() as u64 {
                return contradiction("fstat's size and the length read", size, bytes.len());
            }
            Ok(Seen::Value(bytes))
        }
        Style::Chunks => {
            let mut file = File::open(path)?;
            let (mut bytes, mut chunk) = (Vec::new(), [0; 100]);
            loop {
                match file.read(&mut chunk)? {
                    0 => return Ok(Seen::Value(bytes)),
                    count => bytes.extend_from_slice(&chunk[..count]),
                }
            }
        }
        Style::Map => {
            let file = File::open(path)?;
            let size = usize::try_from(file.metadata()?.len()).expect("64-bit");
            if size == 0 {
                return Ok(Seen::Value(Vec::new()));
            }
            Ok(Seen::Value(map_private(&file, size)?))
        }
        Style::Held => {
            let file = File::open(path)?;
            let mut first = vec![0; 1 << 15];
            let count = file.read_at(&mut first, 0)?;
            first.truncate(count);
            for again in 0..3 {
                let mut bytes = vec![0; 1 << 15];
                let count = file.read_at(&mut bytes, 0)?;
                if bytes[..count] != first {
                    return contradiction("read again, another value", again, count);
                }
            }
            Ok(Seen::Value(first))
        }
        Style::Stat => Ok(Seen::Size(fs::metadata(path)?.len())),
        Style::Cat => {
            let output = Command::new("cat").arg(path).env("LC_ALL", "C").output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            if output.status.success() {
                Ok(Seen::Value(output.stdout))
            } else if said.contains("No such file") {
                Err(Errno::ENOENT.into())
            } else {
                Err(io::Error::other(said.into_owned()))
            }
        }
    }
}

fn judge(
    writer: Writer,
    oldest: u64,
    newest: u64,
    seen: io::Result<Seen>,
) -> Result<(), (&'static str, String)> {
    match seen {
        Ok(Seen::Value(bytes)) => {
            let sequence = value::check(&bytes)?;
            if sequence < oldest {
                return Err(("stale", format!("value {sequence}")));
            }
            if sequence > newest || !writer.writes(sequence) {
                return Err(("never written", format!("value {sequence}")));
            }
            Ok(())
        }
        Ok(Seen::Size(size)) => {
            let fits = |sequence| writer.writes(sequence) && value::length(sequence) as u64 == size;
            if (oldest..=newest).any(fits) {
                return Ok(());
            }
            Err(("wrong size", format!("{size} bytes")))
        }
        Ok(Seen::Contradiction(what)) => Err(("torn", what)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            // The churn's secret is there for sure only if nothing was begun since it was created.
            let there = writer != Writer::Churn || (writer.writes(oldest) && oldest == newest);
            if there { Err(("missing", error.to_string())) } else { Ok(()) }
        }
        Err(error) => Err(("error", error.to_string())),
    }
}

/// The first bytes of a file through a private mapping. Beyond the file's end this is a SIGBUS, which
/// ends the process: the test that started it sees that.
pub(crate) fn map_private(file: &File, length: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0_u8; length];
    // SAFETY: a new mapping at a place that the kernel chooses, of at least `length` bytes, which are
    // copied out while it stands and before it is taken down.
    unsafe {
        let descriptor = file.as_raw_fd();
        let flags = libc::MAP_PRIVATE;
        let memory =
            libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, flags, descriptor, 0);
        if memory == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        std::ptr::copy_nonoverlapping(memory.cast(), bytes.as_mut_ptr(), length);
        libc::munmap(memory, length);
    }
    Ok(bytes)
}
