//! Callers that know exactly what must be there: each has a file or directory to itself, and looks after
//! every operation. What must not happen to them when the server is killed: something lost, something
//! done twice, an error; but for EIO to a writer, whose buffer was lost and who is told so.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Job, Report, Watch, reader::map_private};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Exact {
    /// Appends a line.
    Append,
    /// Changes the lists of a secret.
    Lists,
    /// Makes and removes directories.
    Directories,
    /// Truncates to nothing, without writing.
    Empty,
    /// Creates, renames to a free name, renames over another secret, removes.
    Move,
    /// Keeps a descriptor and a mapping of a version, while others follow it.
    Hold,
}

impl Exact {
    pub(super) const ALL: [Self; 6] =
        [Self::Append, Self::Lists, Self::Directories, Self::Empty, Self::Move, Self::Hold];
}

type Outcome = io::Result<()>;

/// The buffer of a writer was lost, and the writer was told.
pub(super) const LOST: io::ErrorKind = io::ErrorKind::Interrupted;

/// Tells the loss of a buffer from other errors.
pub(super) fn written<T>(outcome: io::Result<T>) -> io::Result<T> {
    outcome.map_err(|error| match error.raw_os_error() {
        Some(libc::EIO) => io::Error::new(LOST, "the buffer was lost"),
        _ => error,
    })
}

pub(super) fn run(exact: Exact, job: &Job) -> Report {
    let mut report = Report::default();
    let mut watch = Watch::new(job);
    let mut appended = Vec::new();
    let mut round = 0_u64;
    while watch.goes_on() {
        round += 1;
        let directory = &job.directory;
        let outcome = watch.time(|| match exact {
            Exact::Append => append(&directory.join("append"), round, &mut appended),
            Exact::Lists => lists(&directory.join("lists"), round),
            Exact::Directories => directories(directory, round),
            Exact::Empty => empty(&directory.join("empty"), round),
            Exact::Move => rename(directory, round),
            Exact::Hold => hold(&directory.join("hold"), round),
        });
        report.operations += 1;
        if let Err(error) = outcome {
            if error.kind() == LOST {
                report.lost += 1;
                // It does not know what became of these.
                for name in ["move-a", "move-b", "move-c", ".move.tmp"] {
                    let _ = fs::remove_file(directory.join(name));
                }
                continue;
            }
            report.anomaly(&format!("{exact:?}"), format!("round {round}: {error}"));
        }
    }
    report.longest = watch.longest();
    report
}

fn append(path: &Path, round: u64, lines: &mut Vec<u8>) -> Outcome {
    if round % 50 == 1 {
        replace(path, b"")?;
        lines.clear();
    }
    let line = format!("line {round}\n").into_bytes();
    write(OpenOptions::new().append(true), path, &line)?;
    lines.extend(&line);
    same("the lines", &read(path)?, lines)
}

fn lists(path: &Path, round: u64) -> Outcome {
    let sidecar = path.with_file_name("lists.acl");
    let reader = format!("reader-{round}");
    replace(&sidecar, format!("readers: [alice, {reader}]\n").as_bytes())?;
    let after = read(&sidecar)?;
    if String::from_utf8_lossy(&after).contains(&reader) {
        return Ok(());
    }
    wrong(format!("the lists are {}", String::from_utf8_lossy(&after)))
}

fn directories(directory: &Path, round: u64) -> Outcome {
    let (made, inner) = (directory.join("made"), directory.join("made/inner"));
    fs::create_dir(&made)?;
    fs::create_dir(&inner)?;
    if round.is_multiple_of(2) {
        fs::metadata(&inner)?;
    }
    fs::remove_dir(&inner)?;
    fs::remove_dir(&made)?;
    match fs::metadata(&made) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => wrong(format!("a removed directory gives {other:?}")),
    }
}

fn empty(path: &Path, round: u64) -> Outcome {
    let value = format!("value {round}").into_bytes();
    replace(path, &value)?;
    same("the value", &read(path)?, &value)?;
    replace(path, b"")?;
    same("the emptied value", &read(path)?, b"")
}

fn rename(directory: &Path, round: u64) -> Outcome {
    let (a, b, c) = (directory.join("move-a"), directory.join("move-b"), directory.join("move-c"));
    let (value, scratch) = (format!("value {round}").into_bytes(), directory.join(".move.tmp"));
    step("create a", create(&a, &value))?;
    step("create c", create(&c, &value))?;
    step("move a to b", fs::rename(&a, &b))?;
    same("the moved value", &step("read b", read(&b))?, &value)?;
    step("move b to c", fs::rename(&b, &c))?;
    same("the replaced value", &step("read c", read(&c))?, &value)?;
    step("create a scratch file", create(&scratch, b"from a scratch file"))?;
    step("move that to c", fs::rename(&scratch, &c))?;
    let text = step("read c again", read(&c))?;
    same("the value of the scratch file", &text, b"from a scratch file")?;
    step("remove c", fs::remove_file(&c))?;
    for path in [&a, &b, &c, &scratch] {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return wrong(format!("{} gives {other:?}", path.display())),
        }
    }
    Ok(())
}

fn hold(path: &Path, round: u64) -> Outcome {
    // So large that the kernel is not given all of it, and has to ask.
    let value: Vec<u8> = (0..300_000_u64).map(|at| ((at / 1000 + round) % 251) as u8).collect();
    step("write", replace(path, &value))?;
    let held = step("open", File::open(path))?;
    step("write again", replace(path, b"the next version"))?;
    let mut part = vec![0; 5000];
    for offset in [0, 290_000, 150_000] {
        step("read", held.read_exact_at(&mut part, offset as u64))?;
        same("a part of the held version", &part, &value[offset..offset + part.len()])?;
        // SAFETY: forgetting pages that were read changes nothing but who is asked next.
        unsafe { libc::posix_fadvise(held.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    }
    same(
        "the mapped version",
        &step("map", map_private(&held, value.len()).map_err(io::Error::from))?,
        &value,
    )
}

fn create(path: &Path, value: &[u8]) -> Outcome {
    write(OpenOptions::new().write(true).create_new(true), path, value)
}

fn replace(path: &Path, value: &[u8]) -> Outcome {
    write(OpenOptions::new().write(true).truncate(true), path, value)
}

fn write(options: &OpenOptions, path: &Path, value: &[u8]) -> Outcome {
    let mut file = written(options.open(path))?;
    written(file.write_all(value))?;
    written(nix::unistd::close(file).map_err(io::Error::from))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn same(what: &str, is: &[u8], should: &[u8]) -> Outcome {
    if is == should {
        return Ok(());
    }
    let tail = |bytes: &[u8]| {
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(60)..]).into_owned()
    };
    wrong(format!(
        "{what}: {} bytes …{:?} in place of {} bytes …{:?}",
        is.len(),
        tail(is),
        should.len(),
        tail(should)
    ))
}

/// Says which of several steps failed.
fn step<T>(what: &str, outcome: io::Result<T>) -> io::Result<T> {
    outcome.map_err(|error| io::Error::new(error.kind(), format!("{what}: {error}")))
}

fn wrong<T>(what: String) -> io::Result<T> {
    Err(io::Error::other(what))
}
