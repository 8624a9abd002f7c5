//! Documents in through the drop box.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::{Client, ClientError, close};

/// The file of the mount that holds everything that the caller may read.
const EXPORT: &str = ".export.yaml";

impl Client {
    /// Everything that the caller may read, as sealed documents of this moment, and its length in
    /// bytes.
    ///
    /// # Errors
    /// The mount failed.
    pub(in super::super) fn export(&self) -> Result<(File, u64), ClientError> {
        let opened = File::open(self.mount.join(EXPORT))
            .and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
        opened.map_err(self.export_refused())
    }

    /// Turns a failed operation on an export into an error.
    pub(in super::super) fn export_refused(&self) -> impl Fn(io::Error) -> ClientError + '_ {
        move |source| {
            // The daemon's sentence names the secret that cannot be read.
            let reason = self.newest_error(&source);
            ClientError::Refused { action: "read", name: EXPORT.to_owned(), source, reason }
        }
    }

    /// Applies a file of documents, whole or not at all. `name` is what the daemon calls the file:
    /// one path component. Gives the daemon's report, a line for each document.
    ///
    /// # Errors
    /// A document is wrong or denied, or the mount failed; nothing has changed.
    pub(in super::super) fn import(
        &self,
        name: &str,
        documents: &[u8],
    ) -> Result<Vec<String>, ClientError> {
        let path = self.mount.join(".import").join(name);
        let imported: io::Result<()> = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(documents)?;
            close(file)
        })();
        let report = || fs::read_to_string(self.mount.join(format!(".import/{name}.report")));
        // The first line says that the others are why nothing was applied.
        let is_heading = |line: &&str| line.ends_with("applied:");
        let lines = |text: String| {
            text.lines().filter(|line| !is_heading(line)).map(str::to_owned).collect::<Vec<_>>()
        };
        match (imported, report().map(lines)) {
            (Ok(()), report) => Ok(report.unwrap_or_default()),
            (Err(source), Ok(report)) if !report.is_empty() => {
                Err(ClientError::Import { report, source })
            }
            (Err(source), _) => Err(self.refused("import", &format!(".import/{name}"))(source)),
        }
    }
}
