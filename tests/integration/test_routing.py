# SPDX-License-Identifier: PostgreSQL
"""Where a statement goes, by what a client can see: every server says its own name (harness.where)."""

import contextlib
import itertools
import threading
import time

import psycopg2
import pytest

import harness
import tokens
import rawpg
from harness import WHERE, rows, value, wait_until, where
from rawpg import bind, describe, execute, kinds, parse, query, sync


def delta(before, after, *names):
    return [after.get(n, 0) - before.get(n, 0) for n in names]


@contextlib.contextmanager
def paused(fleet, *standbys):
    """Replay stands still on these standbys (all, if none is named)."""
    fleet.sync()
    chosen = standbys or range(1, len(fleet.servers))
    for i in chosen:
        fleet.pause_replay(i)
    try:
        yield
    finally:
        for i in chosen:
            fleet.resume_replay(i)


def settle(t, c):
    """Until plain reads of `c` are served by replicas: its mark is known and replayed."""
    wait_until(lambda: where(c) != "primary", 10,
               lambda: f"reads to go to replicas again; {value(c, 'SHOW tidemark.route')}; {t.show('FLEET')}")


# ---- by the statement ----

def test_plain_reads_go_to_replicas(tm, fleet):
    c = tm.connect()
    settle(tm, c)
    before = tm.routing()
    seen = {where(c) for _ in range(20)}
    assert "primary" not in seen
    assert delta(before, tm.routing(), "reads_total", "reads_replica", "reads_primary") == [20, 20, 0]
    assert "replica" in value(c, "SHOW tidemark.route")


def test_both_replicas_are_used(separate):
    """Sessions that read at the same time are spread."""
    seen = set()

    def ask():
        c = separate.connect()
        for _ in range(5):
            seen.add(value(c, f"SELECT {WHERE} FROM (SELECT count(*) FROM big a, generate_series(1, 100) b) x"))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert seen == {"replica1", "replica2"}


def test_extended_and_prepared_reads_go_to_replicas(tm, raw):
    c = raw(tm)
    settle(tm, tm.connect())
    c.send(parse("w", f"SELECT {WHERE}"), sync())
    c.until_ready()
    for _ in range(3):
        c.send(bind("", "w"), describe("P"), execute(), sync())
        got = [m.columns()[0] for m in c.until_ready() if m.kind == "D"]
        assert got[0].startswith(b"replica")
        c.send(parse("", f"SELECT {WHERE}"), bind(), execute(), sync())
        got = [m.columns()[0] for m in c.until_ready() if m.kind == "D"]
        assert got[0].startswith(b"replica")


# Each of these, in one message, must run on the primary: WHERE_ stands for the server's name.
PRIMARY = {
    "write returning": "UPDATE items SET v = v WHERE id = 1 RETURNING " + WHERE,
    "insert returning": "INSERT INTO scratch VALUES (-1, 'x') ON CONFLICT (id) DO UPDATE SET v = 'y' RETURNING " + WHERE,
    "for update": f"SELECT {WHERE} FROM items WHERE id = 1 FOR UPDATE",
    "for key share": f"SELECT {WHERE} FROM items WHERE id = 1 FOR KEY SHARE",
    "for update inside": f"SELECT {WHERE} FROM (SELECT * FROM items WHERE id = 1 FOR UPDATE) i",
    "cte that writes": f"WITH w AS (UPDATE items SET v = v WHERE id = 1 RETURNING 1) SELECT {WHERE} FROM w",
    "nextval": f"SELECT {WHERE}, nextval('seq')",
    "advisory lock": f"SELECT {WHERE}, pg_advisory_xact_lock(1)",
    "set_config": f"SELECT {WHERE}, set_config('my.x', '1', true)",
    "txid": f"SELECT {WHERE}, txid_current()",
    "pg_notify": f"SELECT {WHERE}, pg_notify('a', 'b')",
    "is in recovery": f"SELECT {WHERE}, pg_is_in_recovery()",
    "wal position": f"SELECT {WHERE}, pg_current_wal_lsn()",
    "activity": f"SELECT {WHERE} FROM pg_stat_activity LIMIT 1",
    "unlogged table": f"SELECT {WHERE} FROM (SELECT count(*) FROM unlogged) x",
    "sequence as a table": f"SELECT {WHERE} FROM seq",
}


@pytest.mark.parametrize("name", PRIMARY)
def test_goes_to_the_primary(tm, name):
    c = tm.connect()
    got = rows(c, PRIMARY[name])
    assert got[0][0] == "primary"
    assert "primary" in value(c, "SHOW tidemark.route")


def test_transactions_stay_whole_on_the_primary(tm):
    c = tm.connect(autocommit=False)
    for _ in range(3):
        assert where(c) == "primary"
    c.rollback()
    d = tm.connect()
    settle(tm, d)
    rows(d, "BEGIN")
    assert where(d) == "primary"
    rows(d, "COMMIT")
    assert where(d) != "primary"


def test_a_multi_statement_text_with_a_write_is_whole_on_the_primary(tm, raw):
    c = raw(tm)
    got = c.query_rows(f"SELECT {WHERE}; UPDATE items SET v = v WHERE id = 1; SELECT {WHERE}")
    assert got == [["primary"], ["primary"]]
    settle(tm, tm.connect())
    got = c.query_rows(f"SELECT {WHERE}; SELECT {WHERE}")
    assert got[0] == got[1] and got[0][0].startswith("replica")


def test_a_batch_with_a_write_is_whole_on_the_primary(tm, raw):
    c = raw(tm)
    c.send(parse("", f"SELECT {WHERE}"), bind(), execute(), parse("", "UPDATE items SET v = v WHERE id = 1"), bind(),
           execute(), sync())
    assert [m.columns() for m in c.until_ready() if m.kind == "D"] == [[b"primary"]]


