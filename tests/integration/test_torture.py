# SPDX-License-Identifier: PostgreSQL
"""Bytes, orders and moments that no decent client chooses: partial messages, errors amid pipelines, readers
that do not read, servers that do not listen, clients that hang up. Whatever happens, the router neither dies,
leaks nor loses count, and the next client finds everything in order.
"""

import random
import resource
import socket
import struct
import subprocess
import threading
import time

import pytest

import harness
import rawpg
from rawpg import (bind, close, copy_data, copy_done, copy_fail, describe, errors, execute, flush, function_call,
                   kinds, message, parse, query, summaries, sync)


MB = 1024 * 1024
NAP = 0.05


@pytest.fixture
def router(need_router, fleet):
    """Routers with options of the test's own, stopped and judged at its end."""
    made = []

    def make(**options):
        made.append(harness.Tidemark(fleet, **options))
        return made[-1]

    yield make
    for t in made:
        t.stop()


def reset_connection(raw):
    """Hangs up with RST."""
    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.sock.close()


def memory_kb(tm):
    with open(f"/proc/{tm.process.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def works(to, raw):
    """A new client is served."""
    assert raw(to).query_rows("SELECT 42") == [["42"]]


# ---- long messages -------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [70_000, 3 * MB, 12 * MB])
def test_long_messages_arrive_as_they_were(target, raw, size):
    c = raw(target, timeout=30)
    text = "x" * size
    assert c.query_rows(f"SELECT length('{text}')") == [[str(size)]]
    c.send(parse("long", f"SELECT length('{text}')"), bind("", "long"), execute(), sync())
    assert [m.columns() for m in c.until_ready() if m.kind == "D"] == [[str(size).encode()]]
    c.send(parse("", "SELECT length($1), $1::text"), bind("", "", [text]), execute(), sync())
    row = next(m.columns() for m in c.until_ready() if m.kind == "D")
    assert row[0] == str(size).encode() and len(row[1]) == size


def test_a_long_notice_is_forwarded(target, raw):
    c = raw(target)
    got = c.query("DO $$ BEGIN RAISE NOTICE '%', repeat('n', 300000); END $$")
    assert kinds(got) == "CZ"
    assert [len(m.fields()["M"]) for m in got if m.kind == "N"] == [300000]


def test_a_long_error_is_forwarded(target, raw):
    c = raw(target)
    got = c.query("DO $$ BEGIN RAISE EXCEPTION '%', repeat('n', 300000); END $$")
    assert kinds(got) == "EZ" and len(got[-2].fields()["M"]) == 300000
    assert c.query_rows("SELECT 1") == [["1"]]


@pytest.mark.parametrize("statement", ["nosuch", "SET tidemark.consistency = strong"])
def test_the_rest_of_a_long_bind_that_goes_nowhere_is_dropped(router, raw, statement):
    tm = router()
    c = raw(tm)
    if " " in statement:
        c.send(parse("here", statement), sync()).until_ready()
        statement = "here"
    # Its tail would be a message of its own if it were taken for one.
    values = [b"v" * 100_000 + query("SELECT 'smuggled'") * 1000]
    whole = bind("", statement, values)
    c.send(whole[:80_000])
    time.sleep(NAP)
    c.send(whole[80_000:], execute(), sync())
    got = c.until_ready()
    assert "D" not in kinds(got)
    assert c.query_rows("SELECT 1") == [["1"]]


def test_a_long_query_that_is_refused_is_dropped_to_its_end(router, raw):
    tm = router(default_pool_size=1, query_wait_timeout="300ms", max_packet_size="128kB")
    holder = raw(tm)
    holder.query("BEGIN")
    holder.query("DELETE FROM scratch WHERE false")
    whole = query("SELECT '" + "x" * 500_000 + "'")
    c = raw(tm)
    c.send(whole[:100_000])
    assert errors(c.until_ready()) == ["53300"]
    c.send(whole[100_000:])
    holder.query("COMMIT")
    assert c.query_rows("SELECT 1") == [["1"]]


# ---- pipelines -----------------------------------------------------------------------------------

def test_a_batch_sent_behind_a_failed_one_counts(target, raw):
    """The error is answered before the ReadyForQuery of its batch: what is sent in between is not skipped."""
    c = raw(target)
    c.query("DELETE FROM scratch")
    c.query("INSERT INTO scratch VALUES (1, 'a')")
    for i in range(100):
        c.send(parse("", "INSERT INTO scratch VALUES (1, 'b')"), bind(), execute(), sync())
        c.recv_until("E")
        c.send(parse("", f"SELECT {i}"), bind(), execute(), sync())
        assert kinds(c.until_ready()) == "Z"
        assert kinds(c.until_ready()) == "12DCZ", i


def test_flush_brings_what_the_server_is_not_asked_for(target, raw):
    c = raw(target)
    c.send(parse("one", "SELECT 1"), sync()).until_ready()
    c.send(parse("two", "SELECT 1"), flush())
    assert c.recv().kind == "1"
    c.send(close("S", "one"), flush())
    assert c.recv().kind == "3"
    c.send(close("S", "nosuch"), flush())
    assert c.recv().kind == "3"
    c.send(bind("", "two"), execute(), sync())
    assert kinds(c.until_ready()) == "2DCZ"


def test_a_failed_batch_skips_everything_before_its_sync(target, raw):
    c = raw(target)
    for bad in (execute("nosuch"), bind("", "nosuch"), parse("", "SELEC")):
        c.query("DELETE FROM scratch")
        c.send(bad, query("INSERT INTO scratch VALUES (1, 'a')"), query("SELECT 1"), close("S", "nosuch"), flush())
        assert kinds([c.recv()]) == "E"
        c.send(query("SELECT 2"), bind("", "nosuch"), sync(), query("SELECT count(*) FROM scratch"))
        assert kinds(c.until_ready()) == "Z"
        assert kinds(c.until_ready()) == "TDCZ"


def test_what_waits_for_a_batch_without_sync(target, raw):
    """A SET waits in the router until what was sent before is answered: the server has to be asked for it."""
    c = raw(target)
    c.query("BEGIN")
    for what in ("SET work_mem = '2MB'", "SHOW work_mem"):
        c.send(parse("", "SELECT 1"), bind(), execute())
        time.sleep(NAP)
        c.send(parse("", what), bind(), execute(), sync())
        assert kinds(c.until_ready(5)).startswith("12DC12")
        c.send(parse("", "SELECT 1"))
        time.sleep(NAP)
        c.send(query(what))
        assert kinds(c.until_ready(5))[0] == "1"
        c.send(sync()).until_ready()
    c.query("ROLLBACK")


def test_few_prepared_statements_under_a_failing_pipeline(router, raw):
    """Closes that make room are skipped behind an error, and must not be believed."""
    tm = router(max_prepared_statements=2, default_pool_size=1)
    c = raw(tm)
    names = [f"s{i}" for i in range(6)]
    for i, n in enumerate(names):
        c.send(parse(n, f"SELECT {i} + $1::int"), sync())
        assert kinds(c.until_ready()) == "1Z"
    dice = random.Random(7)
    for _ in range(60):
        order = [dice.choice(names) for _ in range(8)]
        bad = dice.randrange(9)
        for at, n in enumerate(order):
            if at == bad:
                c.send(bind("", n, ["no number"]), execute())
            c.send(bind("", n, ["1"]), execute())
        c.send(sync())
        got = c.until_ready()
        assert errors(got) == (["22P02"] if bad < 8 else []), order
        assert kinds(got) == "2DC" * min(bad, 8) + ("E" if bad < 8 else "") + "Z"
    for i, n in enumerate(names):
        c.send(bind("", n, ["1"]), execute(), sync())
        assert kinds(c.until_ready()) == "2DCZ", n


def test_the_same_text_named_and_unnamed(router, raw):
    tm = router(default_pool_size=1)
    c, d = raw(tm), raw(tm)
    text = "SELECT $1::int"
    for who in (c, d):
        who.send(parse("n", text), parse("", text), sync()).until_ready()
    for _ in range(3):
        # The unnamed one is prepared again behind c's back, behind an error, so it is skipped.
        c.send(bind("", "n", ["x"]), bind("", "", ["1"]), execute(), sync())
        assert errors(c.until_ready()) == ["22P02"]
        d.send(bind("", "n", ["x"]), bind("", "", ["1"]), execute(), sync())
        assert errors(d.until_ready()) == ["22P02"]
        c.query("SELECT 1")
        d.send(bind("", "n", ["1"]), execute(), sync())
        assert kinds(d.until_ready()) == "2DCZ"


def test_a_pipeline_that_nobody_reads_for_long(target, raw):
    """More messages than may be outstanding: the client has to wait, and loses nothing."""
    c = raw(target, timeout=50)
    count = 12_000
    unit = b"".join([bind("", "p", ["7"]), describe("P"), execute(), close("P")])
    c.send(parse("p", "SELECT $1::int"), sync()).until_ready()
    sender = threading.Thread(target=lambda: c.sock.sendall(unit * count + sync()))
    c.sock.settimeout(50)
    sender.start()
    time.sleep(0.5)
    got = c.until_ready()
    sender.join(30)
    assert sum(m.kind == "D" for m in got) == count and not errors(got)


@pytest.mark.parametrize("piece", [sync(), query("SHOW tidemark.token"), query("")])
def test_answers_that_nobody_reads_are_not_piled_up(router, raw, piece):
    tm = router()
    c = raw(tm, timeout=30)
    count = 60_000 if piece == sync() else 4_000
    sender = threading.Thread(target=lambda: c.sock.sendall(piece * count))
    sender.start()
    time.sleep(0.5)
    got = 0
    while got < count:
        got += c.recv().kind == "Z"
    sender.join(30)
    works(tm, raw)


# ---- COPY ----------------------------------------------------------------------------------------

def test_copy_that_fails_amid_a_message_harms_nobody(router, raw):
    """The server of the failed COPY still waits for the rest of a message: nobody else may get it."""
    tm = router(default_pool_size=1)
    c = raw(tm)
    assert c.send(query("COPY scratch FROM STDIN")).recv().kind == "G"
    row = copy_data(b"x" * (2 * MB))
    c.send(copy_data(b"no number\n"), row[:200_000])
    assert errors(c.recv_until("E")) == ["22P02"]
    time.sleep(NAP)
    other = raw(tm, login=False)
    other.send(rawpg.startup_packet({"user": "app", "database": "app"}))
    c.send(row[200_000:], copy_done())
    assert kinds(c.until_ready()) == "Z"
    other.finish_login("app")
    assert other.query_rows("SELECT 1") == [["1"]]
    assert c.query_rows("SELECT 2") == [["2"]]


def test_copy_that_fails_amid_a_message_and_a_client_that_leaves_then(router, raw):
    tm = router(default_pool_size=1)
    c = raw(tm)
    assert c.send(query("COPY scratch FROM STDIN")).recv().kind == "G"
    c.send(copy_data(b"no number\n"), copy_data(b"x" * (2 * MB))[:200_000])
    c.recv_until("E")
    time.sleep(NAP)
    c.close()
    works(tm, raw)


def test_copy_to_a_server_that_does_not_read(router, fleet, raw):
    """What a slow server does not take stays with the client, in rows of any length."""
    tm = router()
    c = raw(tm, timeout=30)
    c.query("DELETE FROM scratch")
    blocker = fleet.primary.connect(user="postgres")
    harness.rows(blocker, "BEGIN; LOCK TABLE scratch IN ACCESS EXCLUSIVE MODE")
    before = memory_kb(tm)
    row = b"1\t" + b"y" * (24 * MB) + b"\n"
    small = b"".join(b"%d\t%s\n" % (i, b"z" * 1000) for i in range(2, 20_000))
    data = query("COPY scratch FROM STDIN") + copy_data(row) + b"".join(
        copy_data(small[i:i + 8000]) for i in range(0, len(small), 8000)) + copy_done()
    sender = threading.Thread(target=lambda: c.sock.sendall(data))
    sender.start()
    time.sleep(1)
    grown = memory_kb(tm) - before
    blocker.rollback()
    blocker.close()
    assert kinds(c.until_ready()) == "GCZ"
    sender.join(30)
    assert grown < 20_000, f"{grown} kB more while the server did not read"
    assert c.query_rows("SELECT count(*), max(length(v)) FROM scratch") == [["19999", str(24 * MB)]]
    c.query("DELETE FROM scratch")


def test_copy_in_the_extended_protocol_is_read_afterwards(router, fleet, raw):
    """A Sync that the server ignored because of the COPY does not take the knowledge of the write with it."""
    tm = router(wait_timeout="50ms")
    c = raw(tm)
    c.query("DELETE FROM scratch")
    fleet.sync()
    for i in (1, 2):
        fleet.pause_replay(i)
    c.send(parse("", "COPY scratch FROM STDIN"), bind(), execute(), sync())
    assert kinds(c.recv_until("G")) == "12G"
    c.send(copy_data(b"1\ta\n"), copy_done(), sync())
    assert kinds(c.until_ready()) == "CZ"
    assert c.query_rows("SELECT count(*) FROM scratch") == [["1"]]


@pytest.mark.parametrize("ending, tail", [(copy_done(), "C"), (copy_fail("no"), "E")])
def test_a_copy_sent_without_waiting(target, raw, ending, tail):
    c = raw(target)
    c.query("DELETE FROM scratch")
    for _ in range(20):
        c.send(parse("", "COPY scratch FROM STDIN"), bind(), execute(), copy_data(b""), ending, sync(),
               query("SELECT 1"))
        assert kinds(c.until_ready()) == f"12G{tail}Z"
        assert kinds(c.until_ready()) == "TDCZ"


def test_a_sync_that_a_copy_ignores(target, raw):
    c = raw(target)
    c.send(query("COPY scratch FROM STDIN"), sync(), copy_data(b"no number\n"), copy_fail("no"), sync())
    assert kinds(c.until_ready()) == "GEZ"
    assert kinds(c.until_ready()) == "Z"
    assert c.query_rows("SELECT 1") == [["1"]]


# ---- readers that do not read --------------------------------------------------------------------

@pytest.mark.parametrize("write", [False, True])
def test_a_big_result_for_a_slow_reader(router, raw, write):
    tm = router()
    c = raw(tm, timeout=30)
    if write:
        c.query("BEGIN")
    before = memory_kb(tm)
    c.send(query("SELECT g, repeat('x', 100000) FROM generate_series(1, 600) g"))
    time.sleep(1)
    grown = memory_kb(tm) - before
    got = c.until_ready()
    assert sum(m.kind == "D" for m in got) == 600
    assert grown < 20_000, f"{grown} kB more while the client did not read"
    assert c.query_rows("SELECT 1") == [["1"]]


def test_a_slow_reader_that_leaves(router, raw):
    tm = router(default_pool_size=1)
    for _ in range(3):
        c = raw(tm)
        c.send(query("SELECT repeat('x', 100000) FROM generate_series(1, 400)"))
        time.sleep(NAP)
        reset_connection(c)
        works(tm, raw)


# ---- clients that leave --------------------------------------------------------------------------

def test_the_statement_of_a_client_that_left_is_cancelled(router, fleet, raw):
    tm = router()
    c = raw(tm)
    c.send(query("SELECT pg_sleep(50) /* left behind */"))
    running = ("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%left behind */' "
               "AND pid <> pg_backend_pid()")
    servers = fleet.servers
    harness.wait_until(lambda: any(s.value(running) for s in servers), what="the statement to run")
    c.close()
    harness.wait_until(lambda: not any(s.value(running) for s in servers), 5, "it to be cancelled")


def test_hanging_up_during_the_login(router, raw):
    tm = router(auth_type="scram-sha-256", auth_file="{dir}/users", wait=False,
                files={"users": '"app" "secret"\n'})
    start = rawpg.startup_packet({"user": "app", "database": "app"})
    newer = rawpg.startup_packet({"user": "app", "database": "app"}, 0x00030002)
    console = rawpg.startup_packet({"user": "postgres", "database": "tidemark"})
    nonsense = message("p", b"SCRAM-SHA-256\0" + struct.pack("!I", 3) + b"n,,")
    for what in (start, newer, console, start + nonsense, newer + nonsense * 3):
        for _ in range(40):
            c = raw(tm, login=False)
            c.send(what)
            reset_connection(c)
    c = raw(tm, login=False)
    c.startup(password="secret")
    assert c.query_rows("SELECT 1") == [["1"]]


def test_a_session_that_is_left_within_a_transaction(router, raw):
    tm = router(max_sessions=16)
    c = raw(tm)
    c.query("SET tidemark.session = 'first'")
    c.query("BEGIN")
    c.query("INSERT INTO scratch VALUES (77, 'a') ON CONFLICT DO NOTHING")
    c.query("SET tidemark.session = ''")
    d = raw(tm)
    for i in range(100):
        d.query(f"SET tidemark.session = 'other{i}'")
    c.query("COMMIT")
    assert c.query_rows("SELECT count(*) FROM scratch WHERE id = 77") == [["1"]]
    c.query("DELETE FROM scratch")


# ---- the same bytes to both ----------------------------------------------------------------------

def numbered(count, item):
    return ",".join(item.format(i) for i in range(1, count + 1))


# The text names few of them: the longest of all texts is another test's.
PARAMETERS = parse("", "SELECT $1 + $65535", [23] * 65535)

# What is sent after the login, all at once or byte by byte, before the client closes its sending half.
SCRIPTS = {
    "a query": query("SELECT 1"),
    "nothing": b"",
    "half a message": query("SELECT 1") + query("SELECT 2")[:7],
    "three bytes of a header": query("SELECT 1") + b"Q\0\0",
    "many queries": b"".join(query(f"SELECT {i}") for i in range(300)),
    "a batch of more messages than may be outstanding": parse("p", "SELECT $1::int") +
    (bind("", "p", ["7"]) + describe("P") + execute() + close("P")) * 9000 + sync() + query("SELECT 1"),
    "writes and reads": query("INSERT INTO scratch VALUES (5, 'a')") + query("SELECT v FROM scratch WHERE id = 5") +
    query("DELETE FROM scratch") + query("SELECT count(*) FROM scratch"),
    "a slow statement": query("SELECT pg_sleep(0.3)") + query("SELECT 1"),
    "a batch without its sync": query("SELECT 1") + parse("", "SELECT 1") + bind() + execute(),
    "a batch that is flushed": parse("", "SELECT 1") + bind() + execute() + flush(),
    "a transaction left open": query("BEGIN") + query("DELETE FROM scratch"),
    "a transaction that is begun": query("BEGIN"),
    "a transaction that failed": query("BEGIN") + query("SELECT 1/0") + query("SELECT 1") + query("COMMIT"),
    "flush, error, flush, sync": parse("", "SELECT 1") + flush() + bind("", "nosuch") + flush() + execute() + sync() +
    query("SELECT 2"),
    "syncs alone": sync() * 3 + flush() + sync(),
    "an error amid statements": query("SELECT 1; SELECT 1/0; SELECT 2") + query("SELECT 3"),
    "an error amid a batch": parse("", "SELECT 1/$1::int") + bind("", "", ["1"]) + execute() + bind("", "", ["0"]) +
    execute() + bind("", "", ["1"]) + execute() + sync() + query("SELECT 3"),
    "copy in": query("COPY scratch FROM STDIN") + copy_data(b"1\ta\n") + copy_done() + query("DELETE FROM scratch"),
    "a copy that is not ended": query("SELECT 1") + query("COPY scratch FROM STDIN") + copy_data(b"1\ta\n"),
    "a batch and nonsense": parse("", "SELECT 1") + bind() + execute() + b"Q\0\0\0\3",
    "copy out": query("COPY (SELECT generate_series(1, 5)) TO STDOUT") + query("SELECT 1"),
    "copy aborted": query("COPY scratch FROM STDIN") + copy_data(b"1\ta\n") + copy_fail("enough") + query("SELECT 1"),
    "copy aborted in a batch": parse("", "COPY scratch FROM STDIN") + bind() + execute() + copy_data(b"1\ta\n") +
    copy_fail("enough") + sync() + query("SELECT 1"),
    "copy data that is wrong": query("COPY scratch FROM STDIN") + copy_data(b"no number\n") + copy_done() +
    query("SELECT 1"),
    "copy data without a copy": copy_data(b"1\ta\n") + copy_done() + copy_fail("no") + query("SELECT 1"),
    "a terminate": query("SELECT 1") + message("X") + query("SELECT 2"),
    "1600 columns": query(f"SELECT {numbered(1600, '{}')}"),
    "1665 columns": query(f"SELECT {numbered(1665, '{}')}") + query("SELECT 1"),
    "65535 parameters": PARAMETERS + describe("S") + bind("", "", ["1"] * 65535) + execute() + sync(),
    "16 MB": query("SELECT length('" + "x" * (16 * MB) + "')") + query("SELECT 1"),
    "16 MB of parameter": parse("", "SELECT length($1)") + bind("", "", [b"x" * (16 * MB)]) + execute() + sync(),
    "length 3": query("SELECT 1") + b"Q\0\0\0\3" + query("SELECT 2"),
    "length 0": query("SELECT 1") + b"P\0\0\0\0",
    "length 2 GB": query("SELECT 1") + b"Q\x7f\xff\xff\xff",
    "a negative length": query("SELECT 1") + b"Q\xff\xff\xff\xff" + query("SELECT 2"),
    "an unknown message": query("SELECT 1") + message("y", b"?") + query("SELECT 2"),
}


def heard(to, raw, data, pieces):
    """All that is answered, up to the end."""
    c = raw(to, timeout=30)
    sender = threading.Thread(target=push, args=(c.sock, data, pieces))
    sender.start()
    got = c.rest()
    sender.join(30)
    return summaries(got)


def push(sock, data, pieces):
    try:
        step = -(-len(data) // pieces) or 1
        for i in range(0, len(data), step):
            sock.sendall(data[i:i + step])
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def the_same(fleet, tm, raw, data, pieces):
    there = heard(harness.Direct(fleet), raw, data, pieces)
    here = heard(tm, raw, data, pieces)
    # What it cannot go on after PostgreSQL only logs, or puts in other words.
    for answers in (there, here):
        if answers and answers[-1][:3] == ("E", "FATAL", "08P01"):
            answers.pop()
    assert here == there
    works(tm, raw)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_same_bytes_are_answered_the_same(fleet, tm, raw, name):
    the_same(fleet, tm, raw, SCRIPTS[name], 1)


@pytest.mark.parametrize("name", [name for name, data in SCRIPTS.items() if len(data) < 1000])
def test_the_same_bytes_one_by_one_are_answered_the_same(fleet, tm, raw, name):
    the_same(fleet, tm, raw, SCRIPTS[name], 1000)


@pytest.mark.parametrize("secret", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"", b"\0" * 200])
def test_bad_cancel_keys_are_answered_with_silence(target, raw, secret):
    c = raw(target, login=False)
    c.send(message(b"", struct.pack("!II", rawpg.CANCEL, 1) + secret))
    assert all(m.kind == "E" for m in c.rest())
    works(target, raw)


def test_thousands_of_connections(router, raw):
    tm = router(max_client_conn=5000)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit[1], 8192), limit[1]))
    try:
        everybody = [raw(tm, timeout=60) for _ in range(3000)]
        for c in everybody:
            c.send(query("SELECT 42"))
        assert all(kinds(c.until_ready()) == "TDCZ" for c in everybody)
        for c in everybody:
            c.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    works(tm, raw)


