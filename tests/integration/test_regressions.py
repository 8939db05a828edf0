# SPDX-License-Identifier: PostgreSQL
"""Faults that were found once, each with the shortest way to it."""

import os
import signal
import threading
import time

import pytest

import harness
import rawpg
from harness import rows, value
from rawpg import bind, describe, errors, execute, flush, kinds, parse, query, sync
from test_routing import paused


@pytest.fixture
def single(router):
    """A router with one server connection a node, so that the next client gets what the last one left."""
    return router(default_pool_size=1)


def ext(text, name="", portal=""):
    """Parse, Bind and Execute of a text."""
    return parse(name, text) + bind(portal, name) + execute(portal)


def setting_of_the_next_client(t, name):
    c = t.connect()
    try:
        return value(c, f"SELECT setting('{name}') FROM (SELECT 1 FOR UPDATE) a")
    finally:
        c.close()


# ---- what one client leaves to the next ----

def test_a_batch_without_sync_dies_with_its_client(single, raw, fleet):
    c = raw(single)
    c.send(ext("INSERT INTO scratch VALUES (901, 'never committed')") + flush())
    c.recv_until("C")
    c.close()
    time.sleep(0.2)
    d = single.connect()
    rows(d, "UPDATE items SET n = n WHERE id = 1")
    assert fleet.primary.sql("SELECT * FROM scratch WHERE id = 901") == []


LEAKS = {
    "set committed by a chained transaction, the next one rolled back":
        lambda c: [c.query("BEGIN"), c.query("SET my.leak = 'x'"), c.query("COMMIT AND CHAIN"), c.query("ROLLBACK")],
    "rollback and set in one batch":
        lambda c: [c.query("BEGIN"), c.send(ext("ROLLBACK") + ext("SET my.leak = 'x'") + sync()).until_ready()],
    "set and commit in one batch that fails behind it":
        lambda c: [c.send(ext("SET my.leak = 'x'") + ext("COMMIT") + ext("SELECT 1/0") + sync()).until_ready()],
    "set behind a savepoint rolled back, in a prepared transaction":
        lambda c: [c.query("BEGIN"), c.query("SAVEPOINT a"), c.query("ROLLBACK TO a"), c.query("SET my.leak = 'x'"),
                   c.query("PREPARE TRANSACTION 'leak'"), c.query("ROLLBACK PREPARED 'leak'")],
    "set in a long text that comes in pieces":
        lambda c: [c.query("SET my.leak = 'x'; SELECT 1 /* " + "y" * 200000 + " */")],
}


@pytest.mark.parametrize("name", LEAKS)
def test_settings_do_not_leak(single, raw, name):
    c = raw(single)
    LEAKS[name](c)
    c.close()
    time.sleep(0.1)
    assert setting_of_the_next_client(single, "my.leak") in (None, "")


def test_settings_named_like_those_of_a_transaction_do_not_leak(single, raw):
    c = raw(single)
    c.query("SET transaction_my.leak = 'x'")
    c.close()
    time.sleep(0.1)
    assert setting_of_the_next_client(single, "transaction_my.leak") in (None, "")


def test_a_set_rolled_back_to_a_savepoint_is_not_remembered(single, raw):
    c, d = raw(single), raw(single)
    for text in ("BEGIN", "SET my.kept = '1'", "SAVEPOINT a", "SET my.kept = '2'", "ROLLBACK TO a", "COMMIT"):
        c.query(text)
    assert c.query_rows("SELECT setting('my.kept') FROM (SELECT 1 FOR UPDATE) a") == [["1"]]
    c.close()
    d.query("SET my.kept = '2'")
    assert d.query_rows("SELECT setting('my.kept') FROM (SELECT 1 FOR UPDATE) a") == [["2"]]


def test_a_set_rolled_back_with_its_chained_transaction_is_not_remembered(single, raw):
    c = raw(single)
    for text in ("BEGIN", "SET my.gone = 'x'", "ROLLBACK AND CHAIN", "COMMIT"):
        c.query(text)
    assert c.query_rows("SELECT setting('my.gone') FROM (SELECT 1 FOR UPDATE) a") in ([[None]], [[""]])


def test_a_comment_behind_a_set_hides_no_other(single):
    c = single.connect()
    rows(c, "SET my.a = '1' -- the first")
    rows(c, "SET my.b = '2'")
    setting_of_the_next_client(single, "my.b")
    assert value(c, "SELECT setting('my.b') FROM (SELECT 1 FOR UPDATE) a") == "2"


def test_serializable_by_default_harms_nobody_else(single):
    c, d = single.connect(), single.connect()
    rows(c, "SET default_transaction_isolation = 'serializable'")
    for _ in range(3):
        assert value(c, "SELECT count(*) FROM items") == 100
        assert value(d, "SELECT count(*) FROM items") == 100


