# SPDX-License-Identifier: PostgreSQL
"""Prepared statements of the protocol: what a client hears is what PostgreSQL itself would say, though the names on
servers are the router's own, and may be prepared there at any time."""

import time

import pytest

from harness import Direct, Tidemark, rows, value
from rawpg import bind, close, describe, errors, execute, kinds, parse, query, summaries, sync
from test_transactions import settle, step

BAD, GOOD = "SELEC 1", "SELECT n > 0 FROM items WHERE id = 67"


def run(name):
    return bind("", name) + execute()


# Each list is sent in one go; a message that ends in ReadyForQuery is sync() or query().
PIPELINES = {
    "a name again after its Parse failed": [parse("a", BAD), sync(), parse("a", GOOD), sync(), run("a"), sync()],
    "a name whose Parse failed": [parse("a", BAD), sync(), run("a"), sync(), describe("S", "a"), sync(), close("S", "a"), sync()],
    "the same bad text by another name": [parse("a", BAD), sync(), parse("b", BAD), sync(), run("b"), sync()],
    "the unnamed one after its Parse failed": [parse("", GOOD), sync(), parse("", BAD), sync(), run(""), sync()],
    "a name that is taken": [parse("a", GOOD), parse("a", "SELECT 2"), sync(), run("a"), sync()],
    "a name that is taken, in the next batch": [parse("a", GOOD), sync(), parse("a", GOOD), sync(), run("a"), sync()],
    "Close that was skipped": [parse("a", GOOD), sync(), step("SELECT 1/0"), close("S", "a"), sync(), parse("a", "SELECT 2"), sync(),
                               run("a"), sync()],
    "Close and Parse": [parse("a", GOOD), sync(), close("S", "a"), parse("a", "SELECT 2"), sync(), run("a"), sync()],
    "Close and Parse that fails": [parse("a", GOOD), sync(), close("S", "a"), parse("a", BAD), sync(), run("a"), sync(),
                                   parse("a", GOOD), sync(), run("a"), sync()],
    "Parse that was skipped": [step("SELECT 1/0"), parse("a", GOOD), sync(), run("a"), sync(), parse("a", GOOD), sync()],
    "Parse in a failed transaction": [step("BEGIN"), sync(), step("SELECT 1/0"), sync(), parse("a", GOOD), sync(), step("ROLLBACK"), sync(),
                                      parse("a", GOOD), sync(), run("a"), sync()],
    "DEALLOCATE in between": [parse("a", GOOD), sync(), query("DEALLOCATE a"), parse("a", "SELECT 2"), sync(), run("a"), sync()],
    "DEALLOCATE ALL among others": [parse("a", GOOD), sync(), query("SELECT 1; DEALLOCATE ALL; SELECT 2"), run("a"), sync(),
                                    parse("a", "SELECT 2"), sync(), run("a"), sync()],
    "DEALLOCATE among others": [parse("a", GOOD), sync(), query("SELECT 1; DEALLOCATE a; SELECT 2"), run("a"), sync(),
                                parse("a", "SELECT 2"), sync(), run("a"), sync()],
    "DEALLOCATE ALL that failed": [parse("a", GOOD), sync(), query("DEALLOCATE ALL; SELECT 1/0"), parse("a", GOOD), sync(), run("a"), sync()],
    "DISCARD ALL": [parse("a", GOOD), sync(), query("DISCARD ALL"), run("a"), sync(), parse("a", GOOD), sync(), run("a"), sync()],
    "DISCARD PLANS": [parse("a", GOOD), sync(), query("DISCARD PLANS"), run("a"), sync()],
    "DEALLOCATE ALL by the protocol": [parse("a", GOOD), sync(), step("DEALLOCATE ALL"), sync(), run("a"), sync()],
    "DEALLOCATE by the protocol": [parse("a", GOOD), sync(), step("DEALLOCATE a"), sync(), run("a"), sync(), parse("a", "SELECT 2"), sync(), run("a"), sync()],
    "COMMIT parsed, not executed": [step("BEGIN"), sync(), step("UPDATE items SET n = n WHERE id = 68"), sync(),
                                    parse("", "UPDATE items SET n = n WHERE id = 67"), bind(), sync(), parse("c", "COMMIT"), sync(),
                                    execute(), sync(), run("c"), sync()],
    "BEGIN parsed, not executed": [parse("b", "BEGIN"), sync(), step("UPDATE items SET n = n WHERE id = 67"), sync(), run("b"), sync(),
                                   step("SELECT 1"), sync(), step("ROLLBACK"), sync()],
}


def count_ready(messages):
    return sum(m == sync() or m[:1] == b"Q" for m in messages)


