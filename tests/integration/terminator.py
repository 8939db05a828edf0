# SPDX-License-Identifier: PostgreSQL
"""A TLS proxy with a certificate of its own, as load balancers and attackers have them."""

import select
import socket
import ssl
import struct
import threading

import rawpg
from harness import HOST


class Terminator:
    """Ends TLS before `port` of a PostgreSQL server or a router, and begins it anew behind. `direct`: TLS from the
    first byte; `alpn`: the protocols it agrees to; `onward` is "tls" or "clear". `began` has the first byte of
    each connection."""

    def __init__(self, port, cert, key, direct=False, alpn=None, onward="tls"):
        self.port_behind, self.direct, self.onward, self.began = port, direct, onward, []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        if alpn:
            self.context.set_alpn_protocols(alpn)
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def conninfo(self, **said):
        return f"host={HOST} port={self.port} user=postgres dbname=app " + " ".join(f"{k}={v}" for k, v in said.items())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _behind(self):
        behind = socket.create_connection((HOST, self.port_behind))
        if self.onward == "clear":
            return behind
        behind.sendall(rawpg.message(b"", struct.pack("!I", rawpg.SSL)))
        assert behind.recv(1) == b"S", "the server behind has no TLS"
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        return trusting.wrap_socket(behind)

    def _serve(self, client):
        try:
            self.began.append(client.recv(1, socket.MSG_PEEK))
            if not self.direct:
                if client.recv(8)[4:] != struct.pack("!I", rawpg.SSL):
                    client.close()  # a cancel request in clear
                    return
                client.sendall(b"S")
            self._pump(self.context.wrap_socket(client, server_side=True), self._behind())
        except OSError:
            client.close()

    @staticmethod
    def _pump(a, b):
        other = {a: b, b: a}
        with a, b:
            while True:
                ready = [s for s in other if isinstance(s, ssl.SSLSocket) and s.pending()]
                for s in ready or select.select([a, b], [], [])[0]:
                    data = s.recv(65536)
                    if not data:
                        return
                    other[s].sendall(data)