# ---- clients that close their sending half -------------------------------------------------------

def test_an_open_transaction_ends_with_what_its_client_sends(target, raw):
    c = raw(target)
    c.query("DELETE FROM scratch")
    c.send(query("BEGIN"), query("INSERT INTO scratch VALUES (1, 'a')"))
    c.until_ready(), c.until_ready()
    c.sock.shutdown(socket.SHUT_WR)
    assert c.rest(5) == []
    d = raw(target)
    d.query("SET lock_timeout = '3s'")
    assert kinds(d.query("INSERT INTO scratch VALUES (1, 'b')")) == "CZ"
    d.query("DELETE FROM scratch")


def test_half_closed_clients_are_served_in_their_turn_and_counted(router, fleet, raw):
    tm = router(default_pool_size=1)
    holder = raw(tm)
    holder.query("BEGIN")
    holder.query("DELETE FROM scratch WHERE false")
    waiting = [raw(tm) for _ in range(3)]
    for c in waiting:
        c.send(query("INSERT INTO scratch VALUES (8, 'a') ON CONFLICT DO NOTHING"))
        c.sock.shutdown(socket.SHUT_WR)
    # Longer than it takes to be asked whether it is still there.
    time.sleep(1.5)
    holder.query("COMMIT")
    for c in waiting:
        assert kinds(c.rest()) == "CZ"
    harness.wait_until(lambda: clients(tm) == 1, 5, "them to be gone")
    holder.query("DELETE FROM scratch")


