//! `verify`: documents without any key or mount, for hooks and pipelines.

use crate::harness::ALICE;
use crate::kit::Cli;

#[test]
fn good_documents_need_no_mount() {
    let Some(cli) = Cli::prepare() else { return };
    cli.file(ALICE, "s/a.yaml", "key: A\nvalue: v\n---\nkey: B\nreaders: [bob]\n");
    cli.file(ALICE, "s/deep/b.yml", "- {key: C, value: w}\n");
    cli.file(ALICE, "s/README.md", "no: document");
    cli.run(ALICE, "secretfs verify s").is(
        0,
        "",
        "Nothing is wrong with 3 documents in 2 files.\n",
    );
}

#[test]
fn every_finding_has_its_line() {
    let Some(cli) = Cli::prepare() else { return };
    cli.file(ALICE, "a.yaml", "key: A\nvalue: hunter2\nreadrs: [bob]\n");
    cli.file(
        ALICE,
        "b.yaml",
        "key: A\nencrypted: true\nvalue: a37/KUAr4SOYi6Xw9i9T8qo3QCk8WvnzONo47jHAkwk=\n",
    );
    let outcome = cli.run(ALICE, "secretfs verify a.yaml b.yaml");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
    let lines: Vec<_> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", outcome.stderr);
    assert!(
        lines[0].starts_with("Error: a.yaml: line 3: ") && lines[0].contains("readrs"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with("Error: b.yaml: line 3: `A`: ")
            && lines[1].contains("secretfs convert")
    );
    assert!(!outcome.stderr.contains("hunter2") && !outcome.stderr.contains("a37/"));
    cli.run(ALICE, "secretfs verify nope.yaml").is(
        4,
        "",
        "Error: cannot read `nope.yaml`: it is not there; check the spelling\n",
    );
}

#[test]
fn a_hook_can_refuse_values_in_the_clear() {
    let Some(cli) = Cli::prepare() else { return };
    cli.file(ALICE, "a.yaml", "- key: A\n  value: hunter2\n- key: B\n  readers: [bob]\n");
    cli.run(ALICE, "secretfs verify a.yaml").is(
        0,
        "",
        "Nothing is wrong with 2 documents in 1 files.\n",
    );
    cli.run(ALICE, "secretfs verify --require-encrypted a.yaml").is(
        1,
        "",
        "Error: a.yaml: line 2: `A`: the value is in the clear; encrypt it with `secretfs encrypt`\n",
    );
}
