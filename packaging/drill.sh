#!/usr/bin/env bash
# usage: packaging/drill.sh OLD.deb NEW.deb [again]
# packages: libpam-systemd dbus-user-session systemd-container podman uidmap slirp4netns fuse-overlayfs crun fuse3 busybox-static
# Operates the service on a clean Debian machine with systemd that can be thrown away, and prints a line for each
# situation: its name, what is expected, what was measured, ok or FAILED. Fails if one of them did. To be run as root by
# packaging/clean-debian.sh, or by packaging/debian-in-qemu.sh for Debian's own kernel. SCALE=N multiplies the limits
# of time, for a machine that is slow. ONLY='server|user' runs the installation and
# the situations whose functions have these names.
set -uo pipefail
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
[ -d /run/systemd/system ] || { echo "needs systemd" >&2; exit 1; }
old=$1 new=$2 phase=${3-first}
scale=${SCALE:-1}
dir=/run/drill
mkdir -p $dir /var/lib/drill

### Limits and measures

now() { echo "${EPOCHREALTIME/./}"; }
# Seconds since a time, with two decimals.
since() { local us=$(($(now) - $1)); printf '%d.%02d' $((us / 1000000)) $((us % 1000000 / 10000)); }
# Whether a number of seconds is below a limit, which the scale multiplies.
below() { awk -v took="$1" -v limit="$2" -v scale="$scale" 'BEGIN { exit !(took <= limit * scale) }'; }
# Runs a command for so many seconds at most: 124 if it has not ended by then. A process that waits for a dead mount may
# be one that no signal ends, so nobody waits for it.
within() {
    local limit=$(($1 * scale * 20)) command
    shift
    "$@" &
    command=$!
    while kill -0 $command 2>/dev/null; do
        if [ $((limit--)) -le 0 ]; then
            kill -9 $command
            disown $command
            return 124
        fi
        sleep 0.05
    done
    wait $command
}
# Waits until a command succeeds.
until_true() {
    local limit=$1 start
    shift
    start=$(now)
    until within 2 "$@" > /dev/null 2>&1; do
        below "$(since "$start")" "$limit" || return 1
        sleep 0.02
    done
}
processes() { systemctl show -p ControlGroup --value secretfs; }
main() { systemctl show -p MainPID --value secretfs; }
# Kills one process by its number; one that is not there is a fault.
kill9() { if [ "${1:-0}" -gt 1 ]; then kill -9 "$1"; else fault "there is no process to be killed"; fi; }
server() { pgrep -o -f '^secretfs serve'; }
is_mounted() { grep -q ' /secrets .* - fuse[.]secretfs ' /proc/self/mountinfo; }
is_not_mounted() { ! is_mounted; }
serves() { [ "$(cat /secrets/d/first 2>/dev/null)" = value ]; }
is_ok() { [ "$(head -n1 /secrets/.status/health)" = ok ]; }
as() { setpriv --reuid "$1" --regid "$1" --init-groups env HOME=/tmp "${@:2}"; }

### The table

