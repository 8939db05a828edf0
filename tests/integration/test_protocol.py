# SPDX-License-Identifier: PostgreSQL
"""The wire protocol, message by message.

CONVERSATIONS are held with plain PostgreSQL and with Tidemark and must read the same, answer for
answer. The other tests say what is expected in words, and run against both where both have an answer.
"""

import os
import socket
import struct
import threading
import time

import pytest

import harness
import rawpg
from rawpg import (bind, close, copy_data, copy_done, copy_fail, describe, errors, execute, flush, function_call,
                   kinds, message, parse, query, summaries, sync, terminate)

# ---- conversations that must read the same ----

CONVERSATIONS = {}


def conversation(fn):
    """Registers fn(c, log): `log` takes lists of messages."""
    CONVERSATIONS[fn.__name__] = fn
    return fn


@conversation
def simple_query(c, log):
    log(c.query("SELECT 1 AS a, NULL::text AS b, 'x'::bytea AS c"))
    log(c.query(""))
    log(c.query("   "))
    log(c.query("-- only a comment"))
    log(c.query(";;;"))


@conversation
def multi_statement(c, log):
    log(c.query("UPDATE items SET n = 51 WHERE id = 51"))
    log(c.query("SELECT 1; SELECT 2, 3; SELECT 'x'"))
    log(c.query("SELECT 1;; SELECT 2;"))
    log(c.query("SELECT 1; SELECT 1/0; SELECT 3"))
    log(c.query("UPDATE items SET n = 1 WHERE id = 51; SELECT n FROM items WHERE id = 51; SELECT 1/0"))
    log(c.query("SELECT n FROM items WHERE id = 51"))
    log(c.query("BEGIN; UPDATE items SET n = 2 WHERE id = 51; COMMIT; SELECT n FROM items WHERE id = 51"))
    log(c.query("SELECT n FROM items WHERE id = 51"))
    log(c.query("UPDATE items SET n = 51 WHERE id = 51"))


@conversation
def transactions(c, log):
    for text in ("BEGIN", "SELECT 1", "UPDATE items SET n = 5 WHERE id = 52", "SELECT n FROM items WHERE id = 52",
                 "SAVEPOINT a", "SELECT 1/0", "SELECT 2", "ROLLBACK TO a", "SELECT 3", "ROLLBACK",
                 "SELECT n FROM items WHERE id = 52", "COMMIT", "ROLLBACK", "BEGIN", "BEGIN", "COMMIT",
                 "BEGIN READ ONLY", "UPDATE items SET n = 6 WHERE id = 52", "COMMIT",
                 "START TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SELECT n FROM items WHERE id = 52", "END",
                 "BEGIN", "SELECT 1", "COMMIT AND CHAIN", "SELECT 2", "COMMIT", "SELECT 3", "ABORT"):
        log(c.query(text))


@conversation
def refused_statements(c, log):
    for text in ("SELECT nothing FROM items", "SELEC 1", "SELECT 'unterminated", "CREATE DATABASE x; SELECT 1",
                 "VACUUM items; SELECT 1", "SELECT * FROM items WHERE id = 'x'", "RELEASE SAVEPOINT nowhere",
                 "FETCH 1 FROM nowhere", "EXECUTE nowhere", "SET no_such_parameter = 1", "SHOW no_such_parameter",
                 "SET work_mem = 'plenty'", "DEALLOCATE nowhere", "SET ROLE nobody_at_all"):
        log(c.query(text))


@conversation
def extended_unnamed(c, log):
    c.send(parse("", "SELECT $1::int + 1 AS x"), bind(values=[41]), describe("P"), execute(), sync())
    log(c.until_ready())
    c.send(parse("", "SELECT id FROM items WHERE id < $1 ORDER BY id", [23]), describe("S"),
           bind(values=[struct.pack("!i", 4)], formats=[1], result_formats=[1]), execute(), sync())
    log(c.until_ready())
    c.send(bind(values=[3]), execute(), sync())
    log(c.until_ready())
    c.send(parse("", ""), bind(), describe("P"), execute(), sync())
    log(c.until_ready())
    c.send(sync())
    log(c.until_ready())


@conversation
def extended_named(c, log):
    c.send(parse("s1", "SELECT v FROM items WHERE id = $1"), sync())
    log(c.until_ready())
    for i in (1, 2, 3):
        c.send(bind(statement="s1", values=[i]), execute(), sync())
        log(c.until_ready())
    c.send(describe("S", "s1"), sync())
    log(c.until_ready())
    c.send(parse("s2", "UPDATE items SET n = n + $1 WHERE id = 53 RETURNING id"), describe("S", "s2"),
           bind(statement="s2", values=[0]), execute(), bind(statement="s1", values=[53]), execute(), sync())
    log(c.until_ready())
    c.send(close("S", "s1"), bind(statement="s1", values=[1]), execute(), sync())
    log(c.until_ready())
    c.send(parse("s1", "SELECT 'another'"), bind(statement="s1"), execute(), sync())
    log(c.until_ready())
    c.send(close("S", "never_there"), close("P", "never_there"), sync())
    log(c.until_ready())


@conversation
def duplicate_and_unknown_names(c, log):
    c.send(parse("dup", "SELECT 1"), sync())
    log(c.until_ready())
    c.send(parse("dup", "SELECT 2"), sync())
    log(c.until_ready())
    c.send(bind(statement="dup"), execute(), sync())
    log(c.until_ready())
    c.send(bind(statement="unknown"), execute(), sync())
    log(c.until_ready())
    c.send(describe("S", "unknown"), sync())
    log(c.until_ready())
    c.send(describe("P", "unknown"), sync())
    log(c.until_ready())
    c.send(execute("unknown"), sync())
    log(c.until_ready())
    c.send(parse("bad", "SELECT nothing FROM items"), sync())
    log(c.until_ready())
    c.send(bind(statement="bad"), sync())
    log(c.until_ready())
    c.send(parse("bad", "SELECT 3"), bind(statement="bad"), execute(), sync())
    log(c.until_ready())


