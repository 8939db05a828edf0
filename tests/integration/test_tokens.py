# SPDX-License-Identifier: PostgreSQL
"""Signed tokens between two routers that know nothing of each other but the keys."""

import itertools
import time

import harness
import pytest
import tokens
from harness import Tidemark, rows, value, wait_until, where
from rawpg import bind, describe, execute, parse, sync
from test_routing import WHERE, delta, paused, settle

_versions = itertools.count(9_000_000)


@pytest.fixture
def routers(fleet, need_router):
    """make(n, keys, **options): n routers with scope = connection; their key file is keys{i} in their directory."""
    made = []

    def make(count=2, keys=tokens.OLD, **options):
        options.setdefault("scope", "connection")
        for _ in range(count):
            files = {"keys": keys + "\n"} if keys else {}
            extra = {"token_key_file": "{dir}/keys"} if keys else {}
            made.append(Tidemark(fleet, files=files, **extra, **options))
        return made[-count:]

    yield make
    for t in made:
        t.stop()


def write(c, key=70):
    n = next(_versions)
    rows(c, f"UPDATE items SET n = {n} WHERE id = {key}")
    return n


def read(c, key=70):
    """(value, node)"""
    return rows(c, f"SELECT n, {WHERE} FROM items WHERE id = {key}")[0]


def token_of(c):
    return value(c, "SHOW tidemark.token")


def found(t, verdict):
    return t.routing()[f"tokens_{verdict}"]


def test_a_token_is_believed_by_another_router_with_the_key(routers, fleet):
    a, b = (t.connect() for t in routers())
    with paused(fleet):
        n = write(a)
        token = token_of(a)
        assert len(token) == 63
        stale = read(b)
        assert stale[0] != n and stale[1] != "primary", "router B already knew: the test shows nothing"
        rows(b, f"SET tidemark.read_after = '{token}'")
        assert read(b) == (n, "primary")
    fleet.sync()
    settle(None, b)
    assert read(b)[0] == n


def test_a_token_makes_a_read_wait_for_the_replica_it_needs(routers, fleet):
    ta, tb = routers(wait_timeout="5s")
    a, b = ta.connect(), tb.connect()
    fleet.set_delay(1, 120)
    fleet.set_delay(2, 120)
    wait_until(lambda: read(b)[1] != "primary", 5, "reads on replicas")
    for _ in range(5):
        n = write(a)
        rows(b, f"SET tidemark.read_after = '{token_of(a)}'")
        got, node = read(b)
        assert got == n
    assert node != "primary"
    assert found(tb, "ok") == 5 and found(tb, "forged") == 0


def test_what_a_token_says(routers, fleet):
    (t,) = routers(1)
    c = t.connect()
    assert token_of(c) == "", "a session that has seen nothing asks for nothing"
    write(c)
    (b,) = tokens.branches(token_of(c))
    system = fleet.primary.value("SELECT system_identifier FROM pg_control_system()")
    assert (b["cluster"], b["timeline"], b["fork"]) == (system & tokens.MASK, 1, 0)
    assert abs(tokens.lsn(fleet.primary.value("SELECT pg_current_wal_insert_lsn()::text")) - b["position"]) < 1 << 20


