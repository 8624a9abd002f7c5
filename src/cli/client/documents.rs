//! Documents in through the drop box.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::{Client, ClientError, close};

impl Client {
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
        let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
        match (imported, report().map(lines)) {
            (Ok(()), report) => Ok(report.unwrap_or_default()),
            (Err(source), Ok(report)) if !report.is_empty() => {
                Err(ClientError::Import { report, source })
            }
            (Err(source), _) => Err(self.refused("import", &format!(".import/{name}"))(source)),
        }
    }
}