@conversation
def names_across_transactions(c, log):
    c.send(parse("keep", "SELECT $1::int"), sync())
    log(c.until_ready())
    log(c.query("BEGIN"))
    c.send(bind("p", "keep", [7]), execute("p"), sync())
    log(c.until_ready())
    c.send(parse("inside", "SELECT 'inside'"), sync())
    log(c.until_ready())
    log(c.query("ROLLBACK"))
    # Prepared statements outlive a rollback; portals do not outlive their transaction.
    c.send(bind(statement="inside"), execute(), sync())
    log(c.until_ready())
    c.send(execute("p"), sync())
    log(c.until_ready())
    log(c.query("DEALLOCATE ALL"))
    c.send(bind(statement="keep", values=[8]), execute(), sync())
    log(c.until_ready())
    c.send(parse("keep", "SELECT 'new'"), bind(statement="keep"), execute(), sync())
    log(c.until_ready())
    log(c.query("DISCARD ALL"))
    c.send(bind(statement="keep"), execute(), sync())
    log(c.until_ready())


@conversation
def deallocate_of_a_protocol_statement(c, log):
    c.send(parse("q1", "SELECT 1"), parse("q2", "SELECT 2"), sync())
    log(c.until_ready())
    log(c.query("DEALLOCATE q1"))
    c.send(bind(statement="q1"), sync())
    log(c.until_ready())
    c.send(bind(statement="q2"), execute(), sync())
    log(c.until_ready())
    log(c.query("SELECT 5; DEALLOCATE ALL; SELECT 6"))
    c.send(bind(statement="q2"), execute(), sync())
    log(c.until_ready())
    # DEALLOCATE by the extended protocol.
    c.send(parse("q3", "SELECT 3"), parse("", "DEALLOCATE q3"), bind(), execute(), sync())
    log(c.until_ready())
    c.send(bind(statement="q3"), execute(), sync())
    log(c.until_ready())


@conversation
def execute_of_a_protocol_statement(c, log):
    c.send(parse("sqlname", "SELECT $1::int + 100"), sync())
    log(c.until_ready())
    log(c.query("EXECUTE sqlname(1)"))
    log(c.query("PREPARE bysql AS SELECT 'by sql'"))
    c.send(bind(statement="bysql"), describe("P"), execute(), sync())
    log(c.until_ready())
    log(c.query("DEALLOCATE bysql"))


@conversation
def portals_in_pieces(c, log):
    log(c.query("BEGIN"))
    c.send(parse("", "SELECT g FROM generate_series(1, 7) g"), bind("p1"), execute("p1", 3), sync())
    log(c.until_ready())
    c.send(execute("p1", 3), sync())
    log(c.until_ready())
    c.send(parse("", "SELECT 'other'"), bind("p2"), execute("p2"), execute("p1", 3), execute("p1"), sync())
    log(c.until_ready())
    c.send(bind("p1"), sync())
    log(c.until_ready())
    log(c.query("ROLLBACK"))
    # In a transaction of its own, a portal ends at Sync.
    c.send(parse("", "SELECT g FROM generate_series(1, 5) g"), bind("p3"), execute("p3", 2), execute("p3", 2), sync())
    log(c.until_ready())
    c.send(execute("p3", 2), sync())
    log(c.until_ready())


@conversation
def portal_closed(c, log):
    log(c.query("BEGIN"))
    c.send(parse("", "SELECT 1"), bind("p"), close("P", "p"), execute("p"), sync())
    log(c.until_ready())
    log(c.query("COMMIT"))


@conversation
def several_syncs_in_one_write(c, log):
    c.send(*[parse("", f"SELECT {i}") + bind() + execute() + sync() for i in range(20)])
    for _ in range(20):
        log(c.until_ready())


@conversation
def pipelined_simple_queries(c, log):
    c.send(*[query(f"SELECT {i}") for i in range(20)], query("SELECT 1/0"), query("SELECT 'after'"))
    for _ in range(22):
        log(c.until_ready())


@conversation
def pipelined_writes_and_reads(c, log):
    for i in range(10):
        c.send(query(f"UPDATE items SET n = {i} WHERE id = 54"), query("SELECT n FROM items WHERE id = 54"),
               parse("", "SELECT n + 1 FROM items WHERE id = 54"), bind(), execute(), sync())
        for _ in range(3):
            log(c.until_ready())


@conversation
def error_in_mid_pipeline(c, log):
    c.send(parse("", "SELECT 1"), bind(), execute(), parse("", "SELECT 1/0"), bind(), execute(),
           parse("never", "SELECT 2"), bind(), execute(), sync(), parse("", "SELECT 3"), bind(), execute(), sync())
    log(c.until_ready())
    log(c.until_ready())
    # What came behind the error was skipped, so the name does not exist.
    c.send(bind(statement="never"), sync())
    log(c.until_ready())
    c.send(parse("", "SELEC"), bind(), execute(), close("S", "x"), sync())
    log(c.until_ready())


@conversation
def write_in_a_failed_pipeline_is_undone(c, log):
    c.send(parse("", "UPDATE items SET n = 999 WHERE id = 55"), bind(), execute(), parse("", "SELECT 1/0"), bind(),
           execute(), sync())
    log(c.until_ready())
    log(c.query("SELECT n FROM items WHERE id = 55"))


