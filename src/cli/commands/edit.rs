//! `edit`: a secret in an editor.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{SigHandler, Signal, signal};

use crate::cli::client::Client;
use crate::cli::completion;
use crate::cli::error::{CliError, Result};
use crate::cli::style;
use crate::daemon;
use crate::model::Key;

/// The editor if none is named.
const USUAL: &str = "vi";
/// Vim writes what it edits to its history, its swap files and its undo files, which may be outside the mount.
const VIM: &[&str] = &["-n", "-i", "NONE", "-c", "set nobackup noundofile"];

/// Edit a secret in the editor that VISUAL or EDITOR names, else in vi.
///
/// The editor works on a temporary file in the mount, which only you can see and which is never stored. When the
/// editor has ended, its text becomes the value. Nothing is written outside of the mount: Vim keeps no history,
/// backup, swap or undo file meanwhile; another editor that is configured to keep such files in a directory of
/// its own does so. A key that is new is completed as by `save`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs edit DATABASE_URL
  EDITOR=nano secretfs edit web/config.json")]
pub(in super::super) struct Args {
    /// The key of the secret.
    #[arg(add = completion::keys())]
    key: String,
}

pub(in super::super) fn run(client: &Client, args: Args) -> Result {
    // The editor gets a secret, and not the key to everything.
    drop(daemon::take_encryption_key());
    let key = match Key::parse(&args.key) {
        Ok(key) if client.may_see(&key) => key,
        _ => super::save::key_to_save(client, &args.key)?,
    };
    let version = client.version(&key)?;
    let before = match version {
        Some(_) => Some(client.read(&key)?),
        None => None,
    };
    if before.is_some() && !client.may_write(&key) {
        return Err(CliError::ReadOnly(key.to_string()));
    }
    let draft = client.draft(&key, before.as_ref())?;
    let mut editor = ["VISUAL", "EDITOR"].into_iter().filter_map(std::env::var_os);
    let editor = editor.find(|editor| !editor.is_empty());
    run_editor(editor.unwrap_or_else(|| USUAL.into()), draft.path())?;
    let value = draft.read()?;
    if before.as_ref().map_or(value.is_empty(), |before| before.expose() == value.expose()) {
        style::note(&format!("Nothing was changed in `{key}`."));
        return Ok(());
    }
    if client.version(&key)? != version {
        return Err(CliError::ChangedMeanwhile { key: key.to_string(), draft: draft.keep() });
    }
    if let Err(error) = client.write(&key, &value) {
        style::note(&format!("What you wrote is in `{}`.", draft.keep().display()));
        return Err(error.into());
    }
    style::note(&format!("Saved `{key}`."));
    Ok(())
}

/// Runs the editor, which may be named with arguments, as other programs run it: by the shell.
fn run_editor(editor: OsString, path: &Path) -> Result {
    let failed = |why| CliError::Editor { editor: editor.display().to_string(), why };
    let mut script = editor.clone();
    script.push(" \"$@\"");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(&editor);
    if is_vim(&editor) {
        command.args(VIM);
    }
    // Ctrl-C in an editor is for the editor.
    let ignored = [Signal::SIGINT, Signal::SIGQUIT];
    // SAFETY: these signals are ignored; no code of ours runs.
    let before = ignored.map(|it| (it, unsafe { signal(it, SigHandler::SigIgn) }));
    // SAFETY: signal(2) is async-signal-safe, and touches no memory.
    unsafe {
        command.pre_exec(move || {
            for it in ignored {
                signal(it, SigHandler::SigDfl)?;
            }
            Ok(())
        });
    }
    let status = command.arg(path).status();
    for (it, handler) in before {
        // SAFETY: what was there before is there again.
        unsafe { signal(it, handler.unwrap_or(SigHandler::SigDfl)) }
            .map_err(|error| failed(error.to_string()))?;
    }
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(status.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Whether the program that is named is Vim, perhaps under another name.
fn is_vim(editor: &std::ffi::OsStr) -> bool {
    let editor = editor.to_string_lossy();
    let Some(name) = editor.split_whitespace().next() else { return false };
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&search)
        .map(|directory| directory.join(name))
        .find_map(|path| path.canonicalize().ok());
    let is_one = |name: &str| name.starts_with("vim") || name.starts_with("nvim");
    found.and_then(|path| Some(is_one(path.file_name()?.to_str()?))).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_editors_are_not_vim() {
        for editor in ["", "nano", "no-such-program-at-all", "sh -c vim", "cat"] {
            assert!(!is_vim(editor.as_ref()), "{editor}");
        }
    }
}
