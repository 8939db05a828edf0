# SPDX-License-Identifier: PostgreSQL
"""sqlsmith: random queries for CONFORMANCE_SQLSMITH_S seconds (600). Errors are what it is for; that the
connection is lost, or the router, is a failure."""

import os
import shutil
import signal
import subprocess

import harness
import sources

NAME = "sqlsmith"
WHAT = "sqlsmith"
PACKAGE = "sqlsmith"
SECONDS = int(os.environ.get("CONFORMANCE_SQLSMITH_S", "600"))
LOST = ("connection to server", "server closed the connection", "protocol", "lost synchronization", "unexpected")


def prepare():
    program = shutil.which("sqlsmith")
    if not program:
        raise sources.Unavailable("no sqlsmith: package sqlsmith")
    return program


def run(way, program, keep):
    log = os.path.join(keep, "sqlsmith.log")
    with open(log, "w") as f:
        p = subprocess.Popen([program, "--verbose", "--exclude-catalog", "--seed=7",
                              f"--target=host={harness.HOST} port={way.port} user=app dbname=app"],
                             stdin=subprocess.DEVNULL, stdout=f, stderr=f)
        try:
            p.wait(SECONDS if way.name != "direct" else min(SECONDS, 60))
        except subprocess.TimeoutExpired:
            p.send_signal(signal.SIGINT)
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
    with open(log, errors="replace") as f:
        text = f.read()
    lost = [line for line in text.splitlines() if any(w in line for w in LOST)]
    return {"the connection lasts": ["FAILED" if lost else "ok", None],
            "a new client is served": ["ok" if harness.psql(way.port, "-c", "SELECT 1").returncode == 0 else "FAILED",
                                       None]}
