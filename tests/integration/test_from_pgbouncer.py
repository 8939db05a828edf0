# SPDX-License-Identifier: PostgreSQL
"""From a pgbouncer.ini, as PgBouncer's users have one, to a router that serves."""

import os
import stat
import subprocess

import psycopg2
import pytest

import harness
from harness import HOST, free_port, where

INI = """;;; as Debian ships it, more or less
[databases]
app = host={host} port={port} dbname=app pool_size=7
[users]
[pgbouncer]
logfile = /var/log/postgresql/pgbouncer.log
pidfile = /var/run/postgresql/pgbouncer.pid
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
pool_mode = transaction
admin_users = postgres
server_reset_query = DISCARD ALL
ignore_startup_parameters = extra_float_digits
"""


def run(*argv, cwd=None):
    return subprocess.run([harness.PROGRAM, *argv], capture_output=True, text=True, timeout=30, cwd=cwd)


@pytest.fixture
def ini(fleet, tmp_path):
    path = tmp_path / "pgbouncer.ini"
    path.write_text(INI.format(host=HOST, port=fleet.primary.port, listen=free_port()))
    return path


def test_check_config_says_what_changes(ini):
    r = run("check-config", "--from", str(ini))
    assert r.returncode == 0, r.stderr
    assert r.stdout == "OK\n"
    for line, key in ((6, "logfile"), (7, "pidfile"), (14, "server_reset_query"), (15, "ignore_startup_parameters")):
        assert f"pgbouncer.ini:{line}: {key}: not " in r.stderr, r.stderr
    assert "pool_mode" not in r.stderr


def test_the_written_file_is_private_and_says_the_same(ini, tmp_path):
    out = tmp_path / "tidemark.ini"
    assert run("check-config", "--from", str(ini), "--write", str(out)).returncode == 0
    assert stat.S_IMODE(os.stat(out).st_mode) == 0o600
    assert "pool_size=7" in out.read_text()
    assert run("check-config", str(out)).returncode == 0
    again = run("check-config", "--from", str(ini), "--write", str(out))
    assert again.returncode == 1 and "File exists" in again.stderr
    printed = run("check-config", "--from", str(ini), "--write", "-")
    assert printed.stdout == out.read_text()


def test_a_refusal_names_the_line_and_writes_nothing(ini, tmp_path):
    ini.write_text(ini.read_text() + "disable_pqexec = 1\n")
    out = tmp_path / "tidemark.ini"
    r = run("check-config", "--from", str(ini), "--write", str(out))
    assert r.returncode == 1
    assert "pgbouncer.ini:16: disable_pqexec: " in r.stderr
    assert not out.exists()


def test_two_configurations_are_one_too_many(ini):
    r = run("check-config", str(ini), "--from", str(ini))
    assert r.returncode == 1 and "second configuration file" in r.stderr


def test_the_router_starts_with_it_and_reads_it_again(fleet, ini, tmp_path):
    port = int(ini.read_text().split("listen_port = ")[1].split()[0])
    with open(tmp_path / "log", "wb") as log:
        p = subprocess.Popen([harness.PROGRAM, "--from", str(ini)] +
                             [w for s in fleet.standbys for w in ("--replica", s.conninfo())],
                             stdout=log, stderr=log, cwd=tmp_path)
    try:
        def connect(dbname):
            c = psycopg2.connect(host=HOST, port=port, dbname=dbname, user="postgres")
            c.autocommit = True
            return c

        def answers():
            try:
                connect("app").close()
                return True
            except psycopg2.OperationalError:
                return False

        harness.wait_until(answers, 15, "the router to answer")
        c = connect("app")
        names = {s.name for s in fleet.standbys}
        harness.wait_until(lambda: where(c) in names, 10, "a read on a replica")
        admin = connect("pgbouncer")
        with admin.cursor() as cur:
            cur.execute("SHOW DATABASES")
            row = dict(zip([d.name for d in cur.description], cur.fetchone()))
        assert row["name"] == "app" and row["port"] == fleet.primary.port and row["pool_size"] == 7
        ini.write_text(ini.read_text().replace("pool_size=7", "pool_size=8"))
        with admin.cursor() as cur:
            cur.execute("RELOAD")
            cur.execute("SHOW DATABASES")
            assert dict(zip([d.name for d in cur.description], cur.fetchone()))["pool_size"] == 8
    finally:
        p.terminate()
        assert p.wait(20) == 0, harness.tail(str(tmp_path / "log"))