@pytest.mark.parametrize("spoil, verdict", [
    (lambda t, own: "garbage", "malformed"),
    (lambda t, own: t + "A", "malformed"),
    (lambda t, own: t[:-1], "malformed"),
    (lambda t, own: ",".join([t] * 9), "malformed"),
    (lambda t, own: "x" * 3000, "malformed"),
    (lambda t, own: ",".join([t] * 30) + ",", "malformed"),
    (lambda t, own: t[:30] + ("A" if t[30] != "A" else "B") + t[31:], "forged"),
    (lambda t, own: tokens.sign([own], key="7:" + "00" * 32), "forged"),
    (lambda t, own: tokens.sign([own], key="9:" + "5a" * 32), "forged"),
    (lambda t, own: tokens.sign([own], session="somebody"), "bound"),
    (lambda t, own: tokens.sign([own], issued=int(time.time()) - 86400 - 10), "expired"),
    (lambda t, own: tokens.sign([own], issued=int(time.time()) + 70), "future"),
    (lambda t, own: tokens.sign([{**own, "cluster": own["cluster"] ^ 1}]), "foreign"),
    (lambda t, own: tokens.sign([{**own, "timeline": 2}]), "unknown"),
    (lambda t, own: tokens.sign([{**own, "fork": 4711}]), "lost"),
    (lambda t, own: "primary", "primary"),
    (lambda t, own: tokens.sign([], primary=True), "primary"),
    (lambda t, own: t + ",garbage", "malformed"),
], ids=lambda x: x if isinstance(x, str) else "")
@pytest.mark.parametrize("how", ["set", "tag", "startup"])
def test_a_token_that_cannot_be_believed_means_the_primary_and_a_fresh_one(routers, fleet, spoil, verdict, how):
    ta, tb = routers(token_ttl="1d")
    a = ta.connect()
    with paused(fleet):
        n = write(a)
        good = token_of(a)
        bad = spoil(good, tokens.branches(good)[0])
        b = tb.connect(options="-c tidemark.report=on" + (f" -c tidemark.read_after={bad}" if how == "startup" else ""))
        tag = ""
        if how == "set":
            rows(b, f"SET tidemark.read_after = '{bad}'")
        if how == "tag":
            tag = f"/*tidemark_read_after='{bad}'*/ "
        before = tb.routing()
        assert rows(b, f"{tag}SELECT n, {WHERE} FROM items WHERE id = 70") == [(n, "primary")]
        assert delta(before, tb.routing(), "reason_token_refused", "reads_waited") == ([0, 0] if tag and len(bad) > 2375 else [1, 0])
        if not (tag and len(bad) > 2375):  # such a tag is malformed as a tag
            assert found(tb, verdict) == 1
        fresh = b.info.parameter_status("tidemark.token")
        assert tokens.branches(fresh) and tokens.branches(fresh)[0]["position"] >= tokens.branches(good)[0]["position"]
        # What was read there binds the session.
        assert read(b)[0] == n


def test_what_a_refused_token_asked_for_is_in_no_token_until_the_primary_was_read(routers, fleet):
    (t,) = routers(1)
    c = t.connect()
    rows(c, "SET tidemark.read_after = 'garbage'")
    assert tokens.is_primary(token_of(c))
    # Another session's read on the primary does not pay for it.
    value(c, "/*tidemark_session='other',tidemark_consistency='strong'*/ SELECT 1")
    assert tokens.is_primary(token_of(c))
    assert read(c)[1] == "primary"
    assert not tokens.is_primary(token_of(c))


def test_a_list_asks_for_all_of_it(routers, fleet):
    ta, tb = routers()
    a1, a2, b = ta.connect(), ta.connect(), tb.connect()
    with paused(fleet):
        n1 = write(a1, 70)
        first = token_of(a1)
        n2 = write(a2, 71)
        rows(b, f"SET tidemark.read_after = '{token_of(a2)},{first}'")
        assert read(b, 70)[0] == n1 and read(b, 71)[0] == n2


def test_a_bound_token_is_good_with_its_session_only(routers, fleet):
    ta, tb = routers(token_binding="session")
    a = ta.connect()
    rows(a, "SET tidemark.session = 'user-42'")
    write(a)
    token = token_of(a)
    for name, verdict in (("user-42", "ok"), ("user-43", "bound"), ("", "bound")):
        before = found(tb, verdict)
        b = tb.connect(options=f"-c tidemark.read_after={token} -c tidemark.session={name}" if name else
                       f"-c tidemark.read_after={token}")
        read(b)
        assert found(tb, verdict) == before + 1, name
    b = tb.connect()
    value(b, f"/*tidemark_read_after='{token}',tidemark_session='user-42'*/ SELECT 1")
    assert found(tb, "ok") == 2


