# SPDX-License-Identifier: PostgreSQL
"""The recipes of docs/recipes: the scripts below examples/ write through one router and read through another, without and with the recipe.
A recipe passes only if it makes stale reads vanish that are there without it, and leaves the reads on the replicas."""

import glob
import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest

import harness
from harness import HOST, ROOT, value

EXAMPLES = os.path.join(ROOT, "examples")
PGJDBC = os.environ.get("TIDEMARK_PGJDBC", "/usr/share/java/postgresql.jar")
# Long against what a script does between two statements, so that without the recipe reads are stale.
DELAY_MS = 50
KEYS = "7:" + "5a" * 32 + "\n"


def key_options():
    """One key for all routers, if they sign tokens at all."""
    known = subprocess.run([harness.PROGRAM, "--help"], capture_output=True, text=True, timeout=10).stdout
    return {"files": {"keys": KEYS}, "token_key_file": "{dir}/keys"} if "--token-key-file" in known else {}


@pytest.fixture(scope="module")
def routers(shared_fleet):
    """A and B in front of one fleet; each connection is a session of its own."""
    if os.environ.get("TIDEMARK_DIRECT_ONLY"):
        pytest.skip("TIDEMARK_DIRECT_ONLY is set")
    shared_fleet.calm()
    # A busy machine must not send reads to the primary because they waited in vain.
    pair = [harness.Tidemark(shared_fleet, scope="connection", wait_timeout="1s", **key_options()) for _ in "AB"]
    yield pair
    for t in pair:
        t.stop()


@pytest.fixture
def late(fleet, routers):
    """Both routers, and standbys that apply everything late."""
    for t in routers:
        t.wait_fleet()
    for i in (1, 2):
        fleet.set_delay(i, DELAY_MS)
    yield routers
    assert all(t.alive() for t in routers)


def need(package, there):
    assert there, f"{package} is not installed; packaging/bootstrap.sh check installs it, or: apt-get install {package}"


def need_module(name, package):
    need(package, importlib.util.find_spec(name))


def run(late, argv, directory):
    """Runs a recipe's script; what it printed last, and what router B did meanwhile."""
    a, b = late
    env = {**os.environ, "TIDEMARK_A": f"{HOST}:{a.port}", "TIDEMARK_B": f"{HOST}:{b.port}", "PGDATABASE": "app",
           "PGUSER": "app", "PYTHONDONTWRITEBYTECODE": "1"}
    before = b.routing()
    r = subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=os.path.join(EXAMPLES, directory), env=env)
    assert r.returncode == 0, r.stdout + r.stderr
    after = b.routing()
    last = re.fullmatch(r"stale_without=(\d+) stale_with=(\d+) reads=(\d+)", r.stdout.splitlines()[-1])
    assert last, r.stdout
    without, with_recipe, reads = map(int, last.groups())
    return without, with_recipe, reads, {n: after[n] - before[n] for n in ("reads_replica", "reads_primary")}


def judge(without, with_recipe, reads, did):
    assert reads >= 10
    assert with_recipe == 0, f"{with_recipe} of {reads} reads were stale with the recipe"
    assert without > 0, "no read was stale without the recipe, so this run proves nothing"
    # The reads without the recipe go to replicas anyhow, so only the primary's share tells about the others.
    assert did["reads_primary"] < reads / 2, f"{did['reads_primary']} of {reads} reads with the recipe went to the primary"
    assert did["reads_replica"] > 1.5 * reads, did


def test_psycopg2(late):
    judge(*run(late, [sys.executable, "read_your_writes.py"], "psycopg2"))


def test_psycopg3(late):
    need_module("psycopg", "python3-psycopg")
    need_module("psycopg_pool", "python3-psycopg-pool")
    judge(*run(late, [sys.executable, "read_your_writes.py"], "psycopg3"))


def test_django(late):
    need_module("django", "python3-django")
    judge(*run(late, [sys.executable, "read_your_writes.py"], "django"))


def test_sqlalchemy(late):
    need_module("sqlalchemy", "python3-sqlalchemy")
    judge(*run(late, [sys.executable, "read_your_writes.py"], "sqlalchemy"))


def test_rails_statements_through_ruby(late):
    need("ruby", shutil.which("ruby"))
    need("ruby-pg", subprocess.run(["ruby", "-e", 'require "pg"'], capture_output=True, timeout=20).returncode == 0)
    judge(*run(late, ["ruby", "-W", "read_your_writes.rb"], "ruby"))


