//! Finding one's way by `--help`, and wrong command lines.

use crate::harness::{ALICE, ROOT};
use crate::kit::Cli;

/// Without options; `acl` has three commands of its own.
pub(crate) const COMMANDS: &[&str] = &[
    "mount",
    "save",
    "get",
    "edit",
    "list",
    "read",
    "remove",
    "encrypt",
    "is-secure",
    "acl",
    "acl show",
    "acl grant",
    "acl revoke",
    "verify",
    "convert",
    "exec",
    "whoami",
    "keygen",
    "rekey",
    "backup",
    "restore",
    "fsck",
    "migrate",
    "unmount",
    "upgrade",
    "completions",
    "man",
];

#[test]
fn every_command_has_help_in_both_programs_without_a_mount() {
    let Some(cli) = Cli::prepare() else { return };
    for command in COMMANDS {
        let short = cli.run(ALICE, &format!("secretfs {command} -h"));
        assert_eq!(short.stderr, "");
        let help = short.done();
        assert!(help.contains(&format!("\nUsage: secretfs {command}")), "{help}");
        let last = command.rsplit(' ').next().expect("a word");
        assert!(cli.run(ALICE, "secretfs -h; secretfs acl -h").done().contains(last), "{command}");
        let long = cli.run(ALICE, &format!("oo secret {command} --help"));
        assert!(long.done().contains(&format!("\nUsage: oo secret {command}")), "{}", long.stdout);
    }
}

#[test]
fn the_help_fits_into_80_columns() {
    let Some(cli) = Cli::prepare() else { return };
    for command in COMMANDS.iter().chain(&[""]) {
        let help = cli.run(ALICE, &format!("COLUMNS=80 secretfs {command} --help"));
        let widest = help.done().lines().max_by_key(|line| line.chars().count()).unwrap_or("");
        assert!(widest.chars().count() <= 100, "{command}: {widest}");
    }
}

#[test]
fn exit_codes_are_documented() {
    let Some(cli) = Cli::prepare() else { return };
    for program in ["secretfs", "oo"] {
        let help = cli.run(ALICE, &format!("{program} --help"));
        for code in ["0", "1", "2", "3", "4", "5", "6", "70"] {
            let line = format!("\n  {code:<2}  ");
            assert!(help.done().contains(&line), "{program}: {code}");
        }
    }
}

#[test]
fn without_a_command_the_help_is_shown() {
    let Some(cli) = Cli::prepare() else { return };
    for (program, usage) in [
        ("secretfs", "\nUsage: secretfs [OPTIONS] <COMMAND>\n"),
        ("oo", "\nUsage: oo <COMMAND>\n"),
        ("oo secret", "\nUsage: oo secret [OPTIONS] <COMMAND>\n"),
        ("secretfs acl", "\nUsage: secretfs acl [OPTIONS] <COMMAND>\n"),
    ] {
        let outcome = cli.run(ALICE, program);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{program}");
        assert!(outcome.stderr.contains(usage), "{program}: {}", outcome.stderr);
    }
}

#[test]
fn a_wrong_line_is_explained() {
    let Some(cli) = Cli::start() else { return };
    for (line, error) in [
        (
            "secretfs lst",
            "Error: unrecognized subcommand 'lst'\n\n  tip: a similar subcommand exists: 'list'\n\n\
             Usage: secretfs [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.\n",
        ),
        (
            "secretfs rm K",
            "Error: unrecognized subcommand 'rm'\n\n  tip: a similar subcommand exists: 'remove'\n\n\
             Usage: secretfs [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.\n",
        ),
        (
            "secretfs save",
            "Error: the following required arguments were not provided:\n  <KEY|FILE|DIR>\n\n\
             Usage: secretfs save <KEY|FILE|DIR> [VALUE]\n\nFor more information, try '--help'.\n",
        ),
        (
            "secretfs save KEY my hunter2",
            "Error: there is a word too many; put a value with spaces in quotes (see --help)\n",
        ),
        (
            "secretfs remove",
            "Error: the following required arguments were not provided:\n  <KEY|--key <KEY>|--id <ID>>\n\n\
             Usage: secretfs remove <KEY|--key <KEY>|--id <ID>>\n\nFor more information, try '--help'.\n",
        ),
        (
            "secretfs man no such",
            "Error: there is no page about `no such`; `--help` lists the commands\n",
        ),
    ] {
        let code = if line.contains("man") { 4 } else { 2 };
        cli.run(ROOT, line).is(code, "", error);
    }
}
