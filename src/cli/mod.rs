//! The command line: `secretfs <command>`, and `oo secret <command>` in the form of the reference.
//!
//! A client of the mount: plain file operations, with the rights of whoever runs it and no others.
//! Data goes to standard output, everything else to standard error; one place prints errors and
//! gives the exit code ([`Exit`]).

mod args;
mod client;
mod commands;
mod completion;
mod documents;
mod echo;
mod error;
#[cfg(test)]
mod examples;
mod exit;
mod findings;
mod in_place;
mod offline;
mod output;
mod parts;
mod pattern;
mod progress;
mod recipients;
mod sealed;
mod style;
mod suggest;
mod table;
mod value;
mod yaml;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use nix::sys::signal::{SigHandler, Signal, signal};

use args::{Command, Global, Oo, OoGroup, Secretfs};
use client::Client;
use commands::{
    acl, audit, backup, completions, convert, edit, encrypt, exec, fsck, get, is_secure, keygen,
    list, man, migrate, mount, read, recipient, rekey, reload, remove, reseal, restore, save,
    textconv, unmount, upgrade, verify, watch, whoami,
};
use error::Result;
use offline::SelectedMount;

use crate::daemon::{self, MountSettings};

pub use exit::Exit;

/// Runs `secretfs` with the arguments of this process.
pub fn main() -> ExitCode {
    start::<Secretfs>(|parsed| run(parsed.global, parsed.command, &Secretfs::command()))
}

/// Runs `oo` with the arguments of this process.
pub fn main_oo() -> ExitCode {
    // The daemon starts itself under its own name, whatever its file is called.
    if std::env::args_os().next().is_some_and(|name| name == daemon::PROGRAM) {
        return main();
    }
    start::<Oo>(|Oo { group: OoGroup::Secret(secret) }| {
        run(secret.global, secret.command, &Oo::command())
    })
}

fn start<P: Parser>(run: impl FnOnce(P) -> Result) -> ExitCode {
    if let Some(code) = daemon::touch_if_asked() {
        return code;
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match completion::answer::<P>(&arguments) {
        Ok(false) => {}
        Ok(true) => return Exit::Done.into(),
        Err(error) => return answer(error).into(),
    }
    let exit = match P::try_parse_from(&arguments) {
        Ok(parsed) => match run(parsed) {
            Ok(()) => Exit::Done,
            Err(error) => {
                error.print();
                error.exit()
            }
        },
        Err(error) => answer(suggest::command(value::without_values(error, &arguments))),
    };
    exit.into()
}

/// The help that was asked for, or what is wrong with the command line.
fn answer(error: clap::Error) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Where the help cannot be written there is nobody to tell.
            _ = error.print();
            Exit::Done
        }
        _ => {
            let text = error.render();
            let text =
                if style::is_coloured() { text.ansi().to_string() } else { text.to_string() };
            // As every other error of ours starts.
            style::raw_note(text.replacen("error:", "Error:", 1).trim_end());
            Exit::Usage
        }
    }
}

fn run(global: Global, command: Command, program: &clap::Command) -> Result {
    let named = global.mount();
    if let Command::Mount(settings) = command {
        let mountpoint = settings.mountpoint.or(named);
        return mount::run(MountSettings { mountpoint, ..settings });
    }
    if let Command::Serve(settings) = command {
        return Ok(daemon::serve(settings)?);
    }
    if let Command::Notify = command {
        return Ok(daemon::notify()?);
    }
    if let Command::LookUp = command {
        return Ok(daemon::look_up()?);
    }
    if let Command::Carry = command {
        return Ok(daemon::carry()?);
    }
    die_quietly_of_broken_pipes();
    let selected = &SelectedMount::new(named);
    let mount = selected.path();
    let client = || Client::connect(mount);
    match command {
        Command::Mount(_)
        | Command::Serve(_)
        | Command::Notify
        | Command::LookUp
        | Command::Carry => {
            unreachable!("it has been answered above")
        }
        Command::Save(args) => save::run(&client()?, args),
        Command::Get(args) => get::run(&client()?, args),
        Command::Edit(args) => edit::run(&client()?, args),
        Command::List(args) => list::run(&client()?, args),
        Command::Read(args) => read::run(&client()?, args),
        Command::Remove(args) => remove::run(&client()?, args),
        Command::Encrypt(args) => encrypt::run(client, args),
        Command::Reseal(args) => reseal::run(&client()?, args),
        Command::Recipient(args) => recipient::run(&client()?, args),
        Command::IsSecure(args) => is_secure::run(&client()?, args),
        Command::Acl(args) => acl::run(&client()?, args),
        Command::Audit(args) => audit::run(selected, args),
        Command::Verify(args) => verify::run(args),
        Command::Convert(args) => convert::run(client, args),
        Command::Exec(args) => exec::run(&client()?, args),
        Command::Watch(args) => watch::run(&client()?, args),
        Command::Whoami(args) => whoami::run(&client()?, args),
        Command::Keygen(args) => keygen::run(args),
        Command::Rekey(args) => rekey::run(selected, client, args),
        Command::Backup(args) => backup::run(selected, client, args),
        Command::Restore(args) => restore::run(selected, client, args),
        Command::Fsck(args) => fsck::run(selected, args),
        Command::Unmount(args) => unmount::run(mount.to_owned(), args),
        Command::Upgrade(args) => upgrade::run(mount.to_owned(), args),
        Command::Reload(args) => reload::run(mount.to_owned(), args),
        Command::Completions(args) => completions::run(args, program),
        Command::Textconv(args) => textconv::run(args),
        Command::Migrate(args) => migrate::run(selected, args),
        Command::Man(args) => man::run(args, program.clone()),
    }
}

/// Rust ignores SIGPIPE, and a program whose reader has gone (`| head`) would end with an error. A
/// daemon must not die because nobody reads its log: it keeps Rust's way.
fn die_quietly_of_broken_pipes() {
    // SAFETY: the default action runs no code of ours; no other thread exists yet.
    let default = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    default.expect("SIGPIPE has a default action");
}
