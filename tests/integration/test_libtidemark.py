# SPDX-License-Identifier: PostgreSQL
"""libtidemark, installed as a user would have it, against real servers and two routers that share nothing."""

import os
import re
import subprocess

import pytest

from harness import HOST, ROOT
from test_recipes import key_options

HERE = os.path.dirname(__file__)
CLIENT = os.path.join(HERE, "libtidemark_client.c")
EXAMPLE = os.path.join(ROOT, "examples", "c", "read_your_writes.c")
# Building the installed tree takes its time on a busy machine.
HANG_LIMIT = 180
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
ROUNDS = 60


def run(*argv, env=None, **kw):
    r = subprocess.run(argv, capture_output=True, text=True, timeout=150, env=dict(os.environ, **env) if env else None, **kw)
    assert r.returncode == 0, f"{' '.join(argv)}: {r.returncode}\n{r.stdout[-3000:]}{r.stderr[-3000:]}"
    return r.stdout


class Installed:
    """The library alone in a prefix of its own, and programs built with nothing but pkg-config."""

    def __init__(self, base):
        self.base = base
        self.prefix = os.path.join(base, "prefix")
        build = os.path.join(base, "build")
        run("meson", "setup", "--prefix", self.prefix, "--libdir", "lib", build, ROOT)
        run("ninja", "-C", build, "libtidemark")
        run("meson", "install", "-C", build, "--no-rebuild", "--tags", "libtidemark,devel")
        self.env = {"PKG_CONFIG_PATH": os.path.join(self.prefix, "lib", "pkgconfig")}

    def pkg_config(self, *args):
        return run("pkg-config", *args, "tidemark", env=self.env).split()

    def build(self, source, name=None, compiler="cc", flags=()):
        out = os.path.join(self.base, name or os.path.basename(source).split(".")[0])
        run(compiler, *WARNINGS, "-o", out, source, *(flags or self.pkg_config("--cflags", "--libs")))
        return out

    def run(self, program, *args):
        return run(program, *args, env={"LD_LIBRARY_PATH": os.path.join(self.prefix, "lib")})


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installed(str(tmp_path_factory.mktemp("libtidemark")))


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """The client with the library's sources, under AddressSanitizer and UBSan."""
    out = str(tmp_path_factory.mktemp("sanitized") / "client")
    client = os.path.join(ROOT, "client")
    sources = [os.path.join(client, f) for f in sorted(os.listdir(client))
               if f.endswith(".c") and not f.startswith("t_")]
    sources += [os.path.join(ROOT, "src", "consistency", f) for f in ("token.c", "position.c")]
    run("cc", "-std=gnu17", "-D_GNU_SOURCE", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
        "-fno-strict-aliasing", "-I" + os.path.join(ROOT, "src"), "-I" + client, "-o", out, CLIENT, *sources,
        *run("pkg-config", "--cflags", "--libs", "libpq", "libcrypto").split())
    return out


def conninfo(to):
    return f"host={HOST} port={to.port} user=app dbname=app connect_timeout=10"


@pytest.fixture
def two(router, fleet):
    """Two routers of one fleet, where nobody but a token tells one what the other did."""
    # A busy machine must not send reads to the primary because they waited in vain.
    return [router(scope="connection", wait_timeout="1s", **key_options()) for _ in "AB"]


# ---- read your writes through two routers ----

def rounds(installed, two, how, n=ROUNDS):
    client = installed.build(CLIENT, flags=None)
    out = installed.run(client, "rounds", conninfo(two[0]), conninfo(two[1]), str(n), how)
    found = re.fullmatch(r"reads=(\d+) stale=(\d+) replica=(\d+)\n", out)
    assert found, out
    return [int(x) for x in found.groups()]


@pytest.mark.parametrize("how", ["report", "show", "relay"])
def test_a_token_carries_the_write_to_another_router(installed, two, fleet, how):
    for i in (1, 2):
        fleet.set_delay(i, 30)
    reads, stale, replica = rounds(installed, two, how)
    assert reads == ROUNDS and stale == 0
    assert replica > reads // 2, f"inconclusive: only {replica} of {reads} reads were served by replicas"


def test_without_the_token_the_same_reads_are_stale(installed, two, fleet):
    """Else the tests above would prove nothing."""
    for i in (1, 2):
        fleet.set_delay(i, 30)
    _, stale, replica = rounds(installed, two, "none")
    assert stale > ROUNDS // 2 and replica > ROUNDS // 2


# ---- every state a connection may be in ----

@pytest.mark.parametrize("case", [
    "in_a_transaction", "in_a_failed_transaction", "in_pipeline_mode", "while_a_command_runs", "while_copying",
    "nonblocking", "reporting_ends", "a_reported_token_costs_no_round_trip", "a_shown_token_has_to_fit",
    "what_is_no_token_is_not_sent", "an_unbelieved_token_is_no_error", "a_fresh_session_has_a_token"])
def test_connection(sanitized, two, case):
    assert run(sanitized, case, conninfo(two[0])) == f"ok {case}\n"


@pytest.mark.parametrize("case", ["plain_postgres", "plain_postgres_in_a_transaction",
                                  "plain_postgres_with_a_made_up_token", "a_broken_connection", "a_connection_that_breaks"])
def test_postgres_without_tidemark(sanitized, fleet, case):
    assert run(sanitized, case, conninfo(fleet.primary)) == f"ok {case}\n"


# ---- the installed tree ----

def installed_files(installed):
    return sorted(os.path.relpath(os.path.join(d, f), installed.prefix)
                  for d, _, files in os.walk(installed.prefix) for f in files)


def test_what_is_installed(installed):
    assert installed_files(installed) == [
        "include/tidemark.h", "lib/libtidemark.a", "lib/libtidemark.so", "lib/libtidemark.so.1",
        "lib/libtidemark.so.1.0.0", "lib/pkgconfig/tidemark.pc", "share/man/man3/tidemark.3"]
    elf = run("readelf", "-d", os.path.join(installed.prefix, "lib", "libtidemark.so"))
    assert re.search(r"SONAME.*\[libtidemark\.so\.1\]", elf)
    with open(os.path.join(installed.prefix, "share", "man", "man3", "tidemark.3")) as f:
        assert "tidemark_read_after" in f.read()


@pytest.mark.parametrize("linking", ["shared", "static"])
def test_example(installed, two, fleet, linking):
    fleet.set_delay(1, 10)
    flags = installed.pkg_config("--cflags", "--libs")
    if linking == "static":
        flags = [os.path.join(installed.prefix, "lib", "libtidemark.a") if f == "-ltidemark" else f for f in flags]
        flags.append("-lcrypto")
    program = installed.build(EXAMPLE, name="example_" + linking, flags=flags)
    needs = "libtidemark" in run("readelf", "-d", program)
    assert needs == (linking == "shared")
    out = installed.run(program, conninfo(two[0]), conninfo(two[1]))
    assert out.startswith("200 writes, each read back through another connection: 0 stale\n"), out
    assert not fleet.primary.sql("SELECT 1 FROM pg_class WHERE relname = 'read_your_writes'")


def test_from_cxx(installed):
    program = installed.build(os.path.join(HERE, "libtidemark_cxx.cc"), compiler="c++")
    assert installed.run(program) == "ok\n"
