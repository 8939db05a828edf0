# SPDX-License-Identifier: PostgreSQL
"""The guarantee, checked: tidemark-workload keeps the history of every session and judges each read.

A run counts only if it was discriminating: enough reads for which some eligible replica was behind the session's
mark, so that a careless router would have erred. And the checker itself is checked: routers, each with one well
known mistake, must be caught.
"""

import collections
import json
import os
import subprocess
import time

import pytest

import harness
import rawpg
from harness import rows, value
from test_routing import end_on_page_boundary, paused

DISCRIMINATING = 50
HANG_LIMIT = 90


@pytest.fixture(autouse=True)
def need_workload():
    if not os.access(harness.WORKLOAD, os.X_OK):
        pytest.fail(f"{harness.WORKLOAD} is not built")


class Run:
    """Runs of the workload, as their JSON says, summed up, with what the router counted meanwhile."""

    def __init__(self, t, *args, seconds=1.5, clients=16, setup=True, think=0, meanwhile=None):
        self.result = collections.Counter()
        self.again = lambda: self._run(t, args, seconds, clients, setup, think, meanwhile)
        self.before = t.routing()
        self.again()

    def _run(self, t, args, seconds, clients, setup, think, meanwhile):
        argv = [harness.WORKLOAD, "--write-dsn",
                f"host={harness.HOST} port={t.port} user=app dbname=app", "--clients", str(clients), "--seconds",
                str(seconds), "--json", *(["--setup"] if setup else []), *(["--think-ms", str(think)] if think else []),
                *args]
        self.command = " ".join(argv[1:])
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            if meanwhile:
                meanwhile(process)
            out, self.said = process.communicate(timeout=seconds + 40)
        finally:
            if process.poll() is None:
                process.kill()
        assert process.returncode in (0, 1), f"the workload did not run: {self.said}{out}"
        self.result.update({k: n for k, n in json.loads(out).items() if not k.endswith("_us")})
        after = t.routing()
        self.counted = {k: after[k] - self.before.get(k, 0) for k in after}

    def __getattr__(self, name):
        return self.result[name]

    @property
    def violations(self):
        return self.stale + self.backward

    @property
    def replica_share(self):
        return self.counted["reads_replica"] / max(1, self.counted["reads_total"])

    def __str__(self):
        counted = {k: v for k, v in self.counted.items() if v}
        return f"{dict(self.result)}\n{self.command}\nrouter: {counted}\n{self.said}"

    def check(self, reads=200, discriminating=DISCRIMINATING, errors=0, enough=lambda r: True):
        """A busy machine gets through less: then it runs again, up to three times more."""
        def conclusive():
            return self.reads >= reads and self.counted["discriminating"] >= discriminating and enough(self)

        for _ in range(3):
            if conclusive():
                break
            self.again()
        assert self.violations == 0, f"the guarantee is broken: {self}"
        assert self.errors <= errors, f"statements failed: {self}"
        assert conclusive(), f"inconclusive: {self}"
        return self


def delays(fleet, first, second):
    fleet.set_delay(1, first)
    fleet.set_delay(2, second)


# ---- what must never fail ----

@pytest.mark.parametrize("first,second", [(0, 0), (0, 50), (50, 200), (0, 200)])
def test_one_connection_a_session_at_any_delay(router, fleet, first, second):
    t = router(scope="connection")
    delays(fleet, first, second)
    Run(t, "--session", "own", "--reads-per-write", "4").check()


@pytest.mark.parametrize("protocol", ["--simple", "--extended", "--prepared"])
def test_reads_on_a_second_connection_under_the_default_scope(router, fleet, protocol):
    t = router()
    delays(fleet, 0, 200)
    Run(t, "--session", "shared", "--second-connection", protocol, "--reads-per-write", "4").check()


def test_named_sessions_over_two_connections(router, fleet):
    t = router(scope="connection")
    delays(fleet, 0, 50)
    Run(t, "--session", "named", "--second-connection", "--reads-per-write", "4", "--extended").check()


