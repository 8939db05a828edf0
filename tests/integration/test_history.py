# SPDX-License-Identifier: PostgreSQL
"""The timeline history of the primary: read from real servers after real promotions, refused, and spoilt on its way."""

import os
import re
import socket
import threading
import time

import pytest

import harness
from harness import rows, value, wait_until

# Building a fleet and promoting it takes a while on a busy machine.

QUICK = dict(answer_timeout="500ms", server_login_retry="100ms", server_connect_timeout="1s")


def fleet_row(t, name):
    return next(r for r in t.show("FLEET") if r["name"] == name)


def primary_row(t):
    return next((r for r in t.show("FLEET") if r["role"] == "primary"), None)


def history(t):
    p = primary_row(t)
    return p and p["history"]


def wait_known(t, timeout=15):
    wait_until(lambda: history(t) == "known", timeout, lambda: f"the history; {t.show('FLEET')}\n{harness.tail(t.log)}")


def switch_points(server, timeline):
    """[(timeline, "0/5000148")…] of the history file in the server's data directory, oldest first."""
    with open(os.path.join(server.dir, "pg_wal", f"{timeline:08X}.history")) as f:
        lines = [line.split("\t") for line in f.read().splitlines() if line.strip()]
    return [(int(line[0]), line[1]) for line in lines]


def logged_beginnings(t):
    """What the router says of timelines: [(timeline, "0/5000148")…]."""
    return [(int(a), b) for a, b in re.findall(r"timeline (\d+) began at ([0-9A-F]+/[0-9A-F]+)", t.log_text())]


def complaints(t):
    return [line for line in t.log_text().splitlines() if "its history cannot be read" in line]


def follow(standby, primary):
    """Re-points a standby without a restart."""
    standby.sql(f"ALTER SYSTEM SET primary_conninfo = 'host={harness.HOST} port={primary.port} user=postgres'")
    standby.sql("SELECT pg_reload_conf()")


def test_the_first_timeline_has_a_known_history_and_nobody_is_asked(tm, fleet):
    wait_known(tm)
    assert [r["history"] for r in tm.show("FLEET") if r["role"] == "replica"] == [None, None]
    assert fleet.primary.sql("SELECT 1 FROM pg_stat_replication WHERE application_name = 'tidemark history'") == []
    assert complaints(tm) == []


