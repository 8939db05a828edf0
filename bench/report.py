# SPDX-License-Identifier: PostgreSQL
"""Turns raw results into tables, for the terminal and for docs/benchmarks.md, and judges the targets."""

import json
import os
import statistics
import textwrap

import ryw

MEMORY_TARGET = 1024  # bytes per idle client


# ---- figures ------------------------------------------------------------------------------------

class Figures:
    """Reads raw results: rounds[round][workload][peer]."""

    def __init__(self, results):
        self.results = results
        self.rounds = results.get("rounds", [])
        self.peers = results["peers"]

    def workloads(self):
        return [w for w in self.results["workloads"] if any(w["name"] in r for r in self.rounds)]

    def values(self, workload, peer, key):
        found = [r.get(workload, {}).get(peer, {}).get(key) for r in self.rounds]
        return [v for v in found if v is not None]

    def ratios(self, workload, peer, key="cpu_us", to="relay"):
        """Peer over `to`, within each round."""
        found = []
        for r in self.rounds:
            a, b = (r.get(workload, {}).get(p, {}).get(key) for p in (peer, to))
            if a is not None and b:
                found.append(a / b)
        return found

    def median(self, workload, peer, key):
        values = self.values(workload, peer, key)
        return statistics.median(values) if values else None

    def error(self, workload, peer):
        for r in self.rounds:
            error = r.get(workload, {}).get(peer, {}).get("error")
            if error:
                return error
        return None

    def calls(self, workload, peer, tool=None):
        by_tool = self.results.get("system_calls", {}).get(workload, {}).get(peer, {})
        found = by_tool.get(tool) if tool else by_tool.get("strace") or by_tool.get("perf")
        return found["per_transaction"] if found else None

    def instructions(self, workload, peer):
        return self.results.get("instructions", {}).get(workload, {}).get(peer)

    def memory(self, peer, key="idle"):
        found = self.results.get("memory", {}).get(peer, {}).get(key)
        return found["bytes_per_client"] if found else None

    def ryw(self, **where):
        return [r for r in self.results.get("ryw", []) if all(r.get(k) == v for k, v in where.items())]


def _number(value, digits):
    return "–" if value is None else f"{value:.{digits}f}"


def _spread(values, digits=2):
    if not values:
        return "–"
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def _ms(us):
    return "–" if us is None else f"{us / 1000:.2f}"


# ---- tables: (title, explanation, header, rows) -------------------------------------------------

def _per_workload(f, title, text, cell):
    header = ["workload"] + [p["title"] for p in f.peers]
    rows = [[w["title"]] + [cell(w["name"], p["name"]) for p in f.peers] for w in f.workloads()]
    return title, text, header, rows


def cpu_ratio_table(f):
    text = ("Processor time of the proxy per transaction (all threads and processes, schedstat), divided by that of "
            "the bare relay in the same round: median (least–most) over the rounds.")
    return _per_workload(f, "Processor time ÷ bare relay", text,
                         lambda w, p: "failed" if f.error(w, p) else _spread(f.ratios(w, p)))


def cpu_table(f):
    return _per_workload(f, "Processor time, µs per transaction", "Median over the rounds.",
                         lambda w, p: _number(f.median(w, p, "cpu_us"), 1))


def latency_table(f):
    return _per_workload(f, "Latency p50 / p99, ms", "As the client sees it, under full load: medians of the rounds' percentiles.",
                         lambda w, p: f"{_ms(f.median(w, p, 'p50_us'))} / {_ms(f.median(w, p, 'p99_us'))}")


def tps_table(f):
    text = "Client, proxy and servers share the machine's cores, so this says the least."
    return _per_workload(f, "Transactions per second", text, lambda w, p: _number(f.median(w, p, "tps"), 0))


def counts_table(f):
    header, rows = ["workload", "peer", "system calls (strace)", "system calls (perf)", "user instructions"], []
    titles = {w["name"]: w["title"] for w in f.results["workloads"]}
    for w in titles:
        for p in f.peers:
            traced, counted = f.calls(w, p["name"], "strace"), f.calls(w, p["name"], "perf")
            instructions = f.instructions(w, p["name"])
            if traced is not None or counted is not None or instructions is not None:
                rows.append([titles[w], p["title"], _number(traced, 2), _number(counted, 2),
                             "–" if instructions is None else f"{instructions:,.0f}"])
    tool = f.results.get("instruction_tool") or "–"
    text = ("Per transaction, by the difference of a long and a short run. strace slows the proxy, so that more work piles "
            "up between two epoll_waits; perf's tracepoint counts at full speed. The targets are set for strace. "
            f"Instructions by {tool}.")
    return "System calls and user instructions", text, header, rows


