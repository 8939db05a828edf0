# SPDX-License-Identifier: PostgreSQL
"""Named sessions that hop between routers which share a Redis."""

import itertools
import random
import signal
import threading
import time

import harness
import psycopg2
import pytest
import tokens
from harness import Tidemark, rows, value, wait_until, where
from rawpg import bind, execute, function_call, kinds, parse, query, sync
from redis_harness import Path, Redis
from test_routing import WHERE, delta, paused

TTL = "1s"
_versions = itertools.count(20_000_000)


@pytest.fixture
def redis():
    r = Redis()
    yield r
    r.destroy()


@pytest.fixture
def routers(fleet, need_router, redis):
    """make(n, **options): n routers on one Redis, which believe its marks already."""
    made = []

    def make(count=2, address=None, wait=True, **options):
        options.setdefault("scope", "connection")
        options.setdefault("session_ttl", TTL)
        options.setdefault("session_store", "redis")
        # A busy machine is no outage, unless the test wants to see one.
        options.setdefault("redis_command_timeout", "300ms")
        options.setdefault("redis_lease", "1s")
        for _ in range(count):
            made.append(Tidemark(fleet, redis=address or redis.address, **options))
        for t in made[-count:]:
            if wait and options["session_store"] == "redis":
                believes(t)
        return made[-count:]

    yield make
    for t in made:
        t.stop()


def store(t):
    return {r["name"]: r["value"] for r in t.show("STORE")}


def believes(t, limit=15):
    """Waits until the router relies on the store: a named session's read goes to a replica."""
    c = t.connect()
    rows(c, f"SET tidemark.session = 'probe-{next(_versions)}'")
    wait_until(lambda: where(c) != "primary", limit,
               lambda: f"the marks to be believed: {value(c, 'SHOW tidemark.route')}; {t.show('STORE')}")
    c.close()


def named(t, name, **kw):
    return t.connect(options=f"-c tidemark.session={name}", **kw)


def write(c, key=60):
    n = next(_versions)
    rows(c, f"UPDATE items SET n = {n} WHERE id = {key}")
    return n


def read(c, key=60):
    return rows(c, f"SELECT n, {WHERE} FROM items WHERE id = {key}")[0]


# ---- read your writes, monotonic reads ----

class Session:
    """Its own writes and what it has seen, by key. One operation at a time."""

    def __init__(self, name, keys):
        self.tag = f"/*tidemark_session='{name}'*/ "
        self.lock = threading.Lock()
        self.seen = dict.fromkeys(keys, 0)


def hop(routers, sessions, keys, seconds, seed):
    """Threads that let random sessions do random things through random routers: (reads, stale, errors)."""
    counts, errors = {"reads": 0, "stale": 0, "writes": 0}, []
    end = time.monotonic() + seconds

    def work(number):
        dice = random.Random(seed * 100 + number)
        try:
            connections = [t.connect() for t in routers]
            mine = {"reads": 0, "stale": 0, "writes": 0}
            while time.monotonic() < end:
                s = dice.choice(sessions)
                with s.lock:
                    key = dice.choice(keys)
                    c = dice.choice(connections)
                    if dice.random() < 0.4:
                        n = value(c, f"{s.tag}UPDATE hops SET n = n + 1 WHERE id = {key} RETURNING n")
                        mine["writes"] += 1
                    else:
                        n = value(c, f"{s.tag}SELECT n FROM hops WHERE id = {key}")
                        mine["reads"] += 1
                        mine["stale"] += n < s.seen[key]
                    s.seen[key] = max(s.seen[key], n)
        except BaseException as e:
            errors.append(e)
        for k in counts:
            counts[k] += mine[k]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors[0]
    return counts


@pytest.fixture
def hops(fleet):
    fleet.primary.sql("CREATE TABLE IF NOT EXISTS hops (id int PRIMARY KEY, n bigint NOT NULL)")
    fleet.primary.sql("TRUNCATE hops")
    fleet.primary.sql("INSERT INTO hops SELECT i, 1 FROM generate_series(1, 50) i")
    fleet.primary.sql("GRANT ALL ON hops TO app")
    fleet.sync()
    return list(range(1, 51))


