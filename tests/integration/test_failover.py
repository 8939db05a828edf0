# SPDX-License-Identifier: PostgreSQL
"""A primary that goes away: what was sent gets its error, what was not waits for the next one."""

import os
import shutil
import signal
import threading
import time

import harness
import psycopg2
import pytest
import tokens
from harness import Tidemark, rows, server_pids, signal_all, value, wait_until, where

# Fleets are built and failed over here; a busy machine takes its time.
STATE = ("CLIENTS", "SERVERS", "POOLS", "FLEET")
QUICK = {"server_login_retry": "15s", "answer_timeout": "500ms", "server_connect_timeout": "1s"}


@pytest.fixture
def own_fleet(need_router):
    f = harness.Fleet(standbys=2)
    yield f
    f.destroy()


class Writers:
    """Clients that write without a pause, each to its row; they count errors and remember the longest statement."""

    def __init__(self, t, count=8):
        self.stop = threading.Event()
        self.errors, self.longest, self.done = [], 0.0, [0] * count
        self.last = [0] * count
        self.threads = [threading.Thread(target=self._work, args=(t, i), daemon=True) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def _work(self, t, i):
        c = None
        n = 0
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                c = c or t.connect()
                began = time.monotonic()
                rows(c, f"UPDATE items SET n = {n + 1} WHERE id = {i + 1}")
                n += 1
                self.last[i] = n
                self.done[i] += 1
                got = value(c, f"SELECT n FROM items WHERE id = {i + 1}")
                if got < n:
                    self.errors.append(f"stale: {got} after {n}")
            except psycopg2.Error as e:
                self.errors.append(str(e).strip().splitlines()[0])
                if c is not None and c.closed:
                    c = None
            self.longest = max(self.longest, time.monotonic() - began)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def test_a_restart_of_the_primary_is_a_pause(small_fleet, need_router):
    with Tidemark(small_fleet, failover_timeout="15s", **QUICK) as t:
        w = Writers(t)
        time.sleep(0.5)
        small_fleet.stop(0, "immediate")
        time.sleep(1.5)
        before = list(w.done)
        small_fleet.start(0)
        back = time.monotonic()
        wait_until(lambda: all(a > b for a, b in zip(w.done, before)), 10, "all clients to write again")
        assert time.monotonic() - back < 5
        w.end()
        # One statement a client may have been under way.
        assert len(w.errors) <= 8 and not [e for e in w.errors if e.startswith("stale")], w.errors
        assert w.longest > 1, "nobody waited: the test shows nothing"


def test_a_promotion_is_a_pause_and_tokens_of_the_old_timeline_stay_good(own_fleet):
    keys = {"files": {"keys": tokens.OLD + "\n"}, "token_key_file": "{dir}/keys"}
    with Tidemark(own_fleet, failover_timeout="15s", **QUICK, **keys) as t:
        c = t.connect()
        rows(c, "UPDATE items SET n = 4711 WHERE id = 40")
        token = value(c, "SHOW tidemark.token")
        assert tokens.branches(token)[0]["timeline"] == 1
        own_fleet.sync()
        w = Writers(t)
        time.sleep(0.5)
        own_fleet.stop(0, "immediate")
        waiting = []

        def statement():
            began = time.monotonic()
            other = c
            waiting.append((value(other, "UPDATE items SET n = n + 1 WHERE id = 40 RETURNING n"), time.monotonic() - began))

        thread = threading.Thread(target=statement)
        time.sleep(0.7)
        thread.start()
        time.sleep(1)
        before = list(w.done)
        own_fleet.promote(1)
        wait_until(lambda: all(a > b for a, b in zip(w.done, before)), 12,
                   lambda: f"all clients to write on the new primary: {before} {w.done}, {[t.show(s) for s in STATE]}")
        thread.join()
        w.end()
        assert waiting and waiting[0][0] == 4712 and waiting[0][1] > 0.8, waiting
        errors = [e for e in w.errors if not e.startswith("stale")]
        assert len(errors) <= 8, errors
        # Acknowledged writes that did not reach the new primary are lost, and reads go back then, once: that is
        # asynchronous replication, and not what is tested here.
        d = t.connect(options=f"-c tidemark.read_after={token}")
        assert value(d, "SELECT n FROM items WHERE id = 40") == 4712
        wait_until(lambda: t.show("FLEET")[1].get("history") == "known", 10, "the history of timeline 2")
        e = t.connect(options=f"-c tidemark.read_after={token}")
        before = t.routing()["tokens_ok"]
        rows(e, f"SET tidemark.read_after = '{token}'")
        assert t.routing()["tokens_ok"] == before + 1
        rows(e, "UPDATE items SET n = n + 1 WHERE id = 40")
        new = tokens.branches(value(e, "SHOW tidemark.token"))[0]
        assert new["timeline"] == 2 and new["fork"] > 0


def _in_background(fn):
    out = []

    def run():
        began = time.monotonic()
        try:
            fn()
            out.append((None, time.monotonic() - began))
        except psycopg2.Error as e:
            out.append((e.pgcode, time.monotonic() - began))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, out


def _waits(t):
    return [c for c in t.show("CLIENTS") if c["state"] == "waiting"]


def test_nobody_waits_for_a_server_that_cannot_be_had(small_fleet, need_router):
    """A connection fails while another serves: one waits for that one. Then it goes too."""
    with Tidemark(small_fleet, **QUICK) as t:
        a, b = t.connect(user="other"), t.connect(user="other")
        rows(a, "BEGIN")
        rows(a, "CREATE TEMP TABLE held (n int) ON COMMIT DROP")
        small_fleet.primary.sql("ALTER ROLE other CONNECTION LIMIT 1")
        try:
            thread, got = _in_background(lambda: rows(b, "CREATE TEMP TABLE mine (n int)"))
            wait_until(lambda: _waits(t), 5, "one to wait")
            time.sleep(0.3)
            assert _waits(t), got
            small_fleet.primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'other'")
            thread.join(5)  # server_login_retry is longer
            assert got and got[0][0] == "53300", got
        finally:
            small_fleet.primary.sql("ALTER ROLE other CONNECTION LIMIT -1")


def test_who_waits_for_an_old_primary_that_hangs_goes_to_the_new_one(own_fleet):
    with Tidemark(own_fleet, default_pool_size=1, failover_timeout="20s",
                  **{**QUICK, "server_connect_timeout": "20s"}) as t:
        a, b = t.connect(), t.connect()
        rows(a, "BEGIN")
        rows(a, "UPDATE items SET n = n WHERE id = 90")
        thread, got = _in_background(lambda: rows(b, "UPDATE items SET n = n + 1 WHERE id = 91"))
        wait_until(lambda: _waits(t), 5, "one to wait")
        pids = server_pids(own_fleet.primary.process.pid)
        signal_all(pids, signal.SIGSTOP)
        try:
            own_fleet.promote(1)
            thread.join(8)
            assert got and got[0][0] is None, got
        finally:
            signal_all(pids, signal.SIGCONT)


@pytest.mark.parametrize("limit, least, most", [("0", 0, 1), ("1500ms", 1.2, 4)])
def test_the_wait_for_a_primary_ends(small_fleet, need_router, limit, least, most):
    with Tidemark(small_fleet, failover_timeout=limit, **QUICK) as t:
        c = t.connect()
        rows(c, "SELECT 1")
        small_fleet.stop(0, "immediate")
        try:
            wait_until(lambda: t.show("FLEET")[0]["state"] not in ("primary", "up"), 5, "the loss to be noticed")
            for _ in range(2):
                began = time.monotonic()
                with pytest.raises(psycopg2.OperationalError) as e:
                    rows(c, "UPDATE items SET n = 1 WHERE id = 1")
                assert least <= time.monotonic() - began < most
                assert str(e.value).strip()
            reader = t.connect(options="-c tidemark.consistency=eventual")
            assert where(reader) != "primary"
        finally:
            small_fleet.start(0)
        wait_until(lambda: _writes(c), 20, "the connection to write again")


def _writes(c):
    try:
        rows(c, "UPDATE items SET n = 1 WHERE id = 1")
        return True
    except psycopg2.Error:
        return False


def test_a_statement_that_waits_for_a_primary_can_be_cancelled(small_fleet, need_router):
    with Tidemark(small_fleet, failover_timeout="30s", **QUICK) as t:
        c = t.connect()
        rows(c, "SELECT 1")
        small_fleet.stop(0, "immediate")
        try:
            time.sleep(0.5)
            timer = threading.Timer(1, c.cancel)
            timer.start()
            began = time.monotonic()
            with pytest.raises(psycopg2.errors.QueryCanceled):
                rows(c, "UPDATE items SET n = 1 WHERE id = 1")
            assert time.monotonic() - began < 5
            t.terminate()
        finally:
            small_fleet.start(0)


def test_a_session_is_told_once_of_the_writes_that_a_failover_lost(own_fleet, raw):
    with Tidemark(own_fleet, failover_timeout="15s", scope="connection", **QUICK) as t:
        a, b, kept = raw(t, options="-c tidemark.report=on"), raw(t), raw(t)
        kept.query("UPDATE items SET n = 1 WHERE id = 43")
        own_fleet.sync()
        # The standbys hear no more of the primary; it goes on for a while.
        for i in (1, 2):
            own_fleet.servers[i].sql("ALTER SYSTEM SET primary_conninfo = ''")
            own_fleet.servers[i].sql("SELECT pg_reload_conf()")
        wait_until(lambda: own_fleet.primary.value("SELECT count(*) FROM pg_stat_replication") == 0, 10, "the standbys to leave")
        a.query("UPDATE items SET n = 100 WHERE id = 41")
        b.query("UPDATE items SET n = 100 WHERE id = 42")
        own_fleet.stop(0, "immediate")
        own_fleet.promote(1)
        wait_until(lambda: t.show("FLEET")[1].get("history") == "known", 10, "the history of timeline 2")

        def notices(c, sql):
            got = c.query(sql)
            assert not [m for m in got if m.kind == "E"], got
            return [m for m in got if m.kind == "N"]

        told = notices(a, "SELECT n FROM items WHERE id = 41")
        assert len(told) == 1 and b"may have been lost" in told[0].body and b"01000" in told[0].body
        assert a.parameters["tidemark.lost"] == "on"
        assert notices(a, "SELECT n FROM items WHERE id = 41") == [] and a.parameters["tidemark.lost"] == "off"
        assert len(notices(b, "UPDATE items SET n = n + 1 WHERE id = 42")) == 1
        assert notices(b, "SELECT n FROM items WHERE id = 42") == []
        assert notices(kept, "SELECT n FROM items WHERE id = 43") == [], "what survived is called lost"
        assert t.routing()["sessions_lost"] == 2
        assert "may be lost" in t.log_text() and "timeline 1" in t.log_text()


def test_a_login_waits_for_the_primary_too(small_fleet, need_router):
    """Of a user whom nobody has logged in as: what to say at login has to be learnt from a server."""
    with Tidemark(small_fleet, failover_timeout="15s", **{**QUICK, "server_login_retry": "200ms"}) as t:
        small_fleet.stop(0, "immediate")
        got = []

        def connect():
            began = time.monotonic()
            c = t.connect(options="-c work_mem=4321kB")
            got.append((value(c, "SHOW work_mem"), time.monotonic() - began))

        thread = threading.Thread(target=connect)
        try:
            time.sleep(0.3)
            thread.start()
            time.sleep(1.5)
        finally:
            small_fleet.start(0)
            thread.join()
        assert got and got[0][0] == "4321kB" and 1 < got[0][1] < 10, got


def _processes(pid):
    """The process and its children."""
    found = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as f:
            found += map(int, f.read().split())
    return found


def test_a_statement_on_an_old_primary_that_hangs_is_ended_when_there_is_another(own_fleet, need_router):
    with Tidemark(own_fleet, failover_timeout="15s", **QUICK) as t:
        c = t.connect()
        ended = []

        def statement():
            try:
                rows(c, "UPDATE items SET n = 1 WHERE id = 44; SELECT pg_sleep(120)")
            except psycopg2.Error as e:
                ended.append((time.monotonic(), str(e)))

        thread = threading.Thread(target=statement)
        thread.start()
        time.sleep(0.5)
        hanging = _processes(own_fleet.primary.process.pid)
        for pid in hanging:
            os.kill(pid, signal.SIGSTOP)
        try:
            own_fleet.promote(1)
            promoted = time.monotonic()
            thread.join(10)
            assert ended and ended[0][0] - promoted < 5, "the statement hangs with its server"
            rows(t.connect(), "UPDATE items SET n = 2 WHERE id = 44")
        finally:
            for pid in hanging:
                os.kill(pid, signal.SIGKILL)


def _row(t, name):
    return next(r for r in t.show("FLEET") if r["name"] == name)


def test_an_old_primary_that_goes_on_is_fenced_and_the_newest_is_elected(own_fleet, need_router):
    """A standby is promoted beside a primary that still runs. What was under way on the old one is ended, what
    comes goes to the new one, and a replica that stayed with the old one has diverged."""
    with Tidemark(own_fleet, failover_timeout="15s", http=True, **QUICK) as t:
        w = Writers(t)
        time.sleep(0.5)
        inside = t.connect()
        inside.autocommit = False
        rows(inside, "UPDATE items SET n = -1 WHERE id = 50")
        own_fleet.sync()
        own_fleet.promote(1)
        wait_until(lambda: _row(t, "primary")["state"] == "fenced", 5, "the old primary to be fenced")
        with pytest.raises(psycopg2.OperationalError) as e:
            inside.commit()
        assert "server" in str(e.value)
        wait_until(lambda: _row(t, "replica1")["role"] == "primary" and _row(t, "replica1")["state"] == "up", 5,
                   "the promoted server to be elected while the old one runs")
        before, own_fleet_n = list(w.done), own_fleet.servers[1].value("SELECT sum(n) FROM items")
        wait_until(lambda: all(a > b for a, b in zip(w.done, before)), 20, "all clients to write on the new primary")
        assert own_fleet.servers[1].value("SELECT sum(n) FROM items") > own_fleet_n
        # Nothing more comes to the old one, and its connections are gone.
        assert own_fleet.primary.value("SELECT count(*) FROM pg_stat_activity WHERE application_name NOT LIKE 'tidemark%' "
                                       "AND client_port IS NOT NULL AND pid <> pg_backend_pid() "
                                       "AND backend_type = 'client backend'") == 0
        # The other standby still follows the old primary, beyond the fork.
        own_fleet.primary.sql("UPDATE items SET n = 0 WHERE id = 51; SELECT pg_switch_wal()")
        wait_until(lambda: _row(t, "replica2")["state"] == "diverged", 20, lambda: f"{t.show('FLEET')}")
        w.end()
        assert _row(t, "replica2")["branch"] == "diverged"
        assert t.log_text().count("node=replica2 has diverged") == 1
        assert t.log_text().count("node=primary says that it is primary, on timeline 1, and is fenced") == 1
        # Writes that the old primary took between the promotion and the fence are lost, and reads without them are
        # not stale; later ones are judged by their own last value.
        assert 'tidemark_replica_diverged{node="replica2"} 1' in t.http("/metrics")[1]
        assert 'tidemark_node_fenced{node="primary"} 1' in t.http("/metrics")[1]
        # The one that was left comes back when the new one is away: it is not taken for the primary.
        own_fleet.stop(1, "immediate")
        wait_until(lambda: _row(t, "replica1")["state"] == "down", 5, "the loss")
        time.sleep(0.5)
        assert _row(t, "primary")["state"] == "fenced"


def test_standbys_promoted_independently_are_none_and_one_that_is_demoted_without_rewinding_has_diverged(own_fleet, need_router):
    """Both begin timeline 2. The number is the same and the fork is not."""
    one, two = own_fleet.servers[1:]
    with Tidemark(own_fleet, failover_timeout="1s", **QUICK) as t:
        rows(t.connect(), "UPDATE items SET n = 1 WHERE id = 60")
        own_fleet.sync()
        one.sql("ALTER SYSTEM SET primary_conninfo = ''")
        one.sql("SELECT pg_reload_conf()")
        wait_until(lambda: own_fleet.primary.value("SELECT count(*) FROM pg_stat_replication") == 1, 10, "one to leave")
        own_fleet.primary.sql("UPDATE items SET n = 2 WHERE id = 60")
        want = own_fleet.primary.value("SELECT pg_current_wal_flush_lsn()")
        wait_until(lambda: two.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", want), 10, "two to replay it")
        own_fleet.stop(0, "immediate")
        own_fleet.promote(1)
        own_fleet.promote(2)
        wait_until(lambda: [_row(t, n)["state"] for n in ("replica1", "replica2")] == ["fenced", "fenced"], 10,
                   lambda: f"two primaries on timeline 2 to be none: {t.show('FLEET')}")
        with pytest.raises(psycopg2.OperationalError):
            rows(t.connect(), "UPDATE items SET n = 3 WHERE id = 60")

        two.stop("fast")
        with open(os.path.join(two.dir, "standby.signal"), "w"):
            pass
        with open(os.path.join(two.dir, "postgresql.auto.conf"), "a") as f:
            f.write(f"primary_conninfo = 'host={harness.HOST} port={one.port} user=postgres'\n")
        two.start()
        wait_until(lambda: _row(t, "replica1")["state"] == "up", 10, "the other one to be the primary")
        wait_until(lambda: _row(t, "replica2")["state"] == "diverged", 10, lambda: f"{t.show('FLEET')}")
        assert _row(t, "replica1")["timeline"] == _row(t, "replica2")["timeline"] == "2"
        c = t.connect(options="-c tidemark.consistency=eventual")
        assert [where(c) for _ in range(5)] == ["replica1"] * 5 and value(c, "SELECT n FROM items WHERE id = 60") == 1

        # Rebuilt behind the same address, it starts from nothing.
        two.stop("fast")
        shutil.rmtree(two.dir)
        own_fleet._run(os.path.join(harness.PG_BIN, "pg_basebackup"), "-D", two.dir, "-R", "-X", "stream", "-c", "fast",
                       "-d", f"host={harness.HOST} port={one.port} user=postgres")
        with open(os.path.join(two.dir, "postgresql.auto.conf"), "a") as f:
            f.write("node.name = 'replica2'\n")
        two.start()
        wait_until(lambda: where(c) == "replica2", 15, lambda: f"the rebuilt standby to serve: {t.show('FLEET')}")
        assert _row(t, "replica2")["branch"] == "same" and int(_row(t, "replica2")["epoch"]) >= 2
