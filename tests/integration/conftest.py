# SPDX-License-Identifier: PostgreSQL
"""Fixtures: fleets are made once a run and shared, routers are cheap and made where needed."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import harness  # noqa: E402
import rawpg  # noqa: E402

# What needs plain PostgreSQL only, for working on the tests themselves.
DIRECT_ONLY = bool(os.environ.get("TIDEMARK_DIRECT_ONLY"))


def skip_without_router():
    if DIRECT_ONLY:
        pytest.skip("TIDEMARK_DIRECT_ONLY is set")


@pytest.fixture
def need_router():
    """For tests that start the router themselves."""
    skip_without_router()


@pytest.fixture(scope="session")
def shared_fleet():
    f = harness.Fleet(standbys=2)
    yield f
    f.destroy()


@pytest.fixture
def fleet(shared_fleet):
    """A primary and two standbys, caught up; pauses and delays are undone afterwards."""
    shared_fleet.calm()
    yield shared_fleet
    shared_fleet.calm()


@pytest.fixture(scope="session")
def breakable_fleet():
    """A small fleet for tests that stop and restart servers."""
    f = harness.Fleet(standbys=1)
    yield f
    f.destroy()


@pytest.fixture
def small_fleet(breakable_fleet):
    breakable_fleet.calm()
    yield breakable_fleet
    breakable_fleet.calm()


class SharedRouter:
    """The router with its defaults, for all tests that need no other options. A test that kills it fails, and
    the next one gets a new router."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.router = None

    def get(self):
        # Ended by the watchdog of another test, which has failed for it.
        if self.router is not None and self.router.hung:
            with contextlib.suppress(AssertionError):
                self.stop()
        if self.router is None:
            self.router = harness.Tidemark(self.fleet, http=True)
        return self.router

    def judge(self):
        """Fails if the router is no more."""
        if self.router is not None and not self.router.alive():
            self.stop()

    def stop(self):
        router, self.router = self.router, None
        if router is not None:
            router.stop()


@pytest.fixture(scope="session")
def shared_router(shared_fleet):
    skip_without_router()
    shared = SharedRouter(shared_fleet)
    yield shared
    shared.stop()


@pytest.fixture
def tm(shared_router, fleet):
    t = shared_router.get()
    t.wait_fleet()
    yield t
    shared_router.judge()


@pytest.fixture
def router(fleet):
    """A factory of routers with options; stops them, and judges them, at the end."""
    skip_without_router()
    started = []

    def make(in_front_of=None, **options):
        started.append(harness.Tidemark(in_front_of or fleet, **options))
        return started[-1]

    yield make
    for t in started:
        t.stop()


@pytest.fixture(params=["direct", "tidemark"])
def target(request, fleet):
    """The same test against plain PostgreSQL and against Tidemark."""
    if request.param == "direct":
        yield harness.Direct(fleet)
    else:
        yield request.getfixturevalue("tm")


@pytest.fixture
def raw():
    """Opens raw connections: raw(target, user=…), raw(target, login=False)."""
    opened = []

    def make(to, login=True, timeout=rawpg.TIMEOUT, **params):
        c = rawpg.Raw(harness.HOST, to.port, timeout)
        opened.append(c)
        if login:
            c.startup(**params)
        return c

    yield make
    for c in opened:
        c.close()


@pytest.fixture(scope="session")
def libpq_client():
    """libpq_client.c, compiled."""
    d = tempfile.mkdtemp(prefix="tidemark-libpq-")
    out = os.path.join(d, "libpq_client")
    include = subprocess.run(["pg_config", "--includedir"], capture_output=True, text=True, check=True)
    subprocess.run(["gcc", "-std=gnu17", "-Wall", "-Wextra", "-O1", "-I", include.stdout.strip(), "-o", out,
                    os.path.join(os.path.dirname(__file__), "libpq_client.c"), "-lpq"], check=True)
    yield out
    shutil.rmtree(d, ignore_errors=True)


@pytest.fixture(autouse=True)
def watchdog(request):
    """A client that waits for ever would hold up the whole run: the routers are ended under it. A module whose
    tests take longer says so with HANG_LIMIT, in seconds."""
    limit = getattr(request.module, "HANG_LIMIT", 60)
    fired = threading.Event()

    def end():
        fired.set()
        harness.end_hung_routers()

    timer = threading.Timer(limit, end)
    timer.daemon = True
    timer.start()
    yield
    timer.cancel()
    assert not fired.is_set(), f"not over after {limit} s: all routers were ended under it"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for t in harness.live:
            report.sections.append((f"log of the router on port {t.port}", harness.tail(t.log, 25)))


@pytest.fixture(scope="session")
def clock_shift(tmp_path_factory):
    """clock_shift.c, compiled."""
    out = tmp_path_factory.mktemp("clock") / "clock_shift.so"
    source = os.path.join(os.path.dirname(__file__), "clock_shift.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", out, source], check=True)
    return str(out)
