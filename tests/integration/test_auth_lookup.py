# SPDX-License-Identifier: PostgreSQL
"""auth_query: users whom auth_file does not have are looked up on the primary; and databases that all clients use
as one user.

u_md5 and u_scram have passwords on the servers, of those kinds, and are asked for them there.
"""

import struct
import threading
import time

import psycopg2
import pytest

import harness
import rawpg
from harness import HOST, PASSWORD, value

SETUP = """
CREATE ROLE lookup LOGIN PASSWORD 'look';
CREATE ROLE u_old LOGIN PASSWORD 'old' VALID UNTIL '2020-01-01';
CREATE ROLE u_none LOGIN;
CREATE ROLE u_group PASSWORD 'group';
CREATE SCHEMA pooler;
CREATE FUNCTION pooler.get(name text) RETURNS TABLE (u text, p text) LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog AS 'SELECT rolname::text, rolpassword::text FROM pg_catalog.pg_authid WHERE rolname = $1';
CREATE FUNCTION pooler.slow(name text) RETURNS TABLE (u text, p text) LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(60); RETURN QUERY SELECT name, 'x'; END $$;
CREATE FUNCTION pooler.path(name text) RETURNS TABLE (u text, p text) LANGUAGE sql AS
    $$ SELECT name, current_setting('search_path') $$;
GRANT USAGE ON SCHEMA pooler TO public;
"""

RIGHT = {"u_md5": PASSWORD, "u_scram": PASSWORD}


@pytest.fixture(scope="module")
def accounts(shared_fleet):
    shared_fleet.primary.sql(SETUP)
    yield
    shared_fleet.primary.sql("DROP SCHEMA pooler CASCADE; DROP ROLE lookup, u_old, u_none, u_group")


@pytest.fixture
def looking(router, accounts):
    """A router that knows the console's user and those of `users`, and looks all others up."""
    def make(auth_type="md5", auth_user="postgres", users="", **options):
        files = {"users": '"postgres" "console"\n"lookup" "look"\n' + users}
        return router(auth_type=auth_type, auth_file="{dir}/users", auth_user=auth_user, admin_password="console",
                      files=files, **options)
    return make


def refused(t, user, password, match="password authentication failed", **kw):
    with pytest.raises(psycopg2.OperationalError, match=match):
        t.connect(user=user, password=password, **kw)


def counted(t, name):
    _, text = t.http("/metrics")
    return int(next(line.split()[-1] for line in text.splitlines() if line.startswith(f"tidemark_user_lookups_total{{{name}")))


@pytest.mark.parametrize("auth_type", ["md5", "scram-sha-256"])
def test_who_is_not_in_the_file_is_looked_up(looking, auth_type):
    """And the servers are told who it is, by a hash or by the keys that the client's own login showed."""
    t = looking(auth_type)
    for user, password in RIGHT.items():
        if user == "u_md5" and auth_type != "md5":
            refused(t, user, password)  # a hash of md5 is no use to SCRAM
            continue
        for _ in range(2):
            c = t.connect(user=user, password=password)
            assert value(c, "SELECT current_user || '' FROM items WHERE id = 1") == user
        refused(t, user, "wrong")
    # Unknown, expired, without a password, no login.
    for user in ("nobody", "u_old", "u_none", "u_group"):
        refused(t, user, {"u_old": "old", "u_group": "group"}.get(user, "any"))
    log = t.log_text()
    assert "SCRAM-SHA-256$" not in log and PASSWORD not in log and "auth_query" not in log


def test_the_file_comes_first(looking):
    t = looking(users='"u_scram" "from the file"\n"u_none" "mine"\n')
    refused(t, "u_scram", PASSWORD)
    t.connect(user="u_none", password="mine").close()


