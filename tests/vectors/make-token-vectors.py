#!/usr/bin/python3
# SPDX-License-Identifier: PostgreSQL
"""
make-token-vectors.py [--check]: writes tests/vectors/token.json, or fails if it is not what would be written.

The vectors of docs/token.md, from an implementation of its own that shares nothing with the program's. An array of
{name, op, …}; numbers that may not fit into 53 bits are decimal strings:

  keys          lines of a key file → are they good, and the ids in their order
  sign          keys, session ("": not bound), token → text
  verify        keys, session, now, ttl, text → verdict, and the token if that is "ok"
  verify_list   the same, and text is a list
  merge         tokens → token
  merge_signed  keys, session, now, ttl, texts → text                    (by one who has the key)
  merge_list    texts, each a token or a list or empty → text            (by one who has none)
  covers        a, b → does a cover b
"""
import base64
import hashlib
import hmac
import json
import os
import re
import sys

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "token.json")
BRANCHES_MAX = LIST_MAX = KEYS_MAX = 8
NOW = 1767225600  # 2026-01-01
TTL = 3600
BOUND, PRIMARY = 1, 2
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

# ---- the implementation ----


def read_keys(lines):
    """A list of (id, secret), or None if one of the lines is not good."""
    keys = []
    for line in lines:
        line = re.sub(r"\r\Z", "", line)
        if line == "" or line.startswith("#"):
            continue
        m = re.fullmatch(r"(0|[1-9][0-9]{0,2}):((?:[0-9a-fA-F]{2}){16,64})", line)
        if not m or int(m[1]) > 255 or len(keys) == KEYS_MAX or any(k == int(m[1]) for k, _ in keys):
            return None
        keys.append((int(m[1]), bytes.fromhex(m[2])))
    return keys


def key_of(keys, number):
    return next((secret for k, secret in keys if k == number), None)


def branch(cluster, timeline, fork, position):
    return {"cluster": cluster, "timeline": timeline, "fork": fork, "position": position}


def name_of(b):
    return b["cluster"], b["timeline"], b["fork"]


def token(*branches, issued=NOW, primary=False):
    return {"primary": primary, "issued": issued, "branches": list(branches)}


def branch_bytes(b):
    return b"".join(b[k].to_bytes(n, "big")
                    for k, n in (("cluster", 6), ("timeline", 3), ("fork", 8), ("position", 8)))


def mac(secret, body, session):
    name = session.encode()
    if name:
        body += name + len(name).to_bytes(4, "big")
    return hmac.new(secret, body, hashlib.sha256).digest()[:16]


def encode(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text):
    """None unless it is the one text of some bytes."""
    if not re.fullmatch("[A-Za-z0-9_-]+", text) or len(text) % 4 == 1:
        return None
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return raw if encode(raw) == text else None


def pack(key, session="", version=1, flags=0, key_id=None, issued=NOW, body=b""):
    """A token of anything, right or wrong."""
    head = bytes([version << 4 | flags, key[0] if key_id is None else key_id]) + issued.to_bytes(4, "big") + body
    return head + mac(key[1], head, session)


def sign(keys, session, t):
    if not t["primary"] and not t["branches"]:
        return ""
    if not keys:
        return "primary"
    flags = (BOUND if session else 0) | (PRIMARY if t["primary"] else 0)
    return encode(pack(keys[0], session, flags=flags, issued=t["issued"],
                       body=b"".join(map(branch_bytes, t["branches"]))))


def read(text):
    """(token, key id, bound), or None if it is malformed."""
    raw = decode(text)
    if raw is None or len(raw) < 22 or (len(raw) - 22) % 25 or len(raw) > 222 or raw[0] >> 4 != 1 or raw[0] & 12:
        return None
    number = lambda at, n: int.from_bytes(raw[at:at + n], "big")
    branches = [branch(number(i, 6), number(i + 6, 3), number(i + 9, 8), number(i + 17, 8))
                for i in range(6, len(raw) - 16, 25)]
    names = [name_of(b) for b in branches]
    primary = bool(raw[0] & PRIMARY)
    if (primary != (not branches) or names != sorted(set(names))
            or any(b["timeline"] == 0 or b["position"] == 0 for b in branches)):
        return None
    return token(*branches, issued=number(2, 4), primary=primary), raw[1], bool(raw[0] & BOUND)


