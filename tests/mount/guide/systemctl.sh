#!/usr/bin/env bash
# Stands in for systemd, which does not run in a test: does what the installed unit says, no more.
set -euo pipefail
unit=/usr/lib/systemd/system/secretfs.service log=/run/secretfs.log pid=/run/secretfs.pid
setting() { sed -n "s/^$1=//p" "$unit"; }
runs() { [ -e $pid ] && kill -0 "$(cat $pid)" 2>/dev/null; }
until_said() {
    local lines=$1 said=$2
    for _ in $(seq 2000); do
        tail -n "+$((lines + 1))" $log | grep -q "$said" && return
        runs || break
        sleep 0.01
    done
    cat $log >&2
    return 1
}
start() {
    runs && return
    : > $log
    # Words of a unit are words of the shell as long as nothing is quoted.
    setsid $(setting ExecStart) < /dev/null > /dev/null 2>> $log &
    echo $! > $pid
    until_said 0 'mounted at'
}
stop() {
    runs || return 0
    kill "$(cat $pid)"
    for _ in $(seq 2000); do runs || return 0; sleep 0.01; done
    return 1
}
arguments=()
for argument; do [[ $argument == --* ]] || arguments+=("$argument"); done
[ "${arguments[0]}" != preset ] || exit 0
[ "${arguments[1]:-}" = secretfs ]
case ${arguments[0]} in
enable | start) start ;;
disable | stop) stop ;;
restart) stop; start ;;
reload) $(setting ExecReload) ;;
*) echo "no such verb here: $*" >&2; exit 1 ;;
esac