def memory_table(f):
    memory = f.results.get("memory", {})
    header, rows = ["peer", "clients", "bytes of PSS per client", "… after one query each"], []
    for p in f.peers:
        found = memory.get(p["name"])
        if found:
            rows.append([p["title"], str(found["idle"]["clients"]), _number(f.memory(p["name"]), 0),
                         _number(f.memory(p["name"], "queried"), 0)])
    return "Memory of an idle client", "Authenticated, at rest, no TLS: (PSS with them − PSS before) ÷ clients.", header, rows


def churn_table(f):
    header, rows = ["peer", "connections", "PSS after warm-up, kB", "PSS at the end, kB"], []
    titles = {p["name"]: p["title"] for p in f.peers}
    for name, c in f.results.get("churn", {}).items():
        rows.append([titles[name], f"{c['connections']:,}", str(c["before_kb"]), str(c["after_kb"])])
    text = "Clients that connect, ask once and go, without a pause; 360 000 connections are an hour of 100 a second."
    return "Growth over churn", text, header, rows


def ryw_table(f):
    header = ["apply delay, ms", "pace", "reads on", "router", "reads", "stale", "backward", "on replicas",
              "read p50 / p99, ms", "write p50, ms"]
    rows = []
    for r in f.ryw():
        share = r.get("replica_share")
        stale = f"{r['stale']}" + (f" ({100 * r['stale'] / r['reads']:.1f} %)" if r["stale"] and r["reads"] else "")
        where = "replicas" if r["router"] == "naive" else f"{r['connection']} connection"
        rows.append(["/".join(map(str, r["delays_ms"])), r["pace"], where, r["title"],
                     str(r["reads"]) + (f", {r['errors']} errors" if r["errors"] else ""), stale, str(r["backward"]),
                     "–" if share is None else f"{100 * share:.1f} %",
                     f"{_ms(r['read_p50_us'])} / {_ms(r['read_p99_us'])}", _ms(r["write_p50_us"])])
    text = ("Every client raises the version of a row, then reads it, and every read is checked. Flat out: 16 clients; "
            "paced: 64 clients, 50 ms think time. With scope = database the checker takes all clients as one session; "
            "with scope = connection each client, which names its session where its reads take a second connection; "
            "else each client. Tidemark's share of reads on replicas is its own count (SHOW ROUTING).")
    return "Read your writes", text, header, rows


# ---- targets ------------------------------------------------------------------------------------

def _target(rows, what, peer, goal, value, met, show):
    if value is None:
        rows.append([what, peer, goal, "not measured", "–"])
    else:
        rows.append([what, peer, goal, show(value), "yes" if met(value) else "**no**"])


def _at_most(rows, what, peer, goal, value, digits=2, unit=""):
    _target(rows, what, peer, f"≤ {goal:g}{unit}", value, lambda v: v <= goal, lambda v: f"{v:.{digits}f}{unit}")


def _median(values):
    return statistics.median(values) if values else None


def _beside(f, workload, peer="pgbouncer"):
    """What the peer measured in this very run, to stand beside the target."""
    values = f.ratios(workload, peer)
    return f"PgBouncer {statistics.median(values):.2f}" if values else "–"


def _speed_targets(f, rows):
    for w, goal in (("simple", 1.20), ("extended", 1.20), ("prepared", 1.20), ("big", 1.15)):
        note = " (session pooling)" if w == "prepared" else ""
        peer = _beside(f, w) + note
        if w == "big":
            ha = _median(f.ratios(w, "haproxy"))
            peer = (f"HAProxy {ha:.2f}, " if ha else "") + peer
        elif w in ("simple", "extended"):
            pool = _median(f.ratios(w, "pgpool"))
            peer += f"; pgpool-II {pool:.1f}" if pool else ""
        _at_most(rows, f"processor time ÷ bare relay, {w}", peer, goal, _median(f.ratios(w, "tidemark")))
    calls = f.calls("big", "tidemark")
    peer = f.calls("big", "pgbouncer")
    _at_most(rows, "system calls per MB of results", f"PgBouncer {peer / f.results['big_mb']:.0f}" if peer else "–", 130,
             calls / f.results["big_mb"] if calls is not None else None, 0)
    theirs = f.median("reconnect", "pgbouncer", "cpu_us")
    _at_most(rows, "reconnect, processor time ÷ PgBouncer's in the same round",
             f"PgBouncer {theirs:.0f} µs" if theirs else "–", 1.0, _median(f.ratios("reconnect", "tidemark", to="pgbouncer")))
    peer = f.calls("simple", "pgbouncer")
    _at_most(rows, "system calls per simple transaction", f"PgBouncer {_number(peer, 2)}", 4.3,
             f.calls("simple", "tidemark"))
    for w, goal in (("simple", 5000), ("extended", 7500), ("prepared", 7500)):
        peer = f.instructions(w, "pgbouncer")
        _at_most(rows, f"user instructions per transaction, {w}", f"PgBouncer {_number(peer, 0)}", goal,
                 f.instructions(w, "tidemark"), 0)
    _at_most(rows, "memory per idle client, bytes of PSS", f"PgBouncer {_number(f.memory('pgbouncer'), 0)}",
             MEMORY_TARGET, f.memory("tidemark"), 0)


