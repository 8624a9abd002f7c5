//! `completions` and `man`: from the same definitions as the help.

use crate::harness::{ALICE, BOB};
use crate::help::COMMANDS;
use crate::kit::Cli;
use crate::skip::has;

/// What bash offers for the last of these words, with the script loaded.
fn offered(cli: &Cli, words: &[&str]) -> Vec<String> {
    let program = words[0];
    let script =
        if program == "oo" { "oo secret completions bash" } else { "secretfs completions bash" };
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let line = format!(
        "{script} > script && source ./script && COMP_WORDS=({words}) && COMP_CWORD={last} && \
         function=$(complete -p {program} | sed 's/.* -F \\([^ ]*\\) .*/\\1/') && \
         $function {program} '{word}' '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words = quoted.join(" "),
        last = words.len() - 1,
        word = words[words.len() - 1],
        before = words[words.len() - 2],
    );
    cli.run(ALICE, &line).done().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let Some(cli) = Cli::prepare() else { return };
    for (words, expected) in [
        (&["secretfs", "li"][..], &["list"][..]),
        (&["secretfs", "un"], &["unmount"]),
        (&["secretfs", "acl", "g"], &["grant"]),
        (&["secretfs", "list", "--n"], &["--namespace"]),
        (&["secretfs", "list", "--output", ""], &["table", "json", "yaml"]),
        (&["oo", "se"], &["secret"]),
        (&["oo", "secret", "enc"], &["encrypt"]),
        (&["oo", "secret", "save", "--dry"], &["--dry-run"]),
    ] {
        assert_eq!(offered(&cli, words), expected, "{words:?}");
    }
}

#[test]
fn bash_completes_the_keys_that_the_user_may_see() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "for k in API DB sub/K; do secretfs save $k v; done").done();
    cli.run(BOB, "secretfs save B v").done();
    cli.run(ALICE, "secretfs acl grant alice/DB readers bob").done();
    for (words, expected) in [
        (&["secretfs", "get", ""][..], &["alice/"][..]),
        (&["secretfs", "get", "alice/"], &["alice/API", "alice/DB", "alice/sub/"]),
        (&["secretfs", "remove", "alice/API", "alice/s"], &["alice/sub/"]),
        (&["secretfs", "acl", "grant", "alice/D"], &["alice/DB"]),
        (&["oo", "secret", "edit", "alice/A"], &["alice/API"]),
        (&["secretfs", "--mount", "/nope", "get", ""], &["--mount"]),
    ] {
        assert_eq!(offered(&cli, words), expected, "{words:?}");
    }
    let of_bob = cli
        .run(BOB, "_CLAP_COMPLETE_INDEX=2 SECRETFS_COMPLETE=bash secretfs -- secretfs get alice/");
    of_bob.is(0, "alice/DB", "");
}

#[test]
fn every_shell_gets_every_command_and_can_parse_the_script() {
    let Some(cli) = Cli::prepare() else { return };
    for (shell, check) in [("bash", "bash -n"), ("zsh", "zsh -n"), ("fish", "fish --no-execute")] {
        for (program, group) in [("secretfs", ""), ("oo", "secret")] {
            cli.run(ALICE, &format!("{program} {group} completions {shell} > script")).done();
            if has(&[shell]) {
                cli.run(ALICE, &format!("{check} script")).is(0, "", "");
            }
            for command in COMMANDS {
                let words: Vec<_> =
                    [program, group].into_iter().chain(command.split(' ')).collect();
                let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
                let offered = cli.run(
                    ALICE,
                    &format!(
                        "_CLAP_IFS=$'\\n' _CLAP_COMPLETE_INDEX={} SECRETFS_COMPLETE={shell} {program} -- {}",
                        words.len() - 1,
                        words.join(" "),
                    ),
                );
                let last = words.last().expect("there is one");
                let is_offered = |line: &str| line.split(['\t', ':']).next() == Some(last);
                assert!(
                    offered.done().lines().any(is_offered),
                    "{shell}: {words:?}: {}",
                    offered.stdout
                );
            }
        }
    }
    cli.run(ALICE, "secretfs completions tcsh").is(
        2,
        "",
        "Error: invalid value 'tcsh' for '<SHELL>'\n  [possible values: bash, zsh, fish]\n\n  \
         tip: a similar value exists: 'zsh'\n\nFor more information, try '--help'.\n",
    );
}

#[test]
fn every_command_has_a_page_that_man_renders_without_a_warning() {
    let Some(cli) = Cli::prepare() else { return };
    if !has(&["man", "groff"]) {
        return;
    }
    cli.run(ALICE, "secretfs man --dir pages && oo secret man --dir pages").is(0, "", "");
    let listed = cli.run(ALICE, "ls pages");
    for command in COMMANDS {
        let page = command.replace(' ', "-");
        for name in [format!("secretfs-{page}.1"), format!("oo-secret-{page}.1")] {
            assert!(listed.done().lines().any(|listed| listed == name), "no {name}");
        }
    }
    let render = "for page in pages/*.1; do MANWIDTH=80 man --warnings -P cat -l $page > text; \
                  grep -q '^SYNOPSIS' text || echo \"$page: empty\"; done";
    cli.run(ALICE, render).is(0, "", "");
}

#[test]
fn a_page_is_found_by_its_command() {
    let Some(cli) = Cli::prepare() else { return };
    for (line, title) in [
        ("secretfs man", ".TH secretfs 1"),
        ("secretfs man save", ".TH secretfs-save 1"),
        ("secretfs man acl grant", ".TH secretfs-acl-grant 1"),
        ("oo secret man save", ".TH oo-secret-save 1"),
    ] {
        let page = cli.run(ALICE, line);
        assert!(
            page.done().contains(title),
            "{line}: {}",
            page.stdout.lines().next().unwrap_or("")
        );
    }
    let pages =
        cli.run(ALICE, "secretfs man --dir d; ls d/*secretfs.1; grep -c 'bad input' d/secretfs.1");
    pages.is(0, "d/secretfs.1\n1\n", "");
    cli.run(ALICE, "secretfs man --dir /proc/nope").is(
        4,
        "",
        "Error: cannot make `/proc/nope`: it is not there; check the spelling\n",
    );
}
