# SPDX-License-Identifier: PostgreSQL
"""How much each replica is asked (weights, DRAIN, slow start), and what becomes of reads that a replica fails."""

import collections
import os
import signal
import socket
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
        self.answered = [0] * count
        self.threads = [threading.Thread(target=self._work, args=(i, t, options)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def _work(self, i, t, options):
        c = t.connect(options=options)
        while not self.stop.is_set():
            try:
                self.seen[value(c, self.sql)] += 1
                self.answered[i] += 1
            except psycopg2.Error as e:
                self.errors.append(str(e).strip().splitlines()[0])
                if c.closed:
                    c = t.connect(options=options)
        c.close()

    def during(self, seconds):
        """Who answered how often in that time; not what was answered before, and is noted late."""
        answered, until = list(self.answered), time.monotonic() + 1
        while time.monotonic() < until and not all(n > m for n, m in zip(self.answered, answered)):
            time.sleep(0.001)
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
    seen = r.during(0.5)
    assert seen["replica1"] > seen["replica2"] == 0, seen
    t.write("tidemark.ini", config(0, 1))
    t.reload()
    wait_until(lambda: fleet_row(t, "replica2")["weight"] == "1", 5, "the reload")
    time.sleep(0.1)
    seen = r.during(0.5)
    assert seen["replica2"] > seen["replica1"] == 0, seen
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
        for seen in [r.during(0.4) for r in half]:
            # Nobody else but the primary, for a session that replica1 has shown more than replica2 has.
            assert seen["replica1"] == 0 and seen["replica2"] > seen["primary"], seen
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


# ---- reads that a replica fails -------------------------------------------------------------------

@pytest.fixture(scope="module")
def nap(shared_fleet):
    """SELECT nap(s): a plain read that takes s seconds and answers with the server's name. The routers of the
    tests below start after it is there."""
    shared_fleet.calm()
    shared_fleet.primary.sql(
        "CREATE OR REPLACE FUNCTION nap(s float) RETURNS text STABLE LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(s); RETURN current_setting('node.name'); END $$")
    shared_fleet.sync()


class Napper(threading.Thread):
    """Runs one statement on a connection of its own thread; `result` or `error` when it is over."""

    def __init__(self, c, sql="SELECT nap(1.5)"):
        super().__init__()
        self.c, self.sql = c, sql
        self.result = self.error = None
        self.start()

    def run(self):
        try:
            self.result = rows(self.c, self.sql)
        except psycopg2.Error as e:
            self.error = e

    def over(self):
        self.join(20)
        assert not self.is_alive(), "it hangs"
        return self


NAPPING = "FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%%nap(%%' AND pid <> pg_backend_pid()"


def napping_on(fleet, names=("replica1", "replica2"), timeout=10):
    """The replica on which a nap is under way."""
    def somewhere():
        return next((n for n in names if fleet.server(n).value(f"SELECT count(*) {NAPPING}", dbname="postgres")), None)

    return wait_until(somewhere, timeout, "the read to run on a replica")


def other(name):
    return "replica2" if name == "replica1" else "replica1"


@pytest.fixture
def conflicts(fleet):
    """Standbys cancel reads that stand in the way of replay at once."""
    for s in fleet.standbys:
        s.sql("ALTER SYSTEM SET max_standby_streaming_delay = 0")
        s.sql("SELECT pg_reload_conf()")
    yield
    for s in fleet.standbys:
        s.sql("ALTER SYSTEM RESET max_standby_streaming_delay")
        s.sql("SELECT pg_reload_conf()")


def vacuum(fleet):
    """Removes rows that a read under way may still want to see."""
    fleet.primary.sql("UPDATE items SET n = n")
    fleet.primary.sql("VACUUM items")


def test_a_recovery_conflict_is_no_error_and_another_replica_answers(fleet, nap, conflicts, router):
    t = router(**PLAIN)
    n = Napper(t.connect(), "SELECT nap(2), (SELECT count(*) FROM items)")
    first = napping_on(fleet)
    vacuum(fleet)
    assert napping_on(fleet, [other(first)]) == other(first)
    n.over()
    assert n.error is None and n.result == [(other(first), 100)], n.error
    assert value(n.c, "SHOW tidemark.route").startswith(f"{other(first)}") or other(first) in value(n.c, "SHOW tidemark.route")
    after = t.routing()
    assert (after["retried"], after["retried_conflict"], after["reason_replica_retried"], after["reason_retried"]) == (1, 1, 1, 0)


def test_after_the_first_row_a_conflict_is_an_error(fleet, nap, conflicts, router):
    t = router(**PLAIN)
    n = Napper(t.connect(), "SELECT pad FROM big UNION ALL SELECT nap(2)")
    napping_on(fleet)
    vacuum(fleet)
    n.over()
    assert isinstance(n.error, psycopg2.errors.SerializationFailure), (n.error, n.result and len(n.result))
    assert "conflict with recovery" in str(n.error)
    assert t.routing()["retried"] == 0
    assert value(n.c, "SELECT 1") == 1, "the connection is of use still"


def terminate_nap(fleet, name):
    fleet.server(name).sql(f"SELECT pg_terminate_backend(pid) {NAPPING}", dbname="postgres")


def test_a_read_is_tried_on_two_replicas_and_then_on_the_primary(fleet, nap, router):
    t = router(**PLAIN)
    n = Napper(t.connect())
    first = napping_on(fleet)
    terminate_nap(fleet, first)
    napping_on(fleet, [other(first)])
    terminate_nap(fleet, other(first))
    assert napping_on(fleet, ["primary"]) == "primary"
    n.over()
    assert n.result == [("primary",)], n.error
    after = t.routing()
    assert (after["retried_ended"], after["reason_replica_retried"], after["reason_retried"]) == (2, 1, 1)
    # … of which the next read of this session knows nothing.
    assert where(t.connect()) != "primary"


def test_the_primarys_own_error_ends_the_tries(fleet, nap, router):
    t = router(**PLAIN)
    n = Napper(t.connect())
    first = napping_on(fleet)
    for name in (first, other(first), "primary"):
        napping_on(fleet, [name])
        terminate_nap(fleet, name)
    n.over()
    assert isinstance(n.error, psycopg2.OperationalError), n.result
    assert t.routing()["retried"] == 2


def test_a_database_that_is_dropped_under_a_read_is_told_of(fleet, nap, router):
    primary = fleet.primary
    primary.sql("CREATE DATABASE doomed OWNER app", dbname="postgres")
    primary.sql("CREATE FUNCTION nap(s float) RETURNS text STABLE LANGUAGE plpgsql AS "
                "$$ BEGIN PERFORM pg_sleep(s); RETURN current_setting('node.name'); END $$", dbname="doomed")
    fleet.sync()
    t = router(**PLAIN)
    c = t.connect(dbname="doomed")
    wait_until(lambda: value(c, "SELECT nap(0)") != "primary", 5, "the catalog of the new database")
    n = Napper(c, "SELECT nap(3)")
    napping_on(fleet)
    primary.sql("DROP DATABASE doomed WITH (FORCE)", dbname="postgres")
    n.over()
    assert n.error is not None and "doomed" in str(n.error), (n.error, n.result)
    assert t.routing()["retried_ended"] >= 1


def test_a_read_on_a_replica_that_hangs_is_run_again(need_router):
    f = harness.Fleet(standbys=2)
    try:
        with harness.Tidemark(f, answer_timeout="500ms", scope="connection") as t:
            f.primary.sql("CREATE FUNCTION nap(s float) RETURNS text STABLE LANGUAGE plpgsql AS "
                          "$$ BEGIN PERFORM pg_sleep(s); RETURN current_setting('node.name'); END $$")
            f.sync()
            c = t.connect()
            rows(c, "CREATE TABLE wake_the_catalog (i int)")
            wait_until(lambda: value(c, "SELECT nap(0)") != "primary", 10, "the catalog to be read anew")
            n = Napper(c, "SELECT nap(1.5)")
            first = napping_on(f)
            hanging = [f.server(first).process.pid] + children(f.server(first).process.pid)
            began = time.monotonic()
            try:
                for pid in hanging:
                    os.kill(pid, signal.SIGSTOP)
                n.over()
                assert n.result is not None and n.result != [(first,)], n.error
                assert time.monotonic() - began < 8
                assert t.routing()["retried_lost"] == 1
            finally:
                for pid in hanging:
                    os.kill(pid, signal.SIGCONT)
    finally:
        f.destroy()


def children(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as f:
            found += map(int, f.read().split())
    return found


# ---- losing the replicas ---------------------------------------------------------------------------

def drain_all(admin):
    for name in ("replica1", "replica2"):
        admin.query(f"DRAIN {name}")


def test_losing_the_replicas_leaves_the_writers_their_part_of_the_pool(fleet, nap, router, readers, raw):
    t = router(default_pool_size=4, http=True, **PLAIN)
    admin, writer = console(raw, t), t.connect()
    rows(writer, "UPDATE items SET n = n WHERE id = 7")
    r = readers(t, 12, "SELECT nap(0.4)", "-c tidemark.consistency=eventual")
    wait_until(lambda: r.seen["replica1"] and r.seen["replica2"], 10, "the replicas to answer")
    drain_all(admin)
    wait_until(lambda: r.seen["primary"], 10, "the primary to answer")
    most, slowest = 0, 0.0
    for _ in range(20):
        most = max(most, int(fleet.primary.value(f"SELECT count(*) {NAPPING}", dbname="postgres")))
        began = time.monotonic()
        rows(writer, "UPDATE items SET n = n + 1 WHERE id = 7")
        slowest = max(slowest, time.monotonic() - began)
    # Half of four. Had the reads taken all four, every write would have waited for one of them.
    assert most == 2
    assert slowest < 0.4, slowest
    metrics = t.http("/metrics")[1]
    assert "tidemark_fallback_reads 2" in metrics and 'tidemark_fallback_held 1' in metrics
    assert t.routing()["held_back"] > 0
    # Those who are held back go to a replica as soon as there is one.
    for name in ("replica1", "replica2"):
        admin.query(f"UNDRAIN {name}")
    before = r.seen["primary"]
    assert sum(r.during(2).values()) > 12
    r.end()
    assert r.errors == [] and r.seen["primary"] - before <= 4
    wait_until(lambda: "tidemark_fallback_reads 0" in t.http("/metrics")[1], 5, "all places to be given back")


def test_reads_that_are_held_back_time_out_and_are_told_why(fleet, nap, router, raw):
    t = router(default_pool_size=2, query_wait_timeout="700ms", max_pool_waiting=2, **PLAIN)
    drain_all(console(raw, t))
    slow = Napper(t.connect(), "SELECT nap(4)")
    napping_on(fleet, ["primary"])
    held = [Napper(t.connect()) for _ in range(2)]
    wait_until(lambda: sum(int(p["cl_waiting"]) for p in t.show("POOLS")) == 2, 5, "two to be held back")
    with pytest.raises(psycopg2.OperationalError) as e:
        where(t.connect())
    assert "too many others wait for the primary" in str(e.value) and "fallback_pool_share" in str(e.value)
    for n in held:
        n.over()
        assert n.error is not None and n.error.pgcode == "53300", n.result
        assert "no replica was fit for this read" in str(n.error)
        assert not n.c.closed
    # One that goes away leaves no trace, and what is held can be cancelled.
    n = Napper(t.connect())
    wait_until(lambda: sum(int(p["cl_waiting"]) for p in t.show("POOLS")) == 1, 5, "one to be held back")
    n.c.cancel()
    assert isinstance(n.over().error, psycopg2.errors.QueryCanceled)
    rows(t.connect(), "UPDATE items SET n = n WHERE id = 8")
    assert slow.over().result == [("primary",)]
    assert where(n.c) == "primary"


def test_a_fleet_without_replicas_has_its_whole_pool(fleet, nap, router):
    t = router(replicas=[], default_pool_size=2, **PLAIN)
    both = [Napper(t.connect(), "SELECT nap(1)") for _ in range(2)]
    wait_until(lambda: fleet.primary.value(f"SELECT count(*) {NAPPING}", dbname="postgres") == 2, 10, "both to run side by side")
    for n in both:
        assert n.over().result == [("primary",)]


# ---- a replica that takes no connections, or its time ------------------------------------------------

class Gate:
    """A TCP relay in front of a server. Shut, it closes whoever comes anew, and those who are there stay;
    `delay` holds back what the server says."""

    def __init__(self, server):
        self.server, self.shut, self.delay, self.turned_away = server, False, 0.0, 0
        self.listener = socket.create_server((harness.HOST, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            if self.shut:
                self.turned_away += 1
                c.close()
                continue
            s = socket.create_connection((harness.HOST, self.server.port))
            for one, other, slow in ((c, s, False), (s, c, True)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._relay, args=(one, other, slow), daemon=True).start()

    def _relay(self, source, sink, slow):
        try:
            while data := source.recv(65536):
                if slow and self.delay:
                    time.sleep(self.delay)
                sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def conninfo(self):
        return f"host={harness.HOST} port={self.port} user=postgres dbname=app"

    def close(self):
        self.listener.close()


@pytest.fixture
def gate(fleet):
    g = Gate(fleet.servers[1])
    yield g
    g.close()


def test_a_replica_that_takes_no_connections_is_left_out_for_all(fleet, gate, router, readers):
    t = router(replicas=[gate.conninfo(), fleet.servers[2]], http=True, server_login_retry="300ms", **PLAIN)
    gate.shut = True
    # Of a user who has no connections yet.
    c = [t.connect(user="u_trust", options="-c tidemark.consistency=eventual") for _ in range(8)]
    for _ in range(20):
        for one in c:
            assert where(one) == "replica2" or gate.turned_away == 0
    row = fleet_row(t, "replica1")
    assert (row["state"], row["share_pct"]) == ("unreachable", "0.0") and not row["error"], row
    # Not once a statement: a probe now and then, ever more seldom.
    assert 1 <= gate.turned_away <= 4
    assert t.log_text().count("takes no connections of clients") == 1
    metrics = t.http("/metrics")[1]
    assert 'tidemark_replica_unreachable{node="replica1"} 1' in metrics
    assert 'tidemark_replica_left_out_total{cause="unreachable"} 1' in metrics
    samples = int(row["samples"])
    gate.shut = False
    # Nobody has to read for that.
    wait_until(lambda: fleet_row(t, "replica1")["state"] == "up", 10, "a probe to come through")
    assert int(fleet_row(t, "replica1")["samples"]) > samples
    r = readers(t, 8, options="-c tidemark.consistency=eventual")
    wait_until(lambda: r.seen["replica1"], 5, "replica1 to be read from again")
    r.end()
    assert r.errors == []


def test_a_pool_that_one_replica_refuses_reads_from_the_other(fleet, router):
    """A user whom only one replica lets in."""
    s = fleet.servers[1]
    path = os.path.join(s.dir, "pg_hba.conf")
    with open(path) as f:
        before = f.read()
    try:
        with open(path, "w") as f:
            f.write("host all u_trust 127.0.0.1/32 reject\n" + before)
        s.sql("SELECT pg_reload_conf()")
        t = router(server_login_retry="10s", **PLAIN)
        c = t.connect(user="u_trust", options="-c tidemark.consistency=eventual")
        assert {where(c) for _ in range(20)} == {"replica2"}
        assert fleet_row(t, "replica1")["state"] == "up", "others are let in"
        assert t.routing()["reason_no_replica"] == 0
    finally:
        with open(path, "w") as f:
            f.write(before)
        s.sql("SELECT pg_reload_conf()")


def test_an_outlier_of_latency_is_left_out_but_never_the_last(fleet, gate, router, readers, raw):
    t = router(replicas=[gate.conninfo(), fleet.servers[2]], http=True, outlier_latency=5, outlier_latency_floor="50ms", **PLAIN)
    admin = console(raw, t)
    r = readers(t, 8, options="-c tidemark.consistency=eventual")
    wait_until(lambda: r.seen["replica1"] > 40 and r.seen["replica2"] > 40, 10, "both to be measured")
    assert fleet_row(t, "replica1")["state"] == "up"
    gate.delay = 0.15
    wait_until(lambda: fleet_row(t, "replica1")["state"] == "slow", 20, "the slow one to be found out")
    time.sleep(0.3)
    assert set(r.during(0.5)) == {"replica2"}
    assert "its reads take" in t.log_text()
    assert 'tidemark_replica_left_out_total{cause="slow"} 1' in t.http("/metrics")[1]
    admin.query("DRAIN replica2")
    wait_until(lambda: set(r.during(0.4)) == {"replica1"}, 8, "the slow one to be asked as the last")
    gate.delay = 0
    admin.query("UNDRAIN replica2")
    r.end()
    assert r.errors == []
