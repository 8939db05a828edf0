# SPDX-License-Identifier: PostgreSQL
"""Real Redis servers, stores of marks, and the network between them, for test_store.py.

Redis   a server, with a directory of its own; a sentinel is one too.
Router  store_driver.c: one router's store and nothing else, told line by line what to do.
Path    a TCP forwarder between the two, which can hold bytes back, let them go later, or break.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import harness

DRIVER = os.path.join(harness.BUILD, "tests", "store-driver")
FAULTY_DRIVER = os.path.join(harness.BUILD, "tests", "store-driver-faulty")


IDS = 65536  # that the driver tells apart


class Refused(Exception):
    """An error that Redis answered with."""


class Redis:
    def __init__(self, *options, program="redis-server", config=None, password=None, env=None):
        self.dir = tempfile.mkdtemp(prefix="tidemark-redis-")
        self.port = harness.free_port()
        self.env = dict(os.environ, **(env or {}))
        self.log = os.path.join(self.dir, "log")
        self.password = password
        self.process = None
        self.command = [program]
        if config is not None:
            path = os.path.join(self.dir, "redis.conf")
            with open(path, "w") as f:
                f.write(config)
            self.command.append(path)
        self.command += ["--port", str(self.port), "--bind", harness.HOST, "--dir", self.dir, "--logfile", self.log,
                         "--save", "", *options]
        self.start()

    @property
    def address(self):
        return f"{harness.HOST}:{self.port}"

    def start(self):
        self.process = subprocess.Popen(harness.tied(self.command, signal.SIGKILL), stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, env=self.env)

        def answers():
            assert self.process.poll() is None, harness.tail(self.log)
            try:
                return self.say("PING") == "PONG"
            except Refused as e:
                return "LOADING" not in str(e)
            except OSError:
                return False

        harness.wait_until(answers, what=lambda: "Redis: " + harness.tail(self.log))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restart(self):
        self.process.terminate()
        self.process.wait()
        self.start()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def destroy(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def connect(self):
        return socket.create_connection((harness.HOST, self.port), timeout=5)

    def say(self, *words):
        with self.connect() as s, s.makefile("rb") as f:
            if self.password:
                send(s, "AUTH", self.password)
                receive(f)
            send(s, *words)
            return receive(f)


def send(s, *words):
    parts = [str(w).encode() for w in words]
    s.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))


def receive(f):
    line = f.readline()
    if not line:
        raise ConnectionError("closed")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise Refused(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"+":
        return rest.decode()
    if kind == b"*":
        return [receive(f) for _ in range(int(rest))]
    if rest == b"-1":
        return None
    return f.read(int(rest) + 2)[:-2].decode()


def parse_mark(text):
    """(timeline, fork, position), or None."""
    return None if text == "-" else tuple(int(n) for n in text.split(":"))


class Router:
    def __init__(self, *addresses, cluster=None, faulty=None, timeout=30, lease=300, ttl=400, program=None, **settings):
        env = dict(os.environ)
        if faulty:
            env["STORE_BREAKS"] = faulty
        arguments = [f"address={a}" for a in addresses]
        arguments += [f"{k}={v}" for k, v in dict(settings, timeout=timeout, lease=lease, ttl=ttl).items()]
        self.log = tempfile.NamedTemporaryFile(prefix="tidemark-store-", suffix=".log")
        self.process = subprocess.Popen(
            harness.tied([program or (FAULTY_DRIVER if faulty else DRIVER), *arguments], signal.SIGKILL),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=env, bufsize=0)
        self.answers = {}
        self.changed = threading.Condition()
        self.last_id = 0
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if cluster is not None:
            self.say("cluster", cluster)

    def _read(self):
        with os.fdopen(os.dup(self.process.stdout.fileno()), "r") as f:
            for line in f:
                words = line.split()
                key = "stats" if words[0] == "stats" else words[1]
                with self.changed:
                    self.answers[key] = line.rstrip("\n") if key == "stats" else words
                    self.changed.notify_all()

    def say(self, *words):
        self.process.stdin.write((" ".join(str(w) for w in words) + "\n").encode())

    def ask(self, *words):
        self.last_id = (self.last_id + 1) % IDS
        with self.changed:
            self.answers.pop(str(self.last_id), None)
        self.say(words[0], self.last_id, *words[1:])
        return str(self.last_id)

    def answered(self, key):
        with self.changed:
            return key in self.answers

    def wait(self, key, timeout=5):
        """The words after the id."""
        with self.changed:
            assert self.changed.wait_for(lambda: key in self.answers, timeout), \
                f"no answer to {key} within {timeout} s; {harness.tail(self.log.name)}"
            return self.answers[key][2:]

    def put(self, session, at, timeline=1, fork=0, wait=5):
        """"stored" or "owed"; with wait=None, the id to wait for."""
        key = self.ask("put", session, timeline, fork, at)
        return self.wait(key, wait)[0] if wait else key

    def get(self, session):
        """("ok" | "doubtful" | "failed", mark or None)"""
        result, text = self.wait(self.ask("get", session))
        return result, parse_mark(text)

    def stats(self):
        with self.changed:
            self.answers.pop("stats", None)
        self.say("stats")
        with self.changed:
            assert self.changed.wait_for(lambda: "stats" in self.answers, 5), harness.tail(self.log.name)
            line = self.answers["stats"]
        head, error = line.split(" error=", 1)
        fields = dict(w.split("=", 1) for w in head.split()[1:])
        out = {k: v if k == "server" else int(v) for k, v in fields.items()}
        return dict(out, error=error)

    def logged(self):
        with open(self.log.name, errors="replace") as f:
            return f.read()

    def wait_up(self, timeout=5):
        harness.wait_until(lambda: self.stats()["up"], timeout, lambda: "up: " + self.logged())
        return self

    def wait_believed(self, session="x", timeout=5):
        """Until marks are believed."""
        self.wait_up(timeout)
        return harness.wait_until(lambda: self.get(session)[0] == "ok" and self, timeout,
                                  lambda: "belief: " + self.logged())

    def kill(self):
        self.process.kill()
        self.process.wait()

    def leave(self):
        """In order; fails if it crashed or leaked past a sanitizer."""
        if self.process.poll() is None:
            self.say("quit")
        assert self.process.wait(10) == 0, self.logged()

    def judge(self):
        code = self.process.poll()
        if code is None:
            self.leave()
        else:
            assert code in (0, -signal.SIGKILL), f"the driver ended with {code}: {self.logged()}"
        self.process.stdin.close()
        self.process.stdout.close()
        self.log.close()


class Path:
    """Forwards to a server. hold(): bytes wait in it, in the directions named; release(): they go on;
    break_off(): all connections are reset and what was held is lost. While `refuses`, new connections are closed
    at once."""

    def __init__(self, port):
        self.to = port
        self.listener = socket.create_server((harness.HOST, 0))
        self.port = self.listener.getsockname()[1]
        self.held = set()
        self.changed = threading.Condition()
        self.pairs = []
        self.refuses = False
        self.closed = False
        self.bytes_left = {}
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return f"{harness.HOST}:{self.port}"

    def _accept(self):
        while not self.closed:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            try:
                server = socket.create_connection((harness.HOST, self.to))
            except OSError:
                client.close()
                continue
            for s in (client, server):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.changed:
                pair = (client, server)
                self.pairs.append(pair)
            threading.Thread(target=self._pump, args=(pair, client, server, "up"), daemon=True).start()
            threading.Thread(target=self._pump, args=(pair, server, client, "down"), daemon=True).start()

    def _pass(self, pair, data, to, direction):
        """Holds what is to be held, down to the byte."""
        with self.changed:
            left = self.bytes_left.get(direction)
            if left is not None:
                now, data = data[:left], data[left:]
                self.bytes_left[direction] = left - len(now)
                if not data:
                    to.sendall(now)
                    return
                self.held.add(direction)
                del self.bytes_left[direction]
            else:
                now = b""
        if now:
            to.sendall(now)
        with self.changed:
            self.changed.wait_for(lambda: direction not in self.held or pair not in self.pairs)
            gone = pair not in self.pairs
        if not gone:
            to.sendall(data)

    def _pump(self, pair, source, to, direction):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                self._pass(pair, data, to, direction)
        except OSError:
            pass
        # Whoever closes is mirrored, but not before what is held may go.
        with self.changed:
            self.changed.wait_for(lambda: direction not in self.held or pair not in self.pairs)
        self._drop(pair)

    def _drop(self, pair):
        with self.changed:
            if pair in self.pairs:
                self.pairs.remove(pair)
            self.changed.notify_all()
        for s in pair:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def hold(self, *directions):
        with self.changed:
            self.held.update(directions or ("up", "down"))

    def hold_after(self, direction, count):
        """From the (count + 1)th byte on."""
        with self.changed:
            self.bytes_left[direction] = count

    def release(self):
        with self.changed:
            self.held.clear()
            self.bytes_left.clear()
            self.changed.notify_all()

    def break_off(self):
        for pair in list(self.pairs):
            self._drop(pair)

    def close(self):
        self.closed = True
        self.listener.close()
        self.release()
        self.break_off()


class Liar:
    """Accepts connections and answers whatever comes with `says(bytes)`."""

    def __init__(self, says):
        self.says = says
        self.heard = b""
        self.listener = socket.create_server((harness.HOST, 0))
        self.address = "%s:%d" % self.listener.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(s,), daemon=True).start()

    def _talk(self, s):
        try:
            while True:
                data = s.recv(65536)
                if not data:
                    break
                self.heard += data
                s.sendall(self.says(data))
        except OSError:
            pass
        s.close()

    def close(self):
        self.listener.close()


def cluster():
    return random.randrange(1, 1 << 63)


def now():
    return time.monotonic()
