//! OpenSSH: no bits for group and others on a key, nothing writable above what sshd trusts.

use super::Stage;

#[test]
fn ssh_keygen_takes_a_private_key() {
    let Some(stage) = Stage::with(&["ssh-keygen"]) else { return };
    // It looks its user up, so this is one that exists; it refuses keys that others may read.
    stage.run(
        r#"
        ssh-keygen -q -t ed25519 -N '' -C '' -f $T/key
        as 33 tee $S/www-data/id < $T/key > /dev/null
        diff <(as 33 ssh-keygen -y -f $S/www-data/id) <(sed 's/ $//' $T/key.pub)"#,
    );
}

#[test]
fn sshd_and_ssh_log_in_with_keys_from_the_mount() {
    let Some(stage) = Stage::with(&["sshd", "ssh", "ssh-keygen", "ip"]) else { return };
    // sshd's host key and the authorized_keys (StrictModes is on), and the client's key and
    // known_hosts, are all secrets. A key that is taken out of authorized_keys lets nobody in.
    let said = stage.run(
        r#"
        mkdir -p /run/sshd
        ssh-keygen -q -t ed25519 -N '' -f $T/host
        ssh-keygen -q -t ed25519 -N '' -f $T/client
        mkdir $S/ssh
        cat $T/host > $S/ssh/host_key
        (printf 'command="echo welcome" '; cat $T/client.pub) > $S/ssh/authorized_keys_root
        (printf '127.0.0.1 '; cut -d' ' -f1,2 $T/host.pub) > $S/ssh/known_hosts
        echo 'readers: [www-data]' > $S/ssh/known_hosts.acl
        as 33 tee $S/www-data/id < $T/client > /dev/null
        cat > $T/sshd_config <<-X
            Port 22
            ListenAddress 127.0.0.1
            HostKey $S/ssh/host_key
            AuthorizedKeysFile $S/ssh/authorized_keys_%u
            StrictModes yes
            PermitRootLogin yes
            PasswordAuthentication no
            KbdInteractiveAuthentication no
            PidFile none
X
        $(command -v sshd) -D -e -f $T/sshd_config 2> $T/sshd.log &
        login() {
            as 33 ssh -F none -i $S/www-data/id -o IdentitiesOnly=yes -o BatchMode=yes \
                -o UserKnownHostsFile=$S/ssh/known_hosts -o StrictHostKeyChecking=yes root@127.0.0.1
        }
        eventually bash -c '</dev/tcp/127.0.0.1/22' 2> /dev/null
        login || { cat $T/sshd.log >&2; exit 1; }
        echo > $S/ssh/authorized_keys_root
        if login 2> $T/refused; then exit 1; fi
        grep -o 'Permission denied' $T/refused"#,
    );
    assert_eq!(said, "welcome\nPermission denied\n");
}
