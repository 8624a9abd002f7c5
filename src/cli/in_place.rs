//! Files of documents that are changed in place: every byte outside the change stays.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::daemon::NewFile;
use crate::document::{EditedFile, NewDocument};
use crate::model::Key;

use super::documents;
use super::error::{CliError, Result};

/// A file of documents, with changes that it is to get.
pub(super) struct InPlace {
    path: PathBuf,
    /// None if there is no such file.
    before: Option<Zeroizing<Vec<u8>>>,
    text: EditedFile,
    new: Vec<NewDocument>,
}

/// A file with its new content, which is valid.
pub(super) struct Changed {
    path: PathBuf,
    before: Option<Zeroizing<Vec<u8>>>,
    after: Zeroizing<Vec<u8>>,
}

impl InPlace {
    /// A file, which may be missing.
    ///
    /// # Errors
    /// It cannot be read, or everything that is wrong in it, with the lines.
    pub(super) fn open_or_new(path: &Path) -> Result<Self> {
        match documents::load(path) {
            Ok(bytes) => Self::of(path, Some(bytes)),
            Err(CliError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Self::of(path, None)
            }
            Err(error) => Err(error),
        }
    }

    /// A file that is there.
    ///
    /// # Errors
    /// As [`InPlace::open_or_new`].
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::of(path, Some(documents::load(path)?))
    }

    fn of(path: &Path, before: Option<Zeroizing<Vec<u8>>>) -> Result<Self> {
        let text = EditedFile::parse(before.clone().unwrap_or_default()).map_err(|errors| {
            let name = path.display();
            CliError::Documents(errors.iter().map(|error| format!("{name}: {error}")).collect())
        })?;
        Ok(Self { path: path.to_owned(), before, text, new: Vec::new() })
    }

    /// The text, to be edited.
    pub(super) fn text(&mut self) -> &mut EditedFile {
        &mut self.text
    }

    /// The name of the file in messages.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The number of the document of this key.
    pub(super) fn find(&self, key: &Key) -> Option<usize> {
        self.text.documents().iter().position(|document| document.key() == key)
    }

    /// Adds a document at the end.
    pub(super) fn add(&mut self, document: NewDocument) {
        self.new.push(document);
    }

    /// The file with its changes, before anything is written.
    ///
    /// # Errors
    /// It would not be valid with them.
    pub(super) fn change(self) -> Result<Changed> {
        let after = self.text.finish_with(&self.new).map_err(|error| {
            CliError::Documents(vec![format!("{}: {error}", self.path.display())])
        })?;
        Ok(Changed { path: self.path, before: self.before, after })
    }
}

impl Changed {
    /// Replaces the file: at every moment it is the old or the new one. Mode and owner stay.
    ///
    /// # Errors
    /// It was changed since it was read, or cannot be replaced.
    pub(super) fn write(self) -> Result {
        let failed = |source| CliError::file("replace", &self.path)(source);
        // A link to a file stays one.
        let path = match &self.before {
            Some(before) => {
                if documents::load(&self.path)? != *before {
                    return Err(CliError::FileChangedMeanwhile(self.path));
                }
                fs::canonicalize(&self.path).map_err(failed)?
            }
            None => self.path.clone(),
        };
        self.write_to(&path).map_err(failed)
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut file = match &self.before {
            Some(_) => NewFile::replacing(path)?,
            None => {
                if let Some(directory) = path.parent().filter(|path| !path.as_os_str().is_empty()) {
                    fs::create_dir_all(directory)?;
                }
                NewFile::create_for_all(path)?
            }
        };
        file.write_all(&self.after)?;
        file.finish()
    }
}