def converse(c, messages):
    c.send(*messages)
    return [summaries(c.until_ready()) for _ in range(count_ready(messages))]


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_sounds_like_postgresql(tm, fleet, raw, name):
    heard = []
    for to in (Direct(fleet), tm):
        c = raw(to)
        heard.append(converse(c, PIPELINES[name]))
        c.close()
    assert heard[0] == heard[1]


def test_a_statement_known_elsewhere_is_used_in_a_failed_transaction_and_after_it(tm, fleet, raw):
    """It was prepared on a replica; its Parse on the primary comes when the transaction there has failed already."""
    settle(tm, tm.connect())
    heard = []
    for to in (Direct(fleet), tm):
        c = raw(to)
        converse(c, [parse("a", GOOD), sync(), run("a"), sync()])
        heard.append(converse(c, [step("BEGIN READ WRITE"), sync(), step("SELECT 1/0"), sync(), run("a"), sync(), step("ROLLBACK"), sync(),
                                  run("a"), sync()]))
        c.close()
    assert heard[0] == heard[1]


def test_ddl_is_of_all_names_of_a_database(router, fleet, raw):
    """Two lines of [databases] that lead to one database: what is altered by way of one is prepared again by way of the other."""
    nodes = "".join(f"{s.name} = {s.conninfo()}\n" for s in fleet.servers)
    t = router(config=f"[nodes]\n{nodes}[databases]\none = dbname=app\ntwo = dbname=app\n* =\n[tidemark]\nadmin_users = postgres\n"
                      "listen_addr = 127.0.0.1\nlisten_port = {port}\n")
    one, two = t.connect(dbname="one"), raw(t, database="two")
    rows(one, "DROP TABLE IF EXISTS public.shared_plans")
    rows(one, "CREATE TABLE public.shared_plans (a int)")
    two.query("SET tidemark.consistency = 'strong'")
    read = [parse("p", "SELECT * FROM public.shared_plans"), sync()]
    converse(two, read + [run("p"), sync()])
    rows(one, "ALTER TABLE public.shared_plans ADD COLUMN b int")
    two.send(run("p"), sync())
    got = two.until_ready()
    assert "E" not in kinds(got), errors(got)


def test_the_statements_of_a_client_take_so_much_and_no_more(router, raw):
    t = router(max_client_statements_size="64kB")
    c = raw(t)
    text = "SELECT '" + "x" * 10000 + "'"
    names = [f"s{i}" for i in range(9)]
    for i, name in enumerate(names):
        c.send(parse(name, text), sync())
        got = c.until_ready()
        if kinds(got)[0] == "E":
            break
    assert i == 6 and errors(got) == ["53400"], (i, got)
    # The connection goes on, with the statements that it has, and with room for others.
    assert converse(c, [run("s5"), sync()])[0][0] == ("2",)
    converse(c, [close("S", "s5"), sync()])
    assert converse(c, [parse("again", text), sync()])[0][0] == ("1",)
    c.query("DEALLOCATE ALL")
    for name in names[:6]:
        assert converse(c, [parse(name, text), sync()])[0][0] == ("1",)
    # In a transaction it fails as any other statement does.
    c.query("BEGIN")
    got = converse(c, [parse("more", text), sync(), step("SELECT 1"), sync()])
    assert got[0][-1] == ("Z", "E") and got[1][-1] == ("Z", "E")
    c.query("ROLLBACK")


# A setting, two values of it, and a text that is read by it when it is parsed.
READ_BY = {
    "search_path": ("path_a", "path_b", "SELECT * FROM of_path"),
    "TimeZone": ("UTC", "Asia/Tokyo", "SELECT extract(epoch FROM '2026-01-01 00:00'::timestamptz)::text"),
    "DateStyle": ("ISO, MDY", "ISO, DMY", "SELECT to_char('01/02/2026'::date, 'DD MM')"),
    "IntervalStyle": ("postgres", "sql_standard", "SELECT extract(epoch FROM '-1 1:00:00'::interval)::text"),
    "xmloption": ("content", "document", "SELECT ' '::xml"),
    "transform_null_equals": ("on", "off", "SELECT (NULL = NULL) IS NULL"),
}
WAYS = {
    "SET": ("", "SET {} = {}", ""),
    "SET LOCAL": ("BEGIN", "SET LOCAL {} = {}", "COMMIT"),
    "set_config": ("BEGIN", "SELECT set_config('{}', '{}', true)", "COMMIT"),
    "a function": ("BEGIN", "SELECT set_by_function('{}', '{}')", "COMMIT"),
    "SET that is rolled back": ("BEGIN", "SET {} = {}", "ROLLBACK"),
}


