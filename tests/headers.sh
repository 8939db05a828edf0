#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# headers.sh SRC ROOTS LAYER ...: every header of SRC/LAYER compiles alone, seeing only ROOTS/LAYER.
set -u
src=$1 roots=$2
shift 2
bad=0
for layer; do
	for header in "$src/$layer"/*.h; do
		case $header in
		*/sql/tree.h) continue ;; # PostgreSQL's own headers come first there
		esac
		${CC:-cc} -std=gnu17 -fsyntax-only -D_GNU_SOURCE -DTIDEMARK_VERSION='""' -I"$roots/$layer" \
			-I"$src/$layer" -include "$src/base/banned.h" -x c "$header" || bad=1
	done
done
exit $bad