def test_half_closed_clients_are_not_served_for_ever(router, raw):
    """Not even one that is still there; and what it waits for ends with it."""
    tm = router(client_eof_timeout="1s")
    in_time, late = raw(tm), raw(tm)
    began = time.monotonic()
    in_time.send(query("SELECT pg_sleep(0.2)"))
    late.send(query("SELECT pg_sleep(60) /* the late one */"))
    for c in (in_time, late):
        c.sock.shutdown(socket.SHUT_WR)
    assert kinds(in_time.rest()) == "TDCZ"
    assert kinds(late.rest()) == "" and time.monotonic() - began >= 1
    running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%the late one%' AND pid <> pg_backend_pid()"
    harness.wait_until(lambda: tm.fleet.primary.value(running) == 0, 5, "what it waited for to be cancelled")
    assert clients(tm) == 0


def clients(tm):
    return sum(r["database"] == "app" for r in tm.admin("SHOW CLIENTS"))


@pytest.mark.parametrize("leave", [reset_connection, rawpg.Raw.close])
def test_who_is_gone_does_not_wait_for_a_server(router, raw, leave):
    tm = router(default_pool_size=1)
    holder = raw(tm)
    holder.query("BEGIN")
    holder.query("DELETE FROM scratch WHERE false")
    half, whole = raw(tm), raw(tm)
    for c in (half, whole):
        c.send(query("INSERT INTO scratch VALUES (9, 'a')"))
    half.sock.shutdown(socket.SHUT_WR)
    time.sleep(NAP)
    leave(half)
    leave(whole)
    harness.wait_until(lambda: clients(tm) == 1, 8, "the others to be noticed")
    holder.query("COMMIT")
    assert holder.query_rows("SELECT count(*) FROM scratch WHERE id = 9") == [["0"]]


