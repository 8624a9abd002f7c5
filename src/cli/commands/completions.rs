//! `completions`: for the shells.

use clap_complete::env::Shells;

use crate::cli::completion::VARIABLE;
use crate::cli::error::{CliError, Result};
use crate::cli::output::print;

/// Print the completion script for a shell.
///
/// With it, the shell completes commands, options, and the keys that you may see.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs completions bash > /etc/bash_completion.d/secretfs
  secretfs completions zsh > \"${fpath[1]}/_secretfs\"
  secretfs completions fish > ~/.config/fish/completions/secretfs.fish
  oo secret completions bash > /etc/bash_completion.d/oo")]
pub(in super::super) struct Args {
    /// The shell.
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

pub(in super::super) fn run(args: Args, program: &clap::Command) -> Result {
    let name = program.get_name();
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell).expect("clap accepts no other shell");
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, name, name, name, &mut script)
        .map_err(|source| CliError::Stream { action: "make the script", source })?;
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if args.shell == "zsh" {
        // The first completion of a shell that finds the script in its `fpath` runs it as the function `_NAME`.
        script += &format!(
            "if [ \"$funcstack[1]\" = _{name} ]; then _clap_dynamic_completer_{name} \"$@\"; fi\n"
        );
    }
    print(&script)
}
