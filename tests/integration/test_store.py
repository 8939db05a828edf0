# SPDX-License-Identifier: PostgreSQL
"""The marks of named sessions in Redis: what routers believe of each other's, and when not. Each router is
store_driver.c; Redis and the sentinel are real, and so is what breaks."""

import os
import random
import subprocess
import threading
import time

import pytest

import harness
from redis_harness import Liar, Path, Redis, Refused, Router, cluster, now

HANG_LIMIT = 120
SLACK = 0.25  # a busy machine


@pytest.fixture(scope="module")
def shared_redis():
    r = Redis()
    yield r
    r.destroy()


@pytest.fixture
def redis(request):
    """A server of the test's own: redis("--appendonly", "yes")."""
    started = []

    def make(*options, **more):
        started.append(Redis(*options, **more))
        return started[-1]

    yield make
    for r in started:
        r.destroy()


@pytest.fixture
def router():
    """Routers of one cluster: router(redis_or_path, faulty=…, ttl=…, …)."""
    started = []
    name = cluster()

    def make(*servers, cluster=name, **settings):
        addresses = [s if isinstance(s, str) else s.address for s in servers]
        started.append(Router(*addresses, cluster=cluster, **settings))
        return started[-1]

    make.cluster = name
    yield make
    for r in started:
        r.judge()


@pytest.fixture
def path():
    made = []

    def make(to):
        made.append(Path(to.port))
        return made[-1]

    yield make
    for p in made:
        p.close()


# ---- marks ----


def test_a_mark_is_seen_by_another_router(shared_redis, router):
    a, b = router(shared_redis).wait_believed(), router(shared_redis).wait_believed()
    assert b.get("s") == ("ok", None)
    assert a.put("s", 100) == "stored"
    assert b.get("s") == ("ok", (1, 0, 100))
    assert b.put("s", 200) == "stored"
    assert a.get("s") == ("ok", (1, 0, 200))
    assert a.get("other") == ("ok", None)


def test_an_earlier_mark_lowers_nothing(shared_redis, router):
    a = router(shared_redis, ttl=2000).wait_up()
    b = router(shared_redis, ttl=2000).wait_believed()
    ordered = [(1, 0, 1), (1, 0, 9), (1, 0, 10), (1, 0, 0xAFFFFFFFF), (1, 0, 0xB00000000), (1, 5, 0), (1, 5, 7),
               (2, 0, 3), (9, 1, 1), (10, 1, 1), (2**32 - 1, 2**64 - 1, 2**64 - 1)]
    for i, mark in enumerate(ordered):
        for earlier in [mark] + random.sample(ordered[:i], min(i, 2)) + [mark]:
            assert a.put("s", earlier[2], earlier[0], earlier[1]) == "stored"
            assert b.get("s") == ("ok", mark)


def test_marks_live_from_their_last_use(shared_redis, router):
    a = router(shared_redis, ttl=600).wait_believed()
    assert a.put("s", 1) == a.put("t", 1) == "stored"
    end = now() + 1
    while now() < end:
        assert a.get("s") == ("ok", (1, 0, 1))
        time.sleep(0.05)
    assert a.get("t") == ("ok", None)
    time.sleep(0.7)
    assert a.get("s") == ("ok", None)


def test_clusters_and_databases_of_redis_are_apart(shared_redis, router):
    a = router(shared_redis).wait_believed()
    others = [router(shared_redis, cluster=cluster()).wait_believed(), router(shared_redis, database=3).wait_believed()]
    assert a.put("s", 5) == "stored"
    for other in others:
        assert other.get("s") == ("ok", None)


def test_nothing_is_asked_before_the_cluster_is_known(shared_redis, router):
    a = router(shared_redis, cluster=None)
    assert a.get("s") == ("failed", None)
    assert a.put("s", 1) == "owed"
    assert a.stats()["covers"] == 0
    a.say("cluster", router.cluster)
    # What was put before is not known by key, so everything is doubtful for a while.
    a.wait_up()
    assert a.get("s")[0] == "doubtful"
    a.wait_believed()