def test_who_has_ended_may_not_go_on_sending(router, fleet, raw):
    """Behind a message that ends the conversation anything may come, and nothing is kept of it."""
    tm = router()
    before = memory_kb(tm)
    c = raw(tm, timeout=20)
    c.send(query("SELECT pg_sleep(2)") + b"Q\0\0\0\3")
    junk = query("x" * MB)
    sender = threading.Thread(target=push, args=(c.sock, junk * 60, 60))
    sender.start()
    time.sleep(1)
    grown = memory_kb(tm) - before
    got = c.rest()
    sender.join(20)
    assert kinds(got)[:4] == "TDCZ"
    assert grown < 20_000


# ---- everything at once --------------------------------------------------------------------------

def random_messages(dice):
    """A conversation that is now and then reasonable."""
    texts = ["SELECT 1", "SELECT $1::int", "SELEC", "", "BEGIN", "COMMIT", "ROLLBACK", "SELECT count(*) FROM items",
             "UPDATE items SET n = n + 1 WHERE id = 1", "COPY scratch FROM STDIN", "COPY items TO STDOUT",
             "SET work_mem = '1MB'", "SET tidemark.consistency = 'strong'", "SHOW tidemark.token", "DISCARD ALL",
             "DEALLOCATE ALL", "LISTEN ears", "NOTIFY ears", "SELECT 1; SELECT 2", "PREPARE q AS SELECT 1",
             "DEALLOCATE a", "CREATE TEMP TABLE IF NOT EXISTS t (i int)", "SELECT repeat('x', 100000)",
             "DECLARE c CURSOR FOR SELECT 1", "SELECT pg_sleep(0.01)", "SELECT lo_create(0)",
             "/*tidemark_session='u'*/ SELECT 1"]
    names = ["", "a", "b"]
    pick = dice.choice
    makers = [
        lambda: query(pick(texts)), lambda: query(pick(texts)), lambda: parse(pick(names), pick(texts)),
        lambda: parse(pick(names), pick(texts)), lambda: bind("", pick(names), pick([[], ["1"], ["x"]])),
        lambda: bind(pick(names), pick(names), ["1"]), lambda: execute(pick(names), pick([0, 1])), execute,
        lambda: describe(pick("SP"), pick(names)), lambda: close(pick("SP"), pick(names)), sync, sync, sync, flush,
        lambda: copy_data(b"1\tx\n"), lambda: copy_data(b"q\n"), copy_done, lambda: copy_fail("no"),
        lambda: function_call(1598, []), lambda: bind("", "a", [b"x" * dice.choice([10, 70_000, 300_000])]),
        lambda: copy_data(b"7\t" + b"x" * 200_000),
        lambda: message(dice.randbytes(1), dice.randbytes(dice.randrange(20))),
        lambda: pick([b"Q\0\0\0\0", b"P\xff\xff\xff\xff", b"B\x7f\xff\xff\xff", b"D\0\0\0\4", b"C\0\0\0\5S",
                      b"E\0\0\0\x05x", b"B\0\0\0\x06\0\0", b"P\0\0\0\x05\0", b"X\0\0\0\4", b"d\0\x10\0\0abc"]),
    ]
    # The last two are mostly fatal.
    weights = [4] * (len(makers) - 2) + [1, 1]
    return b"".join(dice.choices(makers, weights)[0]() for _ in range(dice.randrange(1, 30)))


