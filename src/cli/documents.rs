//! Files of documents outside the mount: found, read and checked before anything is sent.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::document::{self, Document, MAX_FILE_BYTES};
use crate::model::Key;

use super::error::{CliError, Result};

/// A file of documents that can be parsed.
pub(super) struct DocumentFile {
    /// What it is called in messages.
    pub(super) name: String,
    /// Its bytes, which may hold values in the clear.
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// What stands in it.
    pub(super) documents: Vec<Document>,
}

impl DocumentFile {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// It cannot be read, or everything that is wrong in it, with the lines.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::parse(path.display().to_string(), load(path)?)
    }

    /// Parses what stands on standard input.
    ///
    /// # Errors
    /// As [`DocumentFile::open`].
    pub(super) fn stdin() -> Result<Self> {
        Self::parse("standard input".to_owned(), load_stdin()?)
    }

    fn parse(name: String, bytes: Zeroizing<Vec<u8>>) -> Result<Self> {
        match document::parse(&bytes) {
            Ok(documents) => Ok(Self { name, bytes, documents }),
            Err(errors) => Err(CliError::Documents(
                errors.iter().map(|error| format!("{name}: {error}")).collect(),
            )),
        }
    }
}

/// The bytes of a file, which may hold values in the clear.
///
/// # Errors
/// It cannot be read.
pub(super) fn load(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    File::open(path).and_then(read).map_err(CliError::file("read", path))
}

/// What stands on standard input, which may hold values in the clear.
///
/// # Errors
/// It cannot be read.
pub(super) fn load_stdin() -> Result<Zeroizing<Vec<u8>>> {
    let failed = |source| CliError::Stream { action: "read standard input", source };
    read(io::stdin().lock()).map_err(failed)
}

fn read(source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    // One byte more than is allowed: the parser says what is wrong with it.
    source.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens every file, those of a directory as [`find`] gives them.
///
/// # Errors
/// Everything that is wrong in any of them.
pub(super) fn open_all(paths: &[PathBuf]) -> Result<Vec<DocumentFile>> {
    let mut files = Vec::with_capacity(paths.len());
    let mut errors = Vec::new();
    for path in paths {
        match DocumentFile::open(path) {
            Ok(file) => files.push(file),
            Err(error) => errors.push(error),
        }
    }
    CliError::all(errors)?;
    Ok(files)
}

/// The files that arguments name: themselves, and those of directories as [`find`] gives them.
///
/// # Errors
/// A directory cannot be read, or holds no such file.
pub(super) fn expand(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let files = |path: &PathBuf| if path.is_dir() { find(path) } else { Ok(vec![path.clone()]) };
    Ok(arguments.iter().map(files).collect::<Result<Vec<_>>>()?.concat())
}

/// Files that are applied together must not say two things about a secret: which of them would
/// stand is chance.
///
/// # Errors
/// Each key that stands in two files.
pub(super) fn check_distinct(files: &[DocumentFile]) -> Result {
    let mut seen: HashMap<&Key, (&str, usize)> = HashMap::new();
    let mut errors = Vec::new();
    for file in files {
        for document in &file.documents {
            let (key, line) = (document.key(), document.line());
            if let Some((other, at)) = seen.insert(key, (&file.name, line)) {
                errors.push(format!(
                    "{}: line {line}: `{key}` stands in {other}, line {at}, too; keep one of them",
                    file.name
                ));
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(CliError::Documents(errors)) }
}

/// The files as one that says exactly the same; none where that cannot be (a file that ends in a text
/// whose last newlines count, say).
pub(super) fn joined(files: &[DocumentFile]) -> Option<Zeroizing<Vec<u8>>> {
    const SEPARATOR: &[u8] = b"\n---\n";
    let length = files.iter().map(|file| file.bytes.len() + SEPARATOR.len()).sum();
    // Of the right size from the start, so that no part of it is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    for file in files {
        let separator = match (bytes.last(), file.bytes.starts_with(b"---")) {
            (None, _) => &[][..],
            (Some(b'\n'), true) => &[],
            (Some(_), true) => b"\n",
            (Some(b'\n'), false) => &SEPARATOR[1..],
            (Some(_), false) => SEPARATOR,
        };
        bytes.extend_from_slice(separator);
        bytes.extend_from_slice(&file.bytes);
    }
    let together = document::parse(&bytes).ok()?;
    let apart = || files.iter().flat_map(|file| &file.documents);
    let same = together.len() == apart().count()
        && together.iter().zip(apart()).all(|(one, other)| one.says_the_same(other));
    same.then_some(bytes)
}

/// The YAML files in a directory and the directories below it, in order: `*.yaml` and `*.yml`, without
/// those that start with a dot. Links to files are followed, links to directories are not.
///
/// # Errors
/// A directory cannot be read, or there is no such file.
pub(super) fn find(directory: &Path) -> Result<Vec<PathBuf>> {
    let found = find_any(directory)?;
    if found.is_empty() { Err(CliError::NoDocuments(directory.to_owned())) } else { Ok(found) }
}

/// As [`find`], where there may be none.
///
/// # Errors
/// A directory cannot be read.
pub(super) fn find_any(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(directory, &mut found).map_err(CliError::file("read", directory))?;
    found.sort_unstable();
    Ok(found)
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        } else if entry.file_type()?.is_dir() {
            collect(&path, found)?;
        } else if is_yaml(&path) && is_file(&path)? {
            found.push(path);
        }
    }
    Ok(())
}

