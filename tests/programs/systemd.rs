//! systemd's `LoadCredential=`, where systemd runs.

use super::Stage;
use crate::skip::skip_everywhere;

#[test]
fn load_credential_takes_a_file_and_a_directory() {
    if !std::path::Path::new("/run/systemd/system").exists() {
        return skip_everywhere("needs a machine that systemd has started");
    }
    let Some(stage) = Stage::with(&["systemd-run"]) else { return };
    stage.put("svc/KEY", "one", "bob");
    stage.put("svc/below/KEY", "two", "bob");
    // The manager reads it, as root; the service gets it whatever UID it has.
    let said = stage.run_on_machine(
        r#"systemd-run --quiet --wait --pipe --uid=4242 -p LoadCredential=key:$PWD/svc/KEY \
            -p LoadCredential=all:$PWD/svc sh -c \
            'cd $CREDENTIALS_DIRECTORY && cat key all_KEY all_below_KEY'"#,
    );
    assert_eq!(said, "oneonetwo");
}
