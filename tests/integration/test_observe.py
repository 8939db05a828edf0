# SPDX-License-Identifier: PostgreSQL
"""mode = observe: nothing is split, and the report agrees with what the fleet really would have answered."""

import io
import os
import random
import signal
import time

import pytest

import harness
from harness import WHERE, rows, value, wait_until, where
from rawpg import bind, execute, parse, query, sync
from test_admin import samples


READ = "SELECT n FROM items WHERE id = ?"
COUNTS = ["reads", "would_replica", "would_wait", "would_primary", "naive_fresh", "naive_stale", "naive_undecided"]


@pytest.fixture
def observing(router):
    """A factory of routers with mode = observe, whose catalog is loaded."""

    def make(**options):
        t = router(wait=False, http=True, **{"mode": "observe", **options})
        return settled(t)

    return make


def settled(t):
    t.wait_fleet()
    c = t.connect()
    rows(c, "SHOW server_version")
    c.close()
    wait_until(lambda: all(d["catalog"] == "current" for d in t.show("DATABASES")), 10, "the catalog")
    return t


def metric(t, name):
    return samples(t.http("/metrics")[1])[name]


def report(t):
    """{shape: {count: number}}, when nothing waits for its verdict any more."""
    wait_until(lambda: metric(t, "tidemark_observed_pending") == 0, 3, "every read to be judged")
    table = {r["shape"]: r for r in t.show("OBSERVE")}
    for r in table.values():
        r.update({k: int(r[k]) for k in COUNTS})
        assert r["reads"] == r["would_replica"] + r["would_wait"] + r["would_primary"], r
        assert r["reads"] == r["naive_fresh"] + r["naive_stale"] + r["naive_undecided"], r
    others = [r for shape, r in table.items() if shape != "(total)"]
    for k in COUNTS:
        assert table["(total)"][k] == sum(r[k] for r in others), f"{k} of the rows is not that of the total"
    return table


def naive(r):
    return [r[k] for k in ("naive_fresh", "naive_stale", "naive_undecided")]


def write(c, n, row=81):
    rows(c, f"UPDATE items SET n = {n} WHERE id = {row}")


def read(c, row=81):
    return value(c, f"SELECT n FROM items WHERE id = {row}")


def samples_pass(t, seconds=0.6):
    """Long enough for every server to have been sampled again."""
    time.sleep(seconds)


def pause_all(fleet):
    fleet.sync()
    for i in range(1, len(fleet.servers)):
        fleet.pause_replay(i)


# ---- nothing is split ----

CLIENTS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"


def test_every_statement_runs_on_the_primary(observing, fleet):
    others = [s.value(CLIENTS) for s in fleet.standbys]
    t = observing()
    before = t.routing()
    c, named = t.connect(), t.connect(options="-c tidemark.session=u1")
    reads = writes = 0
    for n in range(20):
        for conn in (c, named):
            write(conn, n)
            assert read(conn) == n
            assert where(conn) == "primary"
            writes, reads = writes + 1, reads + 2
    eventual = t.connect(options="-c tidemark.consistency=eventual")
    assert where(eventual) == "primary"
    strong = t.connect(options="-c tidemark.consistency=strong")
    assert where(strong) == "primary"
    assert "strong" in value(strong, "SHOW tidemark.route")
    where(c)
    assert "observe" in value(c, "SHOW tidemark.route")
    reads += 2

    # Pooled connections stay, so whoever had been asked would still have one more; other routers' may be there.
    for s, there in zip(fleet.standbys, others):
        assert s.value(CLIENTS) <= there
    assert fleet.primary.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'") > 0
    assert {r["node"] for r in t.show("SERVERS")} == {"primary"}
    grown = {k: v - before.get(k, 0) for k, v in t.routing().items()}
    assert [grown["reads_replica"], grown["reads_waited"], grown["reason_write"]] == [0, 0, writes]
    assert grown["reason_observe"] == reads
    assert grown["reason_strong"] == 1

    total = report(t)["(total)"]
    assert total["reads"] == reads
    got = samples(t.http("/metrics")[1])
    assert got["tidemark_observing"] == 1
    assert got['tidemark_queries_total{target="primary",reason="observe"}'] == reads
    for name, result in (("naive_fresh", "fresh"), ("naive_stale", "stale"), ("naive_undecided", "undecided")):
        assert got[f'tidemark_observed_naive_total{{result="{result}"}}'] == total[name]
    for would in ("replica", "wait", "primary"):
        assert sum(v for k, v in got.items()
                   if k.startswith(f'tidemark_observed_reads_total{{would="{would}"')) == total["would_" + would]


