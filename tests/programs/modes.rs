//! Programs that copy files and set modes, owners and times while they do: the mount takes what changes nothing.

use super::Stage;

/// `$T/in` has files and directories of the common modes, of alice and (`$T/roots`) of root. `clean DIR` finds
/// nothing but copies of them.
const FILES: &str = r#"
umask 022
mkdir -p $T/in/below/deeper $T/in/.hidden
printf one > $T/in/A; printf two > $T/in/below/B; printf three > $T/in/below/deeper/C
printf four > $T/in/.hidden/.env; head -c 300000 /dev/urandom > $T/in/below/LARGE
chmod 644 $T/in/A; chmod 600 $T/in/below/B; chmod 755 $T/in/below/deeper/C; chmod 700 $T/in/below/deeper
find $T/in -exec touch -d 2001-02-03 {} +
cp -a $T/in $T/roots; chmod -R go+rX $T/roots; chgrp 1 $T/roots/A $T/roots/below
chown -R 2100:2100 $T/in
install -d -o 2100 $T/home
export T S
clean() { diff -r $T/in $1 && [ "$(find $1 -printf '%U:%G %m\n' | sort -u)" = '0:0 400
0:0 555' ]; }
"#;

/// Runs `copy FROM TO` as alice and as root, twice each; what it makes below `TO` is the content of `FROM`.
#[track_caller]
fn copies(programs: &[&str], copy: &str) {
    let Some(stage) = Stage::with(programs) else { return };
    stage.run(&format!(
        r#"
        {FILES}
        cat > $T/copy <<'X'
set -e
from=$1 to=$2
{copy}
X
        as 2100 bash -c 'mkdir $S/alice/to'
        mkdir $S/to
        for time in 1 2; do
            as 2100 bash $T/copy $T/in $S/alice/to
            clean $S/alice/to
            bash $T/copy $T/roots $S/to
            clean $S/to
        done
        # What is there already is replaced in the same way by files of another user.
        as 2100 bash $T/copy $T/roots $S/alice/to
        clean $S/alice/to
        "#
    ));
}

#[test]
fn cp() {
    copies(&["cp"], "cp -r $from/. $to");
    copies(&["cp"], "cp -a $from/. $to");
    copies(
        &["cp"],
        "cp -rp --no-preserve=ownership $from/. $to; cp -r --remove-destination $from/. $to",
    );
}

#[test]
fn rsync() {
    copies(&["rsync"], "rsync -a $from/ $to/");
    copies(
        &["rsync"],
        "rsync -aHX --delete $from/ $to; rsync -a --inplace --checksum $from/A $to/; rsync -ac $from/ $to",
    );
}

#[test]
fn tar() {
    copies(&["tar"], "tar -C $from -cf - . | tar -C $to -xf -");
    copies(&["tar"], "tar -C $from --xattrs --acls -czf - . | tar -C $to --xattrs --acls -xpzf -");
}

#[test]
fn install() {
    let copy = "cd $from; find . -type d -exec install -d -m 750 $to/{} \\;
        find . -type f -exec install -p -m 640 {} $to/{} \\;";
    copies(&["install"], copy);
}

#[test]
fn python() {
    let copy = r#"/usr/bin/python3 - $from $to <<'Y'
import os, shutil, sys
source, target = sys.argv[1:]
shutil.copytree(source, target, dirs_exist_ok=True)
for directory, _, files in os.walk(source):
    for name in files:
        path = os.path.relpath(os.path.join(directory, name), source)
        shutil.copy2(os.path.join(source, path), os.path.join(target, path))
        shutil.copy(os.path.join(source, path), os.path.join(target, path))
Y"#;
    copies(&["python3"], copy);
}

/// A template renderer writes a file of a random name beside its target and renames it.
#[test]
fn template_renderers() {
    let copy = r#"/usr/bin/python3 - $from $to <<'Y'
import os, shutil, sys, tempfile
source, target = sys.argv[1:]
for directory, _, files in os.walk(source):
    for number, name in enumerate(files):
        path = os.path.join(target, os.path.relpath(os.path.join(directory, name), source))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        prefix = ["", "." + name, "tmp", "." + name + "."][number % 4]
        file, temporary = tempfile.mkstemp(prefix=prefix, dir=os.path.dirname(path))
        with open(file, "wb") as rendered, open(os.path.join(directory, name), "rb") as text:
            rendered.write(text.read())
            rendered.flush()
            os.fchmod(rendered.fileno(), 0o644)
            os.fsync(rendered.fileno())
        os.chmod(temporary, 0o644)
        os.chown(temporary, -1, -1)
        os.rename(temporary, path)
        os.chmod(path, 0o644)
Y"#;
    copies(&["python3"], copy);
}

#[test]
fn ansible() {
    let Some(stage) = Stage::with(&["ansible-playbook"]) else { return };
    stage.run(&format!(
        r#"
        {FILES}
        cat > $T/play.yaml <<'X'
- hosts: localhost
  gather_facts: false
  tasks:
  - {{file: {{path: "{{{{ to }}}}/below/deeper", state: directory, mode: '0700'}}}}
  - {{file: {{path: "{{{{ to }}}}/.hidden", state: directory}}}}
  - {{copy: {{src: "{{{{ from }}}}/A", dest: "{{{{ to }}}}/A"}}}}
  - {{copy: {{src: "{{{{ from }}}}/below/B", dest: "{{{{ to }}}}/below/B", mode: '0600'}}}}
  - {{copy: {{src: "{{{{ from }}}}/below/LARGE", dest: "{{{{ to }}}}/below/LARGE", mode: preserve}}}}
  - {{copy: {{content: three, dest: "{{{{ to }}}}/below/deeper/C", mode: '0755'}}}}
  - {{template: {{src: "{{{{ from }}}}/.hidden/.env", dest: "{{{{ to }}}}/.hidden/.env", mode: '0640'}}}}
X
        play() {{
            HOME=$1 ANSIBLE_HOME=$1 ANSIBLE_LOCAL_TEMP=$1/a ANSIBLE_REMOTE_TEMP=$1/a ANSIBLE_PIPELINING=1 LC_ALL=C.UTF-8 \
                ansible-playbook -i localhost, -c local -e ansible_python_interpreter=/usr/bin/python3 \
                -e from=$2 -e to=$3 $T/play.yaml > $1/said || {{ cat $1/said >&2; return 1; }}
        }}
        export -f play
        mkdir $T/home.root
        as 2100 bash -c 'play $T/home $T/in $S/alice'
        clean $S/alice
        play $T/home.root $T/roots $S/to
        clean $S/to
        # What is there is replaced, and what does not differ stays.
        printf 'one more' > $T/in/A
        before=$(version $S/alice/below/LARGE)
        as 2100 bash -c 'play $T/home $T/in $S/alice'
        clean $S/alice
        [ $(version $S/alice/below/LARGE) = $before ]
        "#
    ));
}

/// What changes nothing is for those who may write; owners stay as they are.
#[test]
fn others_set_nothing() {
    let Some(stage) = Stage::with(&["chmod", "chown"]) else { return };
    stage.put("svc/K", "value", "alice");
    stage.run(
        r#"
        refused() { ! "$@" 2> $T/said && tells "$(cat $T/said)" 'Operation not permitted'; }
        cd $S
        for mode in 400 0 644 700 1777; do
            refused as 2100 chmod $mode svc/K
            refused as 2100 chmod $mode svc
            refused as 2100 chmod $mode .
            chmod $mode svc/K svc svc/K.acl .
        done
        tells "$(as 2100 cat .status/last-error)" 'svc/K: you may not write it'
        echo 'writers: [alice]' > svc/K.acl
        as 2100 chmod 600 svc/K svc/K.acl
        refused as 2200 chmod 600 svc/K.acl
        refused chmod 4400 svc/K
        refused chmod 2755 svc
        chown root:root svc svc/K; chown root svc/K; chgrp root svc; as 2200 chown 0:0 svc/K
        refused chown 2100 svc svc/K
        refused chown 2100:2100 svc
        refused as 2100 chgrp 2100 svc/K; refused chgrp 1 svc svc/K
        chown 0:1 svc svc/K; as 2100 chown 0:2100 svc/K
        refused as 2100 chown 0:2100 svc
        refused as 2200 chown 0:2200 svc/K
        refused as 2100 chgrp 2100 svc
        [ "$(stat -c '%U:%G %a' svc svc/K)" = 'root:root 555
root:root 400' ]
        "#,
    );
}
