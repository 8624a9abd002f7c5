//! Programs that change a file in place: the secret has the new value, its id and its lists stay.

use crate::harness::{ALICE, Mount, Person, ROOT};
use crate::skip::has;

/// How a program changes `$K`; the new value is in `$T/new`, which has the mode 0400.
struct Case {
    /// The program; without it the case is skipped.
    program: &'static str,
    script: &'static str,
}

const fn case(program: &'static str, script: &'static str) -> Case {
    Case { program, script }
}

/// Writes into the file itself, or beside it and renames.
const IN_PLACE: [Case; 18] = [
    case("bash", "cat $T/new > $K"),
    case("cp", "cp $T/new $K"),
    case("cp", "cp -p $T/new $K"),
    case("cp", "cp --preserve=mode,timestamps $T/new $K"),
    case("dd", "dd if=$T/new of=$K status=none"),
    case("tee", "tee $K < $T/new > /dev/null"),
    case("mv", "cp $T/new ${K%/*}/.new && mv ${K%/*}/.new $K"),
    case("mv", "cp $T/new ${K%/*}/new && mv -f ${K%/*}/new $K"),
    case("sed", "sed -i s/old/new/ $K"),
    case("rsync", "rsync -I $T/new $K"),
    case("rsync", "rsync -I -t --chmod=F400 $T/new $K"),
    case("rsync", "rsync -I --inplace $T/new $K"),
    case("python3", "python3 $T/replace.py $T/new $K ."),
    case("python3", "python3 $T/replace.py $T/new $K new-"),
    case("vim", "vim -u NONE -n -es -c s/old/new/ -c wq! $K"),
    case("vim", "vim -N -u NONE -n -es -c s/old/new/ -c wq! $K"),
    case("vim", "vim -N -u NONE -es -c 'set backup' -c s/old/new/ -c wq! $K && rm -f $K~"),
    case("tar", "tar -x --overwrite -f $T/new.tar -C ${K%/*}"),
];

/// Removes the file first and creates it again, or sets owners, which only root may.
const FIRST_REMOVED: [Case; 4] = [
    case("install", "install -m 400 $T/new $K"),
    case("tar", "tar -x -f $T/new.tar -C ${K%/*}"),
    case("mv", "cp $T/new $T/moved && mv $T/moved $K"),
    case("cp", "cp --remove-destination $T/new $K"),
];

/// Python's idiom: write a temporary file in the same directory, then `os.replace`.
const REPLACE: &str = "\
import os, sys, tempfile
source, target, prefix = sys.argv[1:]
descriptor, name = tempfile.mkstemp(dir=os.path.dirname(target), prefix=prefix)
with os.fdopen(descriptor, 'wb') as file:
    file.write(open(source, 'rb').read())
    file.flush()
    os.fsync(file.fileno())
os.replace(name, target)
";

/// Runs every case as `person` on a key in `directory`.
fn run(person: Person, directory: &str, cases: &[Case]) {
    let Some(mount) = Mount::start() else { return };
    let (root, user) = (mount.user(ROOT), mount.user(person));
    root.sh_ok(
        "echo 'new value' > $T/new && mkdir $T/tar && cp $T/new $T/tar/K && chmod 400 $T/tar/K \
         && tar -c -f $T/new.tar -C $T/tar K && chmod 644 $T/new.tar",
    );
    std::fs::write(mount.outside().join("replace.py"), REPLACE).unwrap();
    let _ = root.mkdir(directory);
    let key = format!("{directory}/K");
    let mut wrong = Vec::new();
    for Case { program, script } in cases {
        if !has(&[program]) {
            continue;
        }
        // A file of the user's own with the mode of a secret, as `cp -p` wants to keep it.
        let _ = std::fs::remove_file(mount.outside().join("new"));
        user.sh_ok("umask 377 && echo 'new value' > $T/new");
        // Removing its last secret removes the directory.
        let _ = root.unlink(&key);
        let _ = user.mkdir(directory);
        assert_eq!(user.write(&key, "old value\n"), Ok(()));
        assert_eq!(
            root.write(&format!("{key}.acl"), "readers: [alice, bob, payment-svc]\n"),
            Ok(())
        );
        let before = (root.id(&key), root.lists(&key));

        let shell = user.sh(&format!("K=$PWD/{key}; {script}"));
        let mut complain = |what: String| wrong.push(format!("`{script}`: {what}"));
        if shell.code != Some(0) {
            complain(format!("it ended with {:?} and said: {}", shell.code, shell.stderr));
        }
        match root.read(&key) {
            Ok(value) if value == "new value\n" => {
                let after = (root.id(&key), root.lists(&key));
                if after != before {
                    complain(format!("its id and lists were {before:?} and are {after:?}"));
                }
            }
            other => complain(format!("the value is {other:?}")),
        }
        let left = root.list(directory).unwrap_or_default();
        if left != ["K"] {
            complain(format!("the directory now holds {left:?}"));
            user.sh(&format!("rm -f {directory}/*"));
        }
    }
    assert!(wrong.is_empty(), "as {}:\n{}", person.name, wrong.join("\n"));
}

#[test]
fn as_root() {
    run(ROOT, "svc", &IN_PLACE);
}

#[test]
fn as_a_user_in_its_own_directory() {
    run(ALICE, "alice", &IN_PLACE);
}

#[test]
fn as_root_when_the_program_first_removes_it() {
    run(ROOT, "svc", &FIRST_REMOVED);
}

#[test]
fn as_a_user_when_the_program_first_removes_it() {
    run(ALICE, "alice", &FIRST_REMOVED);
}

#[test]
fn rsync_of_a_directory() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    if !has(&["rsync"]) {
        return;
    }
    root.put("svc/K", "old value", "readers: [alice]\n");
    let id = root.id("svc/K");
    root.sh_ok("mkdir $T/svc && cd $T/svc && echo new > K && echo more > L && chmod 400 K L");
    root.sh_ok("chmod 555 $T/svc && rsync -a $T/svc/ svc/");
    assert_eq!(root.read("svc/K").as_deref(), Ok("new\n"));
    assert_eq!(root.read("svc/L").as_deref(), Ok("more\n"));
    assert_eq!(
        (root.id("svc/K"), &root.lists("svc/K")["readers"][..]),
        (id, &["alice".to_owned()][..])
    );
    assert_eq!(root.list("svc"), Ok(vec!["K".to_owned(), "L".to_owned()]));
}

#[test]
fn programs_that_read_a_directory_see_secrets_alone() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("svc/A", "one\n", "readers: [alice]\n");
    root.put("svc/B", "two\n", "readers: [alice]\n");
    root.put("svc/hidden", "three\n", "");
    for (program, script, output) in [
        ("cat", "cat svc/*", "one\ntwo\n"),
        ("grep", "grep -r t svc", "svc/B:two\n"),
        ("find", "find svc -type f -perm 0400 -user root | sort", "svc/A\nsvc/B\n"),
        ("tar", "tar -c svc | tar -t", "svc/\nsvc/A\nsvc/B\n"),
        ("cp", "cp -r svc $T/copy && cat $T/copy/A", "one\n"),
        ("rsync", "rsync -r svc/ $T/synced && cat $T/synced/B", "two\n"),
        ("wc", "wc -c < svc/A", "4\n"),
        ("python3", "python3 -c 'print(open(\"svc/A\").read(), end=\"\")'", "one\n"),
    ] {
        if has(&[program]) {
            assert_eq!(alice.sh_ok(script), output, "`{script}`");
        }
    }
}
