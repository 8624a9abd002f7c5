//! Copies do not carry extended attributes, neither out of the mount nor into it.

use super::Stage;

/// `bare PATH…` finds no attribute of the user's there. `$OUT` is a directory of alice on a tmpfs.
const OUT: &str = r#"
mkdir $T/out; mount -t tmpfs tmpfs $T/out
OUT=$T/out/alice; install -d -o 2100 -g 2100 $OUT
export OUT S T
bare() { [ -z "$(getfattr -R -d -m - --absolute-names "$@")" ]; }
as 2100 sh -c 'mkdir $S/alice/d; echo v > $S/alice/d/K; echo w > $S/alice/d/L'
[ -n "$(version $S/alice/d/K)" ]
bare $S/alice/d
"#;

#[test]
fn out_of_the_mount() {
    let Some(stage) = Stage::with(&["cp", "mv", "rsync", "tar", "getfattr", "install"]) else {
        return;
    };
    stage.run(&format!(
        r#"{OUT}
        as 2100 cp -a $S/alice/d $OUT/a
        as 2100 cp -r --preserve=xattr $S/alice/d $OUT/b
        as 2100 rsync -aX $S/alice/d/ $OUT/c
        as 2100 sh -c 'mkdir $OUT/d; tar --xattrs --xattrs-include="*" -C $S/alice/d -cf - . | tar --xattrs -C $OUT/d -xf -'
        as 2100 /usr/bin/python3 -c 'import os, shutil; shutil.copytree(os.environ["S"] + "/alice/d", os.environ["OUT"] + "/e")'
        as 2100 mv $S/alice/d $OUT/f
        for copy in a b c d e f; do
            [ "$(cat $OUT/$copy/K $OUT/$copy/L)" = 'v
w' ]
        done
        bare $OUT
        [ ! -e $S/alice/d ]"#
    ));
}

#[test]
fn into_the_mount() {
    let Some(stage) = Stage::with(&["cp", "mv", "rsync", "tar", "setfattr"]) else { return };
    stage.run(&format!(
        r#"{OUT}
        # In a directory of the disk, where users may set attributes.
        IN=$T/in; install -d -o 2100 -g 2100 $IN; export IN
        as 2100 sh -c 'echo in > $IN/K && setfattr -n user.mark -v x $IN/K && setfattr -n user.secretfs.id -v y $IN/K'
        id() {{ getfattr --absolute-names -n user.secretfs.id --only-values $1; }}
        check() {{ [ "$(cat $1)" = in ] && [[ $(id $1) == secr_* ]] && bare $1; }}
        as 2100 cp -a $IN/K $S/alice/a; check $S/alice/a
        as 2100 cp -a $IN $S/alice/dir; check $S/alice/dir/K
        as 2100 tar --xattrs -C $IN -cf - K | as 2100 tar -C $S/alice -xf -; check $S/alice/K
        as 2100 /usr/bin/python3 -c 'import os, shutil; shutil.copy2(os.environ["IN"] + "/K", os.environ["S"] + "/alice/c")'
        check $S/alice/c
        cp -a $IN/K $S/r 2> $T/said || tells "$(cat $T/said)" 'preserve ownership'
        as 2100 mv $IN/K $S/alice/m; check $S/alice/m
        # Programs that insist on attributes are told that there are none.
        as 2100 sh -c 'echo in > $IN/K && setfattr -n user.mark -v x $IN/K'
        ! as 2100 cp --preserve=xattr $IN/K $S/alice/n 2> $T/said
        tells "$(cat $T/said)" 'Operation not supported'
        ! as 2100 setfattr -n user.mark -v x $S/alice/K 2> $T/said
        tells "$(cat $T/said)" 'Operation not supported'"#
    ));
}

#[test]
fn borg() {
    let Some(stage) = Stage::with(&["borg", "getfattr"]) else { return };
    stage.run(&format!(
        r#"{OUT}
        export BORG_REPO=$OUT/repository BORG_BASE_DIR=$OUT/borg LOGNAME=alice
        # An empty directory leaves the kernel's cache, and borg asks for the path of its own.
        as 2100 sh -c 'echo k > $S/alice/KEEP'
        as 2100 borg init -e none
        as 2100 sh -c 'cd $S/alice && borg create ::one d'
        as 2100 sh -c 'mkdir $OUT/x && cd $OUT/x && borg extract ::one'
        [ "$(cat $OUT/x/d/K $OUT/x/d/L)" = 'v
w' ]
        bare $OUT/x
        as 2100 sh -c 'rm -r $S/alice/d; cd $S/alice && borg extract ::one'
        [ "$(as 2100 cat $S/alice/d/K $S/alice/d/L)" = 'v
w' ]"#
    ));
}
