# SPDX-License-Identifier: PostgreSQL
"""TLS from clients: what client_tls_sslmode promises, what a stranger on the wire may try, and what becomes
of it all on reload."""

import shutil
import socket
import ssl
import struct
import time

import psycopg2
import pytest

import harness
import rawpg
from certificates import authority, certificate
from harness import HOST, value
from terminator import Terminator


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    """Authorities "ca" and "other"; certificates of routers and of clients."""
    d = tmp_path_factory.mktemp("certs")
    authority(d, "ca")
    authority(d, "other")
    certificate(d, "router", "/CN=localhost")
    certificate(d, "elsewhere", "/CN=elsewhere", names="DNS:elsewhere.test")
    certificate(d, "expired_router", "/CN=localhost", days=-1)
    certificate(d, "app", "/CN=app")
    certificate(d, "stranger", "/CN=app", signed_by="other")
    certificate(d, "expired", "/CN=app", days=-1)
    return d


# Of "pencil", from RFC 7677.
VERIFIER = ("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
            "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")


def trusting(certs, alpn=None, cert=None):
    c = ssl.create_default_context(cafile=certs / "ca.crt")
    if alpn:
        c.set_alpn_protocols(alpn)
    if cert:
        c.load_cert_chain(certs / f"{cert}.crt", certs / f"{cert}.key")
    return c


@pytest.fixture
def secured(router, certs):
    """secured(mode): a router with TLS. The certificate is router.crt of its own directory."""
    def make(mode="require", cert="router", verify=False, more=None, **options):
        files = {**(more or {}), "router.crt": (certs / f"{cert}.crt").read_text(), "router.key": (certs / f"{cert}.key").read_text()}
        if verify or mode.startswith("verify"):
            options["client_tls_ca_file"] = certs / "ca.crt"
        return router(client_tls_sslmode=mode, client_tls_cert_file="{dir}/router.crt",
                      client_tls_key_file="{dir}/router.key", files=files, wait=False, **options)
    return make


def connect(t, certs, sslmode="verify-full", cert=None, **kw):
    if cert:
        kw.update(sslcert=certs / f"{cert}.crt", sslkey=certs / f"{cert}.key")
    return t.connect(sslmode=sslmode, sslrootcert=kw.pop("root", certs / "ca.crt"), **kw)


def in_tls(conn):
    return conn.info.ssl_in_use


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
def test_each_mode_of_one_side_meets_each_of_the_other(secured, certs, mode):
    t = secured(mode)
    for sslmode in ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"):
        possible = not (mode == "disable" and sslmode in ("require", "verify-ca", "verify-full")) and \
            not (mode == "require" and sslmode == "disable")
        if not possible:
            with pytest.raises(psycopg2.OperationalError, match="TLS|SSL"):
                connect(t, certs, sslmode)
            continue
        c = connect(t, certs, sslmode)
        # An "allow" of the client's tries without first.
        expected = mode != "disable" and sslmode != "disable" and not (sslmode == "allow" and mode != "require")
        assert in_tls(c) == expected, sslmode
        assert value(c, "SELECT count(*) FROM items") == 100


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_a_client_without_a_good_certificate_stays_outside(secured, certs, mode):
    t = secured(mode, tls=trusting(certs, cert="app"))
    assert value(connect(t, certs, cert="app"), "SELECT 1") == 1
    for cert in (None, "stranger", "expired"):
        with pytest.raises(psycopg2.OperationalError, match="SSL|closed"):
            connect(t, certs, cert=cert)
    with pytest.raises(psycopg2.OperationalError, match="TLS only"):
        connect(t, certs, sslmode="disable")
    harness.wait_until(lambda: "certificate is refused: " in t.log_text(), 5, "the reason in the log")


def test_a_certificate_that_is_shown_has_to_be_good(secured, certs):
    t = secured("require", verify=True)
    assert value(connect(t, certs), "SELECT 1") == 1
    assert value(connect(t, certs, cert="app"), "SELECT 1") == 1
    with pytest.raises(psycopg2.OperationalError, match="SSL|closed"):
        connect(t, certs, cert="stranger")


def test_clients_can_tell_who_is_there(secured, certs):
    t = secured()
    with pytest.raises(psycopg2.OperationalError, match="certificate verify failed"):
        connect(t, certs, root=certs / "other.crt")
    with pytest.raises(psycopg2.OperationalError, match="certificate verify failed"):
        connect(secured(cert="expired_router"), certs)
    elsewhere = secured(cert="elsewhere")
    with pytest.raises(psycopg2.OperationalError, match="elsewhere"):
        connect(elsewhere, certs)
    assert in_tls(connect(elsewhere, certs, sslmode="verify-ca"))


