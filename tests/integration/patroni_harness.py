# SPDX-License-Identifier: PostgreSQL
"""A real Patroni: one etcd, and members that each run a PostgreSQL server, in a temporary directory on free
ports. Everything is a child of the test's process, and ends with it."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request

import harness
import psycopg2
from harness import HOST, free_port, tail, wait_until

NAMES = ("primary", "replica1", "replica2")  # of the nodes; who leads is another matter

MEMBER = """
scope: it
name: {name}
log: {{level: INFO}}
restapi: {{listen: '127.0.0.1:{rest}', connect_address: '127.0.0.1:{rest}'}}
etcd3: {{host: '127.0.0.1:{etcd}'}}
bootstrap:
  dcs:
    ttl: {ttl}
    loop_wait: {loop_wait}
    retry_timeout: {retry_timeout}
    maximum_lag_on_failover: 104857600
    postgresql:
      use_pg_rewind: true
      parameters:
        max_connections: 100
        wal_keep_size: 128MB
        fsync: 'off'
        full_page_writes: 'on'
        wal_log_hints: 'on'
        autovacuum: 'off'
        shared_buffers: 16MB
        wal_retrieve_retry_interval: 200ms
        wal_receiver_status_interval: 1s
postgresql:
  listen: '127.0.0.1:{port}'
  connect_address: '127.0.0.1:{port}'
  data_dir: {data}
  bin_dir: {bin}
  pgpass: {data}.pgpass
  authentication:
    superuser: {{username: postgres}}
    replication: {{username: postgres}}
    rewind: {{username: postgres}}
  parameters: {{unix_socket_directories: ''}}
  pg_hba: ['host all all 127.0.0.1/32 trust', 'host replication all 127.0.0.1/32 trust']
  create_replica_methods: [basebackup]
  basebackup: [{{checkpoint: fast}}, no-sync]
