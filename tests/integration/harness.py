# SPDX-License-Identifier: PostgreSQL
"""Real servers for the integration tests.

Fleet     a PostgreSQL primary and N streaming standbys in a temporary directory, which the tests
          may pause, delay, restart, kill and promote.
Tidemark  the router in front of a fleet, with its log, its admin console and its HTTP port; stop()
          fails the test if the router crashed, leaked past a sanitizer or logged a fault of its own.

Every server is a direct child which the kernel kills when the test process dies, so an aborted run
leaves no process behind. All traffic stays on 127.0.0.1.
"""

import atexit
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

import psycopg2

import rawpg

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("TIDEMARK_BUILD", os.path.join(ROOT, "build"))
PROGRAM = os.environ.get("TIDEMARK_PROGRAM", os.path.join(BUILD, "tidemark"))
FAULTY_PROGRAM = os.path.join(BUILD, "tests", "tidemark-faulty")
WORKLOAD = os.path.join(BUILD, "demo", "tidemark-workload")
PG_BIN = os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin")
HOST = "127.0.0.1"

# The name of the server that answers: every server has its own node.name in its configuration. A function
# of the user's, declared STABLE, is a plain read; current_setting() itself is not.
WHERE = "public.node_name()"

PASSWORD = "pencil '\"\\ 7"


def tied(argv, sig, owner=()):
    """The command that gets `sig` when the thread that starts it ends, as `owner` (servers_dir()). Not by preexec_fn, nor by
    subprocess' user: with those all of Python is copied first, which takes as long as a test."""
    return ["setpriv", "--pdeathsig", sig.name[3:], *owner, "--", *argv]


_given_ports = set()


def free_port():
    """A port nobody listens on, never the same one twice."""
    while True:
        with socket.socket() as s:
            s.bind((HOST, 0))
            port = s.getsockname()[1]
        if port not in _given_ports:
            _given_ports.add(port)
            return port


def wait_until(condition, timeout=10.0, what="condition", interval=0.02):
    """Polls until `condition()` is true and returns its value; fails with `what` (a text, or a function that
    makes it then) after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"timed out after {timeout} s waiting for: {what() if callable(what) else what}")
        time.sleep(interval)


def tail(path, lines=40):
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-lines:])
    except OSError as e:
        return f"(no log: {e})"


# ---- PostgreSQL ---------------------------------------------------------------------------------

CONF = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 24MB
fsync = off
full_page_writes = off
wal_level = replica
max_wal_senders = 10
wal_keep_size = 256MB
max_wal_size = 1GB
checkpoint_timeout = 1h
autovacuum = off
max_prepared_transactions = 50
hot_standby = on
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 200ms
log_line_prefix = '%m [%p] %u@%d '
lc_messages = 'C'
timezone = 'UTC'
log_timezone = 'UTC'
datestyle = 'iso, mdy'
jit = off
"""

# One user for each way a server may ask for a password; everybody else is trusted.
HBA = """
host all         u_md5   127.0.0.1/32 md5
host all         u_scram 127.0.0.1/32 scram-sha-256
host all         u_plain 127.0.0.1/32 password
host all         all     127.0.0.1/32 trust
host replication all     127.0.0.1/32 trust
"""

SCHEMA = """
CREATE TABLE items (id int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0);
INSERT INTO items SELECT g, 'v' || g, g FROM generate_series(1, 100) g;
CREATE TABLE big (id int PRIMARY KEY, pad text);
INSERT INTO big SELECT g, repeat(md5(g::text), 32) FROM generate_series(1, 2000) g;
CREATE TABLE scratch (id int PRIMARY KEY, v text);
CREATE SEQUENCE seq;
CREATE FUNCTION node_name() RETURNS text STABLE LANGUAGE sql AS $$ SELECT current_setting('node.name') $$;
CREATE FUNCTION setting(name text) RETURNS text STABLE LANGUAGE sql AS $$ SELECT current_setting(name, true) $$;
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, v text);
"""