def answers_to(t, user, password):
    """What the router says to that login, message by message, without what is random."""
    c = rawpg.Raw(HOST, t.port)
    try:
        c.send(rawpg.startup_packet({"user": user, "database": "app"}))
        said = [c.recv()]
        bare = b"n=,r=abcdefghijklmnopqrstuvwx"
        first = b"n,," + bare
        c.send(rawpg.message("p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
        said.append(c.recv())
        server_first = said[1].body[4:].decode()
        nonce = server_first.split(",")[0]
        c.send(rawpg.message("p", f"c=biws,{nonce},p={'A' * 43}=".encode()))
        said.append(c.recv())
        return [(m.kind, m.fields()["C"] if m.kind == "E" else m.body[:4], len(m.body) if m.kind == "R" else 0)
                for m in said]
    finally:
        c.close()


@pytest.mark.parametrize("auth_type", ["md5", "scram-sha-256"])
def test_nobody_is_told_who_there_is(looking, auth_type):
    t = looking(auth_type, auth_query_ttl="0")
    known = answers_to(t, "u_scram", "wrong")
    assert known[-1][:2] == ("E", "28P01")
    for other in ("u_scrum", "u_old", "u_none", "u_group"):
        assert answers_to(t, other, "wrong") == known, other


def test_the_default_needs_rights_and_a_function_does_not(looking):
    t = looking(auth_user="lookup")
    refused(t, "u_scram", PASSWORD, "cannot be looked up on the server now")
    assert "permission denied for table pg_authid" in t.log_text()
    t = looking(auth_user="lookup", auth_query="SELECT u, p FROM pooler.get($1)")
    assert value(t.connect(user="u_scram", password=PASSWORD), "SELECT current_user || ''") == "u_scram"


def test_the_search_path_is_fixed(looking, fleet):
    t = looking(auth_user="lookup", auth_query="SELECT u, p FROM pooler.path($1)")
    t.connect(user="u_trust", password="pg_catalog").close()
    fleet.primary.sql("ALTER ROLE lookup SET search_path = pooler")
    try:
        t = looking(auth_user="lookup", auth_query="SELECT u, p FROM pooler.path($1)")
        t.connect(user="u_trust", password="pg_catalog").close()
        refused(looking(auth_user="lookup", auth_query="SELECT u, p FROM get($1)"), "u_scram", PASSWORD,
                "cannot be looked up")
    finally:
        fleet.primary.sql("ALTER ROLE lookup RESET search_path")


@pytest.mark.parametrize("query, why", [
    ("SELECT $1::text", "not two columns"),
    ("SELECT $1::text, 'x', 1", "not two columns"),
    ("SELECT $1::text, 'x' FROM pg_catalog.generate_series(1, 2)", "more than one row"),
    ("SELECT NULL::text, $1::text", "not the user that was asked for"),
    ("SELECT 'postgres', 'known' || pg_catalog.left($1, 0)", "not the user that was asked for"),
    ("SELECT $1::text, pg_catalog.repeat('x', 256)", "longer than 255 bytes"),
    ("SELECT $1::text, 1 / 0", "22012 division by zero"),
    ("SELEKT $1", "42601 syntax error"),
])
def test_answers_that_are_none(looking, query, why):
    t = looking(auth_query=query)
    for _ in range(2):
        refused(t, "u_trust", "known", "cannot be looked up on the server now")
    assert why in t.log_text()
    # The connection is as good as before.
    assert len([p for p in t.show("SERVERS") if p["user"] == "postgres"]) == 1


def test_an_answer_counts_for_a_while_and_no_longer(looking, fleet):
    def set_password(password):
        fleet.primary.sql(f"ALTER ROLE u_none PASSWORD '{password}'")

    t = looking("scram-sha-256", auth_query_ttl="1s", http=True)
    set_password("first")
    try:
        for _ in range(5):
            t.connect(user="u_none", password="first").close()
        assert (counted(t, 'result="asked"'), counted(t, 'result="kept"')) == (1, 4)
        set_password("second")
        t.connect(user="u_none", password="first").close()
        refused(t, "u_none", "second")  # and by that the old one is forgotten
        t.connect(user="u_none", password="second").close()
        refused(t, "u_none", "first")
        t.connect(user="u_none", password="second").close()
        set_password("third")
        time.sleep(1.1)
        t.connect(user="u_none", password="third").close()
        set_password("fourth")
        t.reload()
        harness.wait_until(lambda: "configuration reloaded" in t.log_text(), 5, "the reload")
        t.connect(user="u_none", password="fourth").close()
    finally:
        fleet.primary.sql("ALTER ROLE u_none PASSWORD NULL")


def test_where_it_is_asked(accounts, need_router, fleet):
    """In the database of the client, in auth_dbname, or, for names that only * serves, in that of [nodes]."""
    config = f"""
[nodes]
primary = {fleet.primary.conninfo(dbname='postgres')}
[databases]
shop = dbname=app
elsewhere = dbname=app auth_dbname=shop auth_user=lookup auth_query='SELECT u, p FROM pooler.get($1)'
*	=
[tidemark]
listen_addr = {HOST}
listen_port = {{port}}
auth_type = md5
auth_user = postgres
auth_file = {{dir}}/users
admin_users = postgres
"""
    with harness.Tidemark(fleet, config=config, wait=False, replicas=[],
                          files={"users": '"postgres" "console"\n"lookup" "look"\n'},
                          admin_password="console") as t:
        t.wait_fleet()
        for db in ("shop", "elsewhere", "app"):
            assert value(t.connect(dbname=db, user="u_scram", password=PASSWORD), "SELECT current_database() || ''") == "app"
        refused(t, "u_scram", "wrong", dbname="made-up-by-a-stranger")
        pools = {(p["database"], p["user"]) for p in t.show("POOLS") if "auth_query" in p["user"]}
        assert pools == {("shop", "postgres (auth_query)"), ("shop", "lookup (auth_query)"),
                         ("postgres", "postgres (auth_query)")}
        assert "made-up-by-a-stranger" not in {d["name"] for d in t.show("DATABASES")}


def test_a_stalled_server_holds_nobody_up_for_long(looking):
    t = looking(auth_query="SELECT u, p FROM pooler.slow($1)", server_connect_timeout="2s", max_pool_waiting=2,
                http=True)
    said = []
    slow = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT u, p FROM pooler.slow%%' AND state = 'active'"

    def come(user):
        began = time.monotonic()
        try:
            t.connect(user=user, password="x").close()
        except psycopg2.OperationalError as e:
            said.append((time.monotonic() - began, str(e)))

    # Four are asked for, two wait, one is too many.
    comers = [threading.Thread(target=come, args=(f"stranger{i}",)) for i in range(7)]
    for i, c in enumerate(comers):
        c.start()
        if i < 4:
            harness.wait_until(lambda: t.fleet.primary.value(slow) == i + 1, 5, f"question {i + 1}")
        elif i == 5:
            harness.wait_until(lambda: sum(int(p["cl_waiting"]) for p in t.show("POOLS")) == 2, 5, "two to wait")
    for c in comers:
        c.join()
    assert len(said) == 7 and max(took for took, _ in said) < 8, said
    assert sum("too many clients wait to be looked up" in text for _, text in said) == 1, said
    assert sum("cannot be looked up on the server now" in text for _, text in said) == 6, said
    # Those who are known come in all the while, and the server is not left with questions that nobody waits for.
    assert value(t.connect(user="lookup", password="look"), "SELECT 1") == 1
    harness.wait_until(lambda: t.fleet.primary.value(slow) == 0, 10, "the questions to end")


def test_who_leaves_while_he_is_looked_up_leaves_nothing(looking):
    t = looking(auth_query="SELECT u, p FROM pooler.slow($1)", server_connect_timeout="1s")
    for _ in range(10):
        c = rawpg.Raw(HOST, t.port)
        c.send(rawpg.startup_packet({"user": "stranger", "database": "app"}))
        c.close()
    harness.wait_until(lambda: [c["state"] for c in t.show("CLIENTS")] == ["active"] or
                       len(t.show("CLIENTS")) == 1, 5, lambda: str(t.show("CLIENTS")))
    assert value(t.connect(user="lookup", password="look"), "SELECT 1") == 1


def test_without_a_primary_it_waits_and_then_says_so(looking, small_fleet, accounts):
    t = looking(in_front_of=small_fleet, server_connect_timeout="1500ms")
    refused(t, "stranger", "x")
    small_fleet.primary.stop()
    began = time.monotonic()
    refused(t, "stranger", "x", "cannot be looked up on the server now")
    assert 1 < time.monotonic() - began < 8


def test_certificates_and_trust_need_the_user_all_the_same(looking):
    t = looking("trust")
    assert value(t.connect(user="u_md5"), "SELECT current_user || ''") == "u_md5"
    refused(t, "nobody", "x", "auth_query has no user")
    # Without a password, but there.
    assert value(t.connect(user="u_none"), "SELECT current_user || ''") == "u_none"


def test_a_user_who_is_looked_up_does_not_get_the_connections_of_the_looker(looking):
    t = looking(auth_user="lookup", auth_query="SELECT u, p FROM pooler.get($1)")
    c = t.connect(user="lookup", password="look")
    harness.rows(c, "SET search_path = public")
    t.connect(user="u_scram", password=PASSWORD).close()
    assert value(c, "SHOW search_path") == "public"
    pool = next(p for p in t.show("POOLS") if p["user"] == "lookup (auth_query)")
    assert (pool["sv_idle"], pool["cl_active"]) == ("1", "0"), pool


@pytest.mark.parametrize("flags, says", [
    (["--auth-type", "md5"], "auth_user"),
    (["--auth-user", "x", "--auth-query", "x" * 600], "auth_query"),
])
def test_what_cannot_work_is_refused_at_start(need_router, flags, says):
    status, text = harness.bad_start("--primary", f"host={HOST}", "--listen", f"{HOST}:{harness.free_port()}", *flags)
    assert status != 0 and says in text, text


# ---- one user for all -------------------------------------------------------------------------------

FORCED = """
[nodes]
primary = {primary}
replica1 = {replica}
[databases]
app = user=u_scram password={password}
filed = dbname=app user=u_md5
wrong = dbname=app user=u_scram password=wrong
[tidemark]
listen_addr = 127.0.0.1
listen_port = {{port}}
auth_type = scram-sha-256
auth_file = {{dir}}/users
admin_users = postgres
server_login_retry = 200ms
"""


def test_all_clients_of_a_database_can_be_one_user(fleet, need_router):
    quoted = "'" + PASSWORD.replace("\\", "\\\\").replace("'", "\\'") + "'"
    users = '"postgres" "console"\n"alice" "a"\n"bob" "b"\n"u_md5" "' + PASSWORD.replace('"', '""') + '"\n'
    config = FORCED.format(primary=fleet.primary.conninfo(), replica=fleet.standbys[0].conninfo(), password=quoted)
    with harness.Tidemark(fleet, config=config, wait=False, replicas=fleet.standbys[:1], files={"users": users},
                          admin_password="console") as t:
        t.wait_fleet()
        alice, bob = t.connect(user="alice", password="a"), t.connect(user="bob", password="b")
        for c in (alice, bob):
            assert value(c, "SELECT current_user || '' || session_user") == "u_scramu_scram"
            harness.rows(c, "UPDATE items SET n = 5 WHERE id = 82")
        refused(t, "alice", "b")
        refused(t, "u_scram", PASSWORD)  # who is in the file comes in, and nobody else
        assert value(t.connect(dbname="filed", user="bob", password="b"), "SELECT current_user || ''") == "u_md5"
        with pytest.raises(psycopg2.OperationalError, match='password authentication failed for user "u_scram"'):
            value(t.connect(dbname="wrong", user="bob", password="b"), "SELECT 1")
        assert {c["user"] for c in t.show("CLIENTS") if c["database"] == "app"} == {"alice", "bob"}
        assert {s["user"] for s in t.show("SERVERS") if s["database"] == "app"} == {"u_scram"}
        assert {d["name"]: d["force_user"] for d in t.show("DATABASES")}["app"] == "u_scram"
        assert "PASSWORD" not in str(t.show("CONFIG")) and PASSWORD not in t.log_text()
