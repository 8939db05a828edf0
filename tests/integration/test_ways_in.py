# SPDX-License-Identifier: PostgreSQL
"""How clients prove who they are beside md5 and SCRAM against a list of passwords: keys that are passed
through, certificates, the kernel's word, passwords in clear, rules in pg_hba.conf's format."""

import os
import pwd
import ssl

import psycopg2
import pytest

import harness
import rawpg
from certificates import authority, certificate
from harness import HOST, PASSWORD, value
from test_auth import scram_verifier, userlist


def verifier_of(fleet, user):
    return fleet.primary.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", user)


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    d = tmp_path_factory.mktemp("certs")
    authority(d, "ca")
    certificate(d, "router", "/CN=localhost")
    certificate(d, "app", "/CN=app")
    certificate(d, "ann", "/CN=ann@tide.test")
    return d


def tls_options(certs, mode="prefer", **more):
    return dict(client_tls_sslmode=mode, client_tls_cert_file=certs / "router.crt",
                client_tls_key_file=certs / "router.key", client_tls_ca_file=certs / "ca.crt", **more)


# ---- keys passed through ----


def test_no_password_is_stored_and_the_servers_ask_for_scram(router, fleet, raw):
    t = router(auth_type="scram-sha-256", auth_file="{dir}/users", admin_password="console",
               files={"users": userlist(postgres="console", u_scram=verifier_of(fleet, "u_scram"))})
    for _ in range(2):
        c = t.connect(user="u_scram", password=PASSWORD)
        assert value(c, "SELECT current_user || '' FROM items WHERE id = 1") == "u_scram"
        assert value(c, "INSERT INTO scratch VALUES (4711, 'x') RETURNING id") == 4711
        harness.rows(c, "DELETE FROM scratch WHERE id = 4711")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        t.connect(user="u_scram", password="wrong")
    assert raw(t, user="u_scram", password=PASSWORD).query_rows("SELECT 1") == [["1"]]
    log = t.log_text()
    assert PASSWORD not in log and "SCRAM-SHA-256$" not in log


def test_keys_of_another_secret_are_told_apart(router, fleet):
    t = router(auth_type="scram-sha-256", auth_file="{dir}/users", admin_password="console",
               files={"users": userlist(postgres="console", u_scram=scram_verifier())}, server_login_retry="200ms",
               query_wait_timeout="3s")
    with pytest.raises(psycopg2.OperationalError, match="is not the router's"):
        value(t.connect(user="u_scram", password=PASSWORD), "SELECT 1")


# ---- in clear, inside TLS ----


def test_a_password_in_clear_goes_through_tls_only(router, fleet, certs):
    t = router(auth_type="plain", auth_file="{dir}/users", admin_password="console", wait=False, tls=trust(certs),
               files={"users": userlist(postgres="console", u_trust=PASSWORD, u_scram=verifier_of(fleet, "u_scram"))},
               **tls_options(certs))
    t.wait_fleet()
    for user in ("u_trust", "u_scram"):
        assert value(t.connect(user=user, password=PASSWORD, sslmode="require"), "SELECT 1") == 1
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            t.connect(user=user, password=PASSWORD + "x", sslmode="require")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        t.connect(user="nobody", password=PASSWORD, sslmode="require")
    with pytest.raises(psycopg2.OperationalError, match="inside TLS only"):
        t.connect(user="u_trust", password=PASSWORD, sslmode="disable")


def trust(certs, cert=None):
    c = ssl.create_default_context(cafile=certs / "ca.crt")
    if cert:
        c.load_cert_chain(certs / f"{cert}.crt", certs / f"{cert}.key")
    return c


# ---- certificates ----