def test_a_key_of_another_kind_is_doubtful_and_put_right(shared_redis, router):
    a = router(shared_redis).wait_believed()
    for words in (["RPUSH", f"tidemark:{{{router.cluster}}}:db:s", "1"],
                  ["SET", f"tidemark:{{{router.cluster}}}:db:s", "not a mark"],
                  ["SET", f"tidemark:{{{router.cluster}}}:db:s", "x" * 40],
                  ["SET", f"tidemark:{{{router.cluster}}}:db:s", "a" * 40]):
        shared_redis.say("DEL", words[1])
        shared_redis.say(*words)
        assert a.get("s") == ("doubtful", None)
        shared_redis.say("DEL", words[1])
    shared_redis.say("RPUSH", f"tidemark:{{{router.cluster}}}:db:s", "1")
    assert a.put("s", 4) == "stored"
    assert a.get("s") == ("ok", (1, 0, 4))


def test_a_unix_socket_serves_as_well(redis, router):
    r = redis("--unixsocket", "s")
    assert router(os.path.join(r.dir, "s")).wait_believed().stats()["server"] == os.path.join(r.dir, "s")


# ---- what Redis may have lost ----


def test_all_is_doubtful_for_a_ttl_after_redis_lost_its_keys(redis, router):
    r = redis()
    a, b = router(r).wait_believed(), router(r).wait_believed()
    assert a.put("s", 7) == "stored"
    since = now()
    r.say("FLUSHALL")
    assert b.get("s") == ("doubtful", None)
    assert a.get("s") == ("doubtful", None)
    b.wait_believed()
    assert now() - since >= 0.4
    assert a.get("s") == ("ok", None)


@pytest.mark.parametrize("keeps", ["yes", "no"])
def test_all_is_doubtful_for_a_ttl_after_redis_was_restarted(redis, router, keeps):
    r = redis("--appendonly", keeps, "--appendfsync", "always")
    a = router(r, ttl=1200).wait_believed()
    assert a.put("s", 7) == "stored"
    r.restart()
    a.wait_up()
    assert a.get("s")[0] == "doubtful"
    since = now()
    a.wait_believed()
    assert now() - since > 0.9
    assert a.stats()["reconnects"] >= 1


