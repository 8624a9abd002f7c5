//! Programs that lock a secret: a counter that several of them increment is exact.

use std::process::Command;

use super::Stage;
use crate::harness::skip;

/// `count COMMAND…` lets three processes of alice increment the counter `$K` 50 times each.
const COUNT: &str = r#"
export K=$S/alice/COUNTER T
as 2100 sh -c "echo 0 > $K"
alice() { exec setpriv --reuid 2100 --regid 2100 --clear-groups "$@"; }
count() {
    local jobs=()
    for _ in 1 2 3; do as 2100 "$@" & jobs+=($!); done
    for job in "${jobs[@]}"; do wait $job; done
    [ "$(cat $K)" = 150 ] || { echo "counted to $(cat $K), not to 150" >&2; return 1; }
}
"#;

/// Three processes run `increment`, in a shell of their own, 50 times each.
#[track_caller]
fn counts_in_a_shell(programs: &[&str], increment: &str) {
    let Some(stage) = Stage::with(programs) else { return };
    stage.run(&format!(
        r#"{COUNT}
cat > $T/increment <<'X'
set -eu
for i in $(seq 50); do
{increment}
done
X
count bash $T/increment
"#
    ));
}

/// Three processes of Python run `increment`, which needs `modules`, 50 times each.
#[track_caller]
fn counts_in_python(modules: &str, increment: &str) {
    let imports = format!("import {modules}");
    // Debian's, whatever else is in the PATH.
    let imported = Command::new("/usr/bin/python3").args(["-c", &imports]).output();
    if !imported.is_ok_and(|output| output.status.success()) {
        return skip(&format!("needs python3 with {modules}"));
    }
    let Some(stage) = Stage::with(&["python3"]) else { return };
    stage.run(&format!(
        r#"{COUNT}
cat > $T/increment <<'X'
import fcntl, os, struct, {modules}
K = os.environ["K"]
{increment}
for i in range(50):
    increment()
X
count /usr/bin/python3 $T/increment
"#
    ));
}

/// As [`counts_in_python`], by a file that is open for reading and writing, under `lock`.
#[track_caller]
fn counts_under(lock: &str) {
    counts_in_python(
        "fcntl",
        &format!(
            r#"
def increment():
    with open(K, "r+") as f:
        {lock}
        n = int(f.read())
        f.seek(0)
        f.write(f"{{n + 1}}\n")
        f.truncate()
"#
        ),
    );
}

#[test]
fn flock_in_python() {
    counts_under("fcntl.flock(f, fcntl.LOCK_EX)");
}

#[test]
fn flock_in_python_that_unlocks_before_it_closes() {
    counts_in_python(
        "fcntl",
        r#"
def increment():
    f = open(K, "r+")
    fcntl.flock(f, fcntl.LOCK_EX)
    n = int(f.read())
    f.seek(0)
    f.write(f"{n + 1}\n")
    f.flush()
    fcntl.flock(f, fcntl.LOCK_UN)
    f.close()
"#,
    );
}

#[test]
fn flock_in_python_on_one_descriptor() {
    counts_in_python(
        "fcntl",
        r#"
f = os.open(K, os.O_RDWR)
def increment():
    fcntl.flock(f, fcntl.LOCK_EX)
    n = int(os.pread(f, 100, 0))
    os.ftruncate(f, 0)
    os.pwrite(f, str(n + 1).encode(), 0)
    fcntl.flock(f, fcntl.LOCK_UN)
"#,
    );
}

#[test]
fn lockf_in_python() {
    counts_under("fcntl.lockf(f, fcntl.LOCK_EX)");
}

#[test]
fn locks_of_open_files_in_python() {
    counts_under(
        r#"fcntl.fcntl(f, fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))"#,
    );
}

