# SPDX-License-Identifier: PostgreSQL
"""`tidemark token`: what it says of tokens, and that it keeps keys to itself."""

import hashlib
import hmac
import json
import os
import re
import subprocess
import time
from base64 import urlsafe_b64encode

import pytest

import harness

VECTORS = json.load(open(os.path.join(harness.ROOT, "tests", "vectors", "token.json"), encoding="ascii"))
SECRET = bytes(range(32))


def token(*arguments):
    return subprocess.run([harness.PROGRAM, "token", *arguments], capture_output=True, text=True, timeout=20)


def vector(op, name):
    return next(v for v in VECTORS if v["op"] == op and v["name"] == name)


def signed(branches=((0x123456789ABC, 2, 0x3000148, 0x16B374D848),), issued=None, session="", key=(1, SECRET), flags=0):
    """Another implementation, since the vectors are as old as they are."""
    issued = int(time.time()) if issued is None else issued
    body = bytes([0x10 | flags | bool(session), key[0]]) + issued.to_bytes(4, "big") + b"".join(
        c.to_bytes(6, "big") + t.to_bytes(3, "big") + f.to_bytes(8, "big") + a.to_bytes(8, "big") for c, t, f, a in branches)
    name = session.encode()
    tail = name + len(name).to_bytes(4, "big") if name else b""
    mac = hmac.new(key[1], body + tail, hashlib.sha256).digest()[:16]
    return urlsafe_b64encode(body + mac).rstrip(b"=").decode()


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text("# the one that signs\n1:" + SECRET.hex() + "\n\n2:" + "ab" * 16 + "\r\n")
    return str(path)


def test_inspect_says_what_is_in_a_token():
    r = token("inspect", signed(issued=int(time.time()) - 300))
    assert (r.returncode, r.stderr) == (0, "")
    assert "branch   cluster 123456789abc, timeline 2 from 0/3000148, at 16/B374D848\n" in r.stdout
    assert re.search(r"issued   \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, 5 min ago\n", r.stdout)
    assert "key      1\n" in r.stdout and "bound    no\n" in r.stdout
    assert r.stdout.endswith("  verdict  well-formed; not verified without --key-file\n")


def test_inspect_shows_time_of_issue_in_utc():
    r = token("inspect", vector("sign", "one branch")["text"])
    assert "issued   2026-01-01 00:00:00 UTC, " in r.stdout


def test_inspect_shows_every_branch():
    r = token("inspect", vector("sign", "eight branches")["text"])
    assert r.returncode == 0 and r.stdout.count("branch   ") == 8
    assert "timeline 1, at FFFFFFFF/FFFFFFFF" in r.stdout
    assert "timeline 8 from 70000000/0, at FFFFFFFF/FFFFFFF8" in r.stdout


def test_inspect_verifies_with_the_keys(key_file):
    with_keys = ("--key-file", key_file)
    good, other = signed(), signed(key=(2, bytes.fromhex("ab" * 16)))
    for argument, code, verdict in (
        (good, 0, "ok"), (other, 0, "ok"),
        (good[:-5] + ("A" if good[-5] != "A" else "B") + good[-4:], 1, "forged: the HMAC is wrong"),
        (signed(key=(9, SECRET)), 1, "forged: this key is not in the key file"),
        (signed(issued=int(time.time()) + 3600), 1, "future: more than 60 s"),
        (signed(session="cart 7"), 1, "bound: to a session's name; --session gives it"),
        (signed((), flags=2), 0, "primary: asks"), ("primary", 0, "primary: asks"),
    ):
        r = token("inspect", argument, *with_keys)
        assert (r.returncode, r.stderr) == (code, "") and f"  verdict  {verdict}" in r.stdout, (argument, r)
        assert token("inspect", *with_keys, argument).stdout.splitlines()[-1] == r.stdout.splitlines()[-1]


def test_inspect_verifies_for_a_session(key_file):
    text = signed(session="cart 7")
    for name, code, verdict in (("cart 7", 0, "ok\n"), ("cart 8", 1, "bound: to another session's name, or tampered with\n")):
        r = token("inspect", text, "--key-file", key_file, "--session", name)
        assert r.returncode == code and f"  verdict  {verdict}" in r.stdout
        assert "bound    to a session's name\n" in r.stdout


def test_inspect_agrees_with_every_vector_about_the_form():
    for v in VECTORS:
        if v["op"] == "verify" and v["text"] and "," not in v["text"]:
            r = token("inspect", v["text"])
            assert r.returncode == (1 if v["verdict"] == "malformed" else 0), (v, r)


