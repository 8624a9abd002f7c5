//! Files whose names begin with a dot, which programs copy, edit and read like others.

use super::Stage;

#[test]
fn they_are_copied_edited_and_read() {
    let Some(stage) = Stage::with(&["rsync", "tar", "vim", "sed", "install"]) else { return };
    stage.run(
        r#"
        mkdir -p $T/app/.docker
        echo 'DB=old' > $T/app/.env; echo '{"auths":{}}' > $T/app/.docker/.dockerconfigjson
        chown -R 2100:2100 $T/app
        as 2100 cp $T/app/.env $S/alice/.env
        cd $S/alice
        as 2100 sed -i s/old/new/ .env
        [ "$(cat .env)" = DB=new ]
        as 2100 vim -N -u NONE -n -es -c s/new/newer/ -c wq! .env
        as 2100 vim -N -u NONE -es -c s/newer/newest/ -c wq! .env
        [ "$(cat .env)" = DB=newest ]
        [ "$(as 2100 sh -c '. ./.env; echo $DB')" = newest ]
        [ "$(ls -A)" = .env ]
        as 2100 rsync -a $T/app/ .
        [ "$(cat .env .docker/.dockerconfigjson)" = 'DB=old
{"auths":{}}' ]
        [ "$(ls -A)" = '.docker
.env' ]
        as 2100 tar -cf - . | tar -tf - | grep -qx ./.docker/.dockerconfigjson
        as 2100 rm -r .env .docker
        [ -z "$(ls -A)" ]
        "#,
    );
}