def sasl_first(raw, t, certs, mechanism, first):
    """What the router says to that beginning, inside TLS."""
    c = raw(t, login=False).start_tls(trusting(certs))
    c.send(rawpg.startup_packet({"user": "app", "database": "app"}))
    m = c.recv()
    assert m.body == struct.pack("!I", 10) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
    c.send(rawpg.message("p", mechanism + b"\0" + struct.pack("!I", len(first)) + first))
    return c.recv()


def test_a_login_can_be_tied_to_its_connection(secured, raw, certs):
    t = secured(auth_type="scram-sha-256", auth_file="{dir}/users",
                more={"users": '"app" "secret"\n"verified" "' + VERIFIER + '"\n'})
    for user, password in (("app", "secret"), ("verified", "pencil")):
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            connect(t, certs, channel_binding="require", user=user, password="wrong", dbname="tidemark")
    for binding in ("require", "prefer", "disable"):
        assert in_tls(connect(t, certs, channel_binding=binding, password="secret"))
    with Terminator(t.port, certs / "elsewhere.crt", certs / "elsewhere.key") as thief:
        between = dict(host=HOST, port=thief.port, dbname="app", user="app", password="secret", sslmode="require")
        with pytest.raises(psycopg2.OperationalError, match="SCRAM channel binding check failed"):
            psycopg2.connect(channel_binding="prefer", **between)
        psycopg2.connect(channel_binding="disable", **between).close()
    bare = b"n=,r=abcdefghijklmnop"
    assert sasl_first(raw, t, certs, b"SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,," + bare).kind == "R"
    # Somebody has taken the offer away on its way to the client.
    m = sasl_first(raw, t, certs, b"SCRAM-SHA-256", b"y,," + bare)
    assert m.fields()["C"] == "28000" and m.fields()["M"] == "SCRAM channel binding negotiation error"
    for mechanism, header in ((b"SCRAM-SHA-256-PLUS", b"n,,"), (b"SCRAM-SHA-256-PLUS", b"p=tls-unique,,"),
                              (b"SCRAM-SHA-256", b"p=tls-server-end-point,,")):
        assert sasl_first(raw, t, certs, mechanism, header + bare).kind == "E"


def test_a_certificate_without_a_hash_offers_no_binding(secured, raw, certs):
    """A signature by Ed25519 names no digest, and RFC 5929 says nothing of it."""
    authority(certs, "ed25519-ca", new=("-newkey", "ed25519", "-nodes"))
    certificate(certs, "ed25519", "/CN=localhost", signed_by="ed25519-ca", digest=None)
    certificate(certs, "sha512", "/CN=localhost", digest="-sha512")
    t = secured(cert="sha512", auth_type="scram-sha-256", auth_file="{dir}/users", more={"users": '"app" "secret"\n'})
    assert in_tls(connect(t, certs, channel_binding="require", password="secret"))
    c = raw(secured(cert="ed25519", auth_type="scram-sha-256", auth_file="{dir}/users",
                    more={"users": '"app" "secret"\n'}), login=False)
    c.start_tls(ssl.create_default_context(cafile=certs / "ed25519-ca.crt"))
    c.send(rawpg.startup_packet({"user": "app", "database": "app"}))
    assert c.recv().body == struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"


SSL_REQUEST = rawpg.message(b"", struct.pack("!I", rawpg.SSL))
GSS_REQUEST = rawpg.message(b"", struct.pack("!I", rawpg.GSSENC))
STARTUP = rawpg.startup_packet({"user": "app", "database": "app"})


@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_nothing_behind_the_request_for_tls_is_taken(secured, raw, mode):
    """CVE-2021-23214: what somebody puts there in clear must not count as said in TLS."""
    t = secured(mode)
    for behind in (STARTUP, b"\0", b"\x16\x03\x01", SSL_REQUEST, STARTUP + rawpg.query("SELECT 1")):
        c = raw(t, login=False)
        c.send(SSL_REQUEST + behind)
        got = c.rest(5)
        assert rawpg.errors(got) == ["08P01"] and rawpg.kinds(got) == "E", got


def test_what_was_injected_after_the_answer_fails_the_handshake(secured, raw, certs):
    t = secured()
    c = raw(t, login=False)
    c.send(SSL_REQUEST)
    assert c.take(1) == b"S"
    c.send(STARTUP)
    try:
        assert b"Z" not in c.sock.recv(1000)  # an alert, or nothing
    except ConnectionError:
        pass
    assert value(connect(t, certs), "SELECT 1") == 1


