# SPDX-License-Identifier: PostgreSQL
"""The console beside PgBouncer's own: what was made for the one works with the other."""

import os
import signal
import subprocess
import tempfile

import psycopg2
import pytest

import harness
from harness import HOST, free_port, value, wait_until

PGBOUNCER = "/usr/sbin/pgbouncer"
# SHOW's words of 1.18 and 1.25. What 1.18 does not know is compared with what its successors' source has.
COMPARED = ["CLIENTS", "SERVERS", "SOCKETS", "ACTIVE_SOCKETS", "LISTS", "CONFIG", "DATABASES", "POOLS", "USERS", "STATS",
            "STATS_TOTALS", "STATS_AVERAGES", "TOTALS", "MEM", "DNS_HOSTS", "DNS_ZONES", "VERSION"]
NEWER = {
    "STATE": ["key", "value"],
    "PEERS": ["peer_id", "host", "port", "pool_size"],
    "PEER_POOLS": ["peer_id", "cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active_cancel", "sv_login"],
    "CLIENTS": ["type", "user", "database", "replication", "state", "addr", "port", "local_addr", "local_port", "connect_time",
                "request_time", "wait", "wait_us", "close_needed", "ptr", "link", "remote_pid", "tls", "application_name",
                "prepared_statements", "id"],
    "DATABASES": ["name", "host", "port", "database", "force_user", "pool_size", "min_pool_size", "reserve_pool_size",
                  "server_lifetime", "pool_mode", "load_balance_hosts", "max_connections", "current_connections",
                  "max_client_connections", "current_client_connections", "paused", "disabled"],
    "POOLS": ["database", "user", "cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active",
              "sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login", "maxwait",
              "maxwait_us", "pool_mode", "load_balance_hosts"],
    "USERS": ["name", "pool_size", "reserve_pool_size", "pool_mode", "max_user_connections", "current_connections",
              "max_user_client_connections", "current_client_connections"],
}
# Descriptors are handed to a successor with passwords: Tidemark hands none over, and says so.
REFUSED = ["FDS"]