def test_the_certificate_names_the_user(router, certs):
    t = router(auth_type="cert", wait=False, **tls_options(certs, "verify-full"))
    mine = dict(sslmode="verify-full", sslrootcert=certs / "ca.crt", sslcert=certs / "app.crt",
                sslkey=certs / "app.key")
    assert value(t.connect(user="app", **mine), "SELECT current_user || ''") == "app"
    with pytest.raises(psycopg2.OperationalError, match="certificate authentication failed"):
        t.connect(user="postgres", **mine)


# ---- rules ----

RULES = """
# who may come, and how
local   all  app                 peer map=kernel
host    tidemark postgres 127.0.0.1/32 trust
host    all  u_trust  127.0.0.1/32 scram-sha-256
hostssl all  app      127.0.0.1/32 cert map=mail
hostssl all  other    127.0.0.1 255.255.255.255 trust
host    all  pooluser 127.0.0.1/32 reject
host    app  u_md5    10.0.0.0/8 trust
"""


def ruled(router, certs, tmp_path, rules=RULES):
    me = pwd.getpwuid(os.geteuid()).pw_name
    return router(auth_type="hba", auth_hba_file="{dir}/hba", auth_ident_file="{dir}/ident", auth_file="{dir}/users",
                  files={"hba": rules, "ident": f"kernel {me} app\nmail /^ann@(.*)$ app\n",
                         "users": userlist(u_trust=PASSWORD)}, admin_password="", wait=False,
                  unix_socket_dir=str(tmp_path), **tls_options(certs))


def test_rules_decide(router, certs, tmp_path):
    t = ruled(router, certs, tmp_path)
    t.wait_fleet()
    ann = dict(sslmode="require", sslcert=certs / "ann.crt", sslkey=certs / "ann.key")
    assert value(t.connect(user="u_trust", password=PASSWORD), "SELECT 1") == 1
    assert value(t.connect(user="app", **ann), "SELECT current_user || ''") == "app"
    assert value(t.connect(user="other", sslmode="require"), "SELECT 1") == 1
    local = psycopg2.connect(host=str(tmp_path), port=t.port, user="app", dbname="app")
    assert value(local, "SELECT 1") == 1
    for user, said, says in (("other", dict(sslmode="disable"), 'no pg_hba.conf entry for host "127.0.0.1", user '
                              '"other", database "app", no encryption'),
                             ("pooluser", {}, "pg_hba.conf rejects connection"),
                             ("u_md5", {}, "no pg_hba.conf entry"), ("nobody", {}, "no pg_hba.conf entry"),
                             ("app", dict(sslmode="require"), "valid client certificate"),
                             ("u_trust", dict(password="wrong"), "password authentication failed")):
        with pytest.raises(psycopg2.OperationalError, match=says):
            t.connect(user=user, **said)
    with pytest.raises(psycopg2.OperationalError, match="no pg_hba.conf entry"):
        psycopg2.connect(host=str(tmp_path), port=t.port, user="other", dbname="app")


def test_a_reload_reads_the_rules_again_or_not_at_all(router, certs, tmp_path):
    t = ruled(router, certs, tmp_path)
    t.write("hba", RULES.replace("reject", "trust"))
    t.reload()
    harness.wait_until(lambda: "configuration read" in t.log_text(), 5, "the reload")
    assert value(t.connect(user="pooluser"), "SELECT 1") == 1
    t.write("hba", "host all all all ldap\n" + RULES)
    t.reload()
    harness.wait_until(lambda: "hba:1: expected a method" in t.log_text(), 5, lambda: t.log_text())
    assert value(t.connect(user="pooluser"), "SELECT 1") == 1


def test_what_is_not_understood_is_refused_at_start(need_router, tmp_path):
    (tmp_path / "hba").write_text("local all all trust\nhost all +staff all trust\n")
    status, text = harness.bad_start("--primary", "host=127.0.0.1", "--listen", f"{HOST}:{harness.free_port()}",
                                     "--auth-type", "hba", "--auth-hba-file", str(tmp_path / "hba"))
    assert status != 0 and f"{tmp_path}/hba:2: members of a role" in text, text