@conversation
def transaction_in_one_pipeline(c, log):
    def one(text):
        return parse("", text) + bind() + describe("P") + execute()

    c.send(one("BEGIN"), one("UPDATE items SET n = 56 WHERE id = 56"), one("SELECT n FROM items WHERE id = 56"),
           one("COMMIT"), sync())
    log(c.until_ready())
    c.send(one("BEGIN"), sync(), one("SELECT 1/0"), sync(), one("SELECT 1"), sync(), one("ROLLBACK"), sync(),
           one("SELECT 2"), sync())
    for _ in range(5):
        log(c.until_ready())


@conversation
def flush_without_sync(c, log):
    c.send(parse("f", "SELECT $1::int"), flush())
    log(c.recv_until("1"))
    c.send(describe("S", "f"), flush())
    log(c.recv_until("T"))
    c.send(bind("", "f", [5]), flush())
    log(c.recv_until("2"))
    c.send(execute(), flush())
    log(c.recv_until("C"))
    c.send(sync())
    log(c.until_ready())


@conversation
def error_after_flush(c, log):
    c.send(parse("", "SELECT 1/0"), bind(), execute(), flush())
    log(c.recv_until("E"))
    c.send(parse("", "SELECT 1"), bind(), execute(), flush())
    c.silent()
    c.send(sync())
    log(c.until_ready())


@conversation
def copy_out(c, log):
    log(c.query("COPY (SELECT id, v FROM items WHERE id <= 5 ORDER BY id) TO STDOUT"))
    log(c.query("COPY (SELECT 1/(id - 3) FROM items WHERE id <= 5 ORDER BY id) TO STDOUT"))
    c.send(parse("", "COPY (SELECT 1) TO STDOUT"), bind(), describe("P"), execute(), sync())
    log(c.until_ready())
    log(c.query("COPY nowhere TO STDOUT"))
    log(c.query("SELECT 1; COPY (SELECT 2) TO STDOUT; SELECT 3"))


@conversation
def copy_in(c, log):
    log(c.query("TRUNCATE scratch"))
    c.send(query("COPY scratch FROM STDIN"))
    log(c.recv_until("G"))
    c.send(copy_data(b"1\tone\n2\ttwo\n"), copy_data(b"3\tth"), copy_data(b"ree\n"), copy_done())
    log(c.until_ready())
    log(c.query("SELECT * FROM scratch ORDER BY id"))
    # By the extended protocol, and with the data sent before the server asked.
    c.send(parse("", "COPY scratch FROM STDIN"), bind(), execute(), sync())
    log(c.recv_until("G"))
    c.send(copy_data(b"4\tfour\n"), copy_done(), sync())
    log(c.until_ready())
    log(c.query("SELECT count(*) FROM scratch"))


@conversation
def copy_in_failed_by_client(c, log):
    c.send(query("COPY scratch FROM STDIN"))
    log(c.recv_until("G"))
    c.send(copy_data(b"90\tninety\n"), copy_fail("no more"))
    log(c.until_ready())
    log(c.query("SELECT count(*) FROM scratch WHERE id = 90"))


@conversation
def copy_in_failed_by_server(c, log):
    c.send(query("COPY scratch FROM STDIN"))
    log(c.recv_until("G"))
    c.send(copy_data(b"not a number\tx\n"), copy_data(b"91\tx\n"), copy_done())
    log(c.until_ready())
    log(c.query("SELECT 'goes on'"))
    c.send(query("COPY nowhere FROM STDIN"), copy_data(b"1\n"), copy_done())
    log(c.until_ready())
    log(c.query("SELECT 'goes on'"))


@conversation
def copy_in_among_statements(c, log):
    c.send(query("TRUNCATE scratch; COPY scratch FROM STDIN; SELECT count(*) FROM scratch"))
    log(c.recv_until("G"))
    c.send(copy_data(b"1\tx\n2\ty\n"), copy_done())
    log(c.until_ready())


@conversation
def copy_in_with_noise(c, log):
    """Flush and Sync during COPY are ignored by the server."""
    log(c.query("TRUNCATE scratch"))
    c.send(query("COPY scratch FROM STDIN"))
    log(c.recv_until("G"))
    c.send(copy_data(b"1\tx\n"), flush(), sync(), copy_data(b"2\ty\n"), copy_done())
    log(c.until_ready())
    log(c.query("SELECT count(*) FROM scratch"))


@conversation
def function_calls(c, log):
    c.send(function_call(1318, ["hello"]))  # length(bpchar)
    log(c.until_ready())
    c.send(function_call(4294967294, []))
    log(c.until_ready())
    log(c.query("BEGIN"))
    c.send(function_call(1318, ["xy"]))
    log(c.until_ready())
    log(c.query("COMMIT"))


@conversation
def notices_and_warnings(c, log):
    log(c.query("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$"))
    log(c.query("SELECT 1; DO $$ BEGIN RAISE NOTICE 'mid'; END $$; SELECT 2"))
    log(c.query("COMMIT"))
    log(c.query("DROP TABLE IF EXISTS no_such_table"))


@conversation
def malformed_bind_is_an_error_only(c, log):
    c.send(parse("", "SELECT $1::int"), bind(values=[1, 2]), execute(), sync())
    log(c.until_ready())
    c.send(parse("", "SELECT $1::int"), bind(values=["x"]), execute(), sync())
    log(c.until_ready())
    c.send(bind(values=[1], formats=[0, 0, 0]), sync())
    log(c.until_ready())
    log(c.query("SELECT 1"))


@conversation
def cursors(c, log):
    for text in ("BEGIN", "DECLARE k CURSOR FOR SELECT id FROM items ORDER BY id", "FETCH 2 FROM k", "MOVE 3 FROM k",
                 "FETCH 1 FROM k", "CLOSE k", "COMMIT",
                 "DECLARE h CURSOR WITH HOLD FOR SELECT id FROM items ORDER BY id", "SELECT 1", "FETCH 2 FROM h",
                 "UPDATE items SET n = n WHERE id = 57", "FETCH 1 FROM h", "CLOSE h"):
        log(c.query(text))


