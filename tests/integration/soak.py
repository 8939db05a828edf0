# SPDX-License-Identifier: PostgreSQL
"""A long mixed load on one router, with reloads and failing servers: does it stay as small as it was?

    soak.py --minutes 30 [--seed N]          the program is TIDEMARK_PROGRAM's (make soak: one with sanitizers)

Jobs      three checked workloads (a session per connection, named, shared), blocks, COPY, prepared statements,
          session state, cancel requests, clients that come and go or hang up amid an answer, console and HTTP.
Troubles  every few seconds: a reload, a server restarted or stopped for a while, replay paused, backends
          terminated, all of one order by the seed. No acknowledged write is lost by any of them.
Verdict   no read stale or backward, no answer wrong, the router alive, nothing in its log that is a fault of
          its own (sanitizers included), resident memory and descriptors flat between an early and a late part
          of the run, and as many descriptors when all clients have gone as before the first came.
"""

import argparse
import io
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback

import psycopg2

sys.path.insert(0, os.path.dirname(__file__))

import harness  # noqa: E402
import rawpg  # noqa: E402
from harness import rows, value, wait_until  # noqa: E402

CONFIG = """
[tidemark]
listen_addr = 127.0.0.1
listen_port = {port}
http_listen = 127.0.0.1:{http}
admin_users = postgres
scope = connection
wait_timeout = {wait}ms
default_pool_size = {pool}
server_idle_timeout = 2s
server_lifetime = 5s
server_login_retry = 500ms
failover_timeout = 20s
session_ttl = 5s
max_prepared_statements = 20
shutdown_timeout = 3s

[nodes]
{nodes}

[databases]
app =
shared = dbname=app scope=database
"""

# Memory that was freed goes back soon, or it would seem to grow.
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=4:thread_local_quarantine_size_kb=64",
              "UBSAN_OPTIONS": "print_stacktrace=1",
              "TSAN_OPTIONS": "exitcode=66:history_size=4"}

SAMPLE_S = 0.5
QUIET_S = 4       # more than server_idle_timeout: pools have shrunk
WARM_UP = 0.25    # of the run
GROWTH_KB = 8192  # and a twentieth of what it was
GROWTH_FDS = 20    # reloads change the size of six pools by as much
NAMES = 500
PATIENCE_S = 60

# How many at once.
JOBS = {"blocks": 2, "copies": 1, "prepared": 1, "state": 2, "cancels": 1, "churn": 2, "admin": 1}

# Each in its own words of what is a failure; psycopg2's errors are the servers' troubles.
TROUBLE = (psycopg2.Error, OSError, rawpg.Closed, rawpg.ServerError)


