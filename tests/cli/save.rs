//! `save`: a value under a key. Documents are in `save_documents.rs`.

use crate::harness::{ALICE, BOB, ROOT, UNKNOWN};
use crate::kit::Cli;

#[test]
fn the_value_is_kept_exactly() {
    let Some(cli) = Cli::start() else { return };
    for (line, input, value) in [
        (
            "secretfs save K 'postgresql://user:pass@host:5432/db'",
            "",
            "postgresql://user:pass@host:5432/db",
        ),
        ("secretfs save K ''", "", ""),
        ("secretfs save K '-----BEGIN KEY'", "", "-----BEGIN KEY"),
        ("secretfs save K --from-file f", "", "from\0file"),
        ("secretfs save K -", "piped", "piped"),
        ("secretfs save K - --trim", "piped\n", "piped"),
        ("secretfs save K - --trim", "piped\r\n", "piped"),
        ("secretfs save K - --trim", "piped\n\n", "piped\n"),
    ] {
        cli.file(ALICE, "f", "from\0file");
        cli.run_with(ALICE, line, input.as_bytes()).is(0, "", "Saved `alice/K`.\n");
        cli.run(ALICE, "cat $SECRETFS_MOUNT/alice/K").is(0, value, "");
    }
}

#[test]
fn a_newline_at_the_end_is_warned_about() {
    let Some(cli) = Cli::start() else { return };
    let warned = "Warning: the value ends in a newline, which is kept; use --trim to take it off\n\
                  Saved `alice/K`.\n";
    cli.run_with(ALICE, "secretfs save K -", b"v\n").is(0, "", warned);
    cli.file(ALICE, "f", "v\n");
    cli.run(ALICE, "secretfs save K --from-file f").is(0, "", warned);
    cli.run(ALICE, "cat $SECRETFS_MOUNT/alice/K").is(0, "v\n", "");
    // Whoever types it means it.
    cli.run(ALICE, "secretfs save K $'v\\n'").is(0, "", "Saved `alice/K`.\n");
}

#[test]
fn the_own_slug_is_put_in_front_where_it_is_missing() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save K v").is(0, "", "Saved `alice/K`.\n");
    cli.run(ALICE, "secretfs save alice/K v").is(0, "", "Saved `alice/K`.\n");
    cli.run(ALICE, "secretfs save alice v").is(0, "", "Saved `alice/alice`.\n");
    cli.run(ALICE, "secretfs save auth-svc/JWT v").is(0, "", "Saved `alice/auth-svc/JWT`.\n");
    cli.file(ALICE, ".env", "A=1");
    cli.run(ALICE, "secretfs save .env --from-file .env").is(0, "", "Saved `alice/.env`.\n");
    cli.run(ALICE, "secretfs list .env -o json | grep -c alice/.env").is(0, "1\n", "");
    let removes = "secretfs remove --key alice/.env && [ ! -e $SECRETFS_MOUNT/alice/.env ]";
    cli.run(ALICE, removes).is(0, "", "Removed `alice/.env`.\n");
    assert_eq!(cli.run(ALICE, "secretfs save .env.swp v").code, Some(5));
    cli.run(ROOT, "secretfs save K v").is(0, "", "Saved `K`.\n");
    cli.run(ROOT, "secretfs save alice/L v").is(0, "", "Saved `alice/L`.\n");
    // A secret that one may write is meant itself.
    cli.run(ROOT, "secretfs acl grant K writers bob").done();
    cli.run(BOB, "secretfs save K new").is(0, "", "Saved `K`.\n");
    cli.run(ALICE, "secretfs save K mine").is(0, "", "Saved `alice/K`.\n");
    cli.run(ROOT, "secretfs acl grant K readers alice").done();
    cli.run(ALICE, "secretfs save K mine").is(
        0,
        "",
        "Warning: you may not write `K`; `alice/K` is another secret, your own\nSaved `alice/K`.\n",
    );
    cli.run(ROOT, "secretfs read K -o json | grep -o 'new'").is(0, "new\n", "");
}

