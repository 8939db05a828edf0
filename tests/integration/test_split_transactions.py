# SPDX-License-Identifier: PostgreSQL
"""split_transactions = read_committed: a transaction that may write begins on a replica."""

import psycopg2
import pytest

from harness import WHERE, Direct, rows, value, wait_until
from rawpg import bind, describe, execute, parse, query, summaries, sync
from test_health import conflicts  # noqa: F401  a fixture
from test_routing import paused
from test_transactions import BATCHES, CONVERSATIONS, ask, hear, settle, step


@pytest.fixture
def split(tm, raw):
    """A connection that splits, while the replicas have all there is to read."""
    settle(tm, tm.connect())
    c = raw(tm)
    c.query("SET tidemark.split_transactions = 'read_committed'")
    return c


def route(c):
    return ask(c, "SHOW tidemark.route")[0].split(":")[0]


def caught_up(c):
    """A replica has what this connection has written."""
    wait_until(lambda: ask(c, "SELECT n FROM items WHERE id = 60") and route(c) != "primary", 10, "a replica to catch up")


def begin_on_a_replica(c, begin="BEGIN"):
    assert c.query(begin)[-1].body == b"T"
    assert ask(c, "SELECT n FROM items WHERE id = 60")[1] == "T"
    assert route(c).startswith("replica"), ask(c, "SHOW tidemark.route")


def test_it_reads_on_a_replica_and_writes_on_the_primary(split, tm):
    before = tm.routing()
    for n in (1, 2):
        caught_up(split)
        begin_on_a_replica(split)
        split.query(f"UPDATE items SET n = {n} WHERE id = 60")
        assert route(split) == "primary"
        assert ask(split, "SELECT n FROM items WHERE id = 60") == (str(n), "T")
        assert route(split) == "primary"
        assert split.query("COMMIT")[0].body == b"COMMIT\0"
        assert ask(split, "SELECT n FROM items WHERE id = 60") == (str(n), "I")
    assert tm.routing()["transactions_moved"] == before["transactions_moved"] + 2


@pytest.mark.parametrize("end, tag", [("COMMIT", b"COMMIT\0"), ("ROLLBACK", b"ROLLBACK\0")])
def test_one_that_only_reads_ends_on_its_replica(split, tm, end, tag):
    before = tm.routing()
    begin_on_a_replica(split)
    got = split.query(end)
    assert got[0].body == tag and got[-1].body == b"I"
    after = tm.routing()
    assert after["transactions_moved"] == before["transactions_moved"]
    assert after["reason_transaction"] == before["reason_transaction"]
    assert after["reads_total"] == before["reads_total"] + 1, "the end is no read"


@pytest.mark.parametrize("begin", ["BEGIN READ WRITE", "BEGIN ISOLATION LEVEL REPEATABLE READ",
                                   "BEGIN ISOLATION LEVEL SERIALIZABLE"])
def test_what_is_not_split(split, begin):
    split.query(begin)
    ask(split, "SELECT n FROM items WHERE id = 60")
    assert route(split) == "primary"
    split.query("COMMIT")


@pytest.fixture
def objects(tm, fleet):
    """A view that asks for the time, one above it, one that does not, and a table with row security."""
    c = tm.connect()
    rows(c, "CREATE TABLE IF NOT EXISTS offers (id int, until timestamptz)")
    rows(c, "CREATE OR REPLACE VIEW open_offers AS SELECT * FROM offers WHERE until > now()")
    rows(c, "CREATE OR REPLACE VIEW my_offers AS SELECT id FROM open_offers")
    rows(c, "CREATE OR REPLACE VIEW all_offers AS SELECT * FROM offers WHERE id > 0")
    rows(c, "CREATE TABLE IF NOT EXISTS guarded (id int)")
    rows(c, "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY")
    rows(c, "DROP POLICY IF EXISTS p ON guarded")
    rows(c, "CREATE POLICY p ON guarded USING (extract(year FROM now()) > 2000)")
    wait_until(lambda: value(c, "SELECT count(*) FROM all_offers") == 0 and
               value(c, "SHOW tidemark.route").startswith("replica"), 10, "the catalog to be read again")


