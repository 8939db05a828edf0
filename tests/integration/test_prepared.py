# SPDX-License-Identifier: PostgreSQL
"""Prepared statements of the protocol: what a client hears is what PostgreSQL itself would say, though the names on
servers are the router's own, and may be prepared there at any time."""

import pytest

from harness import Direct, rows, value
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
