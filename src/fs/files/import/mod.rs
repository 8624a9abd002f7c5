//! `.import`: a drop directory for files of documents.
//!
//! A file that is dropped is in memory, seen by its UID alone, applied when its writer closes it, and
//! gone then; what became of it stands in `NAME.report`. A name that programs give to what is not
//! finished (`.x`, `#x`, `x~`, `x.tmp`) is not applied: it waits for its rename.

mod apply;
mod directories;
mod file;
mod files;
mod import_dir;
mod ops;
mod queue;
mod reports;

use std::sync::Arc;

use crate::fs::kernel::nodes::{Node, path_number};
use crate::fs::ops::lookup::is_below;

pub use apply::NotApplied;

pub(in crate::fs) use file::ImportFile;

use directories::Directories;
use files::Files;
use import_dir::DirectoryStatus;
use queue::Queue;
use reports::{Report, Reports};

/// Its name in the root.
pub(in crate::fs) const IMPORT_NAME: &str = ".import";
/// What a report's name adds to the file's.
const REPORT_SUFFIX: &str = ".report";

/// A node in `.import`. Paths are those inside of it.
#[derive(Clone)]
pub(in crate::fs) enum Import {
    /// A directory; the path of `.import` itself is empty.
    Directory(Arc<str>),
    /// A file that is dropped.
    File(Arc<ImportFile>),
    /// What became of one.
    Report(Arc<Report>),
}

impl Import {
    pub(in crate::fs) fn top() -> Self {
        Self::Directory("".into())
    }

    pub(in crate::fs) fn number(&self) -> u64 {
        match self {
            Self::Directory(path) => path_number("import", path),
            Self::File(file) => file.node(),
            Self::Report(report) => report.node,
        }
    }

    /// How it is called in an error.
    pub(in crate::fs) fn path(&self) -> String {
        match self {
            Self::Directory(path) => full_path(path) + "/",
            Self::File(file) => full_path(&file.path()),
            Self::Report(report) => full_path(&report.path) + REPORT_SUFFIX,
        }
    }
}

impl From<Import> for Node {
    fn from(node: Import) -> Self {
        Self::Import(node)
    }
}

/// What the drop directory holds.
#[derive(Default)]
pub(in crate::fs) struct DropDirectory {
    files: Files,
    directories: Directories,
    reports: Reports,
    directory: DirectoryStatus,
    queue: Arc<Queue>,
}

/// A path in the drop directory as its users write it.
fn full_path(path: &str) -> String {
    crate::fs::join(IMPORT_NAME, path)
}

/// Whether programs give such a name to what they have not finished.
fn is_unfinished(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.starts_with(['.', '#']) || name.ends_with('~') || name.ends_with(".tmp")
}

/// The name of what leads from `directory` to `path` below it, and whether that is `path` itself.
fn child_of<'a>(path: &'a str, directory: &str) -> Option<(&'a str, bool)> {
    let rest = if directory.is_empty() {
        path
    } else {
        path.strip_prefix(directory)?.strip_prefix('/')?
    };
    Some(rest.split_once('/').map_or((rest, true), |(name, _)| (name, false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_is_not_finished() {
        for path in [".a.yaml.X1", "a/.b.yaml.swp", "a/#b#", "b.yaml~", "a.d/b.yaml.tmp"] {
            assert!(is_unfinished(path), "{path}");
        }
        for path in ["a.yaml", ".a/b.yaml", "a~/b", "tmp", "x.tmp.yaml"] {
            assert!(!is_unfinished(path), "{path}");
        }
    }

    #[test]
    fn takes_paths_apart() {
        assert_eq!(child_of("a/b/c", ""), Some(("a", false)));
        assert_eq!(child_of("a/b/c", "a/b"), Some(("c", true)));
        assert_eq!(child_of("ab/c", "a"), None);
        assert!(is_below("a/b", "a") && !is_below("ab", "a") && !is_below("a", "a"));
    }
}
