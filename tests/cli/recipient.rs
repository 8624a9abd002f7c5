//! `recipient`, and `encrypt --to`: values that a public key seals and only the daemon opens.

use std::process::Command;

use crate::harness::{ALICE, BOB, ROOT, UNKNOWN, skip};
use crate::kit::Cli;

/// A recipient that no test's key belongs to, of the encryption key 000102…1f (docs/keys.md).
const FOREIGN: &str = include_str!("foreign.recipient");

#[test]
fn everyone_may_know_the_recipient() {
    let Some(cli) = Cli::start() else { return };
    let printed = cli.run(ROOT, "secretfs recipient");
    let recipient = printed.done();
    assert!(recipient.starts_with("secretfs-recipient-1.") && recipient.ends_with('\n'));
    assert_eq!(recipient.lines().count(), 1);
    for person in [ALICE, UNKNOWN] {
        cli.run(person, "oo secret recipient").is(0, recipient, "");
        cli.run(person, "cat $SECRETFS_MOUNT/.status/recipient").is(0, recipient, "");
    }
}

#[test]
fn sealing_needs_no_mount_no_network_and_no_root() {
    let Some(cli) = Cli::start() else { return };
    let recipient = cli.run(ROOT, "secretfs recipient").done().to_owned();
    cli.file(ALICE, "production.recipient", &recipient);
    // Without the mount, without a network, and /dev/fuse is for root alone.
    let alone = format!(
        "cd {} && exec unshare --net --mount bash -c 'umount $SECRETFS_MOUNT && exec setpriv --reuid=2100 --regid=2100 \
         --clear-groups bash -c \"! secretfs whoami 2>/dev/null && secretfs encrypt alice/K hunter2 --to production.recipient > \
         k.yaml\"'",
        cli.home(ALICE).display()
    );
    cli.run(ROOT, &alone).is(0, "", "");
    let sealed = cli.run(ALICE, "cat k.yaml");
    let document = sealed.done();
    assert!(document.starts_with("id: \"secr_…\"\nkey: \"alice/K\"\nvalue: \"c2ZzA"), "{document}");
    assert!(document.ends_with("\"\nencrypted: true\n"), "there is a checksum: {document}");
    assert!(!document.contains("hunter2"));
    cli.run(ALICE, "secretfs verify --require-encrypted k.yaml").done();
    cli.run(ALICE, "secretfs save k.yaml && cat $SECRETFS_MOUNT/alice/K").is(
        0,
        "hunter2",
        "line 1: alice/K: created\n",
    );
    // The argument may be the recipient itself, and the value come from anywhere.
    let line = "printf v2 | secretfs encrypt alice/K - --checksum-algorithm SHA-256 \
                --to \"$(cat production.recipient)\" > k.yaml && cp k.yaml $SECRETFS_MOUNT/.import/ && \
                cat $SECRETFS_MOUNT/alice/K; grep -c SHA-256 k.yaml";
    cli.run(ALICE, line).is(0, "v21\n", "");
}

#[test]
fn what_does_not_open_is_refused_with_its_line() {
    let Some(cli) = Cli::start() else { return };
    cli.file(ALICE, "r", cli.run(ROOT, "secretfs recipient").done());
    cli.file(ALICE, "foreign", FOREIGN);
    let refused = |name: &str, make: &str, why: &str| {
        let line =
            format!("{make} | sed '1i # a comment' > {name}.yaml && secretfs save {name}.yaml");
        let outcome = cli.run(ALICE, &line);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(5), ""), "{}", outcome.stderr);
        let start = format!("Error: {name}.yaml: line 4: ");
        assert!(outcome.stderr.starts_with(&start), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
        let copied = cli.run(ALICE, &format!("cp {name}.yaml $SECRETFS_MOUNT/.import/"));
        assert!(copied.stderr.contains("Bad message"), "{}", copied.stderr);
    };
    let seal = "secretfs encrypt alice/K hunter2 --to r";
    refused(
        "foreign",
        "secretfs encrypt alice/K hunter2 --to foreign",
        "another key, 6df7e814b5b1376d",
    );
    refused("moved", &format!("{seal} | sed s,alice/K,alice/L,"), "sealed for another key name");
    refused("cut", &format!("{seal} | sed '/^value/s/....\"$/\"/'"), "sealed for another key name");
    refused("short", &format!("{seal} | sed '/^value/s/\\(.\\{{40\\}}\\).*/\\1\"/'"), "cut off");
    refused(
        "later",
        &format!("{seal} | sed 's/\"c2ZzA/\"c2ZzB/'"),
        "has version 6 of the envelope",
    );
    cli.run(ALICE, "ls $SECRETFS_MOUNT/alice").is(0, "", "");
}

