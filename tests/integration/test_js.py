# SPDX-License-Identifier: PostgreSQL
"""The npm package: its own tests, node-postgres through it, two services that hand a token on, and its pages behind a shared
cache."""

import glob
import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request

import pytest

import harness
from redis_harness import Redis
from test_shared_sessions import believes

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
    assert r.stdout.count("ok ") == 12, r.stdout + r.stderr


def test_without_a_router(fleet):
    """Straight on PostgreSQL, as on a developer's machine, the package does nothing, and harms nothing."""
    script = ("const { wrapPool, session } = require('%s'); const { Pool } = require('pg');"
              "const p = wrapPool(new Pool({ host: '127.0.0.1', port: %d, user: 'app', database: 'app' }));"
              "session.run('primary', async () => { await p.query('UPDATE items SET n = n WHERE id = 1');"
              "await session.current().settle(); console.log(session.current().token); await p.end(); })"
              % (JS, fleet.primary.port))
    r = node("-e", script)
    assert (r.returncode, r.stdout) == (0, "primary\n"), r.stdout + r.stderr


def run_services(fleet, router, mode, rounds, **options):
    # Each router has one replica, so that a session that comes to the other router comes to another replica; with
    # marks per connection, since a shared one would hide what is missing.
    a = router(scope="connection", replicas=[fleet.servers[1]], **KEYS, **options)
    b = router(scope="connection", replicas=[fleet.servers[2]], **KEYS, **options)
    if options:
        believes(a)
        believes(b)
    fleet.set_delay(2, 70)
    r = node(os.path.join(os.path.dirname(__file__), "js_services.js"), str(a.port), str(b.port), mode, str(rounds),
             timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr
    return json.loads(r.stdout)


def test_two_services_with_the_package(fleet, router):
    count = run_services(fleet, router, "with", 25)
    assert count["reads"] == 175
    assert (count["stale"], count["backwards"]) == (0, 0), count
    # The token is precise: hardly anybody is sent to the primary.
    assert count["onReplicas"] > 120, count


def test_two_services_without(fleet, router):
    """The same services and routers, and nobody carries a token: the test above can fail."""
    count = run_services(fleet, router, "without", 15)
    assert count["stale"] > 10 and count["backwards"] > 5, count


@pytest.fixture
def store():
    redis = Redis()
    yield {"session_store": "redis", "redis": redis.address, "session_ttl": "2s", "redis_command_timeout": "300ms",
           "redis_lease": "1s"}
    redis.destroy()


def test_two_services_with_names_in_redis(fleet, router, store):
    """The names alone: no token leaves a service."""
    count = run_services(fleet, router, "named", 25, **store)
    assert count["reads"] == 175
    assert (count["stale"], count["backwards"]) == (0, 0), count
    assert count["onReplicas"] > 75, count


def test_two_services_without_names(fleet, router, store):
    """The same routers, Redis and package, and nobody has a name: the test above can fail."""
    count = run_services(fleet, router, "unnamed", 15, **store)
    assert count["stale"] > 10 and count["backwards"] > 5, count


# ---- a shared cache ----

NGINX = """
daemon off; master_process off; error_log {dir}/error.log; pid {dir}/pid;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  proxy_cache_path {dir}/cache keys_zone=pages:1m;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{service}; proxy_cache pages; proxy_cache_valid 200 60s;
      proxy_cache_revalidate on;
      add_header X-Cache $upstream_cache_status;
    }}
  }}
}}
"""


class Cached:
    """js_cache.js behind nginx."""

    def __init__(self, router_port, mode, directory):
        self.service = subprocess.Popen(
            harness.tied(["node", os.path.join(os.path.dirname(__file__), "js_cache.js"), str(router_port), mode], signal.SIGKILL),
            text=True, stdout=subprocess.PIPE, env=dict(os.environ, NODE_PATH=MODULES))
        self.service_port = int(self.service.stdout.readline())
        self.port = harness.free_port()
        conf = directory / "nginx.conf"
        conf.write_text(NGINX.format(dir=directory, port=self.port, service=self.service_port))
        self.nginx = subprocess.Popen(harness.tied(["/usr/sbin/nginx", "-e", str(directory / "error.log"), "-c", str(conf)],
                                                   signal.SIGKILL))
        harness.wait_until(self.answers, 10, "nginx to answer")

    def answers(self):
        try:
            return self.get("/nothing?warm", 1)
        except OSError:
            return False

    def request(self, path, user, headers=None, method="GET", port=None):
        r = urllib.request.Request(f"http://127.0.0.1:{port or self.port}{path}", method=method,
                                   headers={"Cookie": f"user={user}", **(headers or {})})
        try:
            with urllib.request.urlopen(r, timeout=10) as a:
                return a.status, dict(a.headers), a.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, dict(e.headers), ""

    def get(self, path, user, headers=None, port=None):
        return self.request(path, user, headers, port=port)

    def row(self, path, user):
        return json.loads(self.get(path, user)[2])

    def stop(self):
        for p in (self.nginx, self.service):
            p.kill()
            p.wait()


@pytest.fixture
def cached(tm, tmp_path):
    started = []

    def make(mode):
        started.append(Cached(tm.port, mode, tmp_path))
        return started[-1]

    yield make
    for c in started:
        c.stop()


def wrong_answers(c, path):
    """(bodies of another user, bodies from before a write)"""
    others = old = 0
    for user in (71, 72):
        seen = c.row(path, user)
        others += seen["id"] != user
        c.request("/", user, method="POST")
        after = c.row(path, user)
        others += after["id"] != user
        old += after["id"] == user and after["version"] <= seen["version"]
    return others, old


def test_a_shared_cache_keeps_nothing_of_a_user(cached):
    c = cached("with")
    for path in ("/nothing", "/public", "/shared", "/age", "/stale", "/length", "/versioned"):
        assert wrong_answers(c, path) == (0, 0), path


def test_a_shared_cache_without_the_rules(cached):
    """The test above can fail."""
    c = cached("without")
    for path in ("/nothing", "/public", "/shared", "/age", "/stale"):
        others, old = wrong_answers(c, path)
        assert others > 0 and old > 0, path


@pytest.mark.parametrize("mode", ["with", "without"])
def test_etag_of_the_length(cached, mode):
    """304 after a write, if nobody takes the tag away."""
    c = cached(mode)
    url = "/length?" + mode
    tag = c.get(url, 73)[1].get("ETag")
    assert (tag is None) == (mode == "with")
    if mode == "without":
        c.request("/", 73, method="POST")
        assert c.get(url, 73, {"If-None-Match": tag})[0] == 304


def test_versioned_etag(cached):
    """Straight at the service too: nginx takes If-None-Match away from what it might store."""
    c = cached("with")
    for port, known in ((c.service_port, 304), (c.port, 200)):
        tag = c.get("/versioned", 74)[1]["ETag"]
        assert c.get("/versioned", 74, {"If-None-Match": tag}, port)[0] == known
        assert c.get("/versioned", 75, {"If-None-Match": tag}, port)[0] == 200
        c.request("/", 74, method="POST")
        status, headers, body = c.get("/versioned", 74, {"If-None-Match": tag}, port)
        assert status == 200 and headers["ETag"] != tag and json.loads(body)["id"] == 74
