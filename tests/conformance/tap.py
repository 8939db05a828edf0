# SPDX-License-Identifier: PostgreSQL
"""The TAP tests of psql and pgbench. They make servers of their own; ThroughRouter.pm puts standbys and the router
behind what they connect to."""

import os
import re
import shutil
import subprocess

import harness
import regress
import sources
import ways

PACKAGE = "postgresql-15"
LINE = re.compile(r"^(not )?ok \d+(?: - (.*))?$")
# A failure that its authors expect: TAP does not count it.
TODO = re.compile(r" # TODO\b")
PLAN = re.compile(r"^1\.\.(\d+)( # SKIP .*)?$")
TIMEOUT_S = 900
HERE = os.path.dirname(os.path.realpath(__file__))

ROUTER = (f"{harness.PROGRAM} --primary 'host=DIR port=PRIMARY_PORT user=postgres dbname=postgres' "
          "--replica 'host=DIR port=REPLICA1_PORT user=postgres dbname=postgres' "
          "--replica 'host=DIR port=REPLICA2_PORT user=postgres dbname=postgres' "
          "--listen-port PORT --unix-socket-dir DIR --default-pool-size 40")


def stable(name):
    """Without what differs from run to run: files of its own, process and port numbers, random seeds."""
    return re.sub(r"(?<=\()\d+(?=\)$)|\d{3,}", "N", re.sub(r"/\S*/tmp_check/\S*", "FILE", name))


def outcome(test, log):
    """{"001_basic: name": [verdict, None]}; a test that ended before its plan was fulfilled failed."""
    out, seen, plan = {}, 0, None
    with open(log, errors="replace") as f:
        for line in f:
            m = LINE.match(line)
            if m:
                seen += 1
                if m[2] and TODO.search(m[2]):
                    continue
                name = f"{test}: {stable(m[2]) if m[2] else seen}"
                failed = m[1] or out.get(name, ["ok"])[0] == "FAILED"
                out[name] = ["FAILED" if failed else "ok", None]
            elif PLAN.match(line):
                plan = PLAN.match(line)
    if plan and plan[2]:
        out[test] = ["skipped", None]
    elif not plan or int(plan[1]) != seen:
        out[f"{test}: comes to its end"] = ["FAILED", None]
    return out


class Tap:
    def __init__(self, program):
        self.program = program
        self.NAME = f"{program}-tap"
        self.WHAT = f"{program}'s TAP tests"
        self.PACKAGE = PACKAGE
        self.OWN_SERVERS = True

    def prepare(self):
        tree = sources.source(PACKAGE, f"src/bin/{self.program}/t")
        if subprocess.run(["perl", "-MIPC::Run", "-e", "1"], capture_output=True).returncode != 0:
            raise sources.Unavailable("no IPC::Run: package libipc-run-perl")
        return tree

    def run(self, way, tree, keep):
        me = ways.account()
        out = {}
        shutil.copytree(os.path.join(tree, "src", "test", "perl"), os.path.join(way.dir, "perl"))
        shutil.copytree(os.path.join(tree, "src", "bin", self.program, "t"), os.path.join(way.dir, "t"))
        shutil.copy(os.path.join(HERE, "ThroughRouter.pm"), way.dir)
        subprocess.run(["chown", "-R", f"{me.pw_uid}:{me.pw_gid}", way.dir], check=True)
        for test in sorted(os.listdir(os.path.join(way.dir, "t"))):
            if not test.endswith(".pl"):
                continue
            env = {"PATH": f"{regress.PG_BIN}:{os.environ['PATH']}", "HOME": way.dir, "PG_REGRESS": regress.PG_REGRESS,
                   "TESTDIR": way.dir, "TESTDATADIR": os.path.join(way.dir, "tmp_check"),
                   "TESTLOGDIR": os.path.join(way.dir, "log"), "PG_TEST_TIMEOUT_DEFAULT": "60"}
            if way.name == "tidemark":
                env["CONFORMANCE_ROUTER"] = ROUTER
            log = os.path.join(keep, test + ".log")
            with open(log, "w") as f:
                subprocess.run(["timeout", "--kill-after=10", str(TIMEOUT_S), "perl", "-I", f"{way.dir}/perl", "-I", way.dir,
                                "-MThroughRouter", f"t/{test}"], cwd=way.dir, env=env, stdout=f, stderr=f,
                               stdin=subprocess.DEVNULL, user=me.pw_uid, group=me.pw_gid, extra_groups=[])
            out.update(outcome(test[:-3], log))
        return out


psql = Tap("psql")
pgbench = Tap("pgbench")
