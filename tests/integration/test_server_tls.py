# SPDX-License-Identifier: PostgreSQL
"""TLS to servers: the modes of libpq, for pooled connections, watchers and cancel requests alike."""

import os
import pathlib
import pwd
import shutil
import socket
import tempfile
import threading
import time

import psycopg2
import pytest

import harness
from certificates import authority, certificate
from harness import HOST, PASSWORD, value
from terminator import Terminator

# Nobody gets in without TLS, u_plain only with a certificate, and u_scram only with a password.
HBA = """
hostnossl all         all     127.0.0.1/32 reject
hostssl   all         u_plain 127.0.0.1/32 cert
hostssl   all         u_scram 127.0.0.1/32 scram-sha-256
hostssl   all         all     127.0.0.1/32 trust
hostssl   replication all     127.0.0.1/32 trust
"""


@pytest.fixture(scope="module")
def certs():
    d = pathlib.Path(tempfile.mkdtemp(prefix="tidemark-certs-"))
    d.chmod(0o755)
    authority(d, "ca")
    authority(d, "other")
    certificate(d, "server", "/CN=db", names="DNS:localhost")
    certificate(d, "u_plain", "/CN=u_plain")
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(d / "server.key", account.pw_uid, account.pw_gid)
    yield d
    shutil.rmtree(d)


@pytest.fixture(scope="module")
def tls_fleet(certs):
    f = harness.Fleet(standbys=1, extra_conf=f"ssl = on\nssl_cert_file = '{certs}/server.crt'\n"
                      f"ssl_key_file = '{certs}/server.key'\nssl_ca_file = '{certs}/ca.crt'\n")
    for s in f.servers:
        with open(os.path.join(s.dir, "pg_hba.conf"), "w") as hba:
            hba.write(HBA)
        s.sql("SELECT pg_reload_conf()")
    yield f
    f.destroy()


def to(server, host=HOST, **more):
    return f"host={host} port={server.port} user=postgres dbname=app " + " ".join(f"{k}={v}" for k, v in more.items())


@pytest.fixture
def before(router, tls_fleet):
    """before(host=…, sslmode=…): a router in front of the fleet that wants TLS."""
    def make(host=HOST, wait=True, fleet=tls_fleet, options=None, **said):
        return router(in_front_of=fleet, primary=to(fleet.primary, host, **said),
                      replicas=[to(s, host, **said) for s in fleet.standbys], wait=wait, **(options or {}))
    return make


