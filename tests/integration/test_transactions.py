# SPDX-License-Identifier: PostgreSQL
"""Transactions: a BEGIN that is held back, READ ONLY ones on replicas, and how they move."""

import time

import psycopg2
import pytest

import rawpg
from harness import WHERE, rows, value, wait_until, where
from test_routing import paused
from rawpg import bind, close, describe, execute, flush, kinds, parse, query, summaries, sync

READ_ONLY = ["BEGIN READ ONLY", "START TRANSACTION READ ONLY", "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY",
             "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY", "BEGIN READ ONLY NOT DEFERRABLE"]
NOT_ON_REPLICAS = ["BEGIN", "BEGIN READ WRITE", "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
                   "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE", "BEGIN ISOLATION LEVEL REPEATABLE READ"]


def settle(t, c):
    wait_until(lambda: where(c) != "primary", 10,
               lambda: f"reads to go to replicas; {value(c, 'SHOW tidemark.route')}; {t.show('FLEET')}")


def ask(c, text):
    """The first column of the first row, and the transaction status."""
    got = c.query(text)
    row = next((m.columns()[0] for m in got if m.kind == "D"), None)
    return row and row.decode(), got[-1].body.decode()


def locks_and_snapshots(fleet):
    """How many clients of the router are in a transaction on the primary."""
    return int(fleet.primary.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND "
                                   "state LIKE 'idle in transaction%%'"))


@pytest.fixture
def separate(router):
    """scope = connection: every connection is a session of its own."""
    return router(scope="connection")


# ---- held back ----

def test_a_begin_reaches_no_server_before_its_first_statement(tm, fleet, raw):
    c = raw(tm)
    for begin in READ_ONLY + NOT_ON_REPLICAS:
        got = c.query(begin)
        tag = "START TRANSACTION" if begin.startswith("START") else "BEGIN"
        assert [m.kind for m in got] == ["C", "Z"] and got[0].body == tag.encode() + b"\0", begin
        assert got[1].body == b"T"
        assert locks_and_snapshots(fleet) == 0
        got = c.query("COMMIT")
        assert got[0].body == b"COMMIT\0" and got[1].body == b"I"


@pytest.mark.parametrize("end, tag", [("COMMIT", "COMMIT"), ("END", "COMMIT"), ("ROLLBACK", "ROLLBACK"),
                                      ("ABORT", "ROLLBACK")])
def test_an_empty_transaction_is_answered_by_the_router(tm, raw, end, tag):
    c = raw(tm)
    before = tm.routing()
    c.query("BEGIN")
    assert c.query(end)[0].body == tag.encode() + b"\0"
    assert tm.routing()["reason_transaction"] == before["reason_transaction"]


def test_what_is_held_back_arrives_as_it_was_said(tm, raw):
    c = raw(tm)
    for begin, level, read_only in (("BEGIN ISOLATION LEVEL READ UNCOMMITTED", "read uncommitted", "off"),
                                    ("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE", "serializable", "on"),
                                    ("BEGIN READ WRITE ISOLATION LEVEL REPEATABLE READ", "repeatable read", "off"),
                                    ("BEGIN", "read committed", "off")):
        c.query(begin)
        assert ask(c, "SHOW transaction_isolation") == (level, "T"), begin
        assert ask(c, "SHOW transaction_read_only") == (read_only, "T"), begin
        c.query("COMMIT")


@pytest.mark.parametrize("begin", ["BEGIN READ ONLY READ WRITE", "BEGIN ISOLATION LEVEL SNAPSHOT",
                                   "BEGIN ISOLATION LEVEL SERIALIZABLE ISOLATION LEVEL READ COMMITTED"])
def test_a_begin_that_may_fail_is_the_servers_to_judge(target, raw, begin):
    c = raw(target)
    got = c.query(begin)
    if any(m.kind == "E" for m in got):
        assert got[-1].body == b"I"
    else:
        assert got[-1].body == b"T"
    c.query("ROLLBACK")
    assert ask(c, "SELECT 1") == ("1", "I")


