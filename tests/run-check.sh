#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# Every test, in order of cost: unit and property tests and the simulation, of the plain build and of one with
# AddressSanitizer and UBSan, then the integration tests on real servers. The last line is "N passed, N failed";
# the exit code is 0 only if something passed and nothing failed.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${TIDEMARK_BUILD:-$PWD/build}
asan=$build-asan
# About half of the time of all of them; the other half is what is not listed here.
first_half='store shared_sessions failover history express health tls server_tls faults'
log=$build/meson-logs/testlog.json
asan_log=$asan/meson-logs/testlog.json
# The whole has to end within 15 minutes on two cores.
integration_limit=${TIDEMARK_CHECK_LIMIT:-1200}

export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}"

nothing_built() {
	echo "the build failed"
	echo "0 passed, 1 failed"
	exit 1
}

set_up() { # DIRECTORY MESON-OPTION...
	dir=$1
	shift
	[ -f "$dir/build.ninja" ] || meson setup --buildtype debugoptimized "$@" "$dir" >"$dir.log" 2>&1 || {
		cat "$dir.log"
		nothing_built
	}
	rm -f "$dir.log"
	ninja -C "$dir" --quiet || nothing_built
}

# Test output goes to the log; what failed is printed.
pure_tests() { # DIRECTORY TIMEOUT-FACTOR
	meson test -C "$1" --no-rebuild --suite unit --suite property --suite sim --print-errorlogs \
		--num-processes 2 --timeout-multiplier "$2"
}

# Which half, then what pytest is to be told.
integration() {
	half=$1
	shift
	timeout --signal=TERM --kill-after=30 "$integration_limit" \
		/usr/bin/python3 -m pytest "$@" -q --junitxml="$build/integration-$half.xml" -p no:cacheprovider
	ended=$?
	if [ $ended -eq 124 ] || [ $ended -eq 137 ]; then
		echo "the integration tests were stopped after $integration_limit s"
		rm -f "$build/integration-$half.xml"
	fi
}

rm -f "$build"/integration*.xml "$log" "$asan_log"
set_up "$build"
set_up "$asan" -Db_sanitize=address,undefined -Doptimization=1
pure_tests "$build" 1
pure_tests "$asan" 4

files=
others=
for name in $first_half; do
	files="$files tests/integration/test_$name.py"
	others="$others --ignore=tests/integration/test_$name.py"
done
# shellcheck disable=SC2086  # lists of words
integration first $files >"$build/integration-first.log" 2>&1 &
first=$!
trap 'kill $first 2>/dev/null; exit 1' INT TERM
# shellcheck disable=SC2086
integration second tests/integration $others
wait $first
trap - INT TERM
cat "$build/integration-first.log"
/usr/bin/python3 tests/sum_results.py "$log" "$asan_log" "$build/integration-first.xml" \
	"$build/integration-second.xml"
