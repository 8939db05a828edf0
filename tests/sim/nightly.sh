#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# nightly.sh PROGRAM HOURS [FIRST-SEED]: seed after seed for so long; a line for each thousand, and an end at the
# first violation, whose seed replays it.
set -eu
program=$1
end=$(($(date +%s) + $(awk "BEGIN { printf \"%d\", $2 * 3600 }")))
from=${3:-$(date +%s)000}
while [ "$(date +%s)" -lt "$end" ]; do
	printf 'seeds %s to %s: ' "$from" $((from + 999))
	"$program" --from "$from" --count 1000
	from=$((from + 1000))
done
