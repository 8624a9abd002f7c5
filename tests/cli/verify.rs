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

#[test]
fn findings_can_be_read_by_programs() {
    let Some(cli) = Cli::prepare() else { return };
    cli.file(ALICE, "a.yaml", "key: A\nvalue: v\nreadrs: [bob]\n");
    cli.file(ALICE, "b.yaml", "- key: B\n  value: hunter2\n");
    let verify = "secretfs verify --require-encrypted a.yaml b.yaml --output";
    let (unknown, clear) = (
        "unknown field `readrs`; did you mean `readers`?",
        "the value is in the clear; encrypt it with `secretfs encrypt`",
    );
    cli.run(ALICE, &format!("{verify} json")).is(
        1,
        &format!(
            "[\n  {{\"file\": \"a.yaml\", \"line\": 3, \"key\": null, \"message\": \"{unknown}\"}},\n  \
             {{\"file\": \"b.yaml\", \"line\": 2, \"key\": \"B\", \"message\": \"{clear}\"}}\n]\n"
        ),
        "",
    );
    cli.run(ALICE, &format!("{verify} github")).is(
        1,
        &format!(
            "::error file=a.yaml,line=3::{unknown}\n::error file=b.yaml,line=2::`B`: {clear}\n"
        ),
        "",
    );
    cli.file(ALICE, "a.yaml", "key: A\nreaders: [bob]\n");
    cli.run(ALICE, "secretfs verify a.yaml --output json").is(0, "[]\n", "");
    cli.run(ALICE, "secretfs verify a.yaml --output github").is(0, "", "");
}

#[test]
fn values_must_be_for_the_recipient_and_lists_for_somebody() {
    let Some(cli) = Cli::prepare() else { return };
    cli.file(ALICE, "r", include_str!("foreign.recipient"));
    let seal = |key: &str| format!("secretfs encrypt {key} hunter2 --to r > {key}.yaml");
    cli.run(ALICE, &seal("A")).done();
    cli.run(ALICE, "secretfs verify --to r A.yaml").is(
        0,
        "",
        "Nothing is wrong with 1 documents in 1 files.\n",
    );
    let value = sealed_by_another();
    let text = format!("key: B\nencrypted: true\nvalue: {value}\nreaders: [alice, bob]\n");
    cli.file(ALICE, "b.yaml", text);
    cli.file(ALICE, "ids.yaml", "identities:\n- {slug: alice, uid: 2100}\n");
    cli.run(ALICE, "secretfs verify --to r --identities ids.yaml A.yaml b.yaml").is(
        1,
        "",
        "Error: b.yaml: line 3: `B`: the value is sealed for another recipient, that of the key 0001020304050607; seal it with `secretfs encrypt --to`\n\
         Error: b.yaml: line 4: `B`: `bob` in `readers` is in no entry of the identities file; correct it, or add it there\n",
    );
    cli.run(ALICE, "secretfs verify --to nope A.yaml").is(
        4,
        "",
        "Error: cannot read the recipient `nope`: it is not there; check the spelling\n",
    );
}

/// An envelope of version 1 with the key id 0001020304050607.
fn sealed_by_another() -> String {
    format!("c2ZzAQABAgMEBQYH{}", "A".repeat(64))
}