"""


class Member:
    """One node: its Patroni and, under that, its PostgreSQL. As harness.Server to the router."""

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        self.port, self.rest = free_port(), free_port()
        self.data = os.path.join(cluster.dir, name)
        self.log = os.path.join(cluster.dir, name + ".log")
        self.process = None

    def start(self):
        path = os.path.join(self.cluster.dir, self.name + ".yml")
        with open(path, "w") as f:
            f.write(MEMBER.format(name=self.name, port=self.port, rest=self.rest, data=self.data, bin=harness.PG_BIN,
                                  etcd=self.cluster.etcd_port, **self.cluster.timing))
        os.chmod(path, 0o644)
        self.process = self.cluster.run(["/usr/bin/patroni", path], self.log)

    def postmaster(self):
        try:
            with open(os.path.join(self.data, "postmaster.pid")) as f:
                return int(f.readline())
        except (OSError, ValueError):
            return None

    def kill(self):
        """Patroni and every process of its server, as when the machine is gone."""
        pid = self.postmaster()
        self.process.kill()
        self.process.wait()
        self.kill_server(pid)

    def kill_server(self, pid):
        if pid is not None:
            harness.signal_all(harness.server_pids(pid), signal.SIGKILL)

    def get(self, path):
        with urllib.request.urlopen(f"http://{HOST}:{self.rest}{path}", timeout=3) as r:
            return json.load(r)

    def role(self):
        """None: nobody answers."""
        try:
            with psycopg2.connect(host=HOST, port=self.port, user="postgres", dbname="postgres", connect_timeout=2) as c:
                return "replica" if harness.value(c, "SELECT pg_is_in_recovery()") else "primary"
        except psycopg2.Error:
            return None

    def sql(self, text, dbname="app"):
        c = psycopg2.connect(host=HOST, port=self.port, user="postgres", dbname=dbname, connect_timeout=5)
        c.autocommit = True
        try:
            return harness.rows(c, text)
        finally:
            c.close()

    def conninfo(self, user="postgres", dbname="app"):
        return f"host={HOST} port={self.port} user={user} dbname={dbname}"


class PatroniCluster:
    """etcd and three members, bootstrapped, with the harness's tables in database app."""

    def __init__(self, ttl=6, loop_wait=1, retry_timeout=2):
        self.timing = {"ttl": ttl, "loop_wait": loop_wait, "retry_timeout": retry_timeout}
        self.dir, self.owner = harness.servers_dir("tidemark-it-patroni-")
        self.processes = []
        atexit.register(self.destroy)
        self.etcd_port, peer = free_port(), free_port()
        url, peers = f"http://{HOST}:{self.etcd_port}", f"http://{HOST}:{peer}"
        self.etcd = self.run(["/usr/bin/etcd", "--name", "it", "--data-dir", os.path.join(self.dir, "etcd"),
                              "--listen-client-urls", url, "--advertise-client-urls", url,
                              "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
                              "--initial-cluster", f"it={peers}"], os.path.join(self.dir, "etcd.log"))
        wait_until(self._etcd_answers, 15, lambda: "etcd: " + tail(os.path.join(self.dir, "etcd.log")))
        self.servers = [Member(self, name) for name in NAMES]
        self._make_data()
        self.servers[0].start()
        wait_until(lambda: self.servers[0].role() == "primary", 90,
                   lambda: "the first member: " + tail(self.servers[0].log), 0.1)
        for m in self.servers[1:]:
            m.start()
        self._populate()
        wait_until(self.whole, 90, lambda: "three members: " + tail(self.servers[1].log) + tail(self.servers[2].log), 0.1)

    def _make_data(self):
        """One initdb, copied: a directory fresh from it was shut down cleanly, and is a base backup."""
        first = self.servers[0].data
        for argv in ([os.path.join(harness.PG_BIN, "initdb"), "-D", first, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                      "--locale=C", "--no-sync", "--no-instructions"],
                     *(["cp", "-a", first, m.data] for m in self.servers[1:])):
            subprocess.run(["setpriv", *self.owner, "--", *argv], check=True, capture_output=True, cwd=self.dir)

    def run(self, argv, log):
        env = {"PATH": "/usr/bin:/bin", "HOME": self.dir, "LC_ALL": "C.UTF-8"}
        with open(log, "ab") as out:
            p = subprocess.Popen(harness.tied(argv, signal.SIGTERM, self.owner), stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=out, cwd=self.dir, env=env)
        self.processes.append(p)
        return p

    def _etcd_answers(self):
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.etcd_port}/health", timeout=2) as r:
                return b"true" in r.read()
        except OSError:
            return False

    def _populate(self):
        leader = self.servers[0]
        leader.sql("CREATE ROLE app LOGIN; GRANT pg_monitor TO app", dbname="postgres")
        leader.sql("CREATE DATABASE app OWNER app", dbname="postgres")
        c = psycopg2.connect(host=HOST, port=leader.port, user="app", dbname="app")
        with c:
            harness.rows(c, "CREATE TABLE items (id int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0);"
                            "INSERT INTO items SELECT g, 'v' || g, g FROM generate_series(1, 100) g;"
                            "CREATE FUNCTION node_name() RETURNS text STABLE LANGUAGE sql AS "
                            "$$ SELECT CASE WHEN pg_is_in_recovery() THEN 'replica' ELSE 'primary' END $$")
        c.close()

    def whole(self):
        return sorted(str(m.role()) for m in self.servers) == ["primary", "replica", "replica"]

    def leader(self):
        """By Patroni."""
        for m in self.servers:
            try:
                found = [x for x in m.get("/cluster")["members"] if x["role"] == "leader"]
                return next((s for s in self.servers if found and s.port == found[0]["port"]), None)
            except (OSError, ValueError):
                continue
        return None

    def switchover(self, old, new):
        body = json.dumps({"leader": old.name, "candidate": new.name}).encode()
        request = urllib.request.Request(f"http://{HOST}:{old.rest}/switchover", data=body, method="POST",
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as r:
                return r.read().decode()
        except urllib.error.HTTPError as e:
            raise AssertionError(f"switchover: {e.code} {e.read().decode()}") from e

    @property
    def primary(self):
        return self.servers[0]

    @property
    def standbys(self):
        return self.servers[1:]

    def urls(self):
        return ", ".join(f"http://{HOST}:{m.rest}" for m in self.servers)

    def destroy(self):
        atexit.unregister(self.destroy)
        for m in getattr(self, "servers", []):
            if m.process is not None and m.process.poll() is None:
                m.process.kill()
                m.process.wait()
            m.kill_server(m.postmaster())
        for p in self.processes:
            if p.poll() is None:
                p.kill()
                p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
