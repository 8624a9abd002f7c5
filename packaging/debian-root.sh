#!/usr/bin/env bash
# usage: packaging/debian-root.sh DIR SCRIPT [PACKAGE...]
# Fills DIR with a clean Debian that has systemd, the packages which SCRIPT names in its line "# packages:", and
# these. Needs root and mmdebstrap.
set -euo pipefail
packages=$(sed -n 's/^# packages: //p' "$2")
mmdebstrap --variant=minbase --aptopt='APT::Install-Recommends "false"' \
    --include="systemd systemd-sysv dbus procps inotify-tools $packages ${*:3}" bookworm "$1"
