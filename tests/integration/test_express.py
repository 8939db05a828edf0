# SPDX-License-Identifier: PostgreSQL
"""examples/express, started as a person starts it, in a real browser."""

import glob
import json
import os
import select
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import pytest

import harness

HANG_LIMIT = 180
MODULES = os.path.join(harness.ROOT, ".deps", "node_modules")
START = os.path.join(harness.ROOT, "examples", "express", "start")
PRESSES = 12


def read_line(process, timeout):
    assert select.select([process.stdout], [], [], timeout)[0], f"nothing was said for {timeout} s"
    return process.stdout.readline()


@pytest.fixture
def example(need_router, tmp_path):
    """A running example: its process and its address. Everything it makes lies below tmp_path."""
    # No standby is up to date by itself: without the token the other instance's pages would be stale.
    process = subprocess.Popen([START, "--delays", "60", "300"], stdout=subprocess.PIPE, text=True, bufsize=1,
                               env=dict(os.environ, TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1"))
    # The servers of PostgreSQL run as another user.
    for d in [tmp_path, *tmp_path.parents]:
        if str(d).startswith(tempfile.gettempdir() + os.sep):
            os.chmod(d, 0o755)
    try:
        assert read_line(process, 10).startswith("starting")
        assert read_line(process, 50).startswith("waiting")
        line = read_line(process, 25)
        assert line.startswith("http://127.0.0.1:"), line
        yield process, line.split()[0]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def browse(url, screenshot):
    assert os.path.isdir(os.path.join(MODULES, "playwright-core")), \
        f"{MODULES} is incomplete: run packaging/bootstrap.sh check"
    r = subprocess.run(["node", os.path.join(os.path.dirname(__file__), "express_browser.js"), url, str(PRESSES), screenshot],
                       capture_output=True, text=True, timeout=150, env=dict(os.environ, NODE_PATH=MODULES))
    assert r.returncode == 0, r.stdout + r.stderr
    return json.loads(r.stdout)


def test_button_in_a_browser(example, tmp_path):
    saw = browse(example[1], os.environ.get("TIDEMARK_SCREENSHOT", str(tmp_path / "page.png")))
    assert saw["off"]["stale"] > 0, saw
    for mode in ("token", "named"):
        assert saw[mode]["stale"] == 0, saw
        assert saw[mode]["onReplicas"] > PRESSES // 2, saw
    # What the page says of itself is what it shows.
    for mode in ("off", "token", "named"):
        s = saw[mode]
        assert (s["pages"], s["lies"]) == (PRESSES, 0), saw
        assert (s["shownPages"], s["shownStale"]) == (PRESSES, s["stale"]), saw
    assert saw["faults"] == []
    assert saw["cookies"] and all(c["httpOnly"] and c["sameSite"] == "Lax" for c in saw["cookies"])
    assert "tidemark" not in saw["visible"] and "visitor" not in saw["visible"]
    assert saw["cacheControl"] == "private, no-store"


def get(url, headers=None):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=10) as r:
        return r.status, dict(r.headers), r.read().decode()


def post(url, mode, name, cookie):
    """(status of the page that follows, its headers and text)"""
    request = urllib.request.Request(url, data=f"tidemark={mode}&name={name}".encode(), headers={"Cookie": cookie})
    with urllib.request.urlopen(request, timeout=10) as r:
        return r.status, r.headers, r.read().decode()


def test_answers_and_end(example, tmp_path):
    """A named session gives the browser no token; both instances give a row the same ETag; Ctrl-C leaves nothing behind."""
    process, url = example
    status, headers, text = post(url, "session", "Joan", "visitor=" + "ab" * 11)
    assert status == 200 and "shows what you saved" in text
    assert headers["X-Read-After"] is None
    assert [c.split("=")[0] for c in headers.get_all("Set-Cookie")] == ["counters"]
    assert get(url)[1]["X-Read-After"]
    tags = {get(url + "profiles/2")[1]["ETag"] for _ in range(4)}
    assert len(tags) == 1 and tags.pop().endswith('-1"')
    status, headers, _ = get(url + "profiles/2")
    for _ in range(2):
        with pytest.raises(urllib.error.HTTPError) as e:
            get(url + "profiles/2", {"If-None-Match": headers["ETag"]})
        assert e.value.code == 304
    pids = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(pids) >= 9  # three servers, Redis, two routers, two instances, the balancer
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert [p for p in pids if os.path.exists(f"/proc/{p}")] == []
    assert glob.glob(str(tmp_path / "tidemark-*")) == []


def test_ending_it_early_leaves_nothing(need_router, tmp_path):
    process = subprocess.Popen([START], stdout=subprocess.PIPE, text=True,
                               env=dict(os.environ, TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1"))
    read_line(process, 10)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    assert glob.glob(str(tmp_path / "tidemark-*")) == []


def test_without_redis_it_says_what_to_install(tmp_path):
    r = subprocess.run([START], capture_output=True, text=True, timeout=20, env=dict(os.environ, PATH=str(tmp_path)))
    assert r.returncode == 1 and r.stdout == ""
    assert r.stderr == "redis-server is not installed: packaging/bootstrap.sh check installs it\n"