@pytest.mark.parametrize("args", [
    ["--async-commit"],
    ["--async-commit", "--explicit-tx", "--extended"],
    ["--two-phase"],
    ["--two-phase", "--async-commit"],
    ["--write-function", "tm_write", "--prepared"],
    ["--explicit-tx", "--prepared"],
    ["--set-version"],
], ids=lambda a: " ".join(a))
def test_every_way_to_commit(router, fleet, args):
    t = router(scope="connection")
    delays(fleet, 0, 50)
    Run(t, "--session", "own", "--reads-per-write", "3", *args).check()


@pytest.mark.parametrize("args", [
    ["--session", "own", "--read-tx", "BEGIN READ ONLY"],
    ["--session", "own", "--read-tx", "BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ", "--extended"],
    ["--session", "shared", "--second-connection", "--read-tx", "BEGIN READ ONLY", "--prepared"],
    ["--session", "own", "--read-tx", "BEGIN READ ONLY", "--read-write-tx"],
], ids=lambda a: " ".join(a))
def test_reads_in_read_only_transactions(router, fleet, args):
    t = router(**({"scope": "connection"} if "own" in args else {}))
    delays(fleet, 0, 50)
    Run(t, "--reads-per-write", "3", *args).check(enough=lambda r: r.counted["reads_replica"] >= 50)


@pytest.mark.parametrize("args", [
    ["--session", "own", "--orm-tx", "--read-own", "--extended"],
    ["--session", "own", "--orm-tx", "--prepared", "--async-commit", "--think-ms", "600"],
    ["--session", "shared", "--second-connection", "--orm-tx", "--read-tx", "BEGIN"],
    ["--session", "named", "--second-connection", "--orm-tx", "--read-tx", "BEGIN", "--prepared"],
], ids=lambda a: " ".join(a))
def test_split_transactions(router, fleet, args):
    """BEGIN; SELECT; UPDATE; SELECT; COMMIT, and BEGIN; SELECT …; COMMIT."""
    t = router(split_transactions="read_committed", **({} if "shared" in args else {"scope": "connection"}))
    delays(fleet, 0, 100)
    r = Run(t, "--reads-per-write", "3", *args, seconds=3)
    r.check(enough=lambda r: r.counted["transactions_moved"] >= 50)
    print(f"{r.violations} stale reads of {r.reads}, {r.counted['reads_replica'] / r.reads:.0%} of them on replicas, "
          f"{r.counted['transactions_moved']} transactions moved: {' '.join(args)}")
    assert r.counted["transactions_moved"] >= r.writes // 2, str(r)
    assert r.counted["reads_replica"] >= r.reads // 5, str(r)


def test_server_default_of_asynchronous_commit(router, fleet):
    fleet.set_primary("synchronous_commit", "off")
    try:
        t = router()
        Run(t, "--session", "shared", "--second-connection", "--reads-per-write", "3").check()
    finally:
        fleet.set_primary("synchronous_commit", None)


def test_foreign_keys_read_with_one_replica_behind(router, fleet):
    """Everybody reads everybody's rows: monotonic reads over two replicas that are never equally far."""
    t = router(scope="connection")
    delays(fleet, 0, 200)
    Run(t, "--session", "own", "--read-any", "--reads-per-write", "20", clients=8).check()


def test_replay_pauses_in_the_middle(router, fleet):
    t = router()
    delays(fleet, 0, 20)

    def pauses(process):
        time.sleep(1.0)
        fleet.pause_replay(1)
        time.sleep(0.7)
        fleet.pause_replay(2)
        time.sleep(0.7)
        fleet.resume_replay(1)
        time.sleep(0.7)
        fleet.resume_replay(2)

    Run(t, "--session", "shared", "--second-connection", "--reads-per-write", "4", seconds=3.5, meanwhile=pauses).check()


def test_a_replica_restarts_in_the_middle(router, fleet):
    t = router(scope="connection", answer_timeout="500ms")
    delays(fleet, 0, 50)

    def restarts(process):
        time.sleep(1.0)
        fleet.restart(1, "immediate")
        time.sleep(0.8)
        fleet.restart(2, "immediate")

    # A read that was under way on the server that died may fail; it may not lie.
    Run(t, "--session", "own", "--read-any", "--reads-per-write", "6", seconds=5, meanwhile=restarts).check(errors=64)