def test_a_hundred_sessions_that_hop_between_two_routers_see_their_writes(routers, fleet, hops):
    pair = routers()
    fleet.set_delay(1, 20)
    fleet.set_delay(2, 40)
    sessions = [Session(f"s{i}", hops) for i in range(100)]
    before = [t.routing() for t in pair]
    got = hop(pair, sessions, hops, 6, seed=1)
    assert got["stale"] == 0, got
    assert got["reads"] > 300 and got["writes"] > 200, got
    replica, discriminating = (sum(delta(b, t.routing(), name)[0] for b, t in zip(before, pair))
                               for name in ("reads_replica", "discriminating"))
    assert replica > got["reads"] * 0.3, (replica, got)
    assert discriminating > got["reads"] * 0.2, "the replicas were never behind: nothing was shown"
    assert [int(store(t)["acknowledged_uncovered"]) for t in pair] == [0, 0]


def test_without_the_store_the_same_sessions_read_stale(routers, fleet, hops):
    """What the test before this one would find in routers that share nothing."""
    pair = routers(session_store="memory")
    fleet.set_delay(1, 20)
    fleet.set_delay(2, 40)
    got = hop(pair, [Session(f"m{i}", hops) for i in range(100)], hops, 4, seed=2)
    assert got["stale"] > 0, got


WRITES = {
    "simple": lambda c, n: rows(c, f"UPDATE items SET n = {n} WHERE id = 60"),
    "transaction": lambda c, n: [rows(c, q) for q in ("BEGIN", f"UPDATE items SET n = {n} WHERE id = 60", "COMMIT")],
    "one message": lambda c, n: rows(c, f"BEGIN; UPDATE items SET n = {n} WHERE id = 60; COMMIT"),
    "async": lambda c, n: rows(c, f"SET synchronous_commit = off; UPDATE items SET n = {n} WHERE id = 60"),
    "two phase": lambda c, n: [rows(c, q) for q in (
        "BEGIN", f"UPDATE items SET n = {n} WHERE id = 60", f"PREPARE TRANSACTION 'h{n}'", f"COMMIT PREPARED 'h{n}'")],
    "procedure": lambda c, n: rows(c, f"DO $$ BEGIN UPDATE items SET n = {n} WHERE id = 60; END $$"),
}


@pytest.mark.parametrize("how", WRITES)
def test_a_write_by_any_road_is_read_through_the_other_router(routers, fleet, how):
    ta, tb = routers()
    a, b, stranger = named(ta, "u1"), named(tb, "u1"), named(tb, "u2")
    read(b)
    with paused(fleet):
        for first in (True, False, False):
            n = next(_versions)
            WRITES[how](a, n)
            assert read(b) == (n, "primary")
            # At once: a replica that stands still for longer than marks are kept is asked by nobody.
            assert not first or read(stranger)[1] != "primary", "somebody else's session is held up too"


def test_a_copy_is_read_through_the_other_router(routers, fleet):
    """No position can be captured behind it: the answer waits for a sample of the primary."""
    import io
    ta, tb = routers()
    a, b = named(ta, "u1"), named(tb, "u1")
    read(b)
    fleet.primary.sql("CREATE TABLE IF NOT EXISTS copied (n bigint); GRANT ALL ON copied TO app")
    fleet.sync()
    with paused(fleet):
        for _ in range(5):
            n = next(_versions)
            a.cursor().copy_expert("COPY copied FROM STDIN", io.StringIO(f"{n}\n"))
            assert value(b, f"SELECT count(*) FROM copied WHERE n = {n}") == 1
    assert store(ta)["state"] == "up", "the position was not found out: all marks were given up instead"


def test_what_a_session_read_binds_it_at_the_other_router(routers, fleet):
    # Replay stands still for as long as this takes: marks must reach back that far.
    (ta,), (tb,) = (routers(1, replicas=[s], session_ttl="10s") for s in fleet.standbys)
    a, b, stranger = named(ta, "u1"), named(tb, "u1"), named(tb, "u2")
    writer = fleet.primary.connect()
    with paused(fleet, 2):
        for _ in range(5):
            n = write(writer)
            wait_until(lambda: fleet.standbys[0].value("SELECT n FROM items WHERE id = 60") == n, 5, "the first standby")
            assert read(a) == (n, "replica1")
            assert read(stranger)[0] != n, "the second standby is not behind: nothing is shown"
            assert read(b) == (n, "primary")
            # What the primary showed it binds as well.
            n = write(writer)
            assert value(a, "/*tidemark_consistency='strong'*/ SELECT n FROM items WHERE id = 60") == n
            assert read(b) == (n, "primary")


