#!/usr/bin/python3
# SPDX-License-Identifier: PostgreSQL
"""The suites of others, first directly on PostgreSQL and then through Tidemark: make conformance.

    run.py [--only SUITE,…] [--ways WAY,…] [--keep DIR] [--write FILE] [--note TEXT]

A test counts if it passes directly. One that fails directly in the same way as through Tidemark, to the byte of
its output, is "alike"; any other difference is a failure. What cannot be fetched is skipped and listed as such.
Exits with 1 if a test that passes directly fails through Tidemark without being named in known.py.
"""

import argparse
import json
import os
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.realpath(os.path.join(HERE, "..", ".."))
sys.path[:0] = [HERE, os.path.join(ROOT, "tests", "integration")]

import dump  # noqa: E402
import node  # noqa: E402
import psycopg_suite  # noqa: E402
import regress  # noqa: E402
import report  # noqa: E402
import smith  # noqa: E402
import sources  # noqa: E402
import tap  # noqa: E402
import ways  # noqa: E402

SUITES = [regress, tap.psql, tap.pgbench, dump, psycopg_suite, node.node_postgres, node.postgres_js, smith]


def say(*what):
    print("conformance:", *what, flush=True)


def tell(suite, name, outcome, result):
    compared = report.compare(result["ways"], name)
    say(f"{suite.NAME}, {name}: {report.sentence(compared)}; {result['seconds'][name]} s")
    for key, v in result["notes"][name].items():
        say(f"    {key}: {v}")
    for test, verdict in compared.items():
        if verdict == "FAILED":
            say(f"    FAILED {test}")


def run_suite(suite, wanted, keep):
    result = {"what": suite.WHAT, "package": suite.PACKAGE, "ways": {}, "seconds": {}, "notes": {}}
    try:
        tree = suite.prepare()
    except sources.Unavailable as e:
        result["skipped"] = str(e)
        say(f"{suite.NAME}: SKIPPED, not passed: {e}")
        return result
    result["origin"] = sources.origin(suite.PACKAGE)
    for name in wanted:
        into = os.path.join(keep, suite.NAME, name)
        os.makedirs(into, exist_ok=True)
        begun = time.monotonic()
        own_servers = getattr(suite, "OWN_SERVERS", False)
        if own_servers and name not in ("direct", "tidemark"):
            continue
        with ways.Bare(name) if own_servers else ways.WAYS[name]() as way:
            result["ways"][name] = suite.run(way, tree, into)
            result["seconds"][name] = round(time.monotonic() - begun)
            result["notes"][name] = way.notes()
        tell(suite, name, result["ways"][name], result)
    return result


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--only", default=",".join(s.NAME for s in SUITES))
    p.add_argument("--ways", default="direct,tidemark")
    p.add_argument("--keep", default=os.path.join(harness_build(), "conformance"))
    p.add_argument("--write")
    p.add_argument("--note", help="what a reader of the file should know of this run")
    a = p.parse_args()
    os.makedirs(a.keep, exist_ok=True)
    results = {s.NAME: run_suite(s, a.ways.split(","), a.keep) for s in SUITES if s.NAME in a.only.split(",")}
    with open(os.path.join(a.keep, "results.json"), "w") as f:
        json.dump(results, f, indent=1)
    if a.write:
        report.write(results, a.write, a.note)
    return 1 if report.surprises(results) else 0


def harness_build():
    return os.environ.get("TIDEMARK_BUILD", os.path.join(ROOT, "build"))


if __name__ == "__main__":
    sys.exit(main())
