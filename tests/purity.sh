#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# purity.sh ARCHIVE [ALLOWED-SYMBOL ...]: the pure layers call no clock, socket, file, thread or log, and no
# allocator beyond the symbols named. Looks at what the archive leaves undefined.
set -eu
archive=$1
shift
allowed="$*"
undefined=$(nm -u "$archive" | awk '$1 == "U" { print $2 }' | sort -u)
[ -n "$undefined" ] || { echo "nm shows nothing for $archive"; exit 1; }
bad=0
for symbol in $undefined; do
	case " $allowed " in
	*" $symbol "*) continue ;;
	esac
	case $symbol in
	clock* | time | gettimeofday | nanosleep | usleep | poll | epoll* | select | socket | connect | accept* | \
		bind | listen | send* | recv* | read | write | writev | open* | close | fopen* | fprintf | printf | puts | \
		fwrite* | syslog | log_* | pthread* | uv_* | net_* | getrandom | rand* | random | malloc | calloc | realloc | \
		free | exit | abort | getenv | signal | kill | __fprintf_chk | __printf_chk)
		echo "$archive calls $symbol"
		bad=1
		;;
	esac
done
exit $bad
