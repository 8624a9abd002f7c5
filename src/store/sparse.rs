//! Files with holes.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// Where the first data from `from` on begins, in bytes; none if nothing but a hole follows.
///
/// # Errors
/// The file system cannot tell.
pub fn next_data(file: &File, from: u64) -> io::Result<Option<u64>> {
    let from = i64::try_from(from).map_err(io::Error::other)?;
    match lseek(file, from, Whence::SeekData) {
        Ok(place) => Ok(Some(place.unsigned_abs())),
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
