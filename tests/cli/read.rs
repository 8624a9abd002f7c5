//! `read`: secrets as YAML and JSON, in the clear.

use crate::harness::{ALICE, BOB, ROOT};
use crate::kit::Cli;

const LISTS: &str = "readers: [\"alice\"]\nwriters: [\"alice\"]\ndeleters: [\"alice\"]\n\
                     canChangeReaders: [\"alice\"]\ncanChangeWriters: [\"alice\"]\n\
                     canChangeDeleters: [\"alice\"]\n";

#[test]
fn one_secret_is_a_document() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save K $'a \"b\"\\n'").done();
    cli.run(ALICE, "secretfs read alice/K").is(
        0,
        &format!("id: \"secr_…\"\nkey: \"alice/K\"\nvalue: \"a \\\"b\\\"\\n\"\n{LISTS}"),
        "",
    );
    cli.run(ALICE, "secretfs read alice/K --output json").is(
        0,
        "{\"id\": \"secr_…\", \"key\": \"alice/K\", \"value\": \"a \\\"b\\\"\\n\", \
         \"readers\": [\"alice\"], \"writers\": [\"alice\"], \"deleters\": [\"alice\"], \
         \"canChangeReaders\": [\"alice\"], \"canChangeWriters\": [\"alice\"], \
         \"canChangeDeleters\": [\"alice\"]}\n",
        "",
    );
}

#[test]
fn bytes_that_are_no_text_are_base64() {
    let Some(cli) = Cli::start() else { return };
    cli.run_with(ALICE, "secretfs save K -", b"\xff\0").done();
    cli.run(ALICE, "secretfs read alice/K | grep value").is(0, "value: !!binary \"/wA=\"\n", "");
    cli.run(ALICE, "secretfs read alice/K -o json | grep -o '\"value.*}, '").is(
        0,
        "\"value\": {\"base64\": \"/wA=\"}, \n",
        "",
    );
}

#[test]
fn without_a_key_everything_that_one_may_read() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs read").is(0, "[]\n", "");
    cli.run(ALICE, "secretfs save K v").done();
    cli.run(ROOT, "secretfs save M hidden && secretfs acl grant M writers alice").done();
    let indented: String = LISTS.lines().map(|line| format!("  {line}\n")).collect();
    cli.run(ALICE, "secretfs read").is(
        0,
        &format!("- id: \"secr_…\"\n  key: \"alice/K\"\n  value: \"v\"\n{indented}"),
        "1 more that you may see but not read were left out.\n",
    );
}

#[test]
fn refusals_are_explained() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save svc/K v").done();
    cli.run(BOB, "secretfs read alice/svc/K").is(
        3,
        "",
        "Error: cannot read `alice/svc/K`: you may not read it: none of your slugs is in its `readers` \
         list; ask for one of them to be added\n",
    );
    cli.run(ALICE, "secretfs read nope").is(
        4,
        "",
        "Error: cannot read `nope`: nothing of that name is visible to you; `secretfs list` shows what \
         is\n",
    );
    cli.run(ALICE, "secretfs read alice/svc").is(
        5,
        "",
        "Error: cannot read `alice/svc`: it is a directory of secrets; name one of those that \
         `secretfs list -n alice/svc` shows\n",
    );
    cli.run(ALICE, "secretfs read $'a\\e[2Jb'").is(
        5,
        "",
        "Error: `a\\u{1b}[2Jb`: the key contains a control character; remove it\n",
    );
}

#[test]
fn nothing_in_a_value_or_a_name_steers_the_terminal() {
    let Some(cli) = Cli::start() else { return };
    let value = "a\u{202e}b\u{1b}[2Jc\u{200f}\u{9b}";
    cli.run_with(ALICE, "secretfs save K -", value.as_bytes()).done();
    let escaped = "\"a\\u202eb\\u001b[2Jc\\u200f\\u009b\"";
    cli.run(ALICE, "secretfs read alice/K | grep value").is(0, &format!("value: {escaped}\n"), "");
    let json = cli.run(ALICE, "secretfs read alice/K -o json");
    assert!(json.stdout.contains(escaped), "{}", json.stdout);
    let listed = cli.run(ALICE, "secretfs list --show");
    assert!(listed.stdout.contains("a\\u{202e}b\\u{1b}[2Jc\\u{200f}\\u{9b}"), "{}", listed.stdout);
    cli.run(ALICE, "cat \"$SECRETFS_MOUNT/alice/K\"").is(0, value, "");
    let marked = "(echo > \"$SECRETFS_MOUNT/\"$'x\\u202eK') 2>/dev/null; cat \"$SECRETFS_MOUNT/.status/last-error\"";
    for command in
        ["secretfs save $'M\\u202eN' v; secretfs list; secretfs read $'M\\u202eN'", marked]
    {
        let outcome = cli.run(BOB, command);
        let said = outcome.stdout + &outcome.stderr;
        assert!(!said.contains('\u{202e}') && said.contains("202e"), "{command}: {said}");
    }
}