#[test]
fn what_is_no_recipient_is_explained() {
    let Some(cli) = Cli::prepare() else { return };
    cli.file(ALICE, "r", &FOREIGN[..500]);
    cli.file(ALICE, "two", FOREIGN.repeat(2));
    for (to, code, said) in [
        (
            "nope",
            4,
            "Error: cannot read the recipient `nope`: it is not there; check the spelling\n",
        ),
        (
            "r",
            5,
            "Error: r: line 1: the recipient is damaged or incomplete; copy the whole line that `secretfs recipient` prints\n",
        ),
        (
            "two",
            5,
            "Error: `two` must hold exactly one recipient; a value is sealed for one environment\n",
        ),
    ] {
        cli.run(ALICE, &format!("secretfs encrypt K hunter2 --to {to}")).is(code, "", said);
    }
    cli.run(BOB, "secretfs encrypt K v").is(
        6,
        "",
        "Error: secretfs is not mounted at `/secrets`; mount it with `secretfs mount`, or name the right place with --mount or SECRETFS_MOUNT\n",
    );
}

#[test]
fn the_program_of_the_documentation_opens_what_is_sealed() {
    let page = include_str!("../../docs/keys.md");
    let block = |start: &str| {
        let (_, block) = page.split_once(start).expect("the page has it");
        block.split_once("\n```").expect("the block ends").0
    };
    let program = block("```python\n");
    // The last block is what it prints.
    let (_, printed) =
        page.trim_end().trim_end_matches("```").rsplit_once("```\n").expect("it is there");
    // .ci/run installs the package here.
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/target/judges/bin/python3");
    let can = |python: &&str| {
        let import = "from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey";
        Command::new(python)
            .args(["-c", import])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let Some(python) = ["python3", own].into_iter().find(can) else {
        return skip("needs python3 with the package `cryptography` 47 or later");
    };
    let output = Command::new(python).args(["-c", program]).output().expect("it was there before");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), printed);
    // As the readers of the page do: with a value that was sealed just now.
    let sealed = encrypt_to_the_key_of_the_page();
    let start = program.find("sealed = \"\"\"").expect("it has a value");
    let end = start + program[start..].find("envelope = ").expect("it opens it");
    let program = format!("{}sealed = \"{sealed}\"\n{}", &program[..start], &program[end..]);
    let output = Command::new(python).args(["-c", &program]).output().expect("it was there before");
    let opened = String::from_utf8_lossy(&output.stdout);
    assert_eq!(opened.lines().last(), Some("value for the recipient: hunter2"));
}

/// A value for `example-key`, sealed for the recipient of the encryption key of the page.
fn encrypt_to_the_key_of_the_page() -> String {
    let arguments = ["encrypt", "example-key", "hunter2", "--to", FOREIGN.trim()];
    let output = Command::new(env!("CARGO_BIN_EXE_secretfs")).args(arguments).output();
    let document = String::from_utf8(output.expect("the program runs").stdout).expect("YAML");
    let value = document.lines().find_map(|line| line.strip_prefix("value: "));
    value.expect("the document has a value").trim_matches('"').to_owned()
}
