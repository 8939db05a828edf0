# SPDX-License-Identifier: PostgreSQL
"""Processes of the benchmark, and the PostgreSQL fleet it runs against.

Every server is started in a session of its own and is killed by the kernel when the benchmark dies;
`Stage.clean_up()` ends all of them and removes the temporary directory.
"""

import ctypes
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

HOST = "127.0.0.1"
PG_BIN = os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin")
DATABASE = "bench"
OPEN_FILES = 65536

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class BenchError(Exception):
    """Something the benchmark cannot go on without; the text is for the user."""


def raise_file_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in ((OPEN_FILES, max(hard, OPEN_FILES)), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            return limit[0]
        except (ValueError, OSError):
            continue
    return soft


def wait_until(condition, timeout, what, interval=0.05):
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise BenchError(f"waited {timeout} s in vain for {what}")
        time.sleep(interval)


def listens(port):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex((HOST, port)) == 0


def tail(path, lines=15):
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-lines:])
    except OSError:
        return ""


class Stage:
    """The temporary directory, the ports and the processes of one run."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="tidemark-bench-")
        self.credentials = {}
        self._processes = []
        self._ports = set()
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            self.credentials = dict(user=account.pw_uid, group=account.pw_gid, extra_groups=[])
            os.chown(self.dir, account.pw_uid, account.pw_gid)
        os.chmod(self.dir, 0o755)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, text):
        """A file that the servers' user may read; its path."""
        path = self.path(name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o644)
        return path

    def free_port(self):
        """A port nobody listens on, below the kernel's own choice so that no client takes it."""
        candidate = 21000 + os.getpid() % 5000
        while True:
            candidate += 1
            if candidate in self._ports:
                continue
            with socket.socket() as s:
                try:
                    s.bind((HOST, candidate))
                except OSError:
                    continue
            self._ports.add(candidate)
            return candidate

    def run(self, *argv):
        done = subprocess.run(argv, capture_output=True, text=True, cwd=self.dir, **self.credentials)
        if done.returncode != 0:
            raise BenchError(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, name, argv, stop_signal=signal.SIGTERM, as_root=False, **popen):
        """Starts a server; its output goes to NAME.log in the directory."""

        def child():
            _libc.prctl(_PR_SET_PDEATHSIG, stop_signal)

        log = self.path(name + ".log")
        with open(log, "ab") as out:
            popen.setdefault("stdin", subprocess.DEVNULL)
            popen.setdefault("stdout", out)
            process = subprocess.Popen(argv, stderr=out, cwd=self.dir, start_new_session=True,
                                       preexec_fn=child, **({} if as_root else self.credentials), **popen)
        process.stop_signal = stop_signal
        process.log = log
        self._processes.append(process)
        return process

    def wait_listening(self, process, port, name, timeout=15):
        def up():
            if process.poll() is not None:
                raise BenchError(f"{name} ended with {process.returncode}:\n{tail(process.log)}")
            return listens(port)

        wait_until(up, timeout, f"{name} to listen on port {port}; its log ends with\n{tail(process.log)}")

    def stop(self, process, timeout=10):
        if process in self._processes:
            self._processes.remove(process)
        if process.poll() is None:
            process.send_signal(process.stop_signal)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        # What is left of its group, if it did not take its children along.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def clean_up(self):
        for process in reversed(list(self._processes)):
            try:
                self.stop(process, timeout=3)
            except (OSError, subprocess.SubprocessError):
                pass
        shutil.rmtree(self.dir, ignore_errors=True)


