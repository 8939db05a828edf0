# SPDX-License-Identifier: PostgreSQL
"""Instruments: processor time, memory, system calls, instructions, and pgbench as the load."""

import glob
import os
import re
import shutil
import signal
import subprocess
import time

from fleet import BenchError, HOST, tail, wait_until

SMAPS = re.compile(r"^Pss:\s+(\d+) kB", re.M)


# ---- processes ----------------------------------------------------------------------------------

def process_tree(pid):
    """The process and all its descendants that live now."""
    found = [pid]
    for parent in found:
        for path in glob.glob(f"/proc/{parent}/task/*/children"):
            try:
                with open(path) as f:
                    found += [int(p) for p in f.read().split()]
            except OSError:
                pass
    return found


def cpu_ns(pid):
    """Nanoseconds on a processor of all threads of all processes under `pid`, dead children included."""
    total = 0
    for p in process_tree(pid):
        for path in glob.glob(f"/proc/{p}/task/*/schedstat"):
            try:
                with open(path) as f:
                    total += int(f.read().split()[0])
            except OSError:
                pass
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    # cutime and cstime, fields 16 and 17 of proc(5): children that ended and were waited for.
    return total + (int(fields[13]) + int(fields[14])) * 10**9 // os.sysconf("SC_CLK_TCK")


def pss_kb(pid):
    """Proportional set size of all processes under `pid`."""
    total = 0
    for p in process_tree(pid):
        with open(f"/proc/{p}/smaps_rollup") as f:
            total += int(SMAPS.search(f.read()).group(1))
    return total


# ---- pgbench ------------------------------------------------------------------------------------

# Rows of 1024 bytes in messages of 1035: 1 035 000 bytes a result.
BIG_SQL = "SELECT repeat(md5(i::text), 32) FROM generate_series(1, 1000) i;\n"
BIG_MB = 1.035


class Workload:
    def __init__(self, name, title, clients, args, sampling=1.0):
        self.name = name
        self.title = title
        self.clients = clients
        self.args = args
        self.sampling = sampling  # share of transactions whose latency is logged


WORKLOADS = [
    Workload("simple", "select-only, simple", 16, ["-S", "-M", "simple"], 0.1),
    Workload("extended", "select-only, extended", 16, ["-S", "-M", "extended"], 0.1),
    Workload("prepared", "select-only, prepared", 16, ["-S", "-M", "prepared"], 0.1),
    Workload("tpcb", "TPC-B, simple", 16, ["-M", "simple"]),
    Workload("reconnect", "reconnect, select-only", 16, ["-S", "-M", "simple", "-C"]),
    Workload("big", "1 MB results", 4, ["-M", "simple", "-f", "BIG"]),
    Workload("single", "one client, select-only", 1, ["-S", "-M", "simple"], 0.25),
]