def verify(keys, session, now, ttl, text):
    """(verdict, token)"""
    if text == "primary":
        return "primary", token(primary=True, issued=0)
    got = read(text)
    refused = token(primary=True, issued=0)
    if not got:
        return "malformed", refused
    t, key_id, bound = got
    secret, raw = key_of(keys, key_id), decode(text)
    if secret is None:
        return "forged", refused
    if bound and not session:
        return "bound", refused
    if mac(secret, raw[:-16], session if bound else "") != raw[-16:]:
        return "bound" if bound else "forged", refused
    if t["issued"] > now + 60:
        return "future", refused
    if ttl and now - t["issued"] > ttl:
        return "expired", refused
    return "primary" if t["primary"] else "ok", t


def verify_list(keys, session, now, ttl, text):
    parts = text.split(",") if text else []
    if len(parts) > LIST_MAX:
        return "malformed", None
    got = [verify(keys, session, now, ttl, p) for p in parts]
    bad = next((v for v, _ in got if v != "ok"), None)
    merged = merge([t for _, t in got]) if parts else token(issued=0)
    return bad or ("primary" if merged["primary"] else "ok"), merged


def merge(tokens):
    best = {}
    for t in tokens:
        for b in t["branches"]:
            best[name_of(b)] = max(best.get(name_of(b), 0), b["position"])
    issued = max(t["issued"] for t in tokens)
    if any(t["primary"] for t in tokens) or len(best) > BRANCHES_MAX:
        return token(primary=True, issued=issued)
    return token(*(branch(*name, at) for name, at in sorted(best.items())), issued=issued)


def covers(a, b):
    if a["primary"] or b["primary"]:
        return a["primary"]
    has = {name_of(x): x["position"] for x in a["branches"]}
    return all(has.get(name_of(x), 0) >= x["position"] for x in b["branches"])


def merge_signed(keys, session, now, ttl, texts):
    return sign(keys, session, merge([verify(keys, session, now, ttl, t)[1] for t in texts]))


def merge_list(texts):
    parts = []
    for text in texts:
        some = text.split(",") if text else []
        if len(some) > LIST_MAX or any(not re.fullmatch("[A-Za-z0-9_-]{1,296}", s) for s in some):
            return "primary"
        parts += some
    tokens = {p: read(p) for p in parts}
    if any(p == "primary" or (t and t[0]["primary"]) for p, t in tokens.items()):
        return "primary"

    def makes_superfluous(other, text):
        a, b = tokens[other], tokens[text]
        if other == text or not a or not b or a[2] != b[2] or not covers(a[0], b[0]):
            return False
        return not covers(b[0], a[0]) or (a[0]["issued"], other) > (b[0]["issued"], text)

    kept = sorted(p for p in tokens if not any(makes_superfluous(o, p) for o in tokens))
    return "primary" if len(kept) > LIST_MAX else ",".join(kept)


# ---- the vectors ----

vectors = []
K1 = "1:" + bytes(range(32)).hex()
K2 = "200:" + bytes(range(100, 116)).hex()
K3 = "0:" + bytes(range(255, 191, -1)).hex()
K1_OTHER = "1:" + bytes(range(1, 33)).hex()
KEYS = [K1, K2]
CLUSTER = 0x123456789abc
NAME = "cart 7"
HERE = branch(CLUSTER, 2, 0x3000148, 0x16B374D848)
ONE = token(HERE)
TWO = token(branch(CLUSTER, 1, 0, 0x3000148), HERE)
EIGHT = token(*(branch(CLUSTER + i, 1 + i, i << 60, (1 << 64) - 1 - i) for i in range(8)))
NINTH = token(branch(1, 1, 0, 1))
ASKS_PRIMARY = token(primary=True)
NOTHING = token()