def test_pipelined_statements_are_each_acknowledged_after_their_mark(routers, fleet, raw):
    ta, tb = routers()
    c, b = raw(ta, options="-c tidemark.session=u1"), named(tb, "u1")
    read(b)
    ns = [next(_versions) for _ in range(4)]
    with paused(fleet):
        before = int(store(ta)["writes"])
        c.send(query(f"UPDATE items SET n = {ns[0]} WHERE id = 60"), query(f"UPDATE items SET n = {ns[1]} WHERE id = 61"),
               parse("", f"UPDATE items SET n = {ns[2]} WHERE id = 62"), bind(""), execute(), sync(),
               query(f"SELECT n FROM items WHERE id = 62; UPDATE items SET n = {ns[3]} WHERE id = 63"))
        for i in range(4):
            got = c.until_ready()
            assert not [m for m in got if m.kind == "E"], got
            assert read(b, 60 + i)[0] == ns[i]
        assert int(store(ta)["writes"]) - before == 4


def test_the_mark_of_every_session_is_stored_before_the_answer(routers, fleet, raw):
    """One session's mark was known and on its way, the other's waited for a sample: the answer came with the first."""
    a, b = routers()
    for i in (1, 2):
        fleet.set_delay(i, 3000)
    for _ in range(6):
        mine, other = (f"both-{next(_versions)}" for _ in range(2))
        c = named(a, mine)
        rows(c, "LISTEN nothing")  # it is bound: its tags join in
        done, n = [], next(_versions)
        work = threading.Thread(target=lambda: done.append(rows(
            c, f"/*tidemark_session='{other}'*/ UPDATE items SET n = {n} + least(0, length(pg_sleep(0.3)::text)) "
               "WHERE id = 60 RETURNING n")))
        work.start()
        time.sleep(0.1)
        # Another client of the other session goes away amid a write of its own: the session owes a sample.
        gone = raw(a)
        gone.send(query(f"/*tidemark_session='{other}'*/ UPDATE items SET n = n WHERE id = 61 "
                        "AND pg_sleep(5) IS NOT NULL"))
        time.sleep(0.1)
        gone.close()
        work.join()
        assert done == [[(n,)]]
        c2 = b.connect()
        assert value(c2, f"/*tidemark_session='{other}'*/ SELECT n FROM items WHERE id = 60") == n
        c.close()
        c2.close()


def test_round_trips_are_paid_by_named_sessions_only(routers, fleet):
    (t,) = routers(1)
    plain, c = t.connect(), named(t, "u1")

    def cost(conn, sql):
        before = store(t)
        rows(conn, sql)
        after = store(t)
        return tuple(int(after[k]) - int(before[k]) for k in ("reads", "writes"))

    assert cost(plain, "UPDATE items SET n = n WHERE id = 60") == (0, 0)
    assert cost(plain, "SELECT n FROM items WHERE id = 60") == (0, 0)
    assert cost(c, "UPDATE items SET n = n WHERE id = 60") == (0, 1)
    fleet.sync()
    costs = [cost(c, "SELECT n FROM items WHERE id = 60") for _ in range(5)]
    assert all(reads == 1 and writes <= 1 for reads, writes in costs), costs
    # Nothing happens on the primary: nothing new to store.
    assert (1, 0) in costs


# ---- when it breaks ----

def test_store_down_means_the_primary_for_named_sessions_and_writes_go_on(routers, fleet, redis):
    ta, tb = routers(redis_command_timeout="50ms", redis_lease="300ms")
    a, b, plain = named(ta, "u1"), named(tb, "u1"), tb.connect()
    read(b)
    redis.kill()
    with paused(fleet):
        began = time.monotonic()
        ns = []
        for _ in range(10):
            ns.append(write(a))
            assert read(b) == (ns[-1], "primary")
            assert read(a) == (ns[-1], "primary")
        assert time.monotonic() - began < 3, "each write waits, not only the first ones"
        assert where(plain) != "primary", "a session without a name pays for it"
    assert tb.routing()["reason_store_doubtful"] >= 10
    assert store(tb)["state"] == "down" and int(store(ta)["owed"]) >= 1
    redis.start()
    believes(ta, 15)
    believes(tb, 15)
    assert int(store(ta)["owed"]) == 0
    with paused(fleet):
        n = write(a)
        assert read(b) == (n, "primary")