def test_all_ways_to_send_a_read_are_counted(observing, raw, fleet):
    t = observing()
    fleet.sync()
    n = str(fleet.primary.value("SELECT n FROM items WHERE id = 7")).encode()
    c = raw(t)
    c.send(*[query(f"SELECT n FROM items WHERE id = {i}") for i in range(1, 6)])
    for _ in range(5):
        assert [m.columns() for m in c.until_ready() if m.kind == "D"]
    c.send(parse("s", "SELECT n FROM items WHERE id = 7"), sync())
    c.until_ready()
    c.send(*([bind("", "s"), execute(), sync()] * 4))
    for _ in range(4):
        assert [m.columns() for m in c.until_ready() if m.kind == "D"] == [[n]]
    conn = t.connect(autocommit=False)
    read(conn)
    conn.commit()
    got = report(t)
    # Parse alone is a unit of its own; what is in a transaction could not have been split.
    assert got[READ]["reads"] == 10
    assert list(got) == [READ, "(total)"]


def test_mode_route_observes_nothing(tm):
    for _ in range(3):
        where(tm.connect())
    assert report(tm) == {"(total)": {**{k: 0 for k in COUNTS}, "database": None, "shape": "(total)",
                                      "primary_because": "", "stale_pct": None}}
    assert metric(tm, "tidemark_observing") == 0


# ---- stale or not ----

def test_with_replay_paused_every_read_after_a_write_is_stale(observing, fleet):
    """The expectation is exact, and the standbys themselves confirm it."""
    t = observing(scope="connection")
    c, reader = t.connect(), t.connect()
    pause_all(fleet)
    samples_pass(t)
    really_stale = 0
    for n in range(5000, 5030):
        write(c, n)
        assert read(c) == n
        # Round robin over the standbys, with no regard to positions.
        really_stale += fleet.standbys[n % 2].value("SELECT n FROM items WHERE id = 81") != n
        value(reader, "SELECT v FROM items WHERE id = 81")
    got = report(t)
    assert really_stale == 30
    assert naive(got[READ]) == [0, 30, 0]
    assert got[READ]["stale_pct"] == "100.0"
    # A session that has not written, nor seen it: nothing it could miss.
    assert naive(got["SELECT v FROM items WHERE id = ?"]) == [30, 0, 0]
    assert got["SELECT v FROM items WHERE id = ?"]["would_replica"] == 30
    assert list(got)[0] == READ


def test_a_shared_session_counts_what_its_other_connections_wrote(observing, fleet):
    t = observing(scope="database")
    c, reader = t.connect(), t.connect()
    # A new router's mark is what a sample of the primary shows when it first reads; replicas are to be beyond that.
    samples_pass(t)
    read(reader)
    pause_all(fleet)
    samples_pass(t)
    before = naive(report(t)[READ])
    read(reader)
    write(c, 1)
    for _ in range(10):
        read(reader)
    assert [b - a for a, b in zip(before, naive(report(t)[READ]))] == [1, 10, 0]


def test_replicas_that_have_caught_up_are_fresh(observing, fleet):
    t = observing()
    c = t.connect()
    write(c, 1)
    fleet.sync_quietly()
    samples_pass(t)
    for _ in range(50):
        read(c)
    got = report(t)[READ]
    assert naive(got) == [50, 0, 0]
    assert [got["would_replica"], got["would_wait"], got["would_primary"]] == [50, 0, 0]


def test_without_delay_what_is_not_fresh_is_decided_or_bounded(observing, fleet):
    """Replay takes about as long as the question whether it was there: much may stay undecided, nothing waits on."""
    t = observing()
    c = t.connect()
    for n in range(100):
        write(c, n)
        read(c)
    got = report(t)[READ]
    assert got["reads"] == 100
    assert got["naive_stale"] + got["naive_undecided"] <= 100
    samples_pass(t)
    before = naive(report(t)[READ])
    for _ in range(20):
        read(c)
    after = naive(report(t)[READ])
    assert [b - a for a, b in zip(before, after)] == [20, 0, 0]