def test_what_cannot_be_parsed_goes_to_the_primary(tm):
    c = tm.connect()
    before = tm.routing()
    with pytest.raises(psycopg2.errors.SyntaxError):
        rows(c, "SELEC 1")
    assert delta(before, tm.routing(), "reason_unparsable")[0] == 1


# ---- read your writes, statement by statement ----

WRITES = {
    "update": "UPDATE items SET n = {n} WHERE id = 71",
    "multi-statement": "SELECT 1; UPDATE items SET n = {n} WHERE id = 71; SELECT 2",
    "transaction in one text": "BEGIN; UPDATE items SET n = {n} WHERE id = 71; COMMIT",
    "cte": "WITH w AS (UPDATE items SET n = {n} WHERE id = 71 RETURNING n) SELECT n FROM w",
    "merge": "MERGE INTO items i USING (SELECT 71 AS id) s ON i.id = s.id WHEN MATCHED THEN UPDATE SET n = {n}",
    "do block": "DO $$ BEGIN UPDATE items SET n = {n} WHERE id = 71; END $$",
    "do block with commits": "DO $$ BEGIN UPDATE items SET n = 0 WHERE id = 71; COMMIT; "
                             "UPDATE items SET n = {n} WHERE id = 71; COMMIT; END $$",
    "function": "SELECT put(71, {n})",
    "procedure": "CALL put_proc(71, {n})",
    "explain analyze": "EXPLAIN ANALYZE UPDATE items SET n = {n} WHERE id = 71",
    "prepared by SQL": "PREPARE w{n} AS UPDATE items SET n = {n} WHERE id = 71|EXECUTE w{n}|DEALLOCATE w{n}",
    "async commit": "SET synchronous_commit = off; UPDATE items SET n = {n} WHERE id = 71; RESET synchronous_commit",
    "local async commit": "BEGIN; SET LOCAL synchronous_commit = off; UPDATE items SET n = {n} WHERE id = 71; COMMIT",
    "two-phase": "BEGIN; UPDATE items SET n = {n} WHERE id = 71; PREPARE TRANSACTION 'w'|COMMIT PREPARED 'w'",
    "savepoint": "BEGIN; SAVEPOINT a; UPDATE items SET n = {n} WHERE id = 71; RELEASE a; COMMIT",
    "failed and repeated": "!UPDATE items SET n = 1/0 WHERE id = 71|UPDATE items SET n = {n} WHERE id = 71",
    "commit and chain": "BEGIN|UPDATE items SET n = {n} WHERE id = 71|COMMIT AND CHAIN|!SELECT 1/0|ROLLBACK",
    "comment in front": "/* hello */ UPDATE items SET n = {n} WHERE id = 71 -- bye",
}
_versions = itertools.count(1_000_000)


@pytest.fixture(scope="module")
def writers(shared_fleet):
    shared_fleet.calm()
    shared_fleet.primary.sql(
        "CREATE FUNCTION put(which int, value int) RETURNS int LANGUAGE sql AS "
        "'UPDATE items SET n = value WHERE id = which RETURNING n';"
        "CREATE PROCEDURE put_proc(which int, value int) LANGUAGE sql AS 'UPDATE items SET n = value WHERE id = which'")
    shared_fleet.sync()


def run_script(c, script):
    """Statements separated by |; one that begins with ! must fail."""
    for text in script.split("|"):
        if text.startswith("!"):
            with pytest.raises(psycopg2.Error):
                rows(c, text[1:])
        else:
            rows(c, text)


@pytest.mark.parametrize("name", WRITES)
def test_every_kind_of_write_is_read_back(tm, fleet, writers, name):
    """With replay paused, a stale read would be certain: the value must come from the primary."""
    c, other = tm.connect(), tm.connect()
    before = tm.routing()
    with paused(fleet):
        for _ in range(2):
            n = next(_versions)
            run_script(c, WRITES[name].format(n=n))
            assert value(c, "SELECT n FROM items WHERE id = 71") == n, "on the same connection"
            assert value(other, "SELECT n FROM items WHERE id = 71") == n, "on another connection, scope = database"
    assert delta(before, tm.routing(), "writes_uncaptured") == [0], "a failover could lose it untold"


def test_copy_is_read_back(tm, fleet, raw):
    c = raw(tm)
    before = tm.routing()
    with paused(fleet):
        c.query("TRUNCATE scratch")
        assert c.query_rows("SELECT count(*) FROM scratch") == [["0"]]
        c.send(query("COPY scratch FROM STDIN"))
        c.recv_until("G")
        c.send(rawpg.copy_data(b"1\tx\n2\ty\n"), rawpg.copy_done())
        c.until_ready()
        assert c.query_rows("SELECT count(*) FROM scratch") == [["2"]]
        assert raw(tm).query_rows("SELECT count(*) FROM scratch") == [["2"]]
        # All in one go, and with a mistake: the server ignores the rest and answers the capture all the same.
        for table, answer in (("scratch", "GCZ"), ("no_such_table", "EZ")):
            c.send(query(f"COPY {table} FROM STDIN"), rawpg.copy_data(b"3\tz\n"), rawpg.copy_done())
            assert kinds(c.until_ready()) == answer
        c.send(query("COPY scratch FROM STDIN"), rawpg.copy_data(b"no number\tz\n"), rawpg.copy_done())
        assert kinds(c.until_ready()) == "GEZ"
        assert c.query_rows("SELECT count(*) FROM scratch") == [["3"]]
        assert raw(tm).query_rows("SELECT count(*) FROM scratch") == [["3"]]
    assert delta(before, tm.routing(), "writes_uncaptured", "captures_failed") == [0, 0]
    # Behind the first CopyDone the server waits for the data of the second COPY: nothing may stand between.
    c.send(query("COPY scratch FROM STDIN; COPY scratch FROM STDIN"), rawpg.copy_data(b"4\tz\n"), rawpg.copy_done())
    c.send(rawpg.copy_data(b"5\tz\n"), rawpg.copy_done())
    assert kinds(c.until_ready()) == "GCGCZ"
    # Nor in a batch: the Sync of the question would end it, and commit what has to be undone here.
    c.send(query("COPY scratch FROM STDIN"), rawpg.copy_data(b"7\tz\n"), rawpg.copy_done())
    c.until_ready()
    c.send(parse("", "COPY scratch FROM STDIN"), bind(), execute(), rawpg.flush())
    c.recv_until("G")
    c.send(rawpg.copy_data(b"8\tz\n"), rawpg.copy_done(), parse("", "SELECT 1/0"), bind(), execute(), sync())
    assert kinds(c.until_ready()) == "C1EZ"
    assert c.query_rows("DELETE FROM scratch WHERE id = 7") == []
    # Nor in a transaction.
    assert c.query_rows("BEGIN") == []
    c.send(query("COPY scratch FROM STDIN"), rawpg.copy_data(b"6\tz\n"), rawpg.copy_done())
    assert kinds(c.until_ready()) == "GCZ"
    assert c.query_rows("COMMIT") == []
    assert c.query_rows("SELECT count(*) FROM scratch") == [["6"]]