# ---- batches in pieces ----

def test_a_batch_in_two_segments_behind_a_set_is_answered(tm, raw):
    c = raw(tm, timeout=4)
    c.query("BEGIN")
    c.query("SET LOCAL my.a = '1'")
    c.query("SET my.a = '2'")
    c.send(ext("SELECT 1"))
    time.sleep(0.15)
    c.send(ext("SELECT 2") + sync())
    assert kinds(c.until_ready()) == "12DC12DCZ"


def test_a_set_in_the_second_segment_of_a_batch_is_answered(tm, raw):
    c = raw(tm, timeout=4)
    c.query("BEGIN")
    c.send(ext("SELECT 1"))
    time.sleep(0.15)
    c.send(ext("SET my.a = '2'") + sync())
    assert kinds(c.until_ready()) == "12DC12CZ"


def test_copy_bound_in_one_piece_and_executed_in_the_next(target, raw, fleet):
    fleet.primary.sql("DELETE FROM scratch")
    c = raw(target)
    c.send(parse("", "COPY scratch FROM STDIN") + bind() + flush())
    c.recv_until("2")
    c.send(execute() + sync())
    c.recv_until("G")
    c.send(rawpg.copy_data(b"1\ta\n"), rawpg.copy_done(), sync())
    assert kinds(c.until_ready()) == "CZ"
    assert fleet.primary.sql("SELECT v FROM scratch") == [("a",)]


def test_a_long_message_waits_for_a_server_that_does_not_read(target, raw, fleet):
    fleet.primary.sql("DELETE FROM scratch")
    c = raw(target)
    c.query("BEGIN")
    c.query("INSERT INTO scratch VALUES (1, 'x')")
    c.query("SAVEPOINT a")
    pid = int(c.query_rows("SELECT pg_backend_pid()")[0][0])
    os.kill(pid, signal.SIGSTOP)
    try:
        big = bytes(12 * 1024 * 1024).replace(b"\0", b"z")
        sender = threading.Thread(target=lambda: c.send(
            parse("", "INSERT INTO scratch VALUES (2, $1)") + bind("", "", [big]) + execute() + sync()))
        sender.start()
        time.sleep(0.7)
    finally:
        os.kill(pid, signal.SIGCONT)
    sender.join(10)
    assert kinds(c.until_ready()) == "12CZ"
    c.query("COMMIT")
    assert fleet.primary.value("SELECT length(v) FROM scratch WHERE id = 2") == len(big)


# ---- prepared statements ----

def test_a_statement_that_was_to_be_evicted_in_a_failed_batch(router, raw):
    t = router(default_pool_size=1, max_prepared_statements=1)
    c = raw(t)
    c.send(parse("a", "SELECT 1 FOR UPDATE") + sync()).until_ready()
    c.send(parse("", "SELECT 1/0 FOR UPDATE") + bind() + execute() + parse("b", "SELECT 2 FOR UPDATE") + sync()).until_ready()
    for _ in range(2):
        m = c.send(bind("", "a") + execute() + sync()).until_ready()
        assert errors(m) == [], m


def test_a_statement_whose_read_was_run_again(router, raw, fleet):
    fleet.primary.sql("CREATE OR REPLACE FUNCTION once_refused() RETURNS int STABLE LANGUAGE plpgsql AS $$ BEGIN "
                      "IF setting('node.name') <> 'primary' AND setting('my.fail') = 'on' "
                      "THEN RAISE 'conflict' USING ERRCODE = '40001'; END IF; RETURN 1; END $$")
    fleet.sync()
    t = router(default_pool_size=1, replicas=fleet.standbys[:1])
    c = raw(t)
    c.query("SET my.fail = 'on'")
    m = c.send(ext("SELECT once_refused()", "s") + sync()).until_ready()
    assert errors(m) == [], m
    c.query("SET my.fail = 'off'")
    for _ in range(3):
        m = c.send(bind("", "s") + execute() + sync()).until_ready()
        assert errors(m) == [], m
        time.sleep(0.1)


def test_an_unnamed_statement_closed_in_the_batch_that_is_run_again(router, raw, fleet):
    fleet.primary.sql("CREATE OR REPLACE FUNCTION hidden_write() RETURNS int STABLE LANGUAGE plpgsql AS $$ BEGIN "
                      "UPDATE items SET n = n WHERE id = 3; RETURN 1; END $$")
    fleet.sync()
    t = router(default_pool_size=1)
    c = raw(t)
    c.send(parse("", "SELECT hidden_write() AS x") + sync()).until_ready()
    m = c.send(bind() + execute() + rawpg.close("S") + sync()).until_ready()
    assert kinds(m)[-1] == "Z"


