//! A directory of secrets as settings: every file that is there is taken, and one that cannot be read
//! fails all. What the caller may not see is not there.

use std::process::Command;

use super::Stage;
use crate::harness::skip;

/// Two that the service may read, and one that it may not.
fn stage(programs: &[&str]) -> Option<Stage> {
    let stage = Stage::with(programs)?;
    stage.put("app/DB_PASSWORD", "open sesame", "payment-svc");
    stage.put("app/API_KEY", "k-1\n", "payment-svc");
    stage.put("app/ROOT_ONLY", "not for the service", "bob");
    Some(stage)
}

#[test]
fn envdir_and_s6_envdir_make_variables_of_a_directory() {
    for program in ["envdir", "s6-envdir"] {
        let Some(stage) = stage(&[program]) else { return };
        let said = stage.run(&format!(
            "env -i /usr/bin/setpriv --reuid 2001 --regid 2001 --clear-groups $(command -v {program}) \
             $S/app /usr/bin/env | sort"
        ));
        assert_eq!(said, "API_KEY=k-1\nDB_PASSWORD=open sesame\n", "{program}");
    }
}

#[test]
fn pydantic_reads_its_secrets_dir() {
    // pydantic 1 has it built in, pydantic 2 in a package of its own.
    let imports = "
try: from pydantic_settings import BaseSettings
except ImportError: from pydantic import BaseSettings";
    // Debian's, whatever else is in the PATH.
    let can_import = Command::new("/usr/bin/python3").args(["-c", imports]).output();
    if !can_import.is_ok_and(|output| output.status.success()) {
        return skip("needs python3 with pydantic");
    }
    let Some(stage) = stage(&["python3"]) else { return };
    let said = stage.run(&format!(
        r#"
        cat > $T/settings.py <<'X'{imports}
class Settings(BaseSettings):
    db_password: str
    api_key: str
    root_only: str = "not seen"
settings = Settings(_secrets_dir="/mnt/app")
print(repr(settings.db_password), settings.api_key.strip(), settings.root_only)
X
        as 2001 env -i /usr/bin/python3 $T/settings.py"#
    ));
    assert_eq!(said, "'open sesame' k-1 not seen\n");
}

#[test]
fn an_entrypoint_takes_its_password_from_a_file_variable() {
    let Some(stage) = stage(&["bash"]) else { return };
    // The convention of Docker's official images: NAME or NAME_FILE, not both.
    let said = stage.run(
        r#"
        cat > $T/entrypoint.sh <<'X'
#!/bin/bash
set -eu
file_env() {
    local name=$1 file=${1}_FILE
    if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then echo "both are set" >&2; exit 1; fi
    if [ -n "${!file:-}" ]; then export "$name"="$(< "${!file}")"; fi
    unset "$file"
}
file_env DB_PASSWORD
exec "$@"
X
        as 2001 env DB_PASSWORD_FILE=$S/app/DB_PASSWORD bash $T/entrypoint.sh printenv DB_PASSWORD
        if as 2200 env DB_PASSWORD_FILE=$S/app/DB_PASSWORD bash $T/entrypoint.sh true 2> $T/said
        then exit 1; fi
        grep -o 'Permission denied' $T/said"#,
    );
    assert_eq!(said, "open sesame\nPermission denied\n");
}
