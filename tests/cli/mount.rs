//! `mount` as a command: what it refuses, and with which exit code.

use crate::harness::{ALICE, ROOT};
use crate::kit::Cli;

#[test]
fn what_is_wrong_is_named_and_nothing_is_made() {
    let Some(cli) = Cli::start() else { return };
    cli.file(ROOT, "bad.yaml", "muontpoint: /x\n");
    cli.file(ROOT, "empty", "");
    for (arguments, code, error) in [
        (
            "m --config nope.yaml",
            4,
            "nope.yaml cannot be used: No such file or directory (os error 2); name another file or \
             change its owner or mode",
        ),
        (
            "m --encryption-key-file nope",
            4,
            "nope cannot be used: No such file or directory (os error 2); name another file or change \
             its owner or mode",
        ),
        (
            "$SECRETFS_MOUNT --log-level error",
            6,
            "/secrets is in use: secretfs is mounted there already; unmount it first with \
             `secretfs unmount`, or choose another mountpoint",
        ),
        ("empty --log-level error", 6, "empty is not a directory; choose another mountpoint"),
    ] {
        let line = format!("OB_ENCRYPTION_KEY=x secretfs mount {arguments} --state-dir state");
        cli.run(ROOT, &line).is(code, "", &format!("Error: {error}\n"));
    }
    let bad = cli.run(ROOT, "secretfs mount m --config bad.yaml");
    assert_eq!(bad.code, Some(5), "{}", bad.stderr);
    assert!(bad.stderr.starts_with("Error: bad.yaml: ") && bad.stderr.contains("muontpoint"));
    let closed = "secretfs mount /root/nope --state-dir state --log-level error";
    assert_eq!(cli.run(ALICE, closed).code, Some(3));
    cli.run(ROOT, "ls").is(0, "bad.yaml\nempty\n", "");
}

#[test]
fn in_the_background_it_returns_once_it_serves() {
    let Some(cli) = Cli::prepare() else { return };
    let line = "secretfs mount $SECRETFS_MOUNT --background --state-dir state --log-level error \
                --encryption-key-file key && secretfs save K v && secretfs unmount";
    cli.run(ROOT, "umask 077; secretfs keygen > key").done();
    cli.run(ROOT, line).is(0, "", "mounted at /secrets\nSaved `K`.\nUnmounted `/secrets`.\n");
    let line = "secretfs mount $SECRETFS_MOUNT --background --state-dir state --log-level error \
                --encryption-key-file nope";
    cli.run(ROOT, line).is(
        6,
        "",
        "Error: /home/root/nope cannot be used: No such file or directory (os error 2); name another file or \
         change its owner or mode\n\
         Error: the daemon did not start; its own message stands above\n",
    );
}
