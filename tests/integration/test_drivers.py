# SPDX-License-Identifier: PostgreSQL
"""Unmodified clients: psql, pgbench, libpq in C, psycopg2, node-postgres, pgjdbc. Each test runs against plain
PostgreSQL and against Tidemark, so a wrong expectation shows at once."""

import io
import json
import os
import re
import subprocess

import psycopg2
import psycopg2.extras
import pytest

import harness
from harness import HOST, rows, value, wait_until
from test_recipes import PGJDBC

# ---- psql ----

# The same input must give the same output, the same errors and the same exit status.
PSQL = {
    "select": ["-c", "SELECT id, v FROM items WHERE id < 4 ORDER BY id"],
    "several -c": ["-c", "SELECT 1", "-c", "SELECT 2"],
    "multi-statement": ["-c", "SELECT 1; SELECT 2; SELECT 3"],
    "multi-statement with error": ["-c", "SELECT 1; SELECT 1/0; SELECT 3"],
    "error": ["-c", "SELECT nothing FROM nowhere"],
    "syntax error": ["-c", "SELEC 1"],
    "empty": ["-c", ""],
    "only a comment": ["-c", "-- nothing"],
    "unicode": ["-c", "SELECT 'Ünïcödé ⚑ 水'"],
    "expanded": ["-x", "-c", "SELECT 1 AS a, NULL AS b"],
    "single transaction": ["-1", "-c", "SELECT 1", "-c", "SELECT 2"],
    "set and show": ["-c", "SET work_mem = '5MB'", "-c", "SHOW work_mem"],
    "transaction": ["-c", "BEGIN", "-c", "SELECT 1/0", "-c", "SELECT 1", "-c", "ROLLBACK", "-c", "SELECT 2"],
    "transaction in one string": ["-c", "BEGIN; SELECT 5; ROLLBACK; SELECT 6"],
    "cursor": ["-c", "BEGIN; DECLARE c CURSOR FOR SELECT id FROM items ORDER BY id; FETCH 3 FROM c; COMMIT"],
    "temporary table": ["-c", "CREATE TEMP TABLE t (a int)", "-c", "INSERT INTO t VALUES (3)", "-c", "TABLE t"],
    "explain": ["-c", "EXPLAIN (COSTS OFF) SELECT * FROM items WHERE id = 1"],
    "do with notice": ["-c", "DO $$ BEGIN RAISE NOTICE 'hello %', 1; END $$"],
    "prepare and execute": ["-c", "PREPARE p(int) AS SELECT $1 + 1", "-c", "EXECUTE p(4)", "-c", "DEALLOCATE p"],
    "copy to stdout": ["-c", "COPY (SELECT id, v FROM items WHERE id < 5 ORDER BY id) TO STDOUT"],
    "\\d": ["-c", "\\d items"],
    "\\dt": ["-c", "\\dt items"],
    "\\df": ["-c", "\\df no_such_function"],
    "values": ["-A", "-t", "-c", "VALUES (1, 'x'), (2, 'y')"],
    "write and read": ["-c", "UPDATE items SET v = 'psql' WHERE id = 31", "-c", "SELECT v FROM items WHERE id = 31",
                       "-c", "UPDATE items SET v = 'v31' WHERE id = 31"],
    "isolation": ["-c", "BEGIN ISOLATION LEVEL REPEATABLE READ", "-c", "SHOW transaction_isolation", "-c", "COMMIT",
                  "-c", "SHOW transaction_isolation"],
    "verbose error": ["-v", "VERBOSITY=verbose", "-c", "SELECT 1/0"],
}


@pytest.mark.parametrize("name", PSQL)
def test_psql_answers_as_on_one_server(fleet, tm, name):
    want = harness.Direct(fleet).psql(*PSQL[name])
    got = tm.psql(*PSQL[name])
    assert (got.returncode, got.stdout, got.stderr) == (want.returncode, want.stdout, want.stderr)


def test_psql_script_from_stdin(fleet, tm):
    script = "".join(f"SELECT {i};\n" for i in range(50)) + "\\gdesc\nSELECT 1 \\bind \\g\n" + \
        "SELECT $1::int + 1 \\bind 41 \\g\nSELECT 'a' AS x \\gset\n\\echo :x\nSELECT id FROM items LIMIT 0 \\gdesc\n"
    want = harness.Direct(fleet).psql("-A", "-t", stdin=script)
    got = tm.psql("-A", "-t", stdin=script)
    assert (got.returncode, got.stdout, got.stderr) == (want.returncode, want.stdout, want.stderr)


