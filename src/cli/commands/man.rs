//! `man`: the manual, from the same definitions as the help.

use std::fs;
use std::path::{Path, PathBuf};

use clap_mangen::Man;

use crate::cli::error::{CliError, Result};
use crate::cli::output::print;

/// Print a page of the manual, or write all of them into a directory.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs man | man -l -
  secretfs man acl grant | man -l -
  secretfs man --dir /usr/local/share/man/man1")]
pub(in super::super) struct Args {
    /// The command; without it, the program's own page.
    #[arg(conflicts_with = "dir")]
    command: Vec<String>,
    /// Write all pages into this directory.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

pub(in super::super) fn run(args: Args, program: clap::Command) -> Result {
    let program = program.disable_help_subcommand(true);
    match args.dir {
        Some(directory) => write_all(&directory, pages(program)),
        None => {
            let own = program.get_name().to_owned();
            let end = args.command.iter().map(|word| format!("-{word}")).collect::<String>();
            let all = pages(program);
            let page = all.iter().find(|(page, _)| match end.as_str() {
                "" => *page == own,
                end => page.ends_with(end),
            });
            let (_, page) = page.ok_or(CliError::NoSuchPage(args.command.join(" ")))?;
            print(page)
        }
    }
}

fn write_all(directory: &Path, pages: Vec<(String, String)>) -> Result {
    fs::create_dir_all(directory).map_err(CliError::file("make", directory))?;
    for (name, page) in pages {
        let path = directory.join(format!("{name}.1"));
        fs::write(&path, page).map_err(CliError::file("write", path))?;
    }
    Ok(())
}

/// Each page with its name: `secretfs`, `secretfs-save`, `secretfs-acl-grant`, …
fn pages(mut program: clap::Command) -> Vec<(String, String)> {
    program.build();
    let mut pages = Vec::new();
    add(program, &mut pages);
    pages
}

fn add(command: clap::Command, pages: &mut Vec<(String, String)>) {
    command.get_subcommands().cloned().for_each(|below| add(below, pages));
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut page = Vec::new();
    Man::new(command).render(&mut page).expect("a vector takes everything");
    pages.push((name, String::from_utf8_lossy(&page).into_owned()));
}
