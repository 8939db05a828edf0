# SPDX-License-Identifier: PostgreSQL
"""Many clients on few servers: no state is lost, none leaks, and every limit has an answer."""

import socket
import threading
import time

import psycopg2
import pytest

import harness
import rawpg
from harness import HOST, rows, value, wait_until, where

STRONG = "-c tidemark.consistency=strong"


@pytest.fixture
def single(router):
    """A router with one server connection for each pool."""
    return router(default_pool_size=1, query_wait_timeout="5s")


def in_threads(functions, timeout=60):
    """Runs all at once; the first error is raised."""
    failures = []

    def guard(fn):
        try:
            fn()
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=guard, args=(f,), daemon=True) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join(timeout)
        assert not t.is_alive(), "a client hangs"
    if failures:
        raise failures[0]


# ---- many on few ----

def test_many_clients_share_few_servers(router, fleet):
    t = router(default_pool_size=3)
    conns = [t.connect(user="pooluser", autocommit=i % 2 == 0) for i in range(40)]

    def work(i):
        c = conns[i]
        for n in range(15):
            rows(c, "SELECT count(*) FROM items WHERE id = %s", i + 1)
            if n % 3 == 0:
                rows(c, "UPDATE items SET v = v WHERE id = %s", i + 1)
            if not c.autocommit:
                c.commit()

    in_threads([lambda i=i: work(i) for i in range(40)])
    for s in fleet.servers:
        n = s.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'pooluser'")
        assert n <= 3, f"{s.name} has {n} connections of a pool of 3"


