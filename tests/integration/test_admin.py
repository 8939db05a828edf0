# SPDX-License-Identifier: PostgreSQL
"""What an operator sees: the console on database "tidemark", /metrics and /healthz."""

import re
import time

import psycopg2
import pytest

import harness
import rawpg
from harness import rows, value, wait_until, where

FLEET_COLUMNS = ["name", "host", "port", "role", "state", "epoch", "timeline", "history", "position", "lag_bytes", "lag_ms",
                 "replay_delay_ms", "outstanding", "samples", "error", "weight", "share_pct", "drained", "branch", "patroni"]
ROUTING_NAMES = ["reads_total", "reads_replica", "reads_primary", "reads_waited", "waited_for_others",
                 "primary_for_others", "discriminating", "wait_timeouts", "retried", "reason_replica_fresh",
                 "reason_write", "reason_transaction", "reason_no_replica", "reason_refused_before", "reason_unparsable"]


@pytest.fixture
def console(tm, raw):
    return raw(tm, user="postgres", database="tidemark")


@pytest.mark.parametrize("what", ["STATS", "POOLS", "CLIENTS", "SERVERS", "FLEET", "ROUTING"])
def test_every_table_has_rows_and_names(tm, console, what):
    value(tm.connect(), "SELECT 1")
    for text in (f"SHOW {what}", f"show {what.lower()};", f"  Show {what} ; "):
        table = console.query_dicts(text)
        assert table, f"{text} is empty"
        assert all(name and name == name.lower() for name in table[0])


def test_psql_can_be_the_console(tm):
    r = tm.psql("-A", "-c", "SHOW FLEET", user="postgres", dbname="tidemark")
    assert r.returncode == 0, r.stderr
    assert r.stdout.splitlines()[0].split("|") == FLEET_COLUMNS


def test_show_fleet(tm, fleet, console):
    tm.connect()
    table = console.query_dicts("SHOW FLEET")
    assert list(table[0]) == FLEET_COLUMNS
    assert [(r["name"], r["port"], r["role"]) for r in table] == \
        [(s.name, str(s.port), "primary" if s.index == 0 else "replica") for s in fleet.servers]
    for r in table:
        assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", r["position"]), r
        assert int(r["samples"]) > 0
        assert not r["error"]
        assert r["timeline"] in ("1", "0", None, ""), r


def test_show_fleet_measures_lag(tm, fleet, console):
    c = tm.connect()
    fleet.sync()
    fleet.pause_replay(1)
    try:
        for _ in range(10):
            rows(c, "UPDATE items SET v = v WHERE id = 1")
            time.sleep(0.05)
        time.sleep(0.4)

        def lag():
            r = next(r for r in console.query_dicts("SHOW FLEET") if r["name"] == "replica1")
            return int(r["lag_bytes"]) > 0 and float(r["lag_ms"]) >= 300

        wait_until(lag, 3, "lag of the paused replica in SHOW FLEET")
    finally:
        fleet.resume_replay(1)
    wait_until(lambda: next(r for r in console.query_dicts("SHOW FLEET") if r["name"] == "replica1")["lag_bytes"] == "0",
               10, "the lag to vanish though nobody writes")


def test_show_fleet_tells_of_a_lost_server(small_fleet, router):
    t = router(in_front_of=small_fleet, answer_timeout="500ms")
    epoch = int(t.show("FLEET")[1]["epoch"])
    small_fleet.stop(1, "immediate")

    def lost():
        r = t.show("FLEET")[1]
        return r["error"] and r["position"] in (None, "") and int(r["epoch"]) > epoch and r["role"] != "replica"

    wait_until(lost, 5, lambda: f"SHOW FLEET to tell of the loss: {t.show('FLEET')[1]}")
    small_fleet.start(1)
    t.wait_fleet()
    assert not t.show("FLEET")[1]["error"]


def test_show_routing(tm, console):
    table = console.query_dicts("SHOW ROUTING")
    assert list(table[0]) == ["name", "value", "meaning"]
    names = [r["name"] for r in table]
    assert len(names) == len(set(names))
    for name in ROUTING_NAMES:
        assert name in names
    assert all(r["meaning"] for r in table), "a number without a meaning"


def test_routing_adds_up(tm):
    c = tm.connect()
    before = tm.routing()
    for _ in range(10):
        where(c)
    rows(c, "UPDATE items SET v = v WHERE id = 1")
    with pytest.raises(psycopg2.Error):
        rows(c, "SELEC 1")
    rows(c, "BEGIN; SELECT 1; COMMIT")
    after = tm.routing()
    grown = {k: after[k] - before[k] for k in after}
    assert grown["reads_total"] == grown["reads_replica"] + grown["reads_primary"] == 10
    assert grown["reason_write"] == 1
    assert grown["reason_unparsable"] == 1
    # "discriminating" counts decisions, never more than reads.
    assert after["discriminating"] <= after["reads_total"]


