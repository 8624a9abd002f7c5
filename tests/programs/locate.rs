//! plocate, whose database names every file that root sees and whose type is not left out.

use super::{Stage, background};

/// `configure WORDS` is `/etc/updatedb.conf` as Debian has it, with these types added, for this script alone.
const PREPARE: &str = r#"
mkdir -p $T/etc && cp -a /etc/. $T/etc && mount --bind $T/etc /etc
configure() {
    printf '%s\n' 'PRUNE_BIND_MOUNTS="no"' 'PRUNEPATHS="/tmp /var/spool"' "PRUNEFS=\"NFS fuse.sshfs tmpfs$*\"" \
        > /etc/updatedb.conf
}
"#;

#[test]
fn updatedb_passes_over_the_mount_if_its_type_is_left_out() {
    let Some(stage) = Stage::with(&["updatedb.plocate", "plocate"]) else { return };
    stage.put("svc/PLOCATE_KEY", "value", "bob");
    let said = stage.run(&format!(
        r#"{PREPARE}
        mount -t tmpfs none /srv && mkdir /srv/secrets && mount --bind $S /srv/secrets
        found() {{ updatedb.plocate -l no -o $T/db -U /srv && (plocate -d $T/db PLOCATE_KEY || echo nothing); }}
        configure
        found
        configure ' fuse.secretfs'
        found"#
    ));
    assert_eq!(said, "/srv/secrets/svc/PLOCATE_KEY\nnothing\n");
}

#[test]
fn is_secure_reports_a_mount_that_updatedb_reads() {
    let Some(said) = background::run(
        &["pgrep"],
        &format!(
            r#"{PREPARE}
        is_secure() {{ local code=0; "$SECRETFS" is-secure --mount /srv/secrets 2>&1 | grep -o "locate's .* in [a-z/.]*" || true; }}
        mkdir -p $T/srv && mount --bind $T/srv /srv && chmod 755 /srv
        rm -f /etc/updatedb.conf
        start() {{ "$SECRETFS" mount --background "${{OPTIONS[@]}}" $1 2> $T/said; }}
        start /srv/secrets
        is_secure
        configure
        echo configured; is_secure
        code=0; "$SECRETFS" is-secure --mount /srv/secrets 2> $T/said || code=$?; echo $code
        configure ' fuse.secretfs'
        echo left out; is_secure
        configure; sed -i 's#/tmp#/tmp /srv#' /etc/updatedb.conf
        echo by path; is_secure
        # An editor replaces the file.
        cp -a /etc/updatedb.conf /etc/new; sed -i 's# /srv##' /etc/new; mv /etc/new /etc/updatedb.conf
        echo replaced; is_secure"#
        ),
    ) else {
        return;
    };
    let told = "locate's database holds the names of its keys: add fuse.secretfs to PRUNEFS in /etc/updatedb.conf";
    assert_eq!(said, format!("configured\n{told}\n1\nleft out\nby path\nreplaced\n{told}\n"));
}
