#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# Every test: unit and property tests and the simulation, then the integration tests on real servers, then the first
# once more with AddressSanitizer and UBSan. The last line is "N passed, N failed";
# the exit code is 0 only if something passed and nothing failed.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${TIDEMARK_BUILD:-$PWD/build}
asan=$build-asan
log=$build/meson-logs/testlog.json
asan_log=$asan/meson-logs/testlog.json
# The whole is to end within 15 minutes on two cores; a busy machine gets longer.
integration_limit=${TIDEMARK_CHECK_LIMIT:-1800}

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

# A file is run by one of the workers, in one piece: its fleets are shared.
integration() {
	workers=$(nproc)
	[ "$workers" -le 6 ] || workers=6
	timeout --signal=TERM --kill-after=30 "$integration_limit" \
		/usr/bin/python3 -m pytest tests/integration -n "$workers" --dist loadfile -q \
		--junitxml="$build/integration.xml" -p no:cacheprovider
	ended=$?
	if [ $ended -eq 124 ] || [ $ended -eq 137 ]; then
		echo "the integration tests were stopped after $integration_limit s"
		rm -f "$build/integration.xml"
	fi
}

# While the others wait for servers, and behind them.
build_sanitized() {
	renice -n 15 -p "$(exec sh -c 'echo $PPID')" >/dev/null
	set_up "$asan" -Db_sanitize=address,undefined -Doptimization=1
}

rm -f "$build/integration.xml" "$log" "$asan_log"
set_up "$build"
pure_tests "$build" 1
build_sanitized >"$build/sanitized.log" 2>&1 &
building=$!
trap 'kill $building 2>/dev/null; exit 1' INT TERM
integration
wait $building || cat "$build/sanitized.log"
trap - INT TERM
pure_tests "$asan" 10
/usr/bin/python3 tests/sum_results.py "$log" "$asan_log" "$build/integration.xml"