def test_show_clients_and_servers_and_pools(tm, console):
    c = tm.connect(application_name="seen")
    rows(c, "BEGIN; SELECT 1")
    clients = console.query_dicts("SHOW CLIENTS")
    assert any(r.get("user") == "app" and r.get("database") == "app" for r in clients), clients
    servers = console.query_dicts("SHOW SERVERS")
    assert any(r.get("user") == "app" for r in servers), servers
    pools = console.query_dicts("SHOW POOLS")
    assert any(r.get("user") == "app" and r.get("database") == "app" for r in pools), pools
    rows(c, "ROLLBACK")


def test_show_stats_counts_queries(tm, console):
    def count():
        return sum(int(r["total_query_count"]) for r in console.query_dicts("SHOW STATS") if r["database"] == "app")

    before = count()
    c = tm.connect()
    for _ in range(7):
        rows(c, "SELECT 1")
    assert count() - before >= 7


@pytest.mark.parametrize("text", ["SHOW NOTHING", "SELECT 1", "DROP EVERYTHING", "SHOW", "SHOW FLEET; SHOW FLEET", "x" * 5000])
def test_unknown_commands_are_errors_and_the_console_goes_on(console, text):
    got = console.query(text)
    assert rawpg.errors(got) and got[-1].kind == "Z", got
    assert rawpg.errors(got)[0] in ("42601", "0A000", "22023", "42704"), got
    assert console.query_dicts("SHOW FLEET")


def test_empty_command(console):
    assert rawpg.kinds(console.query("")) == "IZ"


def test_others_may_not_look(tm, raw):
    with pytest.raises(rawpg.ServerError) as e:
        raw(tm, user="app", database="tidemark")
    assert e.value.sqlstate in ("28000", "42501")


def test_the_console_answers_while_every_pool_is_full(router, fleet):
    t = router(default_pool_size=1)
    c = t.connect()
    rows(c, "BEGIN; UPDATE items SET v = v WHERE id = 98")
    started = time.monotonic()
    assert t.show("POOLS")
    assert time.monotonic() - started < 1
    rows(c, "ROLLBACK")


# ---- HTTP ----

LINE = re.compile(r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\.)*",?)*\})? '
                  r'(-?[0-9.]+([eE][-+]?[0-9]+)?|NaN|[+-]?Inf)$')


def samples(text):
    out = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            assert LINE.match(line), f"not Prometheus text: {line!r}"
            name, number = line.rsplit(" ", 1)
            out[name] = float(number)
    return out


def test_metrics_are_prometheus_text(tm):
    c = tm.connect()
    value(c, "SELECT 1")
    status, text = tm.http("/metrics")
    assert status == 200
    got = samples(text)
    assert all(name.startswith("tidemark_") for name in got), [n for n in got if not n.startswith("tidemark_")]
    typed = set(re.findall(r"^# TYPE (\S+) (?:counter|gauge|histogram|summary)$", text, re.M))
    helped = set(re.findall(r"^# HELP (\S+) ", text, re.M))
    for name in got:
        base = re.sub(r"\{.*", "", name)
        assert base in typed or re.sub(r"_(bucket|sum|count)$", "", base) in typed, f"{name} has no TYPE"
    assert typed <= helped


def test_metrics_count_reads_and_name_every_server(tm, fleet):
    c = tm.connect()

    def total(text):
        return sum(samples(text).values())

    before = tm.http("/metrics")[1]
    for _ in range(5):
        where(c)
    after = tm.http("/metrics")[1]
    assert total(after) != total(before)
    for s in fleet.servers:
        assert f'"{s.name}"' in after, f"{s.name} is not in the metrics"
    assert "_bucket{" in after, "no histogram of token waits"


def test_healthz(tm):
    status, _ = tm.http("/healthz")
    assert status == 200
    assert tm.http("/no-such-page")[0] == 404


def test_healthz_without_a_primary(small_fleet, router):
    t = router(in_front_of=small_fleet, http=True, answer_timeout="500ms")
    assert t.http("/healthz")[0] == 200
    small_fleet.stop(0, "immediate")
    try:
        wait_until(lambda: t.http("/healthz")[0] == 503, 5, "/healthz to say that there is no primary")
    finally:
        small_fleet.start(0)
    wait_until(lambda: t.http("/healthz")[0] == 200, 10, "/healthz to recover")