@conversation
def settings(c, log):
    for text in ("SET work_mem = '3MB'", "SHOW work_mem", "BEGIN", "SET work_mem = '4MB'", "SHOW work_mem",
                 "ROLLBACK", "SHOW work_mem", "BEGIN", "SET LOCAL work_mem = '5MB'", "SHOW work_mem", "COMMIT",
                 "SHOW work_mem", "RESET work_mem", "SHOW work_mem", "SET search_path TO pg_catalog, public",
                 "SHOW search_path", "SELECT current_setting('search_path')", "SET TIME ZONE 'Europe/Berlin'",
                 "SHOW timezone", "SELECT '2020-01-01 00:00+00'::timestamptz", "SET datestyle = 'German'",
                 "SELECT '2020-02-01'::date", "RESET ALL", "SHOW search_path", "SHOW timezone",
                 "SELECT set_config('work_mem', '6MB', false)", "SHOW work_mem", "DISCARD ALL", "SHOW work_mem",
                 "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                 "SHOW transaction_isolation", "SET my.own = 'x'", "SHOW my.own", "SELECT current_setting('my.own')",
                 "DISCARD ALL", "SHOW my.own"):
        log(c.query(text))


@conversation
def session_state(c, log):
    for text in ("CREATE TEMP TABLE mine (a int)", "INSERT INTO mine VALUES (1), (2)", "SELECT count(*) FROM mine",
                 "BEGIN", "INSERT INTO mine VALUES (3)", "ROLLBACK", "SELECT count(*) FROM mine",
                 "PREPARE st(int) AS SELECT $1 * 2", "EXECUTE st(21)", "SELECT pg_advisory_lock(4242)",
                 "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
                 "SELECT pg_advisory_unlock(4242)", "SET ROLE other", "SELECT current_user", "RESET ROLE",
                 "SELECT current_user", "SELECT setval('seq', 700)", "SELECT currval('seq')", "SELECT lastval()",
                 "DISCARD ALL", "SELECT count(*) FROM mine", "EXECUTE st(1)"):
        log(c.query(text))


@conversation
def two_phase(c, log):
    for text in ("BEGIN", "UPDATE items SET n = 58 WHERE id = 58", "PREPARE TRANSACTION 'conv'",
                 "COMMIT PREPARED 'conv'", "SELECT n FROM items WHERE id = 58", "BEGIN",
                 "UPDATE items SET n = 59 WHERE id = 58", "PREPARE TRANSACTION 'conv'", "ROLLBACK PREPARED 'conv'",
                 "SELECT n FROM items WHERE id = 58", "COMMIT PREPARED 'nowhere'"):
        log(c.query(text))


@conversation
def explain_and_show(c, log):
    for text in ("EXPLAIN (COSTS OFF) SELECT 1", "EXPLAIN (COSTS OFF) UPDATE items SET n = 1",
                 "SHOW server_version", "SHOW TIME ZONE", "SHOW transaction_read_only", "TABLE scratch", "VALUES (1)"):
        log(c.query(text))


@conversation
def large_statement_and_result(c, log):
    """2 MB of query text, 2 MB of result, and a 2 MB parameter."""
    big = "x" * (2 << 20)
    log(c.query(f"SELECT length('{big}')"))
    log(c.query("SELECT repeat('y', 2 << 20)"))
    c.send(parse("", "SELECT length($1::text), $1"), bind(values=[big]), execute(), sync())
    log(c.until_ready())
    log(c.query("SELECT 1"))


@conversation
def deep_expressions(c, log):
    """Too deep for a parser with a small stack; the server has its own answer."""
    log(c.query("SELECT " + "+".join(["1"] * 3000)))
    log(c.query("SELECT " + "(" * 500 + "1" + ")" * 500))
    c.send(parse("", "SELECT " + "+".join(["1"] * 3000)), bind(), execute(), sync())
    log(c.until_ready())


@conversation
def byte_by_byte(c, log):
    whole = (query("SELECT 1") + parse("b", "SELECT $1::int") + describe("S", "b") + bind("", "b", [3]) +
             execute() + sync() + query("SELECT 1/0") + query("SELECT 'end'"))
    c.send_slowly(whole)
    for _ in range(4):
        log(c.until_ready())


def hold(raw, to, name):
    c = raw(to)
    transcript = []
    CONVERSATIONS[name](c, lambda messages: transcript.append(summaries(messages)))
    c.send(terminate())
    assert c.rest(5) == [], "something came after Terminate"
    return transcript


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversation_reads_as_on_one_server(fleet, tm, raw, name):
    want = hold(raw, harness.Direct(fleet), name)
    fleet.sync()
    got = hold(raw, tm, name)
    for step, (w, g) in enumerate(zip(want, got)):
        assert g == w, f"step {step} of {name} differs"
    assert len(got) == len(want)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversation_is_the_same_twice_on_postgresql(fleet, raw, name):
    """A conversation that does not repeat itself would prove nothing."""
    assert hold(raw, harness.Direct(fleet), name) == hold(raw, harness.Direct(fleet), name)


# ---- startup ----

@pytest.mark.parametrize("code", [rawpg.SSL, rawpg.GSSENC])
def test_encryption_is_declined_and_the_login_goes_on(tm, raw, code):
    c = raw(tm, login=False)
    c.send(message(b"", struct.pack("!I", code)))
    assert c.take(1) == b"N"
    c.startup()
    assert c.query_rows("SELECT 1") == [["1"]]


