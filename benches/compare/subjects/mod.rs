//! What is compared. Each has a mountpoint of its own and a directory in it that belongs to the clients'
//! user; all keep what they store in the same temporary directory. Dropping one unmounts it and ends
//! what serves it.

mod encrypted;
pub(crate) mod floor;
mod mounted;
mod ours;
mod tmpfs;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use encrypted::{EncFs, Gocryptfs};
pub(crate) use floor::Floor;
pub(crate) use ours::Secretfs;
pub(crate) use tmpfs::Tmpfs;

/// The clients' directory in every file system: in ours it is the user's own slug.
pub(crate) const DIRECTORY: &str = "bench";

/// Requests by opcode.
pub(crate) type Counts = BTreeMap<String, u64>;

/// A file system that is compared.
pub(crate) trait Subject {
    /// What the table calls it.
    fn name(&self) -> &'static str;

    /// Where it is mounted.
    fn point(&self) -> &Path;

    /// Mounts it anew, so that the kernel has nothing of it in its caches. What it stores stays.
    fn remount(&mut self) -> io::Result<()>;

    /// The requests that the kernel has sent, where that can be known exactly.
    fn requests(&mut self) -> io::Result<Option<Counts>> {
        Ok(None)
    }

    /// The directory of the drop directory, for what takes many secrets in one file.
    fn drop_box(&self) -> Option<PathBuf> {
        None
    }

    /// The clients' directory.
    fn directory(&self) -> PathBuf {
        self.point().join(DIRECTORY)
    }
}

/// Starts all that this machine has, those of the issue first, and says what it has not. With them
/// another build of ours, if there is one.
pub(crate) fn start(directory: &Path, against: Option<&Path>) -> io::Result<Vec<Box<dyn Subject>>> {
    let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(Secretfs::start(directory)?)];
    if let Some(program) = against {
        subjects.push(Box::new(Secretfs::start_other(directory, program)?));
    }
    subjects.push(Box::new(Secretfs::start_unaudited(directory)?));
    subjects.push(Box::new(Floor::start(directory)?));
    subjects.push(Box::new(Floor::start_appending(directory)?));
    subjects.push(Box::new(Tmpfs::start(directory)?));
    match Gocryptfs::start(directory)? {
        Some(gocryptfs) => subjects.push(Box::new(gocryptfs)),
        None => eprintln!("gocryptfs is left out: it is not installed"),
    }
    match EncFs::start(directory)? {
        Some(encfs) => subjects.push(Box::new(encfs)),
        None => eprintln!("encfs is left out: it is not installed"),
    }
    Ok(subjects)
}
