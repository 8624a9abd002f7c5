//! `whoami`, `is-secure`, `keygen`.

use crate::harness::{ALICE, BUILT_IN_KEY, CAROL, ROOT, UNKNOWN, set_mode};
use crate::kit::Cli;

#[test]
fn whoami() {
    let Some(cli) = Cli::start() else { return };
    for (person, text) in [
        (
            ALICE,
            "slug: \"alice\"\nslugs: [\"alice\", \"uid:2100\", \"devops-team\"]\nadmin: false\n",
        ),
        (
            CAROL,
            "slug: \"carol\"\nslugs: [\"carol\", \"uid:2500\", \"secret-admins\"]\nadmin: true\n",
        ),
        (UNKNOWN, "slug: null\nslugs: [\"uid:4242\"]\nadmin: false\n"),
    ] {
        cli.run(person, "secretfs whoami").is(0, text, "");
        cli.run(person, "oo secret whoami --output yaml").is(0, text, "");
    }
    cli.run(ALICE, "secretfs whoami --output json").is(
        0,
        "{\"slug\": \"alice\", \"slugs\": [\"alice\", \"uid:2100\", \"devops-team\"], \"admin\": false}\n",
        "",
    );
}

#[test]
fn is_secure_is_a_question() {
    let Some(mut cli) = Cli::prepare() else { return };
    cli.mount.go();
    cli.run(ALICE, "oo secret is-secure").is(0, "Service is secure.\n", "");
    cli.run(ALICE, "secretfs is-secure -o json").is(0, "{\"reasons\":[],\"secure\":true}\n", "");
    let Some(cli) = Cli::prepare() else { return };
    let mount = cli.mount.with_env("OB_ENCRYPTION_KEY", Some(BUILT_IN_KEY)).started();
    let cli = Cli { mount };
    let reason = "it is using the default encryption key";
    let error = format!("Error: secret svc is not secure: {reason}\n");
    cli.run(ROOT, "oo secret is-secure").is(1, "", &error);
    let json = format!("{{\"reasons\":[\"{reason}\"],\"secure\":false}}\n");
    cli.run(ALICE, "secretfs is-secure -o json").is(1, &json, &error);
}

#[test]
fn keygen_makes_a_key_that_mount_takes() {
    let Some(cli) = Cli::prepare() else { return };
    let first = cli.run(ALICE, "secretfs keygen").done().to_owned();
    assert_eq!(first.len(), 45, "32 bytes as base64 and a newline");
    assert_ne!(cli.run(ALICE, "secretfs keygen").done(), first);
    cli.file(ROOT, "key", &first);
    let file = cli.home(ROOT).join("key");
    set_mode(&file, 0o600);
    let arguments = ["--encryption-key-file", file.to_str().expect("UTF-8")];
    let cli = Cli {
        mount: cli.mount.with_env("OB_ENCRYPTION_KEY", None).with_args(&arguments).started(),
    };
    cli.run(ALICE, "secretfs is-secure").is(0, "Service is secure.\n", "");
}

#[test]
fn commands_on_the_state_directory_use_that_of_the_mount() {
    let Some(mut cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save K v").done();
    let of_alice = "secretfs audit tail -o json | grep -c alice/K";
    assert_ne!(cli.run(ROOT, of_alice).done(), "0\n");
    assert_ne!(cli.run(ROOT, "secretfs audit tail | grep -c alice/K").done(), "0\n");
    let used = cli.run(ROOT, "secretfs fsck");
    assert!(used.code == Some(6) && used.stderr.contains("/state"), "{}", used.stderr);
    // The mount is named, and not this user's.
    let refused = cli.run(ALICE, "secretfs audit tail");
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("only root and the user who mounted it"), "{}", refused.stderr);
    let other = "secretfs audit tail --state-dir /nope";
    assert_eq!(cli.run(ALICE, other).code, Some(4));
    cli.mount.stop();
    let other =
        cli.run(ROOT, "XDG_STATE_HOME= secretfs audit tail --mount $SECRETFS_MOUNT 2>&1 || true");
    assert!(!other.done().contains("alice/K"), "{}", other.stdout);
}
