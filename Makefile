# SPDX-License-Identifier: PostgreSQL
#
# The front door; Meson builds. Every target installs what it needs and is missing (Debian 12).

BUILD ?= build
PREFIX ?= /usr/local
export TIDEMARK_BUILD = $(abspath $(BUILD))

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@packaging/bootstrap.sh build
	meson setup --prefix $(PREFIX) --buildtype debugoptimized $(BUILD)

# Stale reads of a naive splitter, of the primary and of Tidemark, on real servers, in about a minute.
demo:
	@packaging/bootstrap.sh build demo
	@$(MAKE) --no-print-directory all
	$(BUILD)/tidemark demo

# Every test; the last line is "N passed, N failed".
check:
	@packaging/bootstrap.sh build check
	@tests/run-check.sh

# Each fuzz target for FUZZ_SECONDS (30) on libFuzzer; a short form without it is part of check.
fuzz:
	@packaging/bootstrap.sh build check fuzz
	@tests/fuzz/run.sh $(abspath $(BUILD))-fuzz

# The router's own code in a simulated world: make sim SEED=7 replays one run and prints all that happens in
# it; without SEED a thousand runs.
sim:
	@packaging/bootstrap.sh build check
	@$(MAKE) --no-print-directory all
	$(BUILD)/tests/sim/tidemark-sim $(if $(SEED),--seed $(SEED) --verbose,--count 1000)

# MINUTES (30) of mixed load, reloads and failing servers, on a router with AddressSanitizer and UBSan; with
# SANITIZER=thread under ThreadSanitizer. A short form is part of check.
SANITIZER ?= address,undefined
soak_build = $(abspath $(BUILD))-$(if $(filter thread,$(SANITIZER)),tsan,asan)
soak:
	@packaging/bootstrap.sh build check
	@$(MAKE) --no-print-directory all
	@[ -f $(soak_build)/build.ninja ] || \
		meson setup --buildtype debugoptimized -Db_sanitize=$(SANITIZER) -Doptimization=1 $(soak_build)
	ninja -C $(soak_build) tidemark
	TIDEMARK_PROGRAM=$(soak_build)/tidemark /usr/bin/python3 tests/integration/soak.py \
		--minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED))

# PostgreSQL's and its drivers' own test suites, directly and through Tidemark; takes as long as it takes.
conformance:
	@packaging/bootstrap.sh build check conformance
	@$(MAKE) --no-print-directory all
	/usr/bin/python3 tests/conformance/run.py --write docs/conformance.md

# FAULTS (60) of real servers, links and routers in network namespaces, under checked sessions; SEED replays the
# order, BAD=position_inside (no_read_marks, guard_ignored) is a router that is known to be bad and must be caught. Short
# forms of both are part of check.
torture:
	@packaging/bootstrap.sh build check
	@$(MAKE) --no-print-directory all
	/usr/bin/python3 tests/integration/torture.py --faults $(or $(FAULTS),60) $(if $(SEED),--seed $(SEED)) \
		$(if $(BAD),--bad $(BAD))

# A real Patroni with etcd under checked clients: a switchover, and a leader that is killed.
patroni-check:
	@packaging/bootstrap.sh build check patroni
	@$(MAKE) --no-print-directory all
	TIDEMARK_BUILD=$(abspath $(BUILD)) /usr/bin/python3 -m pytest -p no:cacheprovider -q -s tests/integration/patroni_check.py

# HOURS (8) of the simulation, from SEED on or from one that no run had before.
sim-nightly:
	@packaging/bootstrap.sh build check
	@$(MAKE) --no-print-directory all
	@tests/sim/nightly.sh $(BUILD)/tests/sim/tidemark-sim $(or $(HOURS),8) $(SEED)

bench:
	@packaging/bootstrap.sh build bench
	@$(MAKE) --no-print-directory all
	bench/run

# The sample file and docs/configuration.md, from the options table; the man page is made by the build.
generate: all
	packaging/generate.sh $(BUILD)/tidemark

install: all
	meson install -C $(BUILD)

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-fuzz

.PHONY: all demo check fuzz sim sim-nightly soak torture patroni-check conformance bench generate install format clean