def percentile(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def _latencies(prefix):
    values = []
    for path in glob.glob(prefix + ".*"):
        with open(path) as f:
            values += [int(line.split()[2]) for line in f if line.count(" ") >= 5]
        os.unlink(path)
    return sorted(values)


def _pgbench_argv(stage, workload, port, dbname):
    big = stage.path("big.sql")
    if "BIG" in workload.args and not os.path.exists(big):
        stage.write("big.sql", BIG_SQL)
    args = [big if a == "BIG" else a for a in workload.args]
    return ["pgbench", "-n", "-h", HOST, "-p", str(port), "-U", "postgres", "-c", str(workload.clients), "-j", "1",
            "--random-seed", "4711", *args, dbname]


def run_pgbench(argv):
    """(transactions, transactions per second); BenchError with pgbench's own words otherwise."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    count = re.search(r"transactions actually processed: (\d+)", done.stdout)
    rate = re.search(r"^tps = ([\d.]+)", done.stdout, re.M)
    if done.returncode != 0 or not count or not rate:
        lines = [line for line in done.stderr.splitlines() if "error" in line or "ERROR" in line]
        raise BenchError(f"pgbench: {(lines or [done.stderr.strip() or 'no result'])[0]}")
    return int(count.group(1)), float(rate.group(1))


def run_timed(stage, peer, workload, seconds):
    """One run of a workload through a peer: tps, latency, and the proxy's processor time."""
    prefix = stage.path(f"latency-{peer.name}")
    argv = _pgbench_argv(stage, workload, peer.port, peer.dbname(workload.name))
    argv[1:1] = ["-T", str(seconds), "--log", f"--log-prefix={prefix}", f"--sampling-rate={workload.sampling}"]
    before = cpu_ns(peer.process.pid) if peer.proxies else 0
    try:
        count, tps = run_pgbench(argv)
    finally:
        latency = _latencies(prefix)
    result = {"transactions": count, "tps": tps, "p50_us": percentile(latency, 0.50),
              "p99_us": percentile(latency, 0.99)}
    if peer.proxies:
        result["cpu_us"] = (cpu_ns(peer.process.pid) - before) / 1000 / count
    return result


def run_counted(stage, peer, workload, per_client):
    """Runs `per_client` transactions on each client; how many that were in all."""
    argv = _pgbench_argv(stage, workload, peer.port, peer.dbname(workload.name))
    argv[1:1] = ["-t", str(per_client)]
    return run_pgbench(argv)[0]


# ---- system calls -------------------------------------------------------------------------------

def call_tracers():
    """Of "strace" and "perf", those that work here. perf's tracepoint counts without slowing the proxy;
    strace slows it, so that more work piles up between two epoll_waits."""
    found = ["strace"] if shutil.which("strace") else []
    if shutil.which("perf"):
        done = subprocess.run(["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "true"],
                              capture_output=True, text=True)
        if re.search(r"^\d+,.*raw_syscalls", done.stderr, re.M):
            found.append("perf")
    return found


def _attached(tool, pids, output):
    if tool == "perf":
        argv = ["perf", "stat", "-x,", "-o", output, "-e", "raw_syscalls:sys_enter", "-p", ",".join(map(str, pids))]
    else:
        argv = ["strace", "-c", "-f", "-U", "calls,name", "-o", output]
        for p in pids:
            argv += ["-p", str(p)]
    return argv


def _is_traced(pid):
    with open(f"/proc/{pid}/status") as f:
        return re.search(r"^TracerPid:\s*[1-9]", f.read(), re.M)


def _count_calls(stage, peer, workload, per_client, tool):
    output = stage.path("calls")
    if os.path.exists(output):
        os.unlink(output)
    pids = process_tree(peer.process.pid)
    tracer = stage.start("tracer", _attached(tool, pids, output), signal.SIGINT, as_root=True)
    if tool == "strace":
        wait_until(lambda: _is_traced(pids[-1]), 10, "strace to attach")
    else:
        time.sleep(0.3)
    count = run_counted(stage, peer, workload, per_client)
    stage.stop(tracer)
    with open(output) as f:
        text = f.read()
    if tool == "perf":
        found = re.search(r"^(\d+),", text, re.M)
        return count, int(found.group(1)) if found else 0, {}
    calls = {name: int(n) for n, name in re.findall(r"^\s*(\d+)\s+(\w+)\s*$", text, re.M)}
    calls.pop("total", None)
    return count, sum(calls.values()), calls


def system_calls(stage, peer, workload, tool, per_client):
    """System calls of the proxy per transaction, logins taken out by the difference of two runs."""
    short = _count_calls(stage, peer, workload, max(per_client // 5, 1), tool)
    long = _count_calls(stage, peer, workload, per_client, tool)
    transactions = long[0] - short[0]
    names = {n: (c - short[2].get(n, 0)) / transactions for n, c in long[2].items()}
    return {"per_transaction": (long[1] - short[1]) / transactions,
            "by_name": {n: round(c, 3) for n, c in sorted(names.items(), key=lambda x: -x[1]) if c >= 0.005}}


# ---- instructions -------------------------------------------------------------------------------

def can_count_instructions():
    """None, "callgrind" or "perf" (hardware counters, which virtual machines often hide)."""
    if shutil.which("perf"):
        done = subprocess.run(["perf", "stat", "-x,", "-e", "instructions:u", "true"], capture_output=True, text=True)
        if re.search(r"^\d+,.*instructions:u", done.stderr, re.M):
            return "perf"
    return "callgrind" if shutil.which("valgrind") else None


def _perf_instructions(stage, peer, workload, per_client):
    output = stage.path("instructions")
    tracer = stage.start("tracer", ["perf", "stat", "-x,", "-o", output, "-e", "instructions:u", "-p",
                                    ",".join(map(str, process_tree(peer.process.pid)))], signal.SIGINT, as_root=True)
    time.sleep(0.3)
    count = run_counted(stage, peer, workload, per_client)
    stage.stop(tracer)
    with open(output) as f:
        return count, int(re.search(r"^(\d+),", f.read(), re.M).group(1))


class Callgrind:
    """A peer of its own under callgrind, whose counters are read between two runs of pgbench."""

    def __init__(self, stage, peer_class, *args):
        self.stage = stage
        self.peer = peer_class(stage, *args)
        self.peer.name += "-callgrind"
        self.base = stage.path(f"callgrind-{self.peer.name}")
        self.dumps = 0

    def start(self):
        self.peer.start(["valgrind", "--tool=callgrind", "-q", f"--callgrind-out-file={self.base}"])
        return self

    def stop(self):
        self.peer.stop()

    def _dump(self):
        """Instructions since the dump before."""
        self.dumps += 1
        path = f"{self.base}.{self.dumps}"
        # As the servers' own user: valgrind's pipes are its.
        self.stage.run("callgrind_control", "-d", str(self.peer.process.pid))
        text = wait_until(lambda: self._complete(path), 30, f"callgrind's dump {path}\n{tail(self.peer.process.log)}")
        os.unlink(path)
        return int(re.search(r"^totals:\s+(\d+)", text, re.M).group(1))

    @staticmethod
    def _complete(path):
        if not os.path.exists(path):
            return None
        with open(path) as f:
            text = f.read()
        return text if re.search(r"^totals:\s+\d+\n", text, re.M) else None

    def count(self, workload, per_client):
        run_counted(self.stage, self.peer, workload, 5)
        self._dump()
        transactions = run_counted(self.stage, self.peer, workload, per_client)
        return transactions, self._dump()


def instructions(counter, workload, per_client):
    """User instructions per transaction. `counter(workload, n)` gives (transactions, instructions)."""
    short = counter(workload, max(per_client // 5, 1))
    long = counter(workload, per_client)
    return (long[1] - short[1]) / (long[0] - short[0])


def perf_counter(stage, peer):
    return lambda workload, per_client: _perf_instructions(stage, peer, workload, per_client)


# ---- memory -------------------------------------------------------------------------------------

def idle_memory(stage, peer, build, clients, query=None):
    """Bytes of PSS that each idle, authenticated client takes."""
    argv = [os.path.join(build, "bench", "bench-idle"), str(peer.port), str(clients), "postgres", "bench"]
    before = pss_kb(peer.process.pid)
    holder = stage.start("idle", argv + ([query] if query else []), as_root=True, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
    if holder.stdout.readline().strip() != b"ready":
        stage.stop(holder)
        raise BenchError(f"bench-idle: {tail(holder.log, 3).strip()}")
    time.sleep(0.5)
    after = pss_kb(peer.process.pid)
    holder.stdin.close()
    code = holder.wait(30)
    holder.stdout.close()
    stage.stop(holder)
    if code != 0:
        raise BenchError(f"bench-idle: {tail(holder.log, 3).strip()}")
    return {"bytes_per_client": (after - before) * 1024 / clients, "before_kb": before, "after_kb": after,
            "clients": clients}
