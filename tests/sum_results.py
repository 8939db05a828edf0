# SPDX-License-Identifier: PostgreSQL
"""sum_results.py FILE...: counts the results of meson (testlog.json) and pytest (JUnit XML).

Names what failed and prints "N passed, N failed" as the last line. A file that is missing is one
failure: the run that should have written it did not end. Exit code 0 only if something passed and
nothing failed.
"""
import json
import os
import sys
import xml.etree.ElementTree as ElementTree


def of_meson(path):
    """Yields (name, outcome)."""
    with open(path, encoding="utf-8") as log:
        for line in log:
            test = json.loads(line)
            outcome = {"OK": "passed", "EXPECTEDFAIL": "passed", "SKIP": "skipped"}
            yield test["name"], outcome.get(test["result"], "failed")


def of_pytest(path):
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f'{case.get("classname")}::{case.get("name")}'
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            yield name, "failed"
        elif "skipped" in kinds:
            yield name, "skipped"
        else:
            yield name, "passed"


def results_of(path):
    if not os.path.exists(path):
        return [(f"{path} was not written", "failed")]
    try:
        return list(of_meson(path) if path.endswith(".json") else of_pytest(path))
    except (ValueError, KeyError, ElementTree.ParseError) as error:
        return [(f"{path} cannot be read: {error}", "failed")]


def main():
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sys.argv[1:]:
        for name, outcome in results_of(path):
            counts[outcome] += 1
            if outcome != "passed":
                print(f"{outcome}: {name}")
    if counts["skipped"]:
        print(f'{counts["skipped"]} skipped')
    print(f'{counts["passed"]} passed, {counts["failed"]} failed')
    return 0 if counts["passed"] and not counts["failed"] else 1


sys.exit(main())