def servers_dir(prefix):
    """A directory of their own for servers, and setpriv's options to run them as its owner: PostgreSQL refuses root."""
    path = tempfile.mkdtemp(prefix=prefix)
    os.chmod(path, 0o755)
    if os.geteuid() != 0:
        return path, []
    account = pwd.getpwnam("postgres")
    os.chown(path, account.pw_uid, account.pw_gid)
    return path, [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]


def server_pids(postmaster):
    """The postmaster and its children, which have sessions and process groups of their own."""
    try:
        with open(f"/proc/{postmaster}/task/{postmaster}/children") as f:
            return [postmaster, *map(int, f.read().split())]
    except OSError:
        return []  # it is gone


def signal_all(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def kill_server(process):
    """SIGKILL to all of it. No new one can start while one of the old has its memory."""
    process.send_signal(signal.SIGSTOP)  # it has no more children from here on
    pids = server_pids(process.pid)
    signal_all(pids, signal.SIGKILL)
    process.wait(10)

    def runs(pid):
        try:
            with open(f"/proc/{pid}/stat") as f:
                return f.read().rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False
    wait_until(lambda: not any(map(runs, pids)), 10, f"the processes {pids} to be gone")


class Server:
    """One PostgreSQL server of a fleet."""

    def __init__(self, fleet, index):
        self.fleet = fleet
        self.index = index
        self.name = "primary" if index == 0 else f"replica{index}"
        self.dir = os.path.join(fleet.dir, self.name)
        self.log = os.path.join(fleet.dir, self.name + ".log")
        self.port = free_port()
        self.process = None
        self.kept = threading.local()  # connections by database

    def start(self, wait=True):
        assert self.process is None, f"{self.name} already runs"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                tied([os.path.join(PG_BIN, "postgres"), "-D", self.dir, "-p", str(self.port)], signal.SIGQUIT,
                     self.fleet.owner), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout=30):
        def answers():
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{tail(self.log)}")
            try:
                self.connect(dbname="postgres").close()
                return True
            except psycopg2.OperationalError:
                return False

        wait_until(answers, timeout, f"{self.name} to accept connections; log {self.log}")

    def stop(self, mode="fast"):
        """smart, fast, immediate, or kill (SIGKILL to every process of the server)."""
        if self.process is None:
            return
        process, self.process = self.process, None
        self.kept = threading.local()  # a smart shutdown would wait for them
        if mode == "kill":
            kill_server(process)
            return
        process.send_signal({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            raise AssertionError(f"{self.name} did not stop ({mode}) within 30 s")

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def connect(self, dbname="app", user="postgres", **kw):
        conn = psycopg2.connect(host=HOST, port=self.port, dbname=dbname, user=user,
                                connect_timeout=5, **kw)
        conn.autocommit = True
        return conn

    def sql(self, text, *args, dbname="app"):
        """Runs a statement straight on this server as superuser; the rows, or [] if it has none. A query runs on a
        connection that is kept: a new one costs the server a process, and many queries are polls."""
        if text.startswith("SELECT") and ";" not in text and "set_config" not in text:
            return self._query(text, args, dbname)
        conn = self.connect(dbname=dbname)
        try:
            return rows(conn, text, *args)
        finally:
            conn.close()

    def _query(self, text, args, dbname):
        kept = self.kept.__dict__
        again = dbname in kept
        conn = kept[dbname] = kept.get(dbname) or self.connect(dbname=dbname, application_name="tidemark tests")
        try:
            return rows(conn, text, *args)
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            if conn.closed:
                del kept[dbname]
            if not conn.closed or not again:
                raise
        return self._query(text, args, dbname)  # the server has ended it since

    def value(self, text, *args, dbname="app"):
        return self.sql(text, *args, dbname=dbname)[0][0]

    def conninfo(self, user="postgres", dbname="app"):
        return f"host={HOST} port={self.port} user={user} dbname={dbname}"


class Fleet:
    """A primary (index 0) and `standbys` streaming standbys (index 1…)."""

    def __init__(self, standbys=2, extra_conf=""):
        self.dir, self.owner = servers_dir("tidemark-it-")
        atexit.register(self.destroy)
        self.paused = set()
        self.delayed = set()
        self.servers = [Server(self, i) for i in range(standbys + 1)]
        self._create(extra_conf)

    def _run(self, *argv):
        r = subprocess.run(["setpriv", *self.owner, "--", *argv], capture_output=True, text=True, cwd=self.dir)
        assert r.returncode == 0, f"{' '.join(argv)} failed:\n{r.stdout}{r.stderr}"

    def _create(self, extra_conf):
        primary = self.servers[0]
        self._run(os.path.join(PG_BIN, "initdb"), "-D", primary.dir, "-U", "postgres", "-A", "trust",
                  "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
        with open(os.path.join(primary.dir, "postgresql.conf"), "a") as f:
            f.write(CONF + extra_conf)
        with open(os.path.join(primary.dir, "pg_hba.conf"), "w") as f:
            f.write(HBA)
        # A directory fresh from initdb was shut down cleanly: a copy of it is a base backup.
        for standby in self.servers[1:]:
            self._run("cp", "-a", primary.dir, standby.dir)
            with open(os.path.join(standby.dir, "standby.signal"), "w"):
                pass
        for server in self.servers:
            with open(os.path.join(server.dir, "postgresql.conf"), "a") as f:
                f.write(f"node.name = '{server.name}'\n")
                if server is not primary:
                    f.write(f"primary_conninfo = 'host={HOST} port={primary.port} user=postgres "
                            f"application_name={server.name}'\n")
        for server in self.servers:
            server.start(wait=False)
        for server in self.servers:
            server.wait_ready()
        self._populate()
        self.sync()

    def _populate(self):
        primary = self.servers[0]
        literal = PASSWORD.replace("'", "''")
        primary.sql("CREATE ROLE app LOGIN; GRANT pg_monitor TO app; CREATE ROLE other LOGIN; "
                    "GRANT other TO app; CREATE ROLE pooluser LOGIN; CREATE ROLE u_trust LOGIN; "
                    "SET password_encryption = 'md5'; "
                    f"CREATE ROLE u_md5 LOGIN PASSWORD '{literal}'; "
                    "SET password_encryption = 'scram-sha-256'; "
                    f"CREATE ROLE u_scram LOGIN PASSWORD '{literal}'; "
                    f"CREATE ROLE u_plain LOGIN PASSWORD '{literal}'", dbname="postgres")
        primary.sql("CREATE DATABASE app OWNER app", dbname="postgres")
        conn = primary.connect(user="app")
        rows(conn, "GRANT ALL ON SCHEMA public TO public;" + SCHEMA)
        rows(conn, "GRANT ALL ON ALL TABLES IN SCHEMA public TO public")
        conn.close()

    @property
    def primary(self):
        return self.servers[0]

    @property
    def standbys(self):
        return self.servers[1:]

    def server(self, name):
        return next(s for s in self.servers if s.name == name)

    def psql(self, *args, server=0, stdin=None, dbname="app", user="app"):
        return psql(self.servers[server].port, *args, stdin=stdin, dbname=dbname, user=user)

    # ---- replication under the tests' control ----

    def sync(self, timeout=20):
        """Waits until every running standby has replayed all there is now."""
        # Flushed by the commit itself, and free of the next page's header (unlike the insert pointer).
        self.primary.sql("SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'sync', '')")
        want = self.primary.value("SELECT pg_current_wal_flush_lsn()")
        for s in self.standbys:
            if s.process is None:
                continue
            wait_until(lambda: s.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", want,
                                       dbname="postgres"),
                       timeout, f"{s.name} to replay {want}")

    def sync_quietly(self, timeout=10):
        """The same without writing anything: until the standbys have replayed what was flushed."""
        want = self.primary.value("SELECT pg_current_wal_flush_lsn()")
        for s in self.standbys:
            wait_until(lambda: s.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", want), timeout,
                       f"{s.name} to replay {want}")

    def pause_replay(self, i):
        self.paused.add(i)
        self.servers[i].sql("SELECT pg_wal_replay_pause()")
        wait_until(lambda: self.servers[i].value("SELECT pg_get_wal_replay_pause_state()") == "paused",
                   15, f"{self.servers[i].name} to pause replay")

    def resume_replay(self, i):
        self.paused.discard(i)
        self.servers[i].sql("SELECT pg_wal_replay_resume()")

    def set_delay(self, i, ms):
        """recovery_min_apply_delay of standby i, in milliseconds."""
        s = self.servers[i]
        if ms == 0 and i not in self.delayed:
            return
        (self.delayed.add if ms else self.delayed.discard)(i)
        s.sql(f"ALTER SYSTEM SET recovery_min_apply_delay = '{int(ms)}ms'")
        s.sql("SELECT pg_reload_conf()")
        wait_until(lambda: s.value("SELECT setting FROM pg_settings WHERE name = "
                                   "'recovery_min_apply_delay'") == str(int(ms)),
                   5, f"{s.name} to take the apply delay {ms} ms")

    def set_primary(self, name, value):
        """ALTER SYSTEM on the primary, reloaded; value None resets."""
        p = self.primary
        p.sql(f"ALTER SYSTEM SET {name} = '{value}'" if value is not None
              else f"ALTER SYSTEM RESET {name}")
        p.sql("SELECT pg_reload_conf()")
        time.sleep(0.1)

    def calm(self):
        """Back to the state every test may expect: everybody runs, no pause, no delay."""
        for s in self.servers:
            if s.process is None or s.process.poll() is not None:
                s.process = None
                s.start()
        for i in list(self.paused):
            self.resume_replay(i)
        for i in list(self.delayed):
            self.set_delay(i, 0)

    def promote(self, i):
        self.servers[i].sql("SELECT pg_promote(true, 30)")
        wait_until(lambda: not self.servers[i].value("SELECT pg_is_in_recovery()"), 20,
                   f"{self.servers[i].name} to be promoted")

    def restart(self, i, mode="fast"):
        self.servers[i].restart(mode)

    def stop(self, i, mode="fast"):
        self.servers[i].stop(mode)

    def kill(self, i):
        self.servers[i].stop("kill")

    def start(self, i):
        self.servers[i].start()

    def destroy(self):
        atexit.unregister(self.destroy)
        for s in self.servers:
            try:
                s.stop("immediate")
            except (AssertionError, ProcessLookupError):
                pass
        shutil.rmtree(self.dir, ignore_errors=True)


# ---- Tidemark -----------------------------------------------------------------------------------

# Marks of a fault of the router's own, wherever they stand in its log.
FAULT_MARKS = re.compile(r"\bBUG\b|AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|"
                         r"Assertion|stack smashing|buffer overflow detected|double free")

live = []  # routers that run, so that a failing test can show their logs


def end_hung_routers():
    for t in list(live):
        if t.process is not None:
            t.hung = True
            t.process.send_signal(signal.SIGABRT)


def outcome(code):
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"


class Tidemark:
    """A running router. Options by name, underscores for dashes: Tidemark(fleet, wait_timeout="1s").

    `config` (text) starts it from a file instead; {listen_port} and the like are the caller's.
    """

    def __init__(self, fleet, config=None, fault=None, replicas=None, wait=True, primary=None,
                 program=None, files=None, **options):
        self.fleet = fleet
        self.port = free_port()
        self.http_port = None
        self.dir = tempfile.mkdtemp(prefix="tidemark-router-")
        self.log = os.path.join(self.dir, "log")
        self.process = None
        self.expect_exit = 0
        self.hung = False
        for name, text in (files or {}).items():
            self.write(name, text)
        self.argv = [program or (FAULTY_PROGRAM if fault else PROGRAM)]
        if not os.access(self.argv[0], os.X_OK):
            raise AssertionError(f"{self.argv[0]} is not built; run make (or set TIDEMARK_PROGRAM, or "
                                 "TIDEMARK_DIRECT_ONLY=1 to run what needs plain PostgreSQL only)")
        self.replicas = fleet.standbys if replicas is None else replicas
        if config is not None:
            self.write("tidemark.ini", config)
            self.argv.append(self.path("tidemark.ini"))
        else:
            self.argv += ["--listen", f"{HOST}:{self.port}",
                          "--primary", primary or fleet.primary.conninfo()]
            for r in self.replicas:
                self.argv += ["--replica", r if isinstance(r, str) else r.conninfo()]
            options.setdefault("admin_users", "postgres")
            options.setdefault("shutdown_timeout", "3s")
        self.admin_password = options.pop("admin_password", None)
        self.tls = options.pop("tls", None)  # an SSLContext for the console, where it needs one
        if options.pop("http", False):
            self.http_port = free_port()
            options["http_listen"] = f"{HOST}:{self.http_port}"
        for name, value in options.items():
            self.argv += ["--" + name.replace("_", "-"),
                          str(value).replace("{dir}", self.dir)]
        if fault:
            self.argv += ["--test-fault", fault]
        self._start(wait)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text.replace("{dir}", self.dir).replace("{port}", str(self.port)))

    def _start(self, wait):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(tied(self.argv, signal.SIGKILL), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, cwd=self.dir)
        live.append(self)
        try:
            wait_until(self._listens, 15, f"{' '.join(self.argv)} to listen")
            if wait:
                self.wait_fleet()
                self._warm_up()
        except BaseException:
            live.remove(self)
            self.process.kill()
            self.process.wait()
            shutil.rmtree(self.dir, ignore_errors=True)
            raise

    def _listens(self):
        if self.process.poll() is not None:
            raise AssertionError(f"tidemark ended with {self.process.returncode} at start:\n"
                                 f"{' '.join(self.argv)}\n{tail(self.log)}")
        try:
            socket.create_connection((HOST, self.port), 1).close()
            return True
        except OSError:
            return False

    def wait_fleet(self, timeout=15):
        """Until the router knows a primary and a position for every replica it was given."""
        def known():
            fleet = self.show("FLEET")
            roles = [r["role"] for r in fleet if r["position"] not in (None, "", "0/0")]
            return "primary" in roles and roles.count("replica") >= len(self.replicas)

        try:
            wait_until(known, timeout, "the router to know its fleet")
        except AssertionError as e:
            raise AssertionError(f"{e}\nSHOW FLEET: {self.show('FLEET')}\n{tail(self.log)}")

    def _warm_up(self):
        """Until the catalog of database app is loaded: before that every function of the user's, harness.WHERE
        too, is taken for one that writes."""
        if self.admin_password is not None or not self.replicas:
            return
        c = self.connect(options="-c tidemark.consistency=eventual")
        try:
            wait_until(lambda: where(c) != "primary", 10,
                       lambda: f"the first read to go to a replica; {value(c, 'SHOW tidemark.route')}\n{tail(self.log)}")
        finally:
            c.close()

    # ---- ways in ----

    def connect(self, dbname="app", user="app", options=None, autocommit=True, **kw):
        conn = psycopg2.connect(host=HOST, port=self.port, dbname=dbname, user=user,
                                options=options or "", connect_timeout=10, **kw)
        conn.autocommit = autocommit
        return conn

    def psql(self, *args, stdin=None, dbname="app", user="app"):
        return psql(self.port, *args, stdin=stdin, dbname=dbname, user=user)

    def show(self, what):
        """SHOW … on the admin console: a list of dicts."""
        c = rawpg.Raw(HOST, self.port)
        try:
            if self.tls:
                c.start_tls(self.tls)
            c.startup(user="postgres", database="tidemark", password=self.admin_password)
            return c.query_dicts(f"SHOW {what}")
        finally:
            c.close()

    def admin(self, sql):
        """'SHOW ROUTING' → {name: value}; any other SHOW → list of dicts."""
        what = sql.strip().rstrip(";").split()[-1].upper()
        table = self.show(what)
        if what != "ROUTING":
            return table
        return {r["name"]: int(float(r["value"])) for r in table}

    def routing(self):
        return self.admin("SHOW ROUTING")

    def http(self, path):
        """(status, body) of a GET."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.http_port}{path}", timeout=5) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def log_text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    # ---- life ----

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def alive(self):
        return self.process.poll() is None

    def is_sanitized(self):
        """With AddressSanitizer memory that was freed is kept for a while."""
        with open(f"/proc/{self.process.pid}/maps") as f:
            return "libasan" in f.read()

    def resident_kb(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self, timeout=20):
        """SIGTERM, and the verdict over its whole life."""
        if self in live:
            live.remove(self)
        process, self.process = self.process, None
        if process is None:
            return
        early = process.poll()
        hung = False
        if early is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                hung = True
                process.kill()
                process.wait()
        log = self.log_text()
        code = process.returncode
        faults = [line for line in log.splitlines() if FAULT_MARKS.search(line)]
        shutil.rmtree(self.dir, ignore_errors=True)
        last = "\n".join(log.splitlines()[-12:])
        assert not faults, "the router logged a fault of its own:\n" + "\n".join(faults[:10]) + "\n" + last
        assert not self.hung, f"somebody was left without an answer, so the test was ended:\n{last}"
        assert early is None or early == self.expect_exit, \
            f"the router ended by itself, {outcome(early)}:\n{last}"
        assert not hung, f"the router did not end within {timeout} s of SIGTERM:\n{last}"
        assert code == self.expect_exit, f"the router ended on SIGTERM, but {outcome(code)}:\n{last}"

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.stop()
            return
        # The test has failed already; its own message comes first.
        print(f"--- log of {' '.join(self.argv)}\n{tail(self.log)}")
        try:
            self.stop()
        except AssertionError as e:
            print(f"--- and at its end: {e}")


def bad_start(*argv, timeout=15):
    """Runs the router where it must refuse to start: (status, stderr)."""
    r = subprocess.run([PROGRAM, *argv], capture_output=True, text=True, timeout=timeout,
                       stdin=subprocess.DEVNULL)
    return r.returncode, r.stdout + r.stderr


class Direct:
    """Plain PostgreSQL where a test would have Tidemark, to compare answer for answer."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.port = fleet.primary.port

    def connect(self, dbname="app", user="app", options=None, autocommit=True, **kw):
        conn = psycopg2.connect(host=HOST, port=self.port, dbname=dbname, user=user,
                                options=options or "", connect_timeout=10, **kw)
        conn.autocommit = autocommit
        return conn

    def psql(self, *args, stdin=None, dbname="app", user="app"):
        return psql(self.port, *args, stdin=stdin, dbname=dbname, user=user)


# ---- helpers ------------------------------------------------------------------------------------

def rows(conn, text, *args):
    with conn.cursor() as cur:
        cur.execute(text, args or None)
        return cur.fetchall() if cur.description else []


def value(conn, text, *args):
    return rows(conn, text, *args)[0][0]


def where(conn):
    """The name of the server that serves a plain read of this connection."""
    return value(conn, f"SELECT {WHERE}")


def psql(port, *args, stdin=None, dbname="app", user="app", timeout=60):
    """Runs psql -X; returns the finished process (stdout and stderr as text)."""
    env = dict(os.environ, PGCONNECT_TIMEOUT="10")
    return subprocess.run(["psql", "-X", "-h", HOST, "-p", str(port), "-U", user, "-d", dbname, *args],
                          input=stdin, capture_output=True, text=True, timeout=timeout, env=env)