def test_pinning_keeps_its_word_while_the_window_is_longer_than_the_lag(router, fleet):
    t = router(strategy="pin_fixed", pin_window="1s", scope="connection")
    delays(fleet, 50, 50)
    # Pins know nothing of positions, so nothing is discriminating in their eyes.
    run = Run(t, "--session", "own", "--read-own", "--reads-per-write", "3").check(discriminating=0)
    assert run.counted["reason_pinned"] > 100, run


def test_commits_at_page_boundaries_are_read_back(router, fleet):
    """With asynchronous commit the end of such a commit is where the write pointer has not been yet."""
    # Asynchronous commits are flushed, and sent, within 0.4 s; a page header that nobody writes would take longer.
    t = router(wait_timeout="1s")
    delays(fleet, 30, 0)
    writer, reader = t.connect(), t.connect()
    rows(writer, "SET synchronous_commit = off")
    probe = fleet.primary.connect()
    hits, version = 0, int(value(probe, "SELECT n FROM items WHERE id = 95"))
    end = time.monotonic() + 8
    before = t.routing()
    while hits < 8 and time.monotonic() < end:
        version += 1
        rows(writer, f"UPDATE items SET n = {version} WHERE id = 95")
        hits += end_on_page_boundary(writer, probe)
        for c in (reader, writer):
            assert value(c, "SELECT n FROM items WHERE id = 95") == version
    assert hits >= 3, f"inconclusive: only {hits} commits ended on a page boundary"
    after = t.routing()
    assert after["wait_timeouts"] - before["wait_timeouts"] <= 1, "reads waited in vain for a page header"


def test_share_of_reads_on_replicas(router, fleet):
    """The guarantee is cheap to give on the primary alone; this one may not be bought that way."""
    t = router(scope="connection")

    def best(**check):
        """Of three: on a busy machine replicas are late, and reads time out."""
        runs = []
        while not runs or (runs[-1].replica_share < 0.9 and len(runs) < 3):
            runs.append(Run(t, "--session", "own", "--reads-per-write", "4", seconds=2).check(**check))
        return max(runs, key=lambda r: r.replica_share)

    run = best(discriminating=0)
    assert run.replica_share >= 0.90, f"only {run.replica_share:.0%} of the reads were served by replicas: {run}"
    delays(fleet, 0, 200)
    run = best()
    assert run.replica_share >= 0.85, f"only {run.replica_share:.0%} with one replica 200 ms behind: {run}"


def test_an_idle_transaction_does_not_stop_reads(router, fleet):
    """An open writer whose records are not flushed may hold a wait open; it ends at wait_timeout."""
    t = router()
    holder = t.connect()
    rows(holder, "BEGIN; UPDATE items SET n = n + 1 WHERE id = 96")
    c = t.connect()
    for i in range(20):
        rows(c, f"UPDATE items SET n = {i} WHERE id = 97")
        started = time.monotonic()
        assert value(c, "SELECT n FROM items WHERE id = 97") == i
        assert time.monotonic() - started < 0.5
    rows(holder, "ROLLBACK")


# ---- what must be caught ----