def _stale_targets(f, rows):
    for connection in ("same", "second"):
        cells = f.ryw(router="tidemark", connection=connection)
        bad = sum(r["stale"] + r["backward"] for r in cells) if cells else None
        reads, errors = (sum(r[k] for r in cells) for k in ("reads", "errors"))
        naive = [100 * r["stale"] / r["reads"] for r in f.ryw(router="naive") if r["reads"]]
        pool = [100 * r["stale"] / r["reads"] for r in f.ryw(router="pgpool", connection=connection) if r["reads"]]
        peers = "; ".join(f"{name} {min(v):.1f}–{max(v):.1f} %" for name, v in (("naive", naive), ("pgpool-II", pool)) if v)
        _target(rows, f"stale or backward reads, {connection} connection, all delays", peers or "–", "0", bad,
                lambda v: v == 0 and reads > 0 and errors == 0,
                lambda v: f"{v} of {reads}" + (f", {errors} errors" if errors else ""))


def _share_targets(f, rows):
    for what, delays, pace, goal in (("no delay, flat out", [0, 0], "flat out", 0.95),
                                     ("one replica at 200 ms, one at 0, flat out", [0, 200], "flat out", 0.90),
                                     ("50 ms, paced", [50, 50], "paced", 0.70)):
        cells = f.ryw(router="tidemark-connection", connection="same", delays_ms=delays, pace=pace, errors=0)
        share = cells[0].get("replica_share") if cells else None
        _target(rows, f"reads on replicas, scope = connection: {what}", "0 where nothing is stale", f"≥ {goal:.0%}", share,
                lambda v: v >= goal, lambda v: f"{v:.1%}")


def _write_ratios(f, router, base="tidemark-strong"):
    """The ratio within each round."""
    return [r[router] / r[base] for r in f.results.get("writes", []) if r.get(router) and r.get(base)]


def _write_targets(f, rows):
    control = _median(_write_ratios(f, "tidemark-eventual"))
    for router, words in (("tidemark", "scope = database"), ("tidemark-connection", "scope = connection")):
        _at_most(rows, f"write p50 ÷ all on the primary, {words}", f"level eventual {control:.2f}" if control else "–", 1.05,
                 _median(_write_ratios(f, router)))


def writes_table(f):
    titles = (("primary", "all on the primary, direct"), ("tidemark-strong", "all on the primary, through Tidemark"),
              ("tidemark-eventual", "Tidemark, level eventual"),
              ("tidemark", "Tidemark, scope = database"), ("tidemark-connection", "Tidemark, scope = connection"))
    rounds = f.results.get("writes", [])
    rows = [[title, "–" if found is None else _ms(found), _spread(_write_ratios(f, name))]
            for name, title in titles for found in [_median([r[name] for r in rounds if name in r])] if rounds]
    clients, think_ms = ryw.WRITE_PACE
    text = (f"Medians of {len(rounds)} rounds, no apply delay. All run at once, {clients} clients each, {think_ms} ms think time, so that each bears the "
            "machine's noise and its neighbours alike: the same load is offered to all, and the cores are mostly idle. The ratio is that within a round, median "
            "(least–most). Level eventual reads from the same replicas and guarantees nothing: it is the control, "
            "and only if it is at 1.00 the others mean something. The targets compare with the same router at level strong; a direct "
            "connection saves the hop, whatever is in between. Flat out, in the table above, is another matter: replicas that share two "
            "cores with their primary, and the more writes per second, make each write slower, with or without a guarantee.")
    return "Write p50", text, ["router", "write p50, ms", "÷ all on the primary, through Tidemark"], rows


def _session_targets(f, rows):
    for r in f.results.get("sessions", []):
        named, writes = "no name" not in r["case"], r["case"].startswith("write")
        if named and not writes:
            continue
        _at_most(rows, f"round trips to Redis, {r['case']}", "–", 1 if named else 0, round(r["asked"] + r["stored"], 3))
    token = f.results.get("token", {})
    for n in ("1 branch", "8 branches"):
        if f"sign {n}" in token and f"verify {n}" in token:
            _at_most(rows, f"sign + verify a token of {n}, µs", "–", 2, (token[f"sign {n}"] + token[f"verify {n}"]) / 1000)


