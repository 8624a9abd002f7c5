//! Commands that read the state directory without the key of the store say which key it needs.

use std::fs;
use std::process::Command;

use crate::harness::{KEY, Mount, ROOT};

#[test]
fn without_a_key_they_say_which_one_is_needed() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).write("K", "value").unwrap();
    let id = fs::read_to_string(mount.state().join("key-ids")).unwrap();
    let id = id.trim_end().to_owned();
    let run = |key: Option<&str>, arguments: &[&str], state: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secretfs"));
        command.args(arguments).arg("--state-dir").arg(state);
        command.env_remove("OB_ENCRYPTION_KEY").env_remove("CREDENTIALS_DIRECTORY");
        command.envs(key.map(|key| ("OB_ENCRYPTION_KEY", key)));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let verify = ["audit", "verify"];
    let backup = mount.outside().join("backup.yaml");
    let backup = ["backup", "--offline", backup.to_str().unwrap()];
    // While a daemon has the store open, too.
    let state = mount.state();
    let says_which = |arguments: &[&str]| {
        let (code, said) = run(None, arguments, &state);
        assert_eq!(code, Some(6), "{arguments:?}: {said}");
        assert!(said.contains(&id) && said.contains("--encryption-key-file"), "{said}");
        assert!(said.contains("no key is configured"), "{said}");
    };
    says_which(&verify);
    assert_eq!(run(Some(KEY), &verify, &state).0, Some(0));
    let (code, said) = run(Some("another key, a long one"), &verify, &state);
    assert!(code == Some(6) && said.contains(&id) && said.contains("another encryption key"));
    mount.stop();
    says_which(&verify);
    says_which(&["fsck"]);
    says_which(&backup);
    for arguments in [&verify[..], &["fsck"], &backup] {
        let (code, said) = run(Some(KEY), arguments, &state);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    }
}