@pytest.mark.parametrize("text", ["DISCARD ALL", "DEALLOCATE ALL"])
def test_a_statement_prepared_right_behind_a_discard(target, raw, text):
    c = raw(target)
    c.send(parse("a", "SELECT 1 FOR UPDATE") + sync()).until_ready()
    c.send(query(text) + parse("a", "SELECT 1 FOR UPDATE") + sync())
    assert errors(c.until_ready() + c.until_ready()) == []
    assert kinds(c.send(bind("", "a") + execute() + sync()).until_ready()) == "2DCZ"


# ---- sessions and marks ----

def test_a_session_left_in_a_transaction(router):
    t = router(scope="connection", max_sessions=16)
    c, d = t.connect(), t.connect()
    rows(c, "SET tidemark.session = 'one'")
    rows(c, "BEGIN; UPDATE items SET n = n WHERE id = 1")
    rows(c, "RESET tidemark.session")
    for i in range(40):
        rows(d, f"SET tidemark.session = 'other {i}'")
    rows(c, "COMMIT")
    assert value(d, "SELECT count(*) FROM items") == 100


def test_a_write_is_of_both_sessions_when_one_is_left_for_the_other_in_its_transaction(router, fleet):
    t = router(scope="connection")
    c, d = t.connect(), t.connect()
    rows(c, "SET tidemark.session = 'a'")
    rows(d, "SET tidemark.session = 'a'")
    # An apply delay holds back commits only: what preceded this one is soon replayed.
    for i in (1, 2):
        fleet.set_delay(i, 2000)
    stamp = str(time.time())
    rows(c, f"BEGIN; UPDATE items SET v = '{stamp}' WHERE id = 11")
    fleet.primary.sql("SELECT pg_create_restore_point('flush')", dbname="postgres")
    harness.wait_until(lambda: harness.where(d) != "primary", 4, "the replicas to replay what precedes the commit")
    rows(c, "SET tidemark.session = 'b'")
    rows(c, "COMMIT")
    assert value(d, "SELECT v FROM items WHERE id = 11") == stamp


def test_a_session_left_in_a_transaction_does_not_take_its_write_along(router, fleet):
    t = router(scope="connection")
    c = t.connect()
    value(c, "SELECT 1")
    rows(c, "SET tidemark.session = 'left'")
    stamp = str(time.time())
    with paused(fleet, 1, 2):
        rows(c, "BEGIN")
        rows(c, "RESET tidemark.session")
        rows(c, f"UPDATE items SET v = '{stamp}' WHERE id = 17")
        rows(c, "COMMIT")
        assert value(c, "SELECT v FROM items WHERE id = 17") == stamp


def test_tags_of_pipelined_statements_name_their_own_sessions(router, fleet, raw):
    t = router(scope="connection")
    d, e = t.connect(), t.connect()
    rows(d, "SET tidemark.session = 'pa'")
    rows(e, "SET tidemark.session = 'pb'")
    c = raw(t)
    stamp = str(time.time())
    value(d, "SELECT 1"), value(e, "SELECT 1")
    with paused(fleet, 1, 2):
        c.send(query(f"/*tidemark_session='pa'*/ UPDATE items SET v = '{stamp}' WHERE id = 12") +
               query(f"/*tidemark_session='pb'*/ UPDATE items SET v = '{stamp}' WHERE id = 13"))
        c.until_ready(), c.until_ready()
        assert value(d, "SELECT v FROM items WHERE id = 12") == stamp
        assert value(e, "SELECT v FROM items WHERE id = 13") == stamp


def test_a_bound_connection_heeds_tags(router, fleet, raw):
    t = router(scope="connection")
    d = t.connect()
    rows(d, "SET tidemark.session = 'bound'")
    c = t.connect()
    rows(c, "LISTEN something")
    value(d, "SELECT 1")
    stamp = str(time.time())
    with paused(fleet, 1, 2):
        rows(c, f"/*tidemark_session='bound'*/ UPDATE items SET v = '{stamp}' WHERE id = 14")
        assert value(d, "SELECT v FROM items WHERE id = 14") == stamp


def test_router_settings_among_others_count_in_a_transaction(router, fleet):
    t = router(scope="connection")
    c, d = t.connect(), t.connect()
    rows(d, "SET tidemark.session = 'inside'")
    value(d, "SELECT 1")
    stamp = str(time.time())
    with paused(fleet, 1, 2):
        rows(c, "BEGIN")
        rows(c, f"SET tidemark.session = 'inside'; UPDATE items SET v = '{stamp}' WHERE id = 15")
        rows(c, "COMMIT")
        assert value(d, "SELECT v FROM items WHERE id = 15") == stamp


