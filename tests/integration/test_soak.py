# SPDX-License-Identifier: PostgreSQL
"""The soak's short form (make soak is the long one), and that its verdict notices what it is there for."""

import os

import harness
import pytest
import soak

HANG_LIMIT = 300  # a busy machine; else half a minute in all
ASAN = harness.BUILD + "-asan/tidemark"


def test_a_short_soak(need_router):
    program = ASAN if os.access(ASAN, os.X_OK) and "TIDEMARK_PROGRAM" not in os.environ else None
    s = soak.Soak(8, seed=4, program=program)
    try:
        failures = s.run(trouble_every=1.0)
        print(s.table())
    finally:
        s.end()
    print(*failures, sep="\n")
    assert not failures


FLAT_KB, FLAT_FDS = [9000, 30000, 40000, 50000] + [50000 + i % 7 * 300 for i in range(100)], [70 + i % 9 for i in range(104)]


def test_the_verdict_on_a_run_that_is_flat_behind_its_warm_up():
    assert soak.complaints(FLAT_KB, FLAT_FDS) == []


@pytest.mark.parametrize("kb, fds, what", [(400, 0, "memory"), (0, 0.6, "descriptors"), (400, 0.6, "memory")])
def test_the_verdict_on_a_run_that_grows(kb, fds, what):
    found = soak.complaints([n + int(i * kb) for i, n in enumerate(FLAT_KB)],
                            [n + int(i * fds) for i, n in enumerate(FLAT_FDS)])
    assert found and what in found[0] and len(found) == bool(kb) + bool(fds)
