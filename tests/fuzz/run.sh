#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# run.sh BUILD-DIR [TARGET...]: builds the fuzz targets with clang, libFuzzer, AddressSanitizer and UBSan in
# BUILD-DIR, and runs each for FUZZ_SECONDS (30). What they find stays in BUILD-DIR/found/; what they learned in
# BUILD-DIR/corpus/, for the next time. tests/fuzz/corpus/ is read only.
set -eu
cd "$(dirname "$0")/../.."
build=$1
shift
seconds=${FUZZ_SECONDS:-30}
[ $# -gt 0 ] || set -- $(ls tests/fuzz/corpus)

export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}"

[ -f "$build/build.ninja" ] || CC=clang meson setup --buildtype debugoptimized -Doptimization=1 \
	-Db_sanitize=address,undefined -Db_lundef=false -Dc_args=-fsanitize=fuzzer-no-link "$build" >/dev/null
ninja -C "$build" --quiet $(printf 'tests/fuzz/fuzz-%s ' "$@")

failed=0
for target; do
	mkdir -p "$build/corpus/$target" "$build/found"
	log=$build/found/$target.log
	if "$build/tests/fuzz/fuzz-$target" -max_total_time="$seconds" -max_len=8192 -timeout=5 -rss_limit_mb=2048 \
		-artifact_prefix="$build/found/$target-" -print_final_stats=1 \
		"$build/corpus/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1; then
		echo "fuzz-$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs, nothing found"
	else
		failed=1
		grep -E -m 3 'ERROR|SUMMARY|Assertion|runtime error' "$log" || tail -5 "$log"
		echo "fuzz-$target: found something, see $log"
	fi
done
exit $failed
