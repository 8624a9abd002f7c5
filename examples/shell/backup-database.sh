#!/bin/sh
# A script that needs a secret. It reads it when it needs it, hands it on as a file or on standard input,
# and never as an argument (which `ps` shows) or in a variable that is exported.
# usage: backup-database.sh OUTPUT; secrets come from $SECRETS, which is /secrets
set -eu
secrets=${SECRETS:-/secrets} key=billing/BACKUP_PASSPHRASE
output=$1

# Why not, instead of an empty passphrase: `$(cat …)` alone would go on without one.
if ! cat "$secrets/$key" > /dev/null 2>&1; then
    echo "$0: may not read $key: $(tail -n 1 "$secrets/.status/last-error" 2>/dev/null)" >&2
    exit 1
fi

dump() { printf 'create table invoices (id int);\n'; } # pg_dump, for instance

umask 077
dump | openssl enc -aes-256-cbc -pbkdf2 -pass "file:$secrets/$key" -out "$output"
