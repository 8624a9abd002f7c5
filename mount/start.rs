//! Starting the daemon, and seeing to it that the mount is there.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::MsFlags;
use secretfs::daemon::{is_secretfs, unmount};

use crate::arguments::Mount;
use crate::error::HelperError;
use crate::options::Options;

/// What every mount of secretfs has; a remount must repeat it.
const ALWAYS: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC)
    .union(MsFlags::MS_NOATIME);

/// Mounts; returns once requests are served.
pub(crate) fn mount(mount: &Mount, options: &Options) -> Result<(), HelperError> {
    let program = program()?;
    let point = std::path::absolute(&mount.point).map_err(failed(&mount.point, "resolved"))?;
    let mut command = Command::new(&program);
    command.arg("mount").arg("--background").args(&options.flags).arg("--").arg(&point);
    // A daemon that stays in some directory keeps its filesystem from being unmounted.
    command.current_dir("/");
    if mount.verbose {
        eprintln!("mount.secretfs: {command:?}");
    }
    if mount.fake {
        return Ok(());
    }
    let status = command
        .status()
        .map_err(|source| HelperError::Start { program: program.clone(), source })?;
    if !status.success() {
        return Err(HelperError::Refused { point, status });
    }
    let point = there(&point)?;
    if options.read_only
        && let Err(error) = set_read_only(&point, true)
    {
        // Rather none than one that can be written to.
        unmount(&point).map_err(|error| failed(&point, "unmounted")(io::Error::other(error)))?;
        return Err(error);
    }
    Ok(())
}

/// Makes a mount that is there read-only, or writable again.
pub(crate) fn remount(mount: &Mount, options: &Options) -> Result<(), HelperError> {
    let point = there(&mount.point)?;
    if mount.fake {
        return Ok(());
    }
    set_read_only(&point, options.read_only)
}

/// The real path of the mountpoint, if secretfs is mounted there.
fn there(point: &Path) -> Result<PathBuf, HelperError> {
    let real = std::fs::canonicalize(point).map_err(failed(point, "found"))?;
    let mounted = is_secretfs(&real).map_err(failed(point, "found in the table of mounts"))?;
    if mounted { Ok(real) } else { Err(HelperError::NotThere(real)) }
}

fn set_read_only(point: &Path, read_only: bool) -> Result<(), HelperError> {
    let action = if read_only { "made read-only" } else { "made writable" };
    let mut flags = ALWAYS | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    flags.set(MsFlags::MS_RDONLY, read_only);
    nix::mount::mount(None::<&Path>, point, None::<&Path>, flags, None::<&Path>)
        .map_err(|errno| failed(point, action)(errno.into()))
}

/// Beside the helper, or in the `bin` beside its directory: not by PATH, which is the caller's.
fn program() -> Result<PathBuf, HelperError> {
    let own = std::env::current_exe().map_err(failed(Path::new("/proc/self/exe"), "read"))?;
    let directory = own.parent().unwrap_or(Path::new("/"));
    let candidates =
        vec![directory.join("secretfs"), directory.with_file_name("bin").join("secretfs")];
    match candidates.iter().find(|path| path.is_file()) {
        Some(found) => Ok(found.clone()),
        None => Err(HelperError::NoProgram(candidates)),
    }
}

fn failed(point: &Path, action: &'static str) -> impl FnOnce(io::Error) -> HelperError {
    let point = point.to_owned();
    move |source| HelperError::Point { point, action, source }
}