def test_a_store_that_hangs_costs_a_bounded_time(routers, fleet, redis):
    (t,) = routers(1, redis_command_timeout="30ms", redis_lease="300ms")
    c = named(t, "u1")
    read(c)
    redis.pause()
    try:
        began = time.monotonic()
        assert read(c)[1] == "primary"
        assert time.monotonic() - began < 1
        began = time.monotonic()
        write(c)
        assert time.monotonic() - began < 2
        began = time.monotonic()
        for _ in range(5):
            write(c)
        assert time.monotonic() - began < 1
    finally:
        redis.resume()


def test_a_router_that_loses_the_store_makes_the_others_doubt(routers, fleet, redis):
    """A reaches Redis no more, B does: what A acknowledges, B never misses."""
    for attempt in range(2):
        path = Path(redis.port)
        (ta,) = routers(1, address=path.address, redis_command_timeout="50ms", redis_lease="300ms",
                         session_ttl="4s")
        (tb,) = routers(1, redis_command_timeout="100ms", redis_lease="300ms", session_ttl="4s")
        a, b = named(ta, f"cut{attempt}"), named(tb, f"cut{attempt}")
        read(b)
        with paused(fleet):
            assert read(b)[1] != "primary"
            if attempt % 2:
                path.hold()
            else:
                path.refuses = True
                path.break_off()
            for _ in range(5):
                n = write(a)
                assert read(b) == (n, "primary")
        path.close()
        assert int(store(ta)["acknowledged_uncovered"]) == 0


def test_a_router_that_has_just_started_acknowledges_no_write_that_others_may_miss(routers, fleet, redis):
    """Nobody doubts for its sake yet: the first writes wait for Redis, if it can be reached at all."""
    path = Path(redis.port)
    (tb,) = routers(1)
    b = named(tb, "u1")
    read(b)
    with paused(fleet):
        path.hold()
        (ta,) = routers(1, address=path.address, wait=False)
        threading.Timer(0.25, path.release).start()
        a = named(ta, "u1")
        n = write(a)
        assert read(b) == (n, "primary")
        assert int(store(ta)["acknowledged_uncovered"]) == 0
    path.close()


def test_a_router_that_never_reaches_redis_makes_the_first_writes_wait_only(routers, fleet, redis):
    path = Path(redis.port)
    path.refuses = True
    (ta,) = routers(1, address=path.address, wait=False)
    a = named(ta, "u1")
    began = time.monotonic()
    write(a)
    assert time.monotonic() - began < 2
    time.sleep(1)
    began = time.monotonic()
    for _ in range(5):
        write(a)
    assert time.monotonic() - began < 0.5
    path.close()


def test_a_redis_that_forgets_is_noticed(routers, fleet, redis):
    ta, tb = routers()
    a, b = named(ta, "u1"), named(tb, "u1")
    read(b)
    with paused(fleet):
        n = write(a)
        redis.say("FLUSHALL")
        assert read(b) == (n, "primary")
    believes(tb, 5)


def test_a_token_says_no_more_than_the_router_knows(routers, fleet, redis):
    ta, tb = routers(redis_command_timeout="50ms", redis_lease="300ms")
    a, b = named(ta, "u1"), named(tb, "u1")
    write(a)
    read(b)
    assert tokens.branches(value(b, "SHOW tidemark.token"))
    redis.kill()
    assert tokens.is_primary(value(b, "SHOW tidemark.token")), "nobody could be asked"


@pytest.mark.parametrize("before", ["", "/*tidemark_consistency='eventual'*/ SELECT n FROM items WHERE id = 60"],
                         ids=["asked before", "eventual"])
def test_a_token_says_what_other_routers_know(routers, fleet, before):
    """Not only what this one has seen of the session."""
    ta, tb = routers()
    a, b = named(ta, "u1"), named(tb, "u1")
    if not before:
        read(b)
    with paused(fleet):
        for _ in range(3):
            write(a)
            wrote = tokens.branches(value(a, "SHOW tidemark.token"))[0]["position"]
            if before:
                value(b, before)
            token = value(b, "SHOW tidemark.token")
            assert tokens.branches(token)[0]["position"] >= wrote


def test_a_reported_token_behind_a_read_that_asked_nobody_says_primary(routers, fleet, raw):
    ta, tb = routers()
    a, b = named(ta, "u1"), raw(tb, options="-c tidemark.session=u1")
    b.query("SET tidemark.report = on")
    reported = lambda text: [m.body for m in b.query(text) if m.kind == "S" and m.body.startswith(b"tidemark.token")]
    with paused(fleet):
        write(a)
        wrote = tokens.branches(value(a, "SHOW tidemark.token"))[0]["position"]
        got = reported("/*tidemark_consistency='eventual'*/ SELECT n FROM items WHERE id = 60")
        assert all(tokens.is_primary(body[15:-1].decode()) for body in got), got
        (body,) = reported("SELECT n FROM items WHERE id = 60")
        assert tokens.branches(body[15:-1].decode())[0]["position"] >= wrote


