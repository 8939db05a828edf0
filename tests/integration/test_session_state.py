# SPDX-License-Identifier: PostgreSQL
"""docs/session-state.md, row by row: whoever makes state keeps it over pooled connections, however it was made,
and nobody else ever meets it."""

import random
import re

import pytest

import harness
import rawpg
from harness import wait_until


def locks(k):
    return (f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() "
            f"AND objid = {k}")


class Row:
    """`plain` makes it in SQL, `extended` with parameters, `body` inside plpgsql; None: no such way. `reason` is
    why its maker is bound: None if it is replayed instead, where it is not made inside code."""

    def __init__(self, name, reason, plain, ask, mine, clean, body=None, extended=None, user="app", inside=None):
        self.name, self.reason, self.ask, self.mine, self.clean = name, reason, ask, mine, clean
        self.plain, self.body, self.extended, self.user = plain, body, extended, user
        self.inside = inside or reason or "set_config"


def setting(name, sql, value, clean, mine=None):
    return Row(f"setting {name}", None, sql, f"SELECT coalesce(public.setting('{name}'), '')", mine or value, clean,
               f"PERFORM set_config('{name}', '{value}', false);",
               ("SELECT set_config($1, $2, $3)", (name, value, "false")))


ROWS = [
    setting("work_mem", "SET work_mem = '77MB'", "77MB", "4MB"),
    setting("search_path", "SET search_path = evil, public", "evil, public", '"$user", public'),
    setting("timezone", "SET TIME ZONE 'Asia/Tokyo'", "Asia/Tokyo", "UTC"),
    setting("client_encoding", "SET NAMES 'LATIN1'", "LATIN1", "UTF8"),
    setting("datestyle", "SET datestyle = 'German'", "German, DMY", "ISO, MDY"),
    setting("my.secret", "SET my.secret = 'x'", "x", ""),
    setting("statement_timeout", "SET statement_timeout = '1h'", "1h", "0"),
    setting("default_transaction_read_only", "SET default_transaction_read_only = on", "on", "off"),
    setting("default_transaction_isolation", "SET default_transaction_isolation = 'repeatable read'",
            "repeatable read", "read committed"),
    Row("session characteristics", None,
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY, NOT DEFERRABLE",
        "SELECT concat(public.setting('default_transaction_isolation'), ' ', public.setting('default_transaction_read_only'))",
        "repeatable read on", "read committed off",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET default_transaction_read_only = on;"),
    Row("set_config()", None, "SELECT set_config('work_mem', '77MB', false)", "SELECT public.setting('work_mem')", "77MB", "4MB"),
    Row("set_config() of a list, and more", None,
        "SELECT set_config('search_path', 'state, \"$user\"', false) AS a, pg_catalog.set_config('my.name', 'O''Neil \\', false)",
        "SELECT concat(public.setting('search_path'), ' ', public.setting('my.name'))", "state, \"$user\" O'Neil \\",
        "\"$user\", public "),
    Row("SET inside code", "set_config", None, "SELECT public.setting('work_mem')", "78MB", "4MB",
        "SET work_mem = '78MB';"),
    Row("role", "role", "SET ROLE other", "SELECT current_user", "other", "app", "SET ROLE other;"),
    Row("session authorization", "role", "SET SESSION AUTHORIZATION other", "SELECT session_user", "other",
        "postgres", "SET SESSION AUTHORIZATION other;", user="postgres"),
    Row("temporary table", "temporary_object", "CREATE TEMP TABLE mine AS SELECT 7 AS a", "SELECT a FROM mine", "7",
        "42P01", "CREATE TEMP TABLE mine AS SELECT 7 AS a;", ("CREATE TEMP TABLE mine AS SELECT $1::int AS a", (7,))),
    Row("temporary table over another", "temporary_object", "CREATE TEMP TABLE items AS SELECT 1 AS id, 'mine' AS v",
        "SELECT v FROM items WHERE id = 1", "mine", "v1", "CREATE TEMP TABLE items AS SELECT 1 AS id, 'mine' AS v;"),
    Row("temporary view", "temporary_object", "CREATE TEMP VIEW mine AS SELECT 7 AS a", "SELECT a FROM mine", "7",
        "42P01", "CREATE TEMP VIEW mine AS SELECT 7 AS a;"),
    Row("temporary sequence", "temporary_object", "CREATE TEMP SEQUENCE mine START 7", "SELECT last_value FROM mine",
        "7", "42P01", "CREATE TEMP SEQUENCE mine START 7;"),
    Row("temporary function", "temporary_object",
        "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 7'", "SELECT count(*) FROM pg_proc WHERE pronamespace = pg_my_temp_schema()", "1", "0",
        "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 7';"),
    Row("temporary type", "temporary_object", "CREATE TYPE pg_temp.mine AS ENUM ('a')", "SELECT count(*) FROM pg_type WHERE typname = 'mine' "
        "AND typnamespace = pg_my_temp_schema()",
        "1", "0", "CREATE TYPE pg_temp.mine AS ENUM ('a');"),
    Row("LISTEN", "listen", "LISTEN mine", "SELECT count(*) FROM pg_listening_channels()", "1", "0", "LISTEN mine;"),
    Row("cursor WITH HOLD", "cursor_with_hold", "DECLARE mine SCROLL CURSOR WITH HOLD FOR SELECT 7",
        "FETCH ABSOLUTE 1 FROM mine", "7", "34000", "EXECUTE 'DECLARE mine SCROLL CURSOR WITH HOLD FOR SELECT 7';"),
    Row("PREPARE", "sql_prepare", "PREPARE mine AS SELECT 7",
        "SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'", "1", "0",
        "EXECUTE 'PREPARE mine AS SELECT 7';"),
    Row("advisory lock", "advisory_lock", "SELECT pg_advisory_lock(4711)", locks(4711), "1", "0",
        "PERFORM pg_advisory_lock(4711);", ("SELECT pg_advisory_lock($1)", (4711,))),
    Row("shared advisory lock", "advisory_lock", "SELECT pg_try_advisory_lock_shared(4712)", locks(4712), "1", "0",
        "PERFORM pg_advisory_lock_shared(4712);"),
    Row("what is counted", "statistics", "SET track_functions = 'all'", "SELECT public.setting('track_functions')", "all", "none",
        "PERFORM set_config('track_functions', 'all', false);", inside="set_config", user="postgres"),
    Row("LOAD", "load", "LOAD 'auto_explain'", "SELECT public.setting('auto_explain.log_nested_statements')", "off",
        None, user="postgres"),
    Row("a function in C", "load", "CREATE OR REPLACE FUNCTION public.in_c() RETURNS real AS '$libdir/pg_trgm', 'show_limit' LANGUAGE c",
        "SELECT public.setting('pg_trgm.similarity_threshold')", "0.3", None, user="postgres"),
]

# How it is made inside code; and how code is run that does not look like any, which is the same for all that code may do.
HIDDEN = ["function", "function in a transaction", "procedure", "DO"]
DISGUISED = ["trigger", "trigger of a partition", "trigger behind a view", "trigger of a cascade", "view", "default", "check",
             "policy", "operator", "COPY"]


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def code_of(i, row):
    return f"""
CREATE FUNCTION state.make_{i}() RETURNS int LANGUAGE plpgsql AS {quoted("BEGIN " + row.body + " RETURN 1; END")};
CREATE PROCEDURE state.call_{i}() LANGUAGE plpgsql AS {quoted("BEGIN " + row.body + " END")};
"""


# Of the first row.
DISGUISES = """
CREATE FUNCTION state.fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM state.make_0(); RETURN NULL; END';
CREATE TABLE state.parent (a int) PARTITION BY LIST (a);
CREATE TABLE state.child PARTITION OF state.parent DEFAULT;
CREATE TRIGGER fire AFTER INSERT ON state.child FOR EACH ROW EXECUTE FUNCTION state.fire();
CREATE VIEW state.plain_view AS SELECT a FROM state.child;
CREATE VIEW state.view_of_view AS SELECT a FROM state.plain_view;
CREATE TABLE state.master (id int PRIMARY KEY);
INSERT INTO state.master SELECT generate_series(1, 50);
CREATE TABLE state.detail (id int REFERENCES state.master ON DELETE CASCADE);
INSERT INTO state.detail SELECT id FROM state.master;
CREATE TRIGGER fire AFTER DELETE ON state.detail FOR EACH ROW EXECUTE FUNCTION state.fire();
CREATE VIEW state.view AS SELECT state.make_0() AS a;
CREATE TABLE state.has_default (a int, b int DEFAULT state.make_0());
CREATE TABLE state.has_check (a int CHECK (state.make_0() = a));
CREATE TABLE state.has_policy (a int);
INSERT INTO state.has_policy VALUES (1);
ALTER TABLE state.has_policy ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON state.has_policy USING (state.make_0() = a);
CREATE FUNCTION state.operate(int, int) RETURNS bool LANGUAGE sql AS 'SELECT state.make_0() = 1';
CREATE OPERATOR state.@@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = state.operate);
"""


def hidden(way, i, row):
    return {
        "function": [f"SELECT state.make_{i}()"],
        "function in a transaction": [
            "BEGIN", "SELECT 1", f"SELECT state.make_{i}()",
            "INSERT INTO scratch VALUES (-1, 'x') ON CONFLICT DO NOTHING", "COMMIT"],
        "procedure": [f"CALL state.call_{i}()"],
        "DO": [f"DO {quoted('BEGIN ' + (row.body or '') + ' END')}"],
        "trigger": ["INSERT INTO state.child VALUES (1)"],
        "trigger of a partition": ["INSERT INTO state.parent VALUES (1)"],
        "trigger behind a view": ["INSERT INTO state.view_of_view VALUES (1)"],
        "trigger of a cascade": ["DELETE FROM state.master WHERE id = (SELECT min(id) FROM state.master)"],
        "view": ["SELECT a FROM state.view"],
        "default": ["INSERT INTO state.has_default (a) VALUES (1)"],
        "check": ["INSERT INTO state.has_check VALUES (1)"],
        "policy": ["SELECT a FROM state.has_policy"],
        "operator": ["SELECT 1 OPERATOR(state.@@@) 2"],
    }[way]


def copy_in(c):
    c.send(rawpg.query("COPY state.child FROM STDIN")).recv_until("G")
    c.send(rawpg.copy_data(b"1\n"), rawpg.copy_done()).until_ready()


@pytest.fixture(scope="module")
def state(shared_fleet):
    """Two pools of one database: three connections, and one."""
    from conftest import skip_without_router
    skip_without_router()
    shared_fleet.calm()
    conn = shared_fleet.primary.connect(user="postgres")
    harness.rows(conn, "CREATE SCHEMA state; GRANT ALL ON SCHEMA state TO public; "
                       "ALTER DEFAULT PRIVILEGES IN SCHEMA state GRANT ALL ON TABLES TO public; "
                       "GRANT USAGE, CREATE ON SCHEMA state TO app, other; GRANT ALL ON scratch TO public")
    harness.rows(conn, "".join(code_of(i, row) for i, row in enumerate(ROWS) if row.body) + DISGUISES)
    conn.close()
    shared_fleet.sync()
    t = harness.Tidemark(shared_fleet, default_pool_size=3, query_wait_timeout="5s", http=True)
    one = harness.Tidemark(shared_fleet, default_pool_size=1, query_wait_timeout="5s")
    yield t, one
    t.stop()
    one.stop()
    shared_fleet.primary.sql("DROP SCHEMA state CASCADE")


@pytest.fixture
def client(state, raw):
    def make(which=0, user="app", **params):
        return raw(state[which], user=user, **params)
    return make


@pytest.fixture
def other(client):
    """Somebody who looks for what others left on the primary."""
    return lambda which=0: client(which, options="-c tidemark.consistency=strong")


def ask(c, question):
    """The value, or an error's SQLSTATE."""
    try:
        return c.query_rows(question)[0][0]
    except rawpg.ServerError as e:
        return e.sqlstate


def do(c, texts):
    for text in texts:
        c.query_rows(text)


def extended(c, sql, params):
    out = c.send(rawpg.parse("", sql), rawpg.bind(values=params), rawpg.execute(), rawpg.sync()).until_ready()
    assert not rawpg.errors(out), (sql, out)


def makers(row, i):
    """Each way to make it: (name, a function that does so, why its maker is bound)."""
    if row.plain:
        yield "SQL", lambda c: do(c, [row.plain]), row.reason
        yield "SQL in a transaction", lambda c: do(c, ["BEGIN", row.plain, "COMMIT"]), row.reason
        yield "extended", lambda c: extended(c, row.plain, ()), row.reason
    if row.extended:
        yield "parameters", lambda c: extended(c, *row.extended), row.inside
    if row.body:
        for way in HIDDEN:
            yield way, lambda c, way=way: do(c, hidden(way, i, row)), row.inside
    if i == 0:
        for way in DISGUISED[:-1]:
            yield way, lambda c, way=way: do(c, hidden(way, i, row)), row.inside
        yield "COPY", copy_in, row.inside


def row_of(t, c):
    return next(r for r in t.show("CLIENTS") if int(r["id"]) == c.pid)


def bound_of(t, c):
    """Its row of SHOW CLIENTS, when nothing is asked of its session any more."""
    do(c, ["SELECT 1"])
    return row_of(t, c)


@pytest.mark.parametrize("i", range(len(ROWS)), ids=[r.name for r in ROWS])
def test_state_is_kept_for_its_maker_and_shown_to_nobody_else(state, client, i):
    row = ROWS[i]
    t, one = state
    # On the primary, where the state is.
    b, b1 = (client(n, row.user, options="-c tidemark.consistency=strong") for n in (0, 1))
    for way, make, reason in makers(row, i):
        # Three connections: the maker meets its state on each of its transactions, others do not.
        a = client(0, row.user)
        assert ask(a, row.ask) == row.clean, f"{way}: there before it was made"
        make(a)
        for _ in range(2):
            do(b, ["BEGIN", "SELECT pg_current_xact_id_if_assigned()"])
            assert ask(a, row.ask) == row.mine, f"{way}: lost when its connection was another one's"
            do(b, ["ROLLBACK"])
            assert ask(b, row.ask) == row.clean, f"{way}: shown to another client"
        shown = bound_of(t, a)
        assert shown["bound"] == (reason or ""), way
        assert bool(shown["bound_since"]) == bool(shown["bound_by"]) == bool(reason), (way, shown)
        a.close()
        # One connection: what is given back, by DISCARD ALL or for good, is clean.
        a = client(1, row.user)
        make(a)
        assert ask(a, row.ask) == row.mine, way
        do(a, ["DISCARD ALL"])
        assert ask(b1, row.ask) == row.clean, f"{way}: outlived DISCARD ALL"
        make(a)
        a.close()
        assert ask(b1, row.ask) == row.clean, f"{way}: outlived its maker"
    b.close()
    b1.close()


def questions(t):
    return int(re.search(r"^tidemark_unseen_questions_total (\d+)$", t.http("/metrics")[1], re.M)[1])


# ---- what is forgotten ----

def test_what_is_rolled_back_leaves_nothing(state, client, other):
    t, _ = state
    work_mem = "SELECT public.setting('work_mem')"
    a = client()
    for texts in (["BEGIN", "SET work_mem = '91MB'", "ROLLBACK"],
                  ["BEGIN", "SELECT state.make_0()", "ROLLBACK"],
                  ["BEGIN", "SAVEPOINT s", "SELECT state.make_0()", "ROLLBACK TO s", "COMMIT"]):
        do(a, texts)
        assert ask(a, work_mem) == "4MB"
        assert bound_of(t, a)["bound"] == "", texts
    with pytest.raises(rawpg.ServerError):
        do(a, ["BEGIN; SET work_mem = '92MB'; SELECT 1/0"])
    do(a, ["ROLLBACK"])
    assert ask(a, work_mem) == "4MB"
    a = client()
    do(a, ["BEGIN", "SET work_mem = '93MB'", "SAVEPOINT s; SET work_mem = '94MB'", "ROLLBACK TO s", "COMMIT"])
    b = other()
    assert ask(a, work_mem) == "93MB" and ask(b, work_mem) == "4MB"
    assert bound_of(t, a)["bound"] == ""


def steps(rng):
    """A transaction, or several by AND CHAIN, with SETs and savepoints of which some fail."""
    yield "BEGIN"
    yield "SAVEPOINT s"  # older than any SET
    for _ in range(rng.randrange(4, 24)):
        point, n = rng.choice(("s", "s", "s", "t", '"S"')), rng.randrange(1, 99)
        if rng.random() < 0.75:
            yield rng.choice((f"SET work_mem = '{n}MB'", f"SET work_mem = '{n}MB'", f"SAVEPOINT {point}",
                              f"SAVEPOINT {point}", f"ROLLBACK TO {point}", f"ROLLBACK TO {point}", f"RELEASE {point}"))
        else:
            yield rng.choice((f"SET statement_timeout = '{n}min'", "RESET work_mem", "RESET ALL", "SELECT 1/0",
                              "SET work_mem = 'plenty'", "SELECT 1", f"SET LOCAL work_mem = '{n}MB'",
                              "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "SELECT pg_current_xact_id() > '0'"))
    yield "ROLLBACK TO s"  # what failed goes on
    yield rng.choice(("COMMIT", "COMMIT", "COMMIT", "ROLLBACK"))


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_what_a_savepoint_takes_back_is_forgotten(state, client, raw, fleet, protocol):
    """As PostgreSQL has it, and nobody is bound for it."""
    t, _ = state
    rng = random.Random(20261128)
    a, b, direct = client(), client(), raw(fleet.primary, user="app")
    do(b, ["SET work_mem = '99MB'", "SET statement_timeout = '99min'"])
    settings = "SELECT concat(public.setting('work_mem'), ' ', public.setting('statement_timeout'))"

    def run(c, text):
        if protocol == "simple":
            out = c.send(rawpg.query(text)).until_ready()
        else:
            out = c.send(rawpg.parse("", text), rawpg.bind(), rawpg.execute(), rawpg.sync()).until_ready()
        return rawpg.summaries(out)

    kept = 0
    for _ in range(250):
        texts = list(steps(rng))
        for text in texts:
            assert run(a, text) == run(direct, text), (text, texts)
        do(b, ["SELECT pg_current_xact_id()"])  # where `a` was
        shown = ask(a, settings)
        assert shown == ask(direct, settings), texts
        kept += shown != "4MB 0"
        assert bound_of(t, a)["bound"] == "", texts
    assert kept > 50


def anything(rng):
    """SETs, savepoints and transactions in no order."""
    n, point = rng.randrange(1, 99), rng.choice("ssst")
    style = rng.choice(("German", "SQL, DMY", "ISO", "MDY"))
    if rng.random() < 0.5:
        return rng.choice((f"SET work_mem = '{n}MB'", f"SELECT set_config('work_mem', '{n}MB', false)", f"SAVEPOINT {point}",
                           f"ROLLBACK TO {point}"))
    return rng.choice((f"SET work_mem = '{n}MB'", f"SET work_mem = '{n}MB'", f"SET statement_timeout = '{n}min'", "RESET work_mem",
                       "RESET ALL", f"SET LOCAL work_mem = '{n}MB'", f"SET datestyle = '{style}'", "SELECT 1/0", "SELECT 1",
                       "SELECT pg_current_xact_id() > '0'", "BEGIN", "BEGIN", "BEGIN", "COMMIT", "COMMIT", "ROLLBACK",
                       "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", f"SAVEPOINT {point}", f"SAVEPOINT {point}",
                       f"ROLLBACK TO {point}", f"ROLLBACK TO {point}", f"RELEASE {point}"))


@pytest.mark.parametrize("protocol", ["texts", "batches", "batches in parts"])
def test_sets_and_transactions_in_any_order_in_one_message(state, client, raw, fleet, protocol):
    """As PostgreSQL has it, answer for answer; and nobody is bound for it."""
    t, _ = state
    rng = random.Random(f"{protocol} 20261128")
    startup = "-c work_mem=5MB"  # RESET goes back to it
    a, b, direct = client(options=startup), client(), raw(fleet.primary, user="app", options=startup)
    do(b, ["SET work_mem = '99MB'", "SET statement_timeout = '99min'", "SET datestyle = 'Postgres, YMD'"])
    settings = "SELECT concat_ws(' ', public.setting('work_mem'), public.setting('statement_timeout'), public.setting('datestyle'))"
    clean = ask(a, settings)

    def run(c, texts, cuts):
        if protocol == "texts":
            return rawpg.summaries(c.send(rawpg.query("; ".join(texts))).until_ready())
        parts = [rawpg.parse("", x) + rawpg.bind() + rawpg.execute() for x in texts]
        out = []
        for part, cut in zip(parts, cuts):
            c.send(part)
            if cut:
                c.send(rawpg.flush())
        return rawpg.summaries(c.send(rawpg.sync()).until_ready())

    kept = bound = 0
    for _ in range(300):
        said, twice = [], False
        for _ in range(rng.randrange(1, 8)):
            texts = [anything(rng) for _ in range(rng.randrange(1, 6))]
            cuts = [protocol.endswith("parts") and rng.random() < 0.4 for _ in texts]
            said.append((texts, cuts))
            twice |= sum("datestyle" in x for x in texts) > 1
            assert run(a, texts, cuts) == run(direct, texts, cuts), said
        for c in (a, direct):
            do(c, ["ROLLBACK"])
        do(b, ["SELECT pg_current_xact_id()"])  # where `a` was
        shown = ask(a, settings)
        assert shown == ask(direct, settings), said
        kept += shown != clean
        if bound_of(t, a)["bound"]:
            assert twice, said
            bound += 1
            do(a, ["DISCARD ALL"])
            do(direct, ["DISCARD ALL"])
        assert ask(b, settings) == "99MB 99min Postgres, YMD", said
    assert kept > 50 and bound < 30


@pytest.mark.parametrize("startup", [True, False], ids=["startup packet", "SET"])
def test_settings_are_replayed_in_the_encoding_of_their_client(client, startup):
    """One connection for clients of two encodings, whose settings are not ASCII."""
    clients = []
    for encoding in ("LATIN1", "UTF8", "LATIN1"):
        c = client(1, **({"client_encoding": encoding} if startup else {}))
        c.send(*([] if startup else [rawpg.query(f"SET client_encoding = '{encoding}'")]),
               rawpg.query("SET a.name = 'é'".encode(encoding)), rawpg.query("SELECT 'seen'"))
        for _ in range(2 + (not startup)):
            assert not rawpg.errors(c.until_ready())
        clients.append(c)
    for _ in range(3):
        assert [ask(c, "SELECT public.setting('a.name') = chr(233)") for c in clients] == ["t"] * 3


def test_what_set_config_has_set_is_known_where_code_is_asked_about(state, client, other):
    """The question for settings holds them against what the client's own SETs come to, of which this is one."""
    t, _ = state
    a = client()
    do(a, ["SELECT set_config('work_mem', '9MB', false), set_config('search_path', 'state, public', false)", "DO 'BEGIN END'"])
    assert bound_of(t, a)["bound"] == ""
    assert ask(other(), "SELECT public.setting('work_mem')") == "4MB"
    assert ask(a, "SELECT concat(public.setting('work_mem'), ' ', public.setting('search_path'))") == "9MB state, public"
    do(a, ["DO $$ BEGIN PERFORM set_config('work_mem', '8MB', false); END $$"])
    assert bound_of(t, a)["bound"] == "set_config"


def executed(text, portal="", statement=""):
    return rawpg.parse(statement, text) + rawpg.bind(portal, statement) + rawpg.execute(portal)


# Messages, and by what the client is bound in the end.
ON_PRIMARY = "SELECT pg_current_xact_id() > '0' FROM pg_sleep(0.02)"
BY_FUNCTION = "SELECT set_config('work_mem', '9MB', false)"
SET_A, SET_B = "SET work_mem = '9MB'", "SET work_mem = '8MB'"
SHOWN = "SELECT concat_ws(' ', public.setting('work_mem'), public.setting('datestyle'))"
MESSAGES = {
    "BEGIN in its batch": ([[executed("BEGIN"), executed(SET_A)], [executed("COMMIT")]], ""),
    "all in one batch": ([[executed("BEGIN"), executed(SET_A), executed("COMMIT"), executed(SET_B), executed("ROLLBACK")]], ""),
    "a savepoint ahead in its batch": ([[executed("BEGIN")], [executed("SAVEPOINT s"), executed(SET_A)], [executed("COMMIT")]], ""),
    "taken back in its batch": ([[executed("BEGIN")], [executed(SET_A), executed("SAVEPOINT s"), executed(SET_B), executed("ROLLBACK TO s")],
                                 [executed("COMMIT")]], ""),
    "never executed": ([[rawpg.parse("", SET_A), rawpg.bind()]], ""),
    "never executed in a transaction": ([[executed("BEGIN")], [rawpg.parse("", SET_A), rawpg.bind()], [executed("COMMIT")]], ""),
    "executed in the next batch": ([[executed("BEGIN")], [rawpg.parse("", SET_A), rawpg.bind()], [rawpg.execute()], [executed("COMMIT")]],
                                   "settings"),
    "taken back in the next batch": ([[executed("BEGIN")], [executed("SAVEPOINT s")], [executed(SET_A)],
                                      [rawpg.parse("", "ROLLBACK TO s"), rawpg.bind()], [rawpg.execute()], [executed("COMMIT")]], "settings"),
    "a named portal": ([[executed("BEGIN")], [executed(SET_A, "p")], [executed("COMMIT")]], "settings"),
    "a named portal takes it back": ([[executed("BEGIN")], [executed("SAVEPOINT s")], [executed(SET_A)], [executed("ROLLBACK TO s", "p")],
                                      [executed("COMMIT")]], "settings"),
    "set_config() of which a row is fetched": ([[executed("BEGIN")], [rawpg.parse("", BY_FUNCTION), rawpg.bind(), rawpg.execute("", 1)],
                                                [executed("COMMIT")]], ""),
    "set_config() in a named portal": ([[executed("BEGIN")], [executed(BY_FUNCTION, "p")], [executed("COMMIT")]], "set_config"),
    "set_config() in the next batch": ([[executed("BEGIN")], [rawpg.parse("", BY_FUNCTION), rawpg.bind()], [rawpg.execute()],
                                        [executed("COMMIT")]], "set_config"),
    "set_config() that is bound over": ([[rawpg.parse("", BY_FUNCTION), rawpg.bind(), executed("SELECT 1")]], "set_config"),
    "a named portal that reads": ([[executed("BEGIN")], [executed(SET_A)], [executed("SELECT 1", "p")], [executed("COMMIT")]], ""),
    "a portal whose statement is closed": ([[executed("BEGIN")], [rawpg.parse("x", SET_A), rawpg.bind("", "x"), rawpg.close("S", "x"),
                                                                  rawpg.execute()], [executed("COMMIT")]], ""),
    "RESET ahead of a savepoint": ([[executed("BEGIN")], [executed("RESET work_mem"), executed("SAVEPOINT s")], [executed(SHOWN)],
                                    [executed("ROLLBACK TO s")], [executed(SHOWN)], [executed("COMMIT")]], ""),
    "RESET ahead of a pipelined read": ([[executed(SET_A)], [executed("RESET work_mem"), rawpg.sync(), executed(SHOWN)]], ""),
    "RESET in a later part of a pipelined batch": ([[executed(SET_A)], [
        executed(ON_PRIMARY), rawpg.sync(), executed(ON_PRIMARY), rawpg.flush(), executed("RESET work_mem"), rawpg.sync(), executed(SHOWN)]], ""),
    "DateStyle of two transactions": ([[executed("BEGIN"), executed("SET datestyle = 'German'"), executed("COMMIT AND CHAIN"),
                                        executed("SET datestyle = 'SQL, DMY'")], [executed("ROLLBACK")]], "settings"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_set_counts_once_it_is_executed(state, client, raw, fleet, name):
    t = state[1]
    batches, bound = MESSAGES[name]
    a, direct = (make(where, "app", options="-c work_mem=5MB") for make, where in ((client, 1), (raw, fleet.primary)))

    def run(c, parts):
        c.send(*parts, rawpg.sync())
        return [rawpg.summaries(c.until_ready()) for _ in range(1 + parts.count(rawpg.sync()))]

    for parts in batches:
        assert run(a, parts) == run(direct, parts)
    assert ask(a, SHOWN) == ask(direct, SHOWN)
    assert bound_of(t, a)["bound"] == bound
    a.close()
    b = client(1, options="-c tidemark.consistency=strong")
    assert ask(b, SHOWN) == "4MB ISO, MDY"


REPEATABLE_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
LEAKS = {
    "amid a text on a replica": [REPEATABLE_READ, "SELECT v FROM items WHERE id = 1", "SET work_mem = '9MB'", "SAVEPOINT s; SELECT 1",
                                 "ROLLBACK TO s", "COMMIT"],
    "taken back in a text on a replica": [REPEATABLE_READ, "SELECT v FROM items WHERE id = 1", "SAVEPOINT s", "SET work_mem = '9MB'",
                                          "ROLLBACK TO s; SELECT 1", "COMMIT"],
    "too long for a replica": [REPEATABLE_READ, "SELECT v FROM items WHERE id = 1", f"SET work_mem = '9MB' /* {'x' * 9000} */", "COMMIT"],
    "too many for a replica": [REPEATABLE_READ, "SELECT v FROM items WHERE id = 1", *(f"SET my.a{i} = 1" for i in range(64)),
                               "SET work_mem = '9MB'", "COMMIT"],
    "too many in a text on a replica": [REPEATABLE_READ, "SELECT v FROM items WHERE id = 1",
                                        "; ".join(["SELECT 1", *(f"SET my.a{i} = 1" for i in range(64)), "SET work_mem = '9MB'"]), "COMMIT"],
    "just as many on a replica": [REPEATABLE_READ, "SELECT v FROM items WHERE id = 1", "; ".join(f"SET my.a{i} = 1" for i in range(40)),
                                  "SET work_mem = '9MB'", "COMMIT"],
    "too many in a text": ["; ".join(["SELECT 1", *(f"SET my.a{i} = 1" for i in range(64)), "SET work_mem = '9MB'"])],
    "too many in a batch": [[*(f"SET my.a{i} = 1" for i in range(64)), "SET work_mem = '9MB'"]],
    "too many in a transaction": ["BEGIN", *(f"SET my.a{i} = 1" for i in range(64)), "SET work_mem = '9MB'", "COMMIT"],
    "refused on a replica": [REPEATABLE_READ, "SELECT v FROM items WHERE id = 1", "SET work_mem = '9MB'", "LISTEN x", "ROLLBACK", "SELECT 1"],
    "an error behind COMMIT": ["BEGIN", "SET work_mem = '9MB'", "COMMIT; SELECT 1/0"],
    "ROLLBACK behind COMMIT": ["BEGIN", "SET work_mem = '9MB'", "COMMIT; ROLLBACK"],
    "COMMIT behind ROLLBACK": ["BEGIN", "SET work_mem = '9MB'", "ROLLBACK; COMMIT"],
    "a batch behind COMMIT": ["BEGIN", "SET work_mem = '9MB'", ["COMMIT", "SELECT 1/0"]],
    "a batch behind DISCARD ALL": [["DISCARD ALL", "SET work_mem = '9MB'"]],
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_set_whose_end_is_hard_to_follow_is_shown_to_nobody_else(state, client, raw, fleet, name):
    """One connection to each server. Its maker has what PostgreSQL says, unless it was refused."""
    t = state[1]
    a, direct = client(1), raw(fleet.primary, user="app")

    def run(c, texts):
        out = []
        for text in texts:
            batch = text if isinstance(text, list) else None
            c.send(*([p for x in batch for p in (rawpg.parse("", x), rawpg.bind(), rawpg.execute())] + [rawpg.sync()]
                     if batch else [rawpg.query(text)]))
            out += rawpg.errors(c.until_ready())
        return out

    refused = "0A000" in run(a, LEAKS[name])
    assert not refused or name.startswith("too") or name.startswith("refused")
    run(direct, LEAKS[name])
    work_mem = "SELECT public.setting('work_mem')"
    assert refused or ask(a, work_mem) == ask(direct, work_mem)
    if refused:
        assert bound_of(t, a)["bound"] == ""
    do(a, ["DISCARD ALL"])
    for options in ("", "-c tidemark.consistency=strong"):
        b = client(1, options=options)
        for _ in range(6):
            assert ask(b, work_mem) == "4MB"
        b.close()


# ---- what tells how old a server process is ----

def pid_of(c):
    return ask(c, "SELECT pg_backend_pid() FROM pg_sequences LIMIT 1")


def used_connections(client):
    """Every connection of the pool has been used, and has a temporary schema and PL/pgSQL by now."""
    makers = [client(user="postgres") for _ in range(3)]
    for c in makers:
        do(c, ["BEGIN", "CREATE TEMP TABLE once (a int) ON COMMIT DROP", "DO 'BEGIN END'"])
    pids = {pid_of(c) for c in makers}
    do_all(makers, "COMMIT")
    return pids


def do_all(clients, text):
    for c in clients:
        do(c, [text])


def test_two_phase_commit_of_a_first_temporary_schema_is_refused(state, client):
    """current_schema() makes it, where the process has none: PREPARE TRANSACTION is told so by PostgreSQL alone."""
    pids = used_connections(client)
    a = client(user="postgres")
    do(a, ["SET search_path TO 'pg_temp'", "BEGIN"])
    assert ask(a, "SELECT current_schema() ~ 'pg_temp'") == "t"
    assert pid_of(a) not in pids
    assert ask(a, "PREPARE TRANSACTION 'none'") == "0A000"


def test_a_setting_that_plpgsql_does_not_know_is_taken_until_it_is_loaded(state, client):
    t, _ = state
    pids = used_connections(client)
    a = client(user="postgres")
    do(a, ["SET plpgsql.extra_warnings = 'all'"])
    assert bound_of(t, a)["bound"] == ""
    do(a, ["SET plpgsql.no_such_thing = on"])
    assert pid_of(a) not in pids and bound_of(t, a)["bound"] == "load"
    assert ask(a, "SHOW plpgsql.no_such_thing") == "on"
    do(a, ["DO 'BEGIN END'"])
    assert ask(a, "SHOW plpgsql.no_such_thing") == "42704"
    assert ask(a, "SET plpgsql.no_such_thing = on") == "42602"


@pytest.mark.parametrize("which", [0, 1], ids=["three connections", "one connection"])
def test_a_session_that_counts_what_it_does_reads_on_the_primary(state, client, which):
    """… in one process, which is its own: pg_stat_database counts it."""
    t = state[which]
    do(client(which, user="postgres"), ["DO 'BEGIN END'"])
    a = client(which, user="postgres")
    scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'scratch'"
    do(a, ["SELECT count(*) FROM items"])
    assert bound_of(t, a)["bound"] == ""
    do(a, ["SELECT pg_stat_force_next_flush()"])
    assert bound_of(t, a)["bound"] == "statistics"
    before = int(ask(a, scans))
    do(a, ["SELECT count(*) FROM scratch WHERE v = 'x'", "SELECT pg_stat_force_next_flush()"])
    assert int(ask(a, scans)) == before + 1
    sessions = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
    before = int(ask(a, sessions))
    a.close()
    b = client(which, user="postgres")
    do(b, ["SELECT pg_stat_force_next_flush()"])
    assert int(ask(b, sessions)) > before


@pytest.mark.parametrize("which,size", [(0, 3), (1, 1)], ids=["three connections", "one connection"])
def test_who_wants_a_new_process_does_not_hold_up_the_others(state, client, which, size):
    """All connections are taken. The one that comes free first is not for him who waited first, nor closed for him."""
    busy, (wants, other) = [client(which, user="postgres") for _ in range(size)], [client(which, user="postgres") for _ in range(2)]
    do_all(busy, "BEGIN")
    pids = {pid_of(c) for c in busy}
    wants.send(rawpg.query("SELECT pg_stat_force_next_flush()"))
    wait_until(lambda: row_of(state[which], wants)["wait_us"] != "0", 5, "the wait")
    other.send(rawpg.query("SELECT pg_backend_pid() FROM pg_sequences LIMIT 1"))
    wait_until(lambda: row_of(state[which], other)["wait_us"] != "0", 5, "the other wait")
    do(busy[0], ["COMMIT"])
    assert [m.columns()[0].decode() for m in other.until_ready() if m.kind == "D"][0] in pids
    assert not rawpg.errors(wants.until_ready())
    assert pid_of(wants) not in pids
    do_all(busy[1:], "COMMIT")
    if size > 1:  # he keeps his
        do_all(busy, "INSERT INTO scratch VALUES (-4, 'x') ON CONFLICT DO NOTHING")


def test_a_client_of_which_nothing_is_left_keeps_no_connection(state, client, other):
    """Its settings are known from what functions set, whenever it made them."""
    t, _ = state
    plain = "SELECT state.nothing()"
    t.fleet.primary.sql("CREATE OR REPLACE FUNCTION state.nothing() RETURNS int LANGUAGE plpgsql AS "
                        "'BEGIN PERFORM set_config(''work_mem'', ''9MB'', true); RETURN 1; END'")
    a = client(application_name="shop", options="-c statement_timeout=1h -c datestyle=German")
    for texts in ([plain], ["BEGIN", plain, "COMMIT"], ["SET work_mem = '5MB'", plain],
                  ["BEGIN", "SET search_path = a, b", plain, "COMMIT"],
                  ["BEGIN", plain, "SET LOCAL work_mem = '7MB'", "COMMIT"], ["RESET work_mem", plain]):
        do(a, texts)
        assert bound_of(t, a)["bound"] == "", texts
    assert ask(a, "SELECT public.setting('search_path')") == "a, b"
    # The same name with another value is another setting.
    do(a, ["SET work_mem = '6MB'", "SELECT state.make_0()"])
    assert bound_of(t, a)["bound"] == "set_config"
    b = other()
    for _ in range(3):
        assert ask(a, "SELECT public.setting('work_mem')") == "77MB"
        assert ask(b, "SELECT public.setting('work_mem')") == "4MB"


def test_plain_statements_are_not_asked_about(state, client):
    t, _ = state
    a = client()
    do(a, ["SELECT 1"])
    before = questions(t)
    do(a, ["INSERT INTO scratch VALUES (-2, 'x') ON CONFLICT (id) DO UPDATE SET v = 'y'", "BEGIN",
           "UPDATE scratch SET v = 'z' WHERE id = -2", "SELECT count(*) FROM scratch", "COMMIT",
           "SELECT nextval('seq')", "DELETE FROM scratch WHERE id = -2", "SET work_mem = '5MB'"])
    extended(a, "UPDATE scratch SET v = $1 WHERE id = -2", ("q",))
    assert questions(t) == before
    do(a, ["DO 'BEGIN END'"])
    wait_until(lambda: questions(t) == before + 1, 5, "the question")


# ---- the question ----

def test_a_question_without_an_answer_binds_until_there_is_one(state, client, other):
    t, _ = state
    a, b = client(), other()
    primary = t.fleet.primary
    primary.sql("REVOKE EXECUTE ON FUNCTION pg_listening_channels() FROM PUBLIC")
    try:
        do(a, ["DO 'BEGIN PERFORM 1; END'"])
        wait_until(lambda: bound_of(t, a)["bound"] == "unseen", 5, "the client to be bound")
        do(a, ["SELECT 1"])
        assert bound_of(t, a)["bound"] == "unseen"
    finally:
        primary.sql("GRANT EXECUTE ON FUNCTION pg_listening_channels() TO PUBLIC")
    do(a, ["SELECT 1"])
    wait_until(lambda: bound_of(t, a)["bound"] == "", 5, "the answer")
    assert ask(b, "SELECT 1") == "1"


def test_a_late_answer_binds_until_it_is_here(state, client, other):
    _, one = state
    a, b = client(1), other(1)
    ask(a, "SELECT 1")
    lock = one.fleet.primary.connect()
    try:
        harness.rows(lock, "BEGIN; LOCK TABLE pg_catalog.pg_depend IN ACCESS EXCLUSIVE MODE")
        do(a, ["DO $$ BEGIN PERFORM set_config('work_mem', '66MB', false); END $$"])
        wait_until(lambda: row_of(one, a)["bound"] == "unseen", 5, "the client to be bound")
    finally:
        lock.close()
    assert ask(a, "SELECT public.setting('work_mem')") == "66MB"
    assert bound_of(one, a)["bound"] == "set_config"
    a.close()
    assert ask(b, "SELECT public.setting('work_mem')") == "4MB"


@pytest.mark.parametrize("leaves", ["Terminate", "close"])
def test_a_client_that_leaves_while_the_question_is_asked_leaves_nothing(state, client, other, leaves):
    b = other(1)
    for body in ("PERFORM set_config('work_mem', '67MB', false);", "CREATE TEMP TABLE mine (a int);", "PERFORM 1;"):
        for _ in range(5):
            a = client(1)
            a.send(rawpg.query("DO " + quoted("BEGIN " + body + " END"))
                   + (rawpg.terminate() if leaves == "Terminate" else b""))
            if leaves == "close":
                a.recv_until("Z")
            a.close()
            assert ask(b, "SELECT public.setting('work_mem')") == "4MB"
            assert ask(b, "SELECT pg_my_temp_schema() = 0 OR NOT EXISTS (SELECT FROM pg_class WHERE "
                          "relnamespace = pg_my_temp_schema())") == "t"


def test_a_question_that_nobody_waits_for_has_its_limit(router, raw, fleet):
    t = router(default_pool_size=1, server_connect_timeout="1s", query_wait_timeout="10s")
    a, lock = raw(t), fleet.primary.connect()
    try:
        harness.rows(lock, "BEGIN; LOCK TABLE pg_catalog.pg_depend IN ACCESS EXCLUSIVE MODE")
        do(a, ["DO $$ BEGIN PERFORM 1; END $$"])
        a.close()
        wait_until(lambda: "it does not answer" in t.log_text(), 5, "the connection to be given up")
    finally:
        lock.close()
    assert ask(raw(t), "SELECT 1") == "1"


def test_what_a_function_listens_to_is_heard(state, client, other):
    a, b = client(), other()
    heard = a.query("DO $$ BEGIN LISTEN hidden; NOTIFY hidden, 'first'; END $$")
    do(b, ["NOTIFY hidden, 'second'"])
    while sum(m.kind == "A" for m in heard) < 2:
        heard.append(a.recv())
    heard = [m for m in heard if m.kind == "A"]
    assert [h.body.split(b"\0")[-2] for h in heard] == [b"first", b"second"]


def test_the_same_pipeline_goes_on_behind_the_question(state, client):
    """What was sent on before the answer waits for it, and finds what was made."""
    a = client()
    a.send(*[rawpg.query("DO $$ BEGIN CREATE TEMP TABLE IF NOT EXISTS mine AS SELECT 7 AS a; END $$")
             + rawpg.query("SELECT a FROM mine")] * 5)
    for _ in range(5):
        assert not rawpg.errors(a.until_ready())
        rows = [m.columns() for m in a.until_ready() if m.kind == "D"]
        assert rows == [[b"7"]]


# ---- shown ----

def test_who_is_bound_is_shown_without_what_was_said(state, client):
    t, _ = state
    a = client()
    do(a, ["/* hush */ SELECT set_config('my.password', 'hush', false) WHERE true -- hush"])
    shown = bound_of(t, a)
    assert (shown["bound"], shown["bound_by"]) == ("set_config", "SELECT set_config(?, ?, false) WHERE true")
    since = shown["bound_since"]
    assert since.endswith(" UTC")
    do(a, ["LISTEN more"])
    assert bound_of(t, a)["bound_since"] == since, "bound once, not twice"
    do(a, ["DISCARD ALL"])
    shown = bound_of(t, a)
    assert not shown["bound"] and shown["bound_since"] is None and shown["bound_by"] is None, shown
    do(a, ["BEGIN", "SELECT state.make_0()", "SELECT 2", "COMMIT"])
    wait_until(lambda: bound_of(t, a)["bound_by"] == "SELECT state.make_0()", 5, "the suspect")
    assert "make_0" not in t.log_text() and "hush" not in t.log_text()


# ---- not only the primary ----

def test_stable_functions_that_change_the_session_are_not_taken_at_their_word(state, client, other):
    t, _ = state
    t.fleet.primary.sql(
        "CREATE FUNCTION state.sly() RETURNS int STABLE LANGUAGE plpgsql AS "
        "'BEGIN PERFORM set_config(''work_mem'', ''55MB'', false); RETURN 1; END'; "
        "CREATE FUNCTION state.slyer() RETURNS int STABLE LANGUAGE sql AS 'SELECT state.sly()'")
    a, b = client(), other()
    do(b, ["CREATE TABLE state.told (a int)"])  # the router reads the catalog again
    wait_until(lambda: t.show("DATABASES")[0]["catalog"] == "current" or do(b, ["SELECT 1"]), 5, "the catalog")
    do(a, ["SELECT state.slyer()"])
    assert t.show("CLIENTS") and bound_of(t, a)["bound"] == "set_config"
    assert ask(a, "SELECT public.setting('work_mem')") == "55MB"
    assert ask(b, "SELECT public.setting('work_mem')") == "4MB"


def test_nothing_is_left_on_a_replica(state, client):
    """A READ ONLY transaction that may not leave its replica, and runs code that sets something there."""
    _, one = state
    reader = client(1, options="-c tidemark.consistency=eventual")
    looked = f"SELECT {harness.WHERE}, public.setting('work_mem')"

    def on_a_replica():
        one.fleet.sync_quietly()
        a = client(1)
        do(a, ["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"])
        where = ask(a, f"SELECT {harness.WHERE}")
        do(a, ["SELECT state.make_0()"])
        assert ask(a, "SELECT public.setting('work_mem')") == "77MB"
        do(a, ["COMMIT"])
        if where == "primary":
            assert bound_of(one, a)["bound"] == "set_config"
            a.close()
            return False
        assert bound_of(one, a)["bound"] == ""
        # The one connection of that replica, for whoever comes.
        seen = []
        for _ in range(20):
            seen.append(tuple(reader.query_rows(looked)[0]))
        assert {v for _, v in seen} == {"4MB"} and where in {w for w, _ in seen}, (where, seen)
        a.close()
        return True

    wait_until(on_a_replica, 20, "a transaction on a replica")


# ---- what needs nothing ----

def test_large_object_descriptors_end_with_their_transaction(state, client):
    t, _ = state
    a = client()
    do(a, ["BEGIN"])
    oid = ask(a, "SELECT lo_create(0)")
    fd = ask(a, f"SELECT lo_open({oid}, 131072)")
    assert ask(a, f"SELECT lowrite({fd}, 'text')") == "4"
    assert ask(a, f"SELECT lo_lseek({fd}, 0, 0)") == "0" and ask(a, f"SELECT loread({fd}, 4)") == "\\x74657874"
    do(a, ["COMMIT"])
    assert ask(a, f"SELECT loread({fd}, 4)") == "42704"
    assert bound_of(t, a)["bound"] == ""
    do(a, [f"SELECT lo_unlink({oid})"])


def test_prepared_transactions_belong_to_nobody(state, client):
    """Two-phase commit: prepared on one connection, ended on another by another client; a SET in it counts."""
    t, _ = state
    a, b, c = client(), client(), client()
    do(a, ["BEGIN", "INSERT INTO scratch VALUES (-9, 'two')", "SET work_mem = '33MB'", "PREPARE TRANSACTION 'tp'"])
    assert ask(a, "SELECT public.setting('work_mem')") == "33MB"
    assert ask(b, "SELECT public.setting('work_mem')") == "4MB"
    do(c, ["BEGIN", "SELECT pg_current_xact_id_if_assigned()"])
    do(b, ["COMMIT PREPARED 'tp'"])
    # Whoever committed it reads its own write, wherever that is.
    assert ask(b, "SELECT v FROM scratch WHERE id = -9") == "two"
    do(c, ["ROLLBACK"])
    do(b, ["BEGIN", "DELETE FROM scratch WHERE id = -9", "PREPARE TRANSACTION 'tp2'"])
    do(a, ["ROLLBACK PREPARED 'tp2'"])
    do(a, ["DELETE FROM scratch WHERE id = -9"])
    for x in (a, b):
        assert bound_of(t, x)["bound"] == ""


def test_defaults_of_transactions_are_those_of_their_client(state, client, other):
    """… and routing knows them."""
    t, _ = state
    a, b = client(), other()
    do(a, ["SET default_transaction_read_only = on"])
    assert ask(a, "INSERT INTO scratch VALUES (-5, 'x')") == "25006"
    do(b, ["INSERT INTO scratch VALUES (-5, 'x')", "DELETE FROM scratch WHERE id = -5"])
    do(a, ["RESET default_transaction_read_only", "SET default_transaction_isolation = 'serializable'"])
    for _ in range(3):
        # A standby refuses SERIALIZABLE: the client hears nothing of that, and others read there as before.
        assert ask(a, "SELECT count(*) FROM items WHERE id = 5") == "1"
        do(a, ["BEGIN READ ONLY"])
        assert ask(a, "SHOW transaction_isolation") == "serializable"
        do(a, ["COMMIT"])
    assert row_of(t, a)["node"] == "primary"
    c = client()
    do(c, ["SELECT count(*) FROM items WHERE id = 5"])
    assert row_of(t, c)["last_route"] != "refused_before"


# ---- the router's own ----

def test_the_guards_statement_is_not_to_be_seen_on_a_replica(state, client):
    """A guarded read leaves the guard prepared there; a READ ONLY transaction that may not move looks for it."""
    _, one = state
    a = client(1)
    node, seen = None, set()

    def guarded():
        before = one.routing()["reason_replica_caught_up"]
        n = ask(a, "UPDATE items SET n = n + 1 WHERE id = 3 RETURNING n")
        assert ask(a, "SELECT n FROM items WHERE id = 3") == n
        return one.routing()["reason_replica_caught_up"] > before

    def looked():
        nonlocal node
        wait_until(guarded, 20, "a guarded read")
        node = row_of(one, a)["node"]
        one.fleet.sync_quietly()
        do(a, ["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"])
        where = ask(a, f"SELECT {harness.WHERE}")
        shown = a.query_rows("SELECT name FROM pg_prepared_statements")
        assert ask(a, f"SELECT {harness.WHERE}") == where
        do(a, ["COMMIT"])
        assert shown == [], (where, shown)
        seen.add(where)
        return where == node and where != "primary"

    wait_until(looked, 20, lambda: f"a look at the replica that was guarded; looked at {seen}")