def test_a_server_that_may_evict_is_not_trusted(redis, router):
    r = redis("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    a = router(r).wait_up()
    time.sleep(0.6)
    assert a.put("s", 7) == "stored"
    assert a.get("s")[0] == "doubtful"
    assert "maxmemory-policy allkeys-lru" in a.stats()["error"]
    assert "set maxmemory-policy noeviction" in a.logged()
    r.say("CONFIG", "SET", "maxmemory-policy", "noeviction")
    a.wait_believed()
    assert a.stats()["error"] == ""
    r.say("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    harness.wait_until(lambda: a.get("s")[0] == "doubtful", 3, "distrust")
    assert a.logged().count("not trusted") == 2


def test_all_is_doubtful_for_a_ttl_after_keys_were_evicted(redis, router):
    r = redis("--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru")
    r.say("CONFIG", "SET", "maxmemory", "0")
    a = router(r, ttl=1500).wait_believed()
    assert a.put("s", 7) == "stored"
    r.say("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(Refused):
        for _ in range(5):
            r.say("SET", "x", "y")
    r.say("CONFIG", "SET", "maxmemory", "0")
    assert "evicted_keys:0" not in r.say("INFO", "stats")
    harness.wait_until(lambda: a.get("s")[0] == "doubtful", 3, "doubt")


@pytest.mark.parametrize("ms", [5000, -700])
def test_all_is_doubtful_for_a_ttl_after_the_clock_of_redis_jumped(redis, router, clock_shift, tmp_path, ms):
    shift = tmp_path / "shift"
    shift.write_text("0")
    r = redis(env={"LD_PRELOAD": clock_shift, "CLOCK_SHIFT": str(shift)})
    a, b = router(r, ttl=1500, timeout=150).wait_believed(), router(r, ttl=1500, timeout=150).wait_believed()
    assert a.put("s", 7) == "stored"
    time.sleep(0.5)
    assert "jumped" not in a.logged() + b.logged()
    shift.write_text(str(ms))
    time.sleep(0.25)
    since = now()
    assert b.get("s")[0] == "doubtful"
    a.wait_believed()
    assert now() - since > 1
    assert a.logged().count("jumped") == b.logged().count("jumped") == 1
    a.kill()
    harness.wait_until(lambda: b.get("s")[0] == "doubtful", 1, "doubt, by leases in the new time")


def test_a_put_that_redis_has_no_room_for_is_owed(redis, router):
    r = redis()
    # Others doubt for as long as it may take the first one to try again.
    a, b = router(r, ttl=2500).wait_believed(), router(r, ttl=2500).wait_believed()
    r.say("CONFIG", "SET", "maxmemory", "1")
    assert a.put("s", 9) == "owed"
    assert b.get("s")[0] != "ok"
    assert "OOM" in a.logged()
    r.say("CONFIG", "SET", "maxmemory", "0")
    b.wait_believed("s")
    assert b.get("s") == ("ok", (1, 0, 9))


# ---- routers that come, go and are cut off ----


def test_a_router_that_dies_casts_doubt_for_a_ttl_only(shared_redis, router):
    a = router(shared_redis, ttl=1500).wait_believed()
    b = router(shared_redis, ttl=1500).wait_believed()
    assert b.put("s", 1) == "stored"
    a.kill()
    since = now()
    harness.wait_until(lambda: b.get("s")[0] == "doubtful", 2, "doubt")
    assert now() - since < 0.3 + SLACK
    b.wait_believed()
    assert 1.4 < now() - since < 1.8 + 3 * SLACK
    harness.wait_until(lambda: shared_redis.say("ZCARD", f"tidemark:{{{router.cluster}}}:routers") == 1, 1, "cleaning")


def test_a_router_that_leaves_in_order_casts_no_doubt(shared_redis, router):
    a, b = router(shared_redis, ttl=1500).wait_believed(), router(shared_redis, ttl=1500).wait_believed()
    assert a.put("s", 1) == "stored"
    a.leave()
    end = now() + 0.8
    while now() < end:
        assert b.get("s") == ("ok", (1, 0, 1))


def test_one_that_leaves_owing_casts_doubt(redis, router, path):
    r = redis()
    p = path(r)
    a, b = router(p, ttl=1500).wait_believed(), router(r, ttl=1500).wait_believed()
    p.hold()
    assert a.put("s", 1) == "owed"
    a.leave()
    assert b.get("s")[0] == "doubtful"


def test_one_that_leaves_with_a_mark_not_yet_sent_casts_doubt(redis, router):
    r = redis()
    a = router(r, max_in_flight=1, timeout=3000, lease=3000).wait_believed()
    r.pause()
    a.ask("get", "s")
    a.put("s", 1, wait=None)
    assert (a.stats()["up"], a.stats()["owed"]) == (1, 1)
    a.leave()
    r.resume()
    time.sleep(0.1)
    assert r.say("ZCARD", f"tidemark:{{{router.cluster}}}:routers") == 1


def test_a_stopped_redis_fails_gets_soon_and_puts_after_the_lease(redis, router):
    r = redis()
    a = router(r).wait_believed()
    assert a.put("s", 1) == "stored"
    r.pause()
    since = now()
    assert a.get("s") == ("failed", None)
    assert 0.029 < now() - since < 0.03 + SLACK
    since = now()
    assert a.put("s", 2) == "owed"
    assert now() - since < 0.34 + SLACK
    since = now()
    assert a.get("s") == ("failed", None)  # the circuit is open
    assert a.put("s", 3) == "owed"  # all doubt already
    assert now() - since < 0.02 + SLACK
    stats = a.stats()
    assert (stats["up"], stats["owed"], stats["timeouts"]) == (0, 1, 1)
    assert stats["error"] != ""
    r.resume()
    a.wait_believed("s")
    assert a.get("s") == ("ok", (1, 0, 3))
    assert a.stats()["owed"] == 0
    assert a.logged().count("is down: no answer within 30 ms") == 1


def test_a_put_is_told_as_soon_as_it_is_repaid(redis, router, path):
    r = redis()
    p = path(r)
    a = router(p, lease=3000, ttl=10000).wait_up()
    since = now()
    p.break_off()
    assert a.put("s", 5) == "stored"
    assert now() - since < 1 + SLACK


def test_how_long_unstored_marks_are_covered(redis, router, path):
    r = redis()
    p = path(r)
    a = router(p, ttl=2000)
    assert a.wait(a.ask("void", "s"))[1] == "bare"  # nobody knows this router yet
    a.wait_up()
    assert a.wait(a.ask("put", "s", 1, 0, 1)) == ["stored", "covered"]
    p.hold()
    since = now()
    assert a.wait(a.ask("put", "s", 1, 0, 2)) == ["owed", "covered"]
    harness.wait_until(lambda: not a.stats()["covers"], 3, "the end of what doubt covers")
    assert 0.6 < now() - since < 0.9 + SLACK
    assert a.wait(a.ask("put", "s", 1, 0, 3)) == ["owed", "bare"]
    p.release()
    a.wait_up()
    assert a.stats()["covers"] == 1


def test_the_longest_ttl_of_all_routers_counts(shared_redis, router):
    a, b = router(shared_redis).wait_believed(), router(shared_redis).wait_believed()
    a.say("lag", 1000)
    harness.wait_until(lambda: b.get("s")[0] == "doubtful", 2, "the longer doubt at boot")
    b.wait_believed()
    assert a.put("s", 1) == "stored" and b.put("t", 1) == "stored"
    for key in "st":
        assert 1500 < shared_redis.say("PTTL", f"tidemark:{{{router.cluster}}}:db:{key}") <= 2000


# ---- limits ----


def test_no_more_than_max_in_flight(redis, router):
    r = redis()
    a = router(r, max_in_flight=8, timeout=1000, lease=3000).wait_believed()
    r.pause()
    assert int(a.wait(a.ask("flood", 20, "s"))[0]) in (12, 13, 14)  # heartbeats and INFO take room too
    late = a.put("s", 1, wait=None)
    assert not a.answered(late)
    assert a.stats()["owed"] == 1
    r.resume()
    assert a.wait(late)[0] == "stored"
    harness.wait_until(lambda: a.get("s") == ("ok", (1, 0, 1)), what="the mark")


def test_past_max_owed_everything_is_made_doubtful(redis, router, path):
    r = redis()
    p = path(r)
    a, b = router(p, max_owed=3, ttl=1500).wait_believed(), router(r, ttl=1500).wait_believed()
    p.hold()
    asked = [a.put(f"s{i}", 1, wait=None) for i in range(3)]
    assert [a.wait(k)[0] for k in asked] == ["owed"] * 3
    assert a.stats()["owed"] == 3
    assert a.put("s0", 2) == "owed" and a.stats()["owed"] == 3
    assert a.put("s3", 1) == "owed"
    assert a.stats()["owed"] == 0
    p.release()
    a.wait_up()
    since = now()
    assert b.get("s0")[0] == "doubtful"
    b.wait_believed()
    assert now() - since > 1
    assert b.get("s0") == ("ok", None)


def test_a_mark_without_a_position_makes_everything_doubtful(shared_redis, router):
    a, b = router(shared_redis).wait_believed(), router(shared_redis).wait_believed()
    assert a.wait(a.ask("void", "s"))[0] == "stored"
    assert b.get("anything")[0] == "doubtful"
    b.wait_believed()


def test_nobody_is_told_who_went_away(redis, router):
    r = redis()
    a = router(r, ttl=1500).wait_believed()
    r.pause()
    gone = [a.ask("get", "s"), a.ask("put", "s", 1, 0, 5)]
    for key in gone:
        a.say("forget", key)
    time.sleep(0.1)
    gone.append(a.ask("put", "t", 1, 0, 6))
    a.say("forget", gone[-1])
    time.sleep(0.6)
    r.resume()
    a.wait_believed()
    assert a.get("s") == ("ok", (1, 0, 5)) and a.get("t") == ("ok", (1, 0, 6))
    assert not any(a.answered(key) for key in gone)


# ---- servers that are not as they should be ----


def test_passwords(redis, router):
    r = redis("--requirepass", "s3cret word", password="s3cret word")
    r.say("ACL", "SETUSER", "mark", "on", ">other word", "~*", "+@all")
    wrong = router(r, password="wr0ng word")
    none = router(r)
    for a in (wrong, none):
        harness.wait_until(lambda: "is down" in a.logged(), 5, "the refusal")
        assert a.get("s")[0] == "failed" and not a.stats()["up"]
    assert "WRONGPASS" in wrong.logged() and "wr0ng" not in wrong.logged() + wrong.stats()["error"]
    assert "NOAUTH" in none.logged()
    router(r, password="s3cret word").wait_believed()
    router(r, user="mark", password="other word").wait_believed()


def test_a_password_that_is_repeated_by_the_server_is_not_shown(redis, router):
    r = redis("--rename-command", "AUTH", "")
    a = router(r, password="s3cret")
    harness.wait_until(lambda: "is down" in a.logged(), 5, "the refusal")
    assert "s3cret" not in a.logged() + a.stats()["error"]


def test_a_replica_is_refused(redis, router):
    r = redis()
    replica = redis("--replicaof", harness.HOST, str(r.port))
    a = router(replica)
    harness.wait_until(lambda: "it is a replica" in a.stats()["error"], 5, "the refusal")
    assert a.get("s")[0] == "failed"


def test_a_master_that_becomes_a_replica_answers_nothing_more(redis, router):
    r = redis()
    other = redis()
    a = router(r).wait_believed()
    assert a.put("s", 1) == "stored"
    r.say("REPLICAOF", harness.HOST, other.port)
    end = now() + 1
    while now() < end:
        assert a.get("s")[0] == "failed"
    r.say("REPLICAOF", "NO", "ONE")
    # It has what the other had, which is nothing.
    a.wait_up()
    assert a.get("s")[0] == "doubtful"


def test_scripts_that_are_gone_are_loaded_again(redis, router):
    r = redis()
    a = router(r).wait_believed()
    r.say("SCRIPT", "FLUSH")
    assert a.put("s", 3) == "stored"
    harness.wait_until(lambda: a.get("s") == ("ok", (1, 0, 3)), what="the mark")


GARBAGE = [b"$3\r\nabc\r\n" * 20, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*1000000000\r\n", b"$1000000000\r\n", b"$100000\r\n" + b"x" * 100000,
           b"*1\r\n*1\r\n*1\r\n:1\r\n" * 9, b"$-5\r\n", b"*-7\r\n", b":99999999999999999999999\r\n", b"+OK\r\n" * 500,
           b"\0" * 10000, b"-\r\n", b"*2\r\n$1\r\nx\r\n$1\r\nx\r\n" * 20, b"$5\r\nab", b"+" + b"x" * 200000, b":1\r\n" * 50]


@pytest.mark.parametrize("garbage", range(len(GARBAGE)))
def test_garbage_is_an_error_and_nothing_worse(router, garbage):
    liar = Liar(lambda _: GARBAGE[garbage])
    a = router(liar, connect=200)
    harness.wait_until(lambda: "is down" in a.logged(), 5, "the failure")
    assert a.get("s") == ("failed", None) and a.put("s", 1) == "owed"
    assert not a.stats()["up"]
    liar.close()


def test_garbage_in_the_midst_of_answers(redis, router):
    """A server whose answers are now and then not what was asked: nothing it says crashes the router."""
    r = redis()
    dice = random.Random(7)

    class Tampering(Path):
        def _pass(self, pair, data, to, direction):
            if direction == "down" and dice.random() < 0.02:
                at = dice.randrange(len(data))
                data = data[:at] + bytes([dice.randrange(256)]) + data[at + 1:]
            super()._pass(pair, data, to, direction)

    p = Tampering(r.port)
    a = router(p, lease=90, connect=200)
    for i in range(1500):
        a.ask("get", "s")
        a.ask("put", "s", 1, 0, i)
        if i % 50 == 0:
            time.sleep(0.02)
    p.close()
    assert a.stats()["reads"] == 1500


def test_no_server_is_waited_for_with_pauses(router):
    a = router(f"{harness.HOST}:{harness.free_port()}")
    assert a.get("s") == ("failed", None) and a.put("s", 1) == "owed"
    harness.wait_until(lambda: "refused" in a.logged(), 5, "the failure")
    time.sleep(1)
    assert a.logged().count("is down") == 1


# ---- TLS ----


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two authorities; one signs the server "marks.test" at 127.0.0.1 and a client."""
    d = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                f"/CN={name}", "-keyout", d / f"{name}.key", "-out", d / f"{name}.crt")
    (d / "names").write_text("subjectAltName=DNS:marks.test,IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", d / f"{name}.key", "-out", d / f"{name}.csr")
        openssl("x509", "-req", "-in", d / f"{name}.csr", "-CA", d / "ca.crt", "-CAkey", d / "ca.key", "-CAcreateserial",
                "-days", "2", "-extfile", d / "names", "-out", d / f"{name}.crt")
    return d


@pytest.fixture
def tls_redis(redis, certificates):
    def make(*options):
        port = harness.free_port()
        r = redis("--tls-port", str(port), "--tls-cert-file", str(certificates / "server.crt"), "--tls-key-file",
                  str(certificates / "server.key"), "--tls-ca-cert-file", str(certificates / "ca.crt"), *options)
        r.tls_address = f"{harness.HOST}:{port}"
        return r

    return make


def test_marks_go_through_tls(tls_redis, router, certificates, path):
    r = tls_redis("--tls-auth-clients", "no")
    ca = certificates / "ca.crt"
    a = router(r.tls_address, tls=1, tls_ca=ca).wait_believed()
    b = router(r.tls_address, tls=1, tls_ca=ca, tls_name="marks.test").wait_believed()
    assert a.put("s", 1) == "stored"
    assert b.get("s") == ("ok", (1, 0, 1))
    asked = [a.put("s" * 100 + str(i), i, wait=None) for i in range(2000)]
    assert {a.wait(k)[0] for k in asked} <= {"stored", "owed"}
    r.pause()
    assert a.put("s", 2) == "owed"
    r.resume()
    harness.wait_until(lambda: b.get("s") == ("ok", (1, 0, 2)), what="the mark")


def test_tls_with_a_certificate_of_our_own(tls_redis, router, certificates):
    r = tls_redis("--tls-auth-clients", "yes")
    ca = certificates / "ca.crt"
    router(r.tls_address, tls=1, tls_ca=ca, tls_cert=certificates / "client.crt",
           tls_key=certificates / "client.key").wait_believed()
    without = router(r.tls_address, tls=1, tls_ca=ca)
    harness.wait_until(lambda: "is down" in without.logged(), 5, "the refusal")
    assert not without.stats()["up"] and "certificate" in without.logged()


@pytest.mark.parametrize("ca, name, expected", [
    ("other.crt", "", "self-signed certificate"),
    ("ca.crt", "else.test", "hostname mismatch"),
    ("ca.crt", "127.0.0.2", "IP address mismatch")])
def test_tls_servers_that_are_not_who_they_should_be(tls_redis, router, certificates, ca, name, expected):
    r = tls_redis("--tls-auth-clients", "no")
    a = router(r.tls_address, tls=1, tls_ca=certificates / ca, tls_name=name)
    harness.wait_until(lambda: "is down" in a.logged(), 5, "the refusal")
    assert "the server's certificate is refused: " in a.logged() and expected in a.logged()
    assert a.get("s")[0] == "failed" and not a.stats()["up"]


def test_tls_to_a_server_that_speaks_none(redis, router, certificates):
    a = router(redis(), tls=1, tls_ca=certificates / "ca.crt")
    harness.wait_until(lambda: "is down" in a.logged(), 5, "the failure")
    assert not a.stats()["up"]


@pytest.mark.parametrize("direction", ["up", "down"])
def test_tls_that_is_cut_anywhere(tls_redis, router, certificates, direction):
    r = tls_redis("--tls-auth-clients", "no")
    p = Path(int(r.tls_address.split(":")[1]))
    a = router(p, tls=1, tls_ca=certificates / "ca.crt", connect=60, lease=90, timeout=20)
    for count in [1, 5, 6, 100, 300, 700, 1000, 1500, 2500, 4000]:
        p.hold_after(direction, count)
        p.break_off()
        harness.wait_until(lambda: a.get("s")[0] == "failed", what="the failure")
        time.sleep(0.1)
        p.break_off()
        p.release()
    a.wait_up()
    p.close()


# ---- who the master is ----


def sentinel(redis, master, **more):
    return redis(program="redis-sentinel", config=f"sentinel monitor marks {harness.HOST} {master.port} 1\n"
                 "sentinel down-after-milliseconds marks 500\nsentinel failover-timeout marks 3000\n", **more)


def test_a_master_that_could_be_replaced_unnoticed_is_not_trusted(redis, router):
    r = redis()
    s = sentinel(redis, r)
    a = router(s, master="marks").wait_up()
    time.sleep(0.6)
    assert a.get("s")[0] == "doubtful"
    assert a.stats()["server"] == r.address
    assert "min-replicas-to-write" in a.stats()["error"]
    unknown = router(s, master="nobody")
    harness.wait_until(lambda: "does not know the master's name" in unknown.logged(), 5, "the refusal")


def test_failover_by_sentinel(redis, router):
    careful = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "2", "--repl-ping-replica-period", "1"]
    r = redis(*careful)
    replicas = [redis("--replicaof", harness.HOST, str(r.port), *careful) for _ in range(2)]
    harness.wait_until(lambda: "connected_slaves:2" in r.say("INFO", "replication"), 10, "the replicas")
    s = sentinel(redis, r)
    a, b = router(s, master="marks").wait_believed("s", 10), router(s, master="marks").wait_believed("s", 10)
    assert a.put("s", 8) == "stored"
    assert b.get("s") == ("ok", (1, 0, 8))
    harness.wait_until(lambda: "slaves=2" in s.say("INFO", "sentinel"), 15, "the sentinel's knowledge")
    a.say("lag", 600)
    time.sleep(0.3)
    r.kill()

    def first_answer():
        answers = [x.get("s")[0] for x in (a, b)]
        return next((x for x in answers if x != "failed"), None)

    harness.wait_until(lambda: not first_answer(), 5, "the failure")
    # Of whichever router comes to the new master first.
    assert harness.wait_until(first_answer, 20, "failover") == "doubtful"
    # The new master takes no marks before the other replica has come to it.
    a.wait_up(20)
    assert a.stats()["server"] in [x.address for x in replicas]
    b.wait_believed("s", 20)
    assert b.get("s")[1] in [(1, 0, 8), None]


def test_a_master_without_enough_replicas_is_not_believed(redis, router):
    """What is cut off from its replicas may have been replaced: not even reads are believed."""
    careful = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "1", "--repl-ping-replica-period", "1"]
    r = redis(*careful)
    replica = redis("--replicaof", harness.HOST, str(r.port))
    harness.wait_until(lambda: "min_slaves_good_slaves:1" in r.say("INFO", "replication"), 10, "the replica")
    a = router(r).wait_believed("s", 10)
    replica.kill()
    harness.wait_until(lambda: a.get("s")[0] == "failed", 5, "the refusal")
    assert a.put("s", 1) == "owed"
    assert "NOREPLICAS" in a.logged()


# ---- the promise itself ----


class Violation(Exception):
    pass


class Pair:
    """A writer behind a path that breaks, and a reader that is well. Whenever the writer's put was called back, the
    reader must see that mark or doubt, from then on and without end."""

    SESSION = "s"

    def __init__(self, redis, seed, faulty_writer=None, faulty_reader=None, only=None):
        self.dice = random.Random(seed)
        self.seed = seed
        self.redis = redis
        self.only = only
        self.user = f"writer{seed % 1000}"
        self.path = Path(redis.port)
        name = cluster()
        redis.say("ACL", "SETUSER", self.user, "reset", "on", ">word", "~*", "+@all")
        common = dict(cluster=name, timeout=15, lease=60, ttl=3000, connect=200)
        self.writer = Router(self.path.address, user=self.user, password="word", faulty=faulty_writer, **common)
        self.reader = Router(redis.address, faulty=faulty_reader, **common)
        self.at = 0
        self.known = 0  # the latest mark whose writer was told
        self.told = {"stored": 0, "owed": 0}
        self.looks = {"ok": 0, "doubtful": 0, "failed": 0}

    def look(self):
        known = self.known
        result, mark = self.reader.get(self.SESSION)
        self.looks[result] += 1
        if result == "ok" and (mark[2] if mark else 0) < known:
            raise Violation(f"seed {self.seed}: the reader believes {mark}, but the writer of {known} was told")
        return result, mark

    def put(self):
        """A put, and looks until it is called back; then at once another."""
        self.at += 1
        key = self.writer.put(self.SESSION, self.at, wait=None)
        end = now() + 2
        while not self.writer.answered(key) and now() < end:
            self.look() if self.dice.random() < 0.3 else time.sleep(0.001)
        result, covered = self.writer.wait(key)
        self.told[result] += 1
        # What is not covered may not be acknowledged.
        if result == "stored" or covered == "covered":
            self.known = self.at
        self.look()

    def break_it(self):
        kinds = {
            "hold": lambda: self.path.hold(),
            "hold commands": lambda: self.path.hold("up"),
            "hold answers": lambda: self.path.hold("down"),
            "hold amid commands": lambda: self.path.hold_after("up", self.dice.randrange(1200)),
            "hold amid answers": lambda: self.path.hold_after("down", self.dice.randrange(60)),
            "reset": self.reset,
            "refuse": lambda: self.redis.say("ACL", "SETUSER", self.user, "-set"),
            "kill": lambda: self.redis.say("CLIENT", "KILL", "USER", self.user),
        }
        kind = self.only or self.dice.choice(list(kinds))
        kinds[kind]()

    def reset(self):
        self.path.refuses = True
        self.path.break_off()

    def heal(self):
        if self.dice.random() < 0.3:
            self.path.break_off()
        self.path.refuses = False
        self.path.release()
        self.redis.say("ACL", "SETUSER", self.user, "+set")

    def round(self):
        breaking = threading.Timer(self.dice.uniform(0, 0.03), self.break_it)
        breaking.start()
        try:
            for _ in range(self.dice.randrange(1, 4)):
                time.sleep(self.dice.uniform(0, 0.02))
                self.put()
        finally:
            breaking.join()
        if self.dice.random() < 0.5:
            self.put()
        # Long enough, now and then, for the writer to try several times in vain.
        end = now() + self.dice.choice([0, 0, 0.05, 0.4])
        while now() < end:
            self.look()
        self.heal()
        end = now() + 6
        while self.look() != ("ok", (1, 0, self.at)):
            if now() > end:
                raise Violation(f"seed {self.seed}: after it healed, still {self.look()}; " + self.writer.logged())
            time.sleep(0.001)

    def run(self, rounds, seconds):
        try:
            self.writer.wait_believed()
            self.reader.wait_believed(self.SESSION)
            end = now() + seconds
            for _ in range(rounds):
                self.round()
                if now() > end:
                    break
        finally:
            self.path.release()

    def close(self):
        self.path.close()
        self.writer_log = self.writer.logged()
        for r in (self.writer, self.reader):
            r.judge()


def run_pairs(pairs, rounds, seconds):
    """The violations."""
    found = []

    def run(pair):
        try:
            pair.run(rounds, seconds)
        except Violation as e:
            found.append(str(e))
        except BaseException as e:  # noqa: B036  a thread's failure is the test's
            found.append(repr(e))

    threads = [threading.Thread(target=run, args=(p,)) for p in pairs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for p in pairs:
        p.close()
    return found


def test_no_acknowledged_write_is_believed_missing(redis):
    """Four pairs at once, in clusters of their own. A failure prints the seed of its pair."""
    r = redis()
    seed = int(os.environ.get("TIDEMARK_SEED", random.randrange(1 << 30)))
    pairs = [Pair(r, seed + i) for i in range(4)]
    assert run_pairs(pairs, 50, 60) == []
    told = {k: sum(p.told[k] for p in pairs) for k in ("stored", "owed")}
    looks = {k: sum(p.looks[k] for p in pairs) for k in ("ok", "doubtful")}
    # It was worth something, and clocks are steady where nobody moves them.
    assert not any("jumped" in p.writer_log for p in pairs)
    assert told["stored"] > 100 and told["owed"] > 100 and min(looks.values()) > 200, (told, looks)


@pytest.mark.parametrize("who, rule, only", [("writer", "beat", "refuse"), ("writer", "early", None),
                                             ("writer", "long", None), ("reader", "believe", None)])
def test_the_checker_catches_a_store_that_breaks_the_rules(redis, who, rule, only):
    r = redis()
    pairs = [Pair(r, i, only=only, **{f"faulty_{who}": rule}) for i in range(2)]
    found = run_pairs(pairs, 40, 20)
    assert any("the reader believes" in f for f in found), found
