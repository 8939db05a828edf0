# SPDX-License-Identifier: PostgreSQL
"""The systems that are compared: how each is configured, started and checked to be optimised."""

import json
import os
import re
import signal
import subprocess

from fleet import BenchError, DATABASE, HOST, psql, wait_until

POOL_SIZE = 20  # server connections per pool, the same for every pooler
MAX_CLIENTS = 12000


class Unavailable(Exception):
    """This peer cannot take part here; the text says why."""


def _output(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


def require_package(package, program):
    """The version of a Debian package whose files are as Debian built them (-O2)."""
    if not os.access(program, os.X_OK):
        raise Unavailable(f"{program} is not installed (apt-get install {package})")
    version = _output("dpkg-query", "-W", "-f", "${Version}", package)
    owner = _output("dpkg-query", "-S", program)
    if not owner.startswith(package + ":"):
        raise Unavailable(f"{program} is not from the package {package}: how it was built is unknown")
    changed = [line for line in _output("dpkg", "--verify", package).splitlines()
               if re.match(r"^..5", line) and " c " not in line and "missing" not in line]
    if changed:
        raise Unavailable(f"{package} was changed after installation: {changed[0]}")
    return f"Debian {version}"


def require_optimised(build, program):
    """How our own program was built; refuses what would measure the compiler's switches."""
    if not os.access(program, os.X_OK):
        raise Unavailable(f"{program} is not built (run make)")
    options = json.loads(subprocess.run(["meson", "introspect", "--buildoptions", build], check=True,
                                        capture_output=True, text=True).stdout)
    value = {o["name"]: o["value"] for o in options}
    level, sanitizer = str(value["optimization"]), str(value["b_sanitize"])
    if level not in ("1", "2", "3", "s"):
        raise Unavailable(f"{program} is built with -O{level}; use buildtype=debugoptimized or release")
    if sanitizer not in ("none", "[]"):
        raise Unavailable(f"{program} is built with the sanitizer {sanitizer}")
    return f"-O{level}, {value['buildtype']}"


class Peer:
    """One system in front of the fleet. `dbname(workload)` is where its clients connect."""

    name = ""
    title = ""
    proxies = True  # has a process of its own between client and server
    pools = False  # keeps idle clients without a server each
    notes = {}  # workload -> what is different with this peer

    def __init__(self, stage, fleet, build):
        self.stage = stage
        self.fleet = fleet
        self.build = build
        self.port = None
        self.process = None
        self.version = ""

    def check(self):
        """Raises Unavailable, or sets self.version."""

    def argv(self):
        raise NotImplementedError

    def prepare(self):
        """Writes the configuration, before argv()."""

    def start(self, wrapper=()):
        """`wrapper` goes in front of the command line (valgrind)."""
        self.port = self.stage.free_port()
        self.prepare()
        self.process = self.stage.start(f"{self.name}-{self.port}", list(wrapper) + self.argv(), self.stop_signal())
        try:
            self.stage.wait_listening(self.process, self.port, self.name, 60 if wrapper else 15)
            self.wait_ready()
        except BenchError:
            self.stop()
            raise
        return self

    def wait_ready(self):
        wait_until(self._answers, 30, f"{self.name} to answer")

    def _answers(self):
        try:
            return psql(self.port, "SELECT 1")
        except BenchError:
            if self.process and self.process.poll() is not None:
                raise
            return None

    def stop_signal(self):
        return signal.SIGTERM

    def stop(self):
        if self.process:
            self.stage.stop(self.process)
            self.process = None

    def dbname(self, workload):
        return DATABASE

    def conninfo(self):
        return f"host={HOST} port={self.port} user=postgres dbname={DATABASE}"


class Direct(Peer):
    name, title, proxies = "direct", "direct", False

    def check(self):
        self.version = _output("/usr/lib/postgresql/15/bin/postgres", "--version")

    def start(self, wrapper=()):
        self.port = self.fleet.primary.port
        return self


class Relay(Peer):
    name, title = "relay", "bare relay"

    def check(self):
        program = os.path.join(self.build, "bench", "bare-relay")
        if not os.access(program, os.X_OK):
            raise Unavailable(f"{program} is not built (run make)")
        self.version = "-O2"

    def argv(self):
        return [os.path.join(self.build, "bench", "bare-relay"), str(self.port), str(self.fleet.primary.port)]


class HAProxy(Peer):
    name, title = "haproxy", "HAProxy"

    def check(self):
        self.version = require_package("haproxy", "/usr/sbin/haproxy")

    def prepare(self):
        self.config = self.stage.write(f"haproxy-{self.port}.cfg", f"""
global
    nbthread 1
    maxconn 4000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen postgres
    bind {HOST}:{self.port}
    server primary {HOST}:{self.fleet.primary.port}
""")

    def argv(self):
        return ["/usr/sbin/haproxy", "-db", "-f", self.config]


class PgBouncer(Peer):
    name, title, pools = "pgbouncer", "PgBouncer", True
    # 1.21 brought prepared statements to transaction pooling; Debian 12 has 1.18.
    notes = {"prepared": "session pooling, as 1.18 has no prepared statements in transaction pooling"}

    def check(self):
        self.version = require_package("pgbouncer", "/usr/sbin/pgbouncer")

    def prepare(self):
        server = f"host={HOST} port={self.fleet.primary.port} dbname={DATABASE} user=postgres"
        self.config = self.stage.write(f"pgbouncer-{self.port}.ini", f"""
[databases]
{DATABASE} = {server}
{DATABASE}_session = {server} pool_mode=session
[pgbouncer]
listen_addr = {HOST}
listen_port = {self.port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {POOL_SIZE}
max_client_conn = {MAX_CLIENTS}
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
""")

    def argv(self):
        return ["/usr/sbin/pgbouncer", self.config]

    def dbname(self, workload):
        return DATABASE + "_session" if workload == "prepared" else DATABASE


class PgPool(Peer):
    name, title = "pgpool", "pgpool-II"
    children = 24
    on_write = "transaction"

    def check(self):
        self.version = require_package("pgpool2", "/usr/sbin/pgpool")

    def prepare(self):
        lines = [f"listen_addresses = '{HOST}'", f"port = {self.port}", f"socket_dir = '{self.stage.dir}'",
                 f"pcp_socket_dir = '{self.stage.dir}'", f"pcp_port = {self.stage.free_port()}",
                 f"pid_file_name = '{self.stage.path(f'pgpool-{self.port}.pid')}'", f"logdir = '{self.stage.dir}'",
                 "backend_clustering_mode = 'streaming_replication'", "enable_pool_hba = off",
                 f"num_init_children = {self.children}", "max_pool = 1", "child_life_time = 0",
                 "connection_life_time = 0", "load_balance_mode = on",
                 f"disable_load_balance_on_write = '{self.on_write}'", "health_check_period = 0",
                 "sr_check_period = 10", "sr_check_user = 'postgres'", f"sr_check_database = '{DATABASE}'",
                 "failover_on_backend_error = off", "use_watchdog = off", "log_min_messages = warning",
                 "memory_cache_enabled = off"]
        for i, node in enumerate(self.fleet.nodes()):
            lines += [f"backend_hostname{i} = '{HOST}'", f"backend_port{i} = {node.port}",
                      f"backend_weight{i} = {0 if i == 0 else 1}", f"backend_data_directory{i} = '{node.dir}'",
                      f"backend_flag{i} = 'DISALLOW_TO_FAILOVER'"]
        self.config = self.stage.write(f"pgpool-{self.port}.conf", "\n".join(lines) + "\n")
        self.pcp = self.stage.write("pcp.conf", "")
        self.hba = self.stage.write("pool_hba.conf", "")

    def argv(self):
        return ["/usr/sbin/pgpool", "-n", "-f", self.config, "-F", self.pcp, "-a", self.hba]

    def stop_signal(self):
        return signal.SIGINT  # fast


class PgPoolAlways(PgPool):
    """As set up against stale reads: after a write, the connection reads from the primary."""

    name = "pgpool-always"
    children = 140  # two connections for each of 64 clients
    on_write = "always"


class Tidemark(Peer):
    name, title, pools = "tidemark", "Tidemark", True
    options = ()

    def program(self):
        return os.path.join(self.build, "tidemark")

    def check(self):
        self.version = require_optimised(self.build, self.program())
        self.version = f"{_output(self.program(), '--version').splitlines()[0]} ({self.version})"

    def argv(self):
        argv = [self.program(), "--primary", self.fleet.primary.conninfo()]
        for s in self.fleet.standbys:
            argv += ["--replica", s.conninfo()]
        return argv + ["--listen", f"{HOST}:{self.port}", "--auth-type", "trust", "--log-connections", "off", "--default-pool-size",
                       str(POOL_SIZE), "--max-client-conn", str(MAX_CLIENTS), *self.options]

    def wait_ready(self):
        super().wait_ready()
        # Reads count as "primary" until both replicas have answered the watchers once.
        reads = self.reads_by_target()
        wait_until(self._uses_replicas, 10, f"{self.name} to use its replicas ({reads})")

    def _uses_replicas(self):
        before = self.reads_by_target()[0]
        psql(self.port, "SELECT 1 FROM pgbench_branches LIMIT 1")
        return "strong" in self.options or self.reads_by_target()[0] > before

    def reads_by_target(self):
        """(reads sent to replicas, reads sent to the primary) since it started."""
        rows = psql(self.port, "SHOW ROUTING", "tidemark")
        counts = {row[0]: row[1] for row in rows}
        return int(counts["reads_replica"]), int(counts["reads_primary"])


class TidemarkConnection(Tidemark):
    name = "tidemark-connection"
    options = ("--scope", "connection")


class TidemarkStrong(Tidemark):
    name = "tidemark-strong"
    options = ("--consistency", "strong")


class TidemarkEventual(Tidemark):
    name = "tidemark-eventual"
    options = ("--consistency", "eventual")


# In the order in which tables show them.
PEERS = [Relay, Direct, HAProxy, PgBouncer, PgPool, Tidemark]
