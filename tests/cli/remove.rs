//! `remove`: by key and by id, several, and what was not removed.

use crate::harness::{ALICE, BOB, ROOT};
use crate::kit::Cli;

#[test]
fn several_by_key_and_by_id() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "for k in A B C D; do secretfs save $k v; done").done();
    cli.run(
        ALICE,
        "id=$(secretfs list C -o json | sed -n 's/.*\"id\": *\"\\([^\"]*\\)\".*/\\1/p'); \
         secretfs remove --key alice/A --key alice/B --id $id",
    )
    .is(0, "", "Removed `alice/A`.\nRemoved `alice/B`.\nRemoved `alice/C`.\n");
    cli.run(ALICE, "ls $SECRETFS_MOUNT/alice").is(0, "D\n", "");
}

#[test]
fn keys_need_no_flag() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "for k in A B C; do secretfs save $k v; done").done();
    cli.run(ALICE, "secretfs remove alice/A alice/B --key alice/C").is(
        0,
        "",
        "Removed `alice/A`.\nRemoved `alice/B`.\nRemoved `alice/C`.\n",
    );
}

#[test]
fn what_was_not_removed_is_told_and_the_rest_is_gone() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save A v; secretfs save B v; secretfs acl grant alice/A deleters bob")
        .done();
    cli.run(BOB, "secretfs remove --key alice/B --key nope --key alice/A --id secr_0000000000").is(
        3,
        "",
        "Removed `alice/A`.\n\
         Error: cannot remove `alice/B`: you may not delete it: none of your slugs is in its `deleters` \
         list; ask for one of them to be added\n\
         Error: cannot remove `nope`: nothing of that name is visible to you; `secretfs list` shows what \
         is\n\
         Error: no secret that you may see has the id `secr_…`; `secretfs list` shows the ids\n",
    );
    cli.run(ALICE, "ls $SECRETFS_MOUNT/alice").is(0, "B\n", "");
}

#[test]
fn a_wrong_key_removes_nothing() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ROOT, "secretfs save A v; secretfs save d/B v").done();
    cli.run(ROOT, "secretfs remove --key A --key a//b").is(
        5,
        "",
        "Error: `a//b`: a key has an empty component; write it without a leading, trailing or double \
         `/`\n",
    );
    cli.run(ROOT, "secretfs remove --key d").is(
        5,
        "",
        "Error: cannot remove `d`: it is a directory of secrets; name one of those that \
         `secretfs list -n d` shows\n",
    );
    cli.run(ROOT, "ls $SECRETFS_MOUNT").is(0, "A\nd\n", "");
}
