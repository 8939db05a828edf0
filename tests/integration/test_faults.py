# SPDX-License-Identifier: PostgreSQL
"""The short form of torture.py (make torture is the long one), each in a process and a network of its own."""

import os
import subprocess

import harness

HANG_LIMIT = 300  # a busy machine; else half a minute

PROGRAM = os.path.join(os.path.dirname(__file__), "torture.py")


def torture(*args):
    r = subprocess.run(["/usr/bin/python3", PROGRAM, *args], capture_output=True, text=True, timeout=HANG_LIMIT - 10,
                       env=dict(os.environ, TIDEMARK_BUILD=harness.BUILD))
    print(r.stdout + r.stderr)
    return r


def test_sessions_on_two_routers_survive_faults(need_router):
    assert torture("--short", "--seed", "1").returncode == 0


def test_a_router_that_is_known_to_be_bad_is_caught(need_router):
    """With faults as with none: what it takes is replicas that differ."""
    r = torture("--bad", "no_read_marks", "--kinds", "replay_paused", "--faults", "2", "--seed", "1")
    assert r.returncode == 0 and "0 violations" not in r.stdout