MOVES = {
    "write": "UPDATE items SET n = n WHERE id = 61", "locking": "SELECT n FROM items WHERE id = 61 FOR UPDATE",
    "lock": "LOCK TABLE items IN ACCESS SHARE MODE", "savepoint": "SAVEPOINT a", "set local": "SET LOCAL work_mem = '3MB'",
    "show": "SHOW work_mem", "sequence": "SELECT nextval('seq')", "temp": "CREATE TEMP TABLE mine (a int) ON COMMIT DROP",
    "cursor": "DECLARE k CURSOR FOR SELECT id FROM items", "now": "SELECT now()", "date": "SELECT CURRENT_DATE",
    "a time by a literal": "SELECT id FROM items WHERE 'today'::date > '2020-01-01'",
    "clock": "SELECT clock_timestamp()", "user function": f"SELECT {WHERE}", "cast": "SELECT v::text::date FROM items WHERE false",
    "view": "SELECT * FROM open_offers", "view on a view": "SELECT * FROM my_offers", "row security": "SELECT * FROM guarded",
    "read and write": "SELECT 1; UPDATE items SET n = n WHERE id = 61", "chain": "COMMIT AND CHAIN",
}


@pytest.mark.parametrize("name", MOVES)
def test_it_moves_before_what_must_not_run_on_a_replica(objects, split, name):
    begin_on_a_replica(split)
    got = split.query(MOVES[name])
    assert "E" not in [m.kind for m in got] and got[-1].body == b"T", got
    assert route(split) == "primary"
    assert ask(split, "SELECT n FROM items WHERE id = 61")[1] == "T"
    assert route(split) == "primary", "it stays there"
    assert split.query("COMMIT")[0].body == b"COMMIT\0"


def test_views_and_tables_without_a_clock_do_not_move_it(objects, split):
    begin_on_a_replica(split)
    for text in ("SELECT * FROM all_offers", "SELECT * FROM offers WHERE until > '2020-01-01'", "SELECT CURRENT_USER"):
        split.query(text)
        assert route(split).startswith("replica"), text
    split.query("COMMIT")


@pytest.mark.parametrize("what", ["named portal", "some rows", "now as a parameter", "now in a named statement"])
def test_it_moves_before_a_batch_that_must_not_run_on_a_replica(split, what):
    read = "SELECT id FROM items ORDER BY id"
    late = "SELECT id FROM items WHERE $1::timestamptz > '2020-01-01'"
    split.send(parse("late", late.replace("$1", "'now'")), sync())
    split.until_ready()
    begin_on_a_replica(split)
    split.send(*{"named portal": [parse("", read), bind("p"), execute("p")],
                 "some rows": [parse("", read), bind(), execute("", 2)],
                 "now as a parameter": [parse("", late), bind("", "", [b"now"]), execute()],
                 "now in a named statement": [bind("", "late"), execute()]}[what], sync())
    assert split.until_ready()[-1].body == b"T"
    assert route(split) == "primary"
    split.query("ROLLBACK")


def test_a_transaction_shows_one_time(split):
    begin_on_a_replica(split)
    shown = ask(split, "SELECT now()")[0]
    split.query("UPDATE items SET n = n WHERE id = 62")
    assert ask(split, "SELECT transaction_timestamp()") == (shown, "T")
    split.query("COMMIT")


