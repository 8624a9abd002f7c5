//! `get` and `edit`: a value as it is, and in an editor.

use std::fs;

use crate::harness::{ALICE, BOB, ROOT, set_mode, skip};
use crate::kit::Cli;
use crate::terminal::Terminal;

#[test]
fn get_prints_the_bytes_and_nothing_else() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ROOT, "printf 'a\\0b\\n\\377' > $SECRETFS_MOUNT/K; printf '' > $SECRETFS_MOUNT/empty")
        .done();
    cli.run(ROOT, "secretfs get K > value && cmp value $SECRETFS_MOUNT/K").is(0, "", "");
    cli.run(ROOT, "oo secret get empty | wc -c").is(0, "0\n", "");
    cli.run(ROOT, "secretfs get nope").is(
        4,
        "",
        "Error: cannot read `nope`: nothing of that name is visible to you; `secretfs list` shows what is\n",
    );
    cli.run(ALICE, "secretfs save K v && secretfs acl grant alice/K deleters bob").done();
    let denied = cli.run(BOB, "secretfs get alice/K");
    assert_eq!((denied.code, denied.stdout.as_str()), (Some(3), ""), "{}", denied.stderr);
    assert!(denied.stderr.contains("you may not read it"), "{}", denied.stderr);
}

/// An editor that appends a line, and notes what it was given.
const APPEND: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\" > ~/given\necho line >> \"$1\"\n";

fn editor(cli: &Cli, text: &str) {
    cli.file(ALICE, "editor", text);
    set_mode(&cli.home(ALICE).join("editor"), 0o755);
}

#[test]
fn an_editor_works_on_the_file_in_the_mount() {
    let Some(cli) = Cli::start() else { return };
    editor(&cli, APPEND);
    cli.run(ALICE, "EDITOR=~/editor secretfs edit K.json; sed s/edit-[0-9]*/edit-PID/ given").is(
        0,
        "/secrets/alice/.tmp-edit-PID.json\n",
        "Saved `alice/K.json`.\n",
    );
    cli.run(
        ALICE,
        "EDITOR=nope VISUAL=~/editor secretfs edit alice/K.json; secretfs get alice/K.json",
    )
    .is(0, "line\nline\n", "Saved `alice/K.json`.\n");
    let unchanged = |key: &str| format!("Nothing was changed in `{key}`.\n");
    cli.run(ALICE, "EDITOR=true secretfs edit alice/K.json").is(0, "", &unchanged("alice/K.json"));
    cli.run(ALICE, "EDITOR='sh -c :' secretfs edit new/K").is(0, "", &unchanged("alice/new/K"));
    cli.run(ALICE, "EDITOR=false secretfs edit alice/K.json").is(
        2,
        "",
        "Error: the editor `false` failed (exit status: 1); set VISUAL or EDITOR to another one\n",
    );
    cli.run(ALICE, "secretfs get alice/K.json").is(0, "line\nline\n", "");
    cli.run(ALICE, "ls -A $SECRETFS_MOUNT $SECRETFS_MOUNT/alice | grep -c tmp-edit")
        .is(1, "0\n", "");
}

#[test]
fn what_another_process_wrote_meanwhile_is_not_replaced() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save K first").done();
    editor(&cli, "#!/bin/sh\necho mine > \"$1\"\necho other > $SECRETFS_MOUNT/alice/K\n");
    let refused = cli.run(ALICE, "EDITOR=~/editor secretfs edit alice/K");
    let why = "Error: `alice/K` was changed by another process and nothing was saved; what you wrote is in `";
    assert!(refused.code == Some(5) && refused.stderr.starts_with(why), "{}", refused.stderr);
    cli.run(ALICE, "cat $SECRETFS_MOUNT/alice/.tmp-edit-* $SECRETFS_MOUNT/alice/K").is(
        0,
        "mine\nother\n",
        "",
    );
}

#[test]
fn no_editor_starts_for_what_may_not_be_read_or_written() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "for k in A B C; do secretfs save $k v; done").done();
    cli.run(
        ALICE,
        "secretfs acl grant alice/A readers bob; secretfs acl grant alice/B writers bob",
    )
    .done();
    let refused = |key: &str, why: &str| {
        let outcome = cli.run(BOB, &format!("EDITOR='touch ~/started;' secretfs edit {key}; ls ~"));
        assert_eq!(outcome.stdout, "");
        assert!(outcome.stderr.contains(why), "{key}: {}", outcome.stderr);
    };
    refused("alice/A", "cannot edit `alice/A`: you may read it and not write it");
    refused("alice/B", "cannot read `alice/B`: you may not read it");
}

#[test]
fn vim_leaves_nothing_outside_of_the_mount() {
    let Some(cli) = Cli::start() else { return };
    let programs = ["/usr/bin/vim", "/usr/bin/vim.tiny"];
    let Some(vim) = programs.into_iter().find(|path| fs::exists(path).unwrap_or(false)) else {
        return skip("needs vim");
    };
    let directories =
        "set undofile backup directory=~// undodir=~ backupdir=~ viminfo='100,<50,h\n";
    cli.file(ALICE, ".vimrc", directories);
    cli.run(ALICE, "secretfs save K first").done();
    let mut terminal =
        Terminal::run(&cli, ALICE, 80, &format!("EDITOR={vim} secretfs edit alice/K"));
    terminal.expect("first");
    terminal.type_in("ccsecond\u{1b}:wq\r");
    let (code, shown) = terminal.end();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("Saved `alice/K`."), "{shown}");
    cli.run(ALICE, "secretfs get alice/K").is(0, "second\n", "");
    cli.run(ALICE, "ls -A; secretfs list -o json | grep -c key").is(0, ".vimrc\n1\n", "");
}
