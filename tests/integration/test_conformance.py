# SPDX-License-Identifier: PostgreSQL
"""The judge of `make conformance`: what counts as passed, and that nothing counts which did not run."""

import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "conformance"))

import known  # noqa: E402
import regress  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import sources  # noqa: E402

WAYS = {
    "direct": {"fine": ["ok", "1"], "old": ["FAILED", "2"], "older": ["FAILED", "3"], "ours": ["ok", "4"],
               "lost": ["ok", "5"], "off": ["skipped", None]},
    "tidemark": {"fine": ["ok", "9"], "old": ["FAILED", "2"], "older": ["FAILED", "8"], "ours": ["FAILED", "7"],
                 "off": ["skipped", None]},
}


def test_a_failure_is_alike_only_to_the_byte_and_a_test_that_vanished_failed():
    assert report.compare(WAYS, "direct") == {"fine": "ok", "old": "FAILED", "older": "FAILED", "ours": "ok",
                                              "lost": "ok", "off": "skipped"}
    assert report.compare(WAYS, "tidemark") == {"fine": "ok", "old": "alike", "older": "FAILED", "ours": "FAILED",
                                                "lost": "FAILED", "off": "skipped"}
    assert report.sentence(report.compare(WAYS, "tidemark")) == \
        "1 pass, 1 fail as they do directly, 1 skipped, 3 fail"


def test_a_known_difference_that_went_away_is_a_surprise_too(monkeypatch):
    monkeypatch.setattr(known, "KNOWN", {"s": {"older": "why", "lost": "why", "fine": "no more"}})
    assert sorted(report.surprises({"s": {"ways": WAYS}})) == [("s", "fine"), ("s", "ours")]


def test_what_cannot_be_fetched_is_skipped_loudly(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sources, "CACHE", str(tmp_path))
    (tmp_path / "debian" / "postgresql-15" / "postgresql-15-15.20").mkdir(parents=True)
    with pytest.raises(sources.Unavailable, match="comes without"):
        sources.source("postgresql-15", "src/test/regress/parallel_schedule")
    result = run.run_suite(regress, ["direct", "tidemark"], str(tmp_path))
    assert not result["ways"] and "comes without" in result["skipped"]
    assert "SKIPPED, not passed" in capsys.readouterr().out
    report.write({"pg_regress": result}, str(tmp_path / "out.md"))
    assert "**Skipped, not passed**" in (tmp_path / "out.md").read_text()


def test_the_lines_of_pg_regress():
    found = [m.groups() for m in map(regress.LINE.match, [
        "test test_setup                   ... ok          402 ms\n", "     boolean                      ... FAILED   95 ms\n",
        "parallel group (20 tests):  uuid txid\n", "     name  ... failed (ignored)  9 ms\n"]) if m]
    assert found == [("test_setup", "ok"), ("boolean", "FAILED")]