def abuse(port, seed, rounds):
    """Sends nonsense in odd pieces; reads as it likes; leaves when it likes."""
    dice = random.Random(seed)
    for _ in range(rounds):
        with socket.create_connection((harness.HOST, port), 10) as s:
            s.settimeout(0.05)
            start = rawpg.startup_packet({"user": "app", "database": "app"})
            if dice.random() < 0.05:
                start = dice.randbytes(dice.randrange(1, 40))
            data = start + random_messages(dice) + (sync() if dice.random() < 0.5 else b"")
            if dice.random() < 0.2:
                data = data[:dice.randrange(len(data))]
            at, key = 0, b""
            try:
                while at < len(data):
                    n = dice.choice([1, 3, 7, 100, 5000, 1 << 20]) if len(data) < 2000 else 50_000
                    s.sendall(data[at:at + n])
                    at += n
                    if dice.random() < 0.1:
                        key = s.recv(1 << 16)
                if dice.random() < 0.8:
                    for _ in range(dice.randrange(6)):
                        s.recv(1 << 16)
                if key.find(b"K\0\0\0\x0c") >= 0 and dice.random() < 0.3:
                    k = key.find(b"K\0\0\0\x0c") + 5
                    with socket.create_connection((harness.HOST, port), 10) as cancel:
                        cancel.sendall(message(b"", struct.pack("!I", rawpg.CANCEL) + key[k:k + 8]))
                if dice.random() < 0.3:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass


