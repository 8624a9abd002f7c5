//! A note in the state directory with the ids of the encryption keys that its store needs. It is for commands
//! that must not open the store, because a daemon has it open or because they change nothing.
//!
//! An id says nothing about its key. The note may be missing: an older version made the store, or the disk
//! is full. It is never relied on to open the store.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Its name in the state directory.
const NAME: &str = "key-ids";
const UNFINISHED_NAME: &str = "key-ids.new";
/// Longer than any: an id has 17 bytes with its end of line.
const MAX_BYTES: u64 = 64 << 10;

/// Writes the note, unless it is there. A note that cannot be written is removed: none is better than a wrong one.
pub(super) fn write(directory: &Path, ids: &[String]) {
    let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
    if read(directory).is_some_and(|there| there == ids) {
        return;
    }
    if let Err(error) = replace(directory, &text) {
        tracing::debug!(%error, "the ids of the keys are not noted in the state directory");
        // It may never have been there.
        let _ = std::fs::remove_file(directory.join(NAME));
    }
}

/// The ids in the note; none if there is no note.
pub(super) fn read(directory: &Path) -> Option<Vec<String>> {
    // Root may ask about the directory of another user, who may put a FIFO or a link there.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(directory.join(NAME)).ok()?;
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    let ids: Vec<String> = text.lines().map(str::to_owned).collect();
    let is_id = |id: &String| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (!ids.is_empty() && ids.iter().all(is_id)).then_some(ids)
}

fn replace(directory: &Path, text: &str) -> io::Result<()> {
    let unfinished = directory.join(UNFINISHED_NAME);
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    // Without this, a power loss could leave an empty file, which says as little as none.
    file.sync_data()?;
    std::fs::rename(unfinished, directory.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_note_is_read_and_what_is_no_note_is_none() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()), None);
        let ids = ["0123456789abcdef".to_owned(), "fedcba9876543210".to_owned()];
        write(directory.path(), &ids);
        assert_eq!(read(directory.path()).as_deref(), Some(&ids[..]));
        write(directory.path(), &ids[1..]);
        assert_eq!(read(directory.path()).as_deref(), Some(&ids[1..]));
        for text in ["", "0123456789abcdef\nno id\n", "0123\n"] {
            std::fs::write(directory.path().join(NAME), text).unwrap();
            assert_eq!(read(directory.path()), None, "{text:?}");
        }
        // One that cannot be replaced is gone.
        write(directory.path(), &ids);
        std::fs::create_dir(directory.path().join(UNFINISHED_NAME)).unwrap();
        write(directory.path(), &ids[..1]);
        assert_eq!(read(directory.path()), None);
    }
}