def test_both_encryption_requests_may_come_in_turn(tm, raw):
    c = raw(tm, login=False)
    for code in (rawpg.GSSENC, rawpg.SSL):
        c.send(message(b"", struct.pack("!I", code)))
        assert c.take(1) == b"N"
    c.startup()
    assert c.query_rows("SELECT 1") == [["1"]]


def negotiated(version, *options):
    return struct.pack("!II", version, len(options)) + b"".join(o.encode() + b"\0" for o in options)


OPTIONS = [f"_pq_.option_{i}" for i in range(40)]


@pytest.mark.parametrize("asked, options, spoken, key", [
    (0x30000, [], None, 4), (0x30001, [], None, 4), (0x30002, [], None, 32), (0x30003, [], 0x30002, 32),
    (0x3270f, [], 0x30002, 32),  # what libpq of PostgreSQL 19 asks for to see whether servers can say no
    (0x30000, OPTIONS[:1], 0x30000, 4), (0x30001, OPTIONS[:1], 0x30001, 4), (0x30002, OPTIONS, 0x30002, 32)])
def test_the_version_is_negotiated_as_postgresql_18_does(tm, raw, asked, options, spoken, key):
    c = raw(tm, login=False)
    c.startup(version=asked, **{o: "1" for o in options})
    assert c.negotiated == (negotiated(spoken, *options) if spoken else None)
    assert len(c.key) == key and len(set(c.key)) > 1
    assert c.query_rows("SELECT 1") == [["1"]]


def test_a_long_key_cancels_and_a_part_of_it_does_not(tm, raw):
    c = raw(tm, login=False)
    c.startup(version=0x30002)
    t, got = run_in_background(lambda: c.query("SELECT pg_sleep(8)", 15))
    time.sleep(0.4)
    for key in (c.key[:4], c.key[:31], c.key + b"\0", c.key[:31] + bytes([c.key[31] ^ 1]), bytes(256)):
        c.cancel(key=key)
    assert not got, f"a wrong key has cancelled it: {got}"
    c.cancel()
    t.join(15)
    assert errors(got[0]) == ["57014"], got


def test_unknown_protocol_options_are_named(fleet, tm, raw):
    got = []
    for to in (harness.Direct(fleet), tm):
        c = raw(to, login=False)
        c.startup(**{"_pq_.no_such": "1"})
        got.append(c.negotiated)
    assert b"_pq_.no_such\0" in got[0]
    assert got[1] == got[0]