/// Whether a path has the name of a YAML file.
pub(super) fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn is_file(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    #[test]
    fn finds_yaml_files_in_order() {
        let directory = directory(&[
            ("b.yml", ""),
            ("a/c.yaml", ""),
            ("README.md", ""),
            (".hidden.yaml", ""),
            (".git/x.yaml", ""),
        ]);
        let found = find(directory.path()).unwrap();
        assert_eq!(found, [directory.path().join("a/c.yaml"), directory.path().join("b.yml")]);
        assert!(matches!(find(&directory.path().join("a/..")), Ok(found) if found.len() == 2));
    }

    #[test]
    fn a_directory_without_any_is_an_error() {
        let directory = directory(&[("README.md", "")]);
        let error = find(directory.path()).unwrap_err();
        assert_eq!(error.exit(), Exit::BadInput);
        assert_eq!(find(&directory.path().join("missing")).unwrap_err().exit(), Exit::NotFound);
    }

    #[test]
    fn every_error_names_file_and_line() {
        let directory = directory(&[
            ("a.yaml", "key: A\nvalue: hunter2\nreadrs: []\n"),
            ("b.yaml", "key: /B\nvalue: hunter2\n"),
        ]);
        let error = open_all(&find(directory.path()).unwrap()).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("a.yaml: line 3: ") && text.contains("b.yaml: line 1: "), "{text}");
        assert!(!text.contains("hunter2"));
        assert_eq!(error.exit(), Exit::BadInput);
    }

    #[test]
    fn files_are_joined_only_if_they_still_say_the_same() {
        for (texts, possible) in [
            (["key: A\nvalue: v\n", "- {key: B, value: w}\n- key: C\n", "---\nkey: D\n"], true),
            (["key: A\nvalue: v", "# about B\nkey: B\n...\n", "key: C\nvalue: |+\n  v\n"], true),
            (["---\nkey: A\n---\nkey: A2\n...", "---\nkey: B\n", "key: C"], true),
            // Here the newline that would come between them belongs to the value.
            (["key: A\nvalue: |\n  v", "key: B\n", "key: C\n"], false),
        ] {
            let names = ["a.yaml", "b.yaml", "c.yaml"];
            let directory = directory(&std::array::from_fn::<_, 3, _>(|n| (names[n], texts[n])));
            let files = open_all(&find(directory.path()).unwrap()).unwrap();
            let one = joined(&files);
            assert_eq!(one.is_some(), possible, "{texts:?}");
            if let Some(one) = one {
                assert!(one.len() <= one.capacity() && document::parse(&one).is_ok());
            }
        }
    }

    #[test]
    fn one_key_in_two_files_is_an_error() {
        let directory =
            directory(&[("a.yaml", "key: K\nvalue: a"), ("b.yaml", "\nkey: K\nvalue: b")]);
        let files = open_all(&find(directory.path()).unwrap()).unwrap();
        let text = check_distinct(&files).unwrap_err().to_string();
        assert!(text.contains("b.yaml: line 2: `K` stands in ") && text.contains("line 1, too"));
        assert!(check_distinct(&files[..1]).is_ok());
    }
}