def test_keys_are_replaced_without_a_refused_token(routers, fleet):
    ta, tb = routers()
    a, b = ta.connect(), tb.connect()

    def carry(x, y):
        write(x)
        token = token_of(x)
        rows(y, f"SET tidemark.read_after = '{token}'")
        read(y)
        return tokens.vectors.read(token)[1]

    def reload(t, *keys):
        t.write("keys", "\n".join(keys) + "\n")
        logged = t.log_text().count("reload")
        t.reload()
        wait_until(lambda: t.log_text().count("reload") > logged, 5, "the reload")

    kept = token_of(a) if write(a) else ""
    ids = [carry(a, b)]
    for t in (ta, tb):
        reload(t, tokens.OLD, tokens.NEW)
        ids += [carry(a, b), carry(b, a)]
    for t in (ta, tb):
        reload(t, tokens.NEW, tokens.OLD)
        ids += [carry(a, b), carry(b, a)]
    rows(b, f"SET tidemark.read_after = '{kept}'")
    read(b)
    assert set(ids) == {7, 8}
    refused = {v: n for t in (ta, tb) for v, n in t.routing().items() if v.startswith("tokens_") and v != "tokens_ok" and n}
    assert refused == {}
    reload(tb, tokens.NEW)
    rows(b, f"SET tidemark.read_after = '{kept}'")
    assert read(b)[1] == "primary"
    assert found(tb, "forged") == 1


def test_a_router_without_keys_believes_itself_only_also_after_a_reload(routers, fleet):
    ta, tb = routers(keys=None)
    a, a2, b = ta.connect(), ta.connect(), tb.connect()
    write(a)
    token = token_of(a)
    ta.reload()
    time.sleep(0.3)
    rows(a2, f"SET tidemark.read_after = '{token}'")
    read(a2)
    rows(b, f"SET tidemark.read_after = '{token}'")
    assert read(b)[1] == "primary"
    assert (found(ta, "ok"), found(tb, "forged")) == (1, 1)


def test_a_key_file_that_cannot_be_used_is_told_without_its_secrets(tmp_path):
    secret = "5a" * 7
    (tmp_path / "keys").write_text(f"# comment\n7:{secret}\n")
    code, text = harness.bad_start("--primary", "host=/tmp", "--token-key-file", str(tmp_path / "keys"))
    assert code != 0 and "keys:2: expected id:hex" in text and secret not in text
    (tmp_path / "keys").write_text("\n")
    code, text = harness.bad_start("--primary", "host=/tmp", "--token-key-file", str(tmp_path / "keys"))
    assert code != 0 and "no key in it" in text


# ---- what is reported ----

def test_after_each_read_the_reported_token_is_exact(routers, fleet, raw):
    """With report on nothing is owed after a read, wherever it was answered: a token never says only "primary"."""
    (t,) = routers(1)
    c = raw(t, options="-c tidemark.report=on")
    fleet.set_delay(1, 50)
    ids = []
    for i in range(60):
        if i % 5 == 0:
            c.query(f"UPDATE items SET n = n + 1 WHERE id = {72 + i % 3}")
        elif i % 5 == 1:
            c.query("/*tidemark_consistency='strong'*/ SELECT 1")
        elif i % 5 == 2:
            c.send(parse("", "SELECT n FROM items WHERE id = 72"), bind(""), execute(), sync())
            c.until_ready()
        else:
            c.query(f"SELECT n FROM items WHERE id = {72 + i % 3}")
        token = c.parameters["tidemark.token"]
        assert not tokens.is_primary(token), i
        ids.append(tokens.branches(token)[0]["position"])
    assert ids == sorted(ids)
    assert t.routing()["reads_replica"] > 10


def test_a_clock_that_goes_back_leaves_no_token_of_the_future_with_the_client(fleet, need_router, clock_shift, tmp_path):
    """What was reported before would be refused everywhere until that time is reached again."""
    shift, program = tmp_path / "shift", tmp_path / "tidemark"
    shift.write_text("0")
    program.write_text("#!/bin/sh\nexport ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0\n"
                       f"exec env LD_PRELOAD={clock_shift} CLOCK_SHIFT={shift} {harness.PROGRAM} \"$@\"\n")
    program.chmod(0o755)
    with Tidemark(fleet, program=str(program), scope="connection", token_key_file="{dir}/keys",
                  files={"keys": tokens.OLD + "\n"}) as t:
        c = t.connect(options="-c tidemark.report=on")
        write(c)
        reported = c.info.parameter_status("tidemark.token")
        shift.write_text("-600000")
        rows(c, "SELECT 1")
        other = t.connect(options=f"-c tidemark.read_after={reported}")
        assert found(t, "future") == 1
        fresh = c.info.parameter_status("tidemark.token")
        assert fresh != reported
        rows(other, f"SET tidemark.read_after = '{fresh}'")
        assert found(t, "future") == 1 and found(t, "ok") == 1
        c.close()
        other.close()


