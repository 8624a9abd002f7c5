//! git's own store of credentials, which it also writes.

use super::Stage;

#[test]
fn git_stores_and_forgets_credentials() {
    let Some(stage) = Stage::with(&["git", "getfattr"]) else { return };
    // It writes `FILE.lock` and renames that onto the file: the secret keeps its id and its lists.
    let said = stage.run(
        r#"
        git_as_alice() { as 2100 env HOME=$T GIT_TERMINAL_PROMPT=0 GIT_ASKPASS=false \
            git -c credential.helper="store --file=$S/alice/git-credentials" "$@"; }
        printf 'protocol=https\nhost=a.example\nusername=u\npassword=one\n\n' |
            git_as_alice credential approve
        getfattr -n user.secretfs.id --only-values $S/alice/git-credentials > $T/id
        printf 'protocol=https\nhost=b.example\nusername=u\npassword=two\n\n' |
            git_as_alice credential approve
        printf 'protocol=https\nhost=a.example\n\n' | git_as_alice credential fill | grep password
        printf 'protocol=https\nhost=a.example\n\n' | git_as_alice credential reject
        cat $S/alice/git-credentials
        [ "$(getfattr -n user.secretfs.id --only-values $S/alice/git-credentials)" = "$(cat $T/id)" ]
        ls $S/alice"#,
    );
    assert_eq!(said, "password=one\nhttps://u:two@b.example\ngit-credentials\n");
}
