//! `completions`: for the shells.

use clap_complete::{Shell, generate};

use crate::cli::error::Result;
use crate::cli::output::print;

/// Print the completion script for a shell.
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

pub(in super::super) fn run(args: Args, mut program: clap::Command) -> Result {
    let shell = match args.shell.as_str() {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        _ => Shell::Fish,
    };
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    generate(shell, &mut program, name, &mut script);
    print(&String::from_utf8_lossy(&script))
}