#[test]
fn a_file_that_is_truncated_under_a_lock_of_another_one() {
    counts_in_python(
        "fcntl",
        r#"
def increment():
    with open(K + ".guard", "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        with open(K) as f:
            n = int(f.read())
        with open(K, "w") as f:
            f.write(f"{n + 1}\n")
"#,
    );
}

#[test]
fn filelock_of_python() {
    counts_in_python(
        "filelock",
        r#"
lock = filelock.FileLock(K + ".lock")
def increment():
    with lock:
        with open(K) as f:
            n = int(f.read())
        with open(K, "w") as f:
            f.write(f"{n + 1}\n")
"#,
    );
}

#[test]
fn portalocker_of_python() {
    counts_in_python(
        "portalocker",
        r#"
def increment():
    with portalocker.Lock(K, "r+", timeout=60) as f:
        n = int(f.read())
        f.seek(0)
        f.write(f"{n + 1}\n")
        f.truncate()
"#,
    );
}

#[test]
fn flock_on_the_secret() {
    counts_in_a_shell(&["flock"], r#"flock $K sh -c 'n=$(cat $K); echo $((n + 1)) > $K'"#);
}

#[test]
fn flock_on_a_secret_that_is_replaced() {
    counts_in_a_shell(
        &["flock", "sed"],
        r#"flock $K sh -c 'n=$(cat $K); sed -i "s/.*/$((n + 1))/" $K'"#,
    );
}

#[test]
fn flock_on_a_descriptor_of_a_shell() {
    counts_in_a_shell(&["flock"], r#"( flock 9; n=$(cat $K); echo $((n + 1)) > $K ) 9>> $K"#);
    counts_in_a_shell(&["flock"], r#"( flock 9; n=$(cat <&9); echo $((n + 1)) > $K ) 9< $K"#);
}

#[test]
fn flock_on_a_new_file() {
    counts_in_a_shell(&["flock"], r#"flock $K.new sh -c 'n=$(cat $K); echo $((n + 1)) > $K'"#);
    counts_in_a_shell(
        &["flock"],
        r#"flock $K.new sh -c 'n=$(cat $K.new 2> $T/none || echo 0); echo $(($n + 1)) > $K.new
            [ -s $K.new ]; echo $(($n + 1)) > $K'"#,
    );
    counts_in_a_shell(&["flock"], r#"( flock 9; n=$(cat $K); echo $((n + 1)) > $K ) 9> $K.new"#);
}

#[test]
fn a_bind_mount_of_the_file_locks_the_same() {
    let Some(stage) = Stage::with(&["flock"]) else { return };
    stage.run(&format!(
        r#"{COUNT}
export B=$T/bound
touch $B
mount --bind $K $B
cat > $T/increment <<'X'
set -eu
for i in $(seq 50); do
    [ $((i % 2)) = 0 ] && F=$K || F=$B
    flock $F sh -c 'n=$(cat $B); echo $((n + 1)) > $K'
done
X
count bash $T/increment
alice flock --no-fork $B sleep 1000 & holder=$!
eventually as 2100 sh -c "! flock -n $K true"
as 2100 sh -c "! flock -n -s $B true"
kill $holder
as 2100 flock $K true
"#
    ));
}

#[test]
fn a_signal_ends_a_wait() {
    let Some(stage) = Stage::with(&["flock", "python3"]) else { return };
    stage.run(&format!(
        r#"{COUNT}
alice flock --no-fork $K sleep 1000 & holder=$!
eventually as 2100 sh -c "! flock -n $K true"
# It is killed, and by a signal that it does not handle.
for signal in KILL TERM; do
    alice flock --no-fork $K true & waiter=$!
    eventually grep -qs '^State:.*[DS] ' /proc/$waiter/status
    sleep 0.2
    kill -$signal $waiter
    (sleep 20; kill $holder) & alarm=$!
    status=0; wait $waiter || status=$?
    [ $status -gt 128 ]
    kill $alarm
done
cat > $T/waits <<'X'
import errno, fcntl, os, signal, struct, sys, threading, time
K = os.environ["K"]
f = open(K, "r+")
LOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
class Alarm(Exception): pass
def alarm(*_): raise Alarm
signal.signal(signal.SIGALRM, alarm)
wait = {{
    "flock": lambda: fcntl.flock(f, fcntl.LOCK_EX),
    "fcntl": lambda: fcntl.fcntl(f, fcntl.F_SETLKW, LOCK),
}}[sys.argv[1]]
signal.setitimer(signal.ITIMER_REAL, 0.2)
start = time.monotonic()
try:
    wait()
    raise SystemExit("it was granted")
except Alarm:
    pass
if time.monotonic() - start > 10:
    raise SystemExit("it waited for too long")
# A thread that waits beside one that runs.
done = threading.Event()
def waiter():
    wait()
    done.set()
threading.Thread(target=waiter, daemon=True).start()
for i in range(5):
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        time.sleep(60)
    except Alarm:
        pass
if done.is_set():
    raise SystemExit("it was granted")
X
as 2100 /usr/bin/python3 $T/waits flock
kill $holder
wait $holder || true
as 2100 flock $K true
alice /usr/bin/python3 -c '
import fcntl, os, time
f = open(os.environ["K"], "r+")
fcntl.lockf(f, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(1000)' > $T/locked & holder=$!
eventually grep -q locked $T/locked
as 2100 /usr/bin/python3 $T/waits fcntl
kill $holder
"#
    ));
}

#[test]
fn fcntl_tells_who_has_a_lock_and_finds_deadlocks() {
    let Some(stage) = Stage::with(&["python3"]) else { return };
    stage.run(&format!(
        r#"{COUNT}
as 2100 sh -c "echo other > $K.other"
cat > $T/check <<'X'
import errno, fcntl, os, struct, time
K = os.environ["K"]
FORM = "hhqqi4x"
def get(f, kind, start=0, length=0):
    asked = struct.pack(FORM, kind, 0, start, length, 0)
    return struct.unpack(FORM, fcntl.fcntl(f, fcntl.F_GETLK, asked))
def refused(call, *expected):
    try:
        call()
    except OSError as e:
        assert e.errno in expected, errno.errorcode[e.errno]
    else:
        raise SystemExit("it was not refused")
f = open(K, "r+")
fcntl.lockf(f, fcntl.LOCK_EX, 10, 5)
fcntl.lockf(f, fcntl.LOCK_SH, 3, 20)
assert get(f, fcntl.F_WRLCK)[0] == fcntl.F_UNLCK, "its own locks are in nobody's way"
first = os.getpid()
to_child, from_first = os.pipe()
to_first, from_child = os.pipe()
if os.fork() == 0:
    g = open(K, "r+")
    assert get(g, fcntl.F_RDLCK) == (fcntl.F_WRLCK, 0, 5, 10, first), get(g, fcntl.F_RDLCK)
    assert get(g, fcntl.F_WRLCK, 21, 1) == (fcntl.F_RDLCK, 0, 20, 3, first)
    assert get(g, fcntl.F_RDLCK, 20, 100)[0] == fcntl.F_UNLCK
    refused(lambda: fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 14), errno.EAGAIN, errno.EACCES)
    fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 15)
    # Those of flock(2) do not know of them.
    fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)
    o = open(K + ".other", "r+")
    fcntl.lockf(o, fcntl.LOCK_EX)
    os.write(from_child, b"x")
    os.read(to_child, 1)
    time.sleep(0.3)
    refused(lambda: fcntl.lockf(g, fcntl.LOCK_EX, 1, 5), errno.EDEADLK)
    os._exit(0)
os.read(to_first, 1)
os.write(from_first, b"x")
o = open(K + ".other", "r+")
# Granted when the child ends.
fcntl.lockf(o, fcntl.LOCK_EX)
pid, status = os.wait()
assert status == 0, status
# A close of any descriptor of the file releases them.
open(K, "r+").close()
if os.fork() == 0:
    fcntl.lockf(open(K, "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    os._exit(0)
assert os.wait()[1] == 0
# Those of a reader go with the descriptor.
r = open(K)
fcntl.lockf(r, fcntl.LOCK_SH)
if os.fork() == 0:
    refused(lambda: fcntl.lockf(open(K, "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB), errno.EAGAIN)
    os._exit(0)
assert os.wait()[1] == 0
r.close()
g = open(K, "r+")
fcntl.lockf(g, fcntl.LOCK_EX)
g.close()
X
as 2100 timeout 60 /usr/bin/python3 $T/check
"#
    ));
}
