# SPDX-License-Identifier: PostgreSQL
"""Compares the ways, and writes docs/conformance.md."""

import datetime
import platform
import subprocess

import known

HEAD = """\
# The suites of others

What PostgreSQL's and its drivers' own tests say of Tidemark: transaction pooling, two asynchronous standbys, reads split, every
option at its default but the size of the pools. Each suite runs directly on a primary first; only what passes there is asked of
the router. Written by `make conformance`; nothing of the suites is in this repository.

"""


def compare(results, name):
    """{test: "ok" | "alike" | "FAILED" | "skipped"} of one way, judged by the direct one. A suite's outcome is
    {test: [verdict, digest of its output or None]}."""
    direct = results.get("direct", {})
    out = {}
    for test, (verdict, digest) in results[name].items():
        before = direct.get(test)
        if verdict == "FAILED" and name != "direct" and before and before[0] == "FAILED" and digest == before[1]:
            verdict = "alike"
        out[test] = verdict
    for test in direct:
        out.setdefault(test, "FAILED")
    return out


def sentence(compared):
    count = {v: sum(x == v for x in compared.values()) for v in ("ok", "alike", "FAILED", "skipped")}
    text = f"{count['ok']} pass"
    if count["alike"]:
        text += f", {count['alike']} fail as they do directly"
    if count["skipped"]:
        text += f", {count['skipped']} skipped"
    return text + f", {count['FAILED']} fail"


def matches(key, test):
    return test.startswith(key[:-1]) if key.endswith("*") else test == key.removesuffix("?")


def reason(suite, test):
    """Why it is known to fail; None."""
    return next((why for key, why in known.KNOWN.get(suite, {}).items() if matches(key, test)), None)


def surprises(results):
    """What fails and is not known to, and what is known to and does not."""
    out = []
    for suite, r in results.items():
        if "tidemark" not in r["ways"]:
            continue
        failed = [t for t, verdict in compare(r["ways"], "tidemark").items() if verdict == "FAILED"]
        out += [(suite, t) for t in failed if reason(suite, t) is None]
        out += [(suite, key) for key in known.KNOWN.get(suite, {})
                if not key.endswith("?") and not any(matches(key, t) for t in failed)]
    return out


def output(*argv):
    return subprocess.run(argv, capture_output=True, text=True).stdout.strip()


def versions():
    return [output("/usr/lib/postgresql/15/bin/postgres", "--version"), output("psql", "--version"),
            output("git", "log", "-1", "--format=Tidemark %h"), f"{platform.system()} {platform.release()}"]


def write_suite(f, name, r):
    f.write(f"## {r['what']}\n\n")
    if "skipped" in r:
        f.write(f"**Skipped, not passed**: {r['skipped']}.\n\n")
        return
    f.write(f"`{name}`, {r['package']} ({r['origin']}).\n\n| way | result | s |\n|---|---|---|\n")
    for way in r["ways"]:
        f.write(f"| {way} | {sentence(compare(r['ways'], way))} | {r['seconds'][way]} |\n")
    f.write("\n")
    notes = r["notes"].get("tidemark", {})
    if notes.get("selects"):
        f.write(f"Replicas served {notes['selects_on_replicas']} of {notes['selects']} SELECTs ({notes['share']}).\n\n")
    for way in r["ways"]:
        failed = [t for t, v in compare(r["ways"], way).items() if v == "FAILED"]
        if failed and way == "tidemark":
            f.write("Fail through Tidemark:\n\n")
            for t in failed:
                f.write(f"- `{t}`: {reason(name, t) or 'not explained yet'}\n")
            f.write("\n")
        elif failed:
            f.write(f"Fail {way}: {', '.join(f'`{t}`' for t in failed)}.\n\n")


def write(results, path, note=None):
    with open(path, "w") as f:
        f.write(HEAD)
        f.write(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}: {'; '.join(versions())}.\n\n")
        if note:
            f.write(f"{note}\n\n")
        for name, r in results.items():
            write_suite(f, name, r)
