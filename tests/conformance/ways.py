# SPDX-License-Identifier: PostgreSQL
"""The ways a suite is run: directly on a primary, then through Tidemark in front of the same kind of fleet, and
PgBouncer for comparison. Every way gets a fleet of its own, fresh from initdb, with two asynchronous standbys.
"""

import os
import pwd
import re
import shutil
import subprocess
import tempfile

import harness

CONF = """
max_connections = 300
log_statement = all
log_min_messages = log
log_min_error_statement = panic
log_line_prefix = '%d %a|'
"""

# What the router asks for itself.
OWN = re.compile(r"pg_current_wal_insert_lsn|pg_last_wal_replay_lsn|pg_is_in_recovery|pg_walfile_name")
SELECT = re.compile(rb"^\S* .*?\|LOG:  (?:statement|execute [^:]*|execute fetch from [^:]*): "
                    rb"(?:/\*.*?\*/)?[\s(]*(?:SELECT|TABLE|VALUES|WITH)\b", re.I)


def account():
    """Who runs the servers, and the suites: some of them read what the server wrote, and the other way round."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


class Way:
    """One way to a fresh fleet: .port is where the suite connects."""

    name = None

    def __init__(self):
        self.fleet = harness.Fleet(standbys=2, extra_conf=CONF)
        self.dir = tempfile.mkdtemp(prefix="tidemark-conformance-")
        os.chown(self.dir, account().pw_uid, account().pw_gid)
        os.chmod(self.dir, 0o755)
        self.start()

    def start(self):
        self.port = self.fleet.primary.port

    def selects(self):
        """How many SELECTs each server has been sent: {name: count}."""
        out = {}
        for s in self.fleet.servers:
            n = 0
            with open(s.log, "rb") as f:
                for line in f:
                    if SELECT.match(line) and not OWN.search(line.decode("utf-8", "replace")):
                        n += 1
            out[s.name] = n
        return out

    def notes(self):
        return {}

    def stop(self):
        self.fleet.destroy()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Bare:
    """For suites that make their own servers: a directory, and which way it is."""

    def __init__(self, name):
        self.name = name
        self.dir = tempfile.mkdtemp(prefix="tidemark-conformance-")
        os.chown(self.dir, account().pw_uid, account().pw_gid)
        os.chmod(self.dir, 0o755)

    def notes(self):
        return {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir, ignore_errors=True)


class Direct(Way):
    name = "direct"


class Tidemark(Way):
    name = "tidemark"

    def start(self):
        self.router = harness.Tidemark(self.fleet, default_pool_size=60)
        self.port = self.router.port

    def notes(self):
        selects = self.selects()
        all_ = sum(selects.values())
        on_replicas = all_ - selects["primary"]
        routing = self.router.routing()
        return {
            "selects": all_, "selects_on_replicas": on_replicas,
            "share": f"{100 * on_replicas / all_:.1f} %" if all_ else "none",
            "reads_total": routing["reads_total"], "reads_replica": routing["reads_replica"],
            "retried": routing["retried"], "wait_timeouts": routing["wait_timeouts"],
        }

    def stop(self):
        try:
            self.router.stop()
        finally:
            super().stop()


class PgBouncer(Way):
    """Primary only: PgBouncer does not split."""

    mode = None

    def start(self):
        self.port = harness.free_port()
        ini = os.path.join(self.dir, "pgbouncer.ini")
        users = os.path.join(self.dir, "users")
        with open(users, "w") as f:
            f.write("".join(f'"{u}" ""\n' for u in ("postgres", "app")))
        with open(ini, "w") as f:
            f.write(f"[databases]\n* = host={harness.HOST} port={self.fleet.primary.port}\n[pgbouncer]\n"
                    f"listen_addr = {harness.HOST}\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
                    f"pool_mode = {self.mode}\ndefault_pool_size = 60\nmax_client_conn = 500\n"
                    "ignore_startup_parameters = extra_float_digits,options\nserver_lifetime = 0\n")
        me = account()
        # auth_type any logs everybody in as the user of the database line; with none there, as themselves.
        text = open(ini).read().replace("auth_type = any", f"auth_type = trust\nauth_file = {users}")
        open(ini, "w").write(text)
        self.log = os.path.join(self.dir, "pgbouncer.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["/usr/sbin/pgbouncer", ini], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, user=me.pw_uid, group=me.pw_gid,
                                            extra_groups=[])

    def stop(self):
        self.process.kill()
        self.process.wait()
        super().stop()


class PgBouncerSession(PgBouncer):
    name = "pgbouncer-session"
    mode = "session"


class PgBouncerTransaction(PgBouncer):
    name = "pgbouncer-transaction"
    mode = "transaction"


WAYS = {w.name: w for w in (Direct, Tidemark, PgBouncerSession, PgBouncerTransaction)}