def psql(port, sql, dbname=DATABASE, timeout=60):
    """The rows of `sql`, each a list of strings."""
    done = subprocess.run(["psql", "-XqAt", "-F", "\x1f", "-v", "ON_ERROR_STOP=1", "-h", HOST, "-p", str(port),
                           "-U", "postgres", "-d", dbname, "-c", sql],
                          capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise BenchError(f"psql on port {port}: {sql}: {done.stderr.strip()}")
    return [line.split("\x1f") for line in done.stdout.splitlines()]


CONF = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 700
shared_buffers = 256MB
fsync = off
full_page_writes = off
synchronous_commit = on
wal_level = replica
max_wal_senders = 10
wal_keep_size = 512MB
max_wal_size = 2GB
checkpoint_timeout = 1h
autovacuum = off
jit = off
hot_standby = on
max_parallel_workers_per_gather = 0
wal_retrieve_retry_interval = 200ms
lc_messages = 'C'
"""

HBA = """
host all         all 127.0.0.0/8 trust
host replication all 127.0.0.0/8 trust
"""


class Node:
    def __init__(self, stage, name):
        self.stage = stage
        self.name = name
        self.port = stage.free_port()
        self.dir = stage.path(name)
        self.process = None

    def configure(self, file, text):
        with open(os.path.join(self.dir, file), "a") as f:
            f.write(text)

    def start(self):
        self.process = self.stage.start(self.name, [os.path.join(PG_BIN, "postgres"), "-D", self.dir,
                                                    "-p", str(self.port)], signal.SIGQUIT)

    def wait_ready(self):
        def ready():
            if self.process.poll() is not None:
                raise BenchError(f"{self.name} ended:\n{tail(self.process.log)}")
            try:
                return psql(self.port, "SELECT 1", "postgres")
            except BenchError:
                return None

        wait_until(ready, 60, f"{self.name} to accept connections")

    def sql(self, text, dbname=DATABASE):
        return psql(self.port, text, dbname)

    def conninfo(self, dbname=DATABASE):
        return f"host={HOST} port={self.port} user=postgres dbname={dbname}"


class Fleet:
    """A primary and two streaming standbys, filled by pgbench."""

    def __init__(self, stage, scale):
        self.primary = Node(stage, "primary")
        self.standbys = [Node(stage, "replica1"), Node(stage, "replica2")]
        self._create(stage)
        self._fill(scale)

    def _create(self, stage):
        stage.run(os.path.join(PG_BIN, "initdb"), "-D", self.primary.dir, "-U", "postgres", "-A", "trust",
                  "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
        with open(os.path.join(self.primary.dir, "pg_hba.conf"), "w") as f:
            f.write(HBA)
        self.primary.configure("postgresql.conf", CONF)
        # A directory fresh from initdb was shut down cleanly: a copy of it is a base backup.
        for standby in self.standbys:
            stage.run("cp", "-a", self.primary.dir, standby.dir)
            stage.run("touch", os.path.join(standby.dir, "standby.signal"))
            standby.configure("postgresql.conf", f"primary_conninfo = 'host={HOST} port={self.primary.port} "
                                                 f"user=postgres application_name={standby.name}'\n")
        for node in self.nodes():
            node.start()
        for node in self.nodes():
            node.wait_ready()

    def _fill(self, scale):
        self.primary.sql(f"CREATE DATABASE {DATABASE}", "postgres")
        done = subprocess.run(["pgbench", "-iq", "-s", str(scale), "-h", HOST, "-p", str(self.primary.port),
                               "-U", "postgres", DATABASE], capture_output=True, text=True)
        if done.returncode != 0:
            raise BenchError(f"pgbench -i: {done.stderr}")
        self.sync()

    def nodes(self):
        return [self.primary] + self.standbys

    def sync(self):
        """Waits until both standbys have replayed all there is now."""
        want = self.primary.sql("SELECT pg_current_wal_flush_lsn()")[0][0]
        for s in self.standbys:
            wait_until(lambda: s.sql(f"SELECT pg_last_wal_replay_lsn() >= '{want}'", "postgres")[0][0] == "t",
                       60, f"{s.name} to replay {want}")

    def tidy(self):
        """The small hot tables of TPC-B grow with every run otherwise."""
        self.primary.sql("VACUUM pgbench_branches; ", DATABASE)
        self.primary.sql("VACUUM pgbench_tellers; ", DATABASE)
        self.primary.sql("TRUNCATE pgbench_history", DATABASE)
        self.sync()

    def set_delays(self, delays_ms):
        for standby, ms in zip(self.standbys, delays_ms):
            standby.sql(f"ALTER SYSTEM SET recovery_min_apply_delay = '{ms}ms'", "postgres")
            standby.sql("SELECT pg_reload_conf()", "postgres")
            wait_until(lambda: standby.sql("SELECT setting FROM pg_settings WHERE name = "
                                           "'recovery_min_apply_delay'", "postgres")[0][0] == str(ms),
                       10, f"{standby.name} to take the apply delay")
        self.sync()
