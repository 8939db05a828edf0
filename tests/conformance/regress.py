# SPDX-License-Identifier: PostgreSQL
"""PostgreSQL's regression suite, src/test/regress, run with the installed pg_regress."""

import hashlib
import os
import re
import shutil
import subprocess

import sources
import ways

NAME = "pg_regress"
WHAT = "PostgreSQL's regression suite"
PACKAGE = "postgresql-15"
PG_REGRESS = "/usr/lib/postgresql/15/lib/pgxs/src/test/regress/pg_regress"
PG_BIN = "/usr/lib/postgresql/15/bin"
PG_LIB = "/usr/lib/postgresql/15/lib"

# "test boolean   ... ok   95 ms", "     boolean   ... FAILED  95 ms", with TAP output from 16 on.
LINE = re.compile(r"^(?:test)?\s+(\S+)\s+\.\.\. (ok|FAILED)")
# Single tests instead of the whole schedule, to look into a failure.
ONLY = os.environ.get("CONFORMANCE_TESTS", "").split()
TIMEOUT_S = 3600


def prepare():
    tree = sources.source(PACKAGE, "src/test/regress/parallel_schedule")
    if not os.access(PG_REGRESS, os.X_OK):
        raise sources.Unavailable("no pg_regress: package postgresql-server-dev-15")
    return os.path.join(tree, "src", "test", "regress")


def build_library(regress, into):
    """regress.so, the suite's own C functions, which the server loads."""
    include = subprocess.run(["pg_config", "--includedir-server"], capture_output=True, text=True, check=True)
    library = os.path.join(into, "regress.so")
    r = subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-w", "-I", include.stdout.strip(), "-o", library,
                        os.path.join(regress, "regress.c")], capture_output=True, text=True)
    if r.returncode != 0:
        raise sources.Unavailable(f"regress.c does not compile: {sources.last_line(r.stderr)}")


def comparable(printed, way):
    """What a test printed, without the directory, the port and OIDs, which are other ones each time."""
    text = printed.replace(way.dir.encode(), b"").replace(str(way.port).encode(), b"")
    return re.sub(rb"(?<!\d)\d{5}(?!\d)", b"", text)


def outcome(log, results, way):
    """{test: [verdict, digest of what it printed]}."""
    out = {}
    with open(log) as f:
        for m in filter(None, map(LINE.match, f)):
            with open(os.path.join(results, m[1] + ".out"), "rb") as printed:
                out[m[1]] = [m[2], hashlib.sha256(comparable(printed.read(), way)).hexdigest()]
    return out


def run(way, regress, keep):
    """What failed and how stays in the directory `keep`."""
    me = ways.account()
    inputs, out = os.path.join(way.dir, "regress"), os.path.join(way.dir, "out")
    shutil.copytree(regress, inputs)
    os.mkdir(out)
    build_library(regress, way.dir)
    # Extensions of contrib that the tests of triggers load from beside regress.so.
    for name in ("autoinc.so", "refint.so"):
        os.symlink(os.path.join(PG_LIB, name), os.path.join(way.dir, name))
    subprocess.run(["chown", "-hR", f"{me.pw_uid}:{me.pw_gid}", way.dir], check=True)
    schedule = ONLY or [f"--schedule={inputs}/parallel_schedule"]
    printed = os.path.join(keep, "pg_regress.log")
    with open(printed, "w") as log:
        subprocess.run([PG_REGRESS, f"--inputdir={inputs}", f"--outputdir={out}", f"--dlpath={way.dir}",
                        f"--bindir={PG_BIN}", "--host=127.0.0.1", f"--port={way.port}", "--user=postgres",
                        "--dbname=regression", "--max-connections=20", *schedule],
                       cwd=out, stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=me.pw_uid, group=me.pw_gid,
                       extra_groups=[], env={"PATH": os.environ["PATH"], "HOME": out}, timeout=TIMEOUT_S)
    if os.path.exists(os.path.join(out, "regression.diffs")):
        shutil.copy(os.path.join(out, "regression.diffs"), keep)
    shutil.copytree(os.path.join(out, "results"), os.path.join(keep, "results"), dirs_exist_ok=True)
    return outcome(printed, os.path.join(out, "results"), way)