def test_psql_copy_in_and_out(target, tmp_path):
    out = tmp_path / "out.txt"
    data = "".join(f"{i}\tline {i}\n" for i in range(3000))
    (tmp_path / "in.txt").write_text(data)
    r = target.psql("-v", "ON_ERROR_STOP=1", "-c", "TRUNCATE scratch",
                    "-c", f"\\copy scratch FROM '{tmp_path}/in.txt'",
                    "-c", f"\\copy (SELECT * FROM scratch ORDER BY id) TO '{out}'")
    assert r.returncode == 0, r.stderr
    assert "COPY 3000" in r.stdout
    assert out.read_text() == data


def test_psql_copy_with_bad_data_fails_and_goes_on(target):
    r = target.psql("-c", "TRUNCATE scratch", "-c", "\\copy scratch FROM STDIN", "-c", "SELECT 'still ' || 'here'",
                    stdin="1\tfine\nnot a number\tx\n\\.\n")
    assert "invalid input syntax" in r.stderr
    assert "still here" in r.stdout


def test_psql_fetch_count_uses_cursors(target):
    r = target.psql("-A", "-t", "-v", "FETCH_COUNT=100", "-c", "SELECT id FROM big ORDER BY id")
    assert r.returncode == 0, r.stderr
    assert len(r.stdout.split()) == 2000


# ---- pgbench ----

