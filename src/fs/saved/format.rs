//! The format of the saved state: where slots, blocks and the rest lie in the file, and how long a slot is.
//!
//! Records that are added or encoded differently have numbers of their own and leave this number as it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::identities::COUNTS_END;
use crate::store::next_data;

/// The format that this version writes. It reads the ones before: format 1 is the same without this number.
const FORMAT: u32 = 2;
/// Where the number is, in every format.
const FORMAT_AT: u64 = COUNTS_END;

/// Whether this version knows the format.
///
/// # Errors
/// A later version wrote it, or the file cannot be read.
pub(super) fn check(file: &File) -> io::Result<()> {
    let mut number = [0; 4];
    // Format 1 ends before the number.
    file.read_at(&mut number, FORMAT_AT)?;
    match u32::from_le_bytes(number) {
        0 if next_data(file, 0)?.is_none() => mark(file),
        0..=FORMAT => Ok(()),
        format => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "it has format {format}, and this version knows formats up to {FORMAT}; serve the mount with the \
                 version that served it, or unmount it and mount it with this one"
            ),
        )),
    }
}

/// This version has read what there was, and writes from now on.
pub(super) fn mark(file: &File) -> io::Result<()> {
    file.write_all_at(&FORMAT.to_le_bytes(), FORMAT_AT)
}