failures=0
notes=() faults=()
note() { notes+=("$*"); }
fault() { faults+=("$*"); }
# need TEXT COMMAND...: the command succeeds in time.
need() {
    local text=$1
    shift
    within 10 "$@" > $dir/said 2>&1 || fault "$text ($?: $(head -c 300 $dir/said | tr '\n' ' '))"
}
# took TEXT SECONDS LIMIT
took() {
    note "$1 $2 s"
    below "$2" "$3" || fault "$1 took more than $3 s"
}
join() { local some all=; for some in "$@"; do all+="${all:+; }$some"; done; echo -n "$all"; }
situation() {
    local name=$1 expected=$2 function=$3 verdict=ok
    [[ -z ${ONLY-} || $function =~ ^s_(install|$ONLY)$ ]] || return 0
    notes=() faults=()
    $function
    # A situation that cannot be had on this machine returns 77.
    if [ $? = 77 ]; then
        verdict="not run"
    elif [ ${#faults[@]} != 0 ]; then
        verdict=FAILED
        failures=$((failures + 1))
    fi
    printf '%-34s | %-50s | %s | %s\n' "$name" "$expected" "$(join "${notes[@]}" "${faults[@]/#/NOT AS EXPECTED: }" | tr '\n' ' ')" "$verdict"
    [ "$verdict" != FAILED ] || journalctl -u secretfs -n 15 --no-pager -o cat >> $dir/log.$function 2>&1
    # The next one starts from a service that is well.
    rm -f /run/systemd/system/secretfs.service.d/drill.conf
    [ "$function" = s_boot ] || within 20 systemctl daemon-reload
    restore
}
# Brings the service back whatever a situation has left, for the next one.
restore() {
    [ "$phase" = first ] && [ -x /usr/bin/secretfs ] || return 0
    is_mounted && until_true 5 serves && return 0
    within 20 systemctl start secretfs
    until_true 5 serves || fault "the service did not come back"
}

### The load: six processes that write, read and unlink in one directory, and one that reads all the time

cat > $dir/work.pl <<'PERL'
use strict;
use Time::HiRes 'time';
my ($kind, $path, $over, $report) = @ARGV;
my ($longest, $done, $contended, $failed, $last, $outage, %errors) = (0, 0, 0, 0, time, 0);
sub get { open(my $file, '<', $path) or return 0; defined(my $line = readline $file) or return $! ? 0 : 1; close $file }
sub put { open(my $file, '>', $path) or return 0; print $file 'x'; close $file }
sub drop { unlink $path }
my @operations = $kind eq 'reader' ? ([read => \&get]) : ([write => \&put], [read => \&get], [unlink => \&drop]);
until (-e $over) {
    for my $operation (@operations) {
        my ($name, $what) = @$operation;
        my $start = time;
        $! = 0;
        my $succeeded = $what->();
        my ($error, $absent, $stale) = ("$!", $!{ENOENT}, $!{ESTALE});
        my $took = time - $start;
        $longest = $took if $took > $longest;
        if ($succeeded) {
            $done++;
            $outage = time - $last if time - $last > $outage;
            $last = time;
        } elsif ($kind eq 'writer' && $stale) {
            # Another process removed the secret while this one opened it.
            $contended++;
        } elsif ($kind eq 'reader' || !$absent) {
            $failed++;
            $errors{"$name: " . ($error || 'no value')}++;
            select(undef, undef, undef, 0.002);
        }
    }
}
open(my $file, '>', "$report.new") or die;
printf $file "%.2f %.2f %d %d %d %s\n", $longest, $outage, $done, $contended, $failed, join(', ', map { "$_ x $errors{$_}" } keys %errors);
close $file;
rename "$report.new", $report;
PERL
workers=()
load() {
    rm -rf $dir/over $dir/report.*
    workers=()
    local number
    for number in 1 2 3 4 5 6 0; do
        if [ $number = 0 ]; then
            perl $dir/work.pl reader /secrets/d/first $dir/over $dir/report.0 &
        else
            perl $dir/work.pl writer /secrets/d/$((number % 3)) $dir/over $dir/report.$number &
        fi
        workers+=($!)
        disown $!
    done
    sleep $((scale / 2)).5
}
# end_load ERRORS [SECONDS]: nobody may hang now, nor have waited for longer than so many seconds; with "none", no operation may have failed; with "some", the mount may have been away,
# for two seconds at a time; with "any", for as long as the situation lasts.
end_load() {
    local errors=$1 patience=${2-2} start worker longest=0 outage=0 done=0 contended=0 failed=0 what some fields
    touch $dir/over
    start=$(now)
    while [ "$(ls $dir/report.? 2>/dev/null | wc -l)" -lt 7 ] && below "$(since "$start")" 2; do sleep 0.05; done
    for worker in "${workers[@]}"; do
        if [ -d /proc/"$worker" ]; then
            fault "a caller hangs in state $(cut -d' ' -f3 /proc/"$worker"/stat) for more than 2 s"
            kill -9 "$worker"
        fi
    done
    for some in $dir/report.?; do
        read -r -a fields < "$some" || continue
        longest=$(printf '%s\n' "$longest" "${fields[0]}" | sort -g | tail -n1)
        [ "$some" != $dir/report.0 ] || outage=${fields[1]}
        done=$((done + fields[2])) contended=$((contended + fields[3])) failed=$((failed + fields[4]))
    done
    what=$(cut -d' ' -f6- $dir/report.? | tr ',' '\n' | sed 's/^ *//' |
        awk -F ' x ' 'NF == 2 { sum[$1] += $2 } END { for (error in sum) printf " %s x %d,", error, sum[error] }')
    note "longest wait $longest s, $done operations, $failed failed${what:+:${what%,}}"
    [ "$contended" = 0 ] || note "$contended lost against a removal (ESTALE)"
    [ "$failed" = 0 ] || note "longest time without a value $outage s"
    [ "$done" -gt 0 ] || fault "no operation succeeded"
    below "$longest" "$patience" || fault "a caller waited for more than $patience s"
    case $errors in
    none) [ "$failed" = 0 ] || fault "operations failed" ;;
    some) below "$outage" 2 || fault "the mount was away for more than 2 s" ;;
    esac
}
# What a restart of a process costs on this kernel.
cost() { if [ "$resends" = yes ]; then echo none; else echo some; fi; }
drop_in() {
    mkdir -p /run/systemd/system/secretfs.service.d
    printf '%s\n' "[Service]" "$@" > /run/systemd/system/secretfs.service.d/drill.conf
    within 20 systemctl daemon-reload
}

### The situations

s_install() {
    mkdir -p /secrets && chmod 711 /secrets
    need "it installs" dpkg -i "$old"
    need "health is ok" is_ok
    need "is-secure succeeds" secretfs is-secure
    note "$(tr '\n' ' ' < /secrets/.status/health)"
    mkdir /secrets/d && echo value > /secrets/d/first
    need "a secret is read" serves
    note "$(ps -e -o comm= | grep -c '^secretfs') processes: $(ps -e -o comm= | grep '^secretfs' | sort | tr '\n' ' ')"
}
s_restart() {
    local start longest=0
    load
    for _ in 1 2 3; do
        start=$(now)
        within 20 systemctl restart secretfs || fault "systemctl restart failed"
        until_true 5 serves || fault "it does not serve"
        took restart "$(since "$start")" 5
        sleep 0.3
    done
    # Where the mount cannot be kept, a restart is a stop and a start.
    end_load "$(cost)"
    need "health is ok" is_ok
}
s_server() {
    local start
    load
    for _ in 1 2 3; do
        start=$(now)
        kill9 "$(server)"
        until_true 2 serves || fault "it does not serve"
        took "served after" "$(since "$start")" 2
        sleep 0.5
    done
    end_load "$(cost)"
}
s_helpers() {
    local process
    load
    for process in notify lookup touch; do
        # The server may have been replaced just now.
        until_true 2 pgrep -x secretfs-$process || fault "there is no secretfs-$process"
        pkill -9 -x secretfs-$process
        sleep 0.2
        until_true 2 serves || fault "it does not serve after the death of secretfs-$process"
    done
    end_load "$(cost)"
}
s_supervisor() {
    local start before
    before=$(main)
    # Its server answers for a moment after its death.
    is_another() { systemctl --quiet is-active secretfs && [ "$(main)" != "$before" ] && serves; }
    load
    start=$(now)
    kill9 "$before"
    until_true 5 is_another || fault "it does not serve"
    took "served after" "$(since "$start")" 5
    end_load "$([ "$resends" = yes ] && echo none || echo any)"
    need "the service is active" systemctl is-active secretfs
}
s_limit() {
    local start
    drop_in ExecStart= "ExecStart=/usr/bin/secretfs mount /secrets --crash-limit 1" RestartSec=5
    within 20 systemctl restart secretfs || fault "the restart failed"
    until_true 5 serves || fault "it does not serve"
    load
    for _ in $(seq 40); do
        [ "$(systemctl show -p SubState --value secretfs)" = running ] || break
        # There may be none at the moment.
        pkill -9 -o -f '^secretfs serve' || :
        sleep 0.1
    done
    start=$(now)
    until [ "$(systemctl show -p SubState --value secretfs)" = auto-restart ]; do
        below "$(since "$start")" 5 || { fault "it is not given up"; break; }
    done
    sleep 0.2
    is_mounted && fault "a dead mount stays"
    end_load any
    need "no dead process remains" no_process_waits
    rm /run/systemd/system/secretfs.service.d/drill.conf
    within 20 systemctl daemon-reload
    start=$(now)
    within 10 systemctl start secretfs || fault "systemctl start failed"
    until_true 5 serves || fault "it does not serve"
    took start "$(since "$start")" 5
}
# Two seconds later there is none, whatever it waited for.
no_process_waits() {
    local start
    start=$(now)
    while ps -e -o stat=,comm= | grep '^D.*\(perl\|secretfs\|cat\|rm\)'; do
        below "$(since "$start")" 2 || return 1
        sleep 0.1
    done
}
s_key() {
    local start
    load
    mv /etc/secretfs/encryption-key /root/key
    start=$(now)
    within 30 systemctl restart secretfs && note "restart without a key succeeds" || note "restart without a key fails ($?)"
    # It tries for some seconds, then nobody waits any more.
    until ! is_mounted; do
        below "$(since "$start")" 20 || { fault "the mount without a key stays"; break; }
        sleep 0.1
    done
    note "given up after $(since "$start") s"
    mv /root/key /etc/secretfs/encryption-key
    start=$(now)
    within 10 systemctl start secretfs || fault "systemctl start failed"
    until_true 5 serves || fault "it does not serve"
    took start "$(since "$start")" 5
    # Callers waited while servers were tried.
    end_load any 20
    need "no dead process remains" no_process_waits
}
s_row() {
    local start
    load
    for _ in 1 2 3 4 5 6 7; do
        # There may be no process at the moment.
        systemctl kill -s KILL secretfs || :
        sleep 0.5
    done
    start=$(now)
    within 10 systemctl start secretfs || fault "systemctl start failed"
    until_true 5 serves || fault "it does not serve"
    took start "$(since "$start")" 5
    # It was killed for 3.5 s.
    end_load any 6
    need "the service is active" systemctl is-active secretfs
    need "no dead process remains" no_process_waits
}
s_upgrade() {
    local start before
    before=$(main)
    load
    dpkg -i "$new" > $dir/said 2>&1 || fault "dpkg: $(tail -n2 $dir/said)"
    [ "$(main)" = "$before" ] || fault "the package restarted the service"
    start=$(now)
    within 40 secretfs upgrade > $dir/said 2>&1 || fault "secretfs upgrade: $(cat $dir/said)"
    took upgrade "$(since "$start")" 5
    note "$(tr '\n' ' ' < $dir/said)"
    end_load "$(cost)"
    need "health is ok" is_ok
}
s_reload() {
    local file=/etc/secretfs/identities.yaml status command
    cp -a $file /root/identities.yaml
    load
    for command in "systemctl reload secretfs" "secretfs reload"; do
        printf 'admins: [root, secret-admins]\nidentities: [{slug: drill-slug, uid: 33}]\n' > $file
        within 10 $command > $dir/said 2>&1 || fault "$command failed: $(cat $dir/said)"
        as www-data cat /secrets/.status/whoami | grep -q drill-slug || fault "$command came back before the new identities held"
        echo "identities: 7" > $file
        within 10 $command > $dir/said 2>&1
        status=$?
        [ $status != 0 ] && [ $status != 124 ] || fault "$command with a bad file gave $status"
        note "$command with a bad file: exit code $status"
        is_ok && fault "health does not tell of the bad file"
        as www-data cat /secrets/.status/whoami | grep -q drill-slug || fault "the identities of before do not hold"
        cp -a /root/identities.yaml $file
        within 10 $command > $dir/said 2>&1 || fault "$command failed: $(cat $dir/said)"
        need "health is ok" is_ok
    done
    end_load none
}
s_mistake() {
    local start
    cp -a /etc/secretfs/config.yaml /root/config.yaml
    load
    echo "audit-keep: many" >> /etc/secretfs/config.yaml
    secretfs mount --check > /dev/null 2>&1 && fault "mount --check accepts it"
    if [ "$resends" = yes ]; then
        within 10 systemctl restart secretfs || fault "systemctl restart failed"
        need "it serves" serves
        need "health tells of it" grep -q '^settings' /secrets/.status/health
    else
        within 10 systemctl restart secretfs && fault "systemctl restart succeeded"
    fi
    cp -a /root/config.yaml /etc/secretfs/config.yaml
    if [ "$resends" = yes ]; then
        within 10 systemctl restart secretfs || fault "systemctl restart failed"
        end_load none
    else
        # It is tried again by itself.
        start=$(now)
        until_true 5 serves || fault "it does not come back by itself"
        took "back by itself" "$(since "$start")" 5
        end_load any
    fi
    need "health is ok" is_ok
}
s_signals() {
    local before after signal
    # The server's child that looks up users comes and goes.
    list() { pgrep -f '^secretfs(-touch)? ' -a | grep -v ' look-up' | sort; }
    before=$(list)
    load
    for signal in USR1 HUP; do
        systemctl kill -s $signal secretfs
        sleep 0.5
    done
    after=$(list)
    [ "$before" = "$after" ] || fault "processes were $before, now $after"
    end_load none
}
s_path() {
    mkdir -p /etc/systemd/system
    cat > /etc/systemd/system/drill-path.path <<'UNIT'
[Unit]
After=secretfs.service
PartOf=secretfs.service
[Path]
PathChanged=/secrets/watched
Unit=drill-fired.service
[Install]
WantedBy=secretfs.service
UNIT
    cat > /etc/systemd/system/drill-fired.service <<'UNIT'
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'date +%s.%N >> /run/drill/fired'
UNIT
    echo 0 > /secrets/watched
    systemctl daemon-reload
    systemctl enable --now drill-path.path > /dev/null 2>&1
    local round start
    for round in "a first version" "after a restart" "after a stop and start"; do
        case $round in
        "after a restart") systemctl restart secretfs ;;
        "after a stop and start") systemctl stop secretfs && systemctl start secretfs ;;
        esac
        until_true 5 systemctl is-active drill-path.path || fault "the path unit is not active $round"
        rm -f $dir/fired
        # systemd sets its watch after the job is done.
        sleep $scale
        start=$(now)
        echo "$round" > /secrets/watched
        until [ -e $dir/fired ]; do
            below "$(since "$start")" 2 || { fault "it does not fire: $round"; break; }
            sleep 0.02
        done
        note "$round $(since "$start") s"
    done
    systemctl disable --now drill-path.path > /dev/null 2>&1
    rm /etc/systemd/system/drill-{path.path,fired.service} /secrets/watched
}
s_mask() {
    local process
    mkdir -p /secrets/mask && echo hidden > /secrets/mask/K
    as www-data sh -c 'echo hidden > /secrets/www-data/K'
    within 20 systemd-run --quiet --unit=drill-mask -p InaccessiblePaths=/secrets/mask -p InaccessiblePaths=/secrets/www-data \
        sleep infinity || fault "the service does not start"
    process=$(systemctl show -p MainPID --value drill-mask)
    inside() { nsenter --target "$process" --mount "$@"; }
    until_true 5 inside test -d /secrets/mask
    inside cat /secrets/d/first > /dev/null 2>&1 || fault "it reads nothing"
    inside cat /secrets/mask/K > /dev/null 2>&1 && fault "the mask does not hold"
    echo other > /secrets/mask/K
    echo other > /secrets/mask/L
    inside cat /secrets/mask/K > /dev/null 2>&1 && fault "the mask does not hold after a new version"
    as www-data sh -c 'rm /secrets/www-data/K; echo again > /secrets/www-data/K'
    if inside cat /secrets/www-data/K > /dev/null 2>&1; then
        # Documented: as on every filesystem before Linux 6.2.
        if [ "$(printf '%s\n' 6.2 "$(uname -r)" | sort -V | head -n1)" = 6.2 ]; then
            fault "the mask over a slug's directory does not hold after it was emptied"
        else
            note "over a slug's directory it ends when that is emptied, as documented before Linux 6.2"
        fi
    fi
    kill9 "$(server)"
    until_true 2 serves
    if [ "$resends" = yes ]; then
        inside cat /secrets/mask/K > /dev/null 2>&1 && fault "the mask does not hold after the death of a server"
    fi
    systemctl stop drill-mask
    rm -r /secrets/mask /secrets/www-data/K
}
s_credential() {
    local key=/etc/secretfs/encryption-key sealed=/etc/credstore.encrypted/secretfs.encryption-key command out
    mkdir -p /etc/credstore.encrypted
    systemd-creds encrypt --with-key=host --name=encryption-key $key $sealed > $dir/said 2>&1 || {
        note "systemd-creds cannot seal here: $(head -n1 $dir/said)"
        return 77
    }
    mv $key /root/key
    within 20 systemctl restart secretfs || fault "the restart failed"
    until_true 5 serves || fault "it does not serve"
    need "is-secure succeeds" secretfs is-secure
    need "health is ok" is_ok
    # Without the key each says which one is needed and where it is.
    for command in "audit verify" "mount --check"; do
        within 20 secretfs $command > $dir/said 2>&1 && fault "$command succeeds without the key"
        grep -q '/run/credentials/secretfs.service/encryption-key' $dir/said ||
            fault "$command does not name the key: $(head -c 300 $dir/said)"
    done
    need "audit verify with the key of the service" secretfs audit verify --encryption-key-file /run/credentials/secretfs.service/encryption-key
    within 20 systemctl stop secretfs
    for command in "fsck" "backup --offline /root/backup"; do
        within 20 secretfs $command > $dir/said 2>&1 && fault "$command succeeds without the key"
        grep -q "systemd-creds decrypt" $dir/said || fault "$command does not name the key: $(head -c 300 $dir/said)"
    done
    out=$(systemd-creds decrypt --name=encryption-key $sealed - | secretfs fsck --encryption-key-file /dev/stdin 2>&1) ||
        fault "fsck with the key fails: $out"
    mv /root/key $key
    rm $sealed
    within 20 systemctl start secretfs || fault "the start failed"
}
s_stop() {
    local start
    # As in the unit, but for the scale.
    drop_in RestartSec=$((500 * scale))ms
    load
    kill9 "$(main)"
    sleep 0.2
    note "stopped in the state $(systemctl show -p SubState --value secretfs)"
    start=$(now)
    within 10 systemctl stop secretfs || fault "systemctl stop failed"
    took stop "$(since "$start")" 5
    until_true 2 is_not_mounted || fault "a dead mount stays"
    end_load any
    need "no dead process remains" no_process_waits
    pgrep -f '^secretfs' -a > $dir/said && fault "processes remain: $(cat $dir/said)"
    start=$(now)
    within 10 systemctl start secretfs || fault "systemctl start failed"
    until_true 5 serves || fault "it does not serve"
    took start "$(since "$start")" 5
}
s_memory() {
    local group oom='' before start writer process began
    drop_in MemoryMax=96M
    within 20 systemctl restart secretfs || fault "the restart failed"
    until_true 5 serves || fault "it does not serve"
    before=$(main)
    began=$(date +%s)
    hangs() { journalctl -u secretfs --since "@$began" -o cat | grep -c 'the server hangs'; }
    group=/sys/fs/cgroup$(systemctl show -p ControlGroup --value secretfs)
    kills() { sed -n 's/^oom_kill //p' "$group/memory.events"; }
    if [ ! -e "$group/memory.max" ] || [ "$(cat "$group/memory.max")" = max ]; then
        # Where systemd has no memory controller, that of cgroup v1 does the same without its knowledge.
        mkdir -p $dir/memory
        mount -t cgroup -o memory cgroup $dir/memory 2> $dir/said || { note "no memory controller: $(cat $dir/said)"; return 77; }
        group=$dir/memory/drill
        mkdir $group
        echo 96M > $group/memory.limit_in_bytes
        for process in $(pgrep -f '^secretfs') $before; do echo "$process" > $group/cgroup.procs; done
        kills() { sed -n 's/^oom_kill //p' "$group/memory.oom_control"; }
        note "cgroup v1"
    fi
    load
    # What writers have not closed is in the memory of the server, and once more in the saved state.
    perl -e '
        my @files;
        for my $number (1 .. 120) {
            open(my $file, ">", "/secrets/d/large$number") or next;
            syswrite($file, "x" x 1000000);
            push @files, $file;
        }
        close $_ for @files' > /dev/null 2>&1 &
    writer=$!
    start=$(now)
    until oom=$(kills) && [ "${oom:-0}" -gt 0 ]; do
        # On a machine that is very slow, the supervisor takes it for one that hangs before the kernel has to kill it.
        [ "$scale" -lt 10 ] || [ "$(hangs)" = 0 ] || break
        below "$(since "$start")" 20 || { fault "nothing was killed for memory"; break; }
        sleep 0.1
    done
    # Until what it has written is stored, or it was told that it is lost.
    until ! kill -0 $writer 2>/dev/null; do
        below "$(since "$start")" 60 || { fault "its writer hangs"; kill -9 $writer; break; }
        sleep 0.1
    done
    until_true 10 serves || fault "it does not serve"
    note "$(kills) killed, $(hangs) as one that hangs"
    [ "$(main)" = "$before" ] || fault "the supervisor did not stay"
    end_load any 10
    need "the service is active" systemctl is-active secretfs
    rm -f /secrets/d/large*
    if [ "$group" = $dir/memory/drill ]; then
        within 20 systemctl restart secretfs
        for process in $(cat $group/cgroup.procs); do echo "$process" > $dir/memory/cgroup.procs; done
        rmdir $group && umount $dir/memory
    fi
}
s_nspawn() {
    local process
    rm -rf /srv/guest
    mkdir -p /srv/guest/{bin,etc,usr,proc,sys,dev,tmp,run,secrets} && cp /bin/busybox /srv/guest/bin && ln -s busybox /srv/guest/bin/sh
    echo 'ID=guest' > /srv/guest/etc/os-release
    systemd-run --quiet --unit=drill-guest -p Delegate=yes systemd-nspawn --quiet --register=no --keep-unit \
        --directory=/srv/guest --bind=/secrets:/secrets --private-network /bin/busybox sleep 1000
    until process=$(pgrep -f '^/bin/busybox sleep 1000'); do
        systemctl --quiet is-active drill-guest ||
            { note "nspawn does not run here: $(journalctl -u drill-guest -n 3 --no-pager -o cat)"; return 77; }
        sleep 0.1
    done
    guest() { nsenter --target "$process" --mount --root --wd /bin/busybox "$@"; }
    bound guest /secrets/d/first
    systemctl stop drill-guest
}
# A caller in another mount namespace that has the directory or the secret bound: "bound COMMAND PATH".
bound() {
    local command=$1 path=$2
    need "it reads" $command cat "$path"
    within 20 systemctl restart secretfs || fault "the restart failed"
    until_true 5 serves
    if [ "$resends" = yes ]; then
        [ "$(within 5 $command cat "$path")" = value ] || fault "it reads nothing after a restart"
        kill9 "$(server)"
        [ "$(within 5 $command cat "$path")" = value ] || fault "it reads nothing after the death of the server"
        echo other > /secrets/d/first
        [ "$(within 5 $command cat "$path")" = other ] || fault "it does not see a new version"
        echo value > /secrets/d/first
    else
        within 5 $command cat "$path" > $dir/said 2>&1
        local status=$?
        [ $status != 124 ] || fault "it hangs"
        note "after a restart: exit code $status, $(tr '\n' ' ' < $dir/said)"
    fi
}
s_bind() {
    touch $dir/bound
    unshare --mount --propagation private sh -c "mount --bind /secrets/d/first $dir/bound && touch $dir/is-bound && exec sleep 1000" &
    local process=$!
    until_true 5 test -e $dir/is-bound
    inside_bind() { nsenter --target $process --mount "$@"; }
    bound inside_bind $dir/bound
    kill $process
    rm -f $dir/is-bound
}
s_user() {
    local unit=/home/drill/.config/systemd/user/secretfs.service start uid
    id drill > /dev/null 2>&1 || useradd --create-home --shell /bin/bash drill
    uid=$(id -u drill)
    loginctl enable-linger drill > $dir/said 2>&1 || { note "no user manager here: $(cat $dir/said)"; return 77; }
    start=$(now)
    until [ -S "/run/user/$uid/systemd/private" ]; do
        below "$(since "$start")" 10 || { note "no user manager here"; return 77; }
        sleep 0.1
    done
    user() { setpriv --reuid drill --regid drill --init-groups env -i HOME=/home/drill PATH=/usr/bin:/bin XDG_RUNTIME_DIR="/run/user/$uid" "$@"; }
    user mkdir -p "$(dirname $unit)"
    user cp /usr/share/doc/secretfs/examples/systemd/secretfs-of-a-user.service $unit
    user systemctl --user daemon-reload
    within 20 user systemctl --user start secretfs > $dir/said 2>&1 || fault "the start failed: $(cat $dir/said)$(journalctl -n 5 --no-pager -o cat _UID=$uid)"
    user sh -c 'echo mine > ~/secrets/K'
    mine() { [ "$(user cat /home/drill/secrets/K 2>/dev/null)" = mine ]; }
    need "it reads" mine
    start=$(now)
    within 20 user systemctl --user restart secretfs || fault "the restart failed"
    until_true 5 mine || fault "it does not serve after a restart"
    took restart "$(since "$start")" 5
    start=$(now)
    kill9 "$(pgrep -u drill -f '^secretfs serve')"
    until_true 2 mine || fault "it does not serve after the death of the server"
    took "served after" "$(since "$start")" 2
    start=$(now)
    kill9 "$(user systemctl --user show -p MainPID --value secretfs)"
    until_true 5 mine || fault "it does not serve after the death of the supervisor"
    took "after the supervisor" "$(since "$start")" 5
    within 20 user systemctl --user stop secretfs || fault "the stop failed"
    grep -q ' /home/drill/secrets ' /proc/self/mountinfo && fault "it is still mounted"
}
s_podman() {
    local uid
    id drill > /dev/null 2>&1 && [ -d "/run/user/$(id -u drill)" ] || { note "needs the user of the situation before"; return 77; }
    uid=$(id -u drill)
    user() { setpriv --reuid drill --regid drill --init-groups env -i HOME=/home/drill PATH=/usr/bin:/bin XDG_RUNTIME_DIR="/run/user/$uid" "$@"; }
    mkdir -p /srv/image/bin && cp /bin/busybox /srv/image/bin
    tar -C /srv/image -c . > /home/drill/image.tar
    cd /home/drill || return 77
    within 60 user podman import --quiet image.tar box > $dir/said 2>&1 || { note "podman does not run here: $(tail -n1 $dir/said)"; cd /; return 77; }
    secretfs acl grant d/first readers drill > /dev/null 2>&1
    box() {
        user podman rm --force --time 0 box
        user podman run --detach --name box --network none -v /secrets/d/first:/bound -v /secrets:/secrets:rslave box \
            /bin/busybox sleep 1000
    }
    inside_podman() { user podman exec box /bin/busybox "$@"; }
    within 60 box > $dir/said 2>&1 || { note "podman does not run here: $(tail -n1 $dir/said)"; cd /; return 77; }
    bound inside_podman /bound
    within 60 box > $dir/said 2>&1 || fault "it is not started again: $(tail -n1 $dir/said)"
    for _ in 1 2 3; do
        kill9 "$(server)"
        until_true 2 serves
        [ "$(within 10 inside_podman cat /secrets/d/first)" = value ] || fault "rslave does not follow the death of a server"
    done
    user podman rm --force --time 0 box > /dev/null 2>&1
    cd / || return 77
}
# The line for the boot is written at the end, and the machine booted once more.
prepare_boot() {
    systemctl disable --now secretfs > /dev/null 2>&1
    echo "secretfs /secrets secretfs noauto,x-systemd.automount,nofail,_netdev,encryption_key_file=/etc/secretfs/encryption-key 0 0" >> /etc/fstab
    echo "$failures" > /var/lib/drill/failures
}
s_boot() {
    local start
    [ -e /dev/autofs ] || { note "no automounts of systemd in a container"; return 77; }
    need "the automount is active" systemctl is-active secrets.automount
    is_mounted && fault "it is mounted before the first access"
    start=$(now)
    [ "$(within 10 cat /secrets/d/first)" = value ] || fault "the first access reads nothing"
    took "first access" "$(since "$start")" 5
    need "systemd has the mount" systemctl is-active secrets.mount
    note "$(awk '$2 == "/secrets" { print $1, $3 }' /proc/self/mounts | tr '\n' ' ')"
    [ "$(findmnt -n -o FSTYPE /secrets | tail -n1)" = fuse.secretfs ] || fault "the type is $(findmnt -n -o FSTYPE /secrets)"
    kill9 "$(server)"
    until_true 2 serves || fault "it does not serve after the death of the server"
    need "it unmounts" systemctl stop secrets.mount
    need "the next access mounts again" cat /secrets/d/first
    need "it stops" systemctl stop secrets.automount secrets.mount
}