def test_begin_and_its_first_statement_leave_in_one_segment(tm, fleet, raw):
    """Seen on the server: a BEGIN of its own would show as a transaction that is idle."""
    c = raw(tm)
    c.send(query("BEGIN"), query(f"UPDATE items SET n = n WHERE id = 31 RETURNING {WHERE}"), query("COMMIT"))
    for want in ("T", "T", "I"):
        assert c.until_ready()[-1].body.decode() == want


def test_a_second_begin_in_a_transaction_is_a_warning(target, raw):
    c = raw(target)
    c.query("BEGIN")
    got = c.query("BEGIN")
    assert [m.kind for m in got] == ["N", "C", "Z"] and got[-1].body == b"T"
    assert c.query("COMMIT")[-1].body == b"I"


def test_an_error_in_the_first_statement_fails_the_transaction(target, raw):
    c = raw(target)
    c.query("BEGIN")
    assert ask(c, "SELECT 1/0") == (None, "E")
    got = c.query("SELECT 1")
    assert got[0].fields()["C"] == "25P02" and got[-1].body == b"E"
    assert c.query("COMMIT")[0].body == b"ROLLBACK\0"


# What a held BEGIN is followed by: each must look as on PostgreSQL itself.
CONVERSATIONS = {
    "savepoint first": ["BEGIN", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", "SELECT 1", "COMMIT"],
    "set local first": ["BEGIN", "SET LOCAL work_mem = '3MB'", "SHOW work_mem", "COMMIT", "SHOW work_mem"],
    "set transaction first": ["BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SHOW transaction_isolation", "COMMIT"],
    "set then rollback": ["BEGIN", "SET work_mem = '5MB'", "ROLLBACK", "SHOW work_mem"],
    "chain": ["BEGIN ISOLATION LEVEL REPEATABLE READ", "COMMIT AND CHAIN", "SHOW transaction_isolation", "COMMIT"],
    "rollback and chain": ["BEGIN READ ONLY", "ROLLBACK AND CHAIN", "SHOW transaction_read_only", "COMMIT"],
    "chain behind a failure": ["BEGIN READ ONLY", "SELECT 1", "SELECT 1/0", "COMMIT AND CHAIN", "SHOW transaction_read_only",
                               "SET TRANSACTION READ WRITE", "COMMIT"],
    "chain behind a set that failed": ["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SELECT 1", "SET work_mem = '9MB'",
                                       "SELECT 1/0", "ROLLBACK AND CHAIN", "SHOW transaction_isolation", "COMMIT", "SHOW work_mem"],
    "cursor": ["BEGIN READ ONLY", "DECLARE k CURSOR FOR SELECT id FROM items ORDER BY id", "FETCH 3 FROM k",
               "SELECT count(*) FROM items", "MOVE 5 FROM k", "FETCH 1 FROM k", "CLOSE k", "COMMIT"],
    "read only write": ["BEGIN READ ONLY", "SELECT 1", "UPDATE items SET n = 1 WHERE id = 32", "SELECT 1", "COMMIT"],
    "read only savepoints": ["BEGIN READ ONLY", "SELECT 1", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", "SELECT 2",
                             "RELEASE a", "COMMIT"],
    "repeatable read": ["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SELECT 1", "SHOW transaction_isolation",
                        "SELECT nextval('seq')", "ROLLBACK", "SELECT 1"],
    "lock": ["BEGIN READ ONLY", "SELECT 1", "LOCK TABLE items IN ACCESS SHARE MODE", "SELECT 1", "COMMIT"],
    "empty statements": ["BEGIN READ ONLY", "", "SELECT 1", ";", "COMMIT"],
    "two texts": ["BEGIN READ ONLY", "SELECT 1; SELECT 2", "SELECT 3; COMMIT", "SELECT 4"],
    "commit in a text": ["BEGIN", "SELECT 1; COMMIT; SELECT 2", "SELECT 3"],
    "prepare transaction": ["BEGIN READ ONLY", "SELECT 1", "PREPARE TRANSACTION 'held'", "ROLLBACK PREPARED 'held'"],
    "discard all": ["BEGIN", "DISCARD ALL", "ROLLBACK", "SELECT 1"],
    "sql prepare": ["BEGIN READ ONLY", "PREPARE held AS SELECT 7", "EXECUTE held", "COMMIT", "EXECUTE held", "DISCARD ALL"],
    "commit without begin": ["COMMIT", "ROLLBACK", "SELECT 1"],
    "syntax error": ["BEGIN", "SELEC 1", "COMMIT", "SELECT 1"],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_sounds_like_postgresql(tm, fleet, raw, name):
    from harness import Direct
    heard = []
    for to in (Direct(fleet), tm):
        c = raw(to)
        heard.append([summaries(c.query(text)) for text in CONVERSATIONS[name]])
        c.close()
    assert heard[0] == heard[1]


def step(text):
    return parse("", text) + bind() + describe("P") + execute()


BATCHES = {
    "begin alone": [[step("BEGIN"), sync()], [step("SELECT 1"), sync()], [step("COMMIT"), sync()]],
    "begin and first statement": [[step("BEGIN READ ONLY"), step("SELECT 1"), sync()], [step("SELECT 2"), sync()],
                                  [step("COMMIT"), sync()]],
    "all in one": [[step("BEGIN READ ONLY"), step("SELECT 1"), step("COMMIT"), sync()]],
    "named begin": [[parse("b", "BEGIN"), parse("c", "COMMIT"), sync()],
                    [bind("", "b"), execute(), sync()], [step("SELECT 1"), sync()], [bind("", "c"), execute(), sync()],
                    [bind("", "b"), execute(), bind("", "c"), execute(), sync()],
                    [bind("", "b"), execute(), step("SELECT 3"), sync()], [bind("", "c"), execute(), sync()]],
    "named in the batch": [[parse("b", "BEGIN"), bind("", "b"), execute(), sync()], [parse("b", "BEGIN"), sync()],
                           [step("ROLLBACK"), sync()], [describe("S", "b"), sync()], [close("S", "b"), sync()]],
    "a pipeline": [[step("BEGIN"), sync(), step("SELECT 1"), sync(), step("SELECT 1/0"), sync(), step("SELECT 2"), sync(),
                    step("ROLLBACK"), sync(), step("SELECT 3"), sync()]],
    "flushed": [[step("BEGIN"), flush()], [step("SELECT 1"), sync()], [step("COMMIT"), sync()]],
    "parsed only": [[parse("", "BEGIN"), sync()], [bind(), sync()], [step("SELECT 1"), sync()]],
    "begin with parameters": [[parse("", "BEGIN"), bind("", "", [b"1"]), execute(), sync()], [step("SELECT 1"), sync()]],
    "rows by rows": [[step("BEGIN READ ONLY"), sync()],
                     [parse("", "SELECT g FROM generate_series(1, 5) g"), bind("p"), execute("p", 2), sync()],
                     [execute("p", 2), sync()], [step("SELECT 8"), sync()], [execute("p", 2), sync()],
                     [step("COMMIT"), sync()]],
    "empty": [[step("BEGIN"), step("COMMIT"), sync()], [step("BEGIN"), step("ROLLBACK"), sync()]],
    "begin twice": [[step("BEGIN"), step("BEGIN"), sync()], [step("COMMIT"), sync()]],
    "end unbegun": [[step("COMMIT"), sync()]],
}


def hear(c, batch):
    c.send(*batch)
    return [summaries(c.until_ready()) for piece in batch if piece == sync()] or [summaries(c.recv_until("CE"))]


@pytest.mark.parametrize("name", BATCHES)
def test_batches_sound_like_postgresql(tm, fleet, raw, name):
    from harness import Direct
    settle(tm, tm.connect())
    heard = []
    for to in (Direct(fleet), tm):
        c = raw(to)
        heard.append([hear(c, batch) for batch in BATCHES[name]])
        c.close()
    if name == "flushed":
        heard = [[x for part in h for x in part] for h in heard]
    assert heard[0] == heard[1]


def test_a_refused_first_statement_fails_the_transaction(router, fleet, raw):
    t = router(default_pool_size=1, query_wait_timeout="1s")
    holder = t.connect()
    rows(holder, "BEGIN")
    rows(holder, "UPDATE items SET v = v WHERE id = 33")
    c = raw(t)
    assert c.query("BEGIN")[-1].body == b"T"
    got = c.query("UPDATE items SET v = v WHERE id = 34")
    assert got[0].fields()["C"] == "53300" and got[-1].body == b"E"
    got = c.query("SELECT 1")
    assert got[0].fields()["C"] == "25P02" and got[-1].body == b"E"
    c.send(step("SELECT 1"), sync())
    got = c.until_ready()
    assert got[0].fields()["C"] == "25P02" and got[-1].body == b"E"
    got = c.query("COMMIT")
    assert got[0].body == b"ROLLBACK\0" and got[-1].body == b"I"
    rows(holder, "COMMIT")
    assert ask(c, "SELECT 1") == ("1", "I")


# ---- on replicas ----

@pytest.mark.parametrize("begin", READ_ONLY)
def test_read_only_transactions_run_on_replicas(tm, raw, begin):
    settle(tm, tm.connect())
    c = raw(tm)
    c.query(begin)
    seen = {ask(c, f"SELECT {WHERE}")[0] for _ in range(5)}
    assert all(name.startswith("replica") for name in seen), seen
    # A snapshot stays where it was taken; else each read goes where the mark is.
    assert "REPEATABLE READ" not in begin or len(seen) == 1
    assert "replica" in ask(c, "SHOW tidemark.route")[0]
    assert c.query("COMMIT")[0].body == b"COMMIT\0"
    assert ask(c, f"SELECT {WHERE}")[0].startswith("replica")


@pytest.mark.parametrize("begin", NOT_ON_REPLICAS)
def test_other_transactions_run_on_the_primary(tm, raw, begin):
    settle(tm, tm.connect())
    c = raw(tm)
    c.query(begin)
    assert ask(c, f"SELECT {WHERE}") == ("primary", "T")
    c.query("COMMIT")


def test_a_batch_of_begin_and_read_runs_on_a_replica(tm, raw):
    settle(tm, tm.connect())
    c = raw(tm)
    c.send(step("BEGIN READ ONLY"), step(f"SELECT {WHERE}"), sync())
    got = [m.columns()[0] for m in c.until_ready() if m.kind == "D"]
    assert got[0].startswith(b"replica")
    c.send(step(f"SELECT {WHERE}"), sync())
    assert [m.columns()[0] for m in c.until_ready() if m.kind == "D"] == got
    c.send(step("COMMIT"), sync())
    assert c.until_ready()[-1].body == b"I"


def test_no_transaction_is_left_open_on_a_replica(tm, fleet, raw):
    settle(tm, tm.connect())
    c = raw(tm)
    for text in ("BEGIN READ ONLY", "SELECT 1", "SAVEPOINT a"):
        c.query(text)
    d = raw(tm)
    for text in ("BEGIN READ ONLY", "SELECT 1"):
        d.query(text)
    d.close()
    e = raw(tm)
    for text in ("BEGIN READ ONLY", "SELECT 1", "COMMIT"):
        e.query(text)

    def idle():
        return sum(int(s.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND "
                               "state LIKE 'idle in transaction%%'")) for s in fleet.standbys)

    wait_until(lambda: idle() == 0, 5, "the replicas to be out of their transactions")


def test_a_read_only_transaction_sees_the_sessions_writes(separate, fleet, raw):
    settle(separate, separate.connect())
    c = raw(separate)
    for i in (1, 2):
        fleet.set_delay(i, 300)
    try:
        for n in range(3):
            c.query(f"UPDATE items SET n = {1000 + n} WHERE id = 35")
            c.query("BEGIN READ ONLY")
            assert ask(c, "SELECT n FROM items WHERE id = 35") == (str(1000 + n), "T")
            c.query("COMMIT")
    finally:
        for i in (1, 2):
            fleet.set_delay(i, 0)


def test_each_read_of_a_read_committed_transaction_is_routed_anew(tm, fleet, raw):
    """Another connection of the session writes while the transaction is open, and replay stands still."""
    settle(tm, tm.connect())
    c, writer = raw(tm), tm.connect()
    rows(writer, "UPDATE items SET n = 1 WHERE id = 36")
    settle(tm, writer)
    c.query("BEGIN READ ONLY")
    assert ask(c, f"SELECT {WHERE}")[0].startswith("replica")
    for i in (1, 2):
        fleet.pause_replay(i)
    rows(writer, "UPDATE items SET n = 2 WHERE id = 36")
    assert ask(c, "SELECT n FROM items WHERE id = 36") == ("2", "T")
    assert ask(c, f"SELECT {WHERE}") == ("primary", "T")
    assert ask(c, "SHOW transaction_read_only") == ("on", "T")
    c.query("COMMIT")


def test_a_repeatable_read_snapshot_stays_where_it_is(tm, fleet, raw):
    settle(tm, tm.connect())
    c, writer = raw(tm), tm.connect()
    rows(writer, "UPDATE items SET n = 1 WHERE id = 37")
    settle(tm, writer)
    c.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    assert ask(c, "SELECT n FROM items WHERE id = 37") == ("1", "T")
    rows(writer, "UPDATE items SET n = 2 WHERE id = 37")
    assert ask(c, "SELECT n FROM items WHERE id = 37") == ("1", "T")
    assert ask(c, f"SELECT {WHERE}")[0].startswith("replica")
    c.query("COMMIT")
    assert ask(c, "SELECT n FROM items WHERE id = 37") == ("2", "I")


MOVES = {"show": "SHOW work_mem", "set local": "SET LOCAL work_mem = '3MB'", "savepoint": "SAVEPOINT a",
         "advisory lock": "SELECT pg_advisory_xact_lock(77)", "a volatile function": "SELECT pg_is_in_recovery()",
         "set": "SET work_mem = '3MB'", "listen": "LISTEN moved", "lock": "LOCK TABLE items IN ACCESS SHARE MODE"}


@pytest.mark.parametrize("name", MOVES)
def test_what_is_no_plain_read_moves_to_the_primary(tm, raw, name):
    settle(tm, tm.connect())
    c = raw(tm)
    c.query("BEGIN READ ONLY")
    assert ask(c, f"SELECT {WHERE}")[0].startswith("replica")
    assert c.query(MOVES[name])[-1].body == b"T"
    assert ask(c, f"SELECT {WHERE}") == ("primary", "T")
    assert c.query("COMMIT")[0].body == b"COMMIT\0"
    c.query("DISCARD ALL")


def test_session_state_cannot_be_made_in_a_snapshot_on_a_replica(tm, raw):
    settle(tm, tm.connect())
    c = raw(tm)
    c.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    assert ask(c, f"SELECT {WHERE}")[0].startswith("replica")
    got = c.query("SELECT pg_advisory_lock(78)")
    assert got[0].fields()["C"] == "0A000" and got[-1].body == b"E"
    assert c.query("COMMIT")[0].body == b"ROLLBACK\0"
    assert ask(c, "SELECT 1") == ("1", "I")


def in_one_batch(c, *texts):
    parts = [m for text in texts for m in (parse("", text), bind(""), execute())]
    c.send(*parts, sync())
    return c.until_ready()


BEHIND_THE_END = {"text": lambda c, end, read: c.query(f"{end}; {read}"), "batch": in_one_batch}


@pytest.mark.parametrize("way", BEHIND_THE_END)
def test_what_follows_the_end_of_a_snapshot_is_not_read_from_its_replica(tm, fleet, raw, way):
    """It is for another snapshot, which would have to show what was written meanwhile."""
    c, writer = raw(tm), tm.connect()
    rows(writer, "UPDATE items SET n = 1 WHERE id = 38")
    settle(tm, writer)
    with paused(fleet):
        c.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        assert ask(c, f"SELECT {WHERE}")[0].startswith("replica")
        rows(writer, "UPDATE items SET n = 2 WHERE id = 38")
        got = BEHIND_THE_END[way](c, "COMMIT", "SELECT n FROM items WHERE id = 38")
        assert [m.fields()["C"] for m in got if m.kind == "E"] == ["0A000"] and got[-1].body == b"E"
        c.query("ROLLBACK")
        assert ask(c, "SELECT n FROM items WHERE id = 38") == ("2", "I")


@pytest.mark.parametrize("way", BEHIND_THE_END)
@pytest.mark.parametrize("begin", ["BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"])
def test_what_follows_the_end_of_a_failed_transaction_sees_all(tm, fleet, raw, begin, way):
    c, writer = raw(tm), tm.connect()
    rows(writer, "UPDATE items SET n = 1 WHERE id = 39")
    settle(tm, writer)
    with paused(fleet):
        c.query(begin)
        assert ask(c, f"SELECT {WHERE}")[0].startswith("replica")
        assert c.query("SELECT 1/0")[-1].body == b"E"
        rows(writer, "UPDATE items SET n = 2 WHERE id = 39")
        got = BEHIND_THE_END[way](c, "ROLLBACK", "SELECT n FROM items WHERE id = 39")
        assert [m.columns()[0] for m in got if m.kind == "D"] == [b"2"] and got[-1].body == b"I"


def test_a_refused_first_statement_runs_on_the_primary(tm, fleet, raw):
    """A STABLE function that writes: a replica refuses it, and so does a READ ONLY transaction on the primary, but
    in its own words."""
    fleet.primary.sql("CREATE OR REPLACE FUNCTION public.sly() RETURNS text STABLE LANGUAGE plpgsql AS "
                      "$$ BEGIN IF pg_is_in_recovery() THEN PERFORM txid_current(); END IF; RETURN public.node_name(); END $$")
    fleet.sync()
    d = tm.connect()
    rows(d, "CREATE TABLE IF NOT EXISTS public.ddl_seen (a int)")
    settle(tm, d)
    c = raw(tm)
    c.query("BEGIN READ ONLY")
    assert ask(c, "SELECT public.sly()") == ("primary", "T")
    assert ask(c, f"SELECT {WHERE}") == ("primary", "T")
    c.query("COMMIT")
    c.send(step("BEGIN READ ONLY"), step("SELECT public.sly() || ''"), sync())
    assert [m.columns()[0] for m in c.until_ready() if m.kind == "D"] == [b"primary"]
    c.query("COMMIT")
    assert ask(c, "SELECT 1") == ("1", "I")


def test_a_replica_that_goes_away_between_reads_is_not_noticed(router, small_fleet, raw):
    t = router(in_front_of=small_fleet)
    settle(t, t.connect())
    c = raw(t)
    c.query("BEGIN READ ONLY")
    assert ask(c, f"SELECT {WHERE}")[0] == "replica1"
    small_fleet.standbys[0].sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
    time.sleep(0.2)
    assert ask(c, "SELECT 7") == ("7", "T")
    assert c.query("COMMIT")[0].body == b"COMMIT\0"


def test_unused_statements_of_a_transaction_are_closed(router, raw):
    """Statements that always run in transactions are bounded all the same."""
    t = router(max_prepared_statements=4)
    c = raw(t)
    for i in range(12):
        c.query("BEGIN")
        c.send(parse(f"s{i}", f"SELECT {i}"), bind("", f"s{i}"), execute(), sync())
        assert [m.columns()[0] for m in c.until_ready() if m.kind == "D"] == [str(i).encode()]
        got = c.query("SELECT count(*) FROM pg_prepared_statements")
        count = int(next(m.columns()[0] for m in got if m.kind == "D"))
        assert count <= 6, count
        c.query("COMMIT")


def test_ddl_between_transactions_is_not_noticed_by_prepared_statements(tm, fleet, raw):
    c, d = raw(tm), tm.connect()
    rows(d, "DROP TABLE IF EXISTS public.plans")
    rows(d, "CREATE TABLE public.plans (a int)")
    c.query("BEGIN")
    c.send(parse("plan", "SELECT * FROM public.plans"), bind("", "plan"), execute(), sync())
    c.until_ready()
    c.query("COMMIT")
    rows(d, "ALTER TABLE public.plans ADD COLUMN b int")
    c.query("BEGIN")
    c.send(bind("", "plan"), execute(), sync())
    got = c.until_ready()
    assert "E" not in kinds(got), got
    c.query("COMMIT")