def test_jdbc(late):
    need("default-jdk-headless", shutil.which("javac"))
    need("libpostgresql-jdbc-java", os.path.exists(PGJDBC))
    judge(*run(late, ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", PGJDBC, "ReadYourWrites.java"], "jdbc"))


def test_jobs(late):
    judge(*run(late, [sys.executable, "read_your_writes.py"], "jobs"))


def test_judge_refuses_what_is_no_recipe():
    fine = {"reads_replica": 30, "reads_primary": 0}
    judge(9, 0, 15, fine)
    for bad in [(9, 1, 15, fine),  # stale
                (0, 0, 15, fine),  # nothing to see
                (9, 0, 15, {"reads_replica": 15, "reads_primary": 15}),  # all on the primary
                (9, 0, 1, fine)]:
        with pytest.raises(AssertionError):
            judge(*bad)


# ---- the modules that the scripts are copied from ----

MODULES = {"psycopg2/tidemark_token.py": None, "psycopg3/tidemark_token.py": "psycopg", "sqlalchemy/tidemark_token.py": "sqlalchemy"}


def module(path):
    if MODULES[path]:
        need_module(MODULES[path], "python3-" + MODULES[path])
    spec = importlib.util.spec_from_file_location("recipe_" + os.path.dirname(path), os.path.join(EXAMPLES, path))
    m = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(m)
    return m


@pytest.mark.parametrize("path", MODULES)
def test_merge_keeps_everything_or_asks_for_the_primary(path):
    merge = module(path).merge
    assert merge() == merge("", None) == ""
    assert merge("a", "", "b,a", "c") == "a,b,c"
    assert merge("a", "primary") == "primary"
    eight = ",".join("abcdefgh")
    assert merge(eight, "h") == eight
    assert merge(eight, "i") == "primary"


class OneConnection:
    """The pool of psycopg2's, of one connection."""

    def __init__(self, conn):
        self.conn = conn

    def getconn(self):
        return self.conn

    def putconn(self, conn):
        pass


@pytest.fixture
def psycopg2_token(routers):
    m = module("psycopg2/tidemark_token.py")
    conn = routers[0].connect(options=m.CONNECT_OPTIONS)
    yield m.Token(), OneConnection(conn)
    conn.close()


def test_a_rolled_back_transaction_leaves_the_token_alone(fleet, psycopg2_token):
    token, pool = psycopg2_token
    with token.writing(pool) as conn:
        value(conn, "UPDATE items SET n = n WHERE id = 19 RETURNING 1")
    seen = token.text
    assert seen
    with pytest.raises(ZeroDivisionError):
        with token.writing(pool):
            raise ZeroDivisionError
    assert token.text == seen


def test_a_connection_lost_in_a_transaction_asks_for_the_primary(fleet, psycopg2_token):
    token, pool = psycopg2_token
    with pytest.raises(harness.psycopg2.Error):
        with token.writing(pool) as conn:
            value(conn, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert token.text == "primary"


def test_two_threads_of_one_request_lose_neither_write(fleet, routers):
    m = module("psycopg2/tidemark_token.py")
    token = m.Token()
    pools = [OneConnection(t.connect(options=m.CONNECT_OPTIONS)) for t in routers]
    with token.writing(pools[0]) as first:
        value(first, "UPDATE items SET n = n WHERE id = 19 RETURNING 1")
        with token.writing(pools[1]) as second:
            value(second, "UPDATE items SET n = n WHERE id = 20 RETURNING 1")
        inner = token.text
    assert token.text.split(",") == [inner, first.info.parameter_status("tidemark.token")]
    for pool in pools:
        pool.conn.close()


DJANGO_RULES = """
from django.conf import settings
settings.configure(SECRET_KEY="x", DATABASES={}, USE_TZ=True)
import django; django.setup()
from django.http import HttpResponse
from django.test import RequestFactory
import tidemark_middleware

def answer(cache=None, **headers):
    def view(request):
        return HttpResponse("", **({"headers": {"Cache-Control": cache}} if cache else {}))
    request = RequestFactory().get("/", **{"HTTP_" + n.upper(): v for n, v in headers.items()})
    r = tidemark_middleware.TidemarkMiddleware(view)(request)
    return r.get("Cache-Control"), r.get("X-Read-After"), sorted(r.cookies)

stranger = answer("public, max-age=60")
assert stranger == ("public, max-age=60", None, []), stranger
assert answer() == (None, None, [])
assert answer(x_read_after="T1") == ("private, no-store", "T1", [])
assert answer("public, max-age=60", x_read_after="T1")[0] == "private, no-store"
assert answer("private, stale-while-revalidate=9", authorization="x")[0] == "private, no-store"
assert answer("private, no-cache", x_read_after="T1")[0] == "private, no-cache"
assert answer(cookie="sessionid=x")[0] == "private, no-store"
assert answer(cookie="tidemark_wrote=T1:forged")[1] == "primary"
assert answer(x_read_after="T 1")[1] == "primary"
assert answer(x_read_after="T" * 2377)[1] == "primary"
assert answer(x_read_after="T" * 2376)[1] == "T" * 2376
print("ok")
"""


def test_django_answers_to_known_users_are_not_cached():
    need_module("django", "python3-django")
    r = subprocess.run([sys.executable, "-B", "-c", DJANGO_RULES], capture_output=True, text=True, timeout=20,
                       cwd=os.path.join(EXAMPLES, "django"))
    assert r.stdout == "ok\n", r.stdout + r.stderr


# ---- the pages ----

def test_pages_name_files_that_exist():
    pages = glob.glob(os.path.join(ROOT, "docs", "recipes", "*.md"))
    assert len(pages) >= 8
    for page in pages:
        with open(page) as f:
            text = f.read()
        for name in re.findall(r"\]\(([^)#:]+)[)#]", text):
            target = os.path.join(os.path.dirname(page), name)
            assert os.path.exists(target), f"{os.path.basename(page)} leads to {name}, which does not exist"