def plain(value):
    """For JavaScript, which has no 64-bit numbers."""
    if isinstance(value, dict):
        return {k: str(v) if k in ("cluster", "fork", "position") else plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def add(op, name, **fields):
    assert name not in {v["name"] for v in vectors}, name
    vectors.append({"name": name, "op": op, **plain(fields)})


def add_keys(name, lines):
    keys = read_keys(lines)
    add("keys", name, lines=lines, ok=keys is not None, ids=[k for k, _ in keys or []])


def add_sign(name, t, keys=KEYS, session=""):
    add("sign", name, keys=keys, session=session, token=t, text=sign(read_keys(keys), session, t))


def add_verify(name, text, expected, keys=KEYS, session="", now=NOW, ttl=TTL, op="verify"):
    """The verdict is written down by hand too: the implementation above is tested like any other."""
    verdict, t = (verify if op == "verify" else verify_list)(read_keys(keys), session, now, ttl, text)
    assert verdict == expected, (name, verdict, expected)
    add(op, name, keys=keys, session=session, now=now, ttl=ttl, text=text, verdict=verdict,
        **({"token": t} if verdict == "ok" else {}))


def add_merge(name, *tokens):
    add("merge", name, tokens=list(tokens), token=merge(list(tokens)))
    backwards = list(tokens)[::-1]
    assert merge(backwards) == merge(list(tokens))


def add_merge_signed(name, *texts, session=""):
    add("merge_signed", name, keys=KEYS, session=session, now=NOW, ttl=TTL, texts=list(texts),
        text=merge_signed(read_keys(KEYS), session, NOW, TTL, texts))


def add_merge_list(name, texts, expected):
    text = merge_list(texts)
    assert text == expected and merge_list(texts[::-1]) == text, (name, text, expected)
    add("merge_list", name, texts=list(texts), text=text)


def add_covers(name, a, b, expected):
    assert covers(a, b) == expected == (merge([a, b])["branches"] == a["branches"] and a["primary"] >= b["primary"]), name
    add("covers", name, a=a, b=b, covers=expected)


def signed(t, session="", keys=KEYS):
    return sign(read_keys(keys), session, t)


def packed(**how):
    """A text that is signed with the first key and has the body of ONE, but for what is said."""
    return encode(pack(read_keys(KEYS)[0], **{"body": branch_bytes(HERE), **how}))


def flipped(text, byte, mask=1):
    raw = bytearray(decode(text))
    raw[byte] ^= mask
    return encode(bytes(raw))


def make_keys():
    add_keys("one key", [K1])
    add_keys("comments and empty lines", ["# keys", "", K2, "#" + K1, K1, ""])
    add_keys("shortest and longest secret, least and greatest id", ["255:" + "0f" * 16, "0:" + "F0" * 64])
    add_keys("upper and lower case", ["1:" + "aB" * 16])
    add_keys("lines that ended with CR LF", [K1 + "\r"])
    add_keys("eight keys", [f"{i}:" + f"{i:02x}" * 16 for i in range(8)])
    add_keys("no key", [])
    for name, line in {
        "no id": K1[1:], "no colon": "1", "id too great": "256" + K1[1:], "id with a leading zero": "0" + K1,
        "negative id": "-" + K1, "secret too short": "1:" + "00" * 15, "secret too long": "1:" + "00" * 65,
        "odd digits": K1 + "0", "not hex": "1:" + "0g" * 16, "blank before": " " + K1, "blank behind": K1 + " ",
        "no secret": "1:",
    }.items():
        add_keys("bad line: " + name, [K2, line])
    add_keys("the same id twice", [K1, K2, K1_OTHER])
    add_keys("nine keys", [f"{i}:" + f"{i:02x}" * 16 for i in range(9)])


def make_sign():
    add_sign("one branch", ONE)
    add_sign("two timelines of one cluster", TWO)
    add_sign("two standbys promoted independently",
             token(branch(CLUSTER, 2, 0x3000148, 0x4000000), branch(CLUSTER, 2, 0x3000200, 0x3500000)))
    add_sign("eight branches", EIGHT)
    add_sign("least numbers", token(branch(0, 1, 0, 1), issued=0))
    add_sign("greatest numbers", token(branch((1 << 48) - 1, (1 << 24) - 1, (1 << 64) - 1, (1 << 64) - 1),
                                       issued=(1 << 32) - 1))
    add_sign("bound", ONE, session=NAME)
    add_sign("bound to a name that is not ASCII", ONE, session="Körbchen 🛒")
    add_sign("bound to a name of 127 bytes", ONE, session="n" * 127)
    add_sign("eight branches, bound", EIGHT, session=NAME)
    add_sign("primary by flag", ASKS_PRIMARY)
    add_sign("primary by flag, bound", ASKS_PRIMARY, session=NAME)
    add_sign("the first key signs", ONE, keys=[K2, K1])
    add_sign("a key as long as a block", ONE, keys=[K3])
    add_sign("without a key", ONE, keys=[])
    add_sign("primary without a key", ASKS_PRIMARY, keys=[])
    add_sign("nothing", NOTHING)
    add_sign("nothing, without a key", NOTHING, keys=[])


def make_verify_ok():
    add_verify("good: one branch", signed(ONE), "ok")
    add_verify("good: eight branches", signed(EIGHT), "ok")
    add_verify("good: any accepted key", signed(ONE, keys=[K2]), "ok")
    add_verify("good: not bound, with any name", signed(ONE), "ok", session=NAME)
    add_verify("good: bound to this name", signed(ONE, NAME), "ok", session=NAME)
    add_verify("good: bound to this name, not ASCII", signed(ONE, "Körbchen 🛒"), "ok", session="Körbchen 🛒")
    add_verify("good: greatest numbers", signed(token(branch((1 << 48) - 1, (1 << 24) - 1, (1 << 64) - 1, (1 << 64) - 1))),
               "ok")
    add_verify("good: fork and position are not compared", signed(token(branch(CLUSTER, 2, 500, 1))), "ok")
    add_verify("primary: the word", "primary", "primary")
    add_verify("primary: the word, without a key", "primary", "primary", keys=[])
    add_verify("primary: by flag", signed(ASKS_PRIMARY), "primary")
    add_verify("primary: by flag, bound", signed(ASKS_PRIMARY, NAME), "primary", session=NAME)


def make_verify_malformed():
    text, body = signed(ONE), branch_bytes(HERE)
    nine = body_of(token(*(branch(i, 1, 0, 1) for i in range(9))))
    low, high = branch_bytes(branch(CLUSTER, 1, 0, 5)), branch_bytes(HERE)
    for name, bad in {
        "empty": "", "the word in capitals": "PRIMARY", "blank before": " " + text, "blank behind": text + " ",
        "newline behind": text + "\n", "a list": text + "," + text, "not ASCII": text[:-1] + "ä",
        "padding": text + "=", "one character less": text[:-1], "two characters less": text[:-2],
        "three characters less": text[:-3], "one character more": text + "A",
        "four characters more": text + "AAAA", "alphabet of plain base64": text[:20] + "+" + text[21:],
        "slash": text[:20] + "/" + text[21:], "point": text[:20] + "." + text[21:],
        "bits left over": text[:-1] + ALPHABET[ALPHABET.index(text[-1]) | 1],
        "one byte less": packed(body=body[:-1]), "one byte more": packed(body=body + b"\0"),
        "half a token": encode(decode(text)[:21]), "one byte": encode(b"\x10"),
        "version 0": packed(version=0), "version 2": packed(version=2), "version 15": packed(version=15),
        "unknown flag 4": packed(flags=4), "unknown flag 8": packed(flags=8), "all flags": packed(flags=15, body=b""),
        "branches out of order": packed(body=high + low), "the same branch twice": packed(body=low + low),
        "a branch twice, with two positions": packed(body=low + branch_bytes(branch(CLUSTER, 1, 0, 6))),
        "forks out of order": packed(body=body_of(token(branch(CLUSTER, 2, 9, 10), branch(CLUSTER, 2, 8, 10)))),
        "position 0": packed(body=branch_bytes(branch(CLUSTER, 1, 0, 0))),
        "timeline 0": packed(body=branch_bytes(branch(CLUSTER, 0, 0, 5))),
        "position 0 in the last branch": packed(body=low + branch_bytes(branch(CLUSTER, 2, 9, 0))),
        "flag primary with a branch": packed(flags=PRIMARY), "no branch and no flag": packed(body=b""),
        "nine branches": packed(body=nine), "very long": text * 100,
    }.items():
        add_verify("malformed: " + name, bad, "malformed")
    add_verify("malformed counts before an unknown key", packed(version=2, key_id=9), "malformed")


def body_of(t):
    return b"".join(map(branch_bytes, t["branches"]))


def make_verify_forged():
    text, bound = signed(ONE), signed(ONE, NAME)
    for name, byte in {"time": 5, "cluster": 11, "timeline": 14, "fork": 22, "position": 30, "first byte of the HMAC": 31,
                       "last byte of the HMAC": 46}.items():
        add_verify("forged: another " + name, flipped(text, byte, 1 if name != "timeline" else 4), "forged")
    for name, byte in {"highest bit of the position": 23, "highest bit of the HMAC": 31}.items():
        add_verify("forged: " + name, flipped(text, byte, 0x80), "forged")
    add_verify("forged: another key's id", flipped(text, 1, 1 ^ 200), "forged")
    add_verify("forged: unknown key", packed(key_id=9), "forged")
    add_verify("forged: same id, another secret", signed(ONE, keys=[K1_OTHER]), "forged")
    add_verify("forged: no keys", text, "forged", keys=[])
    add_verify("forged: HMAC of zeros", encode(decode(text)[:-16] + bytes(16)), "forged")
    add_verify("forged: a branch cut out", encode(decode(signed(TWO))[:6] + decode(signed(TWO))[31:]), "forged")
    add_verify("forged: flag bound taken off", flipped(bound, 0, BOUND), "forged", session=NAME)
    add_verify("forged: flag primary, branches taken away", encode(b"\x12" + decode(text)[1:6] + decode(text)[-16:]),
               "forged")
    add_verify("forged: flag primary, wrong HMAC", flipped(signed(ASKS_PRIMARY), 21), "forged")
    add_verify("forged counts before expired", flipped(text, 46), "forged", now=NOW + 10 * TTL)
    add_verify("forged counts before bound, if the key is unknown", packed(key_id=9, flags=BOUND, session=NAME), "forged")


def make_verify_bound():
    text = signed(ONE, NAME)
    add_verify("bound: no name", text, "bound")
    add_verify("bound: another name", text, "bound", session="cart 8")
    add_verify("bound: a longer name", text, "bound", session=NAME + " ")
    add_verify("bound: a shorter name", text, "bound", session=NAME[:-1])
    add_verify("bound: tampered with", flipped(text, 30), "bound", session=NAME)
    add_verify("bound: flag set by another", flipped(signed(ONE), 0, BOUND), "bound", session=NAME)
    add_verify("bound: flag set by another, no name", flipped(signed(ONE), 0, BOUND), "bound")
    two = token(branch(1, 1, 0, 100), branch(0x202020202020, 0x202020, 0x2020202020202020, 0x2020202020202020))
    raw = decode(signed(two, "x"))
    add_verify("bound: a branch moved into the name", encode(raw[:31] + raw[56:]), "bound", session=" " * 25 + "x")
    head = b"\x11" + decode(signed(ONE))[1:31]
    add_verify("bound: HMAC without the name's length",
               encode(head + hmac.new(read_keys(KEYS)[0][1], head + NAME.encode(), hashlib.sha256).digest()[:16]),
               "bound", session=NAME)
    add_verify("bound counts before expired", text, "bound", session="cart 8", now=NOW + 10 * TTL)


def make_verify_time():
    text = signed(ONE)
    for age, verdict in ((TTL - 1, "ok"), (TTL, "ok"), (TTL + 1, "expired")):
        add_verify(f"age {age} of {TTL}", text, verdict, now=NOW + age)
    add_verify("without a time to live nothing expires", text, "ok", now=NOW + 10**9, ttl=0)
    for ahead, verdict in ((59, "ok"), (60, "ok"), (61, "future")):
        add_verify(f"{ahead} s ahead", text, verdict, now=NOW - ahead)
    add_verify("61 s ahead, without a time to live", text, "future", now=NOW - 61, ttl=0)
    add_verify("issued in 1970", signed(token(HERE, issued=0)), "expired")
    add_verify("issued in 2106", signed(token(HERE, issued=(1 << 32) - 1)), "future")
    add_verify("expired counts before primary", signed(ASKS_PRIMARY), "expired", now=NOW + TTL + 1)
    add_verify("future counts before primary", signed(ASKS_PRIMARY), "future", now=NOW - 61)


def make_verify_list():
    a, b = signed(ONE), signed(token(branch(7, 1, 0, 700), branch(CLUSTER, 2, 0x3000148, 5), issued=NOW + 3), keys=[K2])
    eights = [signed(token(*EIGHT["branches"], issued=NOW - i)) for i in range(8)]

    def case(name, text, verdict, **how):
        add_verify("list: " + name, text, verdict, op="verify_list", **how)

    case("empty", "", "ok")
    case("empty, without a key", "", "ok", keys=[])
    case("one", a, "ok")
    case("two", a + "," + b, "ok")
    case("two, the other way round", b + "," + a, "ok")
    case("the same one eight times", ",".join([a] * 8), "ok")
    case("nine", ",".join([a] * 9), "malformed")
    case("eight of eight branches", ",".join(eights), "ok")
    case("one character too long", ",".join(eights) + "A", "malformed")
    case("more than eight branches in all", signed(EIGHT) + "," + signed(NINTH), "primary")
    case("with the word primary", a + ",primary", "primary")
    case("with flag primary", a + "," + signed(ASKS_PRIMARY), "primary")
    case("comma behind", a + ",", "malformed")
    case("comma before", "," + a, "malformed")
    case("two commas", a + ",," + b, "malformed")
    case("blank", a + ", " + b, "malformed")
    case("one is forged", a + "," + flipped(b, 70), "forged")
    case("the first fault counts", flipped(a, 46) + ",x", "forged")
    case("the first fault counts, the other way round", "x," + flipped(a, 46), "malformed")
    case("one is bound to another name", a + "," + signed(ONE, "cart 8"), "bound", session=NAME)
    case("one is expired", signed(token(HERE, issued=NOW - TTL - 1)) + "," + a, "expired")
    case("bound and not bound", a + "," + signed(ONE, NAME), "ok", session=NAME)


def make_merge():
    seen = lambda *positions: token(*(branch(CLUSTER, i + 1, i * 10, p) for i, p in enumerate(positions) if p))
    add_merge("merge: the greater position", seen(100, 200), seen(150, 120))
    add_merge("merge: other branches are added", seen(100), seen(0, 200), seen(0, 0, 300))
    add_merge("merge: another fork is another branch", token(branch(CLUSTER, 2, 10, 500)), token(branch(CLUSTER, 2, 20, 400)))
    add_merge("merge: other clusters are added, in order", token(branch(9, 1, 0, 1)), token(branch(3, 1, 0, 2)),
              token(branch(5, 1, 0, 3)))
    add_merge("merge: with itself", TWO, TWO)
    add_merge("merge: with nothing", TWO, token(issued=0))
    add_merge("merge: nothing at all", token(issued=0), token(issued=0))
    add_merge("merge: the later time of issue", token(HERE, issued=NOW - 5), token(HERE, issued=NOW + 5))
    add_merge("merge: positions are unsigned", token(branch(1, 1, 0, 1 << 63)), token(branch(1, 1, 0, (1 << 63) - 1)))
    add_merge("merge: exactly eight branches", token(*EIGHT["branches"][:5]), token(*EIGHT["branches"][3:]))
    add_merge("merge: more than eight branches give primary", EIGHT, NINTH)
    add_merge("merge: primary absorbs", ASKS_PRIMARY, ONE)
    add_merge("merge: primary absorbs nothing, too", ASKS_PRIMARY, NOTHING)
    add_merge("merge: overflow and what would have fitted", EIGHT, NINTH, NINTH)
    a, b = signed(ONE), signed(token(branch(7, 1, 0, 700), issued=NOW + 3), keys=[K2])
    add_merge_signed("merge with the key: two", a, b)
    add_merge_signed("merge with the key: two, bound", a, signed(ONE, NAME), session=NAME)
    add_merge_signed("merge with the key: one is forged", a, flipped(b, 46))
    add_merge_signed("merge with the key: one is expired", signed(token(HERE, issued=NOW - TTL - 1)), a)
    add_merge_signed("merge with the key: the word primary", a, "primary")
    add_merge_signed("merge with the key: flag primary", a, signed(token(primary=True, issued=NOW + 9)))
    add_merge_signed("merge with the key: more than eight branches", signed(EIGHT), signed(NINTH))


def make_merge_list():
    def case(name, texts, expected):
        add_merge_list("merge without a key: " + name, texts, expected)

    at = lambda cluster, position, issued=NOW: token(branch(cluster, 1, 0, position), issued=issued)
    a, b = signed(at(1, 100)), signed(at(2, 100))
    both = ",".join(sorted([a, b]))
    both_in_one = signed(token(branch(1, 1, 0, 100), branch(2, 1, 0, 100)))
    case("nothing", [""], "")
    case("nothing and one", ["", a, ""], a)
    case("two", [a, b], both)
    case("a list and one of it", [both, b], both)
    case("one that says no more is left out", [a, signed(at(1, 99))], a)
    case("… even if it was issued later", [a, signed(at(1, 99, NOW + 5))], a)
    case("… and if both are in another one", [a, b, both_in_one], both_in_one)
    case("of two that say the same the later stays", [a, signed(at(1, 100, NOW + 1))], signed(at(1, 100, NOW + 1)))
    twin = signed(at(1, 100), keys=[K2])
    case("of two issued in the same second the greater text stays", [a, twin], max(a, twin))
    case("a bound one stays beside one that is not", [a, signed(at(1, 99), NAME)], ",".join(sorted([a, signed(at(1, 99), NAME)])))
    case("an unverified one counts", [a, flipped(signed(at(1, 200)), 46)], flipped(signed(at(1, 200)), 46))
    case("the word primary", [a, "primary", b], "primary")
    case("flag primary", [a, signed(ASKS_PRIMARY)], "primary")
    later = packed(version=2)
    case("one of a later version stays", [a, later], ",".join(sorted([a, later])))
    eight = [signed(at(i, 100)) for i in range(8)]
    case("eight", eight, ",".join(sorted(eight)))
    case("nine", [*eight, signed(at(8, 100))], "primary")
    case("nine, of which one says no more", [*eight, signed(at(3, 50))], ",".join(sorted(eight)))
    case("a list of nine", [",".join([a] * 9)], "primary")
    case("too long for a token", [a, "A" * 297], "primary")
    for name, text in {"blank": a + ", " + b, "comma behind": a + ",", "padding": a + "="}.items():
        case("no token: " + name, [text, b], "primary")


def make_covers():
    low, high, other = (token(branch(CLUSTER, 1, 0, 100)), token(branch(CLUSTER, 1, 0, 101)),
                        token(branch(CLUSTER, 2, 90, 1000)))
    every = merge([high, other])
    for name, a, b, expected in (
        ("itself", low, low, True), ("a later position", high, low, True), ("an earlier position", low, high, False),
        ("another branch", other, low, False), ("the branch and more", every, low, True), ("only a part", high, every, False),
        ("another fork", token(branch(CLUSTER, 2, 91, 1000)), other, False),
        ("another cluster", token(branch(1, 1, 0, 1000)), low, False), ("nothing is covered", low, NOTHING, True),
        ("nothing covers nothing", NOTHING, NOTHING, True), ("nothing covers no position", NOTHING, low, False),
        ("primary covers all", ASKS_PRIMARY, every, True), ("primary covers primary", ASKS_PRIMARY, ASKS_PRIMARY, True),
        ("primary is covered by no position", every, ASKS_PRIMARY, False),
        ("time does not count", token(branch(CLUSTER, 1, 0, 100), issued=0), low, True),
    ):
        add_covers("covers: " + name, a, b, expected)


def main():
    make_keys()
    make_sign()
    make_verify_ok()
    make_verify_malformed()
    make_verify_forged()
    make_verify_bound()
    make_verify_time()
    make_verify_list()
    make_merge()
    make_merge_list()
    make_covers()
    text = json.dumps(vectors, indent=1, ensure_ascii=True) + "\n"
    if sys.argv[1:] != ["--check"]:
        with open(PATH, "w", encoding="ascii") as f:
            f.write(text)
        return 0
    with open(PATH, encoding="ascii") as f:
        if f.read() == text:
            return 0
    print("tests/vectors/token.json is not what make-token-vectors.py writes")
    return 1


if __name__ == "__main__":
    sys.exit(main())