def test_extended_writes_are_read_back(tm, fleet, raw):
    c, other = raw(tm), raw(tm)
    with paused(fleet):
        for named in (False, True):
            n = str(next(_versions))
            name = "upd" if named else ""
            c.send(parse(name, "UPDATE items SET n = $1 WHERE id = 72"), bind("", name, [n]), execute(), sync())
            assert kinds(c.until_ready()) == "12CZ"
            for reader in (c, other):
                reader.send(parse("", "SELECT n FROM items WHERE id = 72"), bind(), execute(), sync())
                assert [m.columns() for m in reader.until_ready() if m.kind == "D"] == [[n.encode()]]


def test_function_calls_are_read_back(tm, fleet, writers, raw):
    oid = fleet.primary.value("SELECT 'put'::regproc::oid")
    c = raw(tm)
    with paused(fleet):
        n = str(next(_versions))
        c.send(rawpg.function_call(oid, ["73", n]))
        assert "V" in kinds(c.until_ready())
        assert c.query_rows("SELECT n FROM items WHERE id = 73") == [[n]]


def test_pipelined_write_and_read_without_waiting(tm, fleet, raw):
    """The read is sent before the write was answered, in batches of their own."""
    c = raw(tm)
    with paused(fleet):
        for _ in range(5):
            n = str(next(_versions))
            c.send(query(f"UPDATE items SET n = {n} WHERE id = 74"), query("SELECT n FROM items WHERE id = 74"))
            c.until_ready()
            assert [m.columns() for m in c.until_ready() if m.kind == "D"] == [[n.encode()]]
            n = str(next(_versions))
            c.send(parse("", f"UPDATE items SET n = {n} WHERE id = 74"), bind(), execute(), sync(),
                   parse("", "SELECT n FROM items WHERE id = 74"), bind(), execute(), sync())
            c.until_ready()
            assert [m.columns() for m in c.until_ready() if m.kind == "D"] == [[n.encode()]]


def test_ddl_is_seen_by_the_next_read(tm, fleet):
    c, other = tm.connect(), tm.connect()
    with paused(fleet):
        rows(c, "DROP TABLE IF EXISTS fresh; CREATE TABLE fresh (a int); INSERT INTO fresh VALUES (7)")
        assert value(c, "SELECT a FROM fresh") == 7
        assert value(other, "SELECT a FROM fresh") == 7
        rows(c, "DROP TABLE fresh")


# ---- waiting and falling back ----

def test_paused_replicas_mean_the_primary_and_resumed_ones_are_used_again(tm, fleet):
    c = tm.connect()
    settle(tm, c)
    with paused(fleet):
        n = next(_versions)
        rows(c, f"UPDATE items SET n = {n} WHERE id = 75")
        for _ in range(5):
            started = time.monotonic()
            assert rows(c, f"SELECT n, {WHERE} FROM items WHERE id = 75") == [(n, "primary")]
            assert time.monotonic() - started < 1, "longer than any wait_timeout in force"
    settle(tm, c)
    assert value(c, "SELECT n FROM items WHERE id = 75") == n


def test_one_paused_replica_is_passed_over(tm, fleet):
    c = tm.connect()
    settle(tm, c)
    with paused(fleet, 1):
        n = next(_versions)
        rows(c, f"UPDATE items SET n = {n} WHERE id = 75")
        before = tm.routing()
        wait_until(lambda: where(c) == "replica2", 5, "the other replica")
        for _ in range(20):
            assert rows(c, f"SELECT n, {WHERE} FROM items WHERE id = 75") == [(n, "replica2")]
        assert delta(before, tm.routing(), "discriminating")[0] >= 20


def test_no_wait_at_all(router, fleet):
    t = router(wait_timeout="0")
    fleet.set_delay(1, 300)
    fleet.set_delay(2, 300)
    c = t.connect()
    for _ in range(5):
        n = next(_versions)
        rows(c, f"UPDATE items SET n = {n} WHERE id = 75")
        assert rows(c, f"SELECT n, {WHERE} FROM items WHERE id = 75") == [(n, "primary")]
    assert t.routing()["reads_waited"] == 0


def test_waits_for_a_replica_that_will_be_there_in_time(router, fleet):
    t = router(wait_timeout="2s", replicas=[fleet.servers[1]])
    fleet.set_delay(1, 100)
    c = t.connect()
    before = t.routing()
    served = []
    for _ in range(15):
        n = next(_versions)
        rows(c, f"UPDATE items SET n = {n} WHERE id = 75")
        got, server = rows(c, f"SELECT n, {WHERE} FROM items WHERE id = 75")[0]
        assert got == n
        served.append(server)
    waited, timeouts = delta(before, t.routing(), "reads_waited", "wait_timeouts")
    assert waited >= 5 and served.count("replica1") >= 5, \
        f"it did not wait for a replica 100 ms behind, with 2 s to spare: {served}, {waited} waited"
    assert timeouts == 0


