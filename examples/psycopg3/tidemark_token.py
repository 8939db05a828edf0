# SPDX-License-Identifier: PostgreSQL
"""Carries a Tidemark token over the pooled connections of psycopg 3. Copy this file into your application.

    pool = ConnectionPool(conninfo, kwargs=CONNECT_KWARGS)
    token = Token(text_that_came_with_the_request)
    with token.writing(pool) as conn:       # one transaction, on the primary
        ...
    with token.reading(pool) as conn:       # autocommit: every SELECT may go to a replica
        ...
    text_for_the_response = token.text

docs/recipes/psycopg.md says how it works and where it ends.
"""

from contextlib import contextmanager

import psycopg
from psycopg import sql

CONNECT_KWARGS = {"autocommit": True, "options": "-c tidemark.report=on"}
PRIMARY = "primary"  # the token of one who does not know what he has seen


def merge(*texts):
    """One token that asks for all that these ask for. Tokens are opaque, so it is a list, each text once."""
    parts = list(dict.fromkeys(part for text in texts for part in (text or "").split(",") if part))
    return PRIMARY if PRIMARY in parts or len(parts) > 8 else ",".join(parts)


class Token:
    """What one user has seen: make one for each request, or keep one for each user."""

    def __init__(self, text=""):
        self.text = text

    @contextmanager
    def writing(self, pool):
        with self._lend(pool) as (conn, brought):
            try:
                with conn.transaction():
                    yield conn
            except psycopg.Error:
                if conn.closed:  # lost, perhaps in the middle of COMMIT: who knows what became of it
                    self.text = PRIMARY
                raise
            # Tidemark has sent it just before COMMIT's ReadyForQuery; libpq keeps it.
            self._take(conn.info.parameter_status("tidemark.token") or PRIMARY, brought)

    @contextmanager
    def reading(self, pool, carry=True):
        """With carry=False, later reads see all writes, but perhaps an older state than these reads did."""
        with self._lend(pool) as (conn, brought):
            yield conn
            if carry:
                self._take(conn.execute("SHOW tidemark.token").fetchone()[0], brought)

    @contextmanager
    def _lend(self, pool):
        with pool.connection() as conn:
            brought = self.text
            if brought:
                # SET takes no parameters, and psycopg 3 binds on the server.
                conn.execute(sql.SQL("SET tidemark.read_after = {}").format(brought))
            yield conn, brought

    def _take(self, text, brought):
        # The connection's token covers what was brought to it. What another thread took meanwhile, it may not.
        self.text = text if self.text == brought else merge(self.text, text)