def test_a_token_given_while_something_is_owed_can_be_reached(router, raw):
    t = router(scope="connection")
    c = raw(t)
    c.query("SET tidemark.report = on")
    c.query("/*tidemark_consistency='strong'*/ SELECT 1")
    token = c.parameters["tidemark.token"]
    d = t.connect()
    rows(d, f"SET tidemark.read_after = '{token}'")

    def on_replica():
        return harness.where(d) != "primary"

    harness.wait_until(on_replica, 3, lambda: f"a replica to reach {token}: {value(d, 'SHOW tidemark.route')}")


# ---- those who leave ----

def test_the_query_of_a_client_that_left_is_cancelled(tm, raw, fleet):
    c = raw(tm)
    c.send(query("SELECT pg_sleep(20), 'left behind'"))
    running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%%left behind%%' " \
              "AND pid <> pg_backend_pid()"

    def count():
        return sum(s.value(running) for s in fleet.servers)

    harness.wait_until(lambda: count() == 1, 3, "the query to run")
    c.close()
    harness.wait_until(lambda: count() == 0, 3, "the query to be cancelled")


def test_scope_changed_by_reload_forgets_no_write(fleet, need_router):
    def config(scope):
        servers = "".join(f"{s.name} = {s.conninfo()}\n" for s in fleet.servers)
        return f"[tidemark]\nlisten_addr = 127.0.0.1\nlisten_port = {{port}}\nadmin_users = postgres\n" \
               f"scope = {scope}\n[nodes]\n{servers}[databases]\n* =\n"

    with harness.Tidemark(fleet, config=config("connection")) as t:
        for scope in ("database", "connection", "database"):
            c, d = t.connect(), t.connect()
            for x in (c, d, c, d):
                value(x, "SELECT 1")
            t.write("tidemark.ini", config(scope))
            reloads = t.log_text().count("reloaded")
            t.reload()
            harness.wait_until(lambda: t.log_text().count("reloaded") > reloads, 5, "the reload")
            e = t.connect()
            value(e, "SELECT 1")
            stamp = str(time.time())
            with paused(fleet, 1, 2):
                rows(c, f"UPDATE items SET v = '{stamp}' WHERE id = 16")
                for reader in (c, d, e) if scope == "database" else (c,):
                    assert value(reader, "SELECT v FROM items WHERE id = 16") == stamp


@pytest.mark.parametrize("text", ["RESET datestyle", "RESET ALL", "DISCARD ALL"])
def test_parameters_told_after_a_reset_are_those_in_use(target, raw, text):
    c = raw(target, datestyle="German")
    assert c.parameters["DateStyle"] == "German, DMY"
    c.query("SET datestyle = 'SQL, MDY'")
    c.query(text)
    assert c.query_rows("SELECT date '2020-12-31' FROM (SELECT 1 FOR UPDATE) a") == [["31.12.2020"]]
    assert c.parameters["DateStyle"] == "German, DMY"


def test_what_a_function_left_behind_goes_even_if_the_next_client_cannot_be_served(single, raw, fleet):
    fleet.primary.sql("CREATE OR REPLACE FUNCTION leave_setting() RETURNS int LANGUAGE plpgsql AS $$ BEGIN "
                      "PERFORM set_config('my.left', 'x', false); RETURN 1; END $$")
    c = raw(single)
    c.query("SELECT leave_setting()")
    c.close()
    with pytest.raises(rawpg.ServerError):
        raw(single, work_mem="nonsense")
    assert setting_of_the_next_client(single, "my.left") in (None, "")


# ---- memory ----

@pytest.mark.parametrize("name, size, bound", [("my.other{i}", 50000, True), ("my.other{i}", 10, True),
                                               ("my.same", 10, False)])
def test_the_settings_of_a_transaction_are_remembered_within_limits(single, name, size, bound):
    """Each SET of an open transaction was kept until its end, and walked past by the next one."""
    before = single.resident_kb()
    c = single.connect(autocommit=False)
    rows(c, "RESET work_mem")
    for i in range(300):
        rows(c, f"SET {name.format(i=i)} = '{i % 10}{'x' * size}'")
    rows(c, "SET work_mem = '7MB'")
    grown = single.resident_kb() - before
    c.commit()
    assert value(c, "SHOW work_mem") == "7MB" and value(c, f"SHOW {name.format(i=299)}")[0] == "9"
    assert [r["bound"] != "" for r in single.show("CLIENTS") if r["database"] == "app"] == [bound]
    c.close()
    other = single.connect()
    assert value(other, "SHOW work_mem") == "4MB"
    assert grown < 8000 or single.is_sanitized(), f"{grown} kB for settings that are not decided"
