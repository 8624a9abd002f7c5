//! Where sealed values are put: into documents of a file, or of the files of a directory.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use crate::cli::documents;
use crate::cli::error::{CliError, Result};
use crate::cli::in_place::InPlace;
use crate::cli::sealed::{ChecksumChoice, Sealer};
use crate::cli::style;
use crate::document::Checksum;
use crate::model::{Key, Plaintext};

/// Seals values into the documents of these keys, and adds the documents that are missing.
///
/// # Errors
/// A file is wrong or cannot be replaced, or a value cannot be sealed; then no file has changed, unless the
/// disk failed.
pub(super) fn put(
    path: &Path,
    sealer: &Sealer,
    values: Vec<(Key, Plaintext)>,
    choice: Option<ChecksumChoice>,
) -> Result {
    let mut target = Target::open(path)?;
    for (key, value) in &values {
        let file = target.file_of(key)?;
        match file.find(key) {
            Some(number) => {
                let there = file.text().documents()[number].checksum().map(Checksum::algorithm);
                if let (Some(ChecksumChoice(None)), Some(_)) = (choice, there) {
                    return Err(CliError::HasChecksum { file: file.name(), key: key.to_string() });
                }
                let choice = choice.unwrap_or(ChecksumChoice(there));
                let sealed = sealer.seal(key, value, choice)?;
                file.text().set_value(number, sealed.value(), sealed.checksum());
            }
            None => {
                let choice = choice.unwrap_or(sealer.usual_checksum());
                file.add(sealer.seal(key, value, choice)?.into_new());
            }
        }
    }
    let changed = target.into_changed().map(InPlace::change).collect::<Result<Vec<_>>>()?;
    let (values, files) = (values.len(), changed.len());
    for file in changed {
        file.write()?;
    }
    style::note(&format!("Sealed {values} values into {files} files."));
    Ok(())
}

struct Target {
    /// The directory in which every new key gets a file of its own.
    directory: Option<PathBuf>,
    files: Vec<InPlace>,
    by_path: HashMap<PathBuf, usize>,
    by_key: HashMap<Key, usize>,
    changed: BTreeSet<usize>,
}

impl Target {
    fn open(path: &Path) -> Result<Self> {
        let is_directory = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
        let (by_path, by_key) = (HashMap::new(), HashMap::new());
        let (files, changed) = (Vec::new(), BTreeSet::new());
        let directory = is_directory.then(|| path.to_owned());
        let mut target = Self { directory, files, by_path, by_key, changed };
        if !is_directory {
            target.open_file(path)?;
        } else if path.is_dir() {
            for path in documents::find_any(path)? {
                target.open_file(&path)?;
            }
        }
        Ok(target)
    }

    fn open_file(&mut self, path: &Path) -> Result<usize> {
        if let Some(&number) = self.by_path.get(path) {
            return Ok(number);
        }
        let mut file = InPlace::open_or_new(path)?;
        let number = self.files.len();
        let keys = file.text().documents().iter().map(|document| document.key().clone());
        self.by_key.extend(keys.map(|key| (key, number)));
        self.files.push(file);
        self.by_path.insert(path.to_owned(), number);
        Ok(number)
    }

    /// The file that has the document of the key, or is to get it.
    fn file_of(&mut self, key: &Key) -> Result<&mut InPlace> {
        let number = match (&self.directory, self.by_key.get(key)) {
            (None, _) => 0,
            (_, Some(&number)) => number,
            (Some(directory), None) => self.open_file(&directory.join(file_name(key)))?,
        };
        self.changed.insert(number);
        Ok(&mut self.files[number])
    }

    fn into_changed(self) -> impl Iterator<Item = InPlace> {
        let changed = self.changed;
        let files = self.files.into_iter().enumerate();
        files.filter(move |(number, _)| changed.contains(number)).map(|(_, file)| file)
    }
}

/// The path of the file of a key. Names that begin with a dot are passed over by `save`, so they lose it.
fn file_name(key: &Key) -> String {
    let names = key.as_str().split('/').map(|name| match name.trim_start_matches('.') {
        "" => "_",
        name => name,
    });
    names.collect::<Vec<_>>().join("/") + ".yaml"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_file_that_save_finds() {
        for (key, name) in [
            ("K", "K.yaml"),
            ("web/DB.yaml", "web/DB.yaml.yaml"),
            ("ci/.dockerconfigjson", "ci/dockerconfigjson.yaml"),
            ("a/.../b", "a/_/b.yaml"),
        ] {
            assert_eq!(file_name(&Key::parse(key).unwrap()), name);
        }
    }
}