# Beside those of test_transactions.py.
MORE_CONVERSATIONS = {
    "the usual": ["UPDATE items SET n = 4 WHERE id = 63", "BEGIN", "SELECT n FROM items WHERE id = 63", "UPDATE items SET n = 5 WHERE id = 63",
                  "SELECT n FROM items WHERE id = 63", "COMMIT", "SELECT n FROM items WHERE id = 63"],
    "rolled back": ["BEGIN", "SELECT 1", "UPDATE items SET n = 6 WHERE id = 63", "ROLLBACK", "SELECT n FROM items WHERE id = 63"],
    "set transaction too late": ["BEGIN", "SELECT 1", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "ROLLBACK"],
    "read only too late": ["BEGIN", "SELECT 1", "SET TRANSACTION READ ONLY", "UPDATE items SET n = n WHERE id = 63", "ROLLBACK"],
    "read write too late": ["BEGIN READ ONLY", "SELECT 1", "SET TRANSACTION READ WRITE", "ROLLBACK"],
    "level": ["BEGIN", "SELECT 1", "SHOW transaction_isolation", "SHOW transaction_read_only", "COMMIT"],
    "failed on the replica": ["BEGIN", "SELECT 1", "SELECT 1/0", "UPDATE items SET n = n WHERE id = 63", "COMMIT", "SELECT 2"],
    "failed on the primary": ["BEGIN", "SELECT 1", "UPDATE items SET n = 1/0 WHERE id = 63", "SELECT 1", "ROLLBACK", "SELECT 2"],
    "chained": ["BEGIN", "SELECT 1", "COMMIT AND CHAIN", "SHOW transaction_isolation", "SELECT 2", "COMMIT"],
    "begin again": ["BEGIN", "SELECT 1", "BEGIN", "SELECT 2", "COMMIT"],
    "all in a text": ["BEGIN; SELECT 1; UPDATE items SET n = n WHERE id = 63; COMMIT", "SELECT 2"],
    "begun in a text": ["BEGIN; SELECT 1", "UPDATE items SET n = n WHERE id = 63", "COMMIT"],
    "ended in a text": ["BEGIN", "SELECT 1", "SELECT 2; COMMIT; SELECT 3", "SELECT 4"],
    "savepoint": ["BEGIN", "SELECT 1", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", "SELECT 2", "COMMIT"],
    "set": ["BEGIN", "SELECT 1", "SET work_mem = '5MB'", "COMMIT", "SHOW work_mem", "RESET work_mem"],
    "locked": ["BEGIN", "SELECT n FROM items WHERE id = 63", "SELECT n FROM items WHERE id = 63 FOR UPDATE", "COMMIT"],
}
MORE_BATCHES = {
    "a pipeline that moves": [[step("BEGIN"), sync(), step("SELECT 1"), sync(), step("UPDATE items SET n = n WHERE id = 63"),
                               sync(), step("SELECT 2"), sync(), step("COMMIT"), sync(), step("SELECT 3"), sync()]],
    "begin with the first read": [[step("BEGIN"), step("SELECT 1"), sync()],
                                  [step("UPDATE items SET n = n WHERE id = 63"), sync()], [step("COMMIT"), sync()]],
    "a whole transaction": [[step("BEGIN"), step("SELECT 1"), step("UPDATE items SET n = n WHERE id = 63"), step("COMMIT"),
                             sync()]],
    "prepared": [[parse("r", "SELECT n > 0 FROM items WHERE id = 64"), parse("w", "UPDATE items SET n = n WHERE id = 64"), sync()],
                 [step("BEGIN"), sync()], [bind("", "r"), describe("P"), execute(), sync()],
                 [bind("", "w"), execute(), sync()], [bind("", "r"), execute(), sync()], [step("COMMIT"), sync()]],
    "parsed ahead": [[step("BEGIN"), sync()], [step("SELECT 1"), sync()],
                     [parse("w", "UPDATE items SET n = n WHERE id = 64"), describe("S", "w"), sync()],
                     [bind("", "w"), execute(), sync()], [step("COMMIT"), sync()]],
}


def test_it_sounds_like_postgresql(split, fleet, raw, tm):
    with_errors = []
    for name, texts in {**CONVERSATIONS, **MORE_CONVERSATIONS}.items():
        heard = []
        for to in (Direct(fleet), tm):
            c = raw(to)
            if to is tm:
                c.query("SET tidemark.split_transactions = 'read_committed'")
            heard.append([summaries(c.query(text)) for text in texts])
            c.close()
        assert heard[0] == heard[1], name
        with_errors += [name] if "25001" in repr(heard[0]) else []
    assert "set transaction too late" in with_errors


def test_batches_sound_like_postgresql(split, fleet, raw, tm):
    for name, batches in {**BATCHES, **MORE_BATCHES}.items():
        heard = []
        for to in (Direct(fleet), tm):
            c = raw(to)
            if to is tm:
                c.query("SET tidemark.split_transactions = 'read_committed'")
            heard.append([hear(c, batch) for batch in batches])
            c.close()
        if name == "flushed":
            heard = [[x for part in h for x in part] for h in heard]
        assert heard[0] == heard[1], name


def test_its_reads_see_what_the_session_wrote(tm, split, fleet):
    """Each read is judged anew: while replay stands still they are on the primary, before and inside."""
    writer = tm.connect()
    rows(writer, "UPDATE items SET n = 1 WHERE id = 65")
    settle(tm, writer)
    begin_on_a_replica(split)
    with paused(fleet):
        rows(writer, "UPDATE items SET n = 2 WHERE id = 65")
        assert ask(split, "SELECT n FROM items WHERE id = 65") == ("2", "T")
        assert route(split) == "primary"
        split.query("UPDATE items SET n = n + 1 WHERE id = 65")
        split.query("COMMIT")
        split.query("BEGIN")
        assert ask(split, "SELECT n FROM items WHERE id = 65") == ("3", "T")
        split.query("COMMIT")


def test_a_replica_that_throws_it_out_is_not_noticed(tm, split, fleet, conflicts):  # noqa: F811
    """Idle in its transaction it stands in the way of replay, which does not wait."""
    begin_on_a_replica(split)
    before = sum(int(s.value("SELECT confl_lock FROM pg_stat_database_conflicts WHERE datname = 'app'")) for s in fleet.standbys)
    fleet.primary.sql("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE; UPDATE items SET n = 7 WHERE id = 66; COMMIT")
    fleet.sync()
    wait_until(lambda: sum(int(s.value("SELECT confl_lock FROM pg_stat_database_conflicts WHERE datname = 'app'"))
                           for s in fleet.standbys) > before, 10, "a conflict")
    assert ask(split, "UPDATE items SET n = n + 1 WHERE id = 66 RETURNING n") == ("8", "T")
    assert split.query("COMMIT")[0].body == b"COMMIT\0"


def test_its_option_is_the_connections_own(tm, raw):
    settle(tm, tm.connect())
    c = raw(tm, options="-c tidemark.split_transactions=read_committed")
    assert ask(c, "SHOW tidemark.split_transactions")[0] == "read_committed"
    begin_on_a_replica(c)
    c.query("SET tidemark.split_transactions = off")
    assert ask(c, "SELECT 1") == ("1", "T") and route(c).startswith("replica"), "what has begun goes on"
    assert ask(c, "SELECT 'now'::timestamptz")[1] == "T" and route(c) == "primary"
    c.query("COMMIT")
    c.query("BEGIN")
    ask(c, "SELECT 1")
    assert route(c) == "primary"
    c.query("COMMIT")
    c.query("RESET tidemark.split_transactions")
    assert ask(c, "SHOW tidemark.split_transactions")[0] == "off"
    assert c.query("SET tidemark.split_transactions = 'on'")[0].fields()["C"] == "22023"
    c.query("RESET ALL")
    assert ask(c, "SHOW tidemark.split_transactions")[0] == "read_committed"


def test_the_default_level_of_the_session_counts(tm, fleet, split, raw):
    split.query("SET default_transaction_isolation = 'repeatable read'")
    split.query("BEGIN")
    ask(split, "SELECT 1")
    assert route(split) == "primary"
    split.query("COMMIT")
    split.query("SET default_transaction_isolation = 'read committed'")
    begin_on_a_replica(split)
    split.query("COMMIT")


def test_the_default_level_of_the_role_counts(router, fleet, raw):
    t = router(split_transactions="read_committed")
    fleet.primary.sql("ALTER ROLE other SET default_transaction_isolation = 'repeatable read'")
    try:
        fleet.sync()
        settle(t, t.connect())
        for user, where in (("app", "replica"), ("other", "primary")):
            c = raw(t, user=user)
            ask(c, "SELECT 1")
            c.query("BEGIN")
            assert ask(c, "SELECT 1") == ("1", "T")
            assert route(c).startswith(where), user
            c.query("COMMIT")
            c.send(step("BEGIN"), step("SELECT 1"), sync())
            c.until_ready()
            assert route(c).startswith(where), user
            c.query("COMMIT")
    finally:
        fleet.primary.sql("ALTER ROLE other RESET default_transaction_isolation")
