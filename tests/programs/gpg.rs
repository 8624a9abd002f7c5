//! GnuPG with its passphrase and its private key from the mount.

use super::Stage;

#[test]
fn gpg_signs_and_decrypts_with_secrets_from_the_mount() {
    let Some(stage) = Stage::with(&["gpg"]) else { return };
    stage.put("alice/passphrase", "correct horse", "alice");
    let said = stage.run(
        r#"
        gpg_in() { local home=$1; shift; as 2100 gpg --homedir $home --batch --quiet --yes \
            --pinentry-mode loopback --passphrase-file $S/alice/passphrase "$@"; }
        as 2100 mkdir -m 700 $T/one $T/two
        gpg_in $T/one --quick-gen-key alice@example.org default default never 2> /dev/null
        gpg_in $T/one --armor --export-secret-keys > $T/exported
        as 2100 tee $S/alice/private-key < $T/exported > /dev/null
        gpg_in $T/two --import $S/alice/private-key
        echo message | gpg_in $T/one --encrypt --recipient alice@example.org > $T/sealed
        gpg_in $T/two --decrypt < $T/sealed
        echo message | gpg_in $T/two --sign | gpg_in $T/one --decrypt 2> $T/verified
        grep -o 'Good signature' $T/verified"#,
    );
    assert_eq!(said, "message\nmessage\nGood signature\n");
}