def test_the_request_may_come_byte_by_byte_and_after_one_for_gss(secured, raw, certs):
    t = secured()
    c = raw(t, login=False)
    c.send(GSS_REQUEST)
    assert c.take(1) == b"N"
    c.send_slowly(SSL_REQUEST)
    assert c.take(1) == b"S"
    c.sock = trusting(certs).wrap_socket(c.sock, server_hostname="localhost")
    c.startup()
    assert c.query_rows("SELECT 1") == [["1"]]


def test_tls_is_not_asked_for_inside_tls(secured, raw, certs):
    c = raw(secured(), login=False).start_tls(trusting(certs))
    c.send(SSL_REQUEST)
    assert rawpg.errors(c.rest(5)) == ["08P01"]


# ---- direct, as of PostgreSQL 17 ----


def test_direct_tls_needs_the_name_of_the_protocol(secured, raw, certs):
    t = secured()
    c = raw(t, login=False).start_tls(trusting(certs, alpn=["postgresql"]), direct=True)
    assert c.sock.selected_alpn_protocol() == "postgresql"
    c.startup()
    assert c.query_rows("SELECT 1") == [["1"]]

    c = raw(t, login=False).start_tls(trusting(certs), direct=True)
    assert rawpg.errors(c.rest(5)) == ["08P01"]

    with pytest.raises(ssl.SSLError):
        raw(t, login=False).start_tls(trusting(certs, alpn=["http/1.1"]), direct=True)


def test_direct_tls_may_begin_with_a_single_byte(secured, raw, certs):
    c = raw(secured(), login=False)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(certs, alpn=["postgresql"]).wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            c.send_slowly(outgoing.read(), chunk=1 if not incoming.pending else 1000)
            incoming.write(c.sock.recv(100))
    c.send(outgoing.read())
    tls.write(STARTUP)
    c.send(outgoing.read())
    incoming.write(c.sock.recv(10000))
    assert tls.read(1) == b"R"


def test_direct_tls_where_there_is_none_is_hung_up(secured, raw, certs):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        raw(secured("disable"), login=False).start_tls(trusting(certs, alpn=["postgresql"]), direct=True)


# ---- time, memory, endings ----


def test_a_slow_handshake_has_a_limit(secured, raw, certs):
    t = secured(client_login_timeout="1s")
    slow = [raw(t, login=False) for _ in range(3)]
    began = time.monotonic()
    for c, said in zip(slow, (b"", SSL_REQUEST, b"\x16\x03\x01\x02\x00")):
        c.send(said)
    for c in slow:
        c.sock.settimeout(5)
        try:
            while c.sock.recv(1000):
                pass
        except ConnectionError:
            pass
    assert time.monotonic() - began < 4
    assert value(connect(t, certs), "SELECT 1") == 1


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_are_refused(secured, raw, certs):
    t = secured()
    old = trusting(certs)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        raw(t, login=False).start_tls(old)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        c = trusting(certs)
        c.minimum_version = c.maximum_version = version
        assert raw(t, login=False).start_tls(c).startup().query_rows("SELECT 1") == [["1"]]
    only = secured(client_tls_protocols="tlsv1.3")
    c = trusting(certs)
    c.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        raw(only, login=False).start_tls(c)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_does_not_read_holds_the_server_up_and_no_memory(secured, raw, certs, version):
    t = secured(tls=trusting(certs))
    t.wait_fleet()
    c = raw(t, login=False)
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    context = trusting(certs)
    context.minimum_version = context.maximum_version = version
    c.start_tls(context).startup()
    c.query("SELECT 1")
    before = t.resident_kb()
    c.send(rawpg.query("SELECT repeat(md5(g::text), 1000) FROM generate_series(1, 2500) g"))  # 80 MB
    time.sleep(1.5)
    assert t.resident_kb() - before < (40000 if t.is_sanitized() else 5000)
    got = c.until_ready(20)
    assert sum(len(m.body) for m in got if m.kind == "D") == 2500 * (32000 + 6)
    assert c.query_rows("SELECT 1") == [["1"]]


def test_much_goes_both_ways(secured, raw, certs):
    """A client that sends a great deal and only then reads what came back."""
    t = secured()
    c = raw(t, login=False).start_tls(trusting(certs)).startup()
    c.query("CREATE TEMP TABLE loaded (v text)")
    c.send(rawpg.query("COPY loaded FROM STDIN"))
    c.recv_until("G")
    line = b"x" * 9000 + b"\n"
    for _ in range(500):
        c.send(rawpg.copy_data(line))
    c.send(rawpg.copy_done())
    c.until_ready()
    assert c.query_rows("SELECT count(*), min(length(v)) FROM loaded") == [["500", "9000"]]
    for n in range(200):
        c.send(rawpg.query(f"SELECT '{n}', repeat('y', 10000)"))
    for n in range(200):
        got = [m for m in c.until_ready() if m.kind == "D"]
        assert got[0].columns() == [str(n).encode(), b"y" * 10000]