def test_promotions_are_followed_by_their_histories(need_router):
    """Twice: the history of timeline 3 has two switch points."""
    fleet = harness.Fleet(standbys=2)
    first, second, third = fleet.servers
    try:
        with harness.Tidemark(fleet, **QUICK) as t:
            wait_known(t)
            assert logged_beginnings(t) == []
            rows(t.connect(), "UPDATE items SET n = 1 WHERE id = 1")
            fleet.sync()
            first.stop("immediate")
            fleet.promote(1)
            follow(third, second)
            wait_until(lambda: primary_row(t) and primary_row(t)["name"] == "replica1", 15, "the new primary")
            wait_known(t)
            (parent, left), = switch_points(second, 2)
            assert parent == 1
            assert logged_beginnings(t) == [(2, left)]
            assert fleet_row(t, "replica1")["timeline"] == "2"
            wait_until(lambda: fleet_row(t, "replica2")["timeline"] == "2", 15, "the standby to follow")
            assert fleet_row(t, "replica2")["history"] is None

            # What happens to the standby is nothing to it; a restart of the primary is.
            third.restart()
            wait_until(lambda: fleet_row(t, "replica2")["state"] == "up", 15, "the standby to come back")
            assert len(logged_beginnings(t)) == 1
            second.restart()
            wait_until(lambda: len(logged_beginnings(t)) == 2, 15, "the history to be read again")
            wait_known(t)
            assert logged_beginnings(t) == [(2, left), (2, left)]

            second.sql("CREATE TABLE later (n int)")
            want = second.value("SELECT pg_current_wal_flush_lsn()")
            wait_until(lambda: third.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", want), 15, "replay")
            second.stop("immediate")
            fleet.promote(2)
            wait_until(lambda: primary_row(t) and primary_row(t)["name"] == "replica2", 15, "the third primary")
            wait_known(t)
            points = switch_points(third, 3)
            assert [p[0] for p in points] == [1, 2] and points[0][1] == left
            assert logged_beginnings(t)[2:] == [(3, points[1][1])]
            assert complaints(t) == []
    finally:
        fleet.destroy()


# ---- a fleet that has been through a failover, for all tests below ----

@pytest.fixture(scope="module")
def promoted():
    """servers[1] is primary on timeline 2, servers[2] follows it; servers[0] is gone."""
    fleet = harness.Fleet(standbys=2)
    fleet.sync()
    fleet.stop(0, "immediate")
    fleet.promote(1)
    follow(fleet.servers[2], fleet.servers[1])
    wait_until(lambda: fleet.servers[1].value("SELECT count(*) FROM pg_stat_replication") == 1, 15,
               "the standby to follow")
    yield fleet
    fleet.destroy()


@pytest.fixture
def behind(promoted, need_router):
    """A factory of routers in front of that fleet; `primary` as conninfo."""
    started = []

    def make(primary, **options):
        started.append(harness.Tidemark(promoted, primary=primary, replicas=[promoted.servers[2]], **QUICK, **options))
        return started[-1]

    yield make
    for t in started:
        t.stop()


def beginning(promoted):
    return [(2, switch_points(promoted.servers[1], 2)[0][1])]


def assert_watched_meanwhile(t):
    """Samples come in and nobody was lost; but nobody knows that the replica is on the primary's branch."""
    before = {r["name"]: int(r["samples"]) for r in t.show("FLEET")}
    time.sleep(1.2)
    for r in t.show("FLEET"):
        assert int(r["samples"]) >= before[r["name"]] + 3, "a server was not sampled meanwhile"
        replica = r["role"] == "replica"
        assert (r["epoch"], r["state"], r["error"]) == ("0", "not_eligible" if replica else "up", "")
        assert r["branch"] == ("unknown" if replica else None)
    c = t.connect()
    try:
        assert harness.where(c) == "replica1", "the promoted server, which is the primary"
    finally:
        c.close()


def assert_replica_serves(t):
    c = t.connect()
    try:
        rows(c, "UPDATE items SET n = n + 1 WHERE id = 7")
        wait_until(lambda: harness.where(c) == "replica2", 10, "reads on the replica")
        assert fleet_row(t, "replica1")["branch"] == "same"
    finally:
        c.close()


def test_a_role_without_replication_is_told_what_to_do(behind, promoted):
    primary = promoted.servers[1]
    t = behind(primary.conninfo(user="app"))
    wait_until(lambda: complaints(t), 10, "the complaint")
    assert history(t) == "unknown"
    assert re.search(r"WARN timeline 2 of node=primary: its history cannot be read \(.*replication.*\(42501\)\); tokens and "
                     r"stored sessions will not be trusted, their reads go to the primary; give role \"app\" REPLICATION "
                     r"and pg_hba\.conf a line for replication$", complaints(t)[0])
    assert_watched_meanwhile(t)
    time.sleep(1)
    assert len(complaints(t)) == 1, "said once, however often it is tried"
    assert history(t) == "unknown"
    primary.sql("ALTER ROLE app REPLICATION")
    try:
        wait_known(t)
        assert logged_beginnings(t) == beginning(promoted)
        assert len(complaints(t)) == 1
        assert_replica_serves(t)
    finally:
        primary.sql("ALTER ROLE app NOREPLICATION")


def test_pg_hba_without_a_line_for_replication(behind, promoted):
    """… and with one that asks for SCRAM."""
    primary = promoted.servers[1]
    path = os.path.join(primary.dir, "pg_hba.conf")
    with open(path) as f:
        usual = f.read()

    def hba(first):
        with open(path, "w") as f:
            f.write(first + usual)
        primary.sql("SELECT pg_reload_conf()")
        time.sleep(0.2)

    primary.sql("ALTER ROLE u_scram REPLICATION")
    hba("host replication u_scram 127.0.0.1/32 reject\n")
    try:
        secret = harness.PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
        t = behind(primary.conninfo(user="u_scram") + f" password='{secret}'")
        wait_until(lambda: complaints(t), 10, "the complaint")
        assert "(28000)" in complaints(t)[0] and 'give role "u_scram" REPLICATION' in complaints(t)[0]
        assert history(t) == "unknown"
        hba("host replication u_scram 127.0.0.1/32 scram-sha-256\n")
        wait_known(t)
        assert logged_beginnings(t) == beginning(promoted)
        assert len(complaints(t)) == 1
    finally:
        hba("")
        primary.sql("ALTER ROLE u_scram NOREPLICATION")


class Spoiler:
    """Stands before a server and spoils what it says on replication connections, and only there.

    spoil(bytes) gives what is passed on; None hangs up. `tries` counts the replication connections.
    """

    def __init__(self, server):
        self.server = server
        self.spoil = lambda data: data
        self.tries = 0
        self.listener = socket.create_server((harness.HOST, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def conninfo(self):
        return f"host={harness.HOST} port={self.port} user=postgres dbname=app sslmode=disable"

    def close(self):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            server = socket.create_connection((harness.HOST, self.server.port))
            first = client.recv(65536)
            replication = b"\0replication\0true\0" in first
            self.tries += replication
            server.sendall(first)
            spoil = (lambda data: self.spoil(data)) if replication else (lambda data: data)
            threading.Thread(target=self._pump, args=(client, server, lambda data: data), daemon=True).start()
            self._pump(server, client, spoil)
        except OSError:
            client.close()

    @staticmethod
    def _pump(source, sink, change):
        try:
            while data := source.recv(65536):
                data = change(data)
                if data is None:
                    break
                sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@pytest.fixture
def spoiler(promoted):
    s = Spoiler(promoted.servers[1])
    yield s
    s.close()


def only_history(change):
    """Lets everything pass but the answer to TIMELINE_HISTORY."""
    return lambda data: change(data) if b".history" in data else data


# What becomes of the answer, and what the router says.
SPOILS = {
    "cut": (only_history(lambda data: data[:data.index(b"\t") + 4]), "no answer within 500 ms"),
    "cut_and_hung_up": (None, "the server closed the connection"),
    "noise": (only_history(lambda data: bytes((i * 151 + 7) % 256 for i in range(len(data)))),
              "malformed or too long"),
    "another_server": (lambda data: data.replace(b"\0\0\0\x012\0\0\0", b"\0\0\0\x013\0\0\0"), "another server answers there"),
}


@pytest.mark.parametrize("name", SPOILS)
def test_a_spoilt_answer_is_not_believed(behind, promoted, spoiler, name):
    spoil, why = SPOILS[name]
    hang_up = []
    if spoil is None:
        def spoil(data):  # half the answer, and nothing after it
            if b".history" not in data:
                return data
            hang_up.append(data)
            return None
    spoiler.spoil = spoil
    t = behind(spoiler.conninfo())
    wait_until(lambda: complaints(t), 10, "the complaint")
    assert why in complaints(t)[0] and complaints(t)[0].endswith("; retrying")
    assert history(t) == "unknown"
    assert_watched_meanwhile(t)
    assert history(t) == "unknown" and logged_beginnings(t) == []
    assert 1 <= spoiler.tries <= 4, "the tries are a second apart at first, then further"
    spoiler.spoil = lambda data: data
    wait_known(t)
    assert logged_beginnings(t) == beginning(promoted)
    assert value(t.connect(), "SELECT 1") == 1
    assert_replica_serves(t)