def protected(conn):
    return value(conn, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")


def test_what_is_asked_for_is_had(before, certs, tls_fleet):
    for host, said in ((HOST, dict(sslmode="prefer")), (HOST, dict()), (HOST, dict(sslmode="require")),
                       (HOST, dict(sslmode="verify-ca", sslrootcert=certs / "ca.crt")),
                       ("localhost", dict(sslmode="verify-full", sslrootcert=certs / "ca.crt"))):
        t = before(host, **said)
        c = t.connect()
        assert protected(c) is True, said
        assert harness.where(t.connect(options="-c tidemark.consistency=eventual")) == "replica1"


def test_options_count_where_a_node_says_nothing(before, certs):
    t = before("localhost", options=dict(server_tls_sslmode="verify-full", server_tls_ca_file=certs / "ca.crt"))
    assert protected(t.connect()) is True


def refused(t, reason):
    harness.wait_until(lambda: reason in t.log_text(), 10, lambda: f"{reason}: {t.log_text()}")
    with pytest.raises(psycopg2.Error):
        value(t.connect(), "SELECT 1")


def test_servers_that_are_not_who_they_should_be(before, certs, fleet):
    short = dict(client_login_timeout="2s", failover_timeout="1s")
    for host, said, reason in (
            (HOST, dict(sslmode="disable"), "no encryption"),
            (HOST, dict(sslmode="verify-ca", sslrootcert=certs / "other.crt"), "certificate is refused"),
            (HOST, dict(sslmode="require", sslrootcert=certs / "other.crt"), "certificate is refused"),
            # Made out to localhost.
            (HOST, dict(sslmode="verify-full", sslrootcert=certs / "ca.crt"), "mismatch")):
        refused(before(host, wait=False, options=short, **said), reason)
    # One without TLS.
    refused(before(wait=False, fleet=fleet, options=short, sslmode="require"), "does not support TLS")
    assert protected(before(fleet=fleet, sslmode="prefer").connect()) is False


def test_a_certificate_of_our_own(before, certs):
    mine = dict(sslcert=certs / "u_plain.crt", sslkey=certs / "u_plain.key")
    t = before("localhost", sslmode="verify-full", sslrootcert=certs / "ca.crt", **mine)
    assert value(t.connect(user="u_plain"), "SELECT current_user || ''") == "u_plain"
    with pytest.raises(psycopg2.Error, match="certificate"):
        value(before(sslmode="require", options=dict(query_wait_timeout="3s")).connect(user="u_plain"), "SELECT 1")


SCRAM = dict(user="u_scram", password="'" + PASSWORD.replace("\\", "\\\\").replace("'", "\\'") + "'")
USERS = {"users": '"u_scram" "' + PASSWORD.replace('"', '""') + '"\n"app" ""\n"postgres" ""\n'}


def test_logins_are_tied_to_the_connection(before):
    """Watchers and pooled connections alike; what a server does not ask SCRAM for cannot be."""
    t = before(sslmode="require", channel_binding="require", **SCRAM, wait=False,
               options=dict(auth_type="trust", auth_file="{dir}/users", files=USERS, server_login_retry="200ms"))
    t.wait_fleet()
    assert value(t.connect(user="u_scram"), "SELECT current_user || ''") == "u_scram"
    with pytest.raises(psycopg2.Error, match="channel_binding=require, but the server"):
        value(t.connect(user="app"), "SELECT 1")


def test_nobody_stands_between_the_router_and_its_servers(before, certs, tls_fleet, router):
    server = tls_fleet.primary
    with Terminator(server.port, certs / "server.crt", certs / "server.key") as honest, \
         Terminator(server.port, certs / "u_plain.crt", certs / "u_plain.key") as thief:
        def through(proxy, **said):
            return router(primary=proxy.conninfo(sslmode="require", **SCRAM, **said), replicas=[], wait=False)

        through(honest, channel_binding="require").wait_fleet()  # with the server's own certificate nobody can tell
        refused = through(thief)
        harness.wait_until(lambda: "SCRAM channel binding check failed" in refused.log_text(), 10,
                           lambda: refused.log_text())
        through(thief, channel_binding="disable").wait_fleet()


def test_direct_tls(before, certs, tls_fleet, router):
    said = dict(sslmode="verify-full", sslrootcert=certs / "ca.crt", sslnegotiation="direct")
    cert = certs / "localhost.crt", certs / "localhost.key"
    certificate(certs, "localhost", "/CN=localhost")
    server = tls_fleet.primary
    with Terminator(server.port, *cert, direct=True, alpn=["postgresql"]) as good:
        t = router(primary=good.conninfo(**said), replicas=[])
        assert value(t.connect(), "SELECT 1") == 1
        assert set(good.began) == {b"\x16"}, "something was said before TLS"
        c = t.connect()
        threading.Timer(0.5, c.cancel).start()
        with pytest.raises(psycopg2.errors.QueryCanceled):
            value(c, "SELECT pg_sleep(20)")
    for alpn in (None, ["http/1.1"]):
        with Terminator(server.port, *cert, direct=True, alpn=alpn) as other:
            t = router(primary=other.conninfo(**said), replicas=[], wait=False)
            harness.wait_until(lambda: "did not agree by ALPN" in t.log_text() or "alert" in t.log_text(), 10,
                               lambda: t.log_text())
    # One that waits for an SSLRequest.
    t = before(wait=False, sslmode="require", sslnegotiation="direct")
    harness.wait_until(lambda: "cannot connect" in t.log_text(), 10, lambda: t.log_text())


def test_direct_tls_from_router_to_router(router, certs, tls_fleet):
    front = router(client_tls_sslmode="require", client_tls_cert_file=certs / "server.crt",
                   client_tls_key_file=certs / "server.key", primary=to(tls_fleet.primary), replicas=[], wait=False)
    t = router(primary=f"host=localhost port={front.port} user=app dbname=app sslmode=verify-full "
               f"sslrootcert={certs / 'ca.crt'} sslnegotiation=direct", replicas=[])
    assert value(t.connect(), "SELECT 1") == 1


def test_a_statement_is_cancelled(before):
    c = before(sslmode="require").connect()
    timer = threading.Timer(0.5, c.cancel)
    timer.start()
    began = time.monotonic()
    with pytest.raises(psycopg2.errors.QueryCanceled):
        value(c, "SELECT pg_sleep(20)")
    assert time.monotonic() - began < 10


def test_much_is_read_and_written(before, tls_fleet):
    c = before(sslmode="require").connect()
    assert value(c, "SELECT length(string_agg(pad, '')) FROM big") == 2000 * 1024
    rows = harness.rows(c, "SELECT repeat(pad, 10) FROM big")
    assert len(rows) == 2000 and all(len(r[0]) == 10240 for r in rows)
    assert value(c, "SELECT length(%s)", "x" * 3000000) == 3000000


def test_a_reload_reads_the_files_again(before, certs, tmp_path):
    ca = tmp_path / "ca.crt"
    shutil.copy(certs / "other.crt", ca)
    t = before("localhost", wait=False, sslmode="verify-full", sslrootcert=ca)
    harness.wait_until(lambda: "certificate is refused" in t.log_text(), 10, "the refusal")
    shutil.copy(certs / "ca.crt", ca)
    t.reload()
    t.wait_fleet()
    assert protected(t.connect()) is True
    ca.write_text("no certificate at all")
    t.reload()
    harness.wait_until(lambda: "the running configuration stays" in t.log_text(), 5, "the refusal")
    assert protected(t.connect()) is True


@pytest.mark.parametrize("answer,reason", [
    (b"N", "does not support TLS"), (b"E\0\0\0\x08oops", "not PostgreSQL's"), (b"", "closed the connection"),
    # In clear behind the S: a login without a question, if it were believed.
    (b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", "TLS"),
])
def test_a_server_in_the_middle_cannot_talk_us_out_of_it(need_router, router, fleet, answer, reason):
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()

        def serve():
            while True:
                try:
                    s, _ = listener.accept()
                except OSError:
                    return
                with s:
                    s.settimeout(2)
                    said = s.recv(100)
                    if said == b"\0\0\0\x08\x04\xd2\x16\x2f":
                        s.sendall(answer)
                        try:
                            more = s.recv(1000) if answer[:1] == b"S" else b""
                        except OSError:
                            more = b""
                        assert not more or more[0] == 0x16, "something was said in clear"

        threading.Thread(target=serve, daemon=True).start()
        t = router(primary=f"host={HOST} port={listener.getsockname()[1]} sslmode=require", replicas=[], wait=False)
        harness.wait_until(lambda: reason in t.log_text(), 10, lambda: t.log_text())
        listener.shutdown(socket.SHUT_RDWR)


def test_a_server_that_says_nothing_to_tls_is_given_up(need_router, router):
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        t = router(primary=f"host={HOST} port={listener.getsockname()[1]} sslmode=require", replicas=[], wait=False,
                   server_connect_timeout="500ms")
        harness.wait_until(lambda: "timed out" in t.log_text(), 10, lambda: t.log_text())


@pytest.mark.parametrize("said,says", [
    ("sslmode=verify-full", "sslrootcert"), ("sslmode=on", "verify-full"),
    ("sslnegotiation=direct", "sslmode=require"), ("sslnegotiation=soon", "postgres or direct"),
    ("channel_binding=on", "prefer or require"), ("sslmode=verify-ca sslrootcert=/nonexistent", "/nonexistent"), ("sslcert=/nonexistent", "/nonexistent")])
def test_what_cannot_work_is_refused_at_start(need_router, said, says):
    status, text = harness.bad_start("--primary", f"host=127.0.0.1 {said}", "--listen", f"{HOST}:{harness.free_port()}")
    assert status != 0 and says in text, text