resends=yes
if [ "$phase" = again ]; then
    failures=$(cat /var/lib/drill/failures)
    situation "fstab, automount, at boot" "the first access mounts" s_boot
else
    echo "$(uname -sr), $(. /etc/os-release && echo "$PRETTY_NAME"), $(systemctl --version | head -n1), $(systemd-detect-virt)"
    situation "install" "health ok, is-secure succeeds" s_install
    grep -q 'does not send unanswered requests' /secrets/.status/health && resends=no
    echo "unanswered requests are sent to the next server: $resends"
    situation "systemctl restart" "nobody fails; old kernel: away for 2 s at most" s_restart
    situation "server killed" "served within 2 s; nobody fails on Linux 6.9" s_server
    situation "helpers killed" "served within 2 s; nobody fails on Linux 6.9" s_helpers
    situation "supervisor killed" "served within 5 s; nobody fails on Linux 6.9" s_supervisor
    situation "crash limit reached" "nobody hangs for 2 s, no D state; start in 5 s" s_limit
    situation "key away, restart, key back, start" "nobody hangs; start within 5 s" s_key
    situation "killed seven times in a row" "start within 5 s, nobody hangs" s_row
    situation "upgrade of the deb" "nobody fails; old kernel: away for 2 s at most" s_upgrade
    situation "reload, good and bad identities" "waits, reports; the old ones stay in force" s_reload
    situation "bad configuration, restart" "old mount stays; old kernel: back by itself" s_mistake
    situation "kill -s USR1, kill -s HUP" "no process ends, nobody fails" s_signals
    situation "PathChanged=" "fires within 2 s, also after restart and stop/start" s_path
    situation "InaccessiblePaths= of a directory" "holds when it is emptied and filled" s_mask
    situation "key as a credential" "works; offline commands name the key" s_credential
    situation "stop during the restart wait" "ends at once; no mount, no process, nobody hangs" s_stop
    situation "out of memory in the cgroup" "supervisor stays, served again, nobody hangs" s_memory
    situation "ordinary user's unit" "restart, death of server and supervisor" s_user
    situation "secret bound, restart" "follows; old kernel: an error, no wait" s_bind
    situation "nspawn guest, bound directory" "follows; old kernel: an error, no wait" s_nspawn
    situation "rootless podman" "follows; old kernel: an error, no wait" s_podman
    for log in $dir/log.*; do
        [ ! -e "$log" ] || { echo "== ${log##*.}"; cat "$log"; }
    done
    prepare_boot
    exit 77
fi
[ "$failures" = 0 ] || { echo "$failures situations failed"; exit 1; }
echo "all situations are as expected"