@pytest.mark.parametrize("poll", ["10ms", "250ms"])
def test_the_report_agrees_with_a_real_naive_splitter(observing, fleet, poll):
    """Both standbys apply 200 ms late. Around each observed read the standby whose turn it is is read directly. It
    only moves forward, so: fresh before means fresh at the read, which then must not count as stale; stale after
    means stale at the read, which then must not count as fresh."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    t = observing(poll_idle_interval=poll)
    direct = [s.connect() for s in fleet.standbys]
    for i in (1, 2):
        fleet.set_delay(i, 200)
    c = t.connect()
    samples_pass(t)
    stale_before = stale_after = 0
    reads = 40
    for n in range(reads):
        write(c, 9000 + n)
        time.sleep(rng.uniform(0, 0.4))
        splitter = direct[n % 2]
        stale_before += read(splitter) != 9000 + n
        assert read(c) == 9000 + n
        stale_after += read(splitter) != 9000 + n
    got = report(t)[READ]
    fresh, stale, undecided = naive(got)
    print(f"{got}; read directly: {stale_after} to {stale_before} stale")
    assert got["reads"] == reads
    assert stale <= stale_before
    assert stale + undecided >= stale_after
    # Gaps are spread evenly over twice the delay, so half of the reads are stale and most of these stay far from
    # the moment of replay. Samples every 10 ms of 400 leave one read in 40 undecided, every 250 ms one in three.
    assert 8 <= stale <= 32
    assert undecided <= (10 if poll == "10ms" else 30)
    assert fresh >= 5 or poll != "10ms"


# ---- what routing would have done ----

def script(t, fleet):
    """Reads of a session whose replicas are there; then, for long, are not."""
    c = t.connect()
    write(c, 1)
    fleet.sync_quietly()
    samples_pass(t)
    for _ in range(20):
        read(c)
    pause_all(fleet)
    write(c, 2)
    samples_pass(t)
    write(c, 3)
    for _ in range(10):
        read(c)
    fleet.calm()


def test_would_is_what_mode_route_does(observing, router, fleet):
    t = observing()
    script(t, fleet)
    got = report(t)[READ]
    fleet.sync()
    r = router()
    before = r.routing()
    script(r, fleet)
    grown = {k: v - before[k] for k, v in r.routing().items()}
    assert [grown["reads_replica"], grown["reads_primary"], grown["reads_waited"]] == [20, 10, 0]
    assert [got["would_replica"], got["would_primary"], got["would_wait"]] == [20, 10, 0]
    assert got["primary_because"] == "too_far_behind 10"
    assert metric(t, 'tidemark_observed_reads_total{would="primary",reason="too_far_behind"}') == 10


@pytest.mark.parametrize("options", ["", "-c tidemark.report=on"], ids=["plain", "report"])
def test_reads_do_not_bind_later_ones_to_what_the_primary_showed(observing, fleet, options):
    """Others write all the time and the replicas are late: who only reads would not notice."""
    t = observing(scope="connection")
    for i in (1, 2):
        fleet.set_delay(i, 200)
    reader = t.connect(options=options)
    with fleet.primary.connect() as other:
        other.autocommit = True
        for n in range(50):
            write(other, n)
            read(reader)
            time.sleep(0.005)
    got = report(t)[READ]
    assert got["would_replica"] == 50
    # The two standbys are not in step; by going back and forth between them a read may go back in time.
    assert got["naive_stale"] <= 10


def test_what_a_read_would_wait_for_is_asked_for(observing, fleet):
    """The position of a COPY is not known before a sample of the primary. Only the first read would wait for that."""
    t = observing(observe_max_pending=0, poll_idle_interval="500ms")
    c = t.connect()
    samples_pass(t, 1.1)
    with c.cursor() as cur:
        cur.copy_expert("COPY scratch FROM STDIN", io.StringIO("-77\tx\n"))
    for _ in range(10):
        read(c)
        time.sleep(0.01)
    rows(c, "DELETE FROM scratch WHERE id = -77")
    got = report(t)[READ]
    assert 1 <= got["would_wait"] <= 5 <= got["would_replica"], got


# ---- limits ----

def test_replicas_are_not_asked_more_often_than_while_clients_wait(observing, fleet):
    t = observing(poll_busy_interval="2s", poll_idle_interval="250ms")
    c = t.connect()
    pause_all(fleet)
    samples_pass(t)

    def asked():
        return [int(r["samples"]) for r in t.show("FLEET") if r["role"] == "replica"]

    before, started = asked(), time.monotonic()
    for n in range(200):
        write(c, n)
        read(c)
    got = report(t)[READ]
    allowed = (time.monotonic() - started) / 0.25 + 3
    assert all(b - a <= allowed for a, b in zip(before, asked())), (before, asked(), allowed)
    # Whatever sample comes is a witness, whoever asked for it.
    assert naive(got) == [0, 200, 0]


def test_the_queue_has_a_limit(observing, fleet):
    t = observing(observe_max_pending=0)
    c = t.connect()
    pause_all(fleet)
    samples_pass(t)
    write(c, 1)
    for _ in range(20):
        read(c)
    assert naive(report(t)[READ]) == [0, 0, 20]


def test_the_table_has_a_limit(observing):
    t = observing(observe_max_shapes=16)
    c = t.connect()
    for i in range(40):
        value(c, f"SELECT count(*) AS c{i} FROM items")
        read(c)
    got = report(t)
    assert len(got) == 16 + 2, "the table, (others), (total)"
    assert got[READ]["reads"] == 40
    assert got["(total)"]["reads"] == 80
    assert got["(others)"]["reads"] == 41 - 16
    assert metric(t, "tidemark_observed_shapes") == 16
    assert metric(t, "tidemark_observed_shapes_evicted_total") == 41 - 16


def processes(server):
    """The postmaster, and behind it what it has started: each leads a group of its own."""
    pid = server.process.pid
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [pid, *map(int, f.read().split())]


def test_undecided_ends_with_the_witness(observing, fleet):
    """A standby that goes away is no witness; nothing waits for it longer than a second."""
    t = observing(answer_timeout="300ms")
    c = t.connect()
    pause_all(fleet)
    samples_pass(t)
    stopped = [pid for s in fleet.standbys for pid in processes(s)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        write(c, 1)
        for _ in range(10):
            read(c)
        got = report(t)[READ]
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert naive(got) == [0, 0, 10]
    t.wait_fleet()


# ---- switching ----

CONFIG = """
[nodes]
primary = {primary}
replica1 = {replica1}
replica2 = {replica2}
[tidemark]
listen_addr = 127.0.0.1
listen_port = {{port}}
http_listen = 127.0.0.1:{http}
scope = connection
mode = {mode}
"""


def configure(fleet, http, mode):
    return CONFIG.format(primary=fleet.primary.conninfo(), replica1=fleet.standbys[0].conninfo(),
                         replica2=fleet.standbys[1].conninfo(), http=http, mode=mode)


def switch(t, fleet, mode):
    t.write("tidemark.ini", configure(fleet, t.http_port, mode))
    t.reload()
    wait_until(lambda: metric(t, "tidemark_observing") == (mode == "observe"), 5, f"mode = {mode}")


@pytest.fixture
def switchable(router, fleet):
    http = harness.free_port()
    t = router(config=configure(fleet, http, "observe"), wait=False)
    t.http_port = http
    return settled(t)


def test_a_reload_switches(switchable, fleet):
    t = switchable
    c = t.connect()
    assert where(c) == "primary"
    assert read(c) is not None
    switch(t, fleet, "route")
    wait_until(lambda: where(c) != "primary", 10, "reads to go to replicas")
    reads = report(t)["(total)"]["reads"]
    assert reads == 2, "what was observed stays, and no more is"
    switch(t, fleet, "observe")
    assert where(c) == "primary"
    assert report(t)["(total)"]["reads"] == 3


def test_what_observed_reads_showed_binds_the_session_when_splitting_begins(switchable, fleet):
    t = switchable
    pause_all(fleet)
    samples_pass(t)
    own, named, fresh = t.connect(), t.connect(options="-c tidemark.session=s1"), t.connect()
    write(fleet.primary.connect(), 7777)
    assert read(own) == 7777
    assert read(named) == 7777
    token = value(own, "SHOW tidemark.token")
    switch(t, fleet, "route")
    assert read(own) == 7777
    assert read(named) == 7777
    assert read(t.connect()) != 7777, "nothing else would have shown it: the test proves nothing"
    rows(fresh, f"SET tidemark.read_after = '{token}'")
    assert read(fresh) == 7777


def test_the_log_tells_the_sums_at_the_end(observing, fleet):
    t = observing()
    c = t.connect()
    pause_all(fleet)
    samples_pass(t)
    write(c, 1)
    for _ in range(4):
        read(c)
    report(t)
    t.terminate()
    t.process.wait(10)
    log = t.log_text()
    assert "mode = observe: everything runs on the primary" in log
    last = [line for line in log.splitlines() if "observed 4 reads" in line]
    assert len(last) == 1 and "4 (100.0 %) would have been stale, 0 are undecided" in last[0], log
