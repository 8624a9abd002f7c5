//! `save` with documents: a file, a directory, standard input.

use crate::harness::{ALICE, ROOT};
use crate::kit::Cli;
use crate::terminal::Terminal;

#[test]
fn a_file_is_applied_and_each_document_reported() {
    let Some(cli) = Cli::start() else { return };
    cli.file(
        ALICE,
        "d.yaml",
        "- {key: alice/K, value: v, readers: [alice, bob]}\n- {key: alice/L, value: w}\n",
    );
    cli.run(ALICE, "secretfs save d.yaml").is(
        0,
        "",
        "line 1: alice/K: created\nline 2: alice/L: created\n",
    );
    cli.run(ALICE, "oo secret save - < d.yaml").is(
        0,
        "",
        "line 1: alice/K: unchanged\nline 2: alice/L: unchanged\n",
    );
    cli.run(ALICE, "cat $SECRETFS_MOUNT/alice/*").is(0, "vw", "");
    cli.run(ALICE, "secretfs acl show alice/K -o yaml | head -2").is(
        0,
        "readers: [\"alice\", \"bob\"]\nwriters: [\"alice\"]\n",
        "",
    );
}

#[test]
fn sealed_documents_go_round() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs encrypt alice/K hunter2 > k.yaml; secretfs save k.yaml").is(
        0,
        "",
        "line 1: alice/K: created\n",
    );
    cli.run(ALICE, "cat $SECRETFS_MOUNT/alice/K; secretfs save k.yaml --dry-run").is(
        0,
        "hunter2unchanged  alice/K\n",
        "",
    );
    // Under another name it does not decrypt.
    cli.run(ALICE, "sed -i s,alice/K,alice/L, k.yaml");
    let moved = cli.run(ALICE, "secretfs save k.yaml");
    assert_eq!((moved.code, moved.stdout.as_str()), (Some(5), ""), "{}", moved.stderr);
    assert!(moved.stderr.starts_with("Error: k.yaml: line "), "{}", moved.stderr);
}

#[test]
fn a_file_is_applied_whole_or_not_at_all() {
    let Some(cli) = Cli::start() else { return };
    cli.file(ALICE, "d.yaml", "- {key: alice/K, value: v}\n- {key: other/K, value: hunter2}\n");
    let denied = cli.run(ALICE, "secretfs save d.yaml");
    assert_eq!((denied.code, denied.stdout.as_str()), (Some(3), ""), "{}", denied.stderr);
    assert_eq!(denied.stderr.lines().count(), 1, "{}", denied.stderr);
    assert!(denied.stderr.starts_with("Error: d.yaml: line 2: "), "{}", denied.stderr);
    assert!(denied.stderr.contains("other/K") && !denied.stderr.contains("hunter2"));
    cli.run(ALICE, "secretfs list -o json").is(0, "[]\n", "");
}

#[test]
fn wrong_documents_are_found_before_anything_is_sent() {
    let Some(cli) = Cli::start() else { return };
    cli.file(ALICE, "s/a.yaml", "key: alice/A\nvalue: v\n");
    cli.file(ALICE, "s/b.yaml", "key: alice/B\nvalue: hunter2\nreadrs: [bob]\n");
    let wrong = cli.run(ALICE, "secretfs save s");
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(5), ""), "{}", wrong.stderr);
    assert!(wrong.stderr.starts_with("Error: s/b.yaml: line 3: "), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("readrs") && !wrong.stderr.contains("hunter2"));
    cli.file(ALICE, "s/b.yaml", "key: alice/A\nvalue: w\n");
    cli.run(ALICE, "secretfs save s/").is(
        5,
        "",
        "Error: s/b.yaml: line 1: `alice/A` stands in s/a.yaml, line 1, too; keep one of them\n",
    );
    cli.run(ALICE, "mkdir empty; secretfs save empty").is(
        5,
        "",
        "Error: `empty` holds no YAML file; documents are files that end in .yaml or .yml\n",
    );
    cli.run(ALICE, "secretfs save nope.yaml").is(
        4,
        "",
        "Error: cannot read `nope.yaml`: it is not there; check the spelling\n",
    );
    cli.run(ALICE, "secretfs list -o json").is(0, "[]\n", "");
}

#[test]
fn a_directory_is_counted() {
    let Some(cli) = Cli::start() else { return };
    cli.file(ROOT, "s/a.yaml", "[{key: A, value: v}, {key: B, value: v}]\n");
    cli.file(ROOT, "s/deep/c.yml", "{key: C, value: v}\n");
    cli.run(ROOT, "secretfs save s").is(0, "", "Saved 2 of 2 files: 3 created.\n");
    cli.file(ROOT, "s/deep/c.yml", "{key: C, value: w}\n");
    cli.run(ROOT, "secretfs save s/").is(0, "", "Saved 2 of 2 files: 1 updated, 2 unchanged.\n");
    // Each file by itself: what may not be saved does not stop the others.
    cli.file(ALICE, "s/a.yaml", "{key: other/A, value: v}\n");
    cli.file(ALICE, "s/b.yaml", "{key: alice/B, value: v}\n");
    let partly = cli.run(ALICE, "secretfs save s");
    assert_eq!(partly.code, Some(3), "{}", partly.stderr);
    assert!(
        partly.stderr.starts_with("Saved 1 of 2 files: 1 created.\nError: s/a.yaml: line 1: "),
        "{}",
        partly.stderr
    );
}

#[test]
fn progress_is_shown_on_a_terminal_and_nowhere_else() {
    let Some(cli) = Cli::start() else { return };
    cli.run(
        ALICE,
        "mkdir s; for n in {1..400}; do echo \"{key: alice/$n, value: v}\" > s/$n.yaml; done",
    )
    .done();
    let (code, shown) = Terminal::run(&cli, ALICE, 80, "secretfs save s").end();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("/400 files"), "{shown}");
    assert!(shown.ends_with("Saved 400 of 400 files: 400 created.\n"), "{shown}");
    cli.run(ALICE, "secretfs save s").is(0, "", "Saved 400 of 400 files: 400 unchanged.\n");
}
