#!/bin/sh
# The convention of Docker's official images: a setting comes as NAME, or NAME_FILE names a file with it.
# Here the file is a secret, read as the container's own UID when the container starts.
set -eu
for name in DB_PASSWORD API_KEY; do
    eval "file=\${${name}_FILE:-} value=\${$name:-}"
    [ -n "$file" ] || continue
    if [ -n "$value" ]; then
        echo "both $name and ${name}_FILE are set; keep one of them" >&2
        exit 1
    fi
    # Fails, and the container with it, if the secret cannot be read. (`export NAME=$(…)` would not.)
    value=$(cat "$file")
    export "$name=$value"
    unset "${name}_FILE"
done
exec "$@"
