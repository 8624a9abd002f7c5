//! rsync and tar, into the mount and out of it.

use super::Stage;

/// A directory with two files and one below, in `$T/in`.
const FILES: &str = r#"
mkdir -p $T/in/below
printf one > $T/in/A; printf two > $T/in/B; head -c 300000 /dev/urandom > $T/in/below/LARGE
chmod 400 $T/in/A $T/in/B $T/in/below/LARGE; chown -R 2100:2100 $T/in
same() { diff -r $T/in $1; }
"#;

#[test]
fn rsync_in_and_out() {
    let Some(stage) = Stage::with(&["rsync"]) else { return };
    stage.run(&format!(
        r#"{FILES}
        into() {{ as 2100 rsync -a "$@" $T/in/ $S/alice/; }}
        into
        same $S/alice
        as 2100 rsync -a $S/alice/ $T/out/
        same $T/out
        printf 'one more' > $T/in/A
        rm -f $T/in/B
        into --delete
        same $S/alice
        # What others may not see does not go with it.
        as 2200 rsync -r $S/ $T/bob/ && [ ! -e $T/bob/alice ]"#
    ));
}

#[test]
fn tar_in_and_out() {
    let Some(stage) = Stage::with(&["tar"]) else { return };
    // Owners are not tar's to set.
    stage.run(&format!(
        r#"{FILES}
        tar -C $T/in -cf $T/in.tar .
        as 2100 tar -C $S/alice -xf $T/in.tar
        same $S/alice
        mkdir $S/copy && tar -C $S/copy --no-same-owner -xf $T/in.tar
        same $S/copy
        mkdir $T/out && as 2100 tar -C $S/alice -cf - . | tar -C $T/out -xf -
        same $T/out"#
    ));
}
