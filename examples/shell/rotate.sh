#!/bin/sh
# Rotates a secret: makes a new value, has it taken by what uses it, and only then stores it. If anything
# fails, readers keep the old value.
# usage: rotate.sh KEY COMMAND...; COMMAND gets the new value on standard input
set -eu
secrets=${SECRETS:-/secrets} key=$1
shift
[ -w "$secrets/$key" ] || { echo "$0: may not write $key" >&2; exit 1; }

value=$(head -c 24 /dev/urandom | base64)
printf %s "$value" | "$@"
# `printf` is the shell's own, so `ps` shows nothing. The file is stored whole when it is closed: there is
# no moment at which a reader finds it empty.
printf %s "$value" > "$secrets/$key"