# fault: (router's options, delays of the replicas, workload). What each gets wrong, and where it shows:
FAULTS = {
    # The position is asked inside the writing transaction, so it precedes the commit record; a delayed standby
    # holds exactly the commit records back. Only a batch of the extended protocol has room for that mistake.
    "position_inside": (dict(scope="connection", wait_timeout="500ms"), (30, 30),
                        ["--session", "own", "--reads-per-write", "2", "--extended"]),
    # The write pointer lags behind what asynchronous committers have already been told.
    "write_pointer": (dict(scope="connection", wait_timeout="500ms"), (0, 0),
                      ["--session", "own", "--async-commit", "--reads-per-write", "2"]),
    # Two replicas, one behind: what was seen on the first is unseen on the second. Its own writes must be rare, or
    # they alone keep a session off the one behind, and its position must be known soon, or nobody reads there.
    "no_read_marks": (dict(scope="connection", poll_idle_interval="5ms"), (0, 150),
                      ["--session", "own", "--read-any", "--reads-per-write", "150"]),
    # The replica passes between the snapshot and the check.
    "guard_after": (dict(scope="connection", wait_timeout="500ms"), (0, 0),
                    ["--session", "own", "--reads-per-write", "1"]),
    # The replica is expected there, is asked, says that it is not, and its answer is taken all the same.
    "guard_ignored": (dict(scope="connection", wait_timeout="500ms"), (0, 0),
                      ["--session", "own", "--reads-per-write", "1"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_router_with_a_known_fault_is_caught(router, fleet, fault):
    options, (first, second), args = FAULTS[fault]
    t = router(fault=fault, **options)
    delays(fleet, first, second)
    runs = []
    for seconds, clients in ((2, 32), (4, 48), (6, 64)):
        runs.append(Run(t, *args, seconds=seconds, clients=clients))
        if runs[-1].violations > 0:
            return
    pytest.fail(f"the checker did not see the fault {fault}, so its silence elsewhere means nothing:\n"
                + "\n".join(map(str, runs)))


def test_the_same_program_without_a_fault_is_clean(router, fleet):
    """What is caught above is the fault, not the test build."""
    t = router(scope="connection", program=harness.FAULTY_PROGRAM)
    delays(fleet, 0, 30)
    Run(t, "--session", "own", "--read-any", "--reads-per-write", "4", clients=32).check()


def test_naive_splitting_is_caught(fleet):
    """The checker against no router at all: writes on the primary, reads on the standbys."""
    delays(fleet, 0, 100)
    dsns = [f"host={harness.HOST} port={s.port} user=app dbname=app" for s in fleet.servers]
    r = subprocess.run([harness.WORKLOAD, "--setup", "--write-dsn", dsns[0], "--read-dsn", dsns[1], "--read-dsn",
                        dsns[2], "--clients", "8", "--seconds", "2", "--json", "--session", "own"],
                       capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stderr
    result = json.loads(r.stdout)
    assert result["stale"] > 0 and result["errors"] == 0, result


# ---- guarded reads ----

def written_and_read(c, times, read="SELECT n FROM items WHERE id = 3"):
    """Each read right behind its write; what was read must be what was written."""
    for _ in range(times):
        n = harness.value(c, "UPDATE items SET n = n + 1 WHERE id = 3 RETURNING n")
        assert harness.value(c, read) == n


def test_a_read_behind_a_write_is_guarded(router, fleet):
    t = router()
    c = t.connect()
    written_and_read(c, 300)
    counts = t.routing()
    assert counts["reason_replica_caught_up"] > 0, counts
    assert counts["guards"] == counts["guards_missed"] + counts["reason_replica_caught_up"]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_a_guard_that_does_not_hold_costs_the_read_nothing_but_time(router, fleet, isolation):
    """The replicas are expected to be there, and are not: the first answer is thrown away."""
    t = router(wait_timeout="2s")
    c = t.connect(options=f"-c default_transaction_isolation={isolation.replace(' ', chr(92) + ' ')}")
    written_and_read(c, 20)
    delays(fleet, 40, 40)
    written_and_read(c, 5)
    delays(fleet, 0, 0)
    written_and_read(c, 50)
    counts = t.routing()
    assert counts["guards_missed"] > 0, counts
    assert counts["reads_total"] == counts["reads_replica"] + counts["reads_primary"]


def test_guarded_reads_of_the_extended_protocol(router, raw, fleet):
    """Named and unnamed statements, prepared in the very batch whose answer may be thrown away."""
    t = router(wait_timeout="2s")
    w = t.connect()
    delays(fleet, 5, 5)
    c = raw(t)
    for i in range(40):
        n = harness.value(w, "UPDATE items SET n = n + 1 WHERE id = 3 RETURNING n")
        name = f"s{i % 7}" if i % 2 else ""
        read = "SELECT n FROM items WHERE id = 3 -- " + str(i % 5)
        c.send(rawpg.close("S", name) + rawpg.sync())
        c.until_ready()
        c.send(rawpg.parse(name, read) + rawpg.bind("", name) + rawpg.execute("") + rawpg.sync())
        got = c.until_ready()
        assert "".join(rawpg.kinds(got)) == "12DCZ", got
        assert got[2].columns() == [str(n).encode()], got
    assert t.routing()["guards"] > 0
