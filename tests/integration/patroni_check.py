# SPDX-License-Identifier: PostgreSQL
"""A fleet that Patroni manages, with a real etcd: switched over, and its leader killed, under clients that write
and read. `patroni` only narrows who is primary."""

import threading
import time

import patroni_harness
import psycopg2
import pytest
from harness import Tidemark, rows, wait_until
from test_failover import QUICK

HANG_LIMIT = 150


class Checker:
    """A client that writes ever higher numbers to its row and reads them back. What it was told is committed must
    be there, unless it was told of the loss: by an error since then, or by tidemark.lost."""

    def __init__(self, t, row):
        self.t, self.row, self.connection = t, row, None
        self.written = self.reads = self.stale = self.reported = 0
        self.told, self.last_at, self.longest, self.unknown = 0, time.monotonic(), 0.0, []
        self.wrong = []

    def _lost(self):
        return rows(self.connection, "SHOW tidemark.lost")[0][0] == "on"

    def step(self):
        n = self.written + 1
        try:
            self.connection = self.connection or self.t.connect()
            rows(self.connection, f"UPDATE items SET n = {n} WHERE id = {self.row}")
        except psycopg2.Error as e:
            self.written = n  # it may have been committed
            self.unknown.append(str(e).splitlines()[0])
            if self.connection is not None and self.connection.closed:
                self.connection, self.told = None, 0
            return
        now = time.monotonic()
        self.longest, self.last_at = max(self.longest, now - self.last_at), now
        self.written = self.told = n
        try:
            got = rows(self.connection, f"SELECT n FROM items WHERE id = {self.row}")[0][0]
        except psycopg2.Error as e:
            self.unknown.append(str(e).splitlines()[0])
            if self.connection.closed:
                self.connection = None
            return
        self.reads += 1
        if got < self.told:
            if self._lost():
                self.reported += 1
            else:
                self.stale += 1
                self.wrong.append(f"row {self.row}: {got} after {self.told}")


class Crowd:
    def __init__(self, t, count=6):
        self.stop = threading.Event()
        self.checkers = [Checker(t, i + 1) for i in range(count)]
        self.threads = [threading.Thread(target=self._run, args=(c,)) for c in self.checkers]
        for thread in self.threads:
            thread.start()

    def _run(self, c):
        while not self.stop.is_set():
            c.step()
            time.sleep(0.005)

    def all_wrote_since(self, moment):
        return all(c.last_at > moment for c in self.checkers)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def wrong(self):
        return [w for c in self.checkers for w in c.wrong]


@pytest.fixture(scope="module")
def cluster():
    c = patroni_harness.PatroniCluster()
    yield c
    c.destroy()


def _row(t, name):
    return next(r for r in t.show("FLEET") if r["name"] == name)


def _elected(t, member):
    row = _row(t, member.name)
    return row["role"] == "primary" and row["state"] == "up" and row["patroni"] == "leader"


def _rested(t, crowd, cluster, old, limit, what):
    """The new leader is elected and everybody writes there; how long the longest pause was."""
    began = time.monotonic()
    new = wait_until(lambda: cluster.leader() if cluster.leader() not in (None, old) else None, limit, f"{what}: a leader", 0.1)
    wait_until(lambda: _elected(t, new), limit, lambda: f"{what}: {t.show('FLEET')} {t.log_text()[-2000:]}", 0.1)
    since = time.monotonic()
    wait_until(lambda: crowd.all_wrote_since(since), 15, f"{what}: all clients to write again")
    print(f"{what}: writes again after {time.monotonic() - began:.1f} s, the longest pause of a client "
          f"{max(c.longest for c in crowd.checkers):.1f} s")
    return new


def test_switchover_and_a_killed_leader_under_checked_clients(cluster, need_router):
    ttl = cluster.timing["ttl"]
    config = {"patroni": cluster.urls(), "failover_timeout": "30s"}
    with Tidemark(cluster, http=True, **QUICK, **config) as t:
        wait_until(lambda: _elected(t, cluster.servers[0]), 15, lambda: str(t.show("FLEET")))
        crowd = Crowd(t)
        try:
            time.sleep(1)
            old = cluster.leader()
            cluster.switchover(old, cluster.servers[1])
            new = _rested(t, crowd, cluster, old, 30, "switchover")
            assert new is cluster.servers[1]
            assert max(c.longest for c in crowd.checkers) < 30
            wait_until(cluster.whole, 40, lambda: f"the old leader to follow: {[m.role() for m in cluster.servers]}", 0.2)
            for c in crowd.checkers:
                c.longest = 0.0
            new.kill()
            killed = time.monotonic()
            last = _rested(t, crowd, cluster, new, 30 + ttl, "kill -9 of the leader")
            assert last is not new and time.monotonic() - killed < 30 + ttl
        finally:
            crowd.end()
        assert crowd.wrong() == []
        reads = sum(c.reads for c in crowd.checkers)
        print(f"{reads} checked reads, {sum(c.stale for c in crowd.checkers)} stale, "
              f"{sum(c.reported for c in crowd.checkers)} losses told, {sum(len(c.unknown) for c in crowd.checkers)} errors")
        assert reads > 200 and all(c.reads > 0 for c in crowd.checkers)
        assert "tidemark_patroni_fresh 1" in t.http("/metrics")[1]