@pytest.mark.parametrize("options", [{}, {"default_pool_size": 1, "max_prepared_statements": 2,
                                         "scope": "connection"}])
def test_random_abuse(router, raw, options):
    tm = router(query_wait_timeout="2s", **options)
    threads = [threading.Thread(target=abuse, args=(tm.port, seed, 40)) for seed in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(50)
    assert tm.alive()
    for _ in range(10):
        works(tm, raw)
    c = raw(tm)
    assert c.query_rows("SELECT count(*) FROM items") == [["100"]]
    c.query("DELETE FROM scratch")


def test_servers_that_restart_under_load(need_router, small_fleet, raw):
    """Nobody is left waiting: every client gets answers or an end, and in the end answers."""
    ending = threading.Event()
    hung = []

    def client(tm, seed):
        dice = random.Random(seed)
        while not ending.is_set():
            try:
                with rawpg.Raw(harness.HOST, tm.port, 10) as c:
                    c.startup()
                    for _ in range(dice.randrange(50)):
                        # Two at once: the second waits in the router for the first.
                        c.send(query(dice.choice(["SELECT count(*) FROM items",
                                                  "UPDATE items SET n = n + 1 WHERE id = 5"])),
                               parse("", "SELECT count(*) FROM items"), bind(), execute(), sync())
                        c.until_ready()
                        c.until_ready()
            except TimeoutError as e:
                hung.append(e)
            except (rawpg.Closed, rawpg.ServerError, OSError):
                time.sleep(0.02)

    with harness.Tidemark(small_fleet, default_pool_size=2, server_login_retry="200ms",
                          query_wait_timeout="3s") as tm:
        threads = [threading.Thread(target=client, args=(tm, i)) for i in range(8)]
        for t in threads:
            t.start()
        for i, how in ((1, "kill"), (0, "fast"), (1, "immediate"), (0, "kill")):
            time.sleep(0.5)
            small_fleet.restart(i, how)
        time.sleep(0.5)
        ending.set()
        for t in threads:
            t.join(20)
        assert not hung
        harness.wait_until(lambda: works(tm, raw) is None, 10, "the router to serve again")


def test_reload_and_shutdown_under_load(router):
    tm = router(shutdown_timeout="2s")
    load = [subprocess.Popen(["pgbench", "-n", "-c", "4", "-T", "3", "-M", mode, *extra, "-f", "-", "-h", harness.HOST,
                              "-p", str(tm.port), "-U", "app", "app"], stdin=subprocess.PIPE,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for mode, extra in (("simple", ["-C"]), ("extended", []), ("prepared", []))]
    for p in load:
        p.stdin.write(b"SELECT * FROM items WHERE id = 5;\nUPDATE items SET n = n + 1 WHERE id = 9;\n")
        p.stdin.close()
    for _ in range(5):
        time.sleep(0.2)
        tm.reload()
    tm.stop()
    for p in load:
        p.wait(20)
