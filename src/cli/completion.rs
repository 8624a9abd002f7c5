//! What a shell offers: commands and options, and the keys that the user may see.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::CompleteEnv;
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};

use super::args::MOUNT_VARIABLE;
use super::offline::DEFAULT_MOUNT;
use crate::model::Key;

/// Set by a shell that asks; its value is the name of the shell.
pub(super) const VARIABLE: &str = "SECRETFS_COMPLETE";

/// Answers a shell that asks what to offer. Gives whether one has asked.
///
/// # Errors
/// The question makes no sense, or standard output cannot be written.
pub(super) fn answer<P: CommandFactory>(arguments: &[OsString]) -> Result<bool, clap::Error> {
    let begins_a_word = arguments.last().is_some_and(|word| word.is_empty());
    let program = || if begins_a_word { without_options(P::command()) } else { P::command() };
    CompleteEnv::with_factory(program).var(VARIABLE).try_complete(arguments, None)
}

/// Options are offered to a user who has typed `-`, or where nothing else can stand.
fn without_options(program: clap::Command) -> clap::Command {
    program
        .disable_help_flag(true)
        .mut_args(|argument| {
            let is_option = !argument.is_positional();
            argument.hide(is_option)
        })
        .mut_subcommands(without_options)
}

/// Offers keys, a directory at a time.
pub(super) fn keys() -> ArgValueCompleter {
    ArgValueCompleter::new(offered_keys)
}

/// Offers keys and files.
pub(super) fn keys_and_files() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut offered = offered_keys(current);
        offered.extend(PathCompleter::any().complete(current));
        offered
    })
}

fn offered_keys(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let keys = keys_below(&mount(std::env::args_os()), current);
    keys.into_iter().map(CompletionCandidate::new).collect()
}

/// The mount that the words of the command line name, else the usual one.
fn mount(mut words: impl Iterator<Item = OsString>) -> PathBuf {
    let mut named = None;
    while let Some(word) = words.next() {
        match word.to_str().and_then(|word| word.strip_prefix("--mount")) {
            Some("") => named = words.next().or(named),
            Some(rest) => named = rest.strip_prefix('=').map(OsString::from).or(named),
            None => {}
        }
    }
    let variable = || std::env::var_os(MOUNT_VARIABLE).filter(|value| !value.is_empty());
    named.or_else(variable).map_or_else(|| DEFAULT_MOUNT.into(), PathBuf::from)
}

/// What begins so in a mount: keys, and directories with a `/` behind them. The mount shows a user what that user
/// may see. Nothing if there is no mount.
fn keys_below(mount: &Path, begin: &str) -> Vec<String> {
    let directory = begin.rfind('/').map_or("", |end| &begin[..=end]);
    let Ok(entries) = fs::read_dir(mount.join(directory.trim_start_matches('/'))) else {
        return Vec::new();
    };
    let offer = |entry: fs::DirEntry| {
        let name = format!("{directory}{}", entry.file_name().to_str()?);
        let is_directory = entry.file_type().ok()?.is_dir();
        let is_offered = Key::parse(&name).is_ok() && name.starts_with(begin);
        is_offered.then(|| if is_directory { name + "/" } else { name })
    };
    let mut offered: Vec<_> = entries.flatten().filter_map(offer).collect();
    offered.sort_unstable();
    offered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_offered_a_directory_at_a_time() {
        let mount = tempfile::tempdir().unwrap();
        for path in ["a/b/c", "a/d", "ab", "x", "ab.acl", ".status/whoami"] {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let offered = |begin: &str| keys_below(mount.path(), begin);
        assert_eq!(offered(""), ["a/", "ab", "x"]);
        assert_eq!(offered("a"), ["a/", "ab"]);
        assert_eq!(offered("a/"), ["a/b/", "a/d"]);
        assert_eq!(offered("a/b/"), ["a/b/c"]);
        assert!(
            offered("../").is_empty() && offered("nope/").is_empty() && offered(".st").is_empty()
        );
        assert!(keys_below("/nope".as_ref(), "").is_empty());
    }

    #[test]
    fn the_mount_is_the_one_that_is_named() {
        let mount = |words: &[&str]| mount(words.iter().map(OsString::from));
        assert_eq!(mount(&["secretfs", "--mount", "/m", "get", ""]), Path::new("/m"));
        assert_eq!(mount(&["secretfs", "get", "--mount=/m", ""]), Path::new("/m"));
    }
}
