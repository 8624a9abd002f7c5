//! Programs whose child processes write into a secret that the program opened: it is stored once, when the
//! program closes it.

use super::Stage;

/// `$T/one` writes the first half, `$T/two` waits in the middle and writes the second half. `midway` waits
/// for that moment, `go_on` ends it.
const HALVES: &str = r#"
export T K
cat > $T/one <<'X'
#!/bin/sh
cat $T/first
X
cat > $T/two <<'X'
#!/bin/sh
echo $$ > $T/two.pid
echo > $T/midway
read line < $T/go
cat $T/second
X
chmod 755 $T/one $T/two
mkfifo -m 666 $T/midway $T/go
midway() { read -t 30 line < $T/midway; }
go_on() { echo > $T/go; }
is() { [ "$(cat $1)" = "$2" ] || { echo "$1 is '$(cat $1)', not '$2'" >&2; return 1; }; }
"#;

/// Runs `command` as alice; it opens `$K` and lets `$T/one` and `$T/two` write into it.
#[track_caller]
fn stores_once(program: &str, command: &str) {
    let Some(stage) = Stage::with(&[program, "getfattr"]) else { return };
    stage.run(&format!(
        r#"
        {HALVES}
        printf 'first ' > $T/first; echo second > $T/second
        cat > $T/command <<'X'
{command}
X
        K=$S/alice/KEY
        as 2100 sh -c "echo old > $K"
        before=$(version $K)
        as 2100 bash $T/command & job=$!
        midway
        is $K old
        go_on
        wait $job
        is $K 'first second'
        [ $(version $K) = $((before + 1)) ]

        K=$S/alice/NEW
        as 2100 bash $T/command & job=$!
        midway
        [ ! -e $K ]
        go_on
        wait $job
        is $K 'first second'
        [ $(version $K) = 1 ]

        as 2200 sh -c "! cat $S/alice/KEY" 2> $T/denied
        echo 'readers: [alice' > $T/first; echo ', bob]' > $T/second
        K=$S/alice/KEY.acl
        as 2100 bash $T/command & job=$!
        midway
        as 2200 sh -c "! cat $S/alice/KEY" 2> $T/denied
        go_on
        wait $job
        as 2200 cat $S/alice/KEY > $T/value

        printf 'key: alice/' > $T/first; echo 'IMPORTED
value: v' > $T/second
        K=$S/.import/file.yaml
        as 2100 bash $T/command & job=$!
        midway
        go_on
        wait $job
        # The kernel tells the last close of all after the process has gone on.
        eventually test -e $S/alice/IMPORTED
        is $S/alice/IMPORTED v
        "#
    ));
}

#[test]
fn a_group_of_commands() {
    stores_once("bash", "{ $T/one; $T/two; } > $K");
}

#[test]
fn a_loop() {
    stores_once("bash", "for part in one two; do $T/$part; done > $K");
}

#[test]
fn a_shell_that_redirects_itself() {
    stores_once("bash", "exec > $K; $T/one; $T/two");
}

#[test]
fn a_subshell_and_a_pipe() {
    stores_once("bash", "( $T/one; $T/two | cat ) > $K");
}

#[test]
fn a_shell_that_is_started_with_the_descriptor() {
    stores_once("sh", "sh -c '$T/one && $T/two' > $K");
}

