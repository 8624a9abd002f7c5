#!/usr/bin/env bash
# usage: packaging/check-documents.sh
# Checks that the documents name files that exist, that their links and anchors lead somewhere, and that the two
# pages to be read in one sitting stay short.
set -euo pipefail
cd "$(dirname "$0")/.."
failed=0
fail() { echo "$*" >&2; failed=1; }

# The anchors of the headings of a page, as they are made for links.
anchors() { sed -n '/^```/,/^```/d; s/^##* //p' "$1" | tr '[:upper:]' '[:lower:]' | sed 's/[^a-z0-9 _-]//g; s/ /-/g'; }

for page in *.md docs/*.md docs/design/*.md; do
    # Paths of the source tree in code spans. A pattern or a name with a placeholder is none.
    for path in $(grep -oE '`[A-Za-z0-9_./-]+`' "$page" | tr -d '`' | sort -u |
        grep -E '^(src|mount|tests|benches|fuzz|packaging|docs|examples|\.ci|\.github)/' |
        grep -Ev '^fuzz/target/'); do
        [ -e "$path" ] || fail "$page: there is no $path"
    done
    for link in $(grep -oE '\]\([^) ]+\)' "$page" | sed 's/^](//; s/)$//' | sort -u | grep -Ev '^[a-z]+:'); do
        target=${link%%#*}
        target=${target:+$(dirname "$page")/$target}
        target=${target:-$page}
        if [ ! -e "$target" ]; then
            fail "$page: the link $link leads nowhere"
        elif [[ $link == *'#'* ]] && ! anchors "$target" | grep -qx -- "${link#*#}"; then
            fail "$page: the link $link leads to no heading"
        fi
    done
done
at_most() { [ "$(wc -w < "$1")" -le "$2" ] || fail "$1 has more than $2 words"; }
at_most README.md 1200
at_most ARCHITECTURE.md 2500
exit $failed