def test_what_was_read_from_one_replica_is_asked_of_another_router(routers, fleet):
    """The token of a session that only read, on the replica that was ahead, keeps it from going backwards."""
    (ta,), (tb,) = routers(1, replicas=fleet.standbys[:1]), routers(1, replicas=fleet.standbys[1:])
    writer = fleet.primary.connect()
    a = ta.connect(options="-c tidemark.report=on")
    backwards = tried = 0
    with paused(fleet, 2):
        for _ in range(200):
            if tried == 5:
                break
            n = write(writer)
            wait_until(lambda: fleet.standbys[0].value("SELECT n FROM items WHERE id = 70") == n, 5, "the first standby")
            got, node = read(a)
            if got != n or node == "primary":
                continue
            token = a.info.parameter_status("tidemark.token")
            naive, b = tb.connect(), tb.connect(options=f"-c tidemark.read_after={token}")
            backwards += read(naive)[0] < n
            assert read(b) == (n, "primary")
            tried += 1
    assert tried == 5, "no read on the first standby"
    assert backwards == 5, "without the token nothing went backwards: the test shows nothing"


def test_a_read_that_a_standby_refuses_keeps_its_connection_in_step(routers, fleet, raw):
    """With report on, a position is asked behind the read; the refusal does not leave its answer for somebody else."""
    (t,) = routers(1)
    c = t.connect(options="-c tidemark.report=on")
    rows(c, "CREATE OR REPLACE FUNCTION bump(which int) RETURNS int LANGUAGE sql AS "
            "'UPDATE items SET n = n + 1 WHERE id = which RETURNING n'; "
            "CREATE OR REPLACE FUNCTION told(which int) RETURNS int STABLE LANGUAGE plpgsql AS "
            "$$ BEGIN RETURN (SELECT bump(which)); END $$")
    for i in range(6):
        settle(t, c)
        before = t.routing()
        n = value(c, f"SELECT told(75){', 1' * i}")  # refusals are remembered by shape
        assert delta(before, t.routing(), "retried") == [1]
        assert value(c, "SELECT n FROM items WHERE id = 75") == n
        assert not tokens.is_primary(c.info.parameter_status("tidemark.token"))
    assert t.routing()["captures_failed"] == 0


def test_a_token_is_had_while_others_keep_owing(routers, fleet):
    """With scope = database somebody always owes something; a token needs only what was owed when it was asked for."""
    import threading
    (t,) = routers(1, scope="database")
    c, stop = t.connect(), threading.Event()

    def owe():
        other = t.connect()
        while not stop.is_set():
            value(other, "/*tidemark_consistency='strong'*/ SELECT 1")

    threads = [threading.Thread(target=owe) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.2)
        slow = 0
        for _ in range(10):
            began = time.monotonic()
            assert tokens.branches(value(c, "SHOW tidemark.token"))
            slow += time.monotonic() - began > 0.8
        assert slow == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("nothing", [
    lambda c: c.send(parse("p", "SELECT 1"), describe("S", "p"), sync()).until_ready(),
    lambda c: c.send(parse("", "SHOW tidemark.route"), bind(), execute(), sync()).until_ready(),
    lambda c: c.send(sync()).until_ready(),
], ids=["prepare", "show", "sync"])
def test_a_refused_token_counts_until_the_primary_has_shown_something(routers, fleet, raw, nothing):
    (t,) = routers(1)
    c = raw(t)
    c.send(parse("s", f"SELECT {WHERE}"), sync()).until_ready()
    ask = bind("", "s"), execute(), sync()
    node = lambda: next(m.body[6:].decode() for m in c.send(*ask).until_ready() if m.kind == "D")
    assert node() != "primary"
    c.query("SET tidemark.read_after = 'garbage'")
    nothing(c)
    assert node() == "primary"
    fleet.sync()
    wait_until(lambda: node() != "primary", 5, "reads on replicas")
