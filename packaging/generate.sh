#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# generate.sh TIDEMARK: writes the files that are made from the options table.
# generate.sh --check TIDEMARK: fails if a committed one differs from what the program prints, or if
# the sample is not a valid configuration.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
check=no
if [ "$1" = --check ]; then
	check=yes
	shift
fi
tidemark=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

failed=0
one() { # SUBCOMMAND FILE
	"$tidemark" "$1" >"$tmp/new"
	if [ "$check" = no ]; then
		mkdir -p "$(dirname "$root/$2")"
		cp "$tmp/new" "$root/$2"
	elif ! diff -u "$root/$2" "$tmp/new"; then
		echo "$2 is not what the program prints: run \"make generate\""
		failed=1
	fi
}
one --print-sample packaging/tidemark.ini.sample
one --print-markdown docs/configuration.md
one --print-migration docs/migrating-from-pgbouncer.md
"$tidemark" check-config "$root/packaging/tidemark.ini.sample" >/dev/null

# With every commented default switched on, the sample still says the same.
sed -n 's/^;\([a-z_]* =.*\)$/\1/p' "$root/packaging/tidemark.ini.sample" |
	grep -v -e '^replica' -e '^shop' >"$tmp/options"
printf '[nodes]\nprimary = host=127.0.0.1\n[tidemark]\n' | cat - "$tmp/options" >"$tmp/all.ini"
"$tidemark" check-config "$tmp/all.ini" >/dev/null
exit $failed