def test_a_wait_has_an_end(router, fleet):
    """The replica is expected in time, but stops."""
    t = router(wait_timeout="300ms", replicas=[fleet.servers[1]])
    c = t.connect()
    for _ in range(10):  # the router learns that this replica is quick
        rows(c, "UPDATE items SET n = 0 WHERE id = 75")
        value(c, "SELECT n FROM items WHERE id = 75")
    with paused(fleet, 1):
        for _ in range(3):
            n = next(_versions)
            rows(c, f"UPDATE items SET n = {n} WHERE id = 75")
            started = time.monotonic()
            assert rows(c, f"SELECT n, {WHERE} FROM items WHERE id = 75") == [(n, "primary")]
            assert time.monotonic() - started < 1.5


def test_a_client_that_leaves_while_it_waits_does_no_harm(router, fleet, raw):
    t = router(wait_timeout="5s", replicas=[fleet.servers[1]])
    fleet.set_delay(1, 300)
    w = t.connect()
    for _ in range(3):
        rows(w, "UPDATE items SET n = n + 1 WHERE id = 75")
        time.sleep(0.35)
    for _ in range(10):
        rows(w, "UPDATE items SET n = n + 1 WHERE id = 75")
        c = raw(t)
        c.send(query("SELECT n FROM items WHERE id = 75"))
        c.close()
    assert value(w, "SELECT n FROM items WHERE id = 75") >= 10


# ---- levels ----

def set_level(t, level, way, **kw):
    """A connection at `level`, and the prefix its statements need."""
    if way == "startup":
        return t.connect(options=f"-c tidemark.consistency={level}", **kw), ""
    c = t.connect(**kw)
    if way == "set":
        rows(c, f"SET tidemark.consistency = '{level}'")
        return c, ""
    return c, f"/*tidemark_consistency='{level}'*/ "


@pytest.mark.parametrize("way", ["set", "startup", "tag"])
def test_level_strong(tm, way):
    c, tag = set_level(tm, "strong", way)
    for _ in range(5):
        assert value(c, f"{tag}SELECT {WHERE}") == "primary"


@pytest.mark.parametrize("way", ["set", "startup", "tag"])
def test_level_eventual_serves_the_past_where_asked_to(tm, fleet, way):
    c, tag = set_level(tm, "eventual", way)
    settle(tm, tm.connect())
    old = value(c, "SELECT n FROM items WHERE id = 76")
    with paused(fleet):
        rows(c, f"UPDATE items SET n = {next(_versions)} WHERE id = 76")
        n, server = rows(c, f"{tag}SELECT n, {WHERE} FROM items WHERE id = 76")[0]
        assert (n, server != "primary") == (old, True), "eventual is for those who want a replica whatever it shows"


@pytest.mark.parametrize("way", ["set", "startup"])
def test_level_bounded(tm, fleet, way):
    c, _ = set_level(tm, "bounded", way)
    # A replica's lag counts from the last sample that it had replayed, which an idle primary gives each 250 ms.
    rows(c, "SET tidemark.max_lag = '700ms'")
    writer = tm.connect()
    wait_until(lambda: where(c) != "primary", 5, "bounded reads on a replica")
    with paused(fleet):
        # The primary moves on, so the lag of the replicas grows.
        def beyond():
            rows(writer, "UPDATE items SET n = n + 1 WHERE id = 77")
            time.sleep(0.03)
            return where(c) == "primary"

        started = time.monotonic()
        wait_until(beyond, 5, "bounded reads to leave replicas that lag")
        assert time.monotonic() - started > 0.2, "left long before max_lag"
        for _ in range(5):
            assert where(c) == "primary"
    wait_until(lambda: where(c) != "primary", 10, "bounded reads to come back")


def test_level_is_reset_and_shown(tm):
    c = tm.connect()
    assert value(c, "SHOW tidemark.consistency") == "session"
    rows(c, "SET tidemark.consistency TO strong")
    assert value(c, "SHOW tidemark.consistency") == "strong"
    rows(c, "RESET tidemark.consistency")
    assert value(c, "SHOW tidemark.consistency") == "session"
    rows(c, "SET tidemark.consistency = strong")
    rows(c, "DISCARD ALL")
    assert value(c, "SHOW tidemark.consistency") == "session"
    settle(tm, c)


@pytest.mark.parametrize("text", ["DISCARD ALL", "RESET ALL"])
def test_reset_goes_back_to_the_startup_packet(tm, text):
    c = tm.connect(options="-c tidemark.consistency=bounded -c tidemark.session=from-startup")
    rows(c, "SET tidemark.consistency = strong")
    rows(c, "SET tidemark.session = 'another'")
    rows(c, text)
    assert value(c, "SHOW tidemark.consistency") == "bounded"
    assert value(c, "SHOW tidemark.session") == "from-startup"


@pytest.mark.parametrize("text,sqlstate", [
    ("SET tidemark.consistency = 'sloppy'", "22023"),
    ("SET tidemark.max_lag = 'soon'", "22023"),
    ("SET tidemark.wait_timeout = 'never'", "22023"),
    ("SET tidemark.no_such = 1", "42704"),
    ("SHOW tidemark.no_such", "42704"),
    ("SET tidemark.token = 'x'", "55P02"),
    ("SET tidemark.session = '" + "x" * 200 + "'", "22023"),
])
def test_bad_settings_are_refused_as_postgresql_would(tm, text, sqlstate):
    c = tm.connect()
    with pytest.raises(psycopg2.Error) as e:
        rows(c, text)
    assert e.value.pgcode == sqlstate
    assert value(c, "SELECT 1") == 1