@pytest.fixture(scope="module")
def pgbench_tables(shared_fleet):
    r = subprocess.run(["pgbench", "-i", "-q", "-s", "1", "-h", HOST, "-p", str(shared_fleet.primary.port),
                        "-U", "app", "app"], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    shared_fleet.sync()


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("script", ["select-only", "tpcb-like", "simple-update"])
def test_pgbench_runs_without_errors(tm, pgbench_tables, fleet, mode, script):
    r = subprocess.run(["pgbench", "-n", "-M", mode, "-b", script, "-c", "8", "-j", "2", "-t",
                        "300" if script == "select-only" else "60", "-h", HOST, "-p", str(tm.port), "-U", "app",
                        "app"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stderr
    assert re.search(r"number of failed transactions: 0\b", r.stdout), r.stdout
    if script == "tpcb-like":
        totals = fleet.primary.sql("SELECT sum(abalance), (SELECT sum(bbalance) FROM pgbench_branches), "
                                   "(SELECT sum(tbalance) FROM pgbench_tellers), "
                                   "(SELECT coalesce(sum(delta), 0) FROM pgbench_history WHERE tid IS NOT NULL) "
                                   "FROM pgbench_accounts")[0]
        assert totals[1] == totals[2], f"the ledgers disagree: {totals}"


def test_pgbench_reconnects(tm, pgbench_tables):
    r = subprocess.run(["pgbench", "-n", "-S", "-C", "-c", "4", "-t", "40", "-h", HOST, "-p", str(tm.port),
                        "-U", "app", "app"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stderr


def test_pgbench_selects_go_to_replicas(tm, pgbench_tables):
    before = tm.routing()
    subprocess.run(["pgbench", "-n", "-S", "-M", "prepared", "-c", "4", "-t", "200", "-h", HOST, "-p", str(tm.port),
                    "-U", "app", "app"], capture_output=True, text=True, timeout=60, check=True)
    after = tm.routing()
    replica = after["reads_replica"] - before["reads_replica"]
    assert replica >= 760, f"only {replica} of 800 reads went to a replica though nothing was written"


# ---- libpq ----

LIBPQ_CASES = ["pipeline", "pipeline_flush_request", "pipeline_write_then_read", "pipeline_error", "single_row",
               "prepared", "copy_both_ways", "copy_failed_by_client", "notice", "cancel", "large_values"]


@pytest.mark.parametrize("case", LIBPQ_CASES)
def test_libpq(target, libpq_client, case):
    r = subprocess.run([libpq_client, f"host={HOST} port={target.port} user=app dbname=app connect_timeout=10", case],
                       capture_output=True, text=True, timeout=40)
    assert r.returncode == 0 and r.stdout == f"ok {case}\n", r.stdout + r.stderr


# ---- psycopg2 ----

def test_psycopg2_autocommit(target):
    c = target.connect()
    for i in range(50):
        rows(c, "UPDATE items SET n = %s WHERE id = 41", i)
        assert value(c, "SELECT n FROM items WHERE id = 41") == i
    assert value(c, "SELECT %s::text", "quote ' \\ and ünicode") == "quote ' \\ and ünicode"


def test_psycopg2_transactions(target):
    c = target.connect(autocommit=False)
    before = value(c, "SELECT n FROM items WHERE id = 42")
    rows(c, "UPDATE items SET n = n + 1 WHERE id = 42")
    assert value(c, "SELECT n FROM items WHERE id = 42") == before + 1
    c.rollback()
    assert value(c, "SELECT n FROM items WHERE id = 42") == before
    rows(c, "UPDATE items SET n = n + 1 WHERE id = 42")
    c.commit()
    assert value(c, "SELECT n FROM items WHERE id = 42") == before + 1
    c.commit()
    with pytest.raises(psycopg2.errors.DivisionByZero):
        rows(c, "SELECT 1/0")
    with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
        rows(c, "SELECT 1")
    c.rollback()
    assert value(c, "SELECT 1") == 1


def test_psycopg2_savepoints(target):
    c = target.connect(autocommit=False)
    rows(c, "UPDATE items SET n = 100 WHERE id = 43")
    rows(c, "SAVEPOINT s")
    rows(c, "UPDATE items SET n = 200 WHERE id = 43")
    with pytest.raises(psycopg2.errors.DivisionByZero):
        rows(c, "SELECT 1/0")
    rows(c, "ROLLBACK TO s")
    assert value(c, "SELECT n FROM items WHERE id = 43") == 100
    c.commit()
    assert value(c, "SELECT n FROM items WHERE id = 43") == 100


def test_psycopg2_named_cursor(target):
    c = target.connect(autocommit=False)
    cur = c.cursor(name="walk")
    cur.itersize = 100
    cur.execute("SELECT id FROM big ORDER BY id")
    assert [r[0] for r in cur] == list(range(1, 2001))
    cur.close()
    c.commit()


def test_psycopg2_named_cursor_with_hold(target):
    c = target.connect(autocommit=False)
    cur = c.cursor(name="hold", withhold=True)
    cur.execute("SELECT id FROM big ORDER BY id LIMIT 50")
    c.commit()
    other = c.cursor()
    other.execute("SELECT 1")
    c.commit()
    assert len(cur.fetchall()) == 50
    cur.close()
    c.commit()


def test_psycopg2_readonly_session(target):
    c = target.connect(autocommit=False)
    c.set_session(readonly=True, isolation_level="REPEATABLE READ")
    assert value(c, "SHOW transaction_read_only") == "on"
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        rows(c, "UPDATE items SET n = 1 WHERE id = 44")
    c.rollback()
    c.set_session(readonly=False)
    rows(c, "UPDATE items SET n = 1 WHERE id = 44")
    c.commit()


def test_psycopg2_copy_expert(target):
    c = target.connect()
    cur = c.cursor()
    cur.execute("TRUNCATE scratch")
    cur.copy_expert("COPY scratch FROM STDIN (FORMAT csv)", io.StringIO("".join(f"{i},x\n" for i in range(5000))))
    assert cur.rowcount == 5000
    # A write by COPY is a write: its rows are there for the read that follows.
    assert value(c, "SELECT count(*) FROM scratch") == 5000
    out = io.StringIO()
    cur.copy_expert("COPY scratch TO STDOUT", out)
    assert out.getvalue().count("\n") == 5000


def test_psycopg2_execute_values(target):
    c = target.connect()
    rows(c, "TRUNCATE scratch")
    with c.cursor() as cur:
        psycopg2.extras.execute_values(cur, "INSERT INTO scratch VALUES %s", [(i, "y" * 50) for i in range(3000)],
                                       page_size=1000)
    assert value(c, "SELECT count(*) FROM scratch") == 3000


def test_psycopg2_notify(target):
    c = target.connect()
    rows(c, "LISTEN channel_a")
    d = target.connect()
    rows(d, "NOTIFY channel_a, 'payload'")
    harness.wait_until(lambda: (c.poll(), c.notifies)[1], 5, "the notification")
    assert c.notifies[0].payload == "payload"


def test_psycopg2_two_phase(target):
    c = target.connect(autocommit=False)
    x = c.xid(1, f"gtrid-{os.getpid()}", "branch")
    c.tpc_begin(x)
    rows(c, "UPDATE items SET n = 777 WHERE id = 45")
    c.tpc_prepare()
    c.tpc_commit()
    assert value(c, "SELECT n FROM items WHERE id = 45") == 777
    c.rollback()
    rows(c, "UPDATE items SET n = 0 WHERE id = 45")
    c.commit()


# ---- node-postgres ----

@pytest.fixture(scope="module")
def node_modules():
    path = os.path.join(harness.ROOT, ".deps", "node_modules")
    assert os.path.isdir(os.path.join(path, "pg")), \
        f"node-postgres is missing from {path}: run `npm install --prefix .deps pg` (the project's bootstrap does)"
    return path


def test_node_postgres(target, node_modules):
    r = subprocess.run(["node", os.path.join(os.path.dirname(__file__), "node_client.js"), str(target.port)],
                       capture_output=True, text=True, timeout=60, env=dict(os.environ, NODE_PATH=node_modules))
    assert r.returncode == 0, r.stdout + r.stderr
    assert r.stdout.count("ok ") == 9, r.stdout + r.stderr


# ---- pgjdbc ----

def test_pgjdbc_keeps_tenants_apart_and_binds_nobody(router, fleet):
    """search_path set in transactions, by the driver's own batches, over fewer connections than there are clients."""
    tenants = ["tenant_a", "tenant_b", "tenant_c", "tenant_d"]
    fleet.primary.sql("".join(f"CREATE SCHEMA {s} AUTHORIZATION app; CREATE TABLE {s}.tenant AS SELECT '{s}' AS who; "
                              f"GRANT SELECT ON {s}.tenant TO app; " for s in tenants))
    try:
        fleet.sync()
        t = router(default_pool_size=2)
        java = subprocess.Popen(["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", PGJDBC,
                                 os.path.join(os.path.dirname(__file__), "Tenants.java"), f"{HOST}:{t.port}"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert java.stdout.readline() == "wrong=0 seen=800\n"
            clients = [r for r in t.show("CLIENTS") if r["database"] == "app"]
            assert [r["bound"] for r in clients] == [""] * len(tenants), clients
        finally:
            java.communicate(timeout=20)
    finally:
        fleet.primary.sql("".join(f"DROP SCHEMA {s} CASCADE; " for s in tenants))


# ---- Django ----

def test_django_on_a_server_with_another_time_zone_binds_nobody(router, fleet):
    fleet.primary.sql("ALTER DATABASE app SET timezone = 'Asia/Tokyo'")
    try:
        fleet.sync()
        t = router(scope="connection", default_pool_size=2)
        others = [t.connect() for _ in range(2)]
        wait_until(lambda: all(d["catalog"] == "current" for d in t.show("DATABASES")), 10, "the catalog")
        assert {value(c, "SELECT to_char('2020-01-01 00:00+00'::timestamptz, 'TZH') FROM items WHERE id = 1") for c in others} == {"+09"}
        script = os.path.join(os.path.dirname(__file__), "django_client.py")
        clients = [subprocess.Popen(["/usr/bin/python3", script, f"{HOST}:{t.port}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                   for _ in range(3)]
        try:
            for c in clients:
                seen = set(json.loads(c.stdout.readline()))
                assert {"+00 primary"} < seen <= {"+00 primary", "+00 replica1", "+00 replica2"}, seen
            assert {r["bound"] for r in t.show("CLIENTS") if r["database"] == "app"} == {""}
            assert {value(c, "SELECT to_char('2020-01-01 00:00+00'::timestamptz, 'TZH') FROM items WHERE id = 1") for c in others} == {"+09"}
        finally:
            for c in clients:
                c.communicate(timeout=20)
    finally:
        fleet.primary.sql("ALTER DATABASE app RESET timezone")
