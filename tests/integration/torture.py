# SPDX-License-Identifier: PostgreSQL
"""Real faults on a real cluster, under the load of checked sessions, behind two routers at once.

    torture.py [--faults 60] [--seed N] [--bad FAULT,…]

    sessions ──▶ router a ──┐ 10.77.0.0/24        10.78.0.0/24
             ╲╱             ├── node0 ──┐
             ╱╲             ├── node1 ──┼── replication
    sessions ──▶ router b ──┘   node2 ──┘         Redis, for the named sessions

Each node lives in a network namespace of its own, with a link to the routers and one to the other nodes that can be
taken down or made slow. The program moves into a namespace of its own first, so nothing of this is seen outside and all
of it ends with the program. Where namespaces are refused it says so and does what can be done on loopback.

Who checks. Every session is the only writer of one row, whose value it raises and reads back at once, and reads the rows
of all, each many times in a row. Its reads may not be older than its own acknowledged writes, nor than what it has read,
whichever router it asks: named sessions and those that carry a token change the router all the time. At a failover the
surviving rows are asked of the standby after it has replayed all it received and before it is promoted: what is beyond
them is lost, and only that. The table counts sessions that lost a write, and those that the router told so; a session
that is one connection and lost that, too, is a new one and is told nothing.

Who checks the checker. The standbys are behind by design, in another way at each fault (DELAYS), and writes are batches
of the extended protocol, since a position can be asked within the writing transaction nowhere else. A run counts only if
enough reads were discriminating, that is if a healthy replica was behind the session's mark; and routers that are known
to be bad (--bad) must be caught.

What is more: every session gets an answer again within failover_timeout + 2 s of any fault, or of the moment from which
there is a primary again.
"""

import argparse
import ctypes
import operator
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import psycopg
import psycopg2

sys.path.insert(0, os.path.dirname(__file__))

import harness  # noqa: E402
import redis_harness  # noqa: E402
import tokens  # noqa: E402
from harness import PG_BIN, rows, value, wait_until  # noqa: E402

NODES = 3
FAILOVER_TIMEOUT = 10
BACK_WITHIN = FAILOVER_TIMEOUT + 2
# By how many ms the two standbys are behind, in turn. Each is where another mistake shows: both hold commit records back,
# and reach a position from within the transaction before them; one is far behind the other, and who forgets what it has
# read goes backward; neither is, and the router expects them where they may not be yet.
DELAYS = (30, 30), (0, 120), (0, 0)
DISCRIMINATING = 50  # such reads a fault, on the average
# It had received more than the one that was promoted.
CANNOT_FOLLOW = "ahead of the WAL flush position", "forked off current database system timeline"
OWN_WORDS = "may have been lost"
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


# ================= the network =================

def command(*words):
    return subprocess.run(words, capture_output=True, text=True)


def must(*words):
    r = command(*words)
    assert r.returncode == 0, f"{' '.join(words)}: {r.stderr.strip()}"