class LongKeys:
    """Stands before a server and makes its cancel keys as long as protocol 3.2 lets them be; `cancels` are the
    keys that came back."""

    def __init__(self, server, length):
        self.server, self.length, self.cancels = server, length, []
        self.listener = socket.create_server((harness.HOST, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def conninfo(self):
        return f"host={harness.HOST} port={self.port} user=postgres dbname=app sslmode=disable"

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        server = socket.create_connection((harness.HOST, self.server.port))
        first = client.recv(65536)
        if struct.unpack_from("!I", first, 4) == (rawpg.CANCEL,):
            self.cancels.append(first[12:])
            first = struct.pack("!I", 16) + first[4:16]
        server.sendall(first)
        threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
        self._pump(server, client, self._lengthen)

    def _lengthen(self, data):
        at = data.find(b"K\0\0\0\x0c")  # of a login, which comes in one piece
        if at < 0:
            return data
        more = bytes(range(self.length - 4))
        return data[:at] + b"K" + struct.pack("!I", 8 + self.length) + data[at + 5:at + 13] + more + data[at + 13:]

    @staticmethod
    def _pump(source, sink, change=lambda data: data):
        try:
            while data := source.recv(65536):
                sink.sendall(change(data))
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@pytest.mark.parametrize("length", [32, 256])
def test_servers_may_have_long_cancel_keys(fleet, router, raw, length):
    before = LongKeys(fleet.primary, length)
    c = raw(router(primary=before.conninfo(), replicas=[]))
    t, got = run_in_background(lambda: c.query("SELECT pg_sleep(8)", 15))
    time.sleep(0.4)
    c.cancel()
    t.join(15)
    before.listener.close()
    assert errors(got[0]) == ["57014"], got
    assert [len(k) for k in before.cancels] == [length] and before.cancels[0].endswith(bytes(range(length - 4)))


def test_parameter_status_is_that_of_the_server(fleet, tm, raw):
    direct, through = raw(harness.Direct(fleet)), raw(tm)
    assert {k: v for k, v in through.parameters.items() if not k.startswith("tidemark")} == direct.parameters
    assert through.pid and len(through.key) == 4


def test_startup_options_are_honoured(target, raw):
    c = raw(target, options="-c work_mem=7MB -c search_path=pg_catalog", application_name="me",
            client_encoding="LATIN1", DateStyle="German, DMY", extra_float_digits="2")
    assert c.parameters["application_name"] == "me"
    assert c.parameters["client_encoding"] == "LATIN1"
    assert c.parameters["DateStyle"] == "German, DMY"
    for name, want in (("work_mem", "7MB"), ("search_path", "pg_catalog"), ("application_name", "me"),
                       ("client_encoding", "LATIN1"), ("extra_float_digits", "2")):
        assert c.query_rows(f"SHOW {name}") == [[want]]
        assert c.query_rows(f"SELECT current_setting('{name}')") == [[want]]


@pytest.mark.parametrize("params,sqlstate,message", [
    (dict(options="-c no_such_parameter=1"), "42704", None),
    (dict(options="-c work_mem=plenty"), "22023", None),
    (dict(client_encoding="KLINGON"), "22023", None),
    (dict(database="no_such_database"), "3D000", 'database "no_such_database" does not exist'),
    (dict(user="no_such_user"), "28000", 'role "no_such_user" does not exist'),
])
def test_bad_startup_parameters_are_refused(target, raw, params, sqlstate, message):
    c = raw(target, login=False)
    with pytest.raises(rawpg.ServerError) as e:
        c.startup(**params)
        # A router that has no server connection yet may say it with the first statement.
        c.query_rows("SELECT 1")
    assert e.value.sqlstate == sqlstate, str(e.value)
    assert message is None or e.value.fields["M"] == message


def test_parameter_status_follows_set(target, raw):
    c = raw(target)
    m = c.query("SET application_name = 'renamed'")
    assert ("S", "application_name", "renamed") in summaries(m, drop="")
    c.query("SET TIME ZONE 'Asia/Tokyo'")
    assert c.parameters["TimeZone"] == "Asia/Tokyo"
    c.query("BEGIN; SET TIME ZONE 'Europe/Paris'")
    assert c.parameters["TimeZone"] == "Europe/Paris"
    c.query("ROLLBACK")
    assert c.parameters["TimeZone"] == "Asia/Tokyo"
    c.query("RESET ALL")
    assert c.parameters["TimeZone"] == "UTC"
    assert c.parameters["application_name"] == ""


# ---- cancel ----

def run_in_background(fn):
    box = []
    t = threading.Thread(target=lambda: box.append(fn()), daemon=True)
    t.start()
    return t, box


def test_cancel_hits_the_right_query(target, raw):
    victim, bystander = raw(target), raw(target)
    assert victim.key != bystander.key or victim.pid != bystander.pid
    t1, got1 = run_in_background(lambda: victim.query("SELECT pg_sleep(8)", 15))
    t2, got2 = run_in_background(lambda: bystander.query("SELECT pg_sleep(1)", 15))
    time.sleep(0.4)
    started = time.monotonic()
    victim.cancel()
    t1.join(15)
    t2.join(15)
    assert time.monotonic() - started < 5, "the cancel came too late"
    assert errors(got1[0]) == ["57014"], got1
    assert errors(got2[0]) == [], got2
    assert victim.query_rows("SELECT 'usable'") == [["usable"]]


def test_cancel_with_a_wrong_secret_is_ignored(target, raw):
    c = raw(target)
    t, got = run_in_background(lambda: c.query("SELECT pg_sleep(0.8)", 15))
    time.sleep(0.3)
    c.cancel(key=bytes(b ^ 0x55 for b in c.key))
    c.cancel(pid=c.pid ^ 0x1)
    t.join(15)
    assert errors(got[0]) == [], got


def test_cancel_of_an_idle_client_hits_nobody(target, raw):
    idle, busy = raw(target), raw(target)
    idle.query("SELECT 1")
    t, got = run_in_background(lambda: busy.query("SELECT pg_sleep(0.8)", 15))
    time.sleep(0.3)
    idle.cancel()
    t.join(15)
    assert errors(got[0]) == [], "the cancel of an idle client hit another client's query"
    assert idle.query_rows("SELECT 1") == [["1"]]


def test_cancel_of_a_read_on_a_replica(tm, raw):
    c = raw(tm)
    before = tm.routing()
    # A plain read that takes long on any server.
    t, got = run_in_background(lambda: c.query("SELECT count(*) FROM generate_series(1, 4000) a, "
                                               "generate_series(1, 400000) b", 30))
    time.sleep(0.5)
    c.cancel()
    t.join(10)
    assert got and errors(got[0]) == ["57014"], got
    assert tm.routing()["reads_replica"] > before["reads_replica"], "the read did not run on a replica"


def test_cancel_in_a_copy(target, raw):
    c = raw(target)
    c.send(query("COPY scratch FROM STDIN"))
    c.recv_until("G")
    c.cancel()
    time.sleep(0.2)
    c.send(copy_data(b"1\tx\n"), copy_done())
    assert errors(c.until_ready()) == ["57014"]
    assert c.query_rows("SELECT 1") == [["1"]]


def test_short_cancel_and_probe_connections_do_no_harm(target, raw):
    for data in (b"", b"\0", b"\0\0\0\x08", message(b"", struct.pack("!I", rawpg.CANCEL)),
                 message(b"", struct.pack("!II", rawpg.CANCEL, 1))):
        c = raw(target, login=False)
        c.send(data)
        c.close()
    assert raw(target).query_rows("SELECT 1") == [["1"]]


# ---- bad input ----

def bystander_is_served(target, raw):
    assert raw(target).query_rows("SELECT 'fine'") == [["fine"]]


def said(messages):
    return [(m.fields().get("V"), m.fields()["C"]) for m in messages if m.kind == "E"]


# PostgreSQL logs some of these faults and closes without a word; Tidemark always says why.
MALFORMED = {
    "unknown type": message("y", b"what"),
    "backend type": message("Z", b"I"),
    "length below four": b"Q\0\0\0\x03",
    "length zero": b"Q\0\0\0\0",
    "negative length": b"Q\xff\xff\xff\xff",
    "password out of season": message("p", b"secret\0"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_messages_end_the_connection_with_08P01(target, raw, name):
    c, other = raw(target), raw(target)
    c.send(MALFORMED[name])
    got = c.rest(5)
    if isinstance(target, harness.Tidemark) or got:
        assert ("FATAL", "08P01") in said(got), got
    assert other.query_rows("SELECT 1") == [["1"]]
    bystander_is_served(target, raw)


BROKEN_BODIES = {
    "query without a NUL": message("Q", b"SELECT 1"),
    "query with bytes behind": message("Q", b"SELECT 1\0junk\0"),
    "empty parse": message("P", b""),
    "parse with a count too large": message("P", b"\0SELECT 1\0\xff\xff"),
    "bind cut short": message("B", b"\0\0\0"),
    "bind without a statement name": message("B", b"\0x"),
    "bind with a value too long": message("B", b"\0\0\0\0\0\x01\x7f\xff\xff\xffx"),
    "bind with bytes behind": message("B", b"\0\0\0\0\0\0\0\0junk"),
    "execute cut short": message("E", b"\0\0"),
    "describe of nothing": message("D", b""),
    "describe of a wrong kind": message("D", b"Xname\0"),
    "close of a wrong kind": message("C", b"Xname\0"),
    "sync with a body": message("S", b"x"),
    "function call cut short": message("F", b"\0"),
}


@pytest.mark.parametrize("name", BROKEN_BODIES)
def test_broken_bodies_are_answered_08P01_and_hurt_nobody(target, raw, name):
    c, other = raw(target), raw(target)
    c.send(parse("", "SELECT 1"), sync())
    c.until_ready()
    c.send(BROKEN_BODIES[name], sync())
    messages = []
    try:
        while True:
            messages.append(c.recv(5))
            if messages[-1].kind == "Z" and said(messages):
                break
    except rawpg.Closed:
        pass
    assert "08P01" in [code for _, code in said(messages)], messages
    assert other.query_rows("SELECT 1") == [["1"]]
    bystander_is_served(target, raw)


def test_random_bytes_never_hurt_others(target, raw):
    import random
    rng = random.Random(7)
    for _ in range(40):
        c = raw(target, login=bool(rng.randrange(2)), timeout=5)
        try:
            c.send(rng.randbytes(rng.choice((1, 4, 5, 8, 40, 3000))))
            c.sock.shutdown(1)
            c.rest(5)
        except (OSError, TimeoutError, AssertionError):
            pass
        c.close()
    bystander_is_served(target, raw)


def test_every_truncation_of_a_conversation_hurts_nobody(target, raw):
    whole = (query("SELECT 1") + parse("t", "SELECT $1::int") + bind("", "t", [3]) + describe("P") + execute() + sync())
    for cut in range(0, len(whole), 3):
        c = raw(target)
        c.send(whole[:cut])
        c.close()
    bystander_is_served(target, raw)


STARTUPS = {
    "protocol 2": message(b"", struct.pack("!I", 0x00020000) + b"\0" * 288),
    "protocol 4": message(b"", struct.pack("!I", 0x00040000) + b"user\0app\0\0"),
    "no user": message(b"", struct.pack("!I", 0x00030000) + b"database\0app\0\0"),
    "no final NUL": message(b"", struct.pack("!I", 0x00030000) + b"user\0app"),
}


@pytest.mark.parametrize("name", STARTUPS)
def test_bad_startup_packets_are_refused_with_a_reason(target, raw, name):
    c = raw(target, login=False)
    c.send(STARTUPS[name])
    try:
        got = c.rest(5)
    except AssertionError:
        assert name == "protocol 2"  # answered in its own, older form of an error
        got = None
    if got is None:
        return bystander_is_served(target, raw)
    assert [code for _, code in said(got)] in (["0A000"], ["08P01"], ["28000"]), got
    bystander_is_served(target, raw)


@pytest.mark.parametrize("data", [b"\0\0\0\0", b"\0\0\0\x03", b"\x7f\xff\xff\xff", b"\0\1\x86\xa1", b"GET / HTTP/1.1\r\n\r\n",
                                  b"X\0\0\0\4"])
def test_absurd_startup_lengths_are_dropped_at_once_and_without_a_word(target, raw, data):
    c = raw(target, login=False)
    c.send(data)
    assert c.rest(5) == []
    bystander_is_served(target, raw)


def test_oversized_parse_is_refused_or_served_but_never_kept(tm, raw):
    """A statement beyond max_packet_size: an answer of PostgreSQL's kind, and nobody else notices."""
    c, other = raw(tm, timeout=30), raw(tm)
    try:
        c.send(parse("huge", "SELECT '" + "x" * (20 << 20) + "'"), sync())
        got = c.until_ready()
    except (rawpg.Closed, BrokenPipeError, ConnectionResetError):
        got = c.rest(5)
    except TimeoutError:
        pytest.fail("no answer to an oversized Parse")
    assert kinds(got) == "1Z" or any(code in ("54000", "08P01", "53400") for _, code in said(got)), got[:3]
    assert other.query_rows("SELECT 1") == [["1"]]
    bystander_is_served(tm, raw)


def test_a_slow_login_is_cut_off(router, raw):
    t = router(client_login_timeout="500ms")
    c = raw(t, login=False)
    c.send(b"\0\0\0\x20\0\3\0\0user")
    started = time.monotonic()
    c.rest(5)
    assert 0.3 < time.monotonic() - started < 3
    # Also one that opens and says nothing.
    c = raw(t, login=False)
    c.rest(5)
    bystander_is_served(t, raw)


def test_a_storm_of_connections_that_say_nothing(router, raw):
    """The kernel holds them back until they speak, or hands them over after a while; scanners come and go."""
    t = router(client_login_timeout="500ms")
    files = f"/proc/{t.process.pid}/fd"
    before = len(os.listdir(files))
    silent = [socket.create_connection((harness.HOST, t.port)) for _ in range(200)]
    for i in range(300):
        scanner = socket.create_connection((harness.HOST, t.port))
        if i % 3 == 0:
            scanner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        scanner.close()
        if i % 50 == 0:
            bystander_is_served(t, raw)
    for s in silent:
        s.settimeout(10)
        said = b""
        while part := s.recv(1000):
            said += part
        assert b"client_login_timeout" in said
        s.close()
    harness.wait_until(lambda: len(os.listdir(files)) <= before + 8, 10, lambda: f"{before} files: {len(os.listdir(files))}")
    bystander_is_served(t, raw)


def test_a_slow_message_holds_up_nobody(target, raw):
    c = raw(target)
    whole = query("SELECT 'slow'")
    c.send(whole[:7])
    for _ in range(5):
        bystander_is_served(target, raw)
    c.send(whole[7:])
    assert kinds(c.until_ready()) == "TDCZ"


def test_a_client_that_does_not_read_holds_up_nobody(tm, raw):
    c = raw(tm)
    c.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))  # 100 MB
    time.sleep(0.3)
    for _ in range(5):
        bystander_is_served(tm, raw)
    with open(f"/proc/{tm.process.pid}/status") as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    assert rss < 400_000, f"the router holds {rss} kB for a client that does not read"
    c.close()
    bystander_is_served(tm, raw)


def test_disconnect_in_the_middle_of_everything(target, raw, fleet):
    def leave(*data, after=None):
        c = raw(target)
        c.send(*data)
        if after:
            c.recv_until(after)
        c.close()

    for _ in range(3):
        leave(query("BEGIN"), query("UPDATE items SET n = -1 WHERE id = 60"), after="C")
        leave(query("COPY scratch FROM STDIN"), copy_data(b"70001\tx\n"), after="G")
        leave(query("COPY big TO STDOUT"), after="H")
        leave(parse("x", "SELECT 1"), bind("", "x"))
        leave(query("SELECT pg_sleep(0.1)"))
        leave(query("SELECT 1")[:6])
    bystander_is_served(target, raw)
    c = raw(target)
    assert c.query_rows("SELECT n FROM items WHERE id = 60") != [["-1"]]
    assert c.query_rows("SELECT count(*) FROM scratch WHERE id = 70001") == [["0"]]
    # The row lock of the lost transaction is gone, too.
    c.query("UPDATE items SET n = 60 WHERE id = 60", 10)
    assert fleet.primary.value("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'") == 0


def test_terminate_ends_the_connection_quietly(target, raw):
    c = raw(target)
    c.send(terminate())
    assert c.rest(5) == []


def test_terminate_behind_a_query_lets_it_finish(target, raw):
    c = raw(target)
    c.send(query("UPDATE items SET n = 6161 WHERE id = 61"), terminate())
    c.rest(5)
    assert raw(target).query_rows("SELECT n FROM items WHERE id = 61") == [["6161"]]


# ---- prepared statements over pooled connections ----

def test_names_of_two_clients_do_not_meet(target, raw):
    a, b = raw(target), raw(target)
    a.send(parse("same", "SELECT 'a'"), sync())
    a.until_ready()
    b.send(parse("same", "SELECT 'b', 2"), sync())
    b.until_ready()
    for _ in range(5):
        for c, want in ((a, [b"a"]), (b, [b"b", b"2"])):
            c.send(bind(statement="same"), execute(), sync())
            assert [m.columns() for m in c.until_ready() if m.kind == "D"] == [want]


def test_statements_follow_the_client_to_every_server(router, raw):
    t = router(default_pool_size=2)
    clients = [raw(t) for _ in range(6)]
    for i, c in enumerate(clients):
        c.send(parse("mine", f"SELECT {i} + $1::int + 0 * count(*) FROM items"),
               parse("put", "UPDATE items SET n = $1 WHERE id = 62"), sync())
        assert kinds(c.until_ready()) == "11Z"
    for n in range(6):
        for i, c in enumerate(clients):
            c.send(bind("", "put", [n]), execute(), sync())
            assert kinds(c.until_ready()) == "2CZ"
            c.send(bind("", "mine", [n]), describe("P"), execute(), sync())
            got = c.until_ready()
            assert [m.columns() for m in got if m.kind == "D"] == [[str(i + n).encode()]], got


def test_statement_survives_ddl_on_its_table(target, raw):
    """'cached plan must not change result type' is the server's answer, but a fresh Parse must work."""
    c, d = raw(target), raw(target)
    d.query("DROP TABLE IF EXISTS shifting; CREATE TABLE shifting (a int); INSERT INTO shifting VALUES (1)")
    for round_ in range(3):
        name = f"shift{round_}"
        c.send(parse(name, "SELECT * FROM shifting"), bind("", name), execute(), sync())
        got = c.until_ready()
        assert errors(got) == [], got
        assert len([m for m in got if m.kind == "D"][0].columns()) == round_ + 1
        d.query(f"ALTER TABLE shifting ADD COLUMN b{round_} int")
    d.query("DROP TABLE shifting")


def test_more_statements_than_a_server_keeps(router, raw):
    t = router(max_prepared_statements=5, default_pool_size=1)
    c = raw(t)
    for i in range(40):
        c.send(parse(f"n{i}", f"SELECT {i}"), sync())
        c.until_ready()
    for i in list(range(40)) + list(range(39, -1, -1)):
        c.send(bind("", f"n{i}"), execute(), sync())
        got = c.until_ready()
        assert [m.columns() for m in got if m.kind == "D"] == [[str(i).encode()]], got


def test_many_statements_in_one_batch(target, raw):
    c = raw(target)
    c.send(*[parse(f"b{i}", f"SELECT {i}") + bind(f"p{i}", f"b{i}") for i in range(300)],
           *[execute(f"p{i}") for i in range(299, -1, -1)], sync())
    got = c.until_ready(20)
    assert errors(got) == []
    assert [m.columns()[0] for m in got if m.kind == "D"] == [str(i).encode() for i in range(299, -1, -1)]


def test_long_pipeline_is_not_held_in_memory_for_ever(target, raw):
    """20 000 statements without reading an answer, written from a second thread."""
    c = raw(target, timeout=60)
    n = 20000
    whole = (parse("", "SELECT n FROM items WHERE id = 1") + bind() + execute() + sync()) * n
    t, _ = run_in_background(lambda: c.sock.sendall(whole))
    for _ in range(n):
        assert kinds(c.until_ready()) == "12DCZ"
    t.join(10)
