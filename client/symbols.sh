#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# symbols.sh HEADER MANUAL SHARED STATIC: the functions that the header declares, that the manual names, that the
# shared library exports and that the static one defines are the same.
set -eu
header=$1 manual=$2 shared=$3 static=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Names that are followed by a parenthesis, outside comments.
sed -e 's|/\*.*\*/||' -e '/\/\*/,/\*\//d' "$header" | grep -o '\<tidemark_[a-z_]*(' | tr -d '(' |
	sort -u >"$work/header"
sed -n '/^# SYNOPSIS/,/^# DESCRIPTION/p' "$manual" | tr -d '\\' | grep -o '\<tidemark_[a-z_]*\*(' |
	tr -d '*(' | sort -u >"$work/manual"
nm -D --defined-only "$shared" | awk '$2 != "A" { sub(/@@.*/, "", $3); print $3 }' | sort >"$work/shared"
nm -g --defined-only "$static" | awk 'NF == 3 { print $3 }' | sort >"$work/static"

[ "$(wc -l <"$work/header")" -ge 10 ] || { echo "$header: no functions found"; exit 1; }
bad=0
for other in manual shared static; do
	diff -u "$work/header" "$work/$other" || bad=1
done
exit $bad
