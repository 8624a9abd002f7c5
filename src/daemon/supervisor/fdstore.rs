//! What a supervisor leaves with the service manager, so that the mount outlives it too: the device, the
//! saved state, and what else the next supervisor must know (`FDSTORE` of sd_notify(3), sd_listen_fds(3)).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::fuse::Device;

use super::since_boot;
use crate::daemon::error::DaemonError;
use crate::daemon::host::{mountpoint, start_notice};

const DEVICE: &str = "secretfs-device";
const SAVED_STATE: &str = "secretfs-shelf";
const NOTE: &str = "secretfs-note";
const SETTINGS: &str = "secretfs-settings";

/// A note has this form, and a time before it: nanoseconds since boot, the lowest byte first.
const FORM: u8 = 1;
const TIME_BYTES: u64 = 8;
/// Longer than any: the first request of the kernel is the longest part.
const LONGEST_NOTE: u64 = 128 * 1024;

/// What a supervisor needs to know of a mount, beside its descriptors.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    form: u8,
    /// The mountpoint as it was asked for.
    asked: PathBuf,
    /// The same, without links.
    pub(super) path: PathBuf,
    /// The kernel's number of it.
    device: String,
    /// Tells this mount from others that the store served.
    pub(super) mount: u64,
    /// What the kernel said first.
    pub(super) first_request: Vec<u8>,
}

/// A mount that the supervisor before left.
pub(super) struct Found {
    pub(super) device: Device,
    pub(super) saved_state: OwnedFd,
    pub(super) note: Note,
    /// When that one was seen for the last time, by the clock that runs since boot.
    pub(super) down_since: Duration,
    pub(super) entry: FdStoreEntry,
}

/// What the service manager has, as long as the mount is there.
pub(super) struct FdStoreEntry(File);

impl Note {
    pub(super) fn of(
        asked: &Path,
        path: &Path,
        mount: u64,
        first_request: &[u8],
    ) -> io::Result<Self> {
        Ok(Self {
            form: FORM,
            asked: std::path::absolute(asked)?,
            path: path.to_owned(),
            device: mountpoint::device_number(path)?.ok_or(io::ErrorKind::NotFound)?,
            mount,
            first_request: first_request.to_owned(),
        })
    }

    /// Whether the mount is still where it was. Asks the mount nothing, because no server would answer.
    fn is_mounted(&self) -> bool {
        mountpoint::device_number(&self.path)
            .is_ok_and(|number| number.as_ref() == Some(&self.device))
    }
}

impl FdStoreEntry {
    /// Leaves it with the service manager; none if there is none. One that keeps nothing does not say so.
    ///
    /// # Errors
    /// The service manager cannot be told.
    pub(super) fn make(
        note: &Note,
        device: BorrowedFd<'_>,
        saved_state: BorrowedFd<'_>,
    ) -> io::Result<Option<Self>> {
        let file = File::from(memfd_create(c"secretfs-note", MFdFlags::MFD_CLOEXEC)?);
        let bytes = postcard::to_stdvec(note).map_err(io::Error::other)?;
        file.write_all_at(&bytes, TIME_BYTES)?;
        let entry = Self(file);
        entry.note_that_all_is_well()?;
        // The note last: without it, the rest is nothing.
        for (name, descriptor) in
            [(DEVICE, device), (SAVED_STATE, saved_state), (NOTE, entry.0.as_fd())]
        {
            if !start_notice::tell(&format!("FDSTORE=1\nFDNAME={name}"), Some(descriptor))? {
                return Ok(None);
            }
        }
        Ok(Some(entry))
    }

    /// From the time of the last such note on, the next supervisor takes the mount to have had no server.
    pub(super) fn note_that_all_is_well(&self) -> io::Result<()> {
        let now = u64::try_from(since_boot().as_nanos()).expect("it is not up for 500 years");
        self.0.write_all_at(&now.to_le_bytes(), 0)
    }
}

/// Finds the mount at `mountpoint` that the previous supervisor left, in what the service manager kept. A mount that
/// is elsewhere now, or that this program cannot take over, is ended.
///
/// # Errors
/// The mount that was elsewhere cannot be unmounted.
pub(super) fn find(
    kept: Vec<(String, OwnedFd)>,
    mountpoint: &Path,
) -> Result<Option<Found>, DaemonError> {
    if kept.is_empty() {
        return Ok(None);
    }
    let asked = std::path::absolute(mountpoint).ok();
    let elsewhere = match read(kept) {
        Ok(found) if found.note.is_mounted() && found.device.is_mounted() => {
            if asked.as_ref() == Some(&found.note.asked) {
                return Ok(Some(found));
            }
            Some(found.note.path)
        }
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, "the mount that was there before cannot be taken over");
            None
        }
    };
    // Callers that still wait there get an error, now that no process has the device.
    if let Err(error) = give_up() {
        tracing::warn!(%error, "the service manager keeps what nobody needs");
    }
    elsewhere.map_or(Ok(()), |path| mountpoint::detach(&path)).map(|()| None)
}

/// The settings of the supervisor before, if a mount was left as well.
pub(super) fn settings_of(kept: &[(String, OwnedFd)]) -> Option<&OwnedFd> {
    let find = |wanted| kept.iter().find(|(name, _)| name == wanted).map(|(_, kept)| kept);
    find(NOTE).and(find(SETTINGS))
}

/// Leaves the settings with the service manager, in the place of those of the supervisor before, if it has some. A
/// program that does not know them passes them over.
pub(super) fn keep_settings(settings: &OwnedFd, has_some: bool) -> io::Result<()> {
    if has_some {
        start_notice::tell(&format!("FDSTOREREMOVE=1\nFDNAME={SETTINGS}"), None)?;
    }
    start_notice::tell(&format!("FDSTORE=1\nFDNAME={SETTINGS}"), Some(settings.as_fd())).map(drop)
}

/// Lets the service manager forget what was left with it.
pub(super) fn give_up() -> io::Result<()> {
    for name in [DEVICE, SAVED_STATE, NOTE, SETTINGS] {
        start_notice::tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None)?;
    }
    Ok(())
}

fn read(kept: Vec<(String, OwnedFd)>) -> io::Result<Found> {
    let (mut device, mut saved_state, mut note) = (None, None, None);
    for (name, descriptor) in kept {
        match name.as_str() {
            DEVICE => device = Some(descriptor),
            SAVED_STATE => saved_state = Some(descriptor),
            NOTE => note = Some(File::from(descriptor)),
            _ => {}
        }
    }
    let missing = || io::Error::other("the service manager did not keep all of it");
    let (device, saved_state, file) =
        (device.ok_or_else(missing)?, saved_state.ok_or_else(missing)?, note.ok_or_else(missing)?);
    let (mut time, length) = ([0; TIME_BYTES as usize], file.metadata()?.len());
    file.read_exact_at(&mut time, 0)?;
    let length = length.saturating_sub(TIME_BYTES).min(LONGEST_NOTE);
    let mut bytes = vec![0; usize::try_from(length).expect("it is short")];
    file.read_exact_at(&mut bytes, TIME_BYTES)?;
    let another = || io::Error::other("another version of the program left it");
    let note: Note = postcard::from_bytes(&bytes).map_err(|_| another())?;
    if note.form != FORM {
        return Err(another());
    }
    let down_since = Duration::from_nanos(u64::from_le_bytes(time));
    let device = Device::from_fd(device);
    Ok(Found { device, saved_state, note, down_since, entry: FdStoreEntry(file) })
}
