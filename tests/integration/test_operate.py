# SPDX-License-Identifier: PostgreSQL
"""PAUSE and its kin at the console, with PgBouncer's meanings."""

import subprocess
import threading
import time

import psycopg2
import pytest

from harness import HOST, rows, value, wait_until



def console(t, user="postgres"):
    c = psycopg2.connect(host=HOST, port=t.port, dbname="pgbouncer", user=user)
    c.autocommit = True
    return c


def say(c, text):
    with c.cursor() as cur:
        cur.execute(text)
        return cur.statusmessage


def refused(c, text):
    with pytest.raises(psycopg2.Error) as e:
        say(c, text)
    return e.value.pgcode


def in_background(fn):
    out = []

    def run():
        try:
            out.append(fn())
        except Exception as e:  # what it was is the test's business
            out.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, out


def test_pause_under_load_loses_nothing(router, fleet):
    t = router()
    admin = console(t)
    fleet.primary.sql("CREATE TABLE IF NOT EXISTS pause_log (n int)")
    fleet.primary.sql("TRUNCATE pause_log")
    fleet.primary.sql("GRANT ALL ON pause_log TO app")
    script = t.path("script.sql")
    t.write("script.sql", "BEGIN;\nINSERT INTO pause_log VALUES (1);\nSELECT 1;\nCOMMIT;\n")
    load = subprocess.Popen(["pgbench", "-n", "-h", HOST, "-p", str(t.port), "-U", "app", "-c", "6", "-t", "150", "-f", script,
                             "-M", "extended", "app"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for _ in range(3):
        time.sleep(0.2)
        assert say(admin, "PAUSE app") == "PAUSE"
        assert not [r for r in t.show("SERVERS") if r["database"] == "app"]
        assert refused(admin, "PAUSE app") == "55000"
        time.sleep(0.3)
        assert say(admin, "RESUME app") == "RESUME"
    out, _ = load.communicate(timeout=50)
    assert load.returncode == 0, out
    assert fleet.primary.value("SELECT count(*) FROM pause_log") == 6 * 150


def test_pause_waits_for_transactions_and_can_be_taken_back(router):
    t = router()
    admin, second = console(t), console(t)
    c = t.connect()
    rows(c, "BEGIN")
    rows(c, "SELECT 1")
    thread, got = in_background(lambda: say(admin, "PAUSE"))
    wait_until(lambda: "yes" in [r["value"] for r in t.show("STATE") if r["key"] == "paused"], 5, "the pause")
    thread.join(0.5)
    assert not got
    assert say(second, "RESUME") == "RESUME"
    thread.join(5)
    assert got and got[0].pgcode == "57014"
    rows(c, "COMMIT")
    assert refused(second, "RESUME") == "55000"
    assert say(admin, "PAUSE") == "PAUSE"
    assert say(admin, "RESUME") == "RESUME"
    assert value(c, "SELECT 1") == 1


def test_who_is_held_waits_no_longer_than_query_wait_timeout(router):
    t = router(query_wait_timeout="1s")
    admin, c = console(t), t.connect()
    say(admin, "PAUSE app")
    started = time.monotonic()
    with pytest.raises(psycopg2.Error) as e:
        rows(c, "SELECT 1")
    assert e.value.pgcode == "53300" and 0.9 < time.monotonic() - started < 4
    thread, got = in_background(lambda: value(c, "SELECT 2"))
    wait_until(lambda: t.show("POOLS")[0]["cl_waiting"] == "1", 1, "SHOW POOLS to count who is held")
    say(admin, "RESUME app")
    thread.join(5)
    assert got == [2]


def test_kill_disable_and_kill_client(router):
    t = router()
    admin, c, d = console(t), t.connect(), t.connect()
    me = [r for r in t.show("CLIENTS") if r["user"] == "app"]
    assert refused(admin, "KILL_CLIENT x") == "42601" and refused(admin, "KILL_CLIENT 999999") == "42704"
    assert say(admin, "KILL_CLIENT " + me[0]["ptr"]) == "KILL_CLIENT"
    wait_until(lambda: len([r for r in t.show("CLIENTS") if r["user"] == "app"]) == len(me) - 1, 5, "one to be gone")
    assert say(admin, "DISABLE app") == "DISABLE"
    with pytest.raises(psycopg2.OperationalError) as e:
        t.connect()
    assert "disabled" in str(e.value)
    assert say(admin, "ENABLE app") == "ENABLE"
    e = t.connect()
    rows(e, "BEGIN")
    assert say(admin, "KILL app") == "KILL"
    for x in (d, e):
        with pytest.raises(psycopg2.Error):
            rows(x, "SELECT 1")
    assert not [r for r in t.show("SERVERS") if r["database"] == "app"]
    say(admin, "RESUME app")
    assert value(t.connect(), "SELECT 1") == 1
    assert refused(admin, "SUSPEND") == "0A000"


def test_reconnect_and_wait_close(router):
    t = router()
    admin, c = console(t), t.connect()
    rows(c, "BEGIN")
    before = value(c, "SELECT pg_backend_pid()")
    assert say(admin, "RECONNECT app") == "RECONNECT"
    thread, got = in_background(lambda: say(admin, "WAIT_CLOSE app"))
    thread.join(0.5)
    assert not got
    rows(c, "COMMIT")
    thread.join(5)
    assert got == ["WAIT_CLOSE"]
    rows(c, "BEGIN")
    assert value(c, "SELECT pg_backend_pid()") != before
    rows(c, "ROLLBACK")


def test_set_changes_what_may_be_changed(router):
    t = router()
    admin = console(t)
    assert say(admin, "SET default_pool_size = 7") == "SET"
    assert {r["key"]: r["value"] for r in t.show("CONFIG")}["default_pool_size"] == "7"
    for text in ("SET listen_port = 1", "SET auth_type = trust", "SET no_such = 1", "SET default_pool_size = 0"):
        assert refused(admin, text) == "22023"
    assert refused(admin, "SET x") == "42601"
    assert say(admin, "SET client_encoding TO 'UTF8'") == "SET"


def test_shutdown_waits_for_clients(router):
    t = router()
    admin, c = console(t), t.connect()
    rows(c, "BEGIN")
    assert say(admin, "SHUTDOWN WAIT_FOR_CLIENTS") == "SHUTDOWN"
    with pytest.raises(psycopg2.OperationalError):
        t.connect()
    rows(c, "COMMIT")
    assert value(c, "SELECT 1") == 1
    assert t.alive()
    c.close()
    assert t.process.wait(10) == 0


def test_shutdown_alone_ends_at_once(router):
    t = router()
    admin, c = console(t), t.connect()
    rows(c, "BEGIN")
    try:
        say(admin, "SHUTDOWN")
    except psycopg2.Error:
        pass
    assert t.process.wait(10) == 0