def enter_namespace():
    """This process and what it starts from here on have a network of their own. False: it is refused."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nsenter"):
        return False
    return LIBC.unshare(CLONE_NEWNET) == 0 and command("ip", "link", "set", "lo", "up").returncode == 0


class Loopback:
    """No namespaces: nothing can be cut."""

    cuts = False

    def __init__(self):
        self.ports = [harness.free_port() for _ in range(NODES)]

    def address(self, node):
        return harness.HOST, self.ports[node]

    replication_address = address

    def prefix(self, node):
        return []

    def close(self):
        pass


class Namespaces:
    cuts = True

    def __init__(self):
        self.holders = []
        for net, bridge in ((77, "routers"), (78, "nodes")):
            must("ip", "link", "add", bridge, "type", "bridge")
            must("ip", "link", "set", bridge, "up")
            must("ip", "addr", "add", f"10.{net}.0.1/24", "dev", bridge)
        for node in range(NODES):
            self.holders.append(subprocess.Popen(harness.tied(["unshare", "-n", "sleep", "infinity"], signal.SIGKILL)))
            pid = self.holders[node].pid
            mine = os.readlink("/proc/self/ns/net")
            wait_until(lambda: os.readlink(f"/proc/{pid}/ns/net") != mine, 5, "a namespace of its own")
            must(*self.prefix(node), "ip", "link", "set", "lo", "up")
            self._plug(node, pid, 77, "routers")
            self._plug(node, pid, 78, "nodes")
        self.netem = self._has_netem()

    def _plug(self, node, pid, net, bridge):
        here, there = f"{bridge}{node}", f"n{net}"
        must("ip", "link", "add", here, "type", "veth", "peer", "name", there)
        must("ip", "link", "set", there, "netns", str(pid))
        must("ip", "link", "set", here, "master", bridge)
        must("ip", "link", "set", here, "up")
        must(*self.prefix(node), "ip", "addr", "add", f"10.{net}.0.{node + 10}/24", "dev", there)
        must(*self.prefix(node), "ip", "link", "set", there, "up")

    def _has_netem(self):
        ok = command("tc", "qdisc", "add", "dev", "routers0", "root", "netem", "delay", "1ms").returncode == 0
        command("tc", "qdisc", "del", "dev", "routers0", "root")
        return ok

    def address(self, node):
        return f"10.77.0.{node + 10}", 5432

    def replication_address(self, node):
        return f"10.78.0.{node + 10}", 5432

    def prefix(self, node):
        return ["nsenter", f"--net=/proc/{self.holders[node].pid}/ns/net"]

    def cut(self, which, node):
        must("ip", "link", "set", f"{which}{node}", "down")

    def mend(self, which, node):
        must("ip", "link", "set", f"{which}{node}", "up")

    def slow(self, node, ms):
        """What the node is sent, and what it sends: late where the kernel has netem, else at modem speed."""
        shape = (["netem", "delay", f"{ms}ms", f"{ms // 3}ms"] if self.netem else
                 ["tbf", "rate", f"{max(64, 6000 // ms)}kbit", "burst", "3000", "latency", "400ms"])
        must("tc", "qdisc", "replace", "dev", f"routers{node}", "root", *shape)
        must(*self.prefix(node), "tc", "qdisc", "replace", "dev", "n77", "root", *shape)

    def fast(self, node):
        command("tc", "qdisc", "del", "dev", f"routers{node}", "root")
        command(*self.prefix(node), "tc", "qdisc", "del", "dev", "n77", "root")

    def close(self):
        for h in self.holders:
            h.kill()
            h.wait()


# ================= the servers =================

CONF = harness.CONF.replace("listen_addresses = '127.0.0.1'", "").replace("unix_socket_directories = ''", "") + """
full_page_writes = on
wal_log_hints = on
wal_receiver_timeout = 2s
wal_sender_timeout = 3s
tcp_user_timeout = 3000
"""
HBA = """
local all         all                trust
host  all         all 127.0.0.1/32   trust
host  replication all 127.0.0.1/32   trust
host  all         all 10.77.0.0/24   trust
host  replication all 10.77.0.0/24   trust
host  replication all 10.78.0.0/24   trust
"""
SCHEMA = """
CREATE TABLE kept (id int PRIMARY KEY, n bigint NOT NULL);
INSERT INTO kept SELECT g, 0 FROM generate_series(1, 64) g;
CREATE FUNCTION node_name() RETURNS text STABLE LANGUAGE sql AS $$ SELECT current_setting('node.name') $$;
"""


class Node:
    def __init__(self, cluster, index):
        self.cluster, self.index = cluster, index
        self.name = f"node{index}"
        self.dir = os.path.join(cluster.dir, self.name)
        self.log = self.dir + ".log"
        self.socket_dir = self.dir + ".socket"
        self.process = None
        self.delay_ms = 0
        self.address = cluster.net.address(index)

    def conninfo(self):
        return f"host={self.address[0]} port={self.address[1]} user=postgres dbname=app"

    def _argv(self):
        return [os.path.join(PG_BIN, "postgres"), "-D", self.dir, "-c", f"config_file={self.dir}.conf"]

    def _configure(self):
        """All that differs between the nodes is in a file beside the data directory: pg_rewind copies those within."""
        others = [self.cluster.net.replication_address(i) for i in range(NODES) if i != self.index]
        upstream = (f"host={','.join(h for h, _ in others)} port={','.join(str(p) for _, p in others)} user=postgres "
                    "target_session_attrs=read-write connect_timeout=2 tcp_user_timeout=2000")
        settings = {"port": self.address[1], "listen_addresses": "*" if self.cluster.net.cuts else harness.HOST,
                    "unix_socket_directories": self.socket_dir, "node.name": self.name,
                    "primary_conninfo": upstream, "recovery_min_apply_delay": self.delay_ms}
        with open(self.dir + ".conf", "w") as f:
            f.write(f"include '{self.dir}/postgresql.conf'\n")
            f.writelines(f"{name} = '{setting}'\n" for name, setting in settings.items())

    def delay(self, ms):
        self.delay_ms = ms
        self._configure()
        self.process.send_signal(signal.SIGHUP)

    def start(self, wait=True):
        self._configure()
        with open(self.log, "ab") as log:
            command = harness.tied(self._argv(), signal.SIGQUIT, self.cluster.owner)
            self.process = subprocess.Popen([*self.cluster.net.prefix(self.index), *command], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True)
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout=30):
        def answers():
            assert self.process.poll() is None, f"{self.name} ended:\n{harness.tail(self.log)}"
            try:
                self.connect("postgres").close()
                return True
            except psycopg2.OperationalError:
                return False
        wait_until(answers, timeout, f"{self.name} to answer", interval=0.05)

    def hang(self):
        harness.signal_all(harness.server_pids(self.process.pid), signal.SIGSTOP)

    def go_on(self):
        harness.signal_all(harness.server_pids(self.process.pid), signal.SIGCONT)

    def stop(self, how):
        process, self.process = self.process, None
        if process is None:
            return
        if how == "kill":
            harness.kill_server(process)
            return
        process.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[how])
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def connect(self, dbname="app"):
        """By its unix socket, which no network fault concerns."""
        c = psycopg2.connect(host=self.socket_dir, port=self.address[1], dbname=dbname, user="postgres",
                             connect_timeout=5)
        c.autocommit = True
        return c

    def sql(self, text, *args, dbname="app"):
        c = self.connect(dbname)
        try:
            return rows(c, text, *args)
        finally:
            c.close()

    def value(self, text, *args, dbname="postgres"):
        return self.sql(text, *args, dbname=dbname)[0][0]


class Cluster:
    def __init__(self, net):
        self.net = net
        self.dir, self.owner = harness.servers_dir("tidemark-torture-")
        self.nodes = [Node(self, i) for i in range(NODES)]
        self.primary = self.nodes[0]
        self._create()

    def run(self, *argv):
        r = subprocess.run(["setpriv", *self.owner, "--", *argv], capture_output=True, text=True, cwd=self.dir, timeout=180)
        assert r.returncode == 0, f"{' '.join(argv)}:\n{r.stdout}{r.stderr}"

    def _create(self):
        first = self.nodes[0]
        self.run(os.path.join(PG_BIN, "initdb"), "-D", first.dir, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                 "--locale=C", "--no-sync", "--no-instructions")
        for name, text in (("postgresql.conf", CONF), ("pg_hba.conf", HBA)):
            with open(os.path.join(first.dir, name), "a" if name == "postgresql.conf" else "w") as f:
                f.write(text)
        self.run("mkdir", *(node.socket_dir for node in self.nodes))
        for node in self.nodes[1:]:
            self.run("cp", "-a", first.dir, node.dir)
            self.run("touch", os.path.join(node.dir, "standby.signal"))
        for node in self.nodes:
            node.start(wait=False)
        for node in self.nodes:
            node.wait_ready()
        first.sql("CREATE ROLE app LOGIN", dbname="postgres")
        first.sql("CREATE DATABASE app OWNER app", dbname="postgres")
        first.sql(SCHEMA + "GRANT ALL ON ALL TABLES IN SCHEMA public TO public")
        self.wait_streaming()

    def standbys(self):
        return [n for n in self.nodes if n is not self.primary]

    def delay(self, *ms):
        for node, its in zip(self.standbys(), ms):
            node.delay(its)

    def wait_streaming(self, timeout=20):
        """Every standby has all that the primary had just now; one that cannot follow is rewound."""
        want = self.primary.value("SELECT pg_current_wal_flush_lsn()")
        end = time.monotonic() + timeout
        for node in self.standbys():
            while not node.value("SELECT coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, false)", want):
                if time.monotonic() > end:
                    raise AssertionError(f"{node.name} does not follow:\n{harness.tail(node.log, 12)}")
                if any(words in harness.tail(node.log, 6) for words in CANNOT_FOLLOW):
                    self.rejoin(node)
                time.sleep(0.05)

    def rejoin(self, node):
        """Back as a standby of the primary, without what only it has."""
        node.stop("kill")
        source = f"host={self.primary.socket_dir} port={self.primary.address[1]} user=postgres dbname=app"
        # What it compares with has to be on a checkpoint of the new timeline.
        self.primary.sql("CHECKPOINT")
        # pg_rewind ends the recovery of one that crashed as a standby, alone and by itself.
        self.run("rm", "-f", os.path.join(node.dir, "standby.signal"))
        self.run(os.path.join(PG_BIN, "pg_rewind"), "-D", node.dir, "--source-server", source, "--no-sync")
        self.run("touch", os.path.join(node.dir, "standby.signal"))
        node.start()

    def destroy(self):
        for node in self.nodes:
            try:
                node.stop("kill")
            except (OSError, subprocess.TimeoutExpired):
                pass
        shutil.rmtree(self.dir, ignore_errors=True)


# ================= the sessions =================

RARELY = 0.01  # so often does a reader write
# A primary that comes back from a crash has lost what was committed asynchronously shortly before, and nobody can say
# when to expect that: for these it is not done. (At a failover the survivors are known.)
CRASHES = "primary_killed_and_back", "primary_restarted"
FLUSHED_WITHIN = 1  # three times wal_writer_delay, and more


class Lost(Exception):
    """A read that is older than it may be."""


class Session:
    """One operation at a time. What it must not read below, by row: `wrote` (its own), `seen`."""

    def __init__(self, world, number, kind, reader, lax, tried):
        self.world, self.number, self.kind = world, number, kind
        self.name = f"{kind}-{number}"
        self.key = number + 1
        self.lax = lax          # commits asynchronously
        self.reader = reader    # its own writes seldom keep it off a replica that is behind
        self.lock = threading.Lock()
        self.wrote, self.seen, self.tried = 0, {}, tried
        self.failovers = 0      # that it knows of
        self.token = None
        self.connections, self.notices = {}, []
        self.since = time.monotonic()  # of its last answer

    # ---- how it is one session over several connections ----

    def _connect(self, router):
        options = f"-c tidemark.session={self.name}" if self.kind == "named" else ""
        c = psycopg.connect(host=harness.HOST, port=router.port, dbname="app", user="app", options=options,
                            connect_timeout=BACK_WITHIN, autocommit=True)
        c.add_notice_handler(lambda notice: self.notices.append(notice.message_primary))
        return c

    def _connection(self, dice):
        with self.world.turn:
            pass  # nobody asks while the survivors are looked at
        routers = self.world.routers
        router = routers[self.number % len(routers)] if self.kind == "own" else dice.choice(routers)
        c = self.connections.get(router)
        if c is None or c.closed:
            if self.kind == "own":
                self._forget()
            c = self.connections[router] = self._connect(router)
        if self.kind == "token" and self.token:
            rows(c, f"SET tidemark.read_after = '{self.token}'")
        return c

    def _forget(self):
        """A new connection is a new session."""
        self.wrote, self.seen = 0, {}

    def _answered(self, c):
        told = [n for n in self.notices if OWN_WORDS in n]
        self.notices.clear()
        if told:
            self.world.count_told()
        if self.kind == "token":
            self.token = value(c, "SHOW tidemark.token")
        self.world.answered(self)

    # ---- operations ----

    def step(self, dice):
        """A write that is read back at once, or the row of anybody many times in a row."""
        if dice.random() < (RARELY if self.reader else 0.5):
            self._write(self._connection(dice))
            key, times = self.key, dice.randrange(1, 4)
        else:
            key, times = dice.randrange(len(self.world.sessions)) + 1, dice.randrange(5, 25)
        for _ in range(times):
            self._read(self._connection(dice), key)

    def _write(self, c):
        self.tried += 1
        n, before = self.tried, self.failovers
        if self.lax:
            rows(c, f"SET synchronous_commit = {'off' if self.world.lax else 'on'}")
        rows(c, "UPDATE kept SET n = %s WHERE id = %s", n, self.key)
        with self.lock:
            # Else nobody can say on which primary it was done.
            if self.failovers == before:
                self.wrote = n
        self._answered(c)

    def _read(self, c, key):
        with self.lock:
            floor = max(self.seen.get(key, 0), self.wrote if key == self.key else 0)
            own = key == self.key and floor == self.wrote
            before = self.failovers
        n = value(c, "SELECT n FROM kept WHERE id = %s", key)
        with self.lock:
            if self.failovers != before:
                floor = min(floor, self.world.survived.get(key, 0))
            else:
                self.seen[key] = max(self.seen.get(key, 0), n)
        self._answered(c)
        if n < floor:
            raise Lost(f"{self.name} read {n} of row {key}, and {'wrote' if own else 'had read'} {floor}: "
                       f"{value(c, 'SHOW tidemark.route')}")

    def failed_over(self, survived):
        """All that is beyond is gone, and nothing else. True: a write of its own."""
        with self.lock:
            self.failovers += 1
            lost = self.wrote > survived.get(self.key, 0)
            self.wrote = min(self.wrote, survived.get(self.key, 0))
            for key, n in self.seen.items():
                self.seen[key] = min(n, survived.get(key, 0))
            return lost

    # ---- the thread ----

    def work(self):
        dice = random.Random(f"{self.world.seed}/{self.name}")
        while not self.world.stop.is_set():
            try:
                self.step(dice)
            except Lost as e:
                self.world.violation(str(e))
            except psycopg.Error as e:
                self.world.failed(self, e)
                time.sleep(dice.uniform(0.02, 0.1))
            time.sleep(dice.uniform(0, 0.01) if self.reader else dice.uniform(0.005, 0.04))


# ================= the faults =================

class Tally:
    def __init__(self):
        self.count, self.outage, self.violations, self.lost, self.told, self.discriminating = 0, 0.0, 0, 0, 0, 0


class World:
    """The routers, and the sessions on them; the servers may have served another one before."""

    def __init__(self, seed, cluster, redis, bad=None, say=print, sessions=12):
        self.seed, self.net, self.say, self.bad = seed, cluster.net, say, bad
        self.dice = random.Random(seed)
        self.stop, self.turn = threading.Event(), threading.Lock()
        self.guard = threading.Lock()
        self.survived = {}
        self.violations, self.failures, self.errors, self.operations = [], [], 0, 0
        self.discriminating = 0
        self.table, self.now = {}, None
        self.primary_since = 0.0  # when the last one was up, which takes a busy machine long enough
        self.redis, self.cluster = redis, cluster
        self.routers = []
        for i in range(2):
            self.routers.append(self._router())
        self.lax = True
        self.counted = dict.fromkeys(self.routers, 0)
        # Of either half, one of each kind commits asynchronously.
        kept = dict(cluster.primary.sql("SELECT id, n FROM kept"))
        self.sessions = [Session(self, i, ("own", "named", "token")[i % 3], i >= sessions / 2, i % 6 >= 3, kept[i + 1])
                         for i in range(sessions)]
        self.threads = [threading.Thread(target=s.work, daemon=True) for s in self.sessions]

    def _router(self):
        nodes = self.cluster.nodes
        return harness.Tidemark(
            None, primary=nodes[0].conninfo(), replicas=[n.conninfo() for n in nodes[1:]], wait=False, fault=self.bad,
            files={"keys": tokens.OLD + "\n"}, token_key_file="{dir}/keys", scope="connection",
            session_store="redis", redis=self.redis.address, session_ttl="2s", failover_timeout=f"{FAILOVER_TIMEOUT}s",
            answer_timeout="700ms", server_connect_timeout="1s", server_login_retry="300ms", default_pool_size="8",
            redis_command_timeout="200ms", redis_lease="1s")

    # ---- what the sessions say ----

    def answered(self, s):
        now = time.monotonic()
        with self.guard:
            self.operations += 1
            if self.now:
                self.now.outage = max(self.now.outage, now - max(s.since, self.began))
            without = now - max(s.since, self.primary_since)
            if without > BACK_WITHIN:
                self.failures.append(f"{s.name} was without an answer for {without:.1f} s ({self.now_name})")
            s.since = now

    def failed(self, s, error):
        with self.guard:
            self.errors += 1
            self.last_error = f"{s.name}: {str(error).strip()}"

    def violation(self, text):
        with self.guard:
            self.violations.append(f"{self.now_name}: {text}")
            if self.now:
                self.now.violations += 1
        if len(self.violations) <= 10:
            self.say(f"VIOLATION: {text}")

    def count_told(self):
        with self.guard:
            if self.now:
                self.now.told += 1

    def count_discriminating(self):
        """What the routers have counted since they were last asked."""
        for t, before in self.counted.items():
            self.counted[t] = t.routing()["discriminating"]
            with self.guard:
                self.discriminating += self.counted[t] - before
                if self.now:
                    self.now.discriminating += self.counted[t] - before

    # ---- parts of faults ----

    def rest(self, low, high):
        time.sleep(self.dice.uniform(low, high))

    def standby(self):
        return self.dice.choice(self.cluster.standbys())

    def promote(self):
        """The old primary is dead, stopped or cut off from everybody: what has been received is all there will be."""
        def position(node):
            return node.value("SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'::pg_lsn")
        old = self.cluster.primary
        new = max(self.cluster.standbys(), key=position)
        wait_until(lambda: new.value("SELECT pg_last_wal_replay_lsn() - '0/0'::pg_lsn") >= position(new), 15,
                   f"{new.name} to replay what it has")
        with self.turn:
            survived = dict(new.sql("SELECT id, n FROM kept"))
            self.survived = survived
            lost = sum(s.failed_over(survived) for s in self.sessions)
            if self.now:
                self.now.lost += lost
        new.sql("SELECT pg_promote(false)")
        wait_until(lambda: not new.value("SELECT pg_is_in_recovery()"), 20, f"{new.name} to be primary")
        self.cluster.primary = new
        self.primary_since = time.monotonic()
        return old

    def fail_over(self):
        old = self.promote()
        self.rest(0.2, 1)
        self.cluster.rejoin(old)

    # ---- kinds ----

    def replica_killed(self):
        node = self.standby()
        node.stop("kill")
        self.rest(0.1, 1)
        node.start()

    def replica_restarted_at_once(self):
        node = self.standby()
        node.stop("immediate")
        node.start()

    def replica_stopped(self):
        node = self.standby()
        node.hang()
        self.rest(0.3, 3)
        node.go_on()

    def replay_paused(self):
        node = self.standby()
        node.sql("SELECT pg_wal_replay_pause()")
        self.rest(0.3, 2)
        node.sql("SELECT pg_wal_replay_resume()")

    def connections_terminated(self):
        self.dice.choice(self.cluster.nodes).sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND "
            "pid <> pg_backend_pid()")

    def primary_killed_and_back(self):
        self.cluster.primary.stop("kill")
        self.rest(0, 1)
        self.cluster.primary.start()
        self.primary_since = time.monotonic()

    def primary_restarted(self):
        self.cluster.primary.stop(self.dice.choice(("fast", "immediate")))
        self.cluster.primary.start()
        self.primary_since = time.monotonic()

    def primary_stopped(self):
        self.cluster.primary.hang()
        self.rest(0.2, 3)
        self.cluster.primary.go_on()

    def switchover(self):
        self.cluster.primary.stop("fast")
        self.fail_over()

    def primary_killed_failover(self):
        self.cluster.primary.stop("kill")
        self.fail_over()

    def primary_hangs_failover(self):
        self.cluster.primary.hang()
        self.rest(0.1, 1.5)
        self.fail_over()

    def replica_cut_off(self):
        node = self.standby()
        self.net.cut("routers", node.index)
        self.rest(0.3, 3)
        self.net.mend("routers", node.index)

    def primary_cut_off(self):
        node = self.cluster.primary
        self.net.cut("routers", node.index)
        self.rest(0.2, 3)
        self.net.mend("routers", node.index)

    def replication_cut(self):
        node = self.standby()
        self.net.cut("nodes", node.index)
        self.rest(0.5, 3)
        self.net.mend("nodes", node.index)

    def slow_link(self):
        node = self.dice.choice(self.cluster.nodes)
        self.net.slow(node.index, self.dice.choice((20, 60, 150)))
        self.rest(0.5, 3)
        self.net.fast(node.index)

    def primary_isolated_failover(self):
        """It goes on alone, with nobody to hear it, and is put down before it is heard again."""
        node = self.cluster.primary
        self.net.cut("nodes", node.index)
        self.net.cut("routers", node.index)
        self.rest(0.1, 1)
        old = self.promote()
        self.rest(0.2, 1)
        old.stop("kill")
        self.net.mend("nodes", node.index)
        self.net.mend("routers", node.index)
        self.cluster.rejoin(old)

    def lossy_failover(self):
        """For a while no standby hears the primary, and then it is gone."""
        node = self.cluster.primary
        self.net.cut("nodes", node.index)
        self.rest(0.3, 1)
        node.stop("kill")
        old = self.promote()
        # Not sooner: what lies in the dead server's sockets would still be sent.
        self.net.mend("nodes", node.index)
        self.cluster.rejoin(old)

    def router_killed(self):
        """Its named sessions and tokens go on through the other."""
        router = self.dice.choice(self.routers)
        self.count_discriminating()
        self.counted[router] = 0
        router.process.kill()
        router.process.wait()
        self.rest(0.1, 0.5)
        router._start(False)

    def router_reloaded(self):
        self.dice.choice(self.routers).reload()

    def redis_stopped(self):
        self.redis.pause()
        self.rest(0.2, 2)
        self.redis.resume()

    def redis_restarted(self):
        self.redis.restart()

    def kinds(self):
        anywhere = ["replica_killed", "replica_restarted_at_once", "replica_stopped", "replay_paused",
                    "connections_terminated", "primary_killed_and_back", "primary_restarted", "primary_stopped",
                    "switchover", "primary_killed_failover", "primary_hangs_failover", "router_killed",
                    "router_reloaded", "redis_stopped", "redis_restarted"]
        network = ["replica_cut_off", "primary_cut_off", "replication_cut", "slow_link", "primary_isolated_failover",
                   "lossy_failover"]
        return anywhere + (network if self.net.cuts else [])

    # ---- the run ----

    now_name = "before any fault"
    began = 0.0
    last_error = ""

    def _back_to_work(self):
        """Every session has had an answer that it asked for after the fault was healed."""
        healed = time.monotonic()
        wait_until(lambda: all(s.since > healed for s in self.sessions), BACK_WITHIN + 5,
                   lambda: f"{[s.name for s in self.sessions if s.since <= healed]} to work again after "
                           f"{self.now_name}; {self.last_error}")

    def fault(self, name):
        tally = self.table.setdefault(name, Tally())
        self.lax = name not in CRASHES
        if not self.lax:
            self._back_to_work()  # whoever was committing has done so
            time.sleep(FLUSHED_WITHIN)
        with self.guard:
            tally.count += 1
            self.now, self.now_name, self.began = tally, name, time.monotonic()
        getattr(self, name)()
        self.cluster.wait_streaming()
        self._back_to_work()
        self.rest(0.3, 1)
        self.count_discriminating()

    def order(self, count, only=None):
        """Every kind as often as any other, in an order of the seed."""
        kinds, plan = only or self.kinds(), []
        while len(plan) < count:
            some = list(kinds)
            self.dice.shuffle(some)
            plan += some
        return plan[:count]

    def run(self, plan):
        for t in self.routers:
            t.wait_fleet(30)
        for thread in self.threads:
            thread.start()
        began = time.monotonic()
        try:
            self._back_to_work()
            for i, name in enumerate(plan):
                self.say(f"{time.monotonic() - began:6.1f} s  {i + 1}/{len(plan)} {name}")
                self.cluster.delay(*DELAYS[i % len(DELAYS)])
                self.fault(name)
                if self.violations:
                    break
            if self.discriminating < DISCRIMINATING * len(plan) and not self.violations:
                self.failures.append(f"inconclusive: only {self.discriminating} reads had a replica behind their mark")
        except (AssertionError, subprocess.TimeoutExpired) as e:
            self.failures.append(str(e))
        self.rest(0.5, 1)
        self.stop.set()
        for thread in self.threads:
            thread.join(BACK_WITHIN + 5)
            if thread.is_alive():
                self.failures.append("a session was left without an answer")

    def report(self):
        fields = "count", "outage", "violations", "lost", "told", "discriminating"
        line = "{:28} {:5} {:13.1f} s {:10} {:5} {:5} {:14}"
        lines = [f"{'kind of fault':28} {'times':>5} {'longest outage':>15} {'violations':>10} {'lost':>5} {'told':>5} "
                 f"{'discriminating':>14}"]
        everything = Tally()
        for name, t in sorted(self.table.items()):
            lines.append(line.format(name, *(getattr(t, f) for f in fields)))
            for f in fields:
                setattr(everything, f, (max if f == "outage" else operator.add)(getattr(everything, f), getattr(t, f)))
        lines.append(line.format("all", *(getattr(everything, f) for f in fields)))
        lines.append(f"{self.operations} operations of {len(self.sessions)} sessions, {self.errors} errors")
        return "\n".join(lines)

    def end(self):
        for t in self.routers:
            try:
                t.stop()
            except AssertionError as e:
                self.failures.append(str(e))


SHORT = ["replica_restarted_at_once", "primary_killed_failover", "replica_cut_off", "lossy_failover"]
SHORT_ON_LOOPBACK = ["replica_restarted_at_once", "primary_killed_failover", "replica_stopped"]
QUICK = ["connections_terminated", "replica_restarted_at_once", "router_reloaded"]  # a bad router needs little


def plan(world, a):
    if a.kinds or not a.short:
        return world.order(a.faults, a.kinds and a.kinds.split(","))
    if world.bad:
        return world.order(4 * len(QUICK), QUICK)
    return SHORT if world.net.cuts else SHORT_ON_LOOPBACK


def one_run(a, cluster, redis, bad):
    """True: it is as it should be, a bad router included."""
    print(f"torture: seed {a.seed}{', ' + bad if bad else ''}", flush=True)
    world = World(a.seed, cluster, redis, bad, say=lambda text: print(text, flush=True))
    try:
        world.run(plan(world, a))
    finally:
        world.end()
    print(world.report())
    again = f"to see it again: --seed {a.seed}{' --bad ' + bad if bad else ''}"
    if bad and world.violations:
        print(f"torture: {bad} caught, {len(world.violations)} violations; {again}")
        return True
    failures = world.failures + world.violations + ([f"{bad} was not caught"] if bad else [])
    for f in failures:
        print(f"FAILED: {f}")
    print(f"torture: {'failed' if failures else 'no violation'}; {again}")
    return not failures


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--faults", type=int, default=60)
    p.add_argument("--seed", type=int, default=random.randrange(1, 10000))
    p.add_argument("--bad", help="routers that are known to be bad, separated by commas: fails if one is not caught")
    p.add_argument("--short", action="store_true", help="a few faults")
    p.add_argument("--kinds", help="only these, separated by commas")
    a = p.parse_args()
    own = enter_namespace()
    if not own:
        print("torture: NO NETWORK NAMESPACES HERE: nothing is cut or made slow, only servers fail")
    net = Namespaces() if own else Loopback()
    redis, cluster = redis_harness.Redis(), Cluster(net)
    try:
        good = [one_run(a, cluster, redis, bad) for bad in (a.bad.split(",") if a.bad else [None])]
        return 0 if all(good) else 1
    finally:
        redis.destroy()
        cluster.destroy()
        net.close()


if __name__ == "__main__":
    sys.exit(main())
