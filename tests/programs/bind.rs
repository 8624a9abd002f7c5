//! Programs that read and change a secret through a bind mount of its file (as `docker -v` makes them) or
//! through `/proc/self/fd/N`, after it has been rotated.

use super::Stage;

/// `$B` is a bind mount of `$K`; `rotate VALUE` is what an operator does meanwhile.
const BOUND: &str = r#"
K=$S/svc/KEY B=$T/bound
touch $B
mount --bind $K $B
rotate() { printf %s "$1" > $K; }
is() { [ "$2" = "$3" ] || { echo "$1: '$2', not '$3'" >&2; return 1; }; }
export T K B
"#;

#[track_caller]
fn reads(program: &str, command: &str) {
    let Some(stage) = Stage::with(&[program]) else { return };
    stage.put("svc/KEY", "A=first\n", "alice]\nwriters: [alice");
    stage.run(&format!(
        r#"
        {BOUND}
        cat > $T/command <<'X'
{command}
X
        is first "$(as 2100 bash $T/command)" A=first
        for value in 'A=a-much-longer-value-than-that' 'A=b' 'A=in-between'; do
            rotate "$value
"
            is bound "$(as 2100 bash $T/command)" "$value"
            is again "$(as 2100 bash $T/command)" "$value"
        done
        "#
    ));
}

#[test]
fn cat_dd_and_head() {
    reads("dd", "cat $B");
    reads("dd", "dd if=$B status=none bs=7");
    reads("head", "head -c $(stat -L -c %s $B) $B; [ -s $B ]");
    reads("tail", "tail -c +1 $B");
    reads("cp", "rm -f $T/copy; cp $B $T/copy; cat $T/copy");
}

#[test]
fn source_of_bash() {
    reads("bash", "source $B; echo A=$A");
    reads("bash", "exec 3< $B; read -r line <&3; echo $line");
    reads("bash", "echo $(< $B)");
}

#[test]
fn read_file_of_node() {
    reads("node", r#"node -e 'process.stdout.write(require("fs").readFileSync(process.env.B))'"#);
    reads(
        "node",
        r#"node -e 'require("fs").promises.readFile(process.env.B).then(b => process.stdout.write(b))'"#,
    );
}

#[test]
fn size_and_read_of_perl() {
    reads("perl", r#"perl -e 'open(F, "<", $ENV{B}) or die; read(F, $x, -s F); print $x'"#);
}

#[test]
fn seek_and_read_of_python() {
    reads(
        "python3",
        r#"python3 -c '
import os
with open(os.environ["B"], "rb", buffering=0) as f:
    size = f.seek(0, os.SEEK_END)
    assert size == os.fstat(f.fileno()).st_size, (size, os.fstat(f.fileno()))
    f.seek(0)
    print(f.read(size).decode(), end="")
'"#,
    );
}

/// A mapping would share its pages with others who see another version: it fails rather than that.
#[test]
fn a_mapping_shows_the_value_or_fails() {
    let Some(stage) = Stage::with(&["python3"]) else { return };
    stage.put("svc/KEY", "first", "alice");
    stage.run(&format!(
        r#"
        {BOUND}
        map() {{ as 2100 python3 -c '
import mmap, os
f = os.open(os.environ["B"], os.O_RDONLY)
print(mmap.mmap(f, 0, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE)[:].decode())
'; }}
        is fresh "$(map)" first
        rotate "a much longer value"
        said=$(map 2> $T/said) || said=failed
        [ "$said" = failed ] || is rotated "$said" "a much longer value"
        "#
    ));
}

#[track_caller]
fn changes(program: &str, command: &str, expected: &str) {
    let Some(stage) = Stage::with(&[program]) else { return };
    stage.put("svc/KEY", "first", "alice]\nwriters: [alice");
    stage.run(&format!(
        r#"
        {BOUND}
        cat > $T/command <<'X'
{command}
X
        for value in fresh 'a value that is a good deal longer' short; do
            rotate "$value"
            as 2100 cat $B > $T/seen
            as 2100 bash $T/command
            expected='{expected}'
            is changed "$(cat $K)" "${{expected/VALUE/$value}}"
            is bound "$(as 2100 cat $B)" "$(cat $K)"
        done
        # And where nobody has changed it in between.
        umount $B
        rotate fresh
        mount --bind $K $B
        as 2100 bash $T/command
        is fresh "$(cat $K)" "${{expected/VALUE/fresh}}"
        "#
    ));
}

#[test]
fn redirections_of_bash() {
    changes("bash", "echo MORE >> $B", "VALUEMORE");
    changes("bash", "echo new > $B", "new");
    changes("bash", "{ echo one; cat /dev/null; echo two; } > $B", "one\ntwo".trim());
    changes("bash", ": > $B; sleep 0", "");
    changes("tee", "echo MORE | tee -a $B > /dev/null", "VALUEMORE");
    changes("truncate", "truncate -s 2 $B; truncate -s 0 $B; echo x > $B", "x");
    changes("cp", "echo copied > $T/new; cp $T/new $B", "copied");
    changes("dd", "echo copied > $T/new; dd if=$T/new of=$B status=none", "copied");
}

#[test]
fn python_that_seeks_to_the_end() {
    let end = r#"python3 -c '
import os
with open(os.environ["B"], "r+b", buffering=0) as f:
    f.seek(0, os.SEEK_END)
    f.write(b"MORE")
'"#;
    changes("python3", end, "VALUEMORE");
    let fstat = r#"python3 -c '
import os
f = os.open(os.environ["B"], os.O_RDWR)
os.pwrite(f, b"MORE", os.fstat(f).st_size)
os.close(f)
'"#;
    changes("python3", fstat, "VALUEMORE");
}

#[test]
fn node_that_writes_and_appends() {
    changes("node", r#"node -e 'require("fs").writeFileSync(process.env.B, "new")'"#, "new");
    changes(
        "node",
        r#"node -e 'require("fs").appendFileSync(process.env.B, "MORE")'"#,
        "VALUEMORE",
    );
    changes("node", r#"node -e 'require("fs").truncateSync(process.env.B, 1)'; echo x > $B"#, "x");
}

#[test]
fn descriptors_in_proc() {
    let Some(stage) = Stage::with(&["bash", "stat"]) else { return };
    stage.put("svc/KEY", "first", "alice]\nwriters: [alice");
    stage.run(&format!(
        r#"
        {BOUND}
        exec 3< $K
        for value in 'a value that is a good deal longer' x 'in between'; do
            rotate "$value"
            is opened "$(cat /proc/self/fd/3)" "$value"
            is opened "$(cat < /proc/self/fd/3)" "$value"
            # What would disturb the descriptor itself changes nothing.
            (echo MORE >> /proc/self/fd/3) 2> $T/said || true
            is whole "$(cat $K)" "$value"
        done
        is held "$(cat <&3)" first
        exec 3<&-
        exec 3>> $K
        echo MORE > /proc/self/fd/3
        exec 3>&-
        is written "$(cat $K)" MORE
        "#
    ));
}
