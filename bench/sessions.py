# SPDX-License-Identifier: PostgreSQL
"""What sharing named sessions in Redis costs: the same statements through a router that keeps marks in memory and one
that keeps them in Redis, and how often Redis is asked. And what a token costs."""

import os
import re
import shutil
import signal
import socket
import statistics
import subprocess

import measure
from fleet import BenchError, HOST, psql, wait_until
from peers import Tidemark

NAMED = " /*tidemark_session='s:client_id'*/"
WRITE = "\\set id random(1, 10000)\nUPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :id{tag};\n"
READ = "\\set id random(1, 10000)\nSELECT abalance FROM pgbench_accounts WHERE aid = :id{tag};\n"
CASES = [("write, named", WRITE, NAMED), ("write, no name", WRITE, ""), ("read, named", READ, NAMED),
         ("read, no name", READ, "")]
CLIENTS = 4


class TidemarkMemory(Tidemark):
    name, options = "sessions-memory", ("--scope", "connection")


class TidemarkRedis(Tidemark):
    name = "sessions-redis"
    redis_port = None

    @property
    def options(self):
        # Short, so that a fresh Redis is believed soon; patient, because everything shares the machine.
        return ("--scope", "connection", "--session-store", "redis", "--redis", f"{HOST}:{self.redis_port}",
                "--session-ttl", "2s", "--redis-command-timeout", "500ms", "--redis-lease", "2s")

    def store(self):
        return {row[0]: row[1] for row in psql(self.port, "SHOW STORE", "tidemark")}


def _redis(stage):
    if not shutil.which("redis-server"):
        raise BenchError("redis-server is not installed (apt-get install redis-server)")
    port = stage.free_port()
    process = stage.start("redis", ["redis-server", "--port", str(port), "--bind", HOST, "--save", "", "--dir", stage.dir],
                          signal.SIGTERM)

    def answers():
        try:
            with socket.create_connection((HOST, port), 1) as s:
                s.sendall(b"PING\r\n")
                return s.recv(5) == b"+PONG"
        except OSError:
            return False

    wait_until(answers, 10, "Redis to answer")
    return process, port


def _workload(stage, name, script, tag):
    path = stage.write(re.sub(r"\W+", "-", name) + ".sql", script.format(tag=tag))
    return measure.Workload(name, name, CLIENTS, ["-M", "simple", "-f", path])


def _believed(router):
    def on_replica():
        before = router.reads_by_target()[0]
        psql(router.port, "SELECT 1 FROM pgbench_branches LIMIT 1 /*tidemark_session='probe'*/")
        return router.reads_by_target()[0] > before

    wait_until(on_replica, 15, "the store's marks to be believed")


def shared(stage, fleet, build, rounds, seconds, say):
    """[{case, memory: [p50 …], redis: [p50 …], cpu_…, asked, stored}]"""
    process, port = _redis(stage)
    TidemarkRedis.redis_port = port
    routers = [TidemarkMemory(stage, fleet, build), TidemarkRedis(stage, fleet, build)]
    results = []
    try:
        for r in routers:
            r.check()
            r.start()
        _believed(routers[1])
        for name, script, tag in CASES:
            workload = _workload(stage, name, script, tag)
            row = {"case": name, "memory": [], "redis": [], "memory_cpu": [], "redis_cpu": []}
            asked = stored = transactions = 0
            for number in range(rounds):
                for r in routers if number % 2 == 0 else routers[::-1]:
                    say(f"sessions: {name}: {r.name}, round {number + 1} of {rounds}", progress=True)
                    kind = "redis" if r is routers[1] else "memory"
                    before = r.store() if kind == "redis" else None
                    got = measure.run_timed(stage, r, workload, seconds)
                    row[kind].append(got["p50_us"])
                    row[kind + "_cpu"].append(got["cpu_us"])
                    if before:
                        after = r.store()
                        asked += int(after["reads"]) - int(before["reads"])
                        stored += int(after["writes"]) - int(before["writes"])
                        transactions += got["transactions"]
            row["asked"], row["stored"] = asked / transactions, stored / transactions
            row["rtt_us"] = int(routers[1].store()["last_rtt_us"])
            results.append(row)
    finally:
        for r in routers:
            r.stop()
        stage.stop(process)
    return results


def token(build):
    """{case: ns}, or {} if the program is not built."""
    program = os.path.join(build, "bench", "bench-token")
    if not os.access(program, os.X_OK):
        return {}
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=True)
    found = (re.match(r"(.*\S)\s+([\d.]+) ns", line) for line in done.stdout.splitlines())
    return {m[1]: float(m[2]) for m in found if m}


def median(values):
    return statistics.median(values) if values else None
