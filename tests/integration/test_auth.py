# SPDX-License-Identifier: PostgreSQL
"""Who may come in, and how the router proves itself to the servers.

The fleet's pg_hba.conf asks u_md5 for md5, u_scram for SCRAM-SHA-256, u_plain for a clear password, and trusts
everybody else, u_trust among them.
"""

import base64
import hashlib
import hmac
import os
import struct
import time

import psycopg2
import pytest

import harness
import rawpg
from harness import HOST, PASSWORD, value

SERVER_USERS = ["u_trust", "u_md5", "u_scram", "u_plain"]


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def userlist(**secrets):
    return "".join(f"{quoted(u)} {quoted(s)}\n" for u, s in secrets.items())


def md5_secret(user, password=PASSWORD):
    return "md5" + hashlib.md5((password + user).encode()).hexdigest()


def scram_verifier(password=PASSWORD, iterations=4096):
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")

    def b64(b):
        return base64.b64encode(b).decode()

    return f"SCRAM-SHA-256${iterations}:{b64(salt)}${b64(stored)}:{b64(server)}"


@pytest.fixture
def guarded(router):
    """A router that asks for passwords by `auth_type` and knows `secrets`."""
    def make(auth_type, secrets, more=None, **options):
        return router(auth_type=auth_type, auth_file="{dir}/users", admin_password="console",
                      files={**(more or {}), "users": userlist(**{"postgres": "console", **secrets})}, **options)
    return make


PLAIN = {u: PASSWORD for u in SERVER_USERS}


@pytest.mark.parametrize("auth_type", ["trust", "md5", "scram-sha-256"])
def test_every_way_in_meets_every_way_on(guarded, raw, auth_type):
    """Clients by auth_type; servers by trust, md5, SCRAM and clear password, on primary and replicas."""
    t = guarded(auth_type, PLAIN)
    for user in SERVER_USERS:
        password = None if auth_type == "trust" else PASSWORD
        c = t.connect(user=user, password=password)
        assert value(c, "SELECT current_user || '' FROM items WHERE id = 1") == user
        harness.rows(c, "UPDATE items SET n = 5 WHERE id = 81")
        assert value(c, "SELECT n FROM items WHERE id = 81") == 5
        # The raw client also makes the server prove that it knows the password.
        assert raw(t, user=user, password=password).query_rows("SELECT current_user") == [[user]]


@pytest.mark.parametrize("auth_type", ["md5", "scram-sha-256"])
@pytest.mark.parametrize("user,password", [
    ("u_trust", "wrong"), ("u_trust", ""), ("u_trust", PASSWORD + "x"), ("u_trust", PASSWORD[:-1]),
    ("nobody", PASSWORD), ("app", PASSWORD), ("u_trust ", PASSWORD), ("U_TRUST", PASSWORD),
])
def test_wrong_passwords_and_unknown_users_are_refused_alike(guarded, raw, auth_type, user, password):
    t = guarded(auth_type, PLAIN)
    with pytest.raises(rawpg.ServerError) as e:
        raw(t, user=user, password=password)
    assert e.value.sqlstate == "28P01"
    assert e.value.fields["M"] == f'password authentication failed for user "{user}"'
    # Nobody else notices.
    assert raw(t, user="u_trust", password=PASSWORD).query_rows("SELECT 1") == [["1"]]


@pytest.mark.parametrize("auth_type", ["md5", "scram-sha-256"])
def test_names_thought_up_by_strangers_leave_nothing_behind(guarded, auth_type):
    """A database and a user were made, for good, for every name in a startup packet, before any password."""
    t = guarded(auth_type, PLAIN)
    lists = t.show("LISTS")
    for i in range(400):
        c = rawpg.Raw(HOST, t.port)
        c.send(rawpg.startup_packet({"user": f"thief{i}", "database": f"guess{i}"}))
        assert c.recv().kind == "R"
        c.close()
    harness.wait_until(lambda: t.show("LISTS") == lists, 5, lambda: f"{lists} again: {t.show('LISTS')}")


