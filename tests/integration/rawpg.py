# SPDX-License-Identifier: PostgreSQL
"""A minimal client of the version 3 protocol, for tests that care about every byte.

It sends whatever it is told, in whatever pieces, and reads messages one by one with a timeout. Nothing
is retried, buffered or repaired, so a test sees exactly what the other side said.
"""

import base64
import hashlib
import hmac
import os
import socket
import struct
import time

TIMEOUT = 10.0

PROTOCOL_3_0 = 0x00030000
CANCEL = 80877102
SSL = 80877103
GSSENC = 80877104


class Closed(Exception):
    """The other side closed the connection where a message was expected."""


class ServerError(Exception):
    def __init__(self, fields):
        super().__init__(f"{fields.get('S')} {fields.get('C')}: {fields.get('M')}")
        self.fields = fields
        self.sqlstate = fields.get("C")


def cstr(text):
    return (text.encode() if isinstance(text, str) else text) + b"\0"


def message(kind, body=b""):
    """One frontend message. `kind` is b'' for startup packets."""
    kind = kind.encode() if isinstance(kind, str) else kind
    return kind + struct.pack("!I", len(body) + 4) + body


def query(text):
    return message("Q", cstr(text))


def parse(name, text, oids=()):
    return message("P", cstr(name) + cstr(text) + struct.pack("!H", len(oids)) +
                   b"".join(struct.pack("!I", o) for o in oids))


def bind(portal="", statement="", values=(), formats=(), result_formats=()):
    body = cstr(portal) + cstr(statement)
    body += struct.pack("!H", len(formats)) + b"".join(struct.pack("!H", f) for f in formats)
    body += struct.pack("!H", len(values))
    for v in values:
        if v is None:
            body += struct.pack("!i", -1)
        else:
            v = v if isinstance(v, bytes) else str(v).encode()
            body += struct.pack("!i", len(v)) + v
    body += struct.pack("!H", len(result_formats)) + b"".join(struct.pack("!H", f) for f in result_formats)
    return message("B", body)


def describe(kind, name=""):
    return message("D", kind.encode() + cstr(name))


def close(kind, name=""):
    return message("C", kind.encode() + cstr(name))


def execute(portal="", limit=0):
    return message("E", cstr(portal) + struct.pack("!I", limit))


def sync():
    return message("S")


def flush():
    return message("H")


def copy_data(data):
    return message("d", data)


def copy_done():
    return message("c")


def copy_fail(why):
    return message("f", cstr(why))


def terminate():
    return message("X")


def function_call(oid, args, result_format=0):
    body = struct.pack("!IHH", oid, 0, len(args))
    for a in args:
        a = str(a).encode()
        body += struct.pack("!I", len(a)) + a
    return message("F", body + struct.pack("!H", result_format))


def startup_packet(params, version=PROTOCOL_3_0):
    body = struct.pack("!I", version)
    for name, value in params.items():
        body += cstr(name) + cstr(value)
    return message(b"", body + b"\0")


class Message:
    """A backend message: type letter and body, with readers for the common ones."""

    def __init__(self, kind, body):
        self.kind = kind
        self.body = body

    def fields(self):
        out = {}
        for part in self.body.split(b"\0"):
            if part:
                out[part[:1].decode()] = part[1:].decode("utf-8", "replace")
        return out

    def columns(self):
        """DataRow: list of bytes or None."""
        (count,) = struct.unpack_from("!H", self.body)
        at, out = 2, []
        for _ in range(count):
            (n,) = struct.unpack_from("!i", self.body, at)
            at += 4
            if n < 0:
                out.append(None)
            else:
                out.append(self.body[at:at + n])
                at += n
        assert at == len(self.body), "DataRow has bytes left over"
        return out

    def row_names(self):
        (count,) = struct.unpack_from("!H", self.body)
        at, out = 2, []
        for _ in range(count):
            end = self.body.index(b"\0", at)
            name = self.body[at:end].decode()
            table, column, oid, size, mod, fmt = struct.unpack_from("!IHIhih", self.body, end + 1)
            at = end + 19
            out.append((name, oid, fmt))
        return out

    def summary(self):
        """A comparable value: what a client would notice of this message."""
        k, b = self.kind, self.body
        if k == "D":
            return (k, *self.columns())
        if k == "T":
            return (k, *self.row_names())
        if k == "C":
            return (k, b.rstrip(b"\0").decode())
        if k in "EN":
            f = self.fields()
            return (k, f.get("V") or f.get("S"), f.get("C"), f.get("M"))
        if k == "Z":
            return (k, b.decode())
        if k == "S":
            name, value, _ = b.split(b"\0")
            return (k, name.decode(), value.decode())
        if k in "12n3sIc":
            return (k,)
        return (k, b)

    def __repr__(self):
        return repr(self.summary())