def test_router_settings_by_the_extended_protocol(tm, raw):
    c = raw(tm)
    c.send(parse("", "SET tidemark.consistency = 'strong'"), bind(), describe("P"), execute(), sync())
    assert kinds(c.until_ready()) == "12nCZ"
    c.send(parse("", "SHOW tidemark.consistency"), bind(), describe("P"), execute(), sync())
    got = c.until_ready()
    assert kinds(got) == "12TDCZ"
    assert [m.columns() for m in got if m.kind == "D"] == [[b"strong"]]
    c.send(parse("shown", "SHOW tidemark.consistency"), describe("S", "shown"), sync())
    assert kinds(c.until_ready()) == "1tTZ"
    for _ in range(2):
        c.send(bind("", "shown"), execute(), sync())
        assert kinds(c.until_ready()) == "2DCZ"


def test_malformed_and_foreign_tags_never_fail_a_statement(tm):
    c = tm.connect()
    for tag in ("/*tidemark_consistency='sloppy'*/", "/*tidemark_read_after='garbage'*/", "/*tidemark_session=*/",
                "/*tidemark_*/", "/*traceparent='00-abc',db_driver='x'*/", "/*tidemark_consistency='strong*/"):
        assert value(c, f"{tag} SELECT 'fine'") == "fine"
        assert value(c, f"SELECT 'fine' {tag}") == "fine"


def test_query_tags_can_be_switched_off(router):
    t = router(query_tags="off")
    c = t.connect()
    assert value(c, f"/*tidemark_consistency='strong'*/ SELECT {WHERE}") != "primary"


def test_a_trailing_tag_counts_too(tm):
    c = tm.connect()
    settle(tm, c)
    assert value(c, f"SELECT {WHERE} /*tidemark_consistency='strong'*/") == "primary"
    assert value(c, f"SELECT {WHERE}, '/*tidemark_consistency=''strong''*/'") != "primary"


# ---- whose writes ----

@pytest.fixture
def separate(router):
    """scope = connection: every connection is a session of its own unless it names one."""
    return router(scope="connection")


def test_scope_connection_asks_for_own_writes_only(separate, fleet):
    writer, reader = separate.connect(), separate.connect()
    old = value(reader, "SELECT n FROM items WHERE id = 78")
    with paused(fleet):
        n = next(_versions)
        rows(writer, f"UPDATE items SET n = {n} WHERE id = 78")
        assert rows(writer, f"SELECT n, {WHERE} FROM items WHERE id = 78") == [(n, "primary")]
        got, server = rows(reader, f"SELECT n, {WHERE} FROM items WHERE id = 78")[0]
        assert got == old and server != "primary"


def test_scope_database_asks_for_everybodys_writes_and_counts_it(tm, fleet):
    writer, reader = tm.connect(), tm.connect()
    with paused(fleet):
        n = next(_versions)
        rows(writer, f"UPDATE items SET n = {n} WHERE id = 78")
        before = tm.routing()
        assert rows(reader, f"SELECT n, {WHERE} FROM items WHERE id = 78") == [(n, "primary")]
        assert delta(before, tm.routing(), "primary_for_others")[0] == 1, "paid for another session's write, uncounted"
        before = tm.routing()
        assert value(writer, "SELECT n FROM items WHERE id = 78") == n
        assert delta(before, tm.routing(), "primary_for_others")[0] == 0, "its own write is not another's"


def test_databases_do_not_share_a_mark(tm, fleet):
    writer, reader = tm.connect(), tm.connect(dbname="postgres")
    # A database that was never seen owes a sample of the primary: its first read settles it.
    wait_until(lambda: rows(reader, "SELECT 1 FROM pg_class LIMIT 1") and
               value(reader, "SHOW tidemark.route").startswith("replica"), 10, "the first read on a replica")
    with paused(fleet):
        rows(writer, f"UPDATE items SET n = {next(_versions)} WHERE id = 78")
        before = tm.routing()
        assert value(reader, "SELECT count(*) > 0 FROM pg_class") is True
        assert delta(before, tm.routing(), "reads_replica")[0] == 1


@pytest.mark.parametrize("way", ["set", "startup", "tag"])
def test_named_sessions_share_a_mark_over_connections(separate, fleet, way):
    name = f"user-{way}-{next(_versions)}"

    def member():
        if way == "startup":
            return separate.connect(options=f"-c tidemark.session={name}"), ""
        c = separate.connect()
        if way == "set":
            rows(c, f"SET tidemark.session = '{name}'")
            return c, ""
        return c, f"/*tidemark_session='{name}'*/ "

    (a, ta), (b, tb), (other, _) = member(), member(), (separate.connect(), "")
    old = value(other, "SELECT n FROM items WHERE id = 79")
    with paused(fleet):
        n = next(_versions)
        rows(a, f"{ta}UPDATE items SET n = {n} WHERE id = 79")
        assert rows(b, f"{tb}SELECT n, {WHERE} FROM items WHERE id = 79") == [(n, "primary")]
        assert rows(a, f"{ta}SELECT n, {WHERE} FROM items WHERE id = 79") == [(n, "primary")]
        got, server = rows(other, f"SELECT n, {WHERE} FROM items WHERE id = 79")[0]
        assert got == old and server != "primary", "a stranger pays for this session"
        # The session outlives its connections.
        a.close()
        b.close()
        c, tc = member()
        assert value(c, f"{tc}SELECT n FROM items WHERE id = 79") == n


def test_leaving_a_named_session(separate, fleet):
    a, b = separate.connect(), separate.connect()
    rows(a, "SET tidemark.session = 'leaver'")
    assert value(a, "SHOW tidemark.session") == "leaver"
    with paused(fleet):
        rows(a, f"UPDATE items SET n = {next(_versions)} WHERE id = 79")
        rows(b, "SET tidemark.session = 'leaver'")
        assert where(b) == "primary"
        rows(b, "RESET tidemark.session")
        assert where(b) != "primary"
        assert value(b, "SHOW tidemark.session") == ""


# ---- tokens ----

