//! Programs that write again what is there: a deployment that reconciles, rsync from cron.

use super::Stage;

#[test]
fn deployments_that_change_nothing() {
    let Some(stage) = Stage::with(&["rsync", "cp", "install", "tar", "getfattr"]) else { return };
    stage.run(
        r#"
        mkdir -p $T/in/below
        echo one > $T/in/.env; echo two > $T/in/below/B; head -c 300000 /dev/urandom > $T/in/below/LARGE
        chown -R 2100:2100 $T/in; export S T
        as 2100 cp -r $T/in/. $S/alice/
        state() { find $S/alice -type f -printf '%p %i %T@\n' -exec getfattr --absolute-names -n user.secretfs.version {} +; }
        before=$(state)
        same() { "$@" && [ "$(state)" = "$before" ] || { echo "changed: $*" >&2; return 1; }; }
        touch $T/in/.env $T/in/below/*
        same as 2100 rsync -t $T/in/.env $S/alice/
        same as 2100 rsync -rt $T/in/ $S/alice/
        same as 2100 rsync -a --delete $T/in/ $S/alice/
        same as 2100 rsync -a --inplace $T/in/ $S/alice/
        same as 2100 rsync -rtI --no-whole-file $T/in/ $S/alice/
        same as 2100 cp -r $T/in/. $S/alice/
        same as 2100 cp -a $T/in/. $S/alice/
        same as 2100 sh -c 'install -m 600 $T/in/.env $S/alice/.env.new && mv $S/alice/.env.new $S/alice/.env'
        same as 2100 sh -c 'cat $T/in/.env > $S/alice/.env'
        same as 2100 sed -i s/nothing/something/ $S/alice/.env
        same as 2100 truncate -s 300000 $S/alice/below/LARGE
        same as 2100 sh -c 'tar -C $T/in -cf - . | tar --overwrite -C $S/alice -xf -'
        printf three > $T/in/below/B
        as 2100 rsync -rt $T/in/ $S/alice/
        [ "$(cat $S/alice/below/B)" = three ]
        [ "$(version $S/alice/below/B) $(version $S/alice/.env)" = '2 1' ]
        "#,
    );
}