def sessions_table(f):
    header = ["statement", "in memory, ms", "in Redis, ms", "router, µs of processor, memory", "… Redis", "asked of Redis",
              "stored there"]
    rows = [[r["case"], _ms(_median(r["memory"])), _ms(_median(r["redis"])), f"{_median(r['memory_cpu']):.1f}",
             f"{_median(r['redis_cpu']):.1f}", f"{r['asked']:.2f}", f"{r['stored']:.2f}"]
            for r in f.results.get("sessions", [])]
    token = ", ".join(f"{name} {ns:.0f} ns" for name, ns in f.results.get("token", {}).items())
    text = ("Named sessions shared by routers: p50 of the same statement, 4 clients, medians of rounds in alternating order; commands "
            "to Redis per statement." + (f" Tokens: {token}." if token else ""))
    return "Sessions in Redis", text, header, rows


def targets_table(f):
    rows = []
    _speed_targets(f, rows)
    if f.results.get("ryw"):
        _stale_targets(f, rows)
        _share_targets(f, rows)
    if f.results.get("writes"):
        _write_targets(f, rows)
    _session_targets(f, rows)
    text = "Medians of this run. The peers' figures beside them are from the same run."
    return "Targets", text, ["what", "peers here", "target", "Tidemark", "met"], rows


# ---- output -------------------------------------------------------------------------------------

def tables(results):
    f = Figures(results)
    found = [targets_table(f)] if any(p["name"] == "tidemark" for p in f.peers) else []
    found += [cpu_ratio_table(f), cpu_table(f), counts_table(f), memory_table(f), churn_table(f), ryw_table(f), writes_table(f), sessions_table(f),
              latency_table(f), tps_table(f)]
    return [t for t in found if t[3]]


def print_tables(results):
    for title, text, header, rows in tables(results):
        print(f"\n== {title}\n" + textwrap.fill(text, 100) + "\n")
        width = [max(len(str(r[i])) for r in [header] + rows) for i in range(len(header))]
        for row in [header] + rows:
            print("  ".join(str(c).ljust(w) for c, w in zip(row, width)).rstrip())
    for line in _footnotes(results):
        print(f"* {line}")


def _footnotes(results):
    return [f"{p['title']}, {w}: {note}" for p in results["peers"] for w, note in p["notes"].items()]


def _markdown_table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]


def write_docs(results, path):
    m = results["machine"]
    lines = ["# Benchmarks", "", "Written by `make bench`; do not edit by hand. Trust ratios and counts, not microseconds:",
             "client, proxy, primary and standbys share one machine.", "",
             f"- Date: {results['date']}",
             f"- Machine: {m['cpu']}, {m['cores']} cores, {m['memory_gb']} GB, {m['system']}",
             f"- Kernel: {m['kernel']}",
             f"- Command: `{results['command']}`; {len(results['rounds'])} rounds, {results['seconds']} s a run, order reversed every other round",
             f"- Fleet: {results['postgres']}, a primary and two streaming standbys, pgbench scale {results['scale']}, fsync off, trust",
             "- Peers: " + "; ".join(f"{p['title']} {p['version']}" for p in results["peers"]),
             "- Relay, direct connections, HAProxy and PgBouncer speak to the primary; pgpool-II and Tidemark split reads over the standbys."]
    lines += [f"- {note}." for note in _footnotes(results)]
    for title, text, header, rows in tables(results):
        lines += ["", f"## {title}", "", *textwrap.wrap(text, 110), ""] + _markdown_table(header, rows)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write("\n".join(lines) + "\n")


def _with_rows(lines, measured):
    """A row gives way to the one of its label, or of its label without what stands behind a comma."""
    done = set()
    for line in lines:
        label = next((new for new in measured if line.startswith((f"| {new} |", f"| {new},"))), None)
        if label is None:
            yield line
        elif label not in done:
            done.add(label)
            yield measured[label]


def update_docs(results, path):
    """Replaces what this run has measured of a report that is there: sections, and rows of the targets."""
    with open(path) as f:
        head, *sections = f.read().rstrip("\n").split("\n## ")
    fresh = {title: (text, header, rows) for title, text, header, rows in tables(results)}
    _, _, targets = fresh.pop("Targets", ("", [], []))
    measured = {row[0]: "| " + " | ".join(row) + " |" for row in targets if row[3] != "not measured"}
    for i, section in enumerate(sections):
        title, lines = section.split("\n", 1)[0], section.split("\n")
        if title in fresh:
            text, header, rows = fresh[title]
            text += f" Measured {results['date']} by `{results['command']}`."
            sections[i] = "\n".join([title, "", *textwrap.wrap(text, 110), ""] + _markdown_table(header, rows) + [""])
        elif title == "Targets":
            sections[i] = "\n".join(_with_rows(lines, measured))
    with open(path, "w") as f:
        f.write("\n## ".join([head] + sections).rstrip("\n") + "\n")


def write_json(results, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(results, f, indent=1)
        f.write("\n")