def test_an_unknown_user_meets_the_same_questions(guarded, raw):
    """Whether a user exists is not told before the password is wrong."""
    t = guarded("scram-sha-256", PLAIN)
    for user in ("u_trust", "nobody"):
        c = raw(t, login=False)
        c.send(rawpg.startup_packet({"user": user, "database": "app"}))
        m = c.recv()
        assert m.kind == "R" and m.body == struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"
        first = b"n,,n=,r=abcdefghijklmnopqrstuvwx"
        c.send(rawpg.message("p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
        m = c.recv()
        assert m.kind == "R" and struct.unpack_from("!I", m.body)[0] == 11, f"{user}: {m}"


def salt(t, user):
    c = rawpg.Raw(HOST, t.port)
    try:
        c.send(rawpg.startup_packet({"user": user, "database": "app"}))
        c.recv()
        first = b"n,,n=,r=abcdefghijklmnopqrstuvwx"
        c.send(rawpg.message("p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
        return dict(p.split("=", 1) for p in c.recv().body[4:].decode().split(","))["s"]
    finally:
        c.close()


def test_salts_do_not_tell_who_there_is(guarded):
    """They were new each time for users with a password, and for others what anybody could work out."""
    key = {"token_key_file": "{dir}/keys", "more": {"keys": "1:" + "5a" * 32 + "\n"}}
    one, twin, other = guarded("scram-sha-256", PLAIN, **key), guarded("scram-sha-256", PLAIN, **key), guarded("scram-sha-256", PLAIN)
    for user in ("u_trust", "nobody"):
        assert salt(one, user) == salt(one, user) == salt(twin, user) != salt(other, user)
        assert base64.b64decode(salt(one, user)) != hashlib.sha256(user.encode()).digest()[:16]
    assert salt(one, "u_trust") != salt(one, "nobody")
    assert value(one.connect(user="u_trust", password=PASSWORD), "SELECT 1") == 1


def test_md5_hashes_in_the_userlist_serve_both_sides(guarded):
    t = guarded("md5", {"u_md5": md5_secret("u_md5"), "u_trust": md5_secret("u_trust")})
    for user in ("u_md5", "u_trust"):
        assert value(t.connect(user=user, password=PASSWORD), "SELECT current_user") == user
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        t.connect(user="u_md5", password="wrong")


def test_scram_verifiers_in_the_userlist_serve_clients(guarded, raw):
    t = guarded("scram-sha-256", {"u_trust": scram_verifier()})
    assert value(t.connect(user="u_trust", password=PASSWORD), "SELECT current_user") == "u_trust"
    assert raw(t, user="u_trust", password=PASSWORD).query_rows("SELECT 1") == [["1"]]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        t.connect(user="u_trust", password="wrong")


def test_verifier_as_postgresql_keeps_it(guarded, fleet):
    verifier = fleet.primary.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'u_scram'")
    assert verifier.startswith("SCRAM-SHA-256$")
    # The same verifier for a user whom the servers trust.
    t = guarded("scram-sha-256", {"u_trust": verifier})
    assert value(t.connect(user="u_trust", password=PASSWORD), "SELECT current_user") == "u_trust"


def test_a_password_that_the_server_refuses_is_said_clearly(guarded):
    t = guarded("trust", {"u_scram": "wrong", "u_md5": "wrong"}, server_login_retry="200ms",
                query_wait_timeout="3s")
    for user in ("u_scram", "u_md5"):
        started = time.monotonic()
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            value(t.connect(user=user), "SELECT 1")
        assert time.monotonic() - started < 6
    # Others are not held up by it.
    assert value(t.connect(user="u_trust"), "SELECT 1") == 1


def test_a_missing_secret_for_the_server_is_said_clearly(guarded):
    t = guarded("trust", {"u_trust": PASSWORD}, query_wait_timeout="3s", server_login_retry="200ms")
    with pytest.raises(psycopg2.OperationalError, match="password"):
        value(t.connect(user="u_scram"), "SELECT 1")
    assert value(t.connect(user="u_trust"), "SELECT 1") == 1


def test_users_do_not_share_server_connections(guarded):
    t = guarded("trust", PLAIN, default_pool_size=1)
    conns = {u: t.connect(user=u) for u in SERVER_USERS}
    for _ in range(3):
        for user, c in conns.items():
            assert value(c, "SELECT session_user") == user


def test_userlist_is_read_again_on_reload(guarded):
    t = guarded("scram-sha-256", {"u_trust": "first"})
    t.connect(user="u_trust", password="first").close()
    t.write("users", userlist(postgres="console", u_trust="second", app="third"))
    t.reload()

    def renewed():
        try:
            t.connect(user="app", password="third").close()
            return True
        except psycopg2.OperationalError:
            return False

    harness.wait_until(renewed, 5, "the new userlist")
    t.connect(user="u_trust", password="second").close()
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        t.connect(user="u_trust", password="first")


def test_the_console_is_for_admin_users_only(guarded, raw):
    t = guarded("md5", PLAIN)
    c = raw(t, user="postgres", database="tidemark", password="console")
    assert c.query_rows("SHOW FLEET")
    with pytest.raises(rawpg.ServerError) as e:
        raw(t, user="u_trust", database="tidemark", password=PASSWORD)
    assert e.value.sqlstate in ("28000", "42501")


SCRAM_NONSENSE = {
    "no mechanism": b"",
    "unknown mechanism": b"SCRAM-SHA-1\0\0\0\0\0",
    "no response": b"SCRAM-SHA-256\0\xff\xff\xff\xff",
    "length past the end": b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,",
    "negative length": b"SCRAM-SHA-256\0\xff\xff\xff\xfen,,",
    "garbage": b"SCRAM-SHA-256\0\0\0\0\x05\xff\xfe\xfd\xfc\xfb",
    "channel binding demanded": b"SCRAM-SHA-256\0\0\0\0\x20p=tls-server-end-point,,n=,r=abcdef",
    "empty nonce": b"SCRAM-SHA-256\0\0\0\0\x08n,,n=,r=",
    "very long": b"SCRAM-SHA-256\0\0\0\x27\x10" + b"n,,n=,r=" + b"x" * 9992,
}


@pytest.mark.parametrize("name", SCRAM_NONSENSE)
def test_scram_nonsense_is_refused(guarded, raw, name):
    t = guarded("scram-sha-256", PLAIN)
    c = raw(t, login=False)
    c.send(rawpg.startup_packet({"user": "u_trust", "database": "app"}))
    assert c.recv().kind == "R"
    c.send(rawpg.message("p", SCRAM_NONSENSE[name]))
    got = c.rest(5)
    codes = rawpg.errors(got)
    if name in ("empty nonce", "very long", "no response") and not codes:
        pytest.fail(f"neither refused nor asked on: {got}")
    assert codes and codes[0] in ("08P01", "28P01", "28000", "0A000"), got
    assert raw(t, user="u_trust", password=PASSWORD).query_rows("SELECT 1") == [["1"]]


@pytest.mark.parametrize("auth_type", ["md5", "scram-sha-256"])
def test_nothing_but_an_answer_is_taken_while_logging_in(guarded, raw, auth_type):
    t = guarded(auth_type, PLAIN)
    c = raw(t, login=False)
    c.send(rawpg.startup_packet({"user": "u_trust", "database": "app"}))
    assert c.recv().kind == "R"
    c.send(rawpg.query("SELECT 'let me in'"))
    got = c.rest(5)
    assert "D" not in rawpg.kinds(got)
    assert rawpg.errors(got) and rawpg.errors(got)[0] in ("08P01", "28P01", "28000"), got


@pytest.mark.parametrize("auth_type", ["md5", "scram-sha-256"])
def test_a_login_may_come_byte_by_byte(guarded, raw, auth_type):
    t = guarded(auth_type, PLAIN)
    c = raw(t, login=False)
    whole = c.send
    c.send_slowly(rawpg.startup_packet({"user": "u_trust", "database": "app"}))
    c.send = lambda *pieces: [whole(bytes([b])) for b in b"".join(pieces)]
    c.finish_login("u_trust", PASSWORD)
    c.send = whole
    assert c.query_rows("SELECT 1") == [["1"]]


def test_a_userlist_with_a_fault_names_file_and_line(tmp_path, fleet, need_router):
    users = tmp_path / "users"
    users.write_text('"good" "secret"\n"bad\n')
    status, text = harness.bad_start("--listen", f"{HOST}:{harness.free_port()}", "--primary",
                                     fleet.primary.conninfo(), "--auth-type", "md5", "--auth-file", str(users))
    assert status != 0 and f"{users}:2" in text, text
    assert "secret" not in text.replace("secrets", ""), "a secret went to the log"