class Raw:
    def __init__(self, host, port, timeout=TIMEOUT):
        self.address = (host, port)
        self.sock = socket.create_connection(self.address, timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self.buffer = b""
        self.parameters = {}
        self.pid = self.key = None
        self.negotiated = None

    def start_tls(self, context, name="localhost", direct=False):
        """SSLRequest, unless `direct`, and the handshake."""
        if not direct:
            self.send(message(b"", struct.pack("!I", SSL)))
            assert self.take(1) == b"S", "the server has no TLS"
        self.sock.settimeout(self.timeout)
        self.sock = context.wrap_socket(self.sock, server_hostname=name)
        return self

    # ---- bytes ----

    def send(self, *pieces):
        self.sock.settimeout(self.timeout)
        self.sock.sendall(b"".join(pieces))
        return self

    def send_slowly(self, data, chunk=1, pause=0.0):
        """In pieces of `chunk` bytes, each in a segment of its own."""
        for i in range(0, len(data), chunk):
            self.send(data[i:i + chunk])
            if pause:
                time.sleep(pause)
        return self

    def take(self, count, timeout=None):
        """Exactly `count` bytes."""
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        while len(self.buffer) < count:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer within {self.timeout if timeout is None else timeout} s "
                                   f"(have {self.buffer[:40]!r})")
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except socket.timeout:
                continue
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed(f"connection closed by the other side, {len(self.buffer)} bytes pending")
            self.buffer += data
        out, self.buffer = self.buffer[:count], self.buffer[count:]
        return out

    # ---- messages ----

    def recv(self, timeout=None):
        head = self.take(5, timeout)
        (length,) = struct.unpack("!I", head[1:])
        assert 4 <= length < 1 << 30, f"nonsense from the server: {head!r}"
        m = Message(chr(head[0]), self.take(length - 4, timeout))
        if m.kind == "S":
            name, value, _ = m.body.split(b"\0")
            self.parameters[name.decode()] = value.decode()
        return m

    def recv_until(self, kinds, timeout=None):
        out = []
        while True:
            out.append(self.recv(timeout))
            if out[-1].kind in kinds:
                return out

    def until_ready(self, timeout=None):
        return self.recv_until("Z", timeout)

    def rest(self, timeout=None):
        """Everything until the other side closes."""
        out = []
        try:
            while True:
                out.append(self.recv(timeout))
        except (Closed, ConnectionError):
            return out

    def silent(self, seconds=0.2):
        """True if nothing arrives for that long."""
        try:
            m = self.recv(seconds)
        except TimeoutError:
            return True
        raise AssertionError(f"expected silence, got {m}")

    # ---- conversations ----

    def startup(self, user="app", database="app", password=None, version=PROTOCOL_3_0, **params):
        self.send(startup_packet({"user": user, "database": database, **params}, version))
        return self.finish_login(user, password)

    def finish_login(self, user, password=None):
        while True:
            m = self.recv()
            if m.kind == "E":
                raise ServerError(m.fields())
            if m.kind == "v":
                self.negotiated = m.body
            elif m.kind == "R":
                self._authenticate(m.body, user, password)
            elif m.kind == "K":
                self.pid, self.key = struct.unpack("!I", m.body[:4])[0], m.body[4:]
            elif m.kind == "Z":
                return self

    def _authenticate(self, body, user, password):
        (code,) = struct.unpack_from("!I", body)
        if code == 0:
            return
        assert password is not None, f"the server asks for a password (code {code})"
        if code == 3:
            self.send(message("p", cstr(password)))
        elif code == 5:
            inner = hashlib.md5(password.encode() + user.encode()).hexdigest()
            self.send(message("p", cstr("md5" + hashlib.md5(inner.encode() + body[4:8]).hexdigest())))
        elif code == 10:
            self._scram(password)
        else:
            raise AssertionError(f"unexpected authentication request {code}")

    def _scram(self, password):
        nonce = base64.b64encode(os.urandom(18)).decode()
        bare = f"n=,r={nonce}"
        first = ("n,," + bare).encode()
        self.send(message("p", cstr("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first))
        m = self.recv()
        if m.kind == "E":
            raise ServerError(m.fields())
        server_first = m.body[4:].decode()
        parts = dict(p.split("=", 1) for p in server_first.split(","))
        assert parts["r"].startswith(nonce), "the server changed our nonce"
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        final = f"c=biws,r={parts['r']}"
        auth = ",".join([bare, server_first, final]).encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), auth, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.send(message("p", f"{final},p={base64.b64encode(proof).decode()}".encode()))
        m = self.recv()
        if m.kind == "E":
            raise ServerError(m.fields())
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        want = base64.b64encode(hmac.digest(server_key, auth, "sha256")).decode()
        assert m.body[4:].decode() == "v=" + want, "the server could not prove that it knows the password"

    def query(self, text, timeout=None):
        """Simple query: all messages through ReadyForQuery."""
        return self.send(query(text)).until_ready(timeout)

    def query_rows(self, text):
        """Rows of a simple query as text; raises ServerError."""
        out = []
        for m in self.query(text):
            if m.kind == "E":
                raise ServerError(m.fields())
            if m.kind == "D":
                out.append([None if c is None else c.decode() for c in m.columns()])
        return out

    def query_dicts(self, text):
        names, out = [], []
        for m in self.query(text):
            if m.kind == "E":
                raise ServerError(m.fields())
            if m.kind == "T":
                names = [n for n, _, _ in m.row_names()]
            if m.kind == "D":
                out.append(dict(zip(names, [None if c is None else c.decode() for c in m.columns()])))
        return out

    def cancel(self, pid=None, key=None):
        """A cancel request on a connection of its own; waits until the server has closed it."""
        with socket.create_connection(self.address, self.timeout) as s:
            s.settimeout(self.timeout)
            s.sendall(message(b"", struct.pack("!II", CANCEL, self.pid if pid is None else pid) +
                              (self.key if key is None else key)))
            try:
                assert s.recv(1) == b"", "a cancel request is never answered"
            except ConnectionResetError:
                pass

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def summaries(messages, drop="S"):
    """Comparable form of a list of messages; asynchronous ParameterStatus left out by default."""
    return [m.summary() for m in messages if m.kind not in drop]


def kinds(messages):
    """'12TDCZ': the types in order, without ParameterStatus and notices; runs of DataRow as one."""
    out = ""
    for m in messages:
        if m.kind in "SN" or (m.kind == "D" and out.endswith("D")):
            continue
        out += m.kind
    return out


def errors(messages):
    return [m.fields()["C"] for m in messages if m.kind == "E"]