def test_a_token_that_was_taken_is_known_to_the_other_routers(routers, fleet):
    ta, tb = routers()
    writer, a, b = ta.connect(), named(ta, "u1"), named(tb, "u1")
    read(b)
    with paused(fleet):
        for _ in range(3):
            n = write(writer)
            assert read(named(tb, "u2"))[0] != n, "the standbys are not behind: nothing is shown"
            rows(a, f"SET tidemark.read_after = '{value(writer, 'SHOW tidemark.token')}'")
            assert read(b) == (n, "primary")


def test_a_mark_that_expired_is_not_missed_by_a_replica_that_stands_still_for_longer(routers, fleet):
    ta, tb = routers()
    a, b = named(ta, "u1"), named(tb, "u1")
    read(b)
    with paused(fleet, 1):
        n = write(a)
        wait_until(lambda: fleet.standbys[1].value("SELECT n FROM items WHERE id = 60") == n, 5, "the other standby")
        time.sleep(2.5)
        fleet.pause_replay(2)
        try:
            assert {read(named(tb, "u1")) for _ in range(6)} == {(n, "replica2")}
            m = write(a)
            time.sleep(2.5)
            assert read(b) == (m, "primary")
        finally:
            fleet.resume_replay(2)


def test_what_a_cancelled_read_asked_the_store_does_not_serve_the_next_one(routers, fleet):
    ta, tb = routers(wait_timeout="10s")
    a, b = named(ta, "u1"), named(tb, "u1")
    read(b)
    for i in (1, 2):
        fleet.set_delay(i, 400)
    # So that a replica is expected in time.
    for _ in range(3):
        write(a)
        read(b)
    write(a)
    canceller = threading.Timer(0.1, b.cancel)
    canceller.start()
    with pytest.raises(psycopg2.errors.QueryCanceled):
        read(b)
    canceller.join()
    for i in (1, 2):
        fleet.set_delay(i, 0)
    with paused(fleet):
        assert read(named(tb, "u2"))[1] != "primary"
        n = write(a)
        assert read(b) == (n, "primary")


def test_clients_that_leave_while_they_wait_harm_nobody(routers, fleet, redis):
    (t,) = routers(1, redis_command_timeout="5s", redis_lease="6s")
    redis.pause()
    try:
        leaving = [named(t, f"l{i}") for i in range(8)]
        for i, c in enumerate(leaving):
            c.autocommit = True
            s = c.cursor()
            sql = f"UPDATE items SET n = n WHERE id = {60 + i}" if i % 2 else "SELECT 1"
            threading.Thread(target=lambda s=s, sql=sql: _ignore(s, sql), daemon=True).start()
        time.sleep(0.3)
        for c in leaving:
            harness.abort(c) if hasattr(harness, "abort") else c.cancel()
    finally:
        redis.resume()
    believes(t, 10)
    assert t.alive()


def _ignore(cursor, sql):
    try:
        cursor.execute(sql)
    except psycopg2.Error:
        pass


BUMP = "UPDATE hops SET n = n + 1 WHERE id = {} RETURNING n"


def number(messages):
    """The first column of the last row."""
    failed = [m.fields()["M"] for m in messages if m.kind == "E"]
    assert not failed, failed
    return int([m for m in messages if m.kind == "D"][-1].columns()[0])