@pytest.fixture(scope="module")
def paths(shared_fleet):
    shared_fleet.primary.sql("CREATE SCHEMA path_a; CREATE SCHEMA path_b; CREATE TABLE path_a.of_path AS SELECT 1 AS a;"
                      "CREATE TABLE path_b.of_path AS SELECT 'b'::text AS b, 2 AS c; GRANT USAGE ON SCHEMA path_a, path_b TO app;"
                      "GRANT SELECT ON path_a.of_path, path_b.of_path TO app;"
                      "CREATE FUNCTION public.set_by_function(name text, value text) RETURNS text LANGUAGE sql VOLATILE AS "
                      "$$SELECT pg_catalog.set_config(name, value, true)$$")
    yield
    shared_fleet.primary.sql("DROP SCHEMA path_a, path_b CASCADE; DROP FUNCTION public.set_by_function")


@pytest.fixture(scope="module")
def one_server(shared_fleet):
    """A router that has one connection for all."""
    t = Tidemark(shared_fleet, default_pool_size=1, consistency="strong", max_client_statements_size="64kB")
    yield t
    t.stop()


def in_turn(connections, way, setting, values, text):
    """Both prepare the text under one name, each by its own settings, and run it twice, in turn."""
    heard = []
    before, sets, after = WAYS[way]
    for again in (False, True):
        for c, v in zip(connections, values):
            if before:
                c.query(before)
            if not again or before:
                quoted = v if setting == "search_path" or "{}'" in sets else f"'{v}'"
                c.query(sets.format(setting, quoted))
            if not again:
                heard.append(converse(c, [parse("p", text), describe("S", "p"), sync()]))
            heard.append(converse(c, [run("p"), sync()]))
            heard.append(converse(c, [describe("S", "p"), run("p"), sync()]))
            if after:
                c.query(after)
    return heard


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("setting", READ_BY)
def test_a_text_is_read_by_the_settings_of_its_client(one_server, fleet, paths, raw, setting, way):
    *values, text = READ_BY[setting]
    heard = [in_turn([raw(to) for _ in values], way, setting, values, text) for to in (Direct(fleet), one_server)]
    assert heard[0] == heard[1]
    assert heard[0][1] != heard[0][4], "the setting makes no difference"


def test_settings_that_no_text_is_read_by_are_shared(one_server, raw):
    def prepared():
        return [int(s["prepared_statements"]) for s in one_server.show("SERVERS")]

    a, b = raw(one_server), raw(one_server)
    a.query("SET application_name = 'a'; SET app.who = 'a'; SET statement_timeout = 10000")
    b.query("SET application_name = 'b'; SET app.who = 'b'")
    text = "SELECT n, 'shared' FROM items WHERE id = 69"
    converse(a, [parse("p", text), sync(), run("p"), sync()])
    before = prepared()
    converse(b, [parse("q", text), sync(), run("q"), sync()])
    assert prepared() == before


def test_a_search_path_may_change_what_a_statement_returns(one_server, paths, raw):
    """PostgreSQL itself says 0A000, cached plan must not change result type: what other clients prepare is not this client's doing,
    so a statement is prepared again whatever the reason."""
    c = raw(one_server)
    c.query("SET search_path = path_a")
    assert converse(c, [parse("p", "SELECT * FROM of_path"), sync(), run("p"), sync()])[1][1][0] == "D"
    c.query("SET search_path = path_b")
    got = converse(c, [describe("S", "p"), run("p"), sync()])[0]
    assert [m[0] for m in got] == ["t", "T", "2", "D", "C", "Z"], got


def test_today_is_that_of_its_own_parse(one_server, raw):
    text = "SELECT 'now'::timestamptz::text"
    a, b = raw(one_server), raw(one_server)
    converse(a, [parse("p", text), sync()])
    first = converse(a, [run("p"), sync()])
    time.sleep(0.01)
    converse(b, [parse("p", text), sync()])
    assert converse(b, [run("p"), sync()]) > first
    assert converse(a, [run("p"), sync()]) == first


def test_the_statements_of_a_server_take_so_much_and_no_more(one_server, raw):
    def prepared():
        return sum(int(s["prepared_statements"]) for s in one_server.show("SERVERS"))

    # Of two clients more than one may have.
    for _ in range(2):
        c = raw(one_server)
        for i in range(5):
            text = f"SELECT '{i}{id(c)}{'x' * 10000}'"
            assert converse(c, [parse(f"s{i}", text), sync(), run(f"s{i}"), sync()])[1][-1] == ("Z", "I")
    assert 3 <= prepared() <= 6
