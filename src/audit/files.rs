//! The files of the log: `audit-00000001.jsonl` and so on, in a folder of their own.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// Makes the folder (mode 0700) if it is missing.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(name_of(number))
}

pub(super) fn name_of(number: u64) -> String {
    format!("{PREFIX}{number:08}{SUFFIX}")
}

/// The numbers of all files, in order. A folder that is not there has none.
pub(super) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let digits = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX))
            .filter(|digits| digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit()));
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The size of all files, in bytes; 0 where it cannot be told.
pub fn log_bytes(folder: &Path) -> u64 {
    let size = |number| std::fs::metadata(path_of(folder, number)).map_or(0, |file| file.len());
    list(folder).unwrap_or_default().into_iter().map(size).sum()
}

/// A new file (mode 0600), to be appended to.
pub(super) fn create(folder: &Path, number: u64) -> io::Result<File> {
    let path = path_of(folder, number);
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
}

/// A file that exists, to be read and appended to.
pub(super) fn open(folder: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).open(path_of(folder, number))
}

/// Removes the files before `first`.
pub(super) fn remove_before(folder: &Path, first: u64) -> io::Result<()> {
    list(folder)?
        .into_iter()
        .take_while(|&number| number < first)
        .try_for_each(|number| std::fs::remove_file(path_of(folder, number)))
}

/// Makes the names in the folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_its_own_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for number in [3, 100_000_000, 1] {
            create(folder.path(), number).unwrap();
        }
        for other in ["audit-1.jsonl", "audit-0000000x.jsonl", "notes", "audit-00000004.jsonl.gz"] {
            std::fs::write(folder.path().join(other), "").unwrap();
        }
        assert_eq!(list(folder.path()).unwrap(), [1, 3, 100_000_000]);
        assert!(create(folder.path(), 3).is_err(), "never into a file that is there");
        assert_eq!(list(&folder.path().join("missing")).unwrap(), [0; 0]);
    }
}