#[test]
fn keys_with_odd_characters() {
    let Some(cli) = Cli::start() else { return };
    for key in ["a b", "é/值", "a'b\"c\\d", "$(x)`y`;&*", "-k", "%s", "K.yml.bak", "~", "a:b#c"] {
        cli.file(ROOT, "key", key);
        let line = "key=$(cat key); secretfs save -- \"$key\" v && secretfs read -- \"$key\" | grep -c key:";
        cli.run(ROOT, line).is(0, "1\n", &format!("Saved `{key}`.\n"));
    }
    for (key, error) in [
        ("../x", "a component of the key is `.` or `..`; write the key without it"),
        (
            ".x",
            "the key starts with `.`, which is reserved for the filesystem; choose another name, or put a directory before it",
        ),
        (
            "x/.y~",
            "a component of the key has the form of a temporary file, which is not stored; choose another name",
        ),
        ("/x", "a key has an empty component; write it without a leading, trailing or double `/`"),
        ("x.acl", "the key ends in `.acl`, which is the name of a sidecar; choose another name"),
        ("", "a key has an empty component; write it without a leading, trailing or double `/`"),
    ] {
        let outcome = cli.run(ROOT, &format!("secretfs save '{key}' v"));
        outcome.is(5, "", &format!("Error: `{key}`: {error}\n"));
    }
}

#[test]
fn what_cannot_be_saved_is_explained() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save x/y v").done();
    cli.run(ALICE, "secretfs save alice/x v").is(
        5,
        "",
        "Error: cannot save `alice/x`: it is a directory of secrets; choose a key below it, or another \
         one\n",
    );
    cli.run(ALICE, "secretfs save alice/x/y/z v").is(
        5,
        "",
        "Error: cannot save `alice/x/y/z`: a part of it is a secret, and nothing can be below a secret; \
         choose another key\n",
    );
    cli.run(ALICE, "head -c 1048577 /dev/zero | secretfs save big -").is(
        5,
        "",
        "Error: the value is longer than 1048576 bytes; a secret holds at most that much\n",
    );
    cli.run(UNKNOWN, "secretfs save K v").is(
        3,
        "",
        "Error: cannot save `K`: you may not create secrets: your user has no name that could be a slug; \
         ask an admin for an entry in the identities file\n",
    );
    for (file, code, error) in [
        ("nope", 4, "it is not there; check the spelling"),
        ("/", 5, "it is a directory; name a file"),
        ("/etc/shadow", 3, "you may not; ask its owner or use another account"),
    ] {
        let outcome = cli.run(ALICE, &format!("secretfs save K --from-file {file}"));
        outcome.is(code, "", &format!("Error: cannot read `{file}`: {error}\n"));
    }
}

#[test]
fn the_largest_value() {
    let Some(cli) = Cli::start() else { return };
    let line =
        "head -c 1048576 /dev/zero | secretfs save big - && wc -c < $SECRETFS_MOUNT/alice/big";
    cli.run(ALICE, line).is(0, "1048576\n", "Saved `alice/big`.\n");
}

#[test]
fn dry_run_tells_what_would_change_and_never_a_value() {
    let Some(cli) = Cli::start() else { return };
    cli.run(ALICE, "secretfs save K hunter2; secretfs acl grant alice/K readers bob").done();
    cli.file(
        ALICE,
        "d.yaml",
        "- {key: alice/K, value: hunter3, readers: [alice]}\n\
         - {key: alice/K2, value: hunter3}\n\
         - {key: other/K, value: hunter3}\n",
    );
    cli.file(ALICE, "same.yaml", "{key: alice/K, value: hunter2, readers: [bob, alice]}\n");
    for (line, code, stdout, stderr) in [
        ("secretfs save K hunter2 --dry-run", 0, "unchanged  alice/K\n", ""),
        ("secretfs save K hunter3 --dry-run", 0, "updated    alice/K: value\n", ""),
        ("secretfs save N hunter3 --dry-run", 0, "created    alice/N\n", ""),
        ("secretfs save same.yaml --dry-run", 0, "unchanged  alice/K\n", ""),
        (
            "secretfs save d.yaml --dry-run",
            3,
            "updated    alice/K: readers, value\n\
             created    alice/K2\n\
             denied     other/K: you may create secrets only below `alice/`; choose such a key or ask \
             an admin\n",
            "Error: 1 of the documents would be denied; nothing was changed\n",
        ),
    ] {
        cli.run(ALICE, line).is(code, stdout, stderr);
    }
    cli.run(ALICE, "cat $SECRETFS_MOUNT/alice/*").is(0, "hunter2", "");
}
