//! `save` with files and folders of documents, through the drop box.

use crate::harness::{ALICE, BOB, ROOT};
use crate::kit::Cli;

#[test]
fn a_file_is_saved_and_told_document_by_document() {
    let Some(cli) = Cli::start() else { return };
    cli.file(ALICE, "a.yaml", "- key: alice/K\n  value: v\n- key: alice/L\n  value: w\n");
    let created = "line 1: alice/K: created\nline 3: alice/L: created\n";
    cli.run(ALICE, "oo secret save a.yaml").is(0, "", created);
    cli.run(ALICE, "cat $SECRETFS_MOUNT/alice/L").is(0, "w", "");
    let unchanged = created.replace("created", "unchanged");
    cli.run(ALICE, "secretfs save a.yaml").is(0, "", &unchanged);
    cli.run(ALICE, "secretfs save - < a.yaml").is(0, "", &unchanged);
    // Whatever the file is called: the daemon keeps some names for unfinished files.
    for name in [".a", "a.tmp", "a~", "#a", "a b'c"] {
        let line = format!("cp a.yaml \"{name}\" && secretfs save \"./{name}\"");
        cli.run(ALICE, &line).is(0, "", &unchanged);
    }
}

#[test]
fn a_long_report_is_told_in_numbers() {
    let Some(cli) = Cli::start() else { return };
    let text: String = (0..500).map(|n| format!("- key: alice/k/{n}\n  value: v{n}\n")).collect();
    cli.file(ALICE, "a.yaml", &text);
    cli.run(ALICE, "secretfs save a.yaml").is(0, "", "500 created, 0 updated, 0 unchanged.\n");
    cli.file(ALICE, "a.yaml", text.replace("value: v7\n", "value: w7\n"));
    cli.run(ALICE, "secretfs save a.yaml").is(0, "", "0 created, 1 updated, 499 unchanged.\n");
}

#[test]
fn what_is_refused_is_explained_and_nothing_is_saved() {
    let Some(cli) = Cli::start() else { return };
    cli.file(ROOT, "app.yaml", "id: taken\nkey: app/K\nvalue: hunter2\n");
    cli.run(ROOT, "secretfs save app.yaml").done();
    cli.file(ALICE, "a.yaml", "key: alice/K\nvalue: v\n---\nkey: app/K\nvalue: x\n");
    let refused = cli.run(ALICE, "secretfs save a.yaml");
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("a.yaml: line 5: app/K: you may not write it"), "{refused:?}");
    cli.run(ALICE, "ls $SECRETFS_MOUNT/alice").is(0, "", "");
    for (text, code, told) in [
        ("key: app/K\nvalue: x\nid: other\nchecksum: '00000000'\n", 5, "checksum"),
        ("key: M\nid: taken\nvalue: x\n", 5, "belongs to the secret app/K"),
        ("key: app\nvalue: x\n", 5, "this is a folder"),
        (
            "key: M\nvalue: a37/KUAr4SOYi6Xw9i9T8qo3QCk8WvnzONo47jHAkwk=\nencrypted: true\n",
            5,
            "secretfs convert",
        ),
    ] {
        cli.file(ROOT, "b.yaml", text);
        let refused = cli.run(ROOT, "secretfs save b.yaml");
        assert_eq!(refused.code, Some(code), "{text}: {refused:?}");
        assert!(refused.stderr.contains(told), "{text}: {refused:?}");
    }
}

#[test]
fn a_folder_is_saved_file_by_file() {
    let Some(cli) = Cli::start() else { return };
    cli.file(BOB, "s/a.yaml", "key: bob/K\nvalue: v\n");
    cli.file(BOB, "s/sub/b.yml", "key: bob/L\nvalue: w\n");
    cli.file(BOB, "s/README.md", "not a document\n");
    cli.run(BOB, "secretfs save s/").is(0, "", "Saved 2 of 2 files.\n");
    cli.file(BOB, "s/c.yaml", "key: app/M\nvalue: v\n");
    let outcome = cli.run(BOB, "secretfs save s/");
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(outcome.stderr.contains("Saved 2 of 3 files.\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("s/c.yaml: line 1: app/M: "), "{outcome:?}");
}

#[test]
fn what_encrypt_prints_can_be_saved() {
    let Some(cli) = Cli::start() else { return };
    cli.run(BOB, "secretfs encrypt alice/K 'super secret' > $HOME/../k.yaml").done();
    cli.run(ALICE, "grep -c secret ../k.yaml").is(1, "0\n", "");
    cli.run(ALICE, "secretfs save ../k.yaml").is(0, "", "line 1: alice/K: created\n");
    cli.run(ALICE, "cat $SECRETFS_MOUNT/alice/K").is(0, "super secret", "");
    cli.run(ALICE, "secretfs save --dry-run ../k.yaml").is(0, "unchanged  alice/K\n", "");
}
