# SPDX-License-Identifier: PostgreSQL
"""The npm package: its own tests, node-postgres through it, and two services that hand a token on."""

import glob
import json
import os
import re
import subprocess

import pytest

import harness

HANG_LIMIT = 90
JS = os.path.join(harness.ROOT, "js")
MODULES = os.path.join(harness.ROOT, ".deps", "node_modules")


KEYS = {"files": {"keys": "1:" + "5c" * 32 + "\n"}, "token_key_file": "{dir}/keys"}


def node(*argv, timeout=60, cwd=None):
    assert os.path.isdir(os.path.join(MODULES, "express")), \
        f"{MODULES} is incomplete: run packaging/bootstrap.sh check"
    return subprocess.run(["node", *argv], capture_output=True, text=True, timeout=timeout, cwd=cwd,
                          env=dict(os.environ, NODE_PATH=MODULES))


def test_unit():
    r = node("--test", "--test-reporter=tap", *sorted(glob.glob(os.path.join(JS, "test", "*.test.js"))), timeout=120)
    count = {k: int(n) for k, n in re.findall(r"^# (tests|pass|fail|skipped) (\d+)$", r.stdout, re.M)}
    failed = re.findall(r"^ *not ok.*(?:\n  .*)*", r.stdout, re.M)
    assert r.returncode == 0 and count["fail"] == 0, "\n".join(failed) or r.stdout[-3000:] + r.stderr
    assert count["skipped"] == 0, re.findall(r"^ok.*# SKIP.*$", r.stdout, re.M)
    assert count["pass"] == count["tests"] > 200


@pytest.mark.parametrize("scope", ["database", "connection"])
def test_node_postgres(fleet, router, scope):
    t = router(scope=scope, **KEYS)
    fleet.set_delay(2, 150)
    r = node(os.path.join(os.path.dirname(__file__), "js_client.js"), str(t.port), timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr
    assert r.stdout.count("ok ") == 11, r.stdout + r.stderr


def test_without_a_router(fleet):
    """Straight on PostgreSQL, as on a developer's machine, the package does nothing, and harms nothing."""
    script = ("const { wrapPool, session } = require('%s'); const { Pool } = require('pg');"
              "const p = wrapPool(new Pool({ host: '127.0.0.1', port: %d, user: 'app', database: 'app' }));"
              "session.run('primary', async () => { await p.query('UPDATE items SET n = n WHERE id = 1');"
              "await session.current().settle(); console.log(session.current().token); await p.end(); })"
              % (JS, fleet.primary.port))
    r = node("-e", script)
    assert (r.returncode, r.stdout) == (0, "primary\n"), r.stdout + r.stderr


def run_services(fleet, router, mode, rounds):
    # Each router has one replica, so that a session that comes to the other router comes to another replica; with
    # marks per connection, since a shared one would hide what is missing.
    a = router(scope="connection", replicas=[fleet.servers[1]], **KEYS)
    b = router(scope="connection", replicas=[fleet.servers[2]], **KEYS)
    fleet.set_delay(2, 70)
    r = node(os.path.join(os.path.dirname(__file__), "js_services.js"), str(a.port), str(b.port), mode, str(rounds),
             timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr
    return json.loads(r.stdout)


def test_two_services_with_the_package(fleet, router):
    count = run_services(fleet, router, "with", 25)
    assert count["reads"] == 150
    assert (count["stale"], count["backwards"]) == (0, 0), count
    # The token is precise: hardly anybody is sent to the primary.
    assert count["onReplicas"] > 120, count


def test_two_services_without(fleet, router):
    """The same services and routers, and nobody carries a token: the test above can fail."""
    count = run_services(fleet, router, "without", 15)
    assert count["stale"] > 10 and count["backwards"] > 5, count
