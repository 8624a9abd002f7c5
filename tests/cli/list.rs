//! `list`: the secrets that one may see.

use crate::harness::{ALICE, BOB, ROOT};
use crate::kit::Cli;
use crate::terminal::Terminal;

fn with_secrets() -> Option<Cli> {
    let cli = Cli::start()?;
    cli.run(ALICE, "secretfs save DB hunter2 && secretfs save svc/TOKEN hunter33").done();
    cli.run(ROOT, "secretfs save STRIPE_KEY '' && secretfs acl grant STRIPE_KEY deleters bob")
        .done();
    Some(cli)
}

#[test]
fn values_are_masked() {
    let Some(cli) = with_secrets() else { return };
    cli.run(ROOT, "secretfs list").is(
        0,
        "KEY              ID               LENGTH  VALUE     UPDATED\n\
         STRIPE_KEY       secr_…       0  ********  TIME\n\
         alice/DB         secr_…       7  ********  TIME\n\
         alice/svc/TOKEN  secr_…       8  ********  TIME\n",
        "",
    );
}

#[test]
fn everyone_sees_only_what_is_theirs() {
    let Some(cli) = with_secrets() else { return };
    cli.run(ALICE, "secretfs list -o json | grep -o '\"key\": \"[^\"]*'").is(
        0,
        "\"key\": \"alice/DB\n\"key\": \"alice/svc/TOKEN\n",
        "",
    );
    cli.run(BOB, "secretfs list --show").is(
        0,
        "KEY         ID               LENGTH  VALUE           UPDATED\n\
         STRIPE_KEY  secr_…       0  (not readable)  TIME\n",
        "",
    );
}

#[test]
fn show_prints_them_in_one_line_each() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save A hunter2; printf 'a\\n\\033[2Jb' | secretfs save B -").done();
    cli.run(ALICE, "secretfs list --show").is(
        0,
        "KEY      ID               LENGTH  VALUE          UPDATED\n\
         alice/A  secr_…       7  hunter2        TIME\n\
         alice/B  secr_…       7  a\\n\\u{1b}[2Jb  TIME\n",
        "",
    );
}

#[test]
fn json_and_yaml() {
    let Some(cli) = with_secrets() else { return };
    cli.run(ALICE, "secretfs list --output json").is(
        0,
        "[\n  \
         {\"key\": \"alice/DB\", \"id\": \"secr_…\", \"length\": 7, \"updated\": \"TIME\"},\n  \
         {\"key\": \"alice/svc/TOKEN\", \"id\": \"secr_…\", \"length\": 8, \"updated\": \"TIME\"}\n\
         ]\n",
        "",
    );
    cli.run(ALICE, "secretfs list DB --show --output yaml").is(
        0,
        "- key: \"alice/DB\"\n  id: \"secr_…\"\n  length: 7\n  value: \"hunter2\"\n  \
         updated: \"TIME\"\n",
        "",
    );
    cli.run(BOB, "secretfs list nope --output json").is(0, "[]\n", "");
    cli.run(BOB, "secretfs list nope --output yaml").is(0, "[]\n", "");
    cli.run(ALICE, "secretfs list -o xml").is(
        2,
        "",
        "Error: invalid value 'xml' for '--output <FORM>'\n  [possible values: table, json, yaml]\n\n  tip: a similar value exists: 'yaml'\n\n\
         For more information, try '--help'.\n",
    );
}

#[test]
fn patterns_and_namespaces() {
    let Some(cli) = with_secrets() else { return };
    for (arguments, keys) in [
        ("TOKEN", "alice/svc/TOKEN\n"),
        ("token", ""),
        ("'*KE*'", "STRIPE_KEY\nalice/svc/TOKEN\n"),
        ("'alice/??'", "alice/DB\n"),
        ("-n alice", "alice/DB\nalice/svc/TOKEN\n"),
        ("--namespace /alice/svc/", "alice/svc/TOKEN\n"),
        ("-n alice DB", "alice/DB\n"),
        ("-n alice 'D*'", "alice/DB\n"),
        ("-n alice alice/DB", "alice/DB\n"),
        ("-n ali", ""),
        ("-n STRIPE_KEY", ""),
    ] {
        let line =
            format!("secretfs list {arguments} -o yaml | sed -n 's/^- key: \"\\(.*\\)\"/\\1/p'");
        cli.run(ROOT, &line).is(0, keys, "");
    }
    cli.run(ROOT, "secretfs list nope").is(0, "", "There is no such secret that you may see.\n");
}

#[test]
fn a_narrow_terminal_shortens_keys_and_a_file_does_not() {
    let Some(cli) = with_secrets() else { return };
    let (code, shown) = Terminal::run(&cli, ALICE, 69, "secretfs list").end();
    assert_eq!(code, 0);
    let shown = cli.same_every_time(shown.as_bytes());
    assert_eq!(
        shown,
        "\x1b[1mKEY           ID               LENGTH  VALUE     UPDATED\x1b[0m\n\
         alice/DB      secr_…       7  ********  TIME\n\
         alice/svc/T…  secr_…       8  ********  TIME\n"
    );
    let plain = "NO_COLOR=1 secretfs list TOKEN; TERM=dumb secretfs list nope";
    let (_, shown) = Terminal::run(&cli, ALICE, 200, plain).end();
    assert!(!shown.contains('\x1b') && shown.contains("alice/svc/TOKEN  secr_"), "{shown}");
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let Some(cli) = Cli::start() else { return };
    // More than a pipe holds.
    let line =
        "cd $SECRETFS_MOUNT/alice && for n in {1..1500}; do echo v > a-rather-long-name-$n; done";
    cli.run(ALICE, line).done();
    cli.run(ALICE, "secretfs list | head -1; echo ${PIPESTATUS[0]}").is(
        0,
        "KEY                            ID               LENGTH  VALUE     UPDATED\n141\n",
        "",
    );
    cli.run(ALICE, "secretfs list > /dev/full").is(
        70,
        "",
        "Error: cannot write to standard output: the disk is full; make room and try again\n",
    );
}