def test_sessions_of_every_kind_of_statement(routers, fleet, hops, raw):
    fleet.primary.sql("CREATE OR REPLACE FUNCTION bump_hop(k int) RETURNS bigint LANGUAGE sql AS "
                      f"$$ {BUMP.format('k')} $$")
    oid = fleet.primary.value("SELECT 'bump_hop'::regproc::oid")
    fleet.sync()
    ta, tb = routers()
    longest = "x" * 127
    a, b = (raw(t, options=f"-c tidemark.session={longest}") for t in (ta, tb))
    number(b.query("SELECT n FROM hops WHERE id = 1"))

    def sees(key, n, tag=""):
        assert number(b.query(f"{tag}SELECT n FROM hops WHERE id = {key}")) >= n, (key, tag)

    with paused(fleet):
        a.send(function_call(oid, ["1"])).until_ready()
        sees(1, fleet.primary.value("SELECT n FROM hops WHERE id = 1"))
        a.query("BEGIN")
        n = number(a.send(parse("", BUMP.format("2")), bind(), execute("", 1), sync()).until_ready())
        a.query("COMMIT")
        sees(2, n)
        # Back to the session of the startup packet.
        for how in ("DISCARD ALL", "RESET ALL"):
            a.query("SET tidemark.session = 'other'")
            a.query(how)
            sees(3, number(a.query(BUMP.format(3))))
        a.query("BEGIN")
        for i in range(7):
            a.query(f"/*tidemark_session='m{i}'*/ SELECT 1")
        n = number(a.query(BUMP.format(4)))
        a.query("COMMIT")
        for tag in ["", *(f"/*tidemark_session='m{i}'*/ " for i in range(7))]:
            sees(4, n, tag)
        a.query("SET tidemark.session = 'p1'; BEGIN")
        a.query("SET tidemark.session = 'p2'")
        n = number(a.query(BUMP.format(5)))
        a.query("SET tidemark.session = 'p3'")
        a.query("COMMIT")
        for name in ("p1", "p2", "p3"):
            sees(5, n, f"/*tidemark_session='{name}'*/ ")
        a.query("RESET tidemark.session")
        a.query("LISTEN something")
        sees(6, number(a.query("/*tidemark_session='bound'*/ " + BUMP.format(6))), "/*tidemark_session='bound'*/ ")


def test_a_router_that_ends_answers_those_that_wait_for_the_store(routers, fleet, redis, raw):
    (t,) = routers(1, redis_command_timeout="500ms", redis_lease="600ms")
    writer, reader = (raw(t, options=f"-c tidemark.session={name}") for name in "wr")
    for c in (writer, reader):
        c.query("SELECT 1")
    redis.pause()
    try:
        writer.send(query("UPDATE items SET n = n WHERE id = 60"))
        reader.send(query("SELECT n FROM items WHERE id = 60"))
        time.sleep(0.1)
        # Nothing runs any more that could be cancelled.
        writer.cancel()
        reader.cancel()
        t.process.send_signal(signal.SIGTERM)
        assert [kinds(c.rest()) for c in (writer, reader)] == ["CZE", "TDCZE"]
        t.process.wait(10)
    finally:
        redis.resume()


@pytest.mark.parametrize("options, says", [
    (["--redis", "nonsense"], "expected HOST:PORT"),
    (["--redis", "a:1,b:2"], "redis_sentinel_master"),
    (["--redis", ""], "needs an address"),
    (["--strategy", "pin_fixed"], "strategy = position"),
    (["--redis-tls", "on", "--redis-tls-ca-file", "/nowhere"], "session store"),
])
def test_settings_of_the_store_that_cannot_be(options, says):
    code, text = harness.bad_start("--primary", "host=127.0.0.1 port=1", "--listen", f"127.0.0.1:{harness.free_port()}",
                                   "--session-store", "redis", *options)
    assert code != 0 and says in text, text


def test_password_database_and_unix_socket(fleet, need_router, tmp_path):
    path = f"{tmp_path}/redis.sock"
    r = Redis("--requirepass", "s3cret-word", "--unixsocket", path, "--unixsocketperm", "777", password="s3cret-word")
    options = {"session_store": "redis", "session_ttl": TTL, "redis": path, "redis_password": "s3cret-word", "redis_db": 3,
               "redis_command_timeout": "300ms", "redis_lease": "1s", "scope": "connection"}
    try:
        with Tidemark(fleet, **options) as ta, Tidemark(fleet, **options) as tb:
            believes(ta)
            believes(tb)
            a, b = named(ta, "u1"), named(tb, "u1")
            read(b)
            with paused(fleet):
                n = write(a)
                assert read(b) == (n, "primary")
            keyspace = r.say("INFO", "keyspace")
            assert "db3:" in keyspace and "db0:" not in keyspace
        wrong = {**options, "redis_password": "wrong-word"}
        with Tidemark(fleet, **wrong) as t:
            wait_until(lambda: "WRONGPASS" in str(t.show("STORE")), 5, "the refusal to be told")
            c = named(t, "u1")
            assert write(c) == read(c)[0] and read(c)[1] == "primary"
            for text in (t.log_text(), str(t.show("STORE"))):
                assert "wrong-word" not in text
    finally:
        r.destroy()