@pytest.fixture(scope="module")
def pgbouncer(shared_fleet):
    if not os.access(PGBOUNCER, os.X_OK):
        pytest.fail("PgBouncer is not installed: packaging/bootstrap.sh check, or apt-get install pgbouncer")
    port = free_port()
    d = tempfile.mkdtemp(prefix="tidemark-pgbouncer-")
    os.chmod(d, 0o755)
    config = os.path.join(d, "pgbouncer.ini")
    with open(config, "w") as f:
        f.write(f"[databases]\napp = host={HOST} port={shared_fleet.primary.port}\n"
                f"[pgbouncer]\nlisten_addr = {HOST}\nlisten_port = {port}\nunix_socket_dir =\n"
                "auth_type = any\npool_mode = transaction\nadmin_users = postgres\n")
    process = subprocess.Popen(harness.tied([PGBOUNCER, "-q", config], signal.SIGINT, shared_fleet.owner),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    c = []

    def answers():
        try:
            c.append(console(port, "pgbouncer"))
            return True
        except psycopg2.OperationalError:
            return False

    wait_until(answers, 10, "PgBouncer to answer")
    yield c[0]
    c[0].close()
    process.kill()
    process.wait()


def console(port, dbname="pgbouncer", user="postgres"):
    c = psycopg2.connect(host=HOST, port=port, dbname=dbname, user=user)
    c.autocommit = True
    return c


def table(c, what):
    """(names, type OIDs, rows)"""
    with c.cursor() as cur:
        cur.execute(f"SHOW {what}")
        return [d.name for d in cur.description], [d.type_code for d in cur.description], cur.fetchall()


def in_order(wanted, have):
    """Is `wanted` what is left of `have` when some are taken out?"""
    rest = iter(have)
    return all(w in rest for w in wanted)


@pytest.mark.parametrize("what", COMPARED)
def test_columns_are_those_of_pgbouncer_1_18(tm, pgbouncer, what):
    value(tm.connect(), "SELECT 1")
    theirs, their_types, _ = table(pgbouncer, what)
    ours, our_types, _ = table(console(tm.port), what)
    assert in_order(theirs, ours), f"theirs {theirs}\nours {ours}"
    types = dict(zip(ours, our_types))
    assert [types[n] for n in theirs] == their_types, what


@pytest.mark.parametrize("what", sorted(NEWER))
def test_columns_are_those_of_pgbouncer_1_25(tm, what):
    ours, _, _ = table(console(tm.port), what)
    assert in_order(NEWER[what], ours), f"theirs {NEWER[what]}\nours {ours}"


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_shown_is_a_clear_error(tm, pgbouncer, what):
    with pytest.raises(psycopg2.Error) as e:
        table(console(tm.port), what)
    assert e.value.pgcode == "0A000"


def test_every_show_of_pgbouncer_is_compared_or_refused(pgbouncer):
    """PgBouncer's own help is the list: nothing of it is passed over."""
    with pgbouncer.cursor() as cur:
        cur.execute("SHOW HELP")
    help_text = " ".join(pgbouncer.notices)
    shown = {w for line in help_text.splitlines() if line.strip().startswith("SHOW")
             for w in line.split("SHOW", 1)[1].strip().split("|")}
    assert shown - {"HELP"} == set(COMPARED) | set(REFUSED)


def test_rows_of_lists_and_totals(tm, pgbouncer):
    for what in ("LISTS", "TOTALS"):
        theirs = [r[0] for r in table(pgbouncer, what)[2]]
        ours = [r[0] for r in table(console(tm.port), what)[2]]
        assert in_order(theirs, ours), (what, theirs, ours)


def test_what_the_prometheus_exporter_asks(tm):
    """prometheus-community/pgbouncer_exporter: these tables; rows told apart by their labels alone; figures as
    numbers, NULL included."""
    value(tm.connect(), "SELECT 1")
    c = console(tm.port)
    labels = {"databases": ["name", "host", "port", "database", "force_user", "pool_mode"], "stats_totals": ["database"],
              "pools": ["database", "user"]}
    figures = {"databases": ["pool_size", "reserve_pool", "max_connections", "current_connections", "paused", "disabled"],
               "stats_totals": ["query_count", "query_time", "bytes_received", "bytes_sent", "wait_time", "xact_count",
                                "xact_time"],
               "pools": ["cl_active", "cl_active_cancel_req", "cl_waiting", "cl_waiting_cancel_req", "sv_active",
                         "sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login", "maxwait"]}
    table(c, "STATS")
    for what in labels:
        names, _, rows = table(c, what + ";")
        dicts = [dict(zip(names, r)) for r in rows]
        keys = [tuple(d[n] for n in labels[what]) for d in dicts]
        assert dicts and len(set(keys)) == len(keys), (what, keys)
        for d in dicts:
            for n in figures[what]:
                float(d[n])
    config = dict(r[:2] for r in table(c, "CONFIG;")[2])
    assert int(config["max_client_conn"]) > 0
    assert all(len(r) == 2 for r in table(c, "LISTS;")[2])
    assert table(c, "VERSION;")[2][0][0].startswith("tidemark ")


def test_stats_users_may_look_and_nothing_else(router):
    t = router(stats_users="watcher, other")
    c = console(t.port, "tidemark", "watcher")
    assert table(c, "POOLS")[0]
    for text in ("RELOAD", "SHUTDOWN"):
        with pytest.raises(psycopg2.Error) as e, c.cursor() as cur:
            cur.execute(text)
        assert e.value.pgcode == "42501"
    assert t.alive()
    with pytest.raises(psycopg2.OperationalError):
        console(t.port, "tidemark", "stranger")


def test_a_database_that_is_called_pgbouncer_is_that_database(router, fleet):
    t = router(config=f"[nodes]\nprimary = {fleet.primary.conninfo()}\n[databases]\npgbouncer = dbname=app\n* =\n"
                      "[tidemark]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nadmin_users = postgres\n", replicas=[])
    assert value(console(t.port, "pgbouncer", "app"), "SELECT current_database()") == "app"
    assert table(console(t.port, "tidemark"), "VERSION")[2]
