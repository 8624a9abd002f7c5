//! Programs that move a secret away, or remove it, and put another file in its place: id and lists stay with the
//! name, and the backup that some leave is another secret.

use super::Stage;

/// `$K` is alice's, and bob may read it. `keeps BACKUP command…` runs a command that changes it to `new`.
const KEEPS: &str = r#"
K=$S/alice/KEY
export K T S
id() { getfattr --absolute-names -n user.secretfs.id --only-values $1; }
make() {
    as 2100 sh -c "echo old > $1"
    echo 'readers: [alice, bob]' > $1.acl
}
same() { [ "$(id $1) $(cat $1.acl)" = "$2" ] || { echo "$1: $(id $1) $(cat $1.acl), not $2" >&2; return 1; }; }
keeps() {
    local backup=$1 before id
    make $K
    id=$(id $K) before="$id $(cat $K.acl)"
    shift
    as 2100 "$@"
    same $K "$before"
    [ "$(as 2200 cat $K)" = new ]
    if [ $backup != none ]; then
        [ "$(as 2200 cat $backup)" = old ]
        [ $(id $backup) != $id ]
        [ "$(cat $backup.acl)" = "$(cat $K.acl)" ]
    fi
    printf 'key: alice/KEY\nid: %s\nvalue: from a document\n' $id > $T/document.yaml
    cp $T/document.yaml $S/.import/
    same $K "$before"
    [ "$(cat $K)" = 'from a document' ]
    as 2100 sh -c "rm -f $S/alice/*"
}
"#;

#[track_caller]
fn keeps(program: &str, backup: &str, command: &str) {
    let Some(stage) = Stage::with(&[program, "getfattr"]) else { return };
    stage.run(&format!(
        r#"
        {KEEPS}
        cat > $T/command <<'X'
set -e
{command}
X
        keeps {backup} bash $T/command
        # The backup of the time before is there.
        {again}
        "#,
        again = if backup == "none" {
            String::new()
        } else {
            format!("make {backup}; keeps none bash $T/command")
        }
    ));
}

#[test]
fn sed_with_a_backup() {
    keeps("sed", "$K.bak", "sed -i.bak s/old/new/ $K");
    keeps("sed", "none", "sed -i s/old/new/ $K");
}

#[test]
fn perl_with_a_backup() {
    keeps("perl", "$K.orig", "perl -pi.orig -e s/old/new/ $K");
    keeps("perl", "none", "perl -pi -e s/old/new/ $K");
}

#[test]
fn patch_with_a_backup() {
    let patch =
        "cd $T; printf -- '--- a\\n+++ b\\n@@ -1 +1 @@\\n-old\\n+new\\n' > p; patch -s -b $K p";
    keeps("patch", "$K.orig", patch);
}

#[test]
fn vim_with_a_backup() {
    let command = "vim -N -u NONE -n -es -c 'set backup backupcopy=no' -c s/old/new/ -c wq! $K";
    keeps("vim", "$K~", command);
}

#[test]
fn one_program_for_each_step() {
    keeps("mv", "$K~", "echo new > $K.new; mv $K $K~; mv $K.new $K");
    keeps("mv", "$K~", "mv $K $K~; echo new > $K");
    keeps("mv", "$K~", "mv $K $K~; sed s/old/new/ $K~ > $S/alice/.t; mv $S/alice/.t $K");
}

#[test]
fn what_is_moved_and_comes_back_is_the_same() {
    let Some(stage) = Stage::with(&["mv", "getfattr"]) else { return };
    stage.run(&format!(
        r#"
        {KEEPS}
        make $K; make $S/alice/B
        as 2100 sh -c "echo other > $S/alice/B"
        echo 'writers: [alice, bob]' > $S/alice/B.acl
        before="$(id $K) $(cat $K.acl)" other="$(id $S/alice/B) $(cat $S/alice/B.acl)"
        as 2100 sh -c 'mv $K $K~; mv $K~ $K'
        same $K "$before"
        # Two names change their values.
        as 2100 sh -c 'mv $K $S/alice/T; mv $S/alice/B $K; mv $S/alice/T $S/alice/B'
        same $K "$before"
        same $S/alice/B "$other"
        [ "$(cat $K $S/alice/B)" = 'other
old' ]
        # Another user has nothing of it.
        as 2100 sh -c 'mv $K $K~'
        echo roots > $K
        [ "$(id $K) $(cat $K.acl)" != "$before" ]
        "#
    ));
}

/// Each promise is a thread of a pool.
#[test]
fn promises_of_node() {
    let Some(stage) = Stage::with(&["node", "getfattr"]) else { return };
    stage.run(&format!(
        r#"
        {KEEPS}
        cat > $T/replace.js <<'X'
const fs = require("fs").promises, keys = [...Array(20).keys()].map(n => `${{process.env.S}}/alice/K${{n}}`);
Promise.all(keys.map(async key => {{
    await fs.stat(key);
    await fs.unlink(key);
    await fs.writeFile(key, "new");
}})).then(async () => {{
    const file = process.env.S + "/.import/a.yaml";
    await fs.writeFile(file, "key: alice/IMPORTED\nvalue: v\n");
    await fs.utimes(file, 1000000000, 1000000000);
    await fs.chmod(file, 0o600);
}}).catch(error => {{ console.error(error); process.exit(1); }});
X
        for n in $(seq 0 19); do make $S/alice/K$n; done
        state() {{ for n in $(seq 0 19); do echo "$(id $S/alice/K$n) $(cat $S/alice/K$n.acl)"; done; }}
        before=$(state)
        as 2100 node $T/replace.js
        [ "$(state)" = "$before" ]
        [ "$(cat $S/alice/K7 $S/alice/IMPORTED)" = newv ]
        "#
    ));
}

#[test]
fn executors_of_python() {
    let Some(stage) = Stage::with(&["python3", "getfattr"]) else { return };
    stage.run(&format!(
        r#"
        {KEEPS}
        cat > $T/replace.py <<'X'
import asyncio, os
K, S = os.environ["K"], os.environ["S"]
def write(path, text):
    with open(path, "w") as f:
        f.write(text)
async def main():
    for step in (lambda: os.rename(K, K + "~"), lambda: write(K, "new"), lambda: os.unlink(K),
                 lambda: write(K + ".t", "new"), lambda: os.rename(K + ".t", K),
                 lambda: write(S + "/.import/a.yaml", "key: alice/IMPORTED\nvalue: v\n"),
                 lambda: os.utime(S + "/.import/a.yaml")):
        # A pool of its own: certainly another thread.
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(1) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, step)
asyncio.run(main())
X
        keeps $K~ python3 $T/replace.py
        "#
    ));
}
