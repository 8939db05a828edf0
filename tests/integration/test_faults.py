# SPDX-License-Identifier: PostgreSQL
"""The short form of torture.py (make torture is the long one), each in a process and a network of its own."""

import os
import subprocess

import harness

HANG_LIMIT = 500  # a busy machine; else half a minute

PROGRAM = os.path.join(os.path.dirname(__file__), "torture.py")


def torture(*args):
    r = subprocess.run(["/usr/bin/python3", PROGRAM, *args], capture_output=True, text=True, timeout=HANG_LIMIT - 10,
                       env=dict(os.environ, TIDEMARK_BUILD=harness.BUILD))
    print(r.stdout + r.stderr)
    return r


def test_sessions_on_two_routers_survive_faults(need_router):
    assert torture("--short", "--seed", "1").returncode == 0


def test_bad_routers_are_caught(need_router):
    """Else the silence above means nothing."""
    assert torture("--short", "--seed", "1", "--bad", "position_inside,no_read_marks,guard_ignored").returncode == 0