#[test]
fn a_program_that_starts_a_command_for_each_line() {
    stores_once("xargs", r#"printf 'one\ntwo\n' | xargs -n 1 sh -c '"$T/$0"' > $K"#);
}

#[test]
fn subprocess_of_python() {
    stores_once(
        "python3",
        r#"python3 -c '
import os, subprocess
t = os.environ["T"]
with open(os.environ["K"], "w") as f:
    subprocess.run([t + "/one"], stdout=f, check=True)
    subprocess.run([t + "/two"], stdout=f, check=True)
'"#,
    );
}

/// The last close is that of a child, and the kernel does not tell that it is the last.
#[test]
fn a_descriptor_that_only_children_keep() {
    stores_once(
        "python3",
        r#"python3 -c '
import os, subprocess
with open(os.environ["K"], "w") as f:
    child = subprocess.Popen(["sh", "-c", "read x; $T/one; $T/two"], stdin=subprocess.PIPE, stdout=f)
child.communicate(b"\n")
assert child.returncode == 0
'"#,
    );
}

#[test]
fn system_of_perl() {
    stores_once(
        "perl",
        r#"perl -e '
open(STDOUT, ">", $ENV{K}) or die;
system("$ENV{T}/one") == 0 or die;
system("$ENV{T}/two") == 0 or die;
close(STDOUT) or die;
'"#,
    );
}

#[test]
fn spawn_sync_of_node() {
    stores_once(
        "node",
        r#"node -e '
const fs = require("fs"), { spawnSync } = require("child_process"), { K, T } = process.env;
const fd = fs.openSync(K, "w");
for (const part of ["one", "two"]) {
    const { status } = spawnSync(T + "/" + part, { stdio: ["ignore", fd, "inherit"] });
    if (status !== 0) process.exit(1);
}
fs.closeSync(fd);
'"#,
    );
}

/// Whoever is killed before the file is finished publishes nothing, and a child does not finish it.
#[test]
fn a_killed_shell_stores_nothing_though_its_child_goes_on() {
    let Some(stage) = Stage::with(&["bash"]) else { return };
    stage.run(&format!(
        r#"
        {HALVES}
        printf 'first ' > $T/first; echo second > $T/second
        gone() {{ ! kill -0 $(cat $T/two.pid) 2> $T/said; }}
        K=$S/alice/KEY
        as 2100 sh -c "echo old > $K"
        for key in $K $S/alice/NEW; do
            K=$key
            as 2100 bash -c 'echo $$ > $T/pid; {{ $T/one; $T/two; }} > $K' & job=$!
            midway
            kill -9 $(cat $T/pid)
            ! wait $job
            go_on
            eventually gone
            is $S/alice/KEY old
            [ ! -e $S/alice/NEW ]
            rm $T/two.pid
        done
        # The opener closed it before anything was written, and the child is killed.
        K=$S/alice/KEY
        mkfifo -m 666 $T/start
        as 2100 bash -c 'exec 3> $K; (read x < $T/start; $T/one >&3; exec $T/two >&3) &
            exec 3>&-; echo > $T/start; ! wait $!' & job=$!
        midway
        kill -9 $(cat $T/two.pid)
        wait $job
        is $K old
        "#
    ));
}

#[test]
fn a_killed_child_does_not_keep_its_parent_from_storing() {
    let Some(stage) = Stage::with(&["bash", "getfattr"]) else { return };
    stage.run(&format!(
        r#"
        {HALVES}
        printf 'first ' > $T/first; echo second > $T/second
        K=$S/alice/KEY
        as 2100 bash -c '{{ $T/one; sh -c "kill -9 \$\$"; cat $T/second; }} > $K' 2> $T/said
        is $K 'first second'
        as 2100 bash -c '{{ $T/one; sh -c "printf x; kill -9 \$\$"; }} > $K; true' 2> $T/said
        is $K 'first x'
        [ $(version $K) = 2 ]
        "#
    ));
}

/// It asks for what is there to be stored.
#[test]
fn fsync_of_a_child_stores() {
    let Some(stage) = Stage::with(&["bash", "getfattr"]) else { return };
    stage.run(&format!(
        r#"
        {HALVES}
        printf 'first ' > $T/first; echo second > $T/second
        K=$S/alice/KEY
        as 2100 bash -c '{{ dd if=$T/first conv=fsync status=none; $T/two; }} > $K' & job=$!
        midway
        is $K 'first '
        go_on
        wait $job
        is $K 'first second'
        [ $(version $K) = 2 ]
        "#
    ));
}