def test_endings(secured, raw, certs):
    t = secured(tls=trusting(certs))
    t.wait_fleet()
    calm = len(t.show("CLIENTS"))

    def here():
        return raw(t, login=False).start_tls(trusting(certs)).startup()

    c = here()
    c.sock.unwrap()  # a goodbye, and then the end
    c = here()
    c.sock.shutdown(socket.SHUT_WR)  # half closed, without one
    c = here()
    c.sock.close()
    c = here()
    c.send(rawpg.terminate())
    assert c.rest() == []
    harness.wait_until(lambda: len(t.show("CLIENTS")) == calm, 5, "the clients to be gone")


def test_a_statement_is_cancelled_from_inside_and_outside_of_tls(secured, raw, certs):
    t = secured("prefer")
    for inside in (False, True):
        c = raw(t, login=False).start_tls(trusting(certs)).startup()
        c.send(rawpg.query("SELECT pg_sleep(20)"))
        time.sleep(0.3)
        if inside:
            k = raw(t, login=False).start_tls(trusting(certs))
            k.send(rawpg.message(b"", struct.pack("!II", rawpg.CANCEL, c.pid) + c.key))
        else:
            c.cancel()
        assert rawpg.errors(c.until_ready(5)) == ["57014"]


def test_a_unix_socket_needs_no_tls(secured, certs, tmp_path):
    t = secured("require", unix_socket_dir=str(tmp_path))
    c = psycopg2.connect(host=str(tmp_path), port=t.port, user="app", dbname="app", sslmode="prefer")
    assert not in_tls(c) and value(c, "SELECT 1") == 1


# ---- reload ----


def serial(t, certs):
    with socket.create_connection((HOST, t.port), 5) as s:
        s.sendall(SSL_REQUEST)
        assert s.recv(1) == b"S"
        with trusting(certs).wrap_socket(s, server_hostname="localhost") as tls:
            return tls.getpeercert()["serialNumber"]


def test_reload_changes_the_certificate_for_those_who_come(secured, certs):
    t = secured()
    before = serial(t, certs)
    stays = connect(t, certs)
    certificate(certs, "renewed", "/CN=localhost")
    for kind in ("crt", "key"):
        shutil.copy(certs / f"renewed.{kind}", t.path(f"router.{kind}"))
    assert serial(t, certs) == before
    t.reload()
    harness.wait_until(lambda: serial(t, certs) != before, 5, "the new certificate")
    assert value(stays, "SELECT 1") == 1


def test_a_bad_file_on_reload_changes_nothing(secured, certs):
    t = secured()
    before = serial(t, certs)
    shutil.copy(certs / "elsewhere.key", t.path("router.key"))  # does not fit the certificate
    t.reload()
    harness.wait_until(lambda: "the running configuration stays" in t.log_text(), 5, "the refusal")
    assert "router.crt" in t.log_text()
    assert serial(t, certs) == before and value(connect(t, certs), "SELECT 1") == 1


@pytest.mark.parametrize("flags,says", [
    (["--client-tls-sslmode", "require"], "client_tls_cert_file"),
    (["--client-tls-sslmode", "on"], "verify-full"),
    (["--client-tls-sslmode", "verify-ca", "--client-tls-cert-file", "{certs}/router.crt",
      "--client-tls-key-file", "{certs}/router.key"], "client_tls_ca_file"),
    (["--client-tls-sslmode", "require", "--client-tls-cert-file", "{certs}/router.crt",
      "--client-tls-key-file", "{certs}/app.key"], "{certs}/router.crt"),
    (["--client-tls-sslmode", "require", "--client-tls-cert-file", "/nonexistent.crt",
      "--client-tls-key-file", "{certs}/app.key"], "/nonexistent.crt"),
    (["--client-tls-sslmode", "require", "--client-tls-cert-file", "{certs}/router.crt", "--client-tls-key-file",
      "{certs}/router.key", "--client-tls-protocols", "tlsv1.1,tlsv1.2"], "tlsv1.1"),
    (["--client-tls-sslmode", "require", "--client-tls-cert-file", "{certs}/router.crt", "--client-tls-key-file",
      "{certs}/router.key", "--client-tls-ciphers", "ROT13"], "cipher"),
])
def test_what_cannot_work_is_refused_at_start(need_router, certs, flags, says):
    flags = [f.format(certs=certs) for f in flags]
    status, text = harness.bad_start("--primary", "host=127.0.0.1", "--listen", f"{HOST}:{harness.free_port()}", *flags)
    assert status != 0 and says.format(certs=certs) in text, text
