//! `acl`: showing and changing lists.

use crate::harness::{ALICE, BOB, ROOT};
use crate::kit::Cli;

const SHOWN: &str = "\
readers:
- alice
writers:
- alice
deleters:
- alice
canChangeReaders:
- alice
canChangeWriters:
- alice
canChangeDeleters:
- alice
";

#[test]
fn show_prints_the_six_lists() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save K v").done();
    cli.run(ALICE, "secretfs acl show alice/K").is(0, SHOWN, "");
    cli.run(ALICE, "cat $SECRETFS_MOUNT/alice/K.acl").is(0, SHOWN, "");
    cli.run(ALICE, "secretfs acl show alice/K --output json").is(
        0,
        "{\"readers\": [\"alice\"], \"writers\": [\"alice\"], \"deleters\": [\"alice\"], \
         \"canChangeReaders\": [\"alice\"], \"canChangeWriters\": [\"alice\"], \
         \"canChangeDeleters\": [\"alice\"]}\n",
        "",
    );
    cli.run(BOB, "secretfs acl show alice/K").is(
        3,
        "",
        "Error: cannot read the lists of `alice/K`: you may not read the lists of it: none of your \
         slugs is in any of its lists; ask for one of them to be added\n",
    );
}

#[test]
fn grant_and_revoke_change_one_list() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save K v").done();
    cli.run(BOB, "cat $SECRETFS_MOUNT/alice/K").is(
        1,
        "",
        "cat: /secrets/alice/K: Permission denied\n",
    );
    cli.run(ALICE, "secretfs acl grant alice/K readers order-svc bob bob").is(
        0,
        "",
        "Changed the `readers` list of `alice/K`.\n",
    );
    cli.run(BOB, "cat $SECRETFS_MOUNT/alice/K").is(0, "v", "");
    let lists = cli.run(ALICE, "secretfs acl show alice/K -o yaml");
    assert!(
        lists
            .stdout
            .starts_with("readers: [\"alice\", \"order-svc\", \"bob\"]\nwriters: [\"alice\"]\n")
    );
    cli.run(ALICE, "secretfs acl grant alice/K readers bob").is(
        0,
        "",
        "The `readers` list of `alice/K` is like that already.\n",
    );
    cli.run(ALICE, "secretfs acl revoke alice/K readers bob order-svc nobody").is(
        0,
        "",
        "Changed the `readers` list of `alice/K`.\n",
    );
    cli.run(ALICE, "secretfs acl show alice/K").is(0, SHOWN, "");
}

#[test]
fn all_slugs_are_granted_or_none() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save K v").done();
    cli.run(ALICE, "secretfs acl grant alice/K readers bob 'not a slug'").is(
        5,
        "",
        "Error: \"not a slug\" is not a slug; use 1 to 64 of a-z A-Z 0-9 . _ - starting with a letter \
         or digit, or uid:N, or gid:N\n",
    );
    cli.run(ALICE, "secretfs acl show alice/K").is(0, SHOWN, "");
}

#[test]
fn changes_at_once_are_all_there() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save K v").done();
    cli.run(ALICE, "for n in 1 2 3 4 5 6; do secretfs acl grant alice/K readers s$n & done; wait")
        .done();
    cli.run(
        ALICE,
        "secretfs acl show alice/K -o yaml | head -1 | grep -o 's[0-9]' | sort | tr -d '\n'",
    )
    .is(0, "s1s2s3s4s5s6", "");
}

#[test]
fn the_daemon_explains_what_may_not_be_changed() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save K v && secretfs acl grant alice/K readers bob").done();
    cli.run(BOB, "secretfs acl grant alice/K readers dave").is(
        3,
        "",
        "Error: cannot change the lists of `alice/K`: you may not change the `readers` list of it: \
         none of your slugs is in its `canChangeReaders` list; ask for one of them to be added\n",
    );
    cli.run(ALICE, "secretfs acl grant alice/K canChangeReaders bob").is(
        3,
        "",
        "Error: cannot change the lists of `alice/K`: you may not change the `canChangeReaders` list \
         of it: only an admin may; ask one\n",
    );
    cli.run(ROOT, "secretfs acl grant alice/K canChangeReaders bob").is(
        0,
        "",
        "Changed the `canChangeReaders` list of `alice/K`.\n",
    );
    cli.run(BOB, "secretfs acl grant alice/K readers dave").done();
}

#[test]
fn a_wrong_list_or_secret_is_named() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ROOT, "secretfs acl grant K readrs bob").is(
        2,
        "",
        "Error: `readrs` is not a list; name one of readers, writers, deleters, canChangeReaders, \
         canChangeWriters, canChangeDeleters\n",
    );
    cli.run(ROOT, "secretfs acl grant K readers bob").is(
        4,
        "",
        "Error: cannot read the lists of `K`: nothing of that name is visible to you; `secretfs list` \
         shows what is\n",
    );
}