def test_server_connections_do_not_pile_up(router, fleet):
    t = router(default_pool_size=4, server_idle_timeout="1s")

    def count():
        return sum(s.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'pooluser'") for s in fleet.servers)

    for i in range(60):
        c = t.connect(user="pooluser", options=f"-c work_mem={64 + i}kB")
        value(c, "SELECT 1")
        if i % 3 == 0:
            rows(c, "BEGIN; UPDATE items SET v = v WHERE id = 1")
        if i % 7 == 0:
            # Gone without a word.
            socket.socket(fileno=c.fileno()).shutdown(2)
        c.close()
    assert count() <= 4 * len(fleet.servers)
    wait_until(lambda: count() == 0, 8, "idle server connections to be closed")


def test_pools_use_the_same_connection_again(single, fleet):
    c = single.connect(options=STRONG)
    pids = set()
    for _ in range(10):
        pids.add(value(c, "SELECT pg_backend_pid()"))
    d = single.connect(options=STRONG)
    pids.add(value(d, "SELECT pg_backend_pid()"))
    assert len(pids) == 1


# ---- what a session sets, it keeps ----

def test_set_follows_the_client_over_pooled_connections(single):
    """Three clients with settings of their own take turns on one server connection, and on replicas."""
    conns = []
    for i in range(3):
        c = single.connect()
        rows(c, f"SET work_mem = '{i + 2}MB'")
        rows(c, f"SET search_path = schema{i}, public")
        rows(c, f"SET my.tenant = 'tenant {i}'")
        conns.append(c)
    for _ in range(4):
        for i, c in enumerate(conns):
            for level in ("strong", "session"):
                rows(c, f"SET tidemark.consistency = {level}")
                got = rows(c, "SELECT public.setting('work_mem'), public.setting('search_path'), "
                              "public.setting('my.tenant')")[0]
                assert got == (f"{i + 2}MB", f"schema{i}, public", f"tenant {i}")
                assert value(c, "SHOW work_mem") == f"{i + 2}MB"


def test_set_in_a_transaction_counts_only_if_committed(single):
    c, other = single.connect(), single.connect()

    def disturb():
        rows(other, "SET work_mem = '99MB'")
        assert value(other, "SELECT public.setting('work_mem')") == "99MB"

    for text in ("BEGIN", "SET work_mem = '3MB'", "ROLLBACK"):
        rows(c, text)
    disturb()
    assert value(c, "SHOW work_mem") == "4MB"
    rows(c, "BEGIN")
    rows(c, "SET work_mem = '5MB'")
    assert value(c, "SHOW work_mem") == "5MB"
    rows(c, "COMMIT")
    disturb()
    assert value(c, "SHOW work_mem") == "5MB"
    rows(c, "BEGIN")
    rows(c, "SET LOCAL work_mem = '6MB'")
    assert value(c, "SHOW work_mem") == "6MB"
    rows(c, "COMMIT")
    disturb()
    assert value(c, "SHOW work_mem") == "5MB"
    rows(c, "BEGIN")
    rows(c, "SET work_mem = '7MB'")
    with pytest.raises(psycopg2.Error):
        rows(c, "SELECT 1/0")
    rows(c, "COMMIT")  # rolls back
    disturb()
    assert value(c, "SHOW work_mem") == "5MB"
    rows(c, "RESET work_mem")
    disturb()
    assert value(c, "SHOW work_mem") == "4MB"


def test_set_in_ways_that_are_hard_to_follow_is_right_all_the_same(router):
    """Here the router may keep the client on its connection."""
    t = router(default_pool_size=2, query_wait_timeout="5s")
    c, other = t.connect(), t.connect()
    for text, want in (("BEGIN; SET work_mem = '3MB'; ROLLBACK", "4MB"),
                       ("BEGIN; SET work_mem = '5MB'; COMMIT", "5MB"),
                       ("BEGIN; SET work_mem = '8MB'; SAVEPOINT a; SET work_mem = '9MB'; ROLLBACK TO a; COMMIT", "8MB"),
                       ("DO $$ BEGIN PERFORM set_config('work_mem', '7MB', false); END $$", "7MB"),
                       ("SELECT set_config('work_mem', '6MB', false)", "6MB"),
                       ("SELECT 1; SET work_mem = '2MB'; SELECT 2", "2MB")):
        rows(c, text)
        rows(other, "SET work_mem = '99MB'")
        rows(other, "UPDATE items SET v = v WHERE id = 1")
        assert value(c, "SHOW work_mem") == want, text
        assert value(c, "SELECT public.setting('work_mem')") == want, text


def test_failed_set_is_not_remembered(single):
    c, other = single.connect(), single.connect()
    for bad in ("SET work_mem = 'plenty'", "SET no_such = 1", "SET search_path = a; SELECT 1/0"):
        with pytest.raises(psycopg2.Error):
            rows(c, bad)
    value(other, "SELECT 1")
    assert value(c, "SHOW work_mem") == "4MB"
    assert value(c, "SELECT public.setting('search_path')") == '"$user", public'


def test_startup_options_are_kept_over_pooled_connections(single):
    a = single.connect(options="-c work_mem=11MB -c my.own=a", application_name="app a", client_encoding="LATIN1")
    b = single.connect(options="-c work_mem=12MB -c my.own=b", application_name="app b")
    for _ in range(3):
        for c, n, mem, enc in ((a, "a", "11MB", "LATIN1"), (b, "b", "12MB", "UTF8")):
            for level in ("strong", "session"):
                rows(c, f"SET tidemark.consistency = {level}")
                assert rows(c, "SELECT public.setting('work_mem'), public.setting('my.own'), "
                               "public.setting('application_name'), public.setting('client_encoding')") == \
                    [(mem, n, f"app {n}", enc)]
    # RESET goes back to what the connection began with.
    rows(a, "SET work_mem = '20MB'")
    rows(a, "RESET work_mem")
    value(b, "SELECT 1")
    assert value(a, "SHOW work_mem") == "11MB"
    rows(a, "RESET ALL")
    assert value(a, "SHOW my.own") == "a"


def test_reset_goes_back_to_the_startup_packet_at_once(single):
    """Also for a client that keeps its connection: a bound one, and one inside a transaction."""
    style = "Postgres, MDY"
    for bind in ("SELECT 1", "CREATE TEMP TABLE held (i int)"):
        a = single.connect(options=f"-c datestyle={style.replace(' ', chr(92) + ' ')} -c work_mem=11MB")
        rows(a, bind)
        rows(a, "SET datestyle = 'German'")
        rows(a, "RESET datestyle")
        assert value(a, "SHOW datestyle") == style and value(a, "SELECT '2006-08-13'::date::text") == "08-13-2006"
        assert a.info.parameter_status("DateStyle") == style
        rows(a, "SET work_mem = '20MB'")
        rows(a, "RESET ALL")
        assert [value(a, "SHOW work_mem"), value(a, "SHOW datestyle")] == ["11MB", style]
        rows(a, "BEGIN")
        for reset in ("RESET datestyle", "SET datestyle TO DEFAULT", "RESET ALL"):
            rows(a, "SET datestyle = 'German'")
            rows(a, reset)
            assert [value(a, "SHOW work_mem"), value(a, "SHOW datestyle")] == ["11MB", style]
        rows(a, "ROLLBACK")
        rows(a, "SET datestyle = 'German'")
        for end, left in (("ROLLBACK", "German, DMY"), ("COMMIT", style)):
            rows(a, "BEGIN; RESET datestyle")
            assert value(a, "SHOW datestyle") == style
            rows(a, end)
            assert value(a, "SHOW datestyle") == left
        a.close()


def test_the_routers_own_statements_are_not_to_be_seen(single):
    a, b = single.connect(), single.connect()
    listed = "SELECT name FROM pg_prepared_statements"
    for _ in range(3):
        rows(b, "INSERT INTO scratch VALUES (4242, 'x') ON CONFLICT (id) DO UPDATE SET v = 'x'")
        assert rows(a, listed) == [] and rows(a, "SELECT name FROM pg_prepared_statement()") == []
        rows(b, "UPDATE scratch SET v = 'y' WHERE id = 4242")
        assert rows(a, "SELECT v FROM scratch WHERE id = 4242") == [("y",)]
    b.close()
    rows(a, "PREPARE mine AS SELECT 1")
    rows(a, "UPDATE scratch SET v = 'z' WHERE id = 4242")
    assert rows(a, listed) == [("mine",)]
    rows(a, "DELETE FROM scratch")


def test_set_datestyle_changes_one_half_of_it(router):
    """… on whichever server it is replayed."""
    t = router(scope="connection")
    a, b = t.connect(options="-c datestyle=Postgres"), t.connect()
    for statement, both in (("SET datestyle TO iso", "ISO, MDY"), ("SET datestyle TO ymd", "ISO, YMD"),
                            ("SET datestyle TO postgres", "Postgres, YMD"), ("RESET datestyle", "Postgres, MDY")):
        rows(a, statement)
        for _ in range(3):
            assert value(b, "SHOW datestyle") == "ISO, MDY"
            for level in ("strong", "eventual"):
                rows(a, f"SET tidemark.consistency = {level}")
                assert value(a, "SELECT public.setting('datestyle')") == both


def test_client_encoding_is_that_of_the_client(single):
    a = single.connect(client_encoding="LATIN1")
    b = single.connect()
    for _ in range(3):
        assert value(a, "SELECT 'é'") == "é"
        assert value(b, "SELECT 'é水'") == "é水"
        assert value(a, "SELECT convert_to('é', 'UTF8')").tobytes() == "é".encode()


# ---- nothing leaks ----

# name: (what A does, what B asks, what B must hear); a string stands for an error's SQLSTATE.
LEAKS = {
    "SET": (["SET work_mem = '77MB'"], "SELECT public.setting('work_mem')", "4MB"),
    "SET in a transaction": (["BEGIN; SET work_mem = '78MB'; COMMIT"], "SELECT public.setting('work_mem')", "4MB"),
    "open transaction": (["BEGIN; SET work_mem = '79MB'; SELECT 1"], "SELECT public.setting('work_mem')", "4MB"),
    "set_config": (["SELECT set_config('work_mem', '80MB', false)"], "SELECT public.setting('work_mem')", "4MB"),
    "hidden set_config": (["DO $$ BEGIN PERFORM set_config('work_mem', '81MB', false); END $$"],
                          "SELECT public.setting('work_mem')", "4MB"),
    "set_config in a trigger": (
        ["CREATE TABLE IF NOT EXISTS leaky_t (a int)",
         "CREATE OR REPLACE FUNCTION leaky() RETURNS trigger LANGUAGE plpgsql AS "
         "$$ BEGIN PERFORM set_config('work_mem', '82MB', false); RETURN NEW; END $$",
         "CREATE OR REPLACE TRIGGER leak BEFORE INSERT ON leaky_t FOR EACH ROW EXECUTE FUNCTION leaky()",
         "INSERT INTO leaky_t VALUES (1)"],
        "SELECT public.setting('work_mem')", "4MB"),
    "set_config in a view": (
        ["CREATE OR REPLACE VIEW leaky_v AS SELECT set_config('work_mem', '83MB', false) AS s",
         "SELECT s FROM leaky_v"],
        "SELECT public.setting('work_mem')", "4MB"),
    "search_path": (["SET search_path = evil"], "SELECT public.setting('search_path')", '"$user", public'),
    "application_name": (["SET application_name = 'evil'"], "SELECT public.setting('application_name')", ""),
    "client_encoding": (["SET client_encoding = 'LATIN1'"], "SELECT public.setting('client_encoding')", "UTF8"),
    "SET NAMES": (["SET NAMES 'LATIN1'"], "SELECT public.setting('client_encoding')", "UTF8"),
    "time zone": (["SET TIME ZONE 'Asia/Tokyo'"], "SELECT public.setting('timezone')", "UTC"),
    "time zone by interval": (["SET TIME ZONE -3"], "SELECT public.setting('timezone')", "UTC"),
    "own setting": (["SET my.secret = 'x'"], "SELECT coalesce(public.setting('my.secret'), '')", ""),
    "session characteristics": (["SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
                                "SELECT public.setting('default_transaction_isolation')", "read committed"),
    "read only": (["SET default_transaction_read_only = on"],
                  "SELECT public.setting('default_transaction_read_only')", "off"),
    "statement_timeout": (["SET statement_timeout = 1"], "SELECT public.setting('statement_timeout')", "0"),
    "role": (["SET ROLE other"], "SELECT current_user", "app"),
    "temporary table": (["CREATE TEMP TABLE leaked AS SELECT 1 AS a"], "SELECT * FROM leaked", "42P01"),
    "temporary table that shadows": (["CREATE TEMP TABLE items AS SELECT 1 AS id, 'shadow' AS v"],
                                     "SELECT v FROM items WHERE id = 1", "v1"),
    "temporary view": (["CREATE TEMP VIEW items AS SELECT 1 AS id, 'shadow'::text AS v"],
                       "SELECT v FROM items WHERE id = 1", "v1"),
    "SELECT INTO TEMP": (["SELECT 1 AS a INTO TEMP leaked2"], "SELECT * FROM leaked2", "42P01"),
    "LISTEN": (["LISTEN leak"], "SELECT count(*)::text FROM pg_listening_channels()", "0"),
    "cursor WITH HOLD": (["DECLARE leak CURSOR WITH HOLD FOR SELECT 1"], "SELECT count(*)::text FROM pg_cursors", "0"),
    "PREPARE": (["PREPARE leak AS SELECT 1"], "EXECUTE leak", "26000"),
    "PREPARE in a transaction": (["BEGIN; PREPARE leak AS SELECT 1; COMMIT"], "EXECUTE leak", "26000"),
    "advisory lock": (["SELECT pg_advisory_lock(99)"],
                      "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()", "0"),
    "advisory lock in a function": (["DO $$ BEGIN PERFORM pg_advisory_lock(98); END $$"],
                                    "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND "
                                    "pid = pg_backend_pid()", "0"),
    "sequence": (["SELECT nextval('seq')"], "SELECT lastval()", "55000"),
    "failed transaction": (["BEGIN", "!SELECT 1/0"], "SELECT 'fine'", "fine"),
}

# ---- sequences: what nextval() came to belongs to one session ----

def learned(t):
    """Somebody of the same user and database has asked for lastval() before."""
    with t.connect() as c:
        hear(c, "SELECT lastval()")
    c.close()


def test_currval_is_right_though_others_used_the_pool_in_between(router):
    t = router(default_pool_size=8)
    learned(t)
    others = [t.connect(options=STRONG) for _ in range(3)]
    rows(others[0], "CREATE TABLE IF NOT EXISTS numbered (id serial, who text)")
    for i in range(8):
        c = t.connect()
        mine = value(c, f"INSERT INTO numbered (who) VALUES ('{i}') RETURNING id")
        for o in others:
            rows(o, "INSERT INTO numbered (who) VALUES ('other')")
            rows(o, "SELECT count(*) FROM numbered")
        assert value(c, "SELECT currval('numbered_id_seq')") == mine
        assert value(c, "SELECT lastval()") == mine
        c.close()


@pytest.mark.parametrize("made", ["before", "now"])
def test_a_default_that_asks_for_currval_finds_it(router, fleet, made):
    """Nobody asks in so many words; the catalog, or whoever makes the table, tells."""
    table = ("DROP TABLE IF EXISTS asks; DROP SEQUENCE IF EXISTS asked; CREATE SEQUENCE asked; "
             "CREATE TABLE asks (a int DEFAULT nextval('asked'), b int DEFAULT currval('asked')); "
             "GRANT ALL ON asks TO app; GRANT ALL ON asked TO app")
    if made == "before":
        fleet.primary.sql(table)
    t = router(default_pool_size=8)
    c, others = t.connect(), [t.connect(options=STRONG) for _ in range(3)]
    if made == "now":
        rows(c, table)
    else:
        wait_until(lambda: all(d["catalog"] == "current" for d in t.show("DATABASES")), 10, "the catalog")
    try:
        for _ in range(5):
            mine = value(c, "SELECT nextval('asked')")
            for o in others:
                rows(o, "INSERT INTO items VALUES (1, 'v1', 0) ON CONFLICT DO NOTHING")
            assert value(c, "INSERT INTO asks (a) VALUES (0) RETURNING b") == mine
    finally:
        fleet.primary.sql("DROP TABLE asks; DROP SEQUENCE asked")


def test_anothers_value_of_a_sequence_is_never_shown(router):
    """One connection for all: what cannot be had is an error, and the last one to advance it has its own."""
    t = router(default_pool_size=1)
    a, b, c = (t.connect(options=STRONG) for _ in range(3))
    for _ in range(2):
        value(a, "SELECT nextval('seq')")
        mine = value(b, "SELECT nextval('seq')")
        rows(b, "BEGIN")
        assert value(b, "SELECT 1") == 1
        assert hear(b, "SELECT lastval()") in (mine, "55000")
        rows(b, "ROLLBACK")
        rows(b, "DISCARD ALL")
        value(b, "SELECT nextval('seq')")
        assert hear(a, "SELECT lastval()") == "55000"
        rows(a, "DISCARD ALL")
    # Learned by now: the one that advanced it last gets its own, in a transaction and outside.
    value(a, "SELECT nextval('seq')")
    mine = value(b, "SELECT nextval('seq')")
    assert value(b, "SELECT lastval()") == mine
    rows(b, "DISCARD ALL")
    value(a, "SELECT nextval('seq')")
    for text in ("BEGIN", "SELECT 1"):
        rows(c, text)
    assert hear(c, "SELECT lastval()") == "55000"
    rows(c, "ROLLBACK")


def test_anothers_value_is_not_shown_to_the_first_who_asks_in_a_transaction(router, raw):
    """Nobody has asked before, so nothing was taken away when the transaction began."""
    t = router(default_pool_size=1)
    a, c = t.connect(options=STRONG), t.connect(options=STRONG)
    value(a, "SELECT nextval('seq')")
    for text in ("BEGIN", "SELECT 1"):
        rows(c, text)
    assert hear(c, "SELECT lastval()") == "55000"
    rows(c, "ROLLBACK")
    rows(c, "DISCARD ALL")
    for text in ("BEGIN", "SELECT 1"):
        rows(c, text)
    mine = value(c, "SELECT nextval('seq')")
    assert value(c, "SELECT lastval()") == mine
    rows(c, "COMMIT")


def hear(c, text):
    try:
        return value(c, text)
    except psycopg2.Error as e:
        return e.pgcode


@pytest.mark.parametrize("name", LEAKS)
def test_nothing_leaks_to_the_next_client(single, name):
    acts, question, want = LEAKS[name]
    for options in (STRONG, ""):
        a = single.connect(options=STRONG)
        for text in acts:
            if text.startswith("!"):
                with pytest.raises(psycopg2.Error):
                    rows(a, text[1:])
            else:
                rows(a, text)
        a.close()
        b = single.connect(options=options)
        assert hear(b, question) == want
        b.close()


@pytest.mark.parametrize("name", ["SET", "search_path", "application_name",
                                  "client_encoding", "time zone", "own setting", "read only"])
def test_tracked_settings_do_not_leak_while_their_owner_is_still_there(single, name):
    acts, question, want = LEAKS[name]
    a, b = single.connect(options=STRONG), single.connect(options=STRONG)
    for text in acts:
        rows(a, text)
    mine = hear(a, question)
    assert mine != want, "the setting had no effect at all"
    for _ in range(3):
        assert hear(b, question) == want
        assert hear(a, question) == mine


def test_leak_tests_would_notice_a_leak(fleet):
    """On one plain connection every one of these states is there for the next to see."""
    for name, (acts, question, want) in LEAKS.items():
        if name in ("failed transaction", "open transaction"):
            continue
        c = harness.Direct(fleet).connect()
        for text in acts:
            rows(c, text)
        assert hear(c, question) != want, name
        c.close()


# ---- state that binds ----

def test_bound_clients_keep_their_connection_until_they_leave_or_discard(router):
    t = router(default_pool_size=2, query_wait_timeout="5s")
    a, b = t.connect(), t.connect()
    rows(a, "CREATE TEMP TABLE mine (who text); INSERT INTO mine VALUES ('a')")
    rows(b, "CREATE TEMP TABLE mine (who text); INSERT INTO mine VALUES ('b')")
    for _ in range(3):
        assert value(a, "SELECT who FROM mine") == "a"
        assert value(b, "SELECT who FROM mine") == "b"
    # Both connections are held; a third client comes in as soon as one lets go.
    c = t.connect(options=STRONG)
    done = []
    waiter = threading.Thread(target=lambda: done.append(value(c, "SELECT 1")), daemon=True)
    waiter.start()
    time.sleep(0.3)
    assert not done, "a bound connection was given to somebody else"
    rows(a, "DISCARD ALL")
    waiter.join(5)
    assert done == [1], "DISCARD ALL did not give the connection back"
    with pytest.raises(psycopg2.errors.UndefinedTable):
        rows(a, "SELECT who FROM mine")


def test_advisory_locks_are_held_on_the_primary_and_released_with_the_client(router, fleet):
    t = router(default_pool_size=4)
    a, b = t.connect(), t.connect()
    assert value(a, "SELECT pg_try_advisory_lock(777)") is True
    for _ in range(5):
        assert value(b, "SELECT pg_try_advisory_lock(777)") is False
        value(a, "SELECT 1")
    a.close()
    wait_until(lambda: value(b, "SELECT pg_try_advisory_lock(777)"), 5, "the lock of a client that left")


def test_listen_hears_what_others_notify(router):
    t = router(default_pool_size=3)
    a, b = t.connect(), t.connect()
    rows(a, "LISTEN news")
    for i in range(3):
        rows(b, f"NOTIFY news, '{i}'")
    wait_until(lambda: (a.poll(), len(a.notifies) == 3)[1], 5, "three notifications")
    rows(a, "UNLISTEN *")


def test_role_is_kept(single):
    a = single.connect()
    rows(a, "SET ROLE other")
    assert value(a, "SELECT current_user") == "other"
    assert value(a, "SELECT count(*) FROM items") == 100
    assert value(a, "SELECT current_user") == "other"
    rows(a, "RESET ROLE")
    assert value(a, "SELECT current_user") == "app"


# ---- limits ----

def test_full_pool_answers_within_query_wait_timeout(router):
    t = router(default_pool_size=1, query_wait_timeout="600ms")
    holder, other = t.connect(), t.connect(options=STRONG)
    rows(holder, "BEGIN; UPDATE items SET v = v WHERE id = 90")
    started = time.monotonic()
    with pytest.raises(psycopg2.Error) as e:
        rows(other, "SELECT 1")
    assert 0.4 < time.monotonic() - started < 3
    text = str(e.value)
    assert "query_wait_timeout" in text or "pool" in text, f"it does not say why: {text}"
    # Readers on replicas and the holder feel nothing.
    assert value(t.connect(options="-c tidemark.consistency=eventual"), "SELECT v FROM items WHERE id = 2") == "v2"
    assert value(holder, "SELECT 1") == 1
    rows(holder, "COMMIT")
    assert value(t.connect(options=STRONG), "SELECT 1") == 1


def test_full_queue_is_refused_at_once(router):
    t = router(default_pool_size=1, query_wait_timeout="4s", max_pool_waiting=1)
    holder = t.connect()
    conns = [t.connect(options=STRONG) for _ in range(2)]
    rows(holder, "BEGIN; UPDATE items SET v = v WHERE id = 91")
    first = threading.Thread(target=lambda: value(conns[0], "SELECT 1"), daemon=True)
    first.start()
    time.sleep(0.3)
    started = time.monotonic()
    with pytest.raises(psycopg2.Error):
        rows(conns[1], "SELECT 1")
    assert time.monotonic() - started < 1
    rows(holder, "COMMIT")
    first.join(5)
    assert not first.is_alive()


def test_waiting_clients_are_served_in_turn(router):
    t = router(default_pool_size=1, query_wait_timeout="20s")
    holder = t.connect()
    order, threads = [], []
    conns = [t.connect(options=STRONG) for _ in range(5)]
    rows(holder, "BEGIN; UPDATE items SET v = v WHERE id = 92")

    def ask(i):
        value(conns[i], "SELECT pg_sleep(0.02)")
        order.append(i)

    for i in range(5):
        threads.append(threading.Thread(target=ask, args=(i,), daemon=True))
        threads[-1].start()
        time.sleep(0.1)
    rows(holder, "COMMIT")
    for th in threads:
        th.join(10)
    assert order == [0, 1, 2, 3, 4]


def test_too_many_clients_are_refused_by_name(router):
    t = router(max_client_conn=3, wait=True)
    conns = [t.connect() for _ in range(3)]
    with pytest.raises(psycopg2.OperationalError) as e:
        t.connect()
    assert "too many" in str(e.value) or "max_client_conn" in str(e.value), e.value
    for c in conns:
        assert value(c, "SELECT 1") == 1
    conns[0].close()

    def again():
        try:
            return value(t.connect(), "SELECT 1") == 1
        except psycopg2.OperationalError:
            return False

    wait_until(again, 3, "a place to come free")


def test_idle_clients_are_disconnected_if_so_wished(router, raw):
    t = router(client_idle_timeout="500ms")
    c = raw(t)
    got = c.rest(5)
    assert rawpg.errors(got) == ["57P05"], got


# ---- servers come and go ----

@pytest.fixture
def frail(small_fleet, need_router):
    """A router before the fleet whose servers may be stopped."""
    with harness.Tidemark(small_fleet, query_wait_timeout="2s", server_connect_timeout="1s",
                          server_login_retry="200ms", answer_timeout="500ms", failover_timeout="1s") as t:
        yield t


def test_primary_down_is_said_within_the_limit_and_reads_go_on(frail, small_fleet):
    writer = frail.connect()
    reader = frail.connect(options="-c tidemark.consistency=eventual")
    rows(writer, "UPDATE items SET n = 1 WHERE id = 1")
    small_fleet.sync()
    assert where(reader) == "replica1"
    small_fleet.stop(0, "immediate")
    try:
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(psycopg2.Error) as e:
                rows(frail.connect(), "UPDATE items SET n = 2 WHERE id = 1")
            took = time.monotonic() - started
            assert took < 5, f"the error took {took:.1f} s"
            assert str(e.value).strip(), "an error without a word"
            started = time.monotonic()
            assert where(reader) == "replica1"
            assert time.monotonic() - started < 1, "the reader felt it"
    finally:
        small_fleet.start(0)

    def writes():
        try:
            rows(frail.connect(), "UPDATE items SET n = 3 WHERE id = 1")
            return True
        except psycopg2.Error:
            return False

    wait_until(writes, 10, "writes to work again")
    assert value(frail.connect(), "SELECT n FROM items WHERE id = 1") == 3


def test_connection_lost_in_a_transaction_is_an_error_and_no_more(frail, small_fleet):
    c = frail.connect()
    bystander = frail.connect(options="-c tidemark.consistency=eventual")
    rows(c, "BEGIN; UPDATE items SET n = 4 WHERE id = 2")
    small_fleet.primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
    with pytest.raises(psycopg2.Error):
        rows(c, "SELECT 1")
        rows(c, "COMMIT")
    assert value(bystander, "SELECT 1") == 1

    def again():
        try:
            return value(frail.connect(), "SELECT n FROM items WHERE id = 2") != 4
        except psycopg2.Error:
            return False

    wait_until(again, 5, "a fresh connection")


def test_pooled_connections_that_died_idle_are_not_noticed(frail, small_fleet):
    c = frail.connect()
    for _ in range(3):
        value(c, "SELECT n FROM items WHERE id = 3")
        rows(c, "UPDATE items SET n = n + 1 WHERE id = 3")
        for s in small_fleet.servers:
            s.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        time.sleep(0.2)
    assert value(c, "SELECT 1") == 1


def test_replica_down_is_not_noticed(frail, small_fleet):
    c = frail.connect(options="-c tidemark.consistency=eventual")
    assert where(c) == "replica1"
    small_fleet.stop(1, "immediate")
    try:
        deadline = time.monotonic() + 3
        failures = 0
        while time.monotonic() < deadline:
            try:
                assert where(c) == "primary"
            except psycopg2.Error:
                failures += 1
                c = frail.connect(options="-c tidemark.consistency=eventual")
        assert failures == 0, f"{failures} reads failed though the primary was there"
    finally:
        small_fleet.start(1)
    wait_until(lambda: where(c) == "replica1", 15, "the replica to be used again")


def test_no_replica_means_all_on_the_primary(router):
    t = router(replicas=[])
    c = t.connect()
    for _ in range(5):
        assert where(c) == "primary"
        assert value(c, "SELECT v FROM items WHERE id = 3") == "v3"
    routing = t.routing()
    assert routing["reads_replica"] == 0
    assert routing["reason_no_replica"] >= 5


# ---- configuration, reload, the end ----

CONFIG = """
; a comment
[tidemark]
listen_addr = 127.0.0.1
listen_port = {port}
consistency = %s
admin_users = postgres
shutdown_timeout = 3s

[nodes]
primary = %s
replica1 = %s

[databases]
other_name = dbname=app
tight = dbname=app pool_size=1 consistency=strong
* =
"""


def config_for(fleet, level="session"):
    return CONFIG % (level, fleet.primary.conninfo(), fleet.servers[1].conninfo())


def test_config_file_databases_and_reload(router, fleet):
    t = router(config=config_for(fleet), replicas=[fleet.servers[1]])
    assert where(t.connect()) == "replica1"
    c = t.connect(dbname="other_name")
    assert value(c, "SELECT current_database()") == "app"
    assert where(t.connect(dbname="tight")) == "primary"
    kept = t.connect()
    t.write("tidemark.ini", config_for(fleet, "strong"))
    t.reload()
    wait_until(lambda: where(t.connect()) == "primary", 5, "the reloaded level")
    assert value(kept, "SELECT 1") == 1, "a reload cost a client its connection"
    # A file with a fault is told and changes nothing.
    t.write("tidemark.ini", config_for(fleet, "nonsense"))
    t.reload()
    wait_until(lambda: "nonsense" in t.log_text(), 5, "the fault in the log")
    assert t.alive()
    assert where(t.connect()) == "primary"
    t.write("tidemark.ini", config_for(fleet))
    t.reload()
    wait_until(lambda: where(t.connect()) == "replica1", 5, "the mended file")


def test_sigterm_lets_transactions_end(fleet, need_router, raw):
    t = harness.Tidemark(fleet, shutdown_timeout="8s")
    busy, idle = t.connect(), raw(t)
    rows(busy, "BEGIN; UPDATE items SET n = 9393 WHERE id = 93")
    t.terminate()
    time.sleep(0.3)
    assert rawpg.errors(idle.rest(5)) == ["57P01"], "an idle client is told with 57P01"
    with pytest.raises(OSError):
        socket.create_connection((HOST, t.port), 2).close()
    assert t.alive(), "the router ended in the middle of a transaction"
    assert value(busy, "SELECT n FROM items WHERE id = 93") == 9393
    rows(busy, "COMMIT")
    wait_until(lambda: not t.alive(), 4, "the router to end after the last transaction")
    t.stop()
    assert fleet.primary.value("SELECT n FROM items WHERE id = 93") == 9393


def test_sigterm_ends_after_shutdown_timeout(fleet, need_router):
    t = harness.Tidemark(fleet, shutdown_timeout="700ms")
    c = t.connect()
    rows(c, "BEGIN; SELECT 1")
    t.terminate()
    wait_until(lambda: not t.alive(), 4, "the router to end though a transaction is open")
    t.stop()


GOOD_NODES = "[nodes]\nprimary = host=127.0.0.1 port=1\n"
BAD_CONFIGS = {
    # name: (text, line of the fault or None, words that must be there)
    "unknown option": ("[tidemark]\nlisten_prot = 6432\n" + GOOD_NODES, 2, ["listen_prot", "listen_port"]),
    "bad number": ("[tidemark]\nlisten_port = many\n" + GOOD_NODES, 2, ["listen_port", "1 to 65535"]),
    "out of range": ("[tidemark]\nlisten_port = 70000\n" + GOOD_NODES, 2, ["65535"]),
    "bad word": ("[tidemark]\n\nconsistency = sloppy\n" + GOOD_NODES, 3, ["sloppy", "session", "strong"]),
    "bad time": ("[tidemark]\nwait_timeout = soon\n" + GOOD_NODES, 2, ["wait_timeout", "ms"]),
    "unknown section": ("[tidemrk]\nx = 1\n" + GOOD_NODES, 2, ["tidemrk", "[tidemark]"]),
    "no primary": ("[tidemark]\nlisten_port = 6432\n", None, ["primary"]),
    "bad connection string": ("[nodes]\nprimary = host=127.0.0.1 prot=5432\n", 2, ["prot"]),
    "given twice": ("[tidemark]\nscope = database\nscope = connection\n" + GOOD_NODES, 3, ["twice"]),
    "pgbouncer key": ("[tidemark]\npool_mode = session\n" + GOOD_NODES, 2, ["pool_mode", "transaction"]),
    "not a line": ("[tidemark]\nwhat is this\n" + GOOD_NODES, 2, []),
    "userlist missing": ("[tidemark]\nauth_type = md5\n" + GOOD_NODES, None, ["auth_file"]),
    "userlist not there": ("[tidemark]\nauth_type = md5\nauth_file = /nowhere/users\n" + GOOD_NODES, None, ["/nowhere/users"]),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_bad_configuration_is_told_by_file_and_line(tmp_path, need_router, name):
    text, line, words = BAD_CONFIGS[name]
    path = tmp_path / "tidemark.ini"
    path.write_text(text)
    status, said = harness.bad_start(str(path))
    assert status not in (0, None) and status > 0, f"it started, or crashed: {status}"
    if line:
        assert f"{path}:{line}:" in said, said
    for word in words:
        assert word in said, f"{word!r} is missing in: {said}"


@pytest.mark.parametrize("argv,words", [
    (["--no-such-flag"], ["no-such-flag"]),
    (["--listen", "nowhere"], ["listen"]),
    (["--wait-timeout"], ["wait"]),
    (["/nowhere/tidemark.ini"], ["/nowhere/tidemark.ini"]),
    ([], ["primary"]),
    (["--primary", "host=127.0.0.1 port=1", "--listen", "127.0.0.1:6432", "--test-fault", "write_pointer"],
     ["test-fault"]),
])
def test_bad_flags_are_told(need_router, argv, words):
    status, said = harness.bad_start(*argv)
    assert status > 0
    for word in words:
        assert word in said, said


def test_port_in_use_is_told(tm, need_router):
    status, said = harness.bad_start("--listen", f"{HOST}:{tm.port}", "--primary", tm.fleet.primary.conninfo())
    assert status > 0
    assert str(tm.port) in said and "in use" in said.lower(), said


def test_help_and_version(need_router):
    status, said = harness.bad_start("--help")
    assert status == 0 and "--primary" in said and "--wait-timeout" in said
    status, said = harness.bad_start("--version")
    assert status == 0 and "tidemark" in said.lower()
