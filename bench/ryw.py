# SPDX-License-Identifier: PostgreSQL
"""The read-your-writes workload: who serves stale reads, and what it costs not to.

Every client raises the version of a row, then reads it; tidemark-workload checks every read.
"""

import concurrent.futures
import json
import os
import subprocess

from fleet import BenchError
from peers import PgPoolAlways, Tidemark, TidemarkConnection, TidemarkEventual, TidemarkStrong, Unavailable

PACES = {"flat out": (16, 0), "paced": (64, 50)}  # clients, think time in ms
CONNECTIONS = ("same", "second")  # where the reads go


class Router:
    """A way to send writes and reads; `session(connection)` is what the checker takes as one session."""

    peer = None

    def __init__(self, name, title, peer_class=None, sessions=None):
        self.name = name
        self.title = title
        self.peer_class = peer_class
        self.sessions = sessions or {"same": "own", "second": "own"}

    def arguments(self, fleet, connection):
        if self.name == "naive":
            argv = ["--write-dsn", fleet.primary.conninfo()]
            for s in fleet.standbys:
                argv += ["--read-dsn", s.conninfo()]
            return argv
        port_dsn = self.peer.conninfo() if self.peer else fleet.primary.conninfo()
        return ["--write-dsn", port_dsn] + (["--second-connection"] if connection == "second" else [])

    def reads_elsewhere(self):
        """Naive splitting always reads on other connections, straight from the replicas."""
        return self.name == "naive"


def routers():
    return [
        Router("naive", "naive splitting"),
        Router("primary", "all on the primary, direct"),
        Router("pgpool", "pgpool-II, `always`", PgPoolAlways),
        # All clients are one session here: each read is checked against everybody's writes.
        Router("tidemark", "Tidemark, scope = database", Tidemark, {"same": "shared", "second": "shared"}),
        # A second connection belongs to the session only where the clients name it.
        Router("tidemark-connection", "Tidemark, scope = connection", TidemarkConnection,
               {"same": "own", "second": "named"}),
        Router("tidemark-strong", "Tidemark, all on the primary", TidemarkStrong),
        # Reads on the same replicas and no guarantee: what of the cost is not the guarantee's.
        Router("tidemark-eventual", "Tidemark, level eventual", TidemarkEventual),
    ]


FULL = [(delays, pace, connection) for delays in ((0, 0), (50, 50), (200, 200), (0, 200))
        for pace in PACES for connection in CONNECTIONS]
QUICK = [((0, 0), "flat out", "same"), ((0, 0), "flat out", "second"), ((50, 50), "paced", "same"),
         ((50, 50), "paced", "second"), ((0, 200), "flat out", "same"), ((0, 200), "flat out", "second")]
SMOKE = [((50, 50), "flat out", "second")]


def _run(program, argv, seconds):
    done = subprocess.run([program, *argv, "--json"], capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode not in (0, 1):
        raise BenchError(f"tidemark-workload: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
    return json.loads(done.stdout), done.stderr.strip()


def _setup(program, fleet):
    argv = [program, "--setup", "--seconds", "0", "--clients", "64", "--write-dsn", fleet.primary.conninfo()]
    for s in fleet.standbys:
        argv += ["--read-dsn", s.conninfo()]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise BenchError(f"tidemark-workload --setup: {done.stderr.strip()}")


def _one(program, fleet, router, cell, seconds):
    delays, pace, connection = cell
    clients, think_ms = PACES.get(pace, pace)
    argv = router.arguments(fleet, connection)
    argv += ["--clients", str(clients), "--think-ms", str(think_ms), "--seconds", str(seconds),
             "--session", router.sessions[connection]]
    counts = hasattr(router.peer, "reads_by_target")
    before = router.peer.reads_by_target() if counts else None
    result, complaint = _run(program, argv, seconds)
    result.update(router=router.name, title=router.title, delays_ms=list(delays), pace=pace,
                  connection=connection, session=router.sessions[connection], complaint=complaint)
    if counts:
        replica, primary = (b - a for a, b in zip(before, router.peer.reads_by_target()))
        result["replica_share"] = replica / (replica + primary) if replica + primary else None
    elif router.name == "naive":
        result["replica_share"] = 1.0
    elif router.name == "primary":
        result["replica_share"] = 0.0
    return result


def _start(router, stage, fleet, build):
    if router.peer_class:
        router.peer = router.peer_class(stage, fleet, build)
        router.peer.check()
        router.peer.start()


# ---- what the guarantee costs a write ------------------------------------------------------------

WRITE_ROUTERS = ("primary", "tidemark", "tidemark-connection", "tidemark-strong", "tidemark-eventual")
WRITE_PACE = (3, 40)  # clients of each router, think time in ms: all together leave most of two cores idle
WARM_UP_S = 1  # a router's first run pays for its connections


def _write_latency(program, fleet, routers, rounds, seconds, say):
    """[{router: write p50 in µs}], a row for each round. All routers run at once, each with clients of its own: what
    the machine does meanwhile, and what the replicas take from the primary's cores, it does to each of them alike."""
    routers = [r for r in routers if r.name in WRITE_ROUTERS]

    def p50(router, seconds):
        try:
            result = _one(program, fleet, router, ((0, 0), WRITE_PACE, "same"), seconds)
        except BenchError as e:
            say(f"!! writes through {router.name}: {e}")
            return None
        return None if result["errors"] else result["write_p50_us"]

    def one_round(number, seconds):
        say(f"writes, round {number} of {rounds}", progress=True)
        with concurrent.futures.ThreadPoolExecutor(len(routers)) as pool:
            found = {r.name: pool.submit(p50, r, seconds) for r in routers}
        return {name: run.result() for name, run in found.items() if run.result()}

    one_round(0, WARM_UP_S)
    return [one_round(n + 1, seconds) for n in range(rounds)]


def measure(stage, fleet, build, cells, seconds, write_rounds, wanted, say):
    """Results, one for each cell and router, and the rows of _write_latency(). `wanted(name)`: whether to run a peer."""
    program = os.path.join(build, "demo", "tidemark-workload")
    if not os.access(program, os.X_OK):
        say(f"!! read-your-writes is skipped: {program} is not built (run make)")
        return [], []
    started, results, writes = [], [], []
    try:
        for router in routers():
            if router.peer_class and not wanted(router.name.split("-")[0]):
                continue
            try:
                _start(router, stage, fleet, build)
                started.append(router)
            except (Unavailable, BenchError) as e:
                say(f"!! read-your-writes without {router.title}: {e}")
        fleet.set_delays((0, 0))
        _setup(program, fleet)
        delays = (0, 0)
        for cell in cells:
            if cell[0] != delays:
                delays = cell[0]
                fleet.set_delays(delays)
            for router in started:
                if router.reads_elsewhere() and cell[2] == "same":
                    continue
                if router.name == "tidemark-strong" and cell[2] != "same" or router.name == "tidemark-eventual":
                    continue
                say(f"read-your-writes: {delays[0]}/{delays[1]} ms, {cell[1]}, {cell[2]} connection: "
                    f"{router.title}", progress=True)
                try:
                    results.append(_one(program, fleet, router, cell, seconds))
                    if results[-1]["complaint"]:
                        say(f"!! {router.title}: {results[-1]['complaint']}")
                except BenchError as e:
                    say(f"!! {router.title}: {e}")
        fleet.set_delays((0, 0))
        if write_rounds:
            writes = _write_latency(program, fleet, started, write_rounds, seconds, say)
    finally:
        for router in started:
            if router.peer:
                router.peer.stop()
        fleet.set_delays((0, 0))
    return results, writes