def test_token_carries_the_mark_to_another_session(separate, fleet):
    a, b, c, d = (separate.connect() for _ in range(4))
    with paused(fleet):
        n = next(_versions)
        rows(a, f"UPDATE items SET n = {n} WHERE id = 80")
        token = value(a, "SHOW tidemark.token")
        assert token and len(token) < 64
        rows(b, f"SET tidemark.read_after = '{token}'")
        assert rows(b, f"SELECT n, {WHERE} FROM items WHERE id = 80") == [(n, "primary")]
        assert value(c, f"/*tidemark_read_after='{token}'*/ SELECT n FROM items WHERE id = 80") == n
        assert where(d) != "primary"
        e = separate.connect(options=f"-c tidemark.read_after={token}")
        assert value(e, "SELECT n FROM items WHERE id = 80") == n


@pytest.mark.parametrize("make", [
    lambda t: "garbage", lambda t: t[:-1] + "Z", lambda t: t + "0", lambda t: t[: len(t) // 2],
    lambda t: "x" * 500,
], ids=["garbage", "last letter", "longer", "half", "very long"])
def test_bad_tokens_never_fail_and_never_read_stale(separate, fleet, make):
    a, b = separate.connect(), separate.connect()
    with paused(fleet):
        n = next(_versions)
        rows(a, f"UPDATE items SET n = {n} WHERE id = 80")
        token = make(value(a, "SHOW tidemark.token"))
        rows(b, f"SET tidemark.read_after = '{token}'")
        assert rows(b, f"SELECT n, {WHERE} FROM items WHERE id = 80") == [(n, "primary")]


def test_token_is_reported_before_ready_when_it_changed(tm, raw):
    c = raw(tm)
    c.query("SET tidemark.report = on")
    before = c.parameters.get("tidemark.token")
    got = c.query("UPDATE items SET n = n + 1 WHERE id = 80")
    reported = [m.summary()[2] for m in got if m.kind == "S" and m.summary()[1] == "tidemark.token"]
    assert len(reported) == 1 and reported[0] != before
    assert tokens.branches(c.query_rows("SHOW tidemark.token")[0][0]) == tokens.branches(reported[0]) != []
    c.query("SET tidemark.report = off")
    got = c.query("UPDATE items SET n = n + 1 WHERE id = 80")
    assert not [m for m in got if m.kind == "S" and b"tidemark.token" in m.body]


@pytest.mark.parametrize("end", ["SET tidemark.report = off", "RESET tidemark.report", "RESET ALL", "DISCARD ALL"])
def test_token_that_is_reported_no_more_is_taken_back(tm, raw, end):
    c = raw(tm)
    c.query("SET tidemark.report = on")
    c.query("UPDATE items SET n = n + 1 WHERE id = 80")
    assert c.parameters["tidemark.token"]
    c.query(end)
    c.query("UPDATE items SET n = n + 1 WHERE id = 80")
    assert c.parameters["tidemark.token"] == "", "what was told before the write passes for its token"


def test_token_that_was_brought_is_reported(router, raw):
    t = router(scope="connection")
    a, b = raw(t), raw(t)
    b.query("SET tidemark.report = on")
    a.query("UPDATE items SET n = n + 1 WHERE id = 80")
    token = a.query_rows("SHOW tidemark.token")[0][0]
    b.query(f"SET tidemark.read_after = '{token}'")
    assert tokens.branches(b.parameters["tidemark.token"]) == tokens.branches(token) != []


def test_token_is_not_reported_to_who_did_not_ask(tm, raw):
    c = raw(tm)
    c.query("UPDATE items SET n = n + 1 WHERE id = 80")
    assert "tidemark.token" not in c.parameters
    d = raw(tm, options="-c tidemark.report=on")
    d.query("UPDATE items SET n = n + 1 WHERE id = 80")
    assert d.parameters.get("tidemark.token")


# ---- monotonic reads ----

def test_what_was_seen_on_one_replica_is_not_unseen_on_another(separate, fleet):
    fleet.sync()
    conns = [separate.connect() for _ in range(6)]
    with paused(fleet, 2):
        n = next(_versions)
        fleet.primary.sql(f"UPDATE items SET n = {n} WHERE id = 82")
        wait_until(lambda: fleet.servers[1].value("SELECT n FROM items WHERE id = 82") == n, 5, "replica1 to catch up")
        for c in conns:
            seen = False
            for _ in range(30):
                got, server = rows(c, f"SELECT n, {WHERE} FROM items WHERE id = 82")[0]
                assert not (seen and got != n), f"went back in time on {server}"
                seen = seen or got == n


def test_what_was_seen_on_the_primary_is_not_unseen_on_a_replica(separate, fleet):
    c = separate.connect()
    with paused(fleet):
        n = next(_versions)
        fleet.primary.sql(f"UPDATE items SET n = {n} WHERE id = 82")
        assert value(c, "/*tidemark_consistency='strong'*/ SELECT n FROM items WHERE id = 82") == n
        for _ in range(10):
            assert value(c, "SELECT n FROM items WHERE id = 82") == n
        rows(c, "BEGIN")
        m = next(_versions)
        fleet.primary.sql(f"UPDATE items SET n = {m} WHERE id = 82")
        assert value(c, "SELECT n FROM items WHERE id = 82") == m
        rows(c, "COMMIT")
        assert value(c, "SELECT n FROM items WHERE id = 82") == m


# ---- the net: what a standby refuses ----

def test_functions_that_write_are_known_from_the_catalog(tm, fleet):
    """Made by DDL through the router, used at once."""
    c, other = tm.connect(), tm.connect()
    rows(c, "CREATE OR REPLACE FUNCTION bump(which int) RETURNS int LANGUAGE sql AS "
            "'UPDATE items SET n = n + 1 WHERE id = which RETURNING n'")
    before = tm.routing()
    for conn in (c, other, c):
        n = value(conn, "SELECT bump(83)")
        assert value(conn, "SELECT n FROM items WHERE id = 83") == n
    assert delta(before, tm.routing(), "retried")[0] == 0


def test_a_function_that_becomes_volatile_is_noticed(tm):
    c = tm.connect()
    rows(c, "CREATE OR REPLACE FUNCTION mood() RETURNS text STABLE LANGUAGE sql AS "
            "$$ SELECT current_setting('node.name') $$")

    def replica():
        return value(c, "SELECT mood()") != "primary"

    wait_until(replica, 5, "a stable function on a replica, after the catalog was read again")
    rows(c, "CREATE OR REPLACE FUNCTION mood() RETURNS text VOLATILE LANGUAGE sql AS "
            "$$ SELECT current_setting('node.name') $$")
    for _ in range(10):
        assert value(c, "SELECT mood()") == "primary"


def test_a_migration_is_not_followed_by_a_reading_of_the_catalog_for_each_statement(tm):
    """The snapshot of such a reading would keep VACUUM from its work: what was loaded would not be all visible, and
    index-only scans not chosen."""
    def loads():
        line = next(x for x in tm.http("/metrics")[1].splitlines() if x.startswith("tidemark_catalog_loads_total{result=\"ok\"}"))
        return int(line.split()[-1])

    c = tm.connect()
    settle(tm, c)
    before = loads()
    for i in range(20):
        for text in (f"CREATE TABLE migrated_{i} (a int, b int)",
                     f"INSERT INTO migrated_{i} SELECT i, i FROM generate_series(1, 3000) i", f"VACUUM migrated_{i}"):
            rows(c, text)
    during = loads() - before
    visible = rows(c, "SELECT relname, relallvisible, relpages FROM pg_class WHERE relname ~ '^migrated_' AND relallvisible < relpages")
    for i in range(20):
        rows(c, f"DROP TABLE migrated_{i}")
    settle(tm, c)
    assert len(visible) <= 3, visible  # the watcher asks now and then; it was three of four
    assert during <= 1
    assert loads() > before


def test_a_view_that_hides_a_writing_function(tm):
    c = tm.connect()
    rows(c, "CREATE OR REPLACE FUNCTION bump(which int) RETURNS int LANGUAGE sql AS "
            "'UPDATE items SET n = n + 1 WHERE id = which RETURNING n'; "
            "CREATE OR REPLACE VIEW bumping AS SELECT bump(84) AS n")
    for _ in range(5):
        n = value(c, "SELECT n FROM bumping")
        assert value(c, "SELECT n FROM items WHERE id = 84") == n


def test_what_a_standby_refuses_is_run_on_the_primary_remembered_and_counted(tm, raw):
    """A function that claims to be STABLE and calls one that writes."""
    c = tm.connect()
    rows(c, "CREATE OR REPLACE FUNCTION bump(which int) RETURNS int LANGUAGE sql AS "
            "'UPDATE items SET n = n + 1 WHERE id = which RETURNING n'; "
            "CREATE OR REPLACE FUNCTION liar(which int) RETURNS int STABLE LANGUAGE plpgsql AS "
            "$$ BEGIN RETURN (SELECT bump(which)); END $$")
    settle(tm, c)
    before = tm.routing()
    n = value(c, "SELECT liar(85)")
    assert value(c, "SELECT n FROM items WHERE id = 85") == n
    assert delta(before, tm.routing(), "retried")[0] == 1
    settle(tm, c)
    before = tm.routing()
    assert value(c, "SELECT liar(85)") == n + 1
    assert value(c, "SELECT n FROM items WHERE id = 85") == n + 1
    assert delta(before, tm.routing(), "retried", "reason_refused_before") == [0, 1]
    # By the extended protocol, and another text.
    settle(tm, c)
    before = tm.routing()
    r = raw(tm)
    r.send(parse("liar", "SELECT 1, liar($1) AS by_parse", [23]), bind("", "liar", [85]), describe("P"), execute(), sync())
    got = r.until_ready()
    assert kinds(got) == "12TDCZ", got
    assert [m.columns() for m in got if m.kind == "D"] == [[b"1", str(n + 2).encode()]]
    assert delta(before, tm.routing(), "retried")[0] == 1
    for i in range(3, 6):
        r.send(bind("", "liar", [85]), execute(), sync())
        assert [m.columns()[1] for m in r.until_ready() if m.kind == "D"] == [str(n + i).encode()]


def test_a_refusal_behind_rows_is_not_run_twice(tm):
    """Rows went out before the standby refused: the client gets one whole answer or an error, never a mixture."""
    c = tm.connect()
    rows(c, "CREATE OR REPLACE FUNCTION bump(which int) RETURNS int LANGUAGE sql AS "
            "'UPDATE items SET n = n + 1 WHERE id = which RETURNING n'; "
            "CREATE OR REPLACE FUNCTION late_liar(i int) RETURNS int STABLE LANGUAGE plpgsql AS "
            "$$ BEGIN IF i = 1500 THEN RETURN (SELECT bump(86)); END IF; RETURN i; END $$")
    settle(tm, c)
    start = value(c, "SELECT n FROM items WHERE id = 86")
    try:
        got = rows(c, "SELECT late_liar(id), pad FROM big ORDER BY id")
        assert len(got) == 2000 and got[1499][0] == start + 1
    except psycopg2.Error as e:
        assert e.pgcode == "25006"
    assert value(c, "SELECT n FROM items WHERE id = 86") <= start + 1


def test_unlogged_tables_made_behind_the_routers_back(tm, fleet):
    fleet.primary.sql("DROP TABLE IF EXISTS sly; CREATE UNLOGGED TABLE sly (a int); INSERT INTO sly VALUES (1); "
                      "GRANT ALL ON sly TO app")
    fleet.sync()
    c = tm.connect()
    for _ in range(3):
        assert value(c, "SELECT a FROM sly") == 1
    fleet.primary.sql("DROP TABLE sly")


def test_tables_made_behind_the_routers_back(tm, fleet):
    """Not this session's write: the router owes nothing, but the answer must be of one server or the other."""
    fleet.primary.sql("DROP TABLE IF EXISTS foreigner; CREATE TABLE foreigner AS SELECT 1 AS a; "
                      "GRANT ALL ON foreigner TO app")
    fleet.sync()
    assert value(tm.connect(), "SELECT a FROM foreigner") == 1


def test_errors_of_a_replica_are_the_servers_own(tm):
    c = tm.connect()
    settle(tm, c)
    before = tm.routing()
    with pytest.raises(psycopg2.errors.DivisionByZero):
        rows(c, "SELECT 1/(n - n) FROM items")
    assert delta(before, tm.routing(), "reads_replica", "retried") == [1, 0]


# ---- positions that go backwards, pins, failover ----

def test_replica_restarted_immediate_never_shows_the_past(small_fleet, router):
    t = router(in_front_of=small_fleet, answer_timeout="500ms", server_login_retry="100ms")
    c = t.connect()
    for round_ in range(3):
        for _ in range(5):
            n = next(_versions)
            rows(c, f"UPDATE items SET n = {n} WHERE id = 87")
            assert value(c, "SELECT n FROM items WHERE id = 87") == n
        small_fleet.stop(1, "immediate")
        n = next(_versions)
        rows(c, f"UPDATE items SET n = {n} WHERE id = 87")
        small_fleet.start(1)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert value(c, "SELECT n FROM items WHERE id = 87") == n
    wait_until(lambda: where(c) == "replica1", 15, "the replica to be used again")
    assert value(c, "SELECT n FROM items WHERE id = 87") == n


def test_pin_fixed(router):
    t = router(strategy="pin_fixed", pin_window="800ms")
    c, other = t.connect(), t.connect()
    settle(t, c)
    rows(c, f"UPDATE items SET n = {next(_versions)} WHERE id = 88")
    wrote = time.monotonic()
    while time.monotonic() < wrote + 0.6:
        assert where(c) == "primary"
        assert where(other) == "primary", "scope = database: the window is everybody's"
        time.sleep(0.05)
    time.sleep(0.4)
    assert where(c) != "primary"
    assert t.routing()["reason_pinned"] > 0


def test_pin_auto_follows_the_measured_delay(router, fleet):
    t = router(strategy="pin_auto")
    fleet.set_delay(1, 200)
    fleet.set_delay(2, 200)
    c = t.connect()
    for _ in range(6):
        n = next(_versions)
        rows(c, f"UPDATE items SET n = {n} WHERE id = 88")
        assert value(c, "SELECT n FROM items WHERE id = 88") == n
        time.sleep(0.1)
        assert value(c, "SELECT n FROM items WHERE id = 88") == n, "the window is shorter than the delay"
    wait_until(lambda: where(c) != "primary", 10, "the window to end")


def test_promotion_is_followed(need_router):
    fleet = harness.Fleet(standbys=1)
    try:
        with harness.Tidemark(fleet, answer_timeout="500ms", server_login_retry="100ms", server_connect_timeout="1s",
                              query_wait_timeout="3s") as t:
            c = t.connect()
            rows(c, "UPDATE items SET n = 1 WHERE id = 1")
            fleet.sync()
            fleet.stop(0, "immediate")
            fleet.promote(1)

            def writes():
                try:
                    rows(t.connect(), "UPDATE items SET n = 2 WHERE id = 1")
                    return True
                except psycopg2.Error:
                    return False

            wait_until(writes, 15, "writes to go to the promoted server")
            assert fleet.servers[1].value("SELECT n FROM items WHERE id = 1") == 2
            d = t.connect()
            for i in range(3, 10):
                rows(d, f"UPDATE items SET n = {i} WHERE id = 1")
                assert value(d, "SELECT n FROM items WHERE id = 1") == i
    finally:
        fleet.destroy()


def test_a_commit_that_ends_on_a_page_boundary_costs_no_wait(router, fleet):
    """There the primary reports a position inside the next page's header, which a quiet primary does not write:
    taken at its word, every read would wait for it in vain and go to the primary."""
    t = router(wait_timeout="400ms")
    c = t.connect()
    settle(t, c)
    probe = fleet.primary.connect()
    hits = 0
    for _ in range(12):
        if end_on_page_boundary(c, probe):
            hits += 1
            fleet.sync_quietly()
            started = time.monotonic()
            assert where(c) != "primary", "a caught-up replica was taken for one behind"
            assert time.monotonic() - started < 0.3
        if hits == 3:
            break
    assert hits == 3, f"only {hits} commits could be made to end on a page boundary"


def end_on_page_boundary(c, probe):
    """Makes a commit of `c` end exactly where a WAL page does. True if it worked (nobody else wrote)."""
    def position():
        return int(value(probe, "SELECT pg_current_wal_insert_lsn() - '0/0'"))

    def commit(length):
        value(c, f"SELECT pg_logical_emit_message(true, 'p', repeat('x', {length}))")

    # What a commit with a message of this size takes, measured where no page header is in between.
    size = 600
    while True:
        before = position()
        if before % 8192 + 1500 < 8192:
            break
        commit(size)
    commit(size)
    overhead = position() - before - size
    # Fill the page up, then hit its end.
    left = 8192 - position() % 8192
    while left > 3000:
        commit(1000)
        left = 8192 - position() % 8192
    if left < overhead + 300:
        return False
    commit(left - overhead)
    return position() % 8192 == 24


def test_a_replica_that_stands_still_is_not_waited_for_again_and_again(router, fleet):
    t = router(scope="connection", wait_timeout="100ms")
    c = t.connect()
    settle(t, c)
    with paused(fleet):
        rows(c, "UPDATE items SET n = n + 1 WHERE id = 81")
        before = t.routing()
        for _ in range(20):
            assert rows(c, f"SELECT {WHERE} FROM items WHERE id = 81") == [("primary",)]
        waited, far = delta(before, t.routing(), "reads_waited", "reason_too_far_behind")
    # The first wait is worth a try; then it has been overdue for longer than a wait may take.
    assert waited <= 3 and far >= 17, (waited, far)
