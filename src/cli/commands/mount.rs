//! `mount`: serves until a signal or an unmount ends it, or says whether it could.

use crate::cli::error::{CliError, Result};
use crate::cli::style;
use crate::daemon::{self, MountSettings};

pub(in super::super) fn run(settings: MountSettings) -> Result {
    if !settings.check {
        return Ok(daemon::mount(settings)?);
    }
    CliError::all(daemon::check(settings).into_iter().map(CliError::from).collect())?;
    style::note("Nothing is wrong with the configuration, the identities and the keys.");
    Ok(())
}
