# SPDX-License-Identifier: PostgreSQL
"""node-postgres' and postgres.js' own tests. Where their npm packages come without them these are skipped."""

import glob
import os
import re
import shutil
import subprocess

import harness
import sources
import ways

TEST_S = 60


MODULES = os.path.join(sources.CACHE, "node")


def environment(way, database):
    return dict(os.environ, PGHOST=harness.HOST, PGPORT=str(way.port), PGUSER="postgres", PGDATABASE=database, PGPASSWORD="x",
                PGTESTNOSSL="true", TEST_SKIP_NATIVE="true", NODE_PATH=os.path.join(MODULES, "node_modules"))


class NodePostgres:
    NAME = "node-postgres"
    WHAT = "node-postgres' integration tests"
    PACKAGE = "npm/pg"

    def prepare(self):
        tree = sources.source(self.PACKAGE, "test/integration")
        os.makedirs(MODULES, exist_ok=True)
        # What pg and its tests require.
        sources.run(["npm", "install", "--prefix", MODULES, "--no-fund", "--no-audit", "pg@8", "async@2"], MODULES)
        return tree

    def run(self, way, tree, keep):
        into = os.path.join(way.dir, "pg")
        shutil.copytree(tree, into)
        out = {}
        for path in sorted(glob.glob(os.path.join(into, "test", "integration", "**", "*-tests.js"), recursive=True)):
            name = os.path.relpath(path, os.path.join(into, "test", "integration"))[:-len("-tests.js")]
            with open(os.path.join(keep, name.replace("/", "_") + ".log"), "w") as f:
                r = subprocess.run(["timeout", "--kill-after=5", str(TEST_S), "node", path], cwd=into, stdout=f, stderr=f,
                                   env=environment(way, "app"), stdin=subprocess.DEVNULL)
            out[name] = ["ok" if r.returncode == 0 else "FAILED", None]
        return out


class PostgresJs:
    """It stops at the first failure: that one is named, and how many came before it."""

    NAME = "postgres.js"
    WHAT = "postgres.js' tests"
    PACKAGE = "npm/postgres"

    def prepare(self):
        return sources.source(self.PACKAGE, "tests/index.js")

    def run(self, way, tree, keep):
        into = os.path.join(way.dir, "postgres")
        shutil.copytree(tree, into)
        me = ways.account()
        subprocess.run(["chown", "-R", f"{me.pw_uid}:{me.pw_gid}", into], check=True)
        log = os.path.join(keep, "log")
        with open(log, "w") as f:
            subprocess.run(["timeout", "--kill-after=5", "600", "node", "tests/index.js"], cwd=into, stdout=f, stderr=f,
                           env=environment(way, "postgres"), stdin=subprocess.DEVNULL, user=me.pw_uid, group=me.pw_gid,
                           extra_groups=[])
        with open(log) as f:
            text = f.read()
        out = {f"test {i + 1}": ["ok", None] for i in range(text.count("✅"))}
        for m in re.finditer(r"⛔️ (.*? at line \d+) (failed|never finished)", text):
            out[m[1]] = ["FAILED" if m[2] == "failed" else "skipped", None]
        return out


postgres_js = PostgresJs()
node_postgres = NodePostgres()
