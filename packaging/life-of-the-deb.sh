#!/usr/bin/env bash
# usage: packaging/life-of-the-deb.sh OLD.deb NEW.deb
# Installs, uses, upgrades while mounted, removes and purges the package. To be run as root on a clean
# Debian machine with systemd that can be thrown away; packaging/clean-debian.sh makes one.
set -euo pipefail
[ -d /run/systemd/system ] || { echo "needs systemd"; exit 1; }
[ ! -e /etc/secretfs ] || { echo "this machine is not clean: /etc/secretfs is there"; exit 1; }
export DEBIAN_FRONTEND=noninteractive
step() { echo "== $*"; }
is() { [ "$1" = "$2" ] || { echo "expected '$2', got '$1' (line ${BASH_LINENO[0]})"; exit 1; }; }
as() { setpriv --reuid "$1" --regid "$1" --init-groups "${@:2}"; }

step install
mkdir -p /secrets && chmod 711 /secrets && before=$(stat -c '%i %a %Y' /secrets)
dpkg -i "$1"
is "$(systemctl is-active secretfs)" active
is "$(systemctl is-enabled secretfs)" enabled
is "$(stat -c '%a %U' /etc/secretfs/encryption-key)" "600 root"
is "$(secretfs is-secure)" "Service is secure."
getent group secret-admins >/dev/null
is "$(stat -c '%a %U' /var/lib/secretfs)" "700 secretfs"
is "$(cat /secrets/.status/health)" ok
zcat /usr/share/man/man1/secretfs-mount.1.gz | grep 'state.*dir' >/dev/null
bash -n /usr/share/bash-completion/completions/secretfs
key=$(sha256sum /etc/secretfs/encryption-key)

step use
as www-data sh -c 'echo hunter2 > /secrets/www-data/PASSWORD'
is "$(as www-data cat /secrets/www-data/PASSWORD)" hunter2
if as backup cat /secrets/www-data/PASSWORD 2>/dev/null; then exit 1; fi
oo secret list | grep www-data/PASSWORD >/dev/null
if grep -rq hunter2 /var/lib/secretfs; then echo "the store holds a value"; exit 1; fi

step "watch with inotify"
# A watched version is touched by its handle, which the unit's filters must allow.
echo old > /secrets/watched
inotifywait -e modify -t 30 /secrets/watched > /tmp/event 2> /tmp/watching &
until grep -q established /tmp/watching; do kill -0 $! && sleep 0.1; done
printf 'key: watched\nvalue: new\n' > /secrets/.import/watched.yaml
wait $!
is "$(cat /tmp/event) $(cat /secrets/watched)" "/secrets/watched MODIFY  new"
rm /secrets/watched

step "upgrade while mounted"
exec 3< /secrets/www-data/PASSWORD
process=$(systemctl show -p MainPID --value secretfs)
echo "# mine" >> /etc/secretfs/identities.yaml
dpkg -i "$2"
is "$(systemctl show -p MainPID --value secretfs)" "$process"
is "$(cat <&3)" hunter2
is "$(tail -n1 /etc/secretfs/identities.yaml)" "# mine"

step "the mount outlives what holds it"
exec 4> /secrets/www-data/UNFINISHED
systemctl restart secretfs
is "$(as www-data cat /secrets/www-data/PASSWORD)" hunter2
kill -9 "$(systemctl show -p MainPID --value secretfs)"
is "$(as www-data cat /secrets/www-data/PASSWORD)" hunter2
is "$(head -c 3 /proc/self/fd/3)" hun
exec 3<&-
echo finished >&4
exec 4>&-
is "$(cat /secrets/www-data/UNFINISHED)" finished
rm /secrets/www-data/UNFINISHED
is "$(sha256sum /etc/secretfs/encryption-key)" "$key"

step "a mistake in the configuration"
cp -a /etc/secretfs/config.yaml /root/config.yaml
echo "audit-keep: many" >> /etc/secretfs/config.yaml
if secretfs mount --check; then exit 1; fi
systemctl restart secretfs
is "$(as www-data cat /secrets/www-data/PASSWORD)" hunter2
grep -q '^settings' /secrets/.status/health
cp -a /root/config.yaml /etc/secretfs/config.yaml
secretfs mount --check
systemctl restart secretfs
is "$(cat /secrets/.status/health)" ok
cp -a /etc/secretfs/identities.yaml /root/identities.yaml
echo "identities: 7" > /etc/secretfs/identities.yaml
if systemctl reload secretfs; then exit 1; fi
cp -a /root/identities.yaml /etc/secretfs/identities.yaml
systemctl reload secretfs
is "$(cat /secrets/.status/health)" ok

step "killed in a row"
for signal in USR1 HUP; do systemctl kill -s $signal secretfs; done
# There may be no process at the moment.
for _ in 1 2 3 4 5 6 7; do systemctl kill -s KILL secretfs || :; sleep 0.5; done
is "$(timeout 5 setpriv --reuid www-data --regid www-data --init-groups cat /secrets/www-data/PASSWORD)" hunter2
systemctl start secretfs
is "$(systemctl is-active secretfs)" active

step fstab
systemctl disable --now secretfs
echo "secretfs /secrets secretfs noauto,nofail,_netdev,x-systemd.mount-timeout=30 0 0" >> /etc/fstab
systemctl daemon-reload
mount /secrets
is "$(cat /secrets/www-data/PASSWORD)" hunter2
umount /secrets
sed -i 's/noauto,//' /etc/fstab
mount -a && mount -a
is "$(grep -c ' /secrets ' /proc/self/mountinfo)" 1
umount /secrets
sed -i '/secretfs/d' /etc/fstab
systemctl daemon-reload
systemctl enable --now secretfs

step remove
dpkg -r secretfs
if grep -q fuse.secretfs /proc/self/mountinfo; then echo "it is still mounted"; exit 1; fi
if pgrep secretfs; then echo "a daemon is left"; exit 1; fi
[ -d /var/lib/secretfs ] && [ -e /etc/secretfs/config.yaml ]
is "$(stat -c '%i %a %Y' /secrets)" "$before"

step "install again"
dpkg -i "$2"
is "$(as www-data cat /secrets/www-data/PASSWORD)" hunter2
is "$(sha256sum /etc/secretfs/encryption-key)" "$key"

step purge
dpkg -P secretfs
[ ! -e /var/lib/secretfs ] && [ ! -e /etc/secretfs/config.yaml ]
is "$(sha256sum /etc/secretfs/encryption-key)" "$key"
is "$(stat -c '%i %a %Y' /secrets)" "$before"
echo "the package lives as it should"
