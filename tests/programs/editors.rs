//! Editors with the settings that people have, on a terminal: swap files, backups, temporary files.

use super::Stage;

/// Runs `command` on a terminal, types `keys` and waits for its end.
const TYPE: &str = r#"
cat > $T/type.py <<'X'
import os, pty, select, sys, time
keys, command = sys.argv[1].encode().decode("unicode_escape").encode(), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execvp(command[0], command)
screen, typed, start = b"", False, time.time()
while time.time() - start < 30:
    if select.select([terminal], [], [], 0.5)[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        screen += data
    elif not typed and screen:
        # It has drawn its screen and waits.
        os.write(terminal, keys)
        typed = True
_, status = os.waitpid(pid, 0)
if status:
    sys.stderr.write(repr(screen[-2000:]))
sys.exit(os.waitstatus_to_exitcode(status) != 0)
X
"#;

#[track_caller]
fn edits(program: &str, keys: &str, command: &str) {
    let Some(stage) = Stage::with(&[program, "python3", "getfattr"]) else { return };
    stage.put("svc/KEY", "old value\n", "alice]\nwriters: [alice");
    let said = stage.run(&format!(
        r#"{TYPE}
        export HOME=$T
        as 2100 sh -c 'echo "old value" > {own}'
        id() {{ getfattr -n user.secretfs.id --only-values $1; }}
        before=$(id $S/alice/KEY)$(id $S/svc/KEY)
        for file in {own} $S/svc/KEY; do
            as 2100 python3 $T/type.py '{keys}' {command} $file
            cat $file
        done
        [ "$before" = "$(id $S/alice/KEY)$(id $S/svc/KEY)" ]
        ls -A $S/alice $S/svc"#,
        own = "$S/alice/KEY"
    ));
    let (own, svc) = ("/mnt/alice:\nKEY\n", "/mnt/svc:\nKEY\n");
    assert_eq!(said, format!("new value\nnew value\n{own}\n{svc}"), "{program}");
}

#[test]
fn vim_with_a_swap_file_beside_it() {
    edits("vim", ":%s/old/new/\\r:wq!\\r", "vim -u NONE -N -c 'set writebackup directory=.'");
}

#[test]
fn vim_tiny_as_debian_has_it() {
    edits("vim.tiny", ":%s/old/new/\\r:wq!\\r", "vim.tiny");
}

#[test]
fn nano_in_place() {
    // Cut the line, write another one, save under the same name, leave.
    edits("nano", "\\x0bnew value\\x0f\\r\\x18", "nano");
}

#[test]
fn sed_changes_every_secret_of_a_directory_in_place() {
    let Some(stage) = Stage::with(&["sed"]) else { return };
    let said = stage.run(
        r#"
        for name in A B C; do as 2100 sh -c "echo $name old > $S/alice/$name"; done
        as 2100 sed -i s/old/new/ $S/alice/*
        cat $S/alice/*
        ls -A $S/alice"#,
    );
    assert_eq!(said, "A new\nB new\nC new\nA\nB\nC\n");
}