@pytest.mark.parametrize("text, reason", [
    ("x y", "character 2 is none of"),
    ("EAF=", "character 4 is none of"),
    ("EAFp", "no token has 4 characters"),
    ("I" + "A" * 62, "of another version"),
    ("E" + "A" * 62, "out of order, a number out of range"),
    ("A" * 297, "no token has 297 characters"),
])
def test_inspect_says_why_a_text_is_no_token(text, reason):
    r = token("inspect", text)
    assert r.returncode == 1 and reason in r.stdout
    assert text not in r.stdout


def test_inspect_takes_lists(key_file):
    a, b = signed(), signed(((7, 1, 0, 700),))
    r = token("inspect", f"{a},{b}", "--key-file", key_file)
    assert r.returncode == 0 and r.stdout.endswith("together\n  verdict  ok\n")
    assert "token 1 of 2\n" in r.stdout and "token 2 of 2\n" in r.stdout
    for bad, verdict in ((f"{a},{b[:-1]}", "malformed"), (f"{a},", "malformed: empty"), (f"{a},{signed(key=(9, SECRET))}", "forged")):
        r = token("inspect", bad, "--key-file", key_file)
        assert r.returncode == 1 and verdict in r.stdout and r.stdout.count("  verdict  ok") == 1, r
    r = token("inspect", ",".join([a] * 9), "--key-file", key_file)
    assert r.returncode == 1 and "at most 8 tokens" in r.stdout
    eight = signed(tuple((c, 1, 0, 5) for c in range(1, 9)))
    r = token("inspect", f"{a},{eight}", "--key-file", key_file)
    assert r.returncode == 0 and "more than 8 branches" in r.stdout
    assert token("inspect", "").returncode == 0


@pytest.mark.parametrize("text, said", [
    ("1:" + "cd" * 15, ":1: expected id:hex"),
    ("\n1:" + "cd" * 32 + "\n1:" + "ce" * 32, ":3: expected id:hex"),
    ("cd" * 32, ":1: expected id:hex"),
    ("1:" + "cd" * 5000, ":1: expected id:hex"),
    ("".join(f"{i}:" + f"{i:02x}" * 16 + "\n" for i in range(9)), ":9: expected id:hex"),
    ("# nothing\n", "no key in it"),
    ("", "no key in it"),
])
def test_a_bad_key_file_is_told_without_its_keys(tmp_path, text, said):
    path = tmp_path / "keys"
    path.write_text(text)
    r = token("inspect", signed(), "--key-file", str(path))
    assert r.returncode == 1 and said in r.stderr and r.stdout == ""
    assert "cdcd" not in r.stderr and "0808" not in r.stderr


def test_a_key_file_that_cannot_be_read(tmp_path):
    r = token("inspect", signed(), "--key-file", str(tmp_path / "none"))
    assert r.returncode == 1 and "No such file" in r.stderr
    r = token("inspect", signed(), "--key-file", str(tmp_path))
    assert r.returncode == 1 and "cannot be read" in r.stderr


def test_inspect_never_shows_a_key(key_file):
    shown = ""
    for v in VECTORS:
        if v["op"] == "verify" and v["name"].startswith(("good", "forged", "bound")):
            r = token("inspect", v["text"], "--key-file", key_file)
            shown += r.stdout + r.stderr
    assert SECRET.hex()[:8] not in shown and "abab" not in shown and "  verdict  ok" in shown


def test_make_key_prints_a_line_for_a_key_file(tmp_path):
    lines = [token("make-key").stdout, token("make-key", "0").stdout, token("make-key", "255").stdout]
    assert [re.fullmatch(r"(\d+):[0-9a-f]{64}\n", line)[1] for line in lines] == ["1", "0", "255"]
    assert len({line.split(":")[1] for line in lines}) == 3
    path = tmp_path / "keys"
    path.write_text("".join(lines))
    key = (255, bytes.fromhex(lines[2].strip().split(":")[1]))
    assert token("inspect", signed(key=key), "--key-file", str(path)).returncode == 0


@pytest.mark.parametrize("arguments", [
    (), ("inspect",), ("inspect", "a", "b"), ("inspect", "a", "--key-file"), ("inspect", "--session", "x"),
    ("inspect", "a", "--other", "x"), ("make-key", "256"), ("make-key", "-1"), ("make-key", "x"), ("make-key", "1", "2"), ("other",),
])
def test_a_wrong_command_line_shows_the_usage(arguments):
    r = token(*arguments)
    assert (r.returncode, r.stdout) == (2, "") and r.stderr.startswith("Usage: tidemark token")


def test_help():
    r = token("--help")
    assert r.returncode == 0 and r.stdout.startswith("Usage: tidemark token") and r.stderr == ""
