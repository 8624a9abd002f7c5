//! The directory on which to mount.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::connection::Connection;
use crate::daemon::error::DaemonError;
use crate::daemon::supervisor::upgrade_socket;

/// How long a mount may take to answer that is about to be replaced. A server that was killed has a successor
/// sooner.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a server may go on whose supervisor has died.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// Sees to it that `path` can become the mountpoint, and clears what a crash left there. Gives the path
/// without links in it. What is missing is not made yet.
pub(in crate::daemon) fn check(path: &Path) -> Result<PathBuf, DaemonError> {
    let end = Instant::now() + END_TIMEOUT;
    loop {
        clear_if_dead(path)?;
        match unused(path) {
            // Its supervisor has just died, and its server is about to notice that.
            Err(DaemonError::InUse(used))
                if !upgrade_socket::has_supervisor(&used) && Instant::now() < end => {}
            // It died while it was asked.
            Err(DaemonError::Mountpoint { source, .. })
                if has_died(&source) && Instant::now() < end => {}
            outcome => return outcome,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn unused(path: &Path) -> Result<PathBuf, DaemonError> {
    let failed = |source| DaemonError::Mountpoint { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => {
            return Err(DaemonError::NotDirectory(path.to_owned()));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(_) | Err(_) => {}
    }
    let path = without_links(&std::path::absolute(path).map_err(failed)?).map_err(failed)?;
    match is_secretfs(&path).map_err(failed)? {
        true => Err(DaemonError::InUse(path)),
        false => Ok(path),
    }
}

fn has_died(error: &io::Error) -> bool {
    [Errno::ENOTCONN, Errno::ECONNABORTED]
        .map(|errno| errno as i32)
        .contains(&error.raw_os_error().unwrap_or(0))
}

/// Makes the directory, if it is missing. Where root mounts for all, all may look into it, whatever the umask:
/// without the mount they find nothing there (ENOENT), instead of being refused (EACCES).
pub(in crate::daemon) fn make(path: &Path) -> Result<(), DaemonError> {
    let failed = |source| DaemonError::Mountpoint { path: path.to_owned(), source };
    let missing: Vec<_> = path.ancestors().take_while(|above| !above.exists()).collect();
    std::fs::create_dir_all(path).map_err(failed)?;
    if nix::unistd::geteuid().is_root() {
        for made in missing {
            std::fs::set_permissions(made, Permissions::from_mode(0o755)).map_err(failed)?;
        }
    }
    Ok(())
}

/// The path of what is there, and what is missing behind it.
fn without_links(path: &Path) -> io::Result<PathBuf> {
    match (std::fs::canonicalize(path), path.parent(), path.file_name()) {
        (Err(error), Some(above), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            Ok(without_links(above)?.join(name))
        }
        (found, ..) => found,
    }
}

/// Unmounts what a dead daemon has left: a mount that the kernel reports as dead ("Transport endpoint is not
/// connected"), or one that does not answer while a process of that daemon still holds `/dev/fuse`.
///
/// # Errors
/// It cannot be unmounted. Or it does not answer, and its supervisor lives.
pub fn clear_if_dead(path: &Path) -> Result<(), DaemonError> {
    loop {
        match ask(path) {
            // A crash may have left several on top of each other.
            Some(Some(Errno::ENOTCONN)) => detach(path)?,
            // It died while it was asked.
            Some(Some(Errno::ECONNABORTED)) => {}
            Some(_) => return Ok(()),
            None if upgrade_socket::has_supervisor(path) || !is_secretfs(path).unwrap_or(false) => {
                let source = io::ErrorKind::TimedOut.into();
                return Err(DaemonError::Mountpoint { path: path.to_owned(), source });
            }
            None => {
                tracing::warn!(mountpoint = %path.display(), "nobody serves the mount; it is ended");
                match Connection::of(path) {
                    Ok(connection) => connection.abort(),
                    Err(error) => tracing::warn!(%error, "its callers may wait for ever"),
                }
                detach(path)?;
            }
        }
    }
}

/// What stat(2) of the mountpoint fails with, if it does; nothing if there is no answer in time. Another thread
/// asks: it cannot be killed while it waits.
fn ask(path: &Path) -> Option<Option<Errno>> {
    let (answer, answered) = channel();
    let asked = path.to_owned();
    std::thread::spawn(move || {
        let error = std::fs::metadata(asked).err().and_then(|error| error.raw_os_error());
        // After that time the receiver is gone.
        let _ = answer.send(error.map(Errno::from_raw));
    });
    answered.recv_timeout(ANSWER_TIMEOUT).ok()
}

/// Unmounts a mount of secretfs. Files that are open stay usable until they are closed.
///
/// # Errors
/// There is none, or it cannot be unmounted.
pub fn unmount(path: &Path) -> Result<(), DaemonError> {
    clear_if_dead(path)?;
    let failed = |source| DaemonError::Unmount { path: path.to_owned(), source };
    if !is_secretfs(path).map_err(failed)? {
        return Err(DaemonError::NotMounted(path.to_owned()));
    }
    detach(path)
}

/// Unmounts, at once even if the mount is in use.
pub(in crate::daemon) fn take_down(path: &Path) -> Result<(), DaemonError> {
    match umount2(path, MntFlags::empty()) {
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::debug!(%error, "the mount is in use; it is detached");
            detach(path)
        }
    }
}

/// Detaches what is mounted there: at once, even if it is in use.
pub(in crate::daemon) fn detach(path: &Path) -> Result<(), DaemonError> {
    let failed = |source| DaemonError::Unmount { path: path.to_owned(), source };
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) => {
            let outcome = Command::new("fusermount3").args(["-u", "-z", "--"]).arg(path).output();
            let output = outcome.map_err(failed)?;
            if output.status.success() {
                return Ok(());
            }
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let why = format!("only root and whoever mounted it may ({message})");
            Err(failed(io::Error::new(io::ErrorKind::PermissionDenied, why)))
        }
        Err(error) => Err(failed(error.into())),
    }
}

/// Whether a secretfs is mounted exactly there.
///
/// # Errors
/// The table of mounts cannot be read.
pub fn is_secretfs(path: &Path) -> io::Result<bool> {
    Ok(mount_options(path)?.is_some())
}

/// The kernel's number of the secretfs that is mounted exactly there, if one is.
pub(in crate::daemon) fn device_number(path: &Path) -> io::Result<Option<String>> {
    find(path, |mount| mount.device.to_owned())
}

/// The kernel's number of the secretfs that is mounted exactly there, and the UID that mounted it, if one is.
pub(in crate::daemon) fn device(path: &Path) -> io::Result<Option<(String, u32)>> {
    find(path, |mount| (mount.device.to_owned(), mount.owner))
}

/// The options of the secretfs that is mounted exactly there, as the kernel has them.
pub(in crate::daemon) fn mount_options(path: &Path) -> io::Result<Option<String>> {
    find(path, |mount| mount.options.to_owned())
}

/// Where this user has mounted a secretfs last, if one is there. None for root, whose mount is for all.
///
/// # Errors
/// The table of mounts cannot be read.
pub fn mount_of_user() -> io::Result<Option<PathBuf>> {
    let user = nix::unistd::geteuid();
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let is_own = |mount: &Mount<'_>| mount.kind == "fuse.secretfs" && mount.owner == user.as_raw();
    let last = table.lines().filter_map(parse_mount).rfind(is_own);
    Ok(last.filter(|_| !user.is_root()).map(|mount| mount.point.into()))
}

fn find<T>(path: &Path, what: impl Fn(&Mount<'_>) -> T) -> io::Result<Option<T>> {
    let path = std::path::absolute(path)?;
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let is_it =
        |mount: &Mount<'_>| mount.kind == "fuse.secretfs" && Path::new(&mount.point) == path;
    let mut mounts = table.lines().filter_map(parse_mount).filter(is_it);
    Ok(mounts.next_back().map(|mount| what(&mount)))
}

/// One line of mountinfo.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    /// Major and minor number.
    device: &'a str,
    point: String,
    options: &'a str,
    kind: &'a str,
    /// The UID that mounted it.
    owner: u32,
}

/// Reads one line of mountinfo (proc_pid_mountinfo(5)).
fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(2);
    let (device, mut fields) = (fields.next()?, fields.skip(1));
    let (point, options) = (fields.next()?, fields.next()?);
    let unescaped = ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(point.to_owned(), |text, (code, character)| text.replace(code, character));
    let (kind, options_of_kind) = after.split_once(' ')?;
    let owner = options_of_kind.rsplit(' ').next()?.split(',');
    let owner = owner.filter_map(|option| option.strip_prefix("user_id=")).next();
    let owner = owner.and_then(|owner| owner.parse().ok()).unwrap_or(0);
    Some(Mount { device, point: unescaped, options, kind, owner })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_table_of_mounts() {
        let line = "36 35 0:40 / /mnt/a\\040b rw,nosuid shared:1 - fuse.secretfs secretfs rw,user_id=7,group_id=8";
        let options = "rw,nosuid";
        let (point, kind) = ("/mnt/a b".to_owned(), "fuse.secretfs");
        let mount = Mount { device: "0:40", point, options, kind, owner: 7 };
        assert_eq!(parse_mount(line), Some(mount));
        assert_eq!(parse_mount("garbage"), None);
        assert!(!is_secretfs(Path::new("/proc")).unwrap());
    }
}
