//! No mount, a dead one, another one; and unmounting.

use crate::harness::{ALICE, BOB, ROOT, eventually};
use crate::kit::Cli;

#[test]
fn without_a_mount_it_says_where_it_looked() {
    let Some(cli) = Cli::prepare() else { return };
    let error = |place: &str| {
        format!(
            "Error: secretfs is not mounted at `{place}`; mount it with `secretfs mount`, or name the \
             right place with --mount or SECRETFS_MOUNT\n"
        )
    };
    for command in
        ["list", "save K v", "read K", "remove --key K", "whoami", "is-secure", "acl show K"]
    {
        cli.run(ALICE, &format!("secretfs {command}")).is(6, "", &error("/secrets"));
    }
    cli.run(ALICE, "secretfs list --mount /nope").is(6, "", &error("/nope"));
    cli.run(ALICE, "secretfs --mount /tmp list").is(6, "", &error("/tmp"));
    cli.run(ALICE, "SECRETFS_MOUNT= secretfs list").is(6, "", &error("/secrets"));
}

#[test]
fn the_flag_goes_before_the_variable() {
    let Some(cli) = Cli::start() else { return };
    let line = "m=$SECRETFS_MOUNT; SECRETFS_MOUNT=/nope secretfs whoami --mount $m -o json";
    cli.run(BOB, line).is(
        0,
        "{\"slug\": \"bob\", \"slugs\": [\"bob\", \"uid:2200\"], \"admin\": false}\n",
        "",
    );
}

#[test]
fn a_dead_mount_is_called_dead() {
    let Some(mut cli) = Cli::start() else { return };
    cli.mount.kill9();
    cli.run(ALICE, "secretfs list").is(
        6,
        "",
        "Error: the daemon behind `/secrets` is gone; start it again with `secretfs mount /secrets`\n",
    );
    cli.mount.go();
    cli.run(ALICE, "secretfs list -o json").is(0, "[]\n", "");
}

#[test]
fn unmount_ends_the_daemon() {
    let Some(mut cli) = Cli::start() else { return };
    let pid = cli.mount.pid();
    let refused = cli.run(ALICE, "secretfs unmount");
    let error = "Error: /secrets was not unmounted: only root and whoever mounted it may (";
    assert!(refused.code == Some(3) && refused.stderr.starts_with(error), "{}", refused.stderr);
    cli.run(ROOT, "secretfs unmount").is(0, "", "Unmounted `/secrets`.\n");
    assert!(cli.mount.mounted().is_none());
    eventually("the daemon ends", || {
        let state =
            std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("nobody waited for it");
        state.contains(") Z ")
    });
    cli.mount.stop();
    cli.run(ROOT, "secretfs unmount").is(
        6,
        "",
        "Error: /secrets is not a mount of secretfs; name its mountpoint with --mount\n",
    );
}
