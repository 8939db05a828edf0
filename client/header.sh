#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# header.sh HEADER: it compiles alone, in C and C++, old and new, with every warning, and with libpq's own
# header before and behind it.
set -eu
header=$1
libpq=$(pkg-config --cflags libpq)
check() {
	# shellcheck disable=SC2086  # words
	printf '%s\n' '#include <libpq-fe.h>' "#include \"$header\"" '#include <libpq-fe.h>' |
		"$@" -Wall -Wextra -pedantic -Werror -fsyntax-only $libpq -
	printf '%s\n' "#include \"$header\"" 'extern struct tidemark_keys k; struct tidemark_keys k = TIDEMARK_INIT;' |
		"$@" -Wall -Wextra -pedantic -Werror -fsyntax-only -
}
for std in c99 c17; do
	check cc -x c -std=$std
done
for std in c++98 c++11 c++20; do
	check c++ -x c++ -std=$std -Wno-long-long
done
