# SPDX-License-Identifier: PostgreSQL
"""How much each replica is asked: weights, DRAIN, slow start, and what happens to those who are there then."""

import collections
import threading
import time

import harness
import psycopg2
import pytest
from harness import rows, value, wait_until, where

# Every connection for itself, and every replica's whole share at once, unless a test is about that.
PLAIN = {"scope": "connection", "slow_start": "0"}


class Readers:
    """Clients that read without a pause and note who answered; `sql` gives the name of the server."""

    def __init__(self, t, count=12, sql=f"SELECT {harness.WHERE}", options=None):
        self.stop = threading.Event()
        self.errors, self.seen = [], collections.Counter()
        self.sql = sql
        self.threads = [threading.Thread(target=self._work, args=(t, options)) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _work(self, t, options):
        c = t.connect(options=options)
        while not self.stop.is_set():
            try:
                self.seen[value(c, self.sql)] += 1
            except psycopg2.Error as e:
                self.errors.append(str(e).strip().splitlines()[0])
                if c.closed:
                    c = t.connect(options=options)
        c.close()

    def during(self, seconds):
        """Who answered how often in that time."""
        before = collections.Counter(self.seen)
        time.sleep(seconds)
        return self.seen - before

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def readers():
    running = []

    def make(*args, **kw):
        running.append(Readers(*args, **kw))
        return running[-1]

    yield make
    for r in running:
        r.end()


def console(raw, t):
    return raw(t, user="postgres", database="tidemark")


def fleet_row(t, name):
    return next(r for r in t.show("FLEET") if r["name"] == name)


# A read that takes its time, so that many run side by side.
SLOW_READ = "SELECT node_name() FROM generate_series(1, 30000) g GROUP BY 1 HAVING count(*) > 0"


def weighted(fleet, first, second):
    return [fleet.servers[1].conninfo() + f" weight={first}", fleet.servers[2].conninfo() + f" weight={second}"]


def test_reads_are_spread_by_weight(fleet, router, readers):
    t = router(replicas=weighted(fleet, 3, 1), **PLAIN)
    r = readers(t, 16, SLOW_READ)
    time.sleep(0.3)
    seen = r.during(2)
    r.end()
    assert not r.errors
    # Statements under way are as 3 to 1; on a machine that is busy otherwise the answers need not be quite so.
    assert seen["replica1"] > 1.7 * seen["replica2"] > 0, seen
    assert [(w["weight"], w["share_pct"]) for w in t.show("FLEET")] == [("1", None), ("3", "75.0"), ("1", "25.0")]


def test_a_replica_of_no_weight_is_watched_and_never_asked(fleet, router, readers):
    t = router(replicas=weighted(fleet, 0, 1), **PLAIN)
    r = readers(t, 4)
    seen = r.during(0.7)
    r.end()
    assert set(seen) == {"replica2"} and not r.errors, seen
    row = fleet_row(t, "replica1")
    assert row["state"] == "up" and int(row["samples"]) > 0 and row["share_pct"] == "0.0", row


def test_a_reload_changes_weights(fleet, router, readers, tmp_path):
    def config(first, second):
        a, b = weighted(fleet, first, second)
        return (f"[nodes]\nprimary = {fleet.primary.conninfo()}\nreplica1 = {a}\nreplica2 = {b}\n"
                "[tidemark]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nscope = connection\nslow_start = 0\n")

    t = router(config=config(1, 0))
    r = readers(t, 4)
    assert set(r.during(0.5)) == {"replica1"}
    t.write("tidemark.ini", config(0, 1))
    t.reload()
    wait_until(lambda: fleet_row(t, "replica2")["weight"] == "1", 5, "the reload")
    time.sleep(0.1)
    assert set(r.during(0.5)) == {"replica2"}
    r.end()
    assert not r.errors and "[nodes]" not in t.log_text()


def test_drain_under_load_is_no_error_to_anybody(fleet, router, readers, raw):
    t = router(**PLAIN)
    admin = console(raw, t)
    half = [readers(t, 6), readers(t, 6, options="-c tidemark.consistency=eventual")]
    wait_until(lambda: all(r.seen["replica1"] for r in half), 5, "replica1 to be read from")
    for _ in range(2):
        admin.query("DRAIN replica1")
        wait_until(lambda: fleet_row(t, "replica1")["outstanding"] == "0", 5, "what ran there to end")
        wait_until(lambda: not [s for s in t.show("SERVERS") if s["node"] == "replica1"], 5, "its connections to be closed")
        assert [set(r.during(0.4)) for r in half] == [{"replica2"}] * 2
        row = fleet_row(t, "replica1")
        assert (row["state"], row["drained"], row["share_pct"]) == ("drained", "yes", "0.0")
        samples = int(row["samples"])
        admin.query("UNDRAIN replica1")
        wait_until(lambda: int(fleet_row(t, "replica1")["samples"]) > samples, 5, "it to be watched all the time")
        before = half[1].seen["replica1"]
        wait_until(lambda: half[1].seen["replica1"] > before, 5, "replica1 to be read from again")
    for r in half:
        r.end()
        assert r.errors == []


def test_a_statement_that_runs_where_it_is_drained_ends_there(fleet, router, raw):
    t = router(replicas=[fleet.servers[1]], **PLAIN)
    admin = console(raw, t)
    c = t.connect()
    got = []
    thread = threading.Thread(target=lambda: got.append(
        value(c, "SELECT min(node_name()) FROM generate_series(1, 1000000) g WHERE g % 10000 = 0")))
    thread.start()
    wait_until(lambda: fleet_row(t, "replica1")["outstanding"] == "1" or got, 5, "the read to begin")
    admin.query("DRAIN replica1")
    thread.join()
    assert got == ["replica1"]
    assert where(c) == "primary"
    assert t.routing()["reason_no_replica"] > 0


def test_drained_survives_a_reload_and_the_replicas_own_restart(small_fleet, router, raw):
    t = router(in_front_of=small_fleet, http=True, **PLAIN)
    admin = console(raw, t)
    admin.query("DRAIN replica1")
    admin.query("RELOAD")
    small_fleet.restart(1)
    t.wait_fleet()
    row = fleet_row(t, "replica1")
    assert row["drained"] == "yes" and row["state"] == "drained"
    assert where(t.connect()) == "primary"
    assert 'tidemark_node_drained{node="replica1"} 1' in t.http("/metrics")[1]
    admin.query("UNDRAIN replica1")
    c = t.connect()
    wait_until(lambda: where(c) == "replica1", 5, "the replica to be asked again")


def test_the_primary_cannot_be_drained(tm, raw):
    admin = console(raw, tm)
    error = [m for m in admin.query("DRAIN primary") if m.kind == "E"]
    assert error and b"55000" in error[0].body and b"writes have nowhere else to go" in error[0].body
    rows(tm.connect(), "UPDATE items SET v = v WHERE id = 1")


def test_others_than_admin_users_cannot_drain(tm, raw):
    with pytest.raises(psycopg2.OperationalError):
        tm.connect(dbname="tidemark", user="app")


def test_a_replica_that_comes_back_starts_slowly(fleet, router, readers, raw):
    t = router(scope="connection", slow_start="4s")
    admin = console(raw, t)
    admin.query("DRAIN replica1")
    # At this level a session may change over at any time; by position it does when it owes nothing.
    r = readers(t, 24, SLOW_READ, "-c tidemark.consistency=eventual")
    time.sleep(4)  # replica2 has its whole share by now
    admin.query("UNDRAIN replica1")
    early = r.during(0.5)
    assert 0 < float(fleet_row(t, "replica1")["share_pct"]) < 30
    wait_until(lambda: fleet_row(t, "replica1")["share_pct"] == "50.0", 6, "the whole share")
    late = r.during(1.5)
    r.end()
    assert not r.errors
    share = [s["replica1"] / max(1, sum(s.values())) for s in (early, late)]
    assert share[0] < 0.15 and share[1] > 0.22, (early, late)


@pytest.mark.parametrize("level", ["session", "bounded", "eventual"])
def test_replica_max_lag_holds_at_every_level(fleet, router, level):
    t = router(replicas=[fleet.servers[1]], replica_max_lag="300ms", max_lag="1h", **PLAIN)
    writer, reader = t.connect(), t.connect(options=f"-c tidemark.consistency={level}")
    assert where(reader) == "replica1"
    fleet.pause_replay(1)
    try:
        rows(writer, "UPDATE items SET v = v WHERE id = 1")
        wait_until(lambda: where(reader) == "primary", 5, "the replica to be left out")
        assert "limit" in value(reader, "SHOW tidemark.route") or "lag_limit" in value(reader, "SHOW tidemark.route")
        assert t.routing()["reason_lag_limit"] > 0
    finally:
        fleet.resume_replay(1)
    wait_until(lambda: where(reader) == "replica1", 5, "the replica to be asked again")
