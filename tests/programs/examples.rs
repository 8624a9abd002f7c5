//! The examples do what they say: each is run as it stands, as the user that it is for.

use super::Stage;

/// The directory of the examples.
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// Puts a directory of examples where every user may read it.
fn with_examples(directory: &str, script: &str) -> String {
    format!("cp -r {EXAMPLES}/{directory} $T/examples\n{script}")
}

#[test]
fn a_script_hands_its_secret_on_as_a_file() {
    let Some(stage) = Stage::with(&["openssl"]) else { return };
    stage.put("billing/BACKUP_PASSPHRASE", "correct horse", "payment-svc");
    let said = stage.run(&with_examples(
        "shell",
        r#"
        export SECRETS=$S
        as 2001 $T/examples/backup-database.sh $T/backup
        stat -c %a $T/backup
        openssl enc -d -aes-256-cbc -pbkdf2 -pass 'pass:correct horse' -in $T/backup
        if as 2200 $T/examples/backup-database.sh $T/other 2> $T/said; then exit 1; fi
        tells "$(cat $T/said)" "none of your slugs is in its \`readers\` list"
        [ ! -e $T/other ]"#,
    ));
    assert_eq!(said, "600\ncreate table invoices (id int);\n");
}

#[test]
fn a_value_is_rotated_once_its_user_has_taken_it() {
    let Some(stage) = Stage::with(&["bash"]) else { return };
    stage.put("billing/TOKEN", "old", "payment-svc]\nwriters: [payment-svc");
    let said = stage.run(&with_examples(
        "shell",
        r#"
        export SECRETS=$S
        if as 2001 $T/examples/rotate.sh billing/TOKEN false; then exit 1; fi
        as 2001 cat $S/billing/TOKEN; echo
        as 2001 $T/examples/rotate.sh billing/TOKEN sh -c 'cat > $T/taken'
        [ "$(cat $T/taken)" = "$(as 2001 cat $S/billing/TOKEN)" ]
        stat -c %s $S/billing/TOKEN
        if as 2200 $T/examples/rotate.sh billing/TOKEN true 2> $T/said; then exit 1; fi
        cat $T/said"#,
    ));
    let said: Vec<_> = said.lines().collect();
    let [old, size, refused] = said[..] else { panic!("{said:?}") };
    assert_eq!((old, size), ("old", "32"));
    assert!(refused.ends_with("rotate.sh: may not write billing/TOKEN"), "{refused}");
}

#[test]
fn a_container_takes_its_settings_from_files() {
    let Some(stage) = Stage::with(&["bash"]) else { return };
    stage.put("billing/DB_PASSWORD", "open sesame", "payment-svc");
    let said = stage.run(&with_examples(
        "container",
        r#"
        start() { as "$1" env DB_PASSWORD_FILE=$S/billing/DB_PASSWORD "${@:2}"; }
        start 2001 $T/examples/entrypoint.sh sh -c 'echo "$DB_PASSWORD ${DB_PASSWORD_FILE-gone}"'
        if start 2200 $T/examples/entrypoint.sh echo started 2>/dev/null; then exit 1; fi
        if start 2001 DB_PASSWORD=x $T/examples/entrypoint.sh echo started 2> $T/said; then exit 1; fi
        cat $T/said"#,
    ));
    assert_eq!(
        said,
        "open sesame gone\nboth DB_PASSWORD and DB_PASSWORD_FILE are set; keep one of them\n"
    );
}
