# SPDX-License-Identifier: PostgreSQL
"""psycopg2's own tests, with the psycopg2 that is installed."""

import os
import re
import shutil
import subprocess

import harness
import sources

NAME = "psycopg2"
WHAT = "psycopg2's tests"
PACKAGE = "psycopg2"
LINE = re.compile(r"^tests/(\S+?)\.py::(\S+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)")
VERDICT = {"PASSED": "ok", "XFAIL": "ok", "XPASS": "ok", "SKIPPED": "skipped"}
TIMEOUT_S = 1200


def prepare():
    return sources.source(PACKAGE, "tests/testconfig.py")


def run(way, tree, keep):
    into = os.path.join(way.dir, "psycopg2")
    shutil.copytree(os.path.join(tree, "tests"), os.path.join(into, "tests"))
    env = dict(os.environ, PSYCOPG2_TESTDB="app", PSYCOPG2_TESTDB_HOST=harness.HOST,
               PSYCOPG2_TESTDB_PORT=str(way.port), PSYCOPG2_TESTDB_USER="postgres")
    log = os.path.join(keep, "pytest.log")
    with open(log, "w") as f:
        subprocess.run(["timeout", str(TIMEOUT_S), "/usr/bin/python3", "-m", "pytest", "-v", "--tb=short",
                        "-p", "no:cacheprovider", "tests"], cwd=into, env=env, stdout=f, stderr=f,
                       stdin=subprocess.DEVNULL)
    with open(log, errors="replace") as f:
        return {f"{m[1]}.{m[2].replace('::', '.')}": [VERDICT.get(m[3], "FAILED"), None]
                for m in map(LINE.match, f) if m}