def middle(values):
    return sorted(values)[len(values) // 2]


def growth(values):
    """By how much the median of the last quarter exceeds that of the quarter behind the warm-up."""
    n = len(values)
    early, late = values[int(n * WARM_UP):int(n * (WARM_UP + 0.25))], values[int(n * 0.75):]
    return middle(late) - middle(early)


def complaints(memory_kb, descriptors):
    """What is wrong with these samples."""
    found = []
    allowed = GROWTH_KB + middle(memory_kb) // 20
    if growth(memory_kb) > allowed:
        found.append(f"memory grew by {growth(memory_kb)} kB, more than {allowed}")
    if growth(descriptors) > GROWTH_FDS:
        found.append(f"descriptors grew by {growth(descriptors)}, more than {GROWTH_FDS}")
    return found


class Soak:
    def __init__(self, seconds, seed=1, program=None, say=lambda text: None):
        self.seconds, self.seed, self.say = seconds, seed, say
        self.dice = random.Random(seed)
        self.counts, self.failures, self.jobs = {}, [], []
        self.lock = threading.Lock()
        self.stop, self.over = threading.Event(), threading.Event()
        self.memory, self.descriptors = [], []
        self.fleet = harness.Fleet(standbys=2)
        self.fleet.primary.sql("CREATE TABLE copied (batch bigint, n int); CREATE TABLE soaked (id int PRIMARY KEY, n int);"
                               "INSERT INTO soaked SELECT g, 0 FROM generate_series(1, 64) g;"
                               "GRANT ALL ON copied, soaked TO app")
        self.fleet.sync()
        self.http_port = harness.free_port()
        self._start(program)

    # ---- the router ----

    def _config(self, wait, pool):
        # By name: names are resolved on libuv's threads.
        nodes = "\n".join(f"{s.name} = {s.conninfo().replace(harness.HOST, 'localhost')}" for s in self.fleet.servers)
        return (CONFIG.replace("{wait}", str(wait)).replace("{pool}", str(pool)).replace("{nodes}", nodes)
                .replace("{http}", str(self.http_port)))

    def _start(self, program):
        for name, options in SANITIZERS.items():
            os.environ[name] = ":".join(filter(None, (os.environ.get(name), options)))
        self.t = harness.Tidemark(self.fleet, config=self._config(100, 8), program=program)
        self.t.http_port = self.http_port
        self.pid = self.t.process.pid

    def reload(self):
        self.t.write("tidemark.ini", self._config(self.dice.choice((0, 20, 100)), self.dice.choice((4, 8, 12))))
        self.t.reload()

    def descriptor_count(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        with open(f"/proc/{self.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("Threads"))

    # ---- what is counted ----

    def count(self, what, n=1):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + n

    def fail(self, why):
        with self.lock:
            self.failures.append(why)
        self.say(f"FAILED: {why}")
        self.stop.set()

    # ---- jobs ----

    def _job(self, name, work, number):
        """Lets `work` have a connection after the other until the end."""
        dice = random.Random(f"{self.seed}/{name}/{number}")
        while not self.stop.is_set():
            try:
                work(dice)
                self.count(name)
            except TROUBLE as e:
                self.count(f"{name}: errors")
                if isinstance(e, psycopg2.ProgrammingError):
                    self.fail(f"{name}: {e!r}")
                time.sleep(0.05)
            except Exception as e:
                self.fail(f"{name}: {e!r}")
            self.stop.wait(dice.uniform(0, 0.05))

    def _spawn(self, name, work, copies=1):
        for number in range(copies):
            thread = threading.Thread(target=self._job, args=(name, work, number), name=f"{name} {number}", daemon=True)
            thread.start()
            self.jobs.append(thread)

    def _connect(self, dice, **kw):
        options = f"-c tidemark.session=soak-{dice.randrange(NAMES)}" if dice.random() < 0.5 else None
        return self.t.connect(dbname=dice.choice(("app", "shared")), options=options, **kw)

    def blocks(self, dice):
        c = self._connect(dice)
        try:
            for _ in range(5):
                key = dice.randrange(64) + 1
                rows(c, "BEGIN")
                n = value(c, "UPDATE soaked SET n = n + 1 WHERE id = %s RETURNING n", key)
                if dice.random() < 0.3:
                    rows(c, "SAVEPOINT s; UPDATE soaked SET n = 0 WHERE id = %s", key)
                    rows(c, "ROLLBACK TO s")
                keep = dice.random() < 0.7
                assert value(c, "SELECT n FROM soaked WHERE id = %s", key) == n, "a block does not see its own write"
                rows(c, "COMMIT" if keep else "ROLLBACK")
                if keep:
                    got = value(c, "SELECT n FROM soaked WHERE id = %s", key)
                    assert got >= n, f"stale: {got} after {n}"
        finally:
            c.close()

    def copies(self, dice):
        c = self._connect(dice)
        try:
            batch, n = dice.getrandbits(60), dice.choice((0, 1, 100, 5000))
            text = "".join(f"{batch}\t{i}\n" for i in range(n))
            c.cursor().copy_expert("COPY copied FROM STDIN", io.StringIO(text))
            got = value(c, "SELECT count(*) FROM copied WHERE batch = %s", batch)
            assert got == n, f"{got} rows are read after COPY of {n}"
            out = io.StringIO()
            c.cursor().copy_expert(f"COPY (SELECT n FROM copied WHERE batch = {batch}) TO STDOUT", out)
            assert out.getvalue().count("\n") == n, "COPY TO brings other rows than were written"
            rows(c, "DELETE FROM copied WHERE batch = %s", batch)
        finally:
            c.close()

    def _raw(self, dice):
        return rawpg.Raw(harness.HOST, self.t.port, 40).startup(database=dice.choice(("app", "shared")))

    def prepared(self, dice):
        """More names than a server connection keeps; some closed, some not."""
        c = self._raw(dice)
        try:
            for i in range(25):
                name, key = f"p{i}", dice.randrange(100) + 1
                sql = f"SELECT id + {dice.randrange(40)} - {i % 40} FROM items WHERE id = $1"
                c.send(rawpg.parse(name, sql), rawpg.bind("", name, [str(key)]), rawpg.describe("P"), rawpg.execute(),
                       rawpg.sync())
                got = c.until_ready()
                if rawpg.errors(got):
                    raise rawpg.ServerError(next(m for m in got if m.kind == "E").fields())
                assert rawpg.kinds(got) == "12TDCZ", got
                if dice.random() < 0.5:
                    c.send(rawpg.close("S", name), rawpg.sync()).until_ready()
        finally:
            c.close()

    def state(self, dice):
        c = self._connect(dice)
        try:
            size = f"{dice.randrange(65, 4096, 2)}kB"  # 2048kB would be shown as 2MB
            rows(c, f"SET work_mem = '{size}'")
            for _ in range(3):
                rows(c, "UPDATE soaked SET n = n + 1 WHERE id = %s", dice.randrange(64) + 1)
                assert value(c, "SHOW work_mem") == size, "somebody else's setting"
            what = dice.randrange(3)
            if what == 0:
                rows(c, "CREATE TEMP TABLE mine (n int); INSERT INTO mine VALUES (1)")
                assert value(c, "SELECT count(*) FROM mine") == 1
            elif what == 1:
                rows(c, "LISTEN soak")
                rows(c, "NOTIFY soak")
                assert c.notifies or rows(c, "SELECT 1") and c.notifies, "no notification"
            else:
                rows(c, "PREPARE q AS SELECT 7")
                assert value(c, "EXECUTE q") == 7
                rows(c, "DISCARD ALL")
        finally:
            c.close()

    def cancels(self, dice):
        """Again and again: a server that has not begun with the statement yet does not hear it."""
        c, heard = self._connect(dice), threading.Event()

        def ask():
            while not heard.wait(dice.uniform(0.05, 0.3)):
                c.cancel()

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            rows(c, "SELECT pg_sleep(20)")
            raise AssertionError("no cancel request was heard")
        except psycopg2.errors.QueryCanceled:
            pass
        finally:
            heard.set()
            asking.join()
            c.close()

    def churn(self, dice):
        """Comes, asks, and goes: in order, by reset, amid a long answer, amid a message."""
        c = self._raw(dice)
        how = dice.randrange(4)
        if how == 0:
            assert c.query_rows("SELECT 42") == [["42"]]
            c.send(rawpg.terminate())
        elif how == 1:
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == 2:
            c.send(rawpg.query("SELECT pad FROM big, generate_series(1, 3)"))
            c.take(dice.randrange(1, 100_000))
        else:
            c.send(rawpg.query("SELECT '" + "x" * 50_000 + "'")[:dice.randrange(1, 50_000)])
        c.close()

    def admin(self, dice):
        for what in ("FLEET", "ROUTING", "POOLS", "CLIENTS", "SERVERS"):
            self.t.show(what)
        status, text = self.t.http("/metrics")
        assert status == 200 and "tidemark_" in text
        self.stop.wait(0.5)

    # ---- checked workloads, as programs of their own ----

    def _workload(self, seconds, dbname, session, *args):
        dsn = f"host={harness.HOST} port={self.t.port} user=app dbname={dbname} connect_timeout=30"
        argv = [harness.WORKLOAD, "--write-dsn", dsn, "--session", session, "--seconds", str(seconds), "--think-ms", "60",
                "--reads-per-write", "4", "--seed", str(self.seed), "--json", *args]
        return subprocess.Popen(harness.tied(argv, signal.SIGKILL), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _judge_workload(self, name, process):
        if self.failures:
            process.terminate()  # it would go on to its end
        try:
            out, err = process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            process.kill()
            self.failures.append(f"{name}: the workload does not end")
            return
        if process.returncode != 0:
            self.failures.append(f"{name}: {err}")
            return
        got = json.loads(out)
        for key in ("reads", "writes", "errors"):
            self.count(f"{name}: {key}", got[key])
        if got["stale"] + got["backward"] or got["reads"] == 0:
            self.failures.append(f"{name}: {got}")

    # ---- troubles ----

    def _any_server(self):
        return self.dice.choice(self.fleet.servers)

    def restart_server(self):
        self._any_server().restart(self.dice.choice(("fast", "immediate", "kill")))

    def stop_for_a_while(self):
        """Of a replica, every process; of the primary too: a pause."""
        postmaster = self._any_server().process.pid
        harness.signal_all(harness.server_pids(postmaster), signal.SIGSTOP)
        self.stop.wait(self.dice.uniform(0.2, 2.5))
        harness.signal_all(harness.server_pids(postmaster), signal.SIGCONT)

    def pause_replay(self):
        replica = self.dice.choice(self.fleet.standbys)
        replica.sql("SELECT pg_wal_replay_pause()")
        self.stop.wait(self.dice.uniform(0.1, 1.5))
        replica.sql("SELECT pg_wal_replay_resume()")

    def terminate_backends(self):
        self._any_server().sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' AND "
                               "random() < 0.5")

    def _trouble(self):
        kinds = (self.reload, self.reload, self.restart_server, self.stop_for_a_while, self.pause_replay,
                 self.terminate_backends)
        kind = self.dice.choice(kinds)
        self.say(f"trouble: {kind.__name__}")
        self.count(f"trouble: {kind.__name__}")
        kind()

    def _troubles(self, every):
        while not self.stop.wait(self.dice.uniform(0.3, 2 * every)):
            try:
                self._trouble()
            except psycopg2.Error as e:
                self.say(f"a trouble came to nothing: {e}")
            except AssertionError as e:
                self.fail(f"the servers: {e}")
        # The servers that this thread has started end with it.
        self.over.wait()

    # ---- the run ----

    def _sample(self):
        self.memory.append(self.t.resident_kb())
        self.descriptors.append(self.descriptor_count())

    def _watch(self):
        """A busy machine may take longer until each job was done once."""
        end, told = time.monotonic() + self.seconds, 0.0
        while not self.stop.wait(SAMPLE_S):
            now = time.monotonic()
            if now > end and (not self._never_done() or now > end + PATIENCE_S):
                return
            if not self.t.alive():
                self.fail("the router has ended")
                return
            self._sample()
            if time.monotonic() - told >= 30:
                told = time.monotonic()
                self.say(f"{end - told:.0f} s left: {self.memory[-1]} kB, {self.descriptors[-1]} descriptors, "
                         f"{self.threads()} threads")

    def run(self, trouble_every=4.0):
        """The failures; [] if there are none."""
        # Once everything that is made once has been made.
        self.admin(random.Random(0))
        base = self._at_rest()
        setup = self._workload(0, "app", "own", "--setup")
        assert setup.wait(60) == 0, setup.stderr.read()
        workloads = {"own": self._workload(self.seconds, "app", "own", "--clients", "6", "--prepared"),
                     "named": self._workload(self.seconds, "app", "named", "--clients", "6", "--second-connection"),
                     "shared": self._workload(self.seconds, "shared", "shared", "--clients", "4", "--second-connection",
                                              "--explicit-tx", "--extended")}
        for name, copies in JOBS.items():
            self._spawn(name, getattr(self, name), copies)
        troubles = threading.Thread(target=self._troubles, args=(trouble_every,), name="troubles", daemon=True)
        troubles.start()
        self._watch()
        self.stop.set()
        for thread in self.jobs:
            thread.join(60)
            if thread.is_alive():
                self.failures.append(self._left_waiting(thread))
        self.fleet.calm()
        for name, process in workloads.items():
            self._judge_workload(name, process)
        self._verdict(base)
        self.over.set()
        troubles.join(60)
        return self.failures

    def _left_waiting(self, thread):
        """Where it waits, and what the router says of it."""
        frame = sys._current_frames().get(thread.ident)
        lines = [f"{thread.name} was left without an answer for a minute", *traceback.format_stack(frame)]
        try:
            for what in ("CLIENTS", "SERVERS", "POOLS", "FLEET"):
                lines += [what, *map(str, self.t.show(what))]
        except TROUBLE as e:
            lines.append(f"the console does not answer: {e!r}")
        return "\n".join(lines)

    def _at_rest(self):
        """Descriptors when nobody is there and the pools have shrunk."""
        time.sleep(QUIET_S)
        return self.descriptor_count()

    def _never_done(self):
        return [name for name in JOBS if not self.counts.get(name)]

    def _verdict(self, base):
        if not self.t.alive():
            self.failures.append("the router has ended")
            return
        self.failures += complaints(self.memory, self.descriptors)
        left = self._at_rest() - base
        if left > 0:
            self.failures.append(f"{left} descriptors are left open")
        if self._never_done():
            self.failures.append(f"never done: {', '.join(self._never_done())}")

    def table(self):
        lines = [f"{name:32} {n}" for name, n in sorted(self.counts.items())]
        if self.memory:
            lines.append(f"{'resident kB: early, late, most':32} {middle(self.memory[len(self.memory) // 4:])} "
                         f"{growth(self.memory):+} {max(self.memory)}")
            lines.append(f"{'descriptors: middle, growth, most':32} {middle(self.descriptors)} "
                         f"{growth(self.descriptors):+} {max(self.descriptors)}")
        return "\n".join(lines)

    def end(self):
        """Ends the router, which is where LeakSanitizer speaks; raises AssertionError."""
        try:
            self.t.stop(60)
        finally:
            self.fleet.destroy()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--minutes", type=float, default=30)
    p.add_argument("--seed", type=int, default=random.randrange(1, 10000))
    a = p.parse_args()
    print(f"soak: {a.minutes:g} minutes of {harness.PROGRAM}, seed {a.seed}", flush=True)
    s = Soak(a.minutes * 60, a.seed, say=lambda text: print(f"{time.strftime('%H:%M:%S')} {text}", flush=True))
    try:
        failures = s.run()
        print(s.table())
    finally:
        try:
            s.end()
        except AssertionError as e:
            failures = [*s.failures, str(e)]
    for f in failures:
        print(f"FAILED: {f}")
    print("soak: " + (f"{len(failures)} failures" if failures else "nothing leaked, nothing grew, nothing stale"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
